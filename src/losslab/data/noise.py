"""Wrong targets, put in on purpose: to see which losses bear them. The test rows always stay clean."""

import numpy as np
from numpy.typing import NDArray

from losslab.data.dataset import Array, Dataset
from losslab.data.notes import count
from losslab.errors import Refused


def slip_decimals(y: Array, train: NDArray[np.int64], share: float, seed: int, truth: str, task: str) -> list[str]:
    """Multiply a share of the training targets by ten, in place, and return a note of it."""
    rows = np.random.default_rng(seed).permutation(train)[: round(share * len(train))]
    if not len(rows):
        return []
    if truth != "numbers":
        raise Refused(f"data.outliers={share} is for numbers, and task={task} has {truth}: type data.outliers=0")
    y[rows] *= 10
    return [f"{count(len(rows), 'training target')} multiplied by ten (data.outliers={share})"]


def flip_classes(data: Dataset, share: float, seed: int) -> None:
    """Give a share of the training and validation rows another class, in place, drawn evenly from the others.

    That is symmetric label noise. Who has wrong labels has them in the validation rows, too.

    Source: Ghosh et al. 2017.

    Raises:
        Refused: for targets that are no classes.
    """
    if not share:
        return
    if data.y.ndim > 1:
        raise Refused(f"data.label_noise={share} is for classes, and these targets are none: type data.label_noise=0")
    draw = np.random.default_rng([seed, 1])
    data.y = data.y.copy()
    for part in ("train", "val"):
        rows = data.split[part]
        wrong = draw.permutation(rows)[: round(share * len(rows))]
        data.y[wrong] = (data.y[wrong] + draw.integers(1, len(data.outputs), len(wrong))) % len(data.outputs)
        data.notes.append(f"{count(len(wrong), f'{part} label')} made wrong (data.label_noise={share})")
