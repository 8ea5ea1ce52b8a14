"""The plot of quality against what it costs."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.patheffects import withStroke

from losslab.compare.costs import are_stacked, name_costs
from losslab.compare.design import Comparison
from losslab.compare.digits import find_decimals, format_decimals
from losslab.compare.table import format_cost
from losslab.page.figures import (
    BLUE,
    GREY,
    ORANGE,
    Plot,
    Tip,
    find_limits,
    make_figure,
    shorten,
    use_light_frame,
    use_log_scale,
)

NAMED = 12  # cells of a front that are named


def draw_pareto(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the mean test metric of each cell against what it costs, and the Pareto front."""
    costs = [key for key in name_costs(comparison) if numbers[key].nunique() > 1]
    if not costs or "pareto" not in numbers:
        return None
    low, high = find_limits(numbers["mean"].to_numpy(), comparison.mode)
    edge = 0.06 * (high - low) or 0.01
    fronts = {key: numbers[numbers["pareto"].str.split(", ").map(lambda on, key=key: key in on)].sort_values(key)
              for key in costs}  # fmt: skip
    named = list(dict.fromkeys(cell for front in fronts.values() for cell in front["cell"]))[:NAMED]
    width = 1.0 + 4.6 * len(costs)
    legend = wrap_entries([f"{number} {shorten(cell, 60)}" for number, cell in enumerate(named, 1)], int(12 * width))
    drawn, axes = make_figure(width, 4.2 + 0.16 * len(legend), 1, len(costs))
    decimals = find_decimals(numbers)
    inside, tips = numbers[numbers["mean"].between(low - edge, high + edge)], {}
    for axis, (key, front) in zip(axes.flat, fronts.items(), strict=True):
        known = inside[inside[key].notna()]
        draw_front(axis, known, front, key)
        tips[key] = [Tip(f"{cell}\nmean {format_decimals(mean, decimals)}, {format_cost(cost)} {key}", f"cell-{number}")
                     for number, cell, mean, cost in known[["cell", "mean", key]].itertuples()]  # fmt: skip
        for place, (cell, x, y) in enumerate(front[["cell", key, "mean"]].itertuples(index=False)):
            if cell in named:  # in turn above and below the line, as neighbours may be close
                offset = (4, 4) if place % 2 == 0 else (-8, -13)
                note = axis.annotate(str(named.index(cell) + 1), (x, y), offset, textcoords="offset points", fontsize=9)
                note.set(annotation_clip=True, path_effects=[withStroke(linewidth=2.5, foreground="white")])
        axis.set_ylim(low - 1.5 * edge, high + 1.5 * edge)
        axis.set_xlabel({"seconds": "seconds of a run", "MB": "peak memory, MB"}.get(key, key))
        use_light_frame(axis)
    better = "higher" if comparison.mode == "max" else "lower"
    axes[0, 0].set_ylabel(f"mean test {comparison.metric}, {better} is better")
    drawn.supxlabel("\n".join(legend), fontsize=9, parse_math=False)
    stack = " The seconds and memory of a stack are those of all its runs, so updates count." * are_stacked(comparison)
    caption = (
        f"Mean test {comparison.metric} of each cell against its cost. On the line (Pareto front) are the cells that "
        f"no other cell beats in both. Which cells these are may be chance.{stack}"
    )
    return Plot("pareto", caption, drawn, numbers[[*comparison.by, "cell", "mean", *costs, "pareto"]], tips)


def wrap_entries(entries: Sequence[str], letters: int) -> list[str]:
    """Join the entries of a legend to lines of about so many letters.

    >>> wrap_entries(["1 mae", "2 mse", "3 huber"], 12)
    ['1 mae     2 mse', '3 huber']
    """
    lines = [""]
    for entry in entries:
        if len(lines[-1]) + len(entry) > letters:
            lines.append("")
        lines[-1] += ("     " if lines[-1] else "") + entry
    return lines


def draw_front(axis: Any, numbers: pd.DataFrame, front: pd.DataFrame, key: str) -> None:
    """Draw all cells as dots, those of the front larger and joined by steps: what the best costs that is affordable."""
    axis.plot(front[key], front["mean"], color=BLUE, drawstyle="steps-post", linewidth=1.4)
    on = numbers["cell"].isin(front["cell"])
    axis.scatter(numbers[key], numbers["mean"], gid=f"mark:{key}", s=[40 if each else 20 for each in on],
                 color=[ORANGE if each else GREY for each in on], zorder=3)  # fmt: skip
    known = numbers[key].dropna()
    if len(known) and known.min() > 0 and known.max() > 20 * known.min():
        use_log_scale(axis, "x")
    axis.margins(x=0.12)
