"""The pictures of a run: its history, and its predictions on the test rows."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from losslab.data.dataset import Array, Dataset
from losslab.page.figures import (
    BLUE,
    GREY,
    ORANGE,
    add_title,
    fit_margins,
    make_axes,
    shorten,
    text_width,
    use_log_scale,
    write_names,
)

if TYPE_CHECKING:
    from torch import Tensor

    from losslab.tasks import Task

LOG = " (log axis)"
FEW, MANY = 25, 1000  # epochs: up to so many have a dot each, and from so many their axis is logarithmic
NBSP, DOT = "\N{NO-BREAK SPACE}", "\N{MIDDLE DOT}"
BINS = 15  # of equal width, in a reliability diagram
THIN = 30  # decisions: bins with fewer are merged with the next


class Interval(NamedTuple):
    """Where a run says that a share of the true values lies: the ends `(N, D)` for each row."""

    low: Array
    high: Array
    share: float

    def describe(self, column: int, y: Array) -> str:
        """Say what it is, and which share of the true values `y` `(N,)` it holds."""
        held = np.mean((self.low[:, column] <= y) & (y <= self.high[:, column]))
        return f"{100 * self.share:.0f} % interval, holds {100 * held:.0f} %"


def limit_values(curves: Array) -> Array:
    """Leave out the first twentieth of long curves `(curves, epochs)` if they are flat after a steep beginning.

    They are long from 100 epochs, and steep if all epochs span five times what the others span. Curves of so many
    epochs that their axis is logarithmic stay whole.
    """
    epochs = curves.shape[1]
    rest = curves[:, epochs // 20 :]
    flat = 100 <= epochs < MANY and 0 < 5 * np.ptp(rest) < np.ptp(curves) < np.inf
    return rest if flat else curves


def spans(values: Array, ratio: float) -> bool:
    """Tell whether numbers are all above 0 and the largest is more than `ratio` times the smallest."""
    low, high = float(np.min(values)), float(np.max(values))
    return 0 < low < high / ratio < np.inf


def use_log_axis(axis: Any, side: str) -> None:
    """Make an axis logarithmic, with plain numbers at a few decades, or at 1, 2, 5 where there are few of these."""
    getattr(axis, f"set_{side}scale")("log")
    low, high = getattr(axis, f"get_{side}lim")()
    first, last = int(np.floor(np.log10(low))), int(np.ceil(np.log10(high)))
    steps = (1, 2, 5) if last - first <= 2 else (1, 3) if last - first == 3 else (1,)
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high]
    where = getattr(axis, f"{side}axis")
    where.set_major_locator(FixedLocator(ticks[:: max(1, -(-len(ticks) // 7))]))
    where.set_minor_locator(NullLocator())
    where.set_major_formatter("{x:g}")


def draw_run(
    task: "Task",
    data: Dataset,
    scores: "Tensor",
    history: Sequence[dict[str, float]],
    config: Mapping[str, Any],
    summary: Mapping[str, float],
) -> dict[str, Figure]:
    """Draw a run: its curves, and its test rows as the task shows them, each below what the run is and has reached.

    Args:
        task: fitted to the data.
        scores: of the test rows, in their order.
    """
    metric, best = str(config["task.yardstick"]), int(summary["best_epoch"])
    merit = f"test {metric} {summary[f'test/{metric}']:.4g}, epoch {best + 1} of {summary['epochs']:g}"
    pieces = [
        *(str(config[key]) for key in ("task", "data", "model", "loss")),
        *(f"{config['optimizer']}, lr {config.get('optimizer.lr')}", f"seed {config['seed']}"),
    ]
    what = f"{NBSP}{DOT} ".join(piece.replace(" ", NBSP) for piece in pieces)  # a line ends after a dot
    figures = task.pictures(data, scores)
    unweighted = (
        [] if data.weight is None else ["Each row counts once here; in the metrics it counts as its weight says."]
    )
    for figure in figures.values():
        add_title(figure, [merit, what, *unweighted])
    curves = draw_curves(history, metric, best, name_axes(task, data, config))
    return {**figures, "curves": add_title(curves, [merit, what])}


def name_axes(task: "Task", data: Dataset, config: Mapping[str, Any]) -> dict[str, str]:
    """Write what stands beside the axes of the curves: the loss and the primary metric, with their units."""
    metric, loss = str(config["task.yardstick"]), f"loss {config['loss']}"
    if task.truth != "numbers":
        return {"loss": loss}
    unit, several = data.outputs[0], len(data.outputs) > 1
    kind = {"mse": "squared units of", "rmse": "units of", "mae": "units of"}.get(metric)
    standardised = data.standardise and config.get("loss.input") in ("prediction", "heads")
    return {
        "loss": f"{loss} of standardised {'targets' if several else unit}" if standardised else loss,
        metric: f"{metric} in {kind} {'the targets' if several else unit}" if kind else metric,
    }


def draw_curves(
    history: Sequence[dict[str, float]], metric: str, best: int, labels: Mapping[str, str] | None = None
) -> Figure:
    """Draw loss and primary metric of training and validation by epoch; a dotted line marks the best epoch.

    Epochs count from 1. What is recorded of training is a mean over the epoch, while the weights change, so it is
    drawn in the middle of the epoch; validation is evaluated at the end of the epoch, and drawn there.

    Args:
        history: a row for each epoch, which count from 0 there.
        labels: what to write beside the axes, for `loss` and the metric, if not their names.
    """
    drawn, axes = make_axes(3.7, 3.3, columns=2)
    ends = np.array([row["epoch"] for row in history]) + 1.0
    dots = "o" if len(history) <= FEW else ""
    for axis, name in zip(axes[0], ("loss", metric), strict=True):
        train, val = (np.array([row[f"{part}/{name}"] for row in history]) for part in ("train", "val"))
        axis.plot(ends - 0.5, train, f"-{dots}", color=BLUE, markersize=3, label="train, epoch's mean")
        axis.plot(ends, val, f"--{dots}", color=ORANGE, markersize=3, label="val, epoch's end")
        axis.axvline(best + 1, color=GREY, linestyle=":", label=f"best epoch ({best + 1})")
        shown, label = limit_values(np.array([train, val])), (labels or {}).get(name, name)
        wide = spans(shown, 5)
        if shown.shape[1] < len(history):
            margin = 0.05 * np.ptp(shown)
            ends_at = (shown.min() / 1.1, shown.max() * 1.1) if wide else (shown.min() - margin, shown.max() + margin)
            axis.set_ylim(*ends_at)
            axis.set_xlabel("epoch (the first ones lie outside)")
        else:
            axis.set_xlabel(f"epoch{LOG * (len(history) >= MANY)}")
        if wide:
            use_log_axis(axis, "y")
        axis.set_ylabel(shorten(label, 36) + LOG * wide)
        if len(history) >= MANY:
            use_log_axis(axis, "x")
        else:
            axis.set_xlim(0, 1.04 * ends[-1])
            axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0, 0].legend(loc="lower left", bbox_to_anchor=(0, 1.01), ncols=3, fontsize=8, frameon=False, borderaxespad=0,
                      borderpad=0.2)  # fmt: skip # above both panels, where no curve is
    return fit_margins(drawn)


def draw_predictions(y: Array, values: Array, names: Sequence[str], interval: Interval | None = None) -> Figure:
    """Plot predicted against true values `(N, D)`, with an interval as bars, and residuals below; up to four targets.

    A prediction on the diagonal is right. Both axes are logarithmic where the largest true value is 30 times the
    smallest, as prices are; predictions of 0 or less, or far below all true values, are then counted, and have
    another mark at the lower edge.
    """
    if len(y) == 1:
        return draw_one_row(y[0], values[0], names)
    names = names[:4]
    drawn, axes = make_axes(4.0, 2.7, rows=2, columns=len(names))
    axes[0, 0].get_gridspec().set_height_ratios([3, 1])
    for column, name in enumerate(names):
        (above, below), true, predicted = axes[:, column], y[:, column], values[:, column]
        low, high = float(true.min()), float(true.max())
        logs = spans(true, 30) and bool((predicted > 0).mean() > 0.9)
        least = max(low / 30, min(low, float(predicted[predicted > 0].min()))) if logs else -np.inf
        beyond = predicted < least
        above.plot([low, high], [low, high], color=GREY, linewidth=1)
        if interval is not None:
            ends = [np.maximum(end[:, column], least) for end in (interval.low, interval.high)]
            above.vlines(true, *ends, color=BLUE, alpha=0.25, linewidth=1, label=interval.describe(column, true))
        above.scatter(true[~beyond], predicted[~beyond], s=10, alpha=0.5, color=BLUE, linewidths=0)
        if beyond.any():
            said = describe_beyond(predicted[beyond], least)
            edge = np.full(beyond.sum(), least)
            above.scatter(true[beyond], edge, s=24, marker="v", color=ORANGE, linewidths=0, label=said)
        if beyond.any() or interval is not None:
            above.legend(loc="lower right")
        below.axhline(0, color=GREY, linewidth=1)
        below.scatter(true, predicted - true, s=6, alpha=0.5, color=BLUE, linewidths=0)
        for axis, side in ((above, "x"), (above, "y"), (below, "x")) if logs else ():
            use_log_axis(axis, side)
        above.set(ylabel=f"predicted {shorten(name, 26)}{LOG * logs}")
        below.set(xlabel=f"true {shorten(name, 30)}{LOG * logs}", ylabel="residual", xlim=above.get_xlim())
        above.xaxis.set_major_locator(NullLocator())  # those of the residuals count
        below.yaxis.set_major_locator(MaxNLocator(3))
    fit_margins(drawn).subplots_adjust(hspace=0.06)
    return drawn


def describe_beyond(values: Array, least: float) -> str:
    """Say how many predictions a logarithmic axis that begins at `least` can't show.

    >>> describe_beyond(np.array([-3.0, 0.0]), 50.0), describe_beyond(np.array([2.0]), 50.0)
    ('2 predictions are 0 or less', '1 prediction is below 50')
    >>> describe_beyond(np.array([-3.0, 2.0]), 50.0)
    '2 predictions are below 50, 1 of them 0 or less'
    """
    are = "predictions are" if len(values) > 1 else "prediction is"
    negative = int((values <= 0).sum())
    if negative == len(values):
        return f"{len(values)} {are} 0 or less"
    return f"{len(values)} {are} below {least:.3g}{f', {negative} of them 0 or less' if negative else ''}"


def draw_one_row(y: Array, values: Array, names: Sequence[str]) -> Figure:
    """Plot the true and the predicted targets of a single row `(D,)` side by side."""
    drawn, axes = make_axes(max(2.5, 0.9 * min(len(y), 40)), 3.0)
    axis = axes[0, 0]
    axis.plot(y, "_", color=GREY, markersize=24, markeredgewidth=3, label="true")
    axis.plot(values, "o", color=BLUE, markersize=5, label="predicted")
    axis.set(xlim=(-0.5, len(y) - 0.5), ylabel="value")
    axis.legend()
    below = text_width(write_names(axis.xaxis, names)) if len(y) <= 40 else 0.0
    return fit_margins(drawn, below=below + 0.3)


def draw_fit(data: Dataset, values: Array, interval: Interval | None = None) -> Figure:
    """Draw the fitted curve over a single feature, the straight line of least squares, and the test rows as points."""
    drawn, axes = make_axes(5.2, 3.8)
    axis, rows = axes[0, 0], data.split["test"]
    features = data.x[:, 0] if data.axis is None else data.axis
    x, train, order = features[rows], data.split["train"], np.argsort(features[rows])
    if interval is not None:
        low, high = interval.low[order, 0], interval.high[order, 0]
        said = interval.describe(0, data.y[rows, 0])
        axis.fill_between(x[order], low, high, color=ORANGE, alpha=0.2, linewidth=0, label=said)
    axis.scatter(x, data.y[rows, 0], color=BLUE, label="test rows")
    axis.plot(x[order], values[order, 0], color=ORANGE, label="prediction")
    if len(np.unique(features[train])) > 1:
        weight = data.weights("train")
        root = None if weight is None else np.sqrt(weight.astype(float))
        line = np.polyfit(features[train].astype(float), data.y[train, 0].astype(float), 1, w=root)
        axis.plot(x[order], np.polyval(line, x[order]), ":", color="black", label="least squares")
    axis.set(xlabel=data.inputs[0], ylabel=data.outputs[0])
    axis.legend()
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
    axis.scatter(
        shares[order], range(len(names)), color=ORANGE, marker="|", s=90, zorder=3, label="share of rows (chance)"
    )
    axis.set(xlabel="average precision on test rows", xlim=(0, 1))
    axis.legend(loc="lower right")
    return fit_margins(drawn, shown)


def draw_reliability(p: Array, y: Array) -> Figure:
    """Draw a reliability diagram of decisions (row and label): the share of true labels per bin of probability.

    A calibrated model lies on the diagonal, an overconfident one below it. Bars show the 95 % interval of each share,
    so that the noise of a small bin isn't mistaken for miscalibration; the larger a point, the more decisions it stands
    for, and bins of few are merged.

    Source: Wilson 1927 (interval).
    """
    which = np.minimum((p * BINS).astype(int), BINS - 1)
    decisions = np.bincount(which, minlength=BINS)
    merged = merge_thin(decisions)[which]
    n, sums = np.bincount(merged), np.bincount(merged, weights=p)
    hits, used = np.bincount(merged, weights=y), n > 0
    n, hits, mean = n[used], hits[used], sums[used] / n[used]
    share, z = hits / n, 1.96
    middle = (hits + z**2 / 2) / (n + z**2)
    reach = z / (n + z**2) * np.sqrt(n * share * (1 - share) + z**2 / 4)
    drawn, axes = make_axes(4.6, 2.6, rows=2)
    above, below = axes[:, 0]
    axes[0, 0].get_gridspec().set_height_ratios([3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="calibrated")
    above.vlines(mean, middle - reach, middle + reach, color=BLUE, alpha=0.5)
    above.plot(mean, share, color=BLUE, label="test rows")
    above.scatter(mean, share, s=6 + 90 * np.sqrt(n / n.max()), color=BLUE, zorder=3)
    above.set(ylabel="share of true labels", xlim=(0, 1), ylim=(-0.02, 1.02))
    above.legend(loc="upper left")
    below.stairs(decisions, np.linspace(0, 1, BINS + 1), baseline=0.5, fill=True, color=BLUE)
    below.set(xlabel="predicted probability", ylabel="decisions", xlim=(0, 1), ylim=(0.5, None))
    use_log_scale(below)
    return fit_margins(drawn)


def merge_thin(counts: Array) -> Array:
    """Merge each bin of few decisions with the next, and what is left at the end with the last; return the new bins.

    >>> merge_thin(np.array([50, 10, 25, 40, 3])).tolist()
    [0, 1, 1, 2, 2]
    """
    places, held = [0], 0
    for count in counts[:-1]:
        held += int(count)
        full = held >= THIN
        places.append(places[-1] + full)
        held *= not full
    held += int(counts[-1])
    last = places[-1]
    return np.array([min(place, last - 1) if held < THIN and last else place for place in places])
