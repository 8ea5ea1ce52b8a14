"""The pictures of a run: figures drawn without a window, legible in print and by the colour-blind."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from matplotlib.ticker import MaxNLocator

from losslab.data.dataset import Array, Dataset

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#7F7F7F"  # Okabe and Ito's palette
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # of it, too
STYLES = ("solid", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1.2, 2)))


def figure(width: float = 6.0, height: float = 4.5, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """An empty figure and its axes, always as a 2-D array."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False)


def framed(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of nothing but its axes, each of this size in inches and with few ticks; `fitted` makes it whole."""
    drawn = Figure(figsize=(columns * width, rows * height))
    axes = drawn.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.locator_params(nbins=5)
    return drawn, axes


def fitted(drawn: Figure, names: Iterable[str] = (), below: float = 0.5) -> Figure:
    """The figure, grown by what stands beside its axes; constrained layout would draw every text twice to find it.

    Args:
        drawn: what `framed` made and was drawn in since.
        names: what is written left of the axes instead of ticks.
        below: inches for the ticks and the label below each of the axes.
    """
    grid = drawn.axes[0].get_gridspec()
    assert grid is not None

    def numbers(name: str) -> list[str]:
        sides = [getattr(axis, name) for axis in drawn.axes]
        return [text for side in sides for text in side.get_major_formatter().format_ticks(side.get_majorticklocs())]

    left, above = 0.4 + widest([*names, *numbers("yaxis")]), 0.2
    right = max(above, widest(numbers("xaxis")) / 2)  # where the last number reaches beyond its axes
    wide, high = drawn.get_size_inches()
    width, height = wide + grid.ncols * (left + right), high + grid.nrows * (below + above)
    drawn.set_size_inches(width, height)
    drawn.subplots_adjust(
        *(left / width, below / height, 1 - right / width, 1 - above / height),
        *((left + right) * grid.ncols / wide, (below + above) * grid.nrows / high),
    )
    for axis in drawn.axes:  # its labels at the rim of its place
        box = axis.get_position()
        axis.yaxis.set_label_coords(-(left - 0.22) / (box.width * width), 0.5)
        axis.xaxis.set_label_coords(0.5, -(below - 0.22) / (box.height * height))
    return drawn


def widest(texts: Iterable[str]) -> float:
    """The width of the widest of these texts as matplotlib writes them, in inches."""
    font = FontProperties()
    return max(float(text_to_path.get_text_width_height_descent(text, font, False)[0]) for text in ["", *texts]) / 72


def short(text: str, letters: int = 40) -> str:
    """The text, cut where it would not fit.

    >>> short("Documentary", 9)
    'Document\u2026'
    """
    return text if len(text) <= letters else text[: letters - 1] + "\u2026"


def beside(axis: Any, names: Sequence[str]) -> list[str]:
    """Write names at 0, 1, ... of the x- or y-axis of a `framed` figure, without ticks, which take longer to draw."""
    axis.set_ticks([])
    texts, (wide, high) = [short(name) for name in names], axis.get_figure().get_size_inches()
    for place, text in enumerate(texts):
        if axis.axis_name == "x":
            axis.axes.text(place, -0.08 / high, text, rotation=90, ha="center", va="top",
                           transform=axis.axes.get_xaxis_transform(), parse_math=False)  # fmt: skip
        else:
            axis.axes.text(-0.08 / wide, place, text, ha="right", va="center_baseline",
                           transform=axis.axes.get_yaxis_transform(), parse_math=False)  # fmt: skip
    return texts


def stroke(index: int) -> dict[str, Any]:
    """Colour and style of the line of this number, told apart in grey too: 28 before one comes again."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index % len(STYLES)]}


def curves(history: Sequence[dict[str, float]], yardstick: str, best: int) -> Figure:
    """Loss and yardstick of training and validation against the epoch; a dotted line marks the best epoch."""
    drawn, axes = framed(3.7, 3.3, columns=2)
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes[0], ("loss", yardstick), strict=True):
        for part, colour, style in (("train", BLUE, "-"), ("val", ORANGE, "--")):
            axis.plot(epochs, [row[f"{part}/{name}"] for row in history], style, color=colour, label=part)
        axis.axvline(best, color=GREY, linestyle=":", label=f"best epoch ({best})")
        axis.set(xlabel="epoch", ylabel=name)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes[0, 0].legend()
    spread = [row["train/loss"] for row in history]
    if min(spread) > 0 and max(spread) > 50 * min(spread):
        decades(axes[0, 0])
    return fitted(drawn)


