"""Test problems without features: a point that moves shows what a loss or an optimizer does by itself."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from losslab.data.dataset import Array, Dataset
from losslab.losses import RowLoss


class Point(nn.Module):
    """A model whose parameters are its prediction, the same for every row.

    Args:
        shape: of one input; ignored.
        outputs: the number of targets.
        start: the initial values: a number for each target, or one for all.
        through: a matrix `(outputs, outputs)` that maps parameters to predictions; `None` for the identity.

    >>> Point((1,), 2, start=[3.0, 4.0])(torch.zeros(1, 1))
    tensor([[3., 4.]], grad_fn=<ExpandBackward0>)
    """

    through: Tensor | None

    def __init__(
        self, shape: Sequence[int], outputs: int, start: float | Sequence[float] = 1.0, through: Array | None = None
    ) -> None:
        super().__init__()
        begin = torch.as_tensor(start, dtype=torch.float32)
        if begin.numel() not in (1, outputs):
            raise ValueError(f"model.start has {begin.numel()} numbers, but there are {outputs} targets")
        self.at = nn.Parameter(begin.reshape(-1).expand(outputs).clone())
        matrix = None if through is None else torch.tensor(through, dtype=torch.float32)
        self.register_buffer("through", matrix, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        at = self.at if self.through is None else self.through @ self.at
        return at.expand(len(x), -1)


def numbers(values: Sequence[float], *, task: str, seed: int) -> Dataset:
    """Make a dataset of one row of numbers to predict, the same in every part and not standardised."""
    every = dict.fromkeys(("train", "val", "test"), np.arange(1))
    names = [f"number {i}" for i in range(len(values))]
    y = np.array([values], np.float32)
    return Dataset(np.zeros((1, 1), np.float32), y, every, (1,), names, standardise=False)


def root_of_hessian() -> Array:
    """Compute a square root L of the Hessian `Q = L' L` of DeepOBS' `quadratic_deep`.

    Q has 90 eigenvalues drawn from U(0, 1) and 10 from U(30, 60). Its random rotation comes from the subgroup
    algorithm, one random reflection per dimension.

    Sources: Schneider, Balles & Hennig, DeepOBS, ICLR 2019; Diaconis & Shahshahani, The Subgroup Algorithm for
    Generating Uniform Random Variables, 1987.
    """
    random = np.random.RandomState(42)  # as DeepOBS draws them
    eigenvalues = np.concatenate([random.uniform(0, 1, 90), random.uniform(30, 60, 10)])
    angle = 2 * np.pi * random.uniform()
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    for size in range(3, 101):
        direction = random.normal(size=size)
        mirror = np.eye(size)[0] - direction / np.linalg.norm(direction)
        mirror /= np.linalg.norm(mirror)
        larger = np.eye(size)
        larger[1:, 1:] = rotation
        rotation = larger - 2 * np.outer(mirror, mirror @ larger)
    root: Array = np.sqrt(eigenvalues)[:, None] * -rotation
    return root


def quadratic(*, task: str, seed: int) -> Dataset:
    """Make DeepOBS' `quadratic_deep` a regression: targets `L x` for 1,000 samples x of N(0, 0.6^2), 100 dimensions.

    Half the squared error of the prediction `L theta` is then `(theta - x)' Q (theta - x) / 2`. As published, the
    test rows are the first 896 of 1,000 (whole batches of 128); validation rows are drawn in the same way.

    Source: Schneider, Balles & Hennig, DeepOBS: A Deep Learning Optimizer Benchmark Suite, ICLR 2019.
    """
    sizes = {"train": 1000, "test": 896, "val": 896}
    drawn = [np.random.RandomState(42 + i).normal(0, 0.6, (1000, 100))[:n] for i, n in enumerate(sizes.values())]
    y = (np.concatenate(drawn) @ root_of_hessian().T).astype(np.float32)
    ends = np.cumsum([0, *sizes.values()])
    rows = {part: np.arange(start, end) for part, start, end in zip(sizes, ends, ends[1:], strict=False)}
    return Dataset(
        np.zeros((len(y), 1), np.float32), y, rows, (1,), [f"dimension {i}" for i in range(100)], standardise=False
    )


class ZeroOneLoss(RowLoss):
    """Zero-one loss: the share of inputs that differ from the target when rounded, one minus accuracy.

    Shapes: input and target `(N, D)`; one value per row and output. Its gradient is 0 everywhere, so nothing can be
    learned from it: an experiment shows that beside a loss that can.

    >>> ZeroOneLoss()(torch.tensor([[1.2, 2.0]]), torch.tensor([[1.0, 3.0]]))
    tensor(0.5000)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.reduce((input.round() != target).to(input.dtype) + 0 * input)
