"""Metrics as functions of tensors, exact over all rows at once.

They branch on no value, so that `torch.func.vmap` computes those of many runs in one call. They are written here
because torchmetrics does not run under vmap, and took a fifth of a small run's time. Tests compare each with
scikit-learn.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


def one_hot(index: Tensor, classes: int) -> Tensor:
    """Return class indices `(N,)` as rows of 0 and 1 `(N, C)`; torch's own reads the values, which vmap forbids.

    >>> one_hot(torch.tensor([1, 0]), 3)
    tensor([[0., 1., 0.],
            [1., 0., 0.]])
    """
    return (index[:, None] == torch.arange(classes, device=index.device)).float()


def mean_rows(values: Tensor, weight: Tensor | None) -> Tensor:
    """Compute the mean of values `(N, ...)`, weighted by row: `sum(w v) / sum(w)`, over all outputs.

    >>> mean_rows(torch.tensor([[1.0, 3.0], [8.0, 8.0]]), torch.tensor([3.0, 1.0]))
    tensor(3.5000)
    """
    if weight is None:
        return values.mean()
    return (values.reshape(len(values), -1).mean(1) * weight).sum() / weight.sum()


def spread_weight(weight: Tensor | None, labels: int) -> Tensor | None:
    """Return the weight `(N,)` of each row for each of its labels `(N L,)`, as `flatten` orders them."""
    return None if weight is None else weight[:, None].expand(-1, labels).flatten()


def squared_log_error(values: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute the mean of `(log(1 + max(values, 0)) - log(1 + y))^2`, for targets of at least 0.

    Source: scikit-learn's `mean_squared_log_error`.

    >>> squared_log_error(torch.tensor([[0.0]]), torch.tensor([[torch.e - 1]]))
    tensor(1.)
    """
    values, y = values.clamp(min=0).log1p(), y.log1p()
    return functional.mse_loss(values, y) if weight is None else mean_rows((values - y).square(), weight)


def sum_groups(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Add up the values `(N,)` of each group `(count,)`, given the number of each value's group `(N,)`.

    >>> sum_groups(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2]), 3)
    tensor([1., 0., 6.])
    """
    return torch.zeros(count, dtype=values.dtype, device=values.device).scatter_add(0, groups, values)


class SortKeys(torch.autograd.Function):
    """Turn probabilities into integers whose order is the reverse: the negated bits of numbers that are not negative.

    torch sorts integers up to seven times as fast. torch 2.11 has no rule by which vmap views bits, so here is one.

    >>> SortKeys.apply(torch.tensor([0.2, 0.9, 0.5])).argsort()
    tensor([1, 2, 0])
    """

    @staticmethod
    def forward(p: Tensor) -> Tensor:
        return -p.view(torch.int32 if p.dtype == torch.float32 else torch.int64)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Keep nothing: there is no gradient."""

    @staticmethod
    def vmap(info: Any, dims: tuple[int], p: Tensor) -> tuple[Tensor, int]:
        return SortKeys.forward(p), dims[0]


