"""Plots of a comparison that weigh cells against each other: which beats which, and quality against what it costs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.patheffects import withStroke

from losslab.compare.claims import improvement, tabulate_wins
from losslab.compare.costs import are_stacked, name_costs
from losslab.compare.design import Comparison
from losslab.page.figures import (
    BLUE,
    GREY,
    ORANGE,
    Plot,
    find_limits,
    make_figure,
    shorten,
    text_width,
    use_light_frame,
)

MOST = 20  # cells that are legible in a matrix
NAMED = 12  # cells of a front that are named


def draw_win_rates(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw in which share of pairs of runs the cell of a row beats that of a column."""
    cells = comparison.cells[:MOST]
    if len(cells) < 3 or comparison.used["repeat"].nunique() < 2:
        return None
    wins = tabulate_wins(comparison)
    places = range(len(cells))
    rates = np.array([[improvement(wins, [row], [column]) if row != column else np.nan for column in places]
                      for row in places])  # fmt: skip
    names = [f"{shorten(cell, 60)}  {number}" for number, cell in enumerate(cells, 1)]
    drawn, axes = make_figure(1.8 + text_width(names) + 0.5 * len(cells), 1.0 + 0.32 * len(cells))
    axis = axes[0, 0]
    image = axis.imshow(rates, cmap="cividis", vmin=0, vmax=1, aspect="auto")
    for (row, column), rate in np.ndenumerate(rates):
        if np.isfinite(rate):
            axis.text(column, row, f"{rate:.2f}", ha="center", va="center", fontsize=8.5,
                      color="white" if rate < 0.5 else "black")  # fmt: skip
    axis.set_xticks(places, [str(number + 1) for number in places])
    axis.set_yticks(places, names, parse_math=False)
    axis.set_xlabel("against")
    drawn.colorbar(image, label="share of runs won")
    which = f" of the {MOST} best of {len(comparison.cells)} cells" if len(comparison.cells) > MOST else ""
    caption = (
        f"Win rates{which}: the share of runs with the same data and seed in which the row beats the column. Ties "
        "count half, a failed training loses. Cells that share no seed meet run by run."
    )
    return Plot("win_rates", caption, drawn, pd.DataFrame(rates, cells, cells).rename_axis("cell").reset_index())


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
    for axis, (key, front) in zip(axes.flat, fronts.items(), strict=True):
        draw_front(axis, numbers, front, key, comparison.mode)
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
        f"no other beats in both; which of them are there may be chance.{stack}"
    )
    return Plot("pareto", caption, drawn, numbers[[*comparison.by, "cell", "mean", *costs, "pareto"]])


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


def draw_front(axis: Any, numbers: pd.DataFrame, front: pd.DataFrame, key: str, mode: str) -> None:
    """Draw all cells as dots, and the front as steps: what the best costs that is affordable."""
    axis.plot(numbers[key], numbers["mean"], "o", color=GREY, markersize=4, alpha=0.7)
    axis.plot(front[key], front["mean"], color=BLUE, drawstyle="steps-post", linewidth=1.4)
    axis.plot(front[key], front["mean"], "o", color=ORANGE, markersize=6)
    known = numbers[key].dropna()
    if len(known) and known.min() > 0 and known.max() > 20 * known.min():
        axis.set_xscale("log")
        axis.xaxis.set_major_formatter("{x:g}")
    axis.margins(x=0.12)
