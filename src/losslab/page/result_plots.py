"""Plots of the test figures of a comparison: means, a heatmap, and other metrics and losses."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from losslab.compare.design import Comparison, find_mode
from losslab.compare.digits import find_decimals, format_decimals, round_figures
from losslab.compare.settings import format_value
from losslab.compare.table import cut_intervals, name_chosen
from losslab.errors import Refused
from losslab.page.figures import (
    COLOURS,
    GREY,
    RUNS,
    Plot,
    Tip,
    draw_tiles,
    find_limits,
    label_cell,
    make_figure,
    shorten,
    use_light_frame,
)

LEFT, RIGHT = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"  # point to values beyond the axis
EIGHT = (*COLOURS, GREY)
LISTED = 30  # cells of the table of metrics


def draw_means(comparison: Comparison, numbers: pd.DataFrame) -> Plot:
    """Draw the mean, its interval and the single runs of each cell, best at the top.

    Of two keys the first makes groups, and the second has a colour for each of its options.
    """
    used, heights = comparison.used, place_lines(comparison, numbers)
    decimals = find_decimals(numbers)
    numbers = cut_intervals(comparison, numbers)
    drawn, axes = make_figure(8.0, 1.0 + 0.24 * (max(heights.values()) + 1))
    axis = axes[0, 0]
    lines = numbers["cell"].map(heights).to_numpy(float)
    colours = choose_colours(comparison, numbers)
    low, high = find_range(comparison, numbers)
    edge = 0.04 * (high - low) or 0.01
    axis.set_xlim(low - edge, high + edge)
    axis.set_ylim(lines.max() + 0.6, -0.6)
    runs = used[used["score"].between(low, high)]
    axis.scatter(runs["score"], runs["cell"].map(heights) + 0.26, s=9, alpha=0.6, linewidths=0, gid="mark:runs",
                 color=runs["cell"].map(dict(zip(numbers["cell"], colours, strict=True))).tolist())  # fmt: skip
    axis.hlines(lines, numbers["low"], numbers["high"], color=colours, linewidth=2)
    inside = numbers["mean"].between(low, high).to_numpy()
    axis.scatter(numbers["mean"][inside], lines[inside], s=34, gid="mark:means",
                 color=[colour for colour, shown in zip(colours, inside, strict=True) if shown])  # fmt: skip
    point_outside(axis, numbers["mean"], lines, (low, high), decimals)
    write_lines(axis, comparison, numbers, heights)
    relative = comparison.mode == "min" and len(comparison.datasets) > 1
    axis.set_xlabel(f"test {comparison.metric}{', as a multiple of the mean of its data set' if relative else ''}")
    use_light_frame(axis)
    level = f"{100 * (1 - comparison.alpha):g} %"
    grouped = f" Groups: {comparison.by[0]}; colours: {comparison.by[1]}." if len(comparison.by) == 2 else ""
    marks = ["mean (dot)", *([f"{level} interval (line; Student's t)"] if numbers["low"].notna().any() else [])]
    marks += ["single runs (small dots)"] if numbers["n"].max() > 1 else []
    beyond = "" if inside.all() else " An arrow points to a mean beyond the axis."
    caption = f"Test {comparison.metric} of each cell: {', '.join(marks)}.{grouped}{beyond}"
    listed = runs[["cell", "repeat", "value", "folder"]].astype({"folder": str}).itertuples()
    known = len(comparison.frame) <= RUNS
    tips = {
        "runs": [
            Tip(
                f"{cell}\nseed {repeat}: {format_decimals(value, decimals)}\n{Path(folder).name}",
                f"run-{index}" * known,
            )
            for index, cell, repeat, value, folder in listed
        ],
        "means": [
            Tip(f"{cell}\n{describe_mean(mean, low, high, decimals)}, {n} runs", f"cell-{number}")
            for number, cell, mean, low, high, n in numbers[inside][["cell", "mean", "low", "high", "n"]].itertuples()
        ],
    }
    data = used[[*comparison.by, "dataset_key", "repeat", "value", "score"]]
    return Plot("means", caption, drawn, data, tips)


def describe_mean(mean: float, low: float, high: float, decimals: int | None) -> str:
    """Write a mean and its interval, if there is one."""
    text, *ends = (format_decimals(value, decimals) for value in (mean, low, high))
    return f"mean {text} [{', '.join(ends)}]" if ends[0] else f"mean {text}"


def find_range(comparison: Comparison, numbers: pd.DataFrame) -> tuple[float, float]:
    """Return the ends of the axis: cells that lie far off don't count, all runs and intervals of the others do."""
    low, high = find_limits(numbers["mean"].to_numpy(), comparison.mode)
    inside = numbers[numbers["mean"].between(low, high)]
    runs = comparison.used["score"][comparison.used["cell"].isin(inside["cell"])]
    shown = np.concatenate([runs, inside[["low", "high"]].to_numpy().ravel()])
    return min(low, np.nanmin(shown)), max(high, np.nanmax(shown))


def place_lines(comparison: Comparison, numbers: pd.DataFrame) -> dict[str, float]:
    """Return the height of each cell's line; of two keys, the first makes groups with a line more for its option."""
    if len(comparison.by) != 2:
        return {cell: float(line) for line, cell in enumerate(numbers["cell"])}
    heights: dict[str, float] = {}
    line = 0.0
    for _, group in numbers.groupby(numbers[comparison.by[0]].map(format_value), sort=False):
        heights |= {cell: line + 1 + place for place, cell in enumerate(group["cell"])}
        line += len(group) + 1.4
    return heights


