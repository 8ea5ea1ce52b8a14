"""The contract of a loss, and weighted sums of losses."""

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from losslab.errors import Refused

if TYPE_CHECKING:
    from losslab.tasks import Task


class RowLoss(nn.Module):
    """Base of the losses that have a value for each row, or for each row and output.

    As in torch.nn, the attribute `reduction` decides what `forward` returns: the `mean` of these values, or with
    `none` the values themselves.
    """

    reduction: str = "mean"

    def reduce(self, values: Tensor) -> Tensor:
        """Return the mean of the values, or the values where `reduction` is `none`."""
        return values.mean() if self.reduction == "mean" else values


class Loss(nn.Module):
    """A loss function, the view of the model's scores that it reads, and the form of the target.

    The function is a module of two tensors and a pure function of them; its parameters, if any, are trained too. It
    returns a value for each row `(B,)`, or for each row and output `(B, D)`, whose mean is the loss. It may also return
    one number, which is then the loss. If it has torch's attribute `reduction`, that is read as in torch.nn.

    A function that needs several scores per target has the attributes `scores_per_target` and `prediction_index`, which
    says which of them is the prediction; its `input` is `heads`.

    Args:
        function: that module.
        input: the view: `logits`, `prediction`, `log_prediction`, `values`, `rate`, `heads`, or another of the task's.
        target: the form: `index`, `one_hot`, `labels`, `dense`, or another of the task's.
        reduction: `mean` or `sum` over the outputs; it is always the mean over rows.
        per: `row`, or `batch` if the loss is a property of the whole batch, such as Dice, and has no value for a row.

    >>> Loss(nn.L1Loss(), "prediction", "dense")(torch.zeros(2, 3), torch.ones(2, 3))
    tensor(1.)
    >>> Loss(nn.L1Loss(), "prediction", "dense", reduction="sum")(torch.zeros(2, 3), torch.ones(2, 3))
    tensor(3.)
    """

    def __init__(self, function: nn.Module, input: str, target: str, reduction: str = "mean", per: str = "row") -> None:
        super().__init__()
        self.function, self.input, self.target, self.reduction, self.per = function, input, target, reduction, per
        self.scores_per_target = int(getattr(function, "scores_per_target", 1))
        self.prediction_index = int(getattr(function, "prediction_index", 0))
        self.parts: dict[str, Loss] = {}  # see Sum

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a view and a form of the target, as one number.

        Raises:
            ValueError: if their shapes do not fit.
        """
        self.check_shapes(input, target)
        loss: Tensor = self.function(input, target)
        if not isinstance(loss, Tensor) or loss.ndim:
            self.check_values(loss, input)
            loss = loss.mean()
        return loss * input.shape[1] if self.reduction == "sum" else loss

    def compute(self, task: "Task", scores: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss of raw scores and canonical targets, as one number in single precision or better.

        With a weight `(B,)` for each row it is the mean over the rows of `w l`, and not `sum(w l) / sum(w)` of the
        batch. The weights of all training rows have a mean of 1, so over a whole part both are the same, and the
        gradient of a random batch is on average that of all rows, as with rows that stand there w times. Divided by
        its own weights, a row would count more in a batch of light rows than in one of heavy ones.
        Source: Keras' `sample_weight` with `sum_over_batch_size`.

        Raises:
            ValueError: with weights, if the loss has no value for a row; see `rows`.
        """
        if weight is not None:
            return (self.rows(task, scores, y, weight) * weight).mean()
        return self.forward(*self.read(task, scores, y))

    def rows(self, task: "Task", scores: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the loss of each row `(B,)`, whose mean is what `compute` returns.

        A row's value depends on that row alone, with one exception: torch's cross-entropy with `weight` is a mean over
        weights, so each row is also divided by the batch's mean weight, itself weighted by the rows' own.

        Raises:
            ValueError: if the loss is a property of the batch, or its function returns one number only.
        """
        name = type(self.function).__name__
        if self.per == "batch":
            raise ValueError(f"{name} is a property of the whole batch and has no value for a row")
        input, target = self.read(task, scores, y)
        self.check_shapes(input, target)
        function: Any = copy.copy(self.function)  # shares parameters and buffers
        if hasattr(function, "reduction"):
            function.reduction = "none"
        values: Tensor = function(input, target)
        if values.ndim == 0 or len(values) != len(input):
            raise ValueError(
                f"{name} returned the shape {tuple(values.shape)} for {len(input)} rows: return a value for each row, "
                "or say `per: batch` in its file"
            )
        values = values.flatten(1).mean(1) if values.ndim > 1 else values
        if self.target == "index" and isinstance(function, nn.CrossEntropyLoss | nn.NLLLoss):
            values = values / mean_weight(function, target, weight)
        return values * input.shape[1] if self.reduction == "sum" else values

    def read(self, task: "Task", scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the view of the scores and the form of the targets that the function takes, in one precision."""
        if scores.dtype in (torch.float16, torch.bfloat16):
            scores = scores.float()
        input = task.view(scores, self.input)
        target = task.encode(y, self.target, self.input)
        return input, target.to(input.dtype) if target.is_floating_point() else target

    def check_values(self, values: Any, input: Tensor) -> None:
        """Refuse what is neither a value for each row nor for each row and output: it may come from broadcasting."""
        rows, outputs = tuple(input.shape[:1]), tuple(input.shape[:2])
        shape = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        if shape not in (rows, (*rows, 1), outputs):
            raise ValueError(
                f"{type(self.function).__name__} returned {shape} for input {tuple(input.shape)}: "
                f"return a value for each row {rows}, or for each row and output {outputs}"
            )

    def check_shapes(self, input: Tensor, target: Tensor) -> None:
        """Refuse a target of another shape than the input's; torch would broadcast it and train on the wrong matrix."""
        wanted = input.shape[: 1 if self.target == "index" else -1 if self.input == "heads" else None]
        if target.shape != wanted:
            raise ValueError(
                f"{type(self.function).__name__} got input {tuple(input.shape)} and target {tuple(target.shape)}; "
                f"a target of shape {tuple(wanted)} fits"
            )


class Sum(nn.Module):
    """A weighted sum of losses, each of which reads its own view and form.

    Args:
        parts: the losses by name.
        weights: the factor of each; 1 by default.

    Raises:
        Refused: if the parts read the model's scores differently: `rate` beside another view, or different numbers of
            scores per target.
    """

    def __init__(self, parts: Mapping[str, Loss], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.each = nn.ModuleDict(parts)
        self.parts = dict(parts)
        self.weights = {name: float(weights.get(name, 1.0)) for name in parts}
        self.input = "rate" if any(part.input == "rate" for part in parts.values()) else "prediction"
        self.per = "batch" if any(part.per == "batch" for part in parts.values()) else "row"
        several = {name: part.scores_per_target for name, part in parts.items() if part.input == "heads"}
        if self.input == "rate" and any(part.input != "rate" for part in parts.values()):
            raise Refused("a loss of rates cannot be added to one of other values: the model's scores are logarithms")
        if len(set(several.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in several.items())
            raise Refused(f"these losses want different numbers of scores for a target and cannot be added: {listed}")
        first = next((part for part in parts.values() if part.input == "heads"), None)
        self.scores_per_target = first.scores_per_target if first else 1
        self.prediction_index = first.prediction_index if first else 0

    def compute(self, task: "Task", scores: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the weighted sum of the parts' losses, as one number."""
        total = torch.zeros((), device=scores.device)
        for name, part in self.parts.items():
            total = total + self.weights[name] * part.compute(task, scores, y, weight)
        return total

    def rows(self, task: "Task", scores: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Return the weighted sum of the parts' losses for each row `(B,)`.

        Raises:
            ValueError: if a part has no value for a row.
        """
        total = torch.zeros(len(scores), device=scores.device)
        for name, part in self.parts.items():
            total = total + self.weights[name] * part.rows(task, scores, y, weight)
        return total


def mean_weight(function: nn.CrossEntropyLoss | nn.NLLLoss, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean class weight of the targets, by which torch divides its weighted mean.

    Rows with weights count as many as these say; where all of a batch are 0, it is 1.

    >>> mean_weight(nn.NLLLoss(weight=torch.tensor([1.0, 3.0])), torch.tensor([0, 1]))
    tensor(2.)
    """
    counted = target != function.ignore_index
    weights = counted if function.weight is None else counted * function.weight[target]
    if weight is None:
        return weights.sum() / len(target)
    total = (weights * weight).sum()
    return torch.where(total > 0, total / weight.sum(), 1.0)
