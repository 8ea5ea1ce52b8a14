"""Small tensor functions that the losses share; each runs under `torch.func.vmap`."""

import torch
from torch import Tensor


def smallest_normal(values: Tensor) -> float:
    """Return the smallest positive normal number of the tensor's type; logarithms and powers are kept above it."""
    return torch.finfo(values.dtype).smallest_normal


def power(base: Tensor, exponent: float) -> Tensor:
    """Compute `base^exponent` for a base of at least 0; the gradient is finite at 0 for every exponent.

    >>> power(torch.tensor([0.0, 4.0]), 0.5)
    tensor([1.0842e-19, 2.0000e+00])
    """
    return base.clamp(min=smallest_normal(base)) ** exponent if exponent else torch.ones_like(base)


def to_signs(labels: Tensor) -> Tensor:
    """Turn labels of 0 and 1 into -1 and 1."""
    return 2 * labels - 1