def rank(p: Tensor, y: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Return probabilities `(..., N)` from high to low, how many of the first k have a `y` (0/1) of 1, and k.

    Rows with weights `(N,)` count as many as their weights say.

    >>> rank(torch.tensor([0.2, 0.9, 0.5]), torch.tensor([1, 1, 0]))
    (tensor([0.9000, 0.5000, 0.2000]), tensor([1, 1, 2]), tensor([1, 2, 3]))
    """
    order = SortKeys.apply(p).argsort(dim=-1)
    if weight is not None:
        each = weight.to(p.dtype).expand_as(p)
        hits, predicted = (values.gather(-1, order).cumsum(-1) for values in (each * y, each))
        return p.gather(-1, order), hits, predicted.clamp(min=torch.finfo(p.dtype).tiny)
    return p.gather(-1, order), y.gather(-1, order).cumsum(-1), torch.arange(1, p.shape[-1] + 1, device=p.device)


def average_precision(p: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute average precision: the sum over thresholds k of `(R_k - R_(k-1)) P_k`, with recall R and precision P.

    Shapes: probabilities `(..., N)`, y, 0/1 `(..., N)`, and weights `(N,)`; the result is `(...)`, NaN where all of y
    is 0. No threshold lies between equal probabilities. Source: scikit-learn's `average_precision_score`.

    >>> average_precision(torch.tensor([[0.9, 0.5, 0.5], [0.9, 0.8, 0.1]]), torch.tensor([[1, 1, 0], [0, 0, 0]]))
    tensor([0.8333,    nan])
    """
    p, hits, predicted = rank(p, y, weight)
    cut = p > functional.pad(p[..., 1:], (0, 1), value=-1)
    before = functional.pad(torch.where(cut, hits, 0)[..., :-1].cummax(-1).values, (1, 0))  # above the last one
    gained = torch.where(cut, hits - before, 0)
    return (gained * (hits.to(p.dtype) / predicted)).sum(-1) / hits[..., -1]


def f1_scores(
    guess: Tensor, y: Tensor, weight: Tensor | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    """Compute F1 of each label `(L,)` and of all decisions together; it is 0 where nothing is true and none predicted.

    Shapes: predictions and y, 0/1 `(N, L)`, and weights `(N,)`. Without weights there are only counts, and `dtype` is
    the precision. Source: scikit-learn's `f1_score`.

    >>> f1_scores(torch.tensor([[1, 1], [1, 0]]), torch.tensor([[1, 0], [0, 0]]))
    (tensor([0.6667, 0.0000]), tensor(0.5000))
    """
    if weight is None:
        hits, both = (guess * y).sum(0), guess.sum(0) + y.sum(0)
        micro = 2 * hits.sum().to(dtype) / both.sum().clamp(min=1)
        return 2 * hits.to(dtype) / both.clamp(min=1), micro
    hits, both = weight @ (guess * y).to(weight.dtype), weight @ (guess.to(weight.dtype) + y)
    least = torch.finfo(weight.dtype).tiny
    return 2 * hits / both.clamp(min=least), 2 * hits.sum() / both.sum().clamp(min=least)


def calibration_error(p: Tensor, y: Tensor, weight: Tensor | None = None, bins: int = 15) -> Tensor:
    """Compute the expected calibration error: the mean over rows of `|mean p - mean y|` in the row's bin of p.

    Shapes: probabilities `(N,)`, y, 0/1 `(N,)`, and weights `(N,)`; the bins have equal width.
    Source: Naeini, Cooper & Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.

    >>> calibration_error(torch.tensor([0.9, 0.9, 0.2]), torch.tensor([1, 0, 0]))
    tensor(0.3333)
    """
    which = (p * bins).long().clamp(0, bins - 1)  # NaN has a bin, too
    off = p - y.to(p.dtype)
    if weight is not None:
        return sum_groups(off * weight, which, bins).abs().sum() / weight.sum()
    return sum_groups(off, which, bins).abs().sum() / len(p)


def balanced_weights(labels: NDArray[Any], weight: NDArray[Any] | None = None) -> dict[str, Tensor]:
    """Compute weights that balance columns of 0 and 1 `(N, C)`, given how often each is 1; none counts as once.

    For n ones in N rows, `weight` is `N / (C n)`, for classes, and `pos_weight` is `(N - n) / n`, for labels. Rows with
    weights `(N,)` count as many as their weights say.
    Source: scikit-learn's `class_weight="balanced"`; torch.nn.BCEWithLogitsLoss.

    >>> balanced_weights(np.array([[1, 0], [1, 0], [1, 0], [0, 1]]))
    {'weight': tensor([0.6667, 2.0000]), 'pos_weight': tensor([0.3333, 3.0000])}
    """
    rows, columns = labels.shape
    counts = np.maximum(labels.sum(0), 1)
    if weight is not None:
        rows, counts = weight.sum(), weight @ labels
        counts = np.where(counts > 0, counts, 1)
    weights = {"weight": rows / (columns * counts), "pos_weight": (rows - counts) / counts}
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in weights.items()}