def choose_colours(comparison: Comparison, numbers: pd.DataFrame) -> list[str]:
    """Choose a colour for each cell: that of its option of the second of two keys, or one for all."""
    if len(comparison.by) != 2:
        return [COLOURS[0]] * len(numbers)
    options = numbers[comparison.by[1]].map(format_value)
    order = sorted(set(options))
    return [EIGHT[order.index(option) % len(EIGHT)] for option in options]


def write_lines(axis: Any, comparison: Comparison, numbers: pd.DataFrame, heights: Mapping[str, float]) -> None:
    """Name the lines at the left: cells, or the options of the second key below that of the first."""
    grouped = len(comparison.by) == 2
    names = numbers[comparison.by[1]].map(format_value) if grouped else numbers["cell"]
    named, chosen = dict(zip(numbers["cell"], names, strict=True)), name_chosen(numbers)
    axis.set_yticks(list(heights.values()), [label_cell(named[cell], named.get(chosen, "") * (cell == chosen))
                                             for cell in heights])  # fmt: skip
    if grouped:
        first = numbers[comparison.by[0]].map(format_value)
        for option, group in numbers.groupby(first, sort=False):
            axis.text(0.005, heights[group["cell"].iloc[0]] - 1, shorten(str(option)), va="center", fontweight="bold",
                      transform=axis.get_yaxis_transform())  # fmt: skip


def point_outside(
    axis: Any, values: "pd.Series[float]", lines: np.ndarray, ends: tuple[float, float], decimals: int | None
) -> None:
    """Write each value that lies beyond the x-axis at its edge, with an arrow."""
    for line, value in zip(lines, values, strict=True):
        if not ends[0] <= value <= ends[1]:
            below, text = value < ends[0], format_decimals(value, decimals)
            axis.annotate(
                f"{LEFT} {text}" if below else f"{text} {RIGHT}",
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
    drawn, axes = make_figure(2.4 + 0.75 * grid.shape[1], 1.5 + 0.36 * grid.shape[0])
    axis = axes[0, 0]
    low, high = find_limits(values, comparison.mode)
    shares = np.clip((values - low) / ((high - low) or 1), 0, 1)
    decimals = find_decimals(numbers)
    texts = np.array([[format_decimals(value, decimals) for value in row] for row in values])
    best = int((np.nanargmax if comparison.mode == "max" else np.nanargmin)(values))
    draw_tiles(axis, shares if comparison.mode == "max" else 1 - shares, texts, best)
    axis.set_xticks(np.arange(grid.shape[1]) + 0.5, map(shorten, grid.columns), rotation=30, ha="right")
    axis.set_yticks(np.arange(grid.shape[0]) + 0.5, map(shorten, grid.index))
    axis.set(xlabel=comparison.by[1], ylabel=comparison.by[0])
    caption = f"Mean test {comparison.metric}, {' by '.join(comparison.by)}; darker is better, the best is bold."
    return Plot("heatmap", caption, drawn, grid.reset_index())


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
    table = pd.DataFrame(means).loc[cells[:LISTED]]
    which = f"The {LISTED} best cells" if len(cells) > LISTED else "Each cell"
    caption = f"{which} under every metric of the task, on test, with the rank; darker is better."
    return Plot("metrics", caption, draw_ranked_table(table, better), table.reset_index())


def draw_cross(table: pd.DataFrame) -> Plot:
    """Draw the mean and rank of each cell's models under every loss that fits the task."""
    caption = (
        "Each cell's best models under every loss, each with its defaults, on test, with the rank; darker is better. "
        "A model need not lead under the loss that it was trained with."
    )
    return Plot("cross", caption, draw_ranked_table(table, dict.fromkeys(map(str, table), "min")), table.reset_index())


def draw_ranked_table(table: pd.DataFrame, better: Mapping[str, str]) -> Figure:
    """Draw a table whose columns are coloured by rank; `better` says for each column whether min or max is best."""
    rounded = table.map(lambda value: float(f"{value:.6g}"))  # equal accuracies are ties
    ranks = pd.DataFrame(
        {name: rounded[name].rank(ascending=way == "min", method="min") for name, way in better.items()}
    ).to_numpy(float)
    cells = list(table.index)
    drawn, axes = make_figure(3.0 + 1.0 * len(better), 1.5 + 0.28 * len(cells))
    axis = axes[0, 0]
    columns = [
        [
            f"{text}  ({rank:.0f})"
            for text, rank in zip(round_figures(table[name].tolist()), ranks[:, place], strict=True)
        ]
        for place, name in enumerate(better)
    ]
    texts = np.array(columns).T
    draw_tiles(axis, 1 - (ranks - 1) / max(1, len(cells) - 1), texts)
    note = "" if len(set(better.values())) == 1 else "\n{} is better"
    names = [shorten(name) + note.format("lower" if way == "min" else "higher") for name, way in better.items()]
    turned = max(map(len, better)) > 18  # names of losses are long
    axis.xaxis.tick_top()
    axis.set_xticks(np.arange(len(better)) + 0.5, names, fontsize=8.5, rotation=30 if turned else 0,
                    ha="left" if turned else "center")  # fmt: skip
    axis.set_yticks(np.arange(len(cells)) + 0.5, map(shorten, cells))
    return drawn
