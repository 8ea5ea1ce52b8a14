"""Truth: the canonical form of a target. A task's YAML names it, and readers of data look at nothing else.

| `truth` | canonical target |
|---|---|
| `numbers` | float32 `(N, D)` |
| `class` | int64 `(N,)`, the index of the class |
| `labels` | int64 0/1 `(N, L)` |
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from losslab.config.catalogue import TRUTHS
from losslab.errors import Refused

LOST = 0.01  # of a target's standard deviation may be rounded away
DIGITS = 4  # of the number to subtract


def find_truth(task: str, truth: str | None = None) -> str:
    """Return the truth of a task.

    Args:
        truth: what the task's YAML says; may be left out for losslab's own tasks.

    Raises:
        Refused: if it is none of `TRUTHS`, or left out for a task of the user's own.

    >>> find_truth("regression"), find_truth("ordinal", "class")
    ('numbers', 'class')
    """
    known = {name: truth for truth, name in TRUTHS.items()}
    found = known.get(task) if truth is None else truth
    if found is None:
        raise Refused(
            f"the data does not say what the targets of task={task} are: write truth: ${{task.truth}} into the "
            "data's YAML and truth: numbers, class or labels into the task's"
        )
    if found not in TRUTHS:
        raise Refused(f"truth: {found} of task={task} does not fit: write truth: numbers, class or labels")
    return found


def to_canonical(y: NDArray[Any], truth: str) -> tuple[NDArray[Any], int]:
    """Return targets in canonical form, and how many outputs they need.

    Args:
        y: numbers `(N,)` or `(N, D)`; class indices `(N,)`; or 0 and 1 `(N, L)`.

    Raises:
        Refused: if the shape is another, or a class or label is not a whole number.

    >>> to_canonical(np.array([2.0, 0.0, 1.0]), "class")
    (array([2, 0, 1]), 3)
    """
    if y.dtype.kind not in "biuf":
        raise Refused(f"the targets hold {y.flat[0]!r}, but truth: {truth} needs numbers: return an array of numbers")
    if truth == "numbers":
        y = to_single(y.reshape(len(y), -1), "a target")
        return y, y.shape[1]
    dimensions, shape, what = (1, "(N,)", "the index of its class") if truth == "class" else (2, "(N, L)", "0 and 1")
    if y.ndim != dimensions:
        raise Refused(f"the targets have the shape {y.shape}, but truth: {truth} needs {shape}: reshape them")
    if len(odd := y[y != np.round(y)]):
        raise Refused(f"the targets hold {odd[0]:g}, but truth: {truth} needs whole numbers: give each row {what}")
    y = y.astype(np.int64)
    return y, y.shape[1] if truth == "labels" else int(y.max()) + 1


def to_single(y: NDArray[Any], name: str) -> NDArray[np.float32]:
    """Return targets `(N, D)` in single precision; messages name them.

    Raises:
        Refused: if they vary so little around a large number that rounding takes more than 1 % of their spread, or are
            too small.

    >>> to_single(np.array([[1e9], [1e9 + 1]]), "data.target=t")
    Traceback (most recent call last):
    losslab.errors.Refused: data.target=t varies by 1 around 1000000000, ...
    """
    with np.errstate(all="ignore"):  # NaN and infinity are refused elsewhere
        single: NDArray[np.float32] = y.astype(np.float32)
        for own, rounded in zip(y.T, single.T, strict=True):
            if 0 < (most := float(np.abs(own).max())) < np.finfo(np.float32).tiny:
                raise Refused(
                    f"{name} is at most {most:.3g}, which single precision cannot hold: multiply all of its values by "
                    f"{10.0 ** -np.floor(np.log10(most)):.0e}"
                )
            if own.dtype != np.float32 and np.abs(rounded - own).mean() > LOST * own.std() > 0:
                middle = f"{own.mean():.{DIGITS}g}"
                raise Refused(
                    f"{name} varies by {np.ptp(own):.3g} around {float(middle):.0f}, which single precision cannot "
                    f"tell apart: subtract {float(middle):.0f} from all of its values"
                )
    return single


def stratify(y: NDArray[Any], truth: str) -> NDArray[np.int64] | None:
    """Return what a split keeps in proportion: the class; the rarest of a row's labels; nothing for numbers.

    >>> stratify(np.array([[1, 1], [1, 0], [0, 0]]), "labels")
    array([1, 0, 2])
    """
    if truth == "class":
        return y
    if truth == "labels":
        frequency = y.sum(0)
        rarest: NDArray[np.int64] = np.where(y.any(1), np.where(y > 0, frequency, len(y) + 1).argmin(1), y.shape[1])
        return rarest
    return None
