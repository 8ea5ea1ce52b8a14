"""The plot of a comparison that shows how its runs trained."""

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from losslab.compare.costs import are_stacked, collect_epochs
from losslab.compare.design import Comparison
from losslab.compare.table import name_chosen, pick_drawn
from losslab.page.figures import Plot, Tip, find_limits, label_cell, line_style, make_figure, use_light_frame

LINES = 5  # cells that are legible in one panel
SEEDS = 10  # runs of a cell that are drawn one by one


def draw_training(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the validation metric of the best cells: the mean of each, and its runs as thin lines.

    By epochs, which count from 1; by updates or samples, too, where these are no multiple of epochs that all cells
    share, and by seconds where a run's are its own.
    """
    cells, which = pick_drawn(numbers, LINES)
    epochs = collect_epochs(comparison, cells)
    if epochs.empty:
        return None
    epochs = epochs.assign(epoch=epochs["epoch"] + 1)
    shown = average_epochs(epochs, comparison.alpha)
    axes_of = choose_axes(comparison, epochs)
    drawn, axes = make_figure(9.0, 3.9 * len(axes_of), len(axes_of))
    low, high = find_limits(shown["mean"].to_numpy(), comparison.primary_mode)
    edge = 0.08 * (high - low) or 0.01
    tips = {}
    for axis, over in zip(axes[:, 0], axes_of, strict=True):
        for index, (cell, part) in enumerate(shown.groupby("cell", sort=False)):
            style = line_style(index)
            runs = [run for _, run in epochs[epochs["cell"] == cell].groupby("run", sort=False)][:SEEDS]
            for run in runs if len(runs) > 1 else ():
                axis.plot(run[over], run["value"], color=style["color"], linewidth=0.6, alpha=0.45)
            name = f"{over}-{index}"
            alone = {"marker": "o", "linestyle": ""} if len(part) == 1 else {}  # of which an SVG would hold a line, too
            if alone and not low - edge <= part["mean"].item() <= high + edge:
                continue  # cut off: an SVG would hold no mark for it
            axis.plot(part[over], part["mean"], **style | alone, linewidth=1.8, gid=f"mark:{name}")
            tips[name] = [
                Tip(f"{cell}: {part['mean'].iloc[-1]:.4g} at the end", f"cell-{comparison.cells.index(str(cell))}")
            ]
        axis.set_ylim(low - edge, high + edge)
        axis.xaxis.get_major_locator().set_params(integer=over != "seconds", nbins=6)
        axis.set_xlabel("seconds of training" if over == "seconds" else over)
        axis.set_ylabel(f"val/{comparison.primary}")
        use_light_frame(axis)
        label_lines(axis, shown, over, name_chosen(numbers))
    on = f" on {comparison.datasets[0]}" if len(comparison.datasets) > 1 else ""
    lines = "the mean (thick) and the runs (thin) of each" if shown["runs"].max() > 1 else "a line for each"
    beyond = epochs["value"].lt(low - edge) | epochs["value"].gt(high + edge)
    cut = " What lies far behind is cut off." if beyond.any() else ""
    caption = f"val/{comparison.primary}{which}{on}: {lines}. Epochs count from 1.{cut}"
    return Plot("curves", caption, drawn, shown, tips)


def choose_axes(comparison: Comparison, epochs: pd.DataFrame) -> list[str]:
    """Choose what to draw against: epochs, and what isn't the same multiple of them for all cells."""
    chosen = ["epoch"]
    for over in ("updates", "samples", *(() if are_stacked(comparison) else ("seconds",))):
        each = (epochs[over] / epochs["epoch"]).groupby(epochs["cell"]).mean().dropna()
        if len(each) and each.max() > 1.05 * each.min():
            chosen.append(over)
    return chosen


def label_lines(axis: Any, shown: pd.DataFrame, over: str, chosen: str) -> None:
    """Name the lines at their right ends, moved apart where they would overlap."""
    low, high = axis.get_ylim()
    ends = shown.groupby("cell", sort=False).tail(1)
    heights = ((ends["mean"].clip(low, high) - low) / (high - low)).to_numpy(float)
    order, step = np.argsort(heights), 0.07
    placed = heights.copy()
    for before, line in pairwise(order):
        placed[line] = max(placed[line], placed[before] + step)
    placed -= max(0.0, placed.max() - 1.0)
    for index, (cell, height) in enumerate(zip(ends["cell"], placed, strict=True)):
        axis.plot([1.01, 1.05], [height, height], **line_style(index), transform=axis.transAxes, clip_on=False)
        axis.text(1.06, height, label_cell(str(cell), chosen), va="center", fontsize=9, transform=axis.transAxes)


def average_epochs(epochs: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Average over the runs of a cell, epoch by epoch, with the t interval of the mean."""
    each = epochs.groupby(["cell", "epoch"], sort=False)
    shown = each[["samples", "updates", "seconds"]].mean()
    shown["mean"], shown["runs"] = each["value"].mean(), each["value"].size()
    error = each["value"].sem() * stats.t.ppf(1 - alpha / 2, np.maximum(shown["runs"] - 1, 1))
    shown["low"], shown["high"] = shown["mean"] - error, shown["mean"] + error
    return shown.reset_index()
