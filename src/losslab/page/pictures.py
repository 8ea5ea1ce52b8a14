"""The pictures of a run: its history, and its predictions on the test rows."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from losslab.data.dataset import Array, Dataset
from losslab.page.figures import BLUE, GREY, ORANGE, fit_margins, make_axes, text_width, use_log_scale, write_names


def draw_curves(history: Sequence[dict[str, float]], metric: str, best: int) -> Figure:
    """Draw loss and primary metric of training and validation by epoch; a dotted line marks the best epoch."""
    drawn, axes = make_axes(3.7, 3.3, columns=2)
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes[0], ("loss", metric), strict=True):
        for part, colour, style in (("train", BLUE, "-"), ("val", ORANGE, "--")):
            axis.plot(epochs, [row[f"{part}/{name}"] for row in history], style, color=colour, label=part)
        axis.axvline(best, color=GREY, linestyle=":", label=f"best epoch ({best})")
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0, 0].legend()
    spread = [row["train/loss"] for row in history]
    if min(spread) > 0 and max(spread) > 50 * min(spread):
        use_log_scale(axes[0, 0])
    return fit_margins(drawn)


def draw_predictions(y: Array, values: Array, names: Sequence[str]) -> Figure:
    """Plot predicted against true values, up to four targets; a prediction on the diagonal is right."""
    names = names[:4]
    drawn, axes = make_axes(4.0, 4.0, columns=len(names))
    for column, (axis, name) in enumerate(zip(axes[0], names, strict=True)):
        ends = [float(f(y[:, column])) for f in (np.min, np.max)]
        axis.plot(ends, ends, color=GREY, linewidth=1)
        axis.scatter(y[:, column], values[:, column], s=10, alpha=0.5, color=BLUE, linewidths=0)
        axis.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    return fit_margins(drawn)


def draw_fit(data: Dataset, values: Array) -> Figure:
    """Draw the fitted curve over a single feature, with the test rows as points."""
    drawn, axes = make_axes(5.2, 3.8)
    rows = data.split["test"]
    x = data.x[rows, 0] if data.axis is None else data.axis[rows]
    order = np.argsort(x)
    axes[0, 0].scatter(x, data.y[rows, 0], color=BLUE, label="test rows")
    axes[0, 0].plot(x[order], values[order, 0], color=ORANGE, label="prediction")
    axes[0, 0].set(xlabel=data.inputs[0], ylabel=data.outputs[0])
    axes[0, 0].legend()
    return fit_margins(drawn)


def draw_confusion_matrix(y: Array, guess: Array, names: Sequence[str]) -> Figure:
    """Draw the confusion matrix; colours are shares of the true class, and up to 20 classes have counts and names."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (y, guess), 1)
    size = max(3.0, min(10.0, 0.45 * len(names)))
    drawn, axes = make_axes(size, size)
    axis, shown, below = axes[0, 0], [], 0.5
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[row, column] > 0.5 else "black"
                axis.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
        shown = write_names(axis.yaxis, names)
        below = text_width(write_names(axis.xaxis, names)) + 0.4
    axis.set(xlabel="predicted", ylabel="true")
    return fit_margins(drawn, shown, below)


def draw_average_precisions(average_precisions: Array, shares: Array, names: Sequence[str]) -> Figure:
    """Draw the average precision of each label, best first, and its share of rows: what random guesses reach."""
    order = np.argsort(np.nan_to_num(average_precisions))
    drawn, axes = make_axes(5.0, 0.6 + 0.24 * len(names))
    axis = axes[0, 0]
    axis.hlines(range(len(names)), 0, average_precisions[order], color=BLUE, linewidth=13, label="average precision")
    shown = write_names(axis.yaxis, [names[i] for i in order])
    axis.scatter(shares[order], range(len(names)), color=ORANGE, marker="|", s=90, zorder=3, label="share of rows")
    axis.set(xlabel="average precision on test rows", xlim=(0, 1))
    axis.legend(loc="lower right")
    return fit_margins(drawn, shown)


def draw_reliability(p: Array, y: Array, bins: int = 15) -> Figure:
    """Draw a reliability diagram: the share of true labels, and the number of decisions, per bin of probability.

    A calibrated model lies on the diagonal, an overconfident one below it. Bars show the 95 % interval of each share,
    so that the noise of a small bin isn't mistaken for miscalibration.

    Args:
        p: predicted probabilities, one for each decision (row and label).
        y: 0/1, the labels.
        bins: number of bins, of equal width.

    Source: Wilson 1927 (interval).
    """
    which = np.minimum((p * bins).astype(int), bins - 1)
    n, sums = np.bincount(which, minlength=bins), np.bincount(which, weights=p, minlength=bins)
    hits, used = np.bincount(which, weights=y, minlength=bins), n > 0
    decisions, n, hits, mean = n, n[used], hits[used], sums[used] / n[used]
    share, z = hits / n, 1.96
    middle = (hits + z**2 / 2) / (n + z**2)
    reach = z / (n + z**2) * np.sqrt(n * share * (1 - share) + z**2 / 4)
    drawn, axes = make_axes(4.6, 2.6, rows=2)
    above, below = axes[:, 0]
    axes[0, 0].get_gridspec().set_height_ratios([3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="calibrated")
    above.vlines(mean, middle - reach, middle + reach, color=BLUE, alpha=0.5)
    above.plot(mean, share, "o-", color=BLUE, markersize=4, label="test rows")
    above.set(ylabel="share that is there", xlim=(0, 1), ylim=(-0.02, 1.02))
    above.legend(loc="upper left")
    below.stairs(decisions, np.linspace(0, 1, bins + 1), baseline=0.5, fill=True, color=BLUE)
    below.set(xlabel="predicted probability", ylabel="decisions", xlim=(0, 1), ylim=(0.5, None))
    use_log_scale(below)
    return fit_margins(drawn)