def decades(axis: Any) -> None:
    """A logarithmic y-axis with plain numbers at its decades: powers and ticks between them take long to draw."""
    axis.set_yscale("log")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.minorticks_off()


def predicted_against_true(y: Array, values: Array, names: Sequence[str]) -> Figure:
    """Predicted against true value of each target, of the first four; on the diagonal a prediction is right."""
    names = names[:4]
    drawn, axes = framed(4.0, 4.0, columns=len(names))
    for column, (axis, name) in enumerate(zip(axes[0], names, strict=True)):
        ends = [float(f(y[:, column])) for f in (np.min, np.max)]
        axis.plot(ends, ends, color=GREY, linewidth=1)
        axis.scatter(y[:, column], values[:, column], s=10, alpha=0.5, color=BLUE, linewidths=0)
        axis.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    return fitted(drawn)


def line(data: Dataset, values: Array) -> Figure:
    """The fitted curve over the one feature, with the test rows as points."""
    drawn, axes = framed(5.2, 3.8)
    rows = data.split["test"]
    x = data.x[rows, 0] if data.axis is None else data.axis[rows]
    order = np.argsort(x)
    axes[0, 0].scatter(x, data.y[rows, 0], color=BLUE, label="test rows")
    axes[0, 0].plot(x[order], values[order, 0], color=ORANGE, label="prediction")
    axes[0, 0].set(xlabel=data.inputs[0], ylabel=data.outputs[0])
    axes[0, 0].legend()
    return fitted(drawn)


