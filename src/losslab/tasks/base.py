"""What a task is: everything in which one kind of target differs from another."""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar, Protocol

import torch
from torch import Tensor, nn

from losslab.data.dataset import Dataset

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Reading(Protocol):
    """How a loss reads the model's scores: the view, how many scores a target has, and which of them predicts it."""

    input: str
    scores_per_target: int
    prediction_index: int


class Task(nn.Module, ABC):
    """What all tasks have: the lists that the front door reads, and the metric that judges a run.

    Args:
        name: the task's name.
        truth: the canonical form of its targets: `numbers` float32 `(B, D)`, `class` int64 `(B,)`, or `labels` int64
            0/1 `(B, L)`. Whoever reads data looks here.
        inputs: the views of the scores that it offers.
        targets: the forms of the target that it offers.
        yardstick: the metric that chooses the best epoch, drives plateau schedules and compares runs.
        mode: `min` or `max`, whichever is better.
    """

    better: ClassVar[dict[str, str]]  # each metric, and whether `min` or `max` is better

    def __init__(self, name: str, truth: str, inputs: list[str], targets: list[str], yardstick: str, mode: str) -> None:
        super().__init__()
        self.name, self.truth, self.inputs, self.targets = name, truth, inputs, targets
        self.yardstick, self.mode = yardstick, mode

    def fit(self, data: Dataset, loss: Reading) -> None:
        """Learn what views and targets need from the training targets, and how the loss reads the scores."""

    def balance(self, data: Dataset) -> dict[str, Tensor]:
        """What `balanced` stands for in a loss's key: the weight of each class, or of each label that is there."""
        return {}

    @abstractmethod
    def view(self, scores: Tensor, input: str) -> Tensor:
        """The scores `(B, outputs)` as the loss wants them."""

    @abstractmethod
    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        """The canonical target as the loss wants it, to stand beside the view `input`."""

    @abstractmethod
    def metrics(self, scores: Tensor, y: Tensor) -> dict[str, Tensor]:
        """Every metric of the task, over all rows at once: raw scores `(N, outputs)`, canonical targets."""

    @abstractmethod
    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, "Figure"]:
        """The task's figures of the test rows, whose scores are given in order."""

    def tuned(self, scores: Tensor, y: Tensor) -> dict[str, Tensor]:
        """The buffers that are learned from all validation rows, before these are judged; none in most tasks."""
        return {}

    def tables(self, data: Dataset, scores: Tensor) -> dict[str, list[dict[str, str]]]:
        """The task's tables of the test rows, whose scores are given in order: a list of rows for each."""
        return {"samples": self.sample(data, scores)}

    def sample(self, data: Dataset, scores: Tensor, count: int = 24) -> list[dict[str, str]]:
        """The first test rows, each with its true and its predicted target in words."""
        rows = data.split["test"][:count]
        named = zip(rows, self.words(data, torch.from_numpy(data.y[rows])), self.say(data, scores[:count]), strict=True)
        return [
            {"row": data.titles[row] if data.titles else str(row), "true": true, "predicted": predicted}
            for row, true, predicted in named
        ]

    @abstractmethod
    def words(self, data: Dataset, y: Tensor) -> list[str]:
        """Canonical targets in words."""

    @abstractmethod
    def say(self, data: Dataset, scores: Tensor) -> list[str]:
        """Predictions in words."""
