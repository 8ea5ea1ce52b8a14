"""What a task is: everything in which one kind of target differs from another."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from losslab.data.dataset import Array, Dataset
from losslab.metrics import one_hot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SPAN = 4.0  # a card moves a score from -SPAN to SPAN


class Reading(Protocol):
    """What a task asks of a loss: which view of the scores it wants, and what its scores of a target mean.

    Attributes:
        input: the view.
        scores_per_target: how many scores it wants for each target.
        prediction_index: which of these is the prediction.
        parts: the losses of a weighted sum, by name.
    """

    input: str
    scores_per_target: int
    prediction_index: int

    @property
    def parts(self) -> Mapping[str, Any]:
        """The losses that are added up, by name; none where it is a single one."""


def write_number(value: float) -> str:
    """Write a number with six digits, or with all before the point where it has more.

    >>> write_number(222289.31), write_number(12345678.9), write_number(0.123456789), write_number(1e-9)
    ('222289', '12345679', '0.123457', '1e-09')
    """
    return f"{value:.0f}" if 1e6 <= abs(value) < 1e15 else f"{value:.6g}"


class Task(nn.Module, ABC):
    """A kind of target: what its losses may ask for, how it is evaluated, and how it is shown to people.

    A task of your own needs `better`, `view`, `encode` and `metrics`. Everything else follows from `truth`, unless you
    write it too.

    Args:
        name: the task's name.
        truth: the canonical form of its targets: `numbers` float32 `(B, D)`, `class` int64 `(B,)`, or `labels` int64
            0/1 `(B, L)`. Whoever reads data looks here.
        inputs: the views of the scores that it offers.
        targets: the forms of the target that it offers.
        yardstick: the primary metric: it chooses the best epoch, drives plateau schedules and compares runs.
        mode: `min` or `max`, whichever is better.
    """

    better: ClassVar[dict[str, str]]  # each metric, and whether `min` or `max` is better
    learned: ClassVar[tuple[str, ...]] = ()  # the buffers that `tune` returns
    chance: ClassVar[str] = ""  # what scores of 0 predict for a card's examples, in words
    constant: ClassVar[str] = ""  # what `constant_scores` predict, in words

    def __init__(self, name: str, truth: str, inputs: list[str], targets: list[str], yardstick: str, mode: str) -> None:
        super().__init__()
        self.name, self.truth, self.inputs, self.targets = name, truth, inputs, targets
        self.yardstick, self.mode = yardstick, mode

    # Training and evaluation

    def fit(self, data: Dataset, loss: Reading) -> None:
        """Learn what views and targets need from the training targets, and how the loss reads the scores."""

    def balance(self, data: Dataset) -> dict[str, Tensor]:
        """Return what `balanced` stands for in a loss's key: a weight for each class or label."""
        return {}

    def count_scores(self, outputs: int, loss: Reading) -> int:
        """Return how many scores the model gives each row of data with so many targets, classes or labels."""
        return outputs * loss.scores_per_target

    @abstractmethod
    def view(self, scores: Tensor, input: str) -> Tensor:
        """Return the scores `(B, S)` as the loss wants them."""

    @abstractmethod
    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        """Return canonical targets as the loss wants them, in the units of the view `input`."""

    @abstractmethod
    def metrics(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Compute every metric over all rows at once, from raw scores `(N, S)` and canonical targets.

        A weight `(N,)` is given where the data have weights, and never all 0: a row counts as many as it says. A task
        that does not take it refuses such data.
        """

    def try_metrics(self, data: Dataset, loss: Reading) -> dict[str, Tensor]:
        """Compute the metrics of two training rows whose scores are 0: which there are depends on the data."""
        y = torch.from_numpy(data.targets("train")[:2])
        weight = () if data.weight is None else (torch.ones(len(y)),)
        return self.metrics(torch.zeros(len(y), self.count_scores(len(data.outputs), loss)), y, *weight)

    def tune(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Return the buffers to learn from all validation rows, before these are evaluated."""
        return {}

    def translate(self, scores: Tensor, other: "Task") -> Tensor:
        """Return the scores by which this task predicts what `other`, fitted with another loss, does by `scores`."""
        return scores

    def constant_scores(self, data: Dataset) -> Tensor | None:
        """Return the scores `(S,)` of the best prediction that looks at no input; `None` if that is not known.

        A run whose primary metric is no better has learnt nothing.
        """
        return None

    # What people read

    def estimate(self, scores: Tensor) -> Tensor:
        """Return the value of each target, or the probability of each class or label `(N, outputs)`."""
        return self.view(scores, "prediction" if "prediction" in self.inputs else self.inputs[0])

    def decide(self, scores: Tensor) -> Tensor:
        """Return the canonical targets that are predicted; labels may come as booleans."""
        estimate = self.estimate(scores)
        if self.truth == "class":
            return estimate.argmax(1)
        return estimate > 0.5 if self.truth == "labels" else estimate

    def mark(self, decided: Tensor, outputs: int) -> Tensor | None:
        """Return which classes or labels are predicted `(N, outputs)`, by what `decide` returns; `None` for numbers."""
        if self.truth == "numbers":
            return None
        return one_hot(decided, outputs) > 0 if self.truth == "class" else decided

    def columns(self, data: Dataset, loss: Reading, scores: Tensor) -> dict[str, Tensor]:
        """Return the columns of a table of predictions, each `(N,)`."""
        return dict(zip(data.outputs, self.estimate(scores).unbind(1), strict=True))

    def describe(self, data: Dataset, y: Tensor) -> list[str]:
        """Write canonical targets in words."""
        if self.truth == "numbers":
            return [", ".join(write_number(value) for value in row) for row in y.tolist()]
        names = data.outputs
        if self.truth == "class":
            return [names[index] for index in y.tolist()]
        return ["{" + ", ".join(n for n, on in zip(names, row, strict=True) if on) + "}" for row in y.tolist()]

    def sample(self, data: Dataset, scores: Tensor, count: int = 24) -> list[dict[str, str]]:
        """Return the first test rows, each with its true and its predicted target in words."""
        rows = data.split["test"][:count]
        true = self.describe(data, torch.from_numpy(data.y[rows]))
        predicted = self.describe(data, self.decide(scores[:count]))
        titles = [data.titles[row] if data.titles else str(row) for row in rows]
        return [
            {"row": title, "true": one, "predicted": other}
            for title, one, other in zip(titles, true, predicted, strict=True)
        ]

    def tables(self, data: Dataset, scores: Tensor) -> dict[str, list[dict[str, str]]]:
        """Return tables of the test rows, whose scores are given in order: a list of rows for each."""
        return {"samples": self.sample(data, scores)}

    def remark(self, tests: Mapping[str, float]) -> str:
        """Explain what surprises in the test metrics; nothing if nothing does."""
        return ""

    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, "Figure"]:
        """Draw the test rows, whose scores are given in order."""
        return {}

    # What a card draws; see losslab.card

    def examples(self) -> list[Array]:
        """Return targets by which a card shows a loss; the next ones serve where a loss makes nothing of the first."""
        if self.truth == "class":
            return [np.arange(2)]
        if self.truth == "labels":
            return [np.eye(2, dtype=np.int64)[:, :outputs] for outputs in (1, 2)]
        return [np.array([[2.0] * outputs, [4.0] * outputs], np.float32) for outputs in (1, 2)]

    def sides(self, data: Dataset) -> dict[str, Tensor]:
        """Return the targets of one row `(1, …)` by which a card draws a loss, each with its title."""
        y = torch.from_numpy(data.y)
        if self.truth == "class":
            return {f"{name} is the true class": y[[index]] for index, name in enumerate(data.outputs)}
        if self.truth == "labels":
            return {"the label is there": y[[0]], "the label is not there": y[[1]]}
        return {"": torch.full_like(y[:1], 2.0 + y.shape[1]).double()}  # off the mean where outputs have a direction

    def curves(self, loss: Reading) -> dict[int, str]:
        """Return the scores that a card moves, by column, and what their curves are called."""
        return {0: ""}

    def axis(self, data: Dataset, views: set[str]) -> str:
        """Return what a card's horizontal axis shows, for a loss that asks for these views."""
        return "score 1 of the model" if self.truth == "numbers" else f"score of {data.outputs[0]} (others have 0)"

    def span(self, loss: Reading) -> tuple[float, float]:
        """Return from where to where the axis goes."""
        return -SPAN, SPAN

    def trace(self, loss: Reading, y: Tensor, column: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return one row's scores `(1, S)`, and the values that the one in `column` takes where the axis shows `x`."""
        outputs = y.shape[1] if y.ndim > 1 else len(self.examples()[0])
        return torch.zeros(1, self.count_scores(outputs, loss), dtype=x.dtype), x

    def perfect(self, loss: Reading, data: Dataset) -> Tensor | None:
        """Return scores `(P, N, S)` that predict a card's examples right, if they are known; the best of them count."""
        outputs = len(data.outputs)
        if self.truth == "numbers" or self.count_scores(outputs, loss) != outputs:
            return None
        marks = torch.eye(2, dtype=torch.float64)[:, :outputs]
        sure = torch.linspace(0, 50, 1001, dtype=torch.float64)[:, None, None]
        return torch.cat([sure * marks, sure * (2 * marks - 1)])