def confusion_matrix(y: Array, guess: Array, names: Sequence[str]) -> Figure:
    """How many rows of each true class were predicted as each class; numbers are written in up to 20 classes."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (y, guess), 1)
    size = max(3.0, min(10.0, 0.45 * len(names)))
    drawn, axes = framed(size, size)
    axis, shown, below = axes[0, 0], [], 0.5
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[row, column] > 0.5 else "black"
                axis.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
        shown = beside(axis.yaxis, names)
        below = widest(beside(axis.xaxis, names)) + 0.4
    axis.set(xlabel="predicted", ylabel="true")
    return fitted(drawn, shown, below)


def per_label(average_precisions: Array, shares: Array, names: Sequence[str]) -> Figure:
    """Average precision of each label, best first, beside what guessing at random would reach."""
    order = np.argsort(np.nan_to_num(average_precisions))
    drawn, axes = framed(5.0, 0.6 + 0.24 * len(names))
    axis = axes[0, 0]
    axis.hlines(range(len(names)), 0, average_precisions[order], color=BLUE, linewidth=13, label="average precision")
    shown = beside(axis.yaxis, [names[i] for i in order])
    axis.scatter(shares[order], range(len(names)), color=ORANGE, marker="|", s=90, zorder=3, label="share of rows")
    axis.set(xlabel="average precision on test rows", xlim=(0, 1))
    axis.legend(loc="lower right")
    return fitted(drawn, shown)


def reliability(p: Array, y: Array, bins: int = 15) -> Figure:
    """How often labels that were given a probability are there, and how many decisions fell into each bin of it.

    On the diagonal a model is calibrated; below it, it promises too much. Bars reach over the 95 % interval of the
    share (Wilson), so that a bin of few decisions is not taken for a fault.
    """
    which = np.minimum((p * bins).astype(int), bins - 1)
    n, sums = np.bincount(which, minlength=bins), np.bincount(which, weights=p, minlength=bins)
    hits, used = np.bincount(which, weights=y, minlength=bins), n > 0
    decisions, n, hits, mean = n, n[used], hits[used], sums[used] / n[used]
    share, z = hits / n, 1.96
    middle = (hits + z**2 / 2) / (n + z**2)
    reach = z / (n + z**2) * np.sqrt(n * share * (1 - share) + z**2 / 4)
    drawn, axes = framed(4.6, 2.6, rows=2)
    above, below = axes[:, 0]
    axes[0, 0].get_gridspec().set_height_ratios([3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="calibrated")
    above.vlines(mean, middle - reach, middle + reach, color=BLUE, alpha=0.5)
    above.plot(mean, share, "o-", color=BLUE, markersize=4, label="test rows")
    above.set(ylabel="share that is there", xlim=(0, 1), ylim=(-0.02, 1.02))
    above.legend(loc="upper left")
    below.stairs(decisions, np.linspace(0, 1, bins + 1), baseline=0.5, fill=True, color=BLUE)
    below.set(xlabel="predicted probability", ylabel="decisions", xlim=(0, 1), ylim=(0.5, None))
    decades(below)
    return fitted(drawn)


Caption = list[tuple[str, str]]  # lines of text, each with its colour


def image_grid(data: Dataset, samples: Sequence[dict[str, str]]) -> Figure:
    """The first test images with their true and, where it differs, predicted target."""
    return grid(
        data,
        [
            [
                (sample["true"], "black"),
                *([(f"said {said}", ORANGE)] if (said := sample["predicted"]) != sample["true"] else []),
            ]
            for sample in samples
        ],
    )


def label_grid(data: Dataset, guess: Array, count: int = 24, most: int = 7) -> Figure:
    """The first test images with their labels: those that were found, those missed, and those said that are not there.

    Args:
        data: images, and labels `(N, L)`.
        guess: 0/1, the labels said of the test rows in order.
        count: images.
        most: lines below an image; of further labels the number is given.
    """
    y, said = data.targets("test")[:count] > 0, guess[:count] > 0
    marks = {
        "\u2713 right": (y & said, "black"),
        "\u25cb missed": (y & ~said, BLUE),
        "\u2717 wrong": (~y & said, ORANGE),
    }
    captions: list[Caption] = []
    for row in range(len(y)):
        lines = [
            (f"{mark[0]} {data.outputs[label]}", colour)
            for mark, (which, colour) in marks.items()
            for label in np.flatnonzero(which[row])
        ]
        rest = [(f"and {len(lines) - most + 1} more", GREY)] if len(lines) > most else []
        captions.append(lines[: most - len(rest)] + rest)
    return grid(data, captions, [(mark, colour) for mark, (_, colour) in marks.items()])


def grid(data: Dataset, captions: Sequence[Caption], key: Caption | None = None) -> Figure:
    """The first test images, eight in a row, with a caption below each; `key` explains the captions.

    All images lie in one array on one pair of axes, which is drawn ten times as fast as axes for each of them.
    """
    columns, width, line, letters = 8, 1.35, 0.14, 19  # in inches, and what fits into one line
    rows, lines = -(-len(captions) // columns), max(len(caption) for caption in captions)
    images = [data.x[row].transpose(1, 2, 0) for row, _ in zip(data.split["test"], captions, strict=False)]
    tall, across, channels = images[0].shape
    pixel = width / across  # in inches
    gap, text, top = (math.ceil(inches / pixel) for inches in (0.1, line * (lines + 1), 0.3 if key else 0.1))
    white = 255 if channels > 1 else min(image.min() for image in images)  # grey ones are drawn as ink
    sheet = np.full((top + rows * (tall + text), gap + columns * (across + gap), channels), white, images[0].dtype)
    high, wide = sheet.shape[0] * pixel, sheet.shape[1] * pixel
    drawn = Figure(figsize=(wide, high))

    def write(text: str, colour: str, x: float, y: float) -> None:
        """In inches from the upper left corner."""
        drawn.text(x / wide, 1 - y / high, short(text, letters), color=colour, fontsize=8, va="top", parse_math=False)

    for number, (mark, colour) in enumerate(key or []):
        write(mark, colour, (gap + number * (across + gap)) * pixel, 0.08)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = gap + number % columns * (across + gap), top + number // columns * (tall + text)
        sheet[y : y + tall, x : x + across] = image
        for place, (words, colour) in enumerate(caption):
            write(words, colour, x * pixel, (y + tall) * pixel + 0.04 + line * place)
    axis = drawn.add_axes((0, 0, 1, 1))
    axis.axis("off")
    axis.imshow(sheet[..., 0] if channels == 1 else sheet, cmap="gray_r" if channels == 1 else None, aspect="auto")
    return drawn
