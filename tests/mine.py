"""What a user writes to add options of their own; the tests copy it into a folder of its own."""

import numpy as np
from torch import Tensor, nn


class Quartic(nn.Module):
    """The fourth power of the error."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return a value for each row and output; losslab takes their mean."""
        return (input - target) ** 4


def waves() -> tuple[np.ndarray, np.ndarray]:
    """Points on a sine."""
    x = np.linspace(-3, 3, 200)[:, None]
    return x, np.sin(x)


def line(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A linear model of one's own."""
    return nn.Linear(shape[0], outputs)


def tiny(shape: tuple[int, ...], outputs: int) -> nn.Module:
    """A model of one's own."""
    return nn.Sequential(nn.Linear(shape[0], 16), nn.Tanh(), nn.Linear(16, outputs))
