"""Sheets of test images with captions: predicted classes or labels."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from losslab.data.dataset import Array, Dataset
from losslab.page.figures import BLUE, GREY, ORANGE, shorten

IMAGES, LINES = 24, 7  # images with labels, and lines below each; the last counts the labels that do not fit
LETTERS = 152  # of one point that fit below an image: 19 of 8 points
Caption = list[tuple[str, str]]  # lines of text, each with its colour


def draw_classes(data: Dataset, samples: Sequence[dict[str, str]]) -> Figure:
    """Draw the first test images with their true class and, where that is another, the predicted one after a cross."""
    captions: list[Caption] = []
    for sample in samples:
        wrong = [(f"\u2717 {sample['predicted']}", ORANGE)] if sample["predicted"] != sample["true"] else []
        captions.append([(sample["true"], "black"), *wrong])
    return draw_grid(data, captions)


def draw_labels(data: Dataset, guess: Array) -> Figure:
    """Draw the first test images with their labels: right (predicted and true), missed (true), wrong (predicted).

    Args:
        guess: 0/1, the labels predicted for the test rows, in their order.
    """
    y, predicted = data.targets("test")[:IMAGES] > 0, guess[:IMAGES] > 0
    marks = {
        "\u2713 right": (y & predicted, "black"),
        "\u25cb missed": (y & ~predicted, BLUE),
        "\u2717 wrong": (~y & predicted, ORANGE),
    }
    captions: list[Caption] = []
    for row in range(len(y)):
        lines = [
            (f"{mark[0]} {data.outputs[label]}", colour)
            for mark, (which, colour) in marks.items()
            for label in np.flatnonzero(which[row])
        ]
        rest = [(f"and {len(lines) - LINES + 1} more", GREY)] if len(lines) > LINES else []
        captions.append(lines[: LINES - len(rest)] + rest)
    return draw_grid(data, captions, [(mark, colour) for mark, (_, colour) in marks.items()])


def draw_grid(data: Dataset, captions: Sequence[Caption], key: Caption | None = None) -> Figure:
    """Draw the first test images, eight in a row, with a caption below each; `key` is a legend above them.

    The captions are as large as the longest line allows, and in the middle where they are no lists with a key.
    All images are copied into one array: one axes draws ten times as fast as one for each image.
    """
    longest = max(len(text) for caption in captions for text, _ in caption)
    size = next((size for size in (14, 11) if longest <= LETTERS // size), 8)
    columns, width, line, letters = 8, 1.35, 0.0175 * size, LETTERS // size  # in inches, and what fits into one line
    rows, lines = -(-len(captions) // columns), max(len(caption) for caption in captions)
    images = [data.x[row].transpose(1, 2, 0) for row, _ in zip(data.split["test"], captions, strict=False)]
    tall, across, channels = images[0].shape
    pixel = width / across  # in inches
    gap, text, top = (math.ceil(inches / pixel) for inches in (0.1, line * (lines + 1), 0.3 if key else 0.1))
    white = 255 if channels > 1 else min(image.min() for image in images)  # grey images are drawn as ink on white
    sheet = np.full((top + rows * (tall + text), gap + columns * (across + gap), channels), white, images[0].dtype)
    high, wide = sheet.shape[0] * pixel, sheet.shape[1] * pixel
    drawn = Figure(figsize=(wide, high))

    def write(text: str, colour: str, x: float, y: float, ha: str = "left") -> None:
        """Write a line at `x` and `y`, in inches from the upper left corner."""
        drawn.text(x / wide, 1 - y / high, shorten(text, letters), color=colour, fontsize=size, ha=ha, va="top",
                   parse_math=False)  # fmt: skip

    for number, (mark, colour) in enumerate(key or []):
        write(mark, colour, (gap + number * (across + gap)) * pixel, 0.08)
    for number, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = gap + number % columns * (across + gap), top + number // columns * (tall + text)
        sheet[y : y + tall, x : x + across] = image
        for place, (words, colour) in enumerate(caption):
            at, ha = (x * pixel, "left") if key else ((x + across / 2) * pixel, "center")
            write(words, colour, at, (y + tall) * pixel + 0.03 + line * place, ha)
    axis = drawn.add_axes((0, 0, 1, 1))
    axis.axis("off")
    axis.imshow(sheet[..., 0] if channels == 1 else sheet, cmap="gray_r" if channels == 1 else None, aspect="auto")
    return drawn
