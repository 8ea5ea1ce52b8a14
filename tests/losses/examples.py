"""The losses of the catalogue with small random tasks to try them on; the files of conf/loss are the list."""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from numpy.typing import NDArray
from torch import Tensor, nn

from losslab.config.catalogue import CONF, DESCRIPTIONS, OWN_KEYS, fits, options
from losslab.data.dataset import Dataset
from losslab.losses import Loss
from losslab.tasks import MultiLabel, Regression, SingleLabel, Task

Array = NDArray[Any]
OURS = (*OWN_KEYS["loss"], *DESCRIPTIONS)  # keys that are not the constructor's
LOSSES = options([str(CONF)], "loss")
TASKS = {
    name: {key: value for key, value in file["task"].items() if key not in DESCRIPTIONS}
    for name, file in options([str(CONF)], "task").items()
}
FITTING = [(task, loss) for task in TASKS for loss in LOSSES if fits(TASKS[task], LOSSES[loss])]


@cache
def loss_named(name: str) -> Loss:
    """Make the loss of a file with its defaults."""
    file = LOSSES[name]
    function = instantiate({key: value for key, value in file.items() if key not in OURS}, _convert_="all")
    return Loss(function, file["input"], file["target"], file.get("reduction", "mean"), file.get("per", "row"))


def dataset(y: Array) -> Dataset:
    every = np.arange(len(y))
    rows = dict.fromkeys(("train", "val", "test"), every)
    return Dataset(np.zeros((len(y), 1), np.float32), y, rows, (1,), list("abc"))


def prepared(name: str, rows: int = 16, loss: str = "mse") -> tuple[Task, Tensor, Tensor]:
    """Return a task fitted to small random data and reading scores as the loss does, with such scores and targets."""
    numbers = torch.Generator().manual_seed(0)
    kinds: dict[str, type[Task]] = {"regression": Regression, "single_label": SingleLabel, "multi_label": MultiLabel}
    keys = {key: value for key, value in TASKS[name].items() if key != "_target_"}
    y = {
        "regression": torch.rand(rows, 3, generator=numbers) * 2 + 0.5,
        "single_label": torch.arange(rows) % 3,
        "multi_label": (torch.rand(rows, 3, generator=numbers) > 0.5).long(),
    }[name]
    task = kinds[name](**keys)
    task.fit(dataset(y.numpy()), loss_named(loss))
    scores = torch.randn(rows, 3 * loss_named(loss).scores_per_target, generator=numbers, requires_grad=True)
    return task, scores, y


class Runs(nn.Module):
    """Three runs of a task in double precision: `run` is called with each one's scores, targets and buffers.

    Args:
        name: of the task.
        loss: how the task reads the scores.
    """

    def __init__(self, name: str, loss: str = "mse") -> None:
        super().__init__()
        self.task, scores, y = prepared(name, loss=loss)
        numbers = torch.Generator().manual_seed(1)
        self.scores = torch.randn(3, *scores.shape, generator=numbers, dtype=torch.float64)
        self.y = torch.stack([y, y.roll(1, 0), y.flip(0).roll(1, 1) if y.ndim > 1 else y.flip(0)])
        self.y = self.y.double() if self.y.is_floating_point() else self.y
        self.own = {
            name: buffer * (1 + torch.rand(3, *buffer.shape, generator=numbers, dtype=torch.float64))
            for name, buffer in self.named_buffers()
        }
        self.run: Callable[[Tensor, Tensor], Any] = self.task.metrics

    def forward(self, scores: Tensor, y: Tensor) -> Any:
        return self.run(scores, y)

    def call(self, own: dict[str, Tensor], scores: Tensor, y: Tensor) -> Any:
        return torch.func.functional_call(self, own, (scores, y))

    def together(self, scores: Tensor) -> Any:
        """Call `run` for all three under vmap."""
        return torch.func.vmap(self.call)(self.own, scores, self.y)

    def alone(self, run: int, scores: Tensor) -> Any:
        """Call `run` for one of them."""
        return self.call({name: buffers[run] for name, buffers in self.own.items()}, scores, self.y[run])


exactly = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12, equal_nan=True)


def same(one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Assert that both functions have the same value and gradient at x."""
    results = []
    for function in (one, other):
        at = x.clone().requires_grad_()
        found = function(at)
        torch.autograd.backward(found)
        results.append((found.detach(), at.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-9)
