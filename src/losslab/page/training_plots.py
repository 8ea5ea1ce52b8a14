"""The plot of a comparison that shows how its runs trained."""

import numpy as np
import pandas as pd
from scipy import stats

from losslab.compare.costs import collect_epochs
from losslab.compare.design import Comparison
from losslab.page.figures import Plot, add_legend, find_limits, line_style, make_figure, use_light_frame

LINES = 5  # cells that are legible in one panel


def draw_training(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the validation metric of the best cells by epochs, samples, updates and seconds."""
    column = f"val/{comparison.primary}"
    epochs = collect_epochs(comparison, comparison.cells[:LINES])
    if epochs.empty:
        return None
    shown = average_epochs(epochs, comparison.alpha)
    drawn, axes = make_figure(10.0, 7.6, 2, 2)
    low, high = find_limits(shown["mean"].to_numpy(), comparison.primary_mode)
    edge = 0.08 * (high - low) or 0.01
    for axis, over in zip(axes.flat, ("epoch", "samples", "updates", "seconds"), strict=True):
        for index, cell in enumerate(comparison.cells[:LINES]):
            part = shown[shown["cell"] == cell]
            style = line_style(index)
            axis.plot(part[over], part["mean"], **style, linewidth=1.6, label=cell)
            if (part["runs"] > 1).any():
                axis.fill_between(part[over], part["low"], part["high"], color=style["color"], alpha=0.12, linewidth=0)
        axis.set_ylim(low - edge, high + edge)
        axis.xaxis.get_major_locator().set_params(integer=over != "seconds", nbins=6)
        axis.set_xlabel("seconds of training" if over == "seconds" else over)
        use_light_frame(axis)
    for axis in axes[:, 0]:
        axis.set_ylabel(column)
    add_legend(drawn, axes[0, 0])
    which = f" of the {LINES} best cells of {len(comparison.cells)}" if len(comparison.cells) > LINES else ""
    on = f" on {comparison.datasets[0]}" if len(comparison.datasets) > 1 else ""
    level = f"{100 * (1 - comparison.alpha):g} %"
    caption = (
        f"{column}{which}{on}: mean over seeds and {level} interval (Student's t); what lies far behind is cut off."
    )
    return Plot("curves", caption, drawn, shown)


def average_epochs(epochs: pd.DataFrame, alpha: float) -> pd.DataFrame:
    """Average over the runs of a cell, epoch by epoch, with the t interval of the mean."""
    each = epochs.groupby(["cell", "epoch"])
    shown = each[["samples", "updates", "seconds"]].mean()
    shown["mean"], shown["runs"] = each["value"].mean(), each["value"].size()
    error = each["value"].sem() * stats.t.ppf(1 - alpha / 2, np.maximum(shown["runs"] - 1, 1))
    shown["low"], shown["high"] = shown["mean"] - error, shown["mean"] + error
    return shown.reset_index()
