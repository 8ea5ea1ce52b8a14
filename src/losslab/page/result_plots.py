"""Plots of the test figures of a comparison: means, a heatmap, ranks over data sets, and other metrics and losses."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from losslab.compare.design import Comparison, find_mode
from losslab.compare.settings import format_value
from losslab.compare.statistics import cliques
from losslab.compare.verdict import rank_over_datasets
from losslab.compare.wording import format_p
from losslab.errors import Refused
from losslab.page.figures import GREY, Plot, find_limits, line_style, make_figure, use_light_frame

LEFT, RIGHT = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"  # point to values beyond the axis


def draw_means(comparison: Comparison, numbers: pd.DataFrame) -> Plot:
    """Draw the mean, its interval and the single runs of each cell, best at the top."""
    cells, used = comparison.cells, comparison.used
    drawn, axes = make_figure(8.0, 1.2 + 0.3 * len(cells))
    axis = axes[0, 0]
    for line, cell in enumerate(cells):
        values = used["score"][used["cell"] == cell]
        axis.scatter(values, np.full(len(values), line + 0.24), s=12, color=GREY, alpha=0.8, linewidths=0)
    bounds = numbers[["low", "high"]].to_numpy()
    lines = np.arange(len(cells))
    axis.hlines(lines, bounds[:, 0], bounds[:, 1], color=line_style(0)["color"], linewidth=2.2)
    axis.plot(numbers["mean"], lines, "o", color=line_style(1)["color"], markersize=5)
    axis.set_yticks(lines, cells)
    axis.set_ylim(len(cells) - 0.4, -0.6)
    low, high = find_limits(numbers["mean"].to_numpy(), comparison.mode)
    inside = numbers[numbers["mean"].between(low, high)]
    shown = np.concatenate(
        [used["score"][used["cell"].isin(inside["cell"])], inside[["low", "high"]].to_numpy().ravel()]
    )
    low, high = min(low, np.nanmin(shown)), max(high, np.nanmax(shown))
    edge = 0.04 * (high - low) or 0.01
    axis.set_xlim(low - edge, high + edge)
    point_outside(axis, numbers["mean"], low, high)
    relative = comparison.mode == "min" and len(comparison.datasets) > 1
    axis.set_xlabel(f"test {comparison.metric}{', as a multiple of the mean of its data set' if relative else ''}")
    use_light_frame(axis)
    level = f"{100 * (1 - comparison.alpha):g} %"
    caption = (
        f"Test {comparison.metric} of each cell: mean (dot), {level} interval (line; Student's t), single runs (grey)."
    )
    return Plot("means", caption, drawn, used[[*comparison.by, "dataset_key", "repeat", "value", "score"]])


def point_outside(axis: Any, values: "pd.Series[float]", low: float, high: float) -> None:
    """Write each value that lies beyond the x-axis at its edge, with an arrow."""
    for line, value in enumerate(values):
        if not low <= value <= high:
            below = value < low
            axis.annotate(
                f"{LEFT} {value:.4g}" if below else f"{value:.4g} {RIGHT}",
                (0.01 if below else 0.99, line),
                xycoords=("axes fraction", "data"),
                ha="left" if below else "right",
                va="center",
                fontsize=9,
            )


def draw_heatmap(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the mean of each pair of options where two keys are compared; the best is bold."""
    if len(comparison.by) != 2:
        return None
    shown = numbers.assign(**{key: numbers[key].map(format_value) for key in comparison.by})
    grid = shown.pivot(index=comparison.by[0], columns=comparison.by[1], values="mean")
    order = [shown.groupby(key)["mean"].mean().sort_values(ascending=comparison.mode == "min", kind="stable").index
             for key in comparison.by]  # fmt: skip
    grid = grid.loc[order[0], order[1]]
    values = grid.to_numpy(float)
    drawn, axes = make_figure(2.2 + 0.85 * grid.shape[1], 1.7 + 0.5 * grid.shape[0])
    axis = axes[0, 0]
    limits = find_limits(values, comparison.mode)
    colours = "cividis" if comparison.mode == "max" else "cividis_r"
    image = axis.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    best = (np.nanargmax if comparison.mode == "max" else np.nanargmin)(values)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = (np.clip(value, *limits) - limits[0]) / ((limits[1] - limits[0]) or 1) < 0.5
            light = dark if comparison.mode == "max" else not dark
            mark = {"fontweight": "bold"} if row * values.shape[1] + column == best else {}
            axis.text(column, row, f"{value:.4g}", ha="center", va="center", fontsize=9,
                      color="white" if light else "black", **mark)  # fmt: skip
        else:
            axis.text(column, row, "none", ha="center", va="center", fontsize=8, color=GREY)
    axis.set_xticks(range(grid.shape[1]), grid.columns, rotation=30, ha="right")
    axis.set_yticks(range(grid.shape[0]), grid.index)
    axis.set(xlabel=comparison.by[1], ylabel=comparison.by[0])
    drawn.colorbar(image, label=f"mean test {comparison.metric}", extend="min" if comparison.mode == "max" else "max")
    caption = f"Mean test {comparison.metric}, {' by '.join(comparison.by)}; brighter is better, the best is bold."
    return Plot("heatmap", caption, drawn, grid.reset_index())


