"""The pictures of a run: figures drawn without a window, legible in print and by the colour-blind."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from losslab.data.dataset import Array, Dataset

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#7F7F7F"  # Okabe and Ito's palette
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # of it, too
STYLES = ("solid", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1.2, 2)))


def figure(width: float = 6.0, height: float = 4.5, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """An empty figure and its axes, always as a 2-D array."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False)


def stroke(index: int) -> dict[str, Any]:
    """Colour and style of the line of this number, told apart in grey too: 28 before one comes again."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index % len(STYLES)]}


def curves(history: Sequence[dict[str, float]], yardstick: str, best: int) -> Figure:
    """Loss and yardstick of training and validation against the epoch; a dotted line marks the best epoch."""
    drawn, axes = figure(9.0, 4.0, columns=2)
    epochs = [row["epoch"] for row in history]
    for axis, name in zip(axes[0], ("loss", yardstick), strict=True):
        for part, colour, style in (("train", BLUE, "-"), ("val", ORANGE, "--")):
            axis.plot(epochs, [row[f"{part}/{name}"] for row in history], style, color=colour, label=part)
        axis.axvline(best, color=GREY, linestyle=":", label=f"best epoch ({best})")
        axis.set(xlabel="epoch", ylabel=name)
        axis.legend()
    spread = [row["train/loss"] for row in history]
    if min(spread) > 0 and max(spread) > 50 * min(spread):
        axes[0, 0].set_yscale("log")
    return drawn


def predicted_against_true(y: Array, values: Array, names: Sequence[str]) -> Figure:
    """Predicted against true value of each target, of the first four; on the diagonal a prediction is right."""
    names = names[:4]
    drawn, axes = figure(4.8 * len(names), 4.8, columns=len(names))
    for column, (axis, name) in enumerate(zip(axes[0], names, strict=True)):
        ends = [float(f(y[:, column])) for f in (np.min, np.max)]
        axis.plot(ends, ends, color=GREY, linewidth=1)
        axis.scatter(y[:, column], values[:, column], s=10, alpha=0.5, color=BLUE, linewidths=0)
        axis.set(xlabel=f"true {name}", ylabel=f"predicted {name}")
    return drawn


def line(data: Dataset, values: Array) -> Figure:
    """The fitted curve over the one feature, with the test rows as points."""
    drawn, axes = figure()
    rows = data.rows["test"]
    x = data.x[rows, 0] if data.axis is None else data.axis[rows]
    order = np.argsort(x)
    axes[0, 0].scatter(x, data.y[rows, 0], color=BLUE, label="test rows")
    axes[0, 0].plot(x[order], values[order, 0], color=ORANGE, label="prediction")
    axes[0, 0].set(xlabel=data.inputs[0], ylabel=data.outputs[0])
    axes[0, 0].legend()
    return drawn


def confusion_matrix(y: Array, guess: Array, names: Sequence[str]) -> Figure:
    """How many rows of each true class were predicted as each class; numbers are written in up to 20 classes."""
    counts = np.zeros((len(names), len(names)), int)
    np.add.at(counts, (y, guess), 1)
    size = max(4.5, min(12.0, 0.45 * len(names) + 1.5))
    drawn, axes = figure(size, size)
    axis = axes[0, 0]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= 20:
        for (row, column), count in np.ndenumerate(counts):
            if count:
                colour = "white" if share[row, column] > 0.5 else "black"
                axis.text(column, row, str(count), ha="center", va="center", fontsize=8, color=colour)
        axis.set_xticks(range(len(names)), names, rotation=90)
        axis.set_yticks(range(len(names)), names)
    axis.set(xlabel="predicted", ylabel="true")
    return drawn


def per_label(average_precisions: Array, shares: Array, names: Sequence[str]) -> Figure:
    """Average precision of each label, best first, beside what guessing at random would reach."""
    order = np.argsort(np.nan_to_num(average_precisions))
    drawn, axes = figure(6.5, 1.2 + 0.24 * len(names))
    axis = axes[0, 0]
    axis.barh([names[i] for i in order], average_precisions[order], color=BLUE, label="average precision")
    axis.scatter(shares[order], range(len(names)), color=ORANGE, marker="|", s=90, zorder=3, label="share of rows")
    axis.set(xlabel="average precision on test rows", xlim=(0, 1))
    axis.legend(loc="lower right")
    return drawn


def reliability(p: Array, y: Array, bins: int = 15) -> Figure:
    """How often labels that were given a probability are there, and how many decisions fell into each bin of it.

    On the diagonal a model is calibrated; below it, it promises too much. Bars reach over the 95 % interval of the
    share (Wilson), so that a bin of few decisions is not taken for a fault.
    """
    which = np.minimum((p * bins).astype(int), bins - 1)
    n, sums = np.bincount(which, minlength=bins), np.bincount(which, weights=p, minlength=bins)
    hits, used = np.bincount(which, weights=y, minlength=bins), n > 0
    n, hits, mean = n[used], hits[used], sums[used] / n[used]
    share, z = hits / n, 1.96
    middle = (hits + z**2 / 2) / (n + z**2)
    reach = z / (n + z**2) * np.sqrt(n * share * (1 - share) + z**2 / 4)
    drawn, axes = figure(5.5, 6.5, rows=2)
    above, below = axes[:, 0]
    axes[0, 0].get_gridspec().set_height_ratios([3, 1])
    above.plot([0, 1], [0, 1], color=GREY, linewidth=1, label="calibrated")
    above.vlines(mean, middle - reach, middle + reach, color=BLUE, alpha=0.5)
    above.plot(mean, share, "o-", color=BLUE, markersize=4, label="test rows")
    above.set(ylabel="share that is there", xlim=(0, 1), ylim=(-0.02, 1.02))
    above.legend(loc="upper left")
    below.bar(np.flatnonzero(used) / bins, n, width=1 / bins, align="edge", color=BLUE, edgecolor="white")
    below.set(xlabel="predicted probability", ylabel="decisions", xlim=(0, 1), yscale="log", ylim=(0.5, None))
    return drawn


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
    """The first test images, eight in a row, with a caption below each; `key` explains the captions."""
    columns, width, line, letters = 8, 1.35, 0.14, 19  # in inches, and what fits into one line
    rows, lines = -(-len(captions) // columns), max(len(caption) for caption in captions)
    tall = width * data.x.shape[2] / data.x.shape[3]
    step, top = tall + line * (lines + 1), 0.3 if key else 0.1
    wide, high = columns * (width + 0.1) + 0.1, top + rows * step
    drawn = Figure(figsize=(wide, high))

    def write(text: str, colour: str, x: float, y: float) -> None:
        """In inches from the upper left corner."""
        shown = text if len(text) <= letters else text[: letters - 1] + "\u2026"
        drawn.text(x / wide, 1 - y / high, shown, color=colour, fontsize=8, va="top")

    for number, (text, colour) in enumerate(key or []):
        write(text, colour, 0.1 + number * (width + 0.1), 0.08)
    for number, (row, caption) in enumerate(zip(data.rows["test"], captions, strict=False)):
        x, y = 0.1 + number % columns * (width + 0.1), top + number // columns * step
        axis = drawn.add_axes((x / wide, 1 - (y + tall) / high, width / wide, tall / high))
        image = data.x[row].transpose(1, 2, 0)
        grey = image.shape[-1] == 1
        axis.imshow(image[..., 0] if grey else image, cmap="gray_r" if grey else None, aspect="auto")
        axis.axis("off")
        for place, (text, colour) in enumerate(caption):
            write(text, colour, x, y + tall + 0.04 + line * place)
    return drawn
