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


def image_grid(data: Dataset, samples: Sequence[dict[str, str]]) -> Figure:
    """The first test images with their true and, where it differs, predicted target."""
    columns = 8
    lines = -(-len(samples) // columns)
    drawn, axes = figure(1.5 * columns, 1.8 * lines, lines, columns)
    for axis in axes.flat:
        axis.axis("off")
    for axis, row, sample in zip(axes.flat, data.rows["test"], samples, strict=False):
        image = data.x[row].transpose(1, 2, 0)
        axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray_r" if image.shape[-1] == 1 else None)
        right = sample["true"] == sample["predicted"]
        title = sample["true"] if right else f"{sample['true']}, said {sample['predicted']}"
        axis.set_title(title, fontsize=9, color="black" if right else ORANGE)
    return drawn