def draw_critical_difference(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw a critical-difference diagram: average ranks over data sets, bars where Nemenyi's test finds no difference.

    Source: Demšar 2006.
    """
    ranked = rank_over_datasets(comparison)
    if ranked is None:
        return None
    names, found = ranked
    order = np.argsort(found.ranks, kind="stable")
    half = (len(order) + 1) // 2
    bars = cliques(found.ranks, found.critical)
    drawn, axes = make_figure(9.0, 1.6 + 0.28 * half + 0.16 * len(bars))
    axis, count = axes[0, 0], len(names)
    for place, method in enumerate(order):
        left, rank = place < half, found.ranks[method]
        depth = -0.16 * len(bars) - 0.35 - 0.3 * (place if left else len(order) - 1 - place)
        edge = 1 - 0.05 * count if left else count + 0.05 * count
        axis.plot([rank, rank, edge], [0, depth, depth], color="black", linewidth=0.9)
        text = f"{names[method]}  {rank:.2f} " if left else f" {rank:.2f}  {names[method]}"
        axis.text(edge, depth, text, ha="right" if left else "left", va="center", fontsize=9)
    for number, (low, high) in enumerate(bars):
        axis.plot([low - 0.03, high + 0.03], [-0.16 * (number + 1)] * 2, color=line_style(0)["color"], linewidth=4)
    axis.plot([1, count], [0, 0], color="black")
    for rank in range(1, count + 1):
        axis.plot([rank, rank], [0, 0.08], color="black")
        axis.text(rank, 0.14, str(rank), ha="center", fontsize=9)
    axis.plot([1, 1 + found.critical], [0.55, 0.55], color=line_style(1)["color"], linewidth=2)
    axis.text(1 + found.critical / 2, 0.62, f"critical difference {found.critical:.2f}", ha="center", fontsize=9)
    axis.set_xlim(1 - 0.55 * count, count + 0.55 * count)
    axis.axis("off")
    caption = (
        f"Average ranks over {len(comparison.datasets)} data sets, 1 is best; a bar joins what Nemenyi's test "
        f"cannot tell apart (Friedman {format_p(found.p)})."
    )
    data = pd.DataFrame({"cell": names, "rank": found.ranks, "critical difference": found.critical})
    return Plot("critical_difference", caption, drawn, data.sort_values("rank", kind="stable"))


def draw_metrics(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the mean and rank of each cell under every metric of the task, on the first data set."""
    used = comparison.used[comparison.used["dataset_key"] == comparison.datasets[0]]
    means, better = {}, {}
    for key in map(str, used):
        name = key.removeprefix("test/")
        if not key.startswith("test/") or name == "loss" or not used[key].notna().any():
            continue
        try:
            better[name] = comparison.primary_mode if name == comparison.primary else find_mode(used, name)
        except Refused:  # the records do not say which way is better
            continue
        means[name] = used.groupby("cell")[key].mean()
    if len(means) < 2 or len(comparison.cells) < 2:
        return None
    cells = [cell for cell in comparison.cells if cell in set(used["cell"])]
    table = pd.DataFrame(means).loc[cells]
    caption = "Each cell under every metric of its task, on test, with its rank; brighter is better."
    return Plot("metrics", caption, draw_ranked_table(table, better), table.reset_index())


def draw_cross(table: pd.DataFrame) -> Plot:
    """Draw the mean and rank of each cell's models under every loss that fits the task."""
    caption = (
        "Each cell's best models under every loss, each with its defaults, on test, with the rank; brighter is better. "
        "A model need not lead under the loss that it was trained with."
    )
    return Plot("cross", caption, draw_ranked_table(table, dict.fromkeys(map(str, table), "min")), table.reset_index())


def draw_ranked_table(table: pd.DataFrame, better: Mapping[str, str]) -> Figure:
    """Draw a table whose columns are coloured by rank; `better` says for each column whether min or max is best."""
    rounded = table.map(lambda value: float(f"{value:.6g}"))  # equal accuracies are ties
    ranks = pd.DataFrame(
        {name: rounded[name].rank(ascending=way == "min", method="min") for name, way in better.items()}
    )
    cells = list(table.index)
    drawn, axes = make_figure(3.0 + 1.0 * len(better), 1.5 + 0.32 * len(cells))
    axis = axes[0, 0]
    axis.imshow(-ranks.to_numpy(), cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy(float)):
        rank = ranks.to_numpy(float)[row, column]
        colour = "white" if rank > (len(cells) + 1) / 2 else "black"
        axis.text(column, row, f"{value:.3g}  ({rank:.0f})", ha="center", va="center", fontsize=8.5, color=colour)
    note = "" if len(set(better.values())) == 1 else "\n{} is better"
    names = [name + note.format("lower" if way == "min" else "higher") for name, way in better.items()]
    turned = max(map(len, better)) > 18  # names of losses are long
    axis.set_xticks(
        range(len(better)), names, fontsize=8.5, rotation=30 if turned else 0, ha="left" if turned else "center"
    )
    axis.set_yticks(range(len(cells)), cells)
    axis.xaxis.tick_top()
    return drawn
