"""What the tests of tasks share."""

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from losslab.tasks import MultiLabel, Task
from tests.losses.examples import dataset


def tune(task: Task, scores: Tensor, y: Tensor) -> None:
    """Learn from validation rows, as a run does."""
    for name, value in task.tune(scores, y).items():
        setattr(task, name, value)


def labels(y: Tensor) -> MultiLabel:
    """Return a task for these labels."""
    task = MultiLabel("multi_label", "labels", [], [], "average_precision", "max")
    data = dataset(y.numpy())
    data.outputs = [f"label {i}" for i in range(y.shape[1])]
    task.fit(data, None)  # type: ignore[arg-type]
    return task


def bin_errors(p: NDArray[np.float64], y: NDArray[np.int64], bins: int = 15) -> float:
    """Compute the expected calibration error by its definition, bin by bin."""
    total = 0.0
    for b in range(bins):
        inside = (p >= b / bins) & ((p < (b + 1) / bins) | (b == bins - 1))
        if inside.any():
            total += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    return total
