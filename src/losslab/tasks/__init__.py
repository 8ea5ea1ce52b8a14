"""Regression, single-label and multi-label: everything in which tasks differ.

A task offers views of the model's raw scores and forms of the target; a loss says which of each it wants. A task also
judges: its metrics are the same whatever the loss. Views, forms and metrics are pure functions that look at no value,
so that `torch.func.vmap` judges many runs in one call, each with buffers of its own.
"""

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from losslab.data.dataset import Dataset
from losslab.losses import MSLELoss, one_hot

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from losslab.losses import Loss, Sum


class Task(nn.Module, ABC):
    """What all tasks have: the lists that the front door reads, and the metric that judges a run.

    Args:
        name: the task's name.
        inputs: the views of the scores that it offers.
        targets: the forms of the target that it offers.
        yardstick: the metric that chooses the best epoch, drives plateau schedules and compares runs.
        mode: `min` or `max`, whichever is better.
    """

    better: ClassVar[dict[str, str]]  # each metric, and whether `min` or `max` is better

    def __init__(self, name: str, inputs: list[str], targets: list[str], yardstick: str, mode: str) -> None:
        super().__init__()
        self.name, self.inputs, self.targets = name, inputs, targets
        self.yardstick, self.mode = yardstick, mode

    def fit(self, data: Dataset, loss: "Loss | Sum") -> None:
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


class Regression(Task):
    """Real numbers `(B, D)`, standardised on the training split, so that a learning rate fits any unit.

    Views: `prediction` is the scores, in standard deviations from the training mean; `values` is in the data's units;
    `rate` is in the data's units and above 0, the mean times the exponential of the scores (a loss that asks for it
    makes them logarithms); `heads` `(B, D, H)` is all scores where a loss wants several for each target.
    """

    better: ClassVar = {"rmse": "min", "mse": "min", "mae": "min", "msle": "min", "r2": "max"}
    mean: Tensor
    std: Tensor
    level: Tensor  # what a rate is a multiple of

    def fit(self, data: Dataset, loss: "Loss | Sum") -> None:
        wide = data.targets("train").astype(np.float64)
        mean, spread = wide.mean(0), np.where(wide.std(0) > 0, wide.std(0), 1.0)  # a target may be constant
        if not data.standardise:
            mean, spread = np.zeros_like(mean), np.ones_like(spread)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(spread, dtype=torch.float32))
        self.register_buffer("level", torch.tensor(np.where(mean > 0, mean, 1.0), dtype=torch.float32))
        self.varies = all(len(rows) and np.ptp(data.y[rows], axis=0).all() for rows in data.split.values())
        self.logarithmic = not data.outside(">= 0")
        self.scores_per_target, self.prediction_index = loss.scores_per_target, loss.prediction_index
        self.units = "rate" if loss.input == "rate" else "values"

    def view(self, scores: Tensor, input: str) -> Tensor:
        if input == "heads":
            return scores.reshape(len(scores), -1, self.scores_per_target)
        if self.scores_per_target > 1:
            scores = scores.reshape(len(scores), -1, self.scores_per_target)[..., self.prediction_index]
        if input == "rate":
            return scores.exp() * self.level
        return scores * self.std + self.mean if input == "values" else scores

    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        return y if input in ("values", "rate") else (y - self.mean) / self.std

    def metrics(self, scores: Tensor, y: Tensor) -> dict[str, Tensor]:
        values = self.view(scores, self.units)
        errors = (values - y).square()
        found = {"rmse": errors.mean().sqrt(), "mse": errors.mean(), "mae": (values - y).abs().mean()}
        if self.varies:  # every target, in every part
            found["r2"] = (1 - errors.sum(0) / (y - y.mean(0)).square().sum(0)).mean()  # over the outputs
        if self.logarithmic:  # no target is negative
            found["msle"] = MSLELoss()(values, y)
        return found

    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, "Figure"]:
        from losslab.page import pictures

        y, values = data.targets("test"), self.view(scores, self.units).numpy()
        figures = {"predicted": pictures.predicted_against_true(y, values, data.outputs)}
        if data.x.shape[1:] == (1,) and data.y.shape[1] == 1:
            figures["line"] = pictures.line(data, values)
        return figures

    def words(self, data: Dataset, y: Tensor) -> list[str]:
        return [", ".join(f"{value:.5g}" for value in row) for row in y.tolist()]

    def say(self, data: Dataset, scores: Tensor) -> list[str]:
        return self.words(data, self.view(scores, self.units))


class SingleLabel(Task):
    """One class index `(B,)` out of C.

    Views: `logits` is the scores, `prediction` their softmax, `log_prediction` its logarithm.
    """

    better: ClassVar = {
        "accuracy": "max",
        "balanced_accuracy": "max",
        "f1": "max",
        "log_loss": "min",
        "brier": "min",
        "ece": "min",
    }

    def view(self, scores: Tensor, input: str) -> Tensor:
        if input == "prediction":
            return scores.softmax(-1)
        return scores.log_softmax(-1) if input == "log_prediction" else scores

    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        return y if target == "index" else one_hot(y, self.classes)

    def fit(self, data: Dataset, loss: "Loss | Sum") -> None:
        self.classes = len(data.outputs)

    def balance(self, data: Dataset) -> dict[str, Tensor]:
        return balanced(np.eye(len(data.outputs))[data.targets("train")])

    def metrics(self, scores: Tensor, y: Tensor) -> dict[str, Tensor]:
        log_p, classes = scores.T.log_softmax(0), scores.shape[1]  # over a short last dimension it is slow
        p, (best, guess) = log_p.exp(), log_p.max(0)
        right, one = (guess == y).long(), torch.ones_like(y)
        hits, there, said = (sums(*each, classes) for each in ((right, y), (one, y), (one, guess)))
        hits, either = hits.to(p.dtype), there + said
        return {
            "accuracy": right.to(p.dtype).mean(),
            "balanced_accuracy": (hits / there.clamp(min=1)).sum() / (there > 0).sum(),  # over the classes there are
            "f1": (2 * hits / either.clamp(min=1)).sum() / (either > 0).sum(),  # over those that are there or are said
            "log_loss": -log_p.gather(0, y[None]).mean(),
            "brier": p.scatter_add(0, y[None], -torch.ones_like(p[:1])).square().sum(0).mean(),
            "ece": calibration_error(best.exp(), right),  # of the class that is said
        }

    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, "Figure"]:
        from losslab.page import pictures

        y = data.targets("test")
        figures = {"confusion": pictures.confusion_matrix(y, scores.argmax(1).numpy(), data.outputs)}
        if data.x.ndim == 4:
            figures["samples"] = pictures.image_grid(data, self.sample(data, scores))
        return figures

    def words(self, data: Dataset, y: Tensor) -> list[str]:
        return [data.outputs[i] for i in y.tolist()]

    def say(self, data: Dataset, scores: Tensor) -> list[str]:
        return self.words(data, scores.argmax(1))


class MultiLabel(Task):
    """Any number of L labels at once, 0/1 `(B, L)`.

    Views: `logits` is the scores, `prediction` their sigmoid. `f1` takes a label for predicted where that is above one
    half. The tuned metrics, and predictions in words and pictures, do so above the label's own threshold, which had the
    best F1 on the validation rows: above one half, rare labels would hardly ever be said. A model that knows little
    says many labels then, which is what F1 rewards.
    """

    better: ClassVar = {
        "average_precision": "max",
        "average_precision_micro": "max",
        "f1": "max",
        "f1_micro": "max",
        "f1_tuned": "max",
        "f1_micro_tuned": "max",
        "log_loss": "min",
        "brier": "min",
        "ece": "min",
    }
    thresholds: Tensor  # of each label (L,); they travel in the checkpoint

    def fit(self, data: Dataset, loss: "Loss | Sum") -> None:
        self.register_buffer("thresholds", torch.full((len(data.outputs),), 0.5))

    def tuned(self, scores: Tensor, y: Tensor) -> dict[str, Tensor]:
        """For each label the threshold with the best F1 on these rows, midway between two neighbouring probabilities.

        Exact: every cut is tried. The highest of equally good ones is kept, and 0.5 for a label that no row has.
        Source: Lipton, Elkan & Narayanaswamy, Optimal Thresholding of Classifiers to Maximize F1, ECML 2014.
        """
        p, hits, said = ranked(scores.sigmoid().T, y.T)
        below = functional.pad(p[:, 1:], (0, 1))
        f1 = torch.where(p > below, 2 * hits / (said + hits[:, -1:]), 0)  # no threshold parts equal probabilities
        best, cut = f1.max(-1)
        high, low = (ends.gather(-1, cut[:, None])[:, 0] for ends in (p, below))
        middle = (high + low) / 2
        return {"thresholds": torch.where(best > 0, torch.where(middle < high, middle, low), 0.5)}

    def view(self, scores: Tensor, input: str) -> Tensor:
        return scores.sigmoid() if input == "prediction" else scores

    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        return y.float()

    def balance(self, data: Dataset) -> dict[str, Tensor]:
        return {"pos_weight": balanced(data.targets("train"))["pos_weight"]}

    def average_precisions(self, scores: Tensor, y: Tensor) -> Tensor:
        """Average precision of each label `(L,)`; NaN for a label that no row has."""
        return average_precision(scores.sigmoid().T, y.T)

    def metrics(self, scores: Tensor, y: Tensor) -> dict[str, Tensor]:
        p = scores.sigmoid()
        found = {
            "average_precision": average_precision(p.T, y.T).nanmean(),
            "average_precision_micro": average_precision(p.flatten(), y.flatten()),
            "log_loss": functional.binary_cross_entropy_with_logits(scores, y.to(p.dtype)),
            "brier": (p - y).square().mean(),
            "ece": calibration_error(p.flatten(), y.flatten()),  # of all decisions of all labels
        }
        for suffix, thresholds in (("", 0.5), ("_tuned", self.thresholds)):
            each, micro = f1_scores(p > thresholds, y)
            found |= {f"f1{suffix}": each.mean(), f"f1_micro{suffix}": micro}
        return found

    def tables(self, data: Dataset, scores: Tensor) -> dict[str, list[dict[str, str]]]:
        """Also `labels`: how each label is predicted, the most frequent one first."""
        p, y = scores.sigmoid(), torch.from_numpy(data.targets("test"))
        columns = {
            "average_precision": self.average_precisions(scores, y),
            "prior": y.float().mean(0),
            "f1": f1_scores(p > 0.5, y)[0],
            "threshold": self.thresholds,
            "f1_tuned": f1_scores(p > self.thresholds, y)[0],
            "ece": torch.func.vmap(calibration_error)(p.T, y.T),
        }
        rows = [
            {"label": data.outputs[label], "rows": str(int(y[:, label].sum()))}
            | {name: "" if column[label].isnan() else f"{column[label]:.4g}" for name, column in columns.items()}
            for label in y.sum(0).argsort(descending=True, stable=True).tolist()
        ]
        return {**super().tables(data, scores), "labels": rows}

    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, "Figure"]:
        from losslab.page import pictures

        p, y = self.view(scores, "prediction"), torch.from_numpy(data.targets("test"))
        each = self.average_precisions(scores, y).numpy()
        figures = {
            "average_precision": pictures.per_label(each, y.float().mean(0).numpy(), data.outputs),
            "calibration": pictures.reliability(p.numpy().ravel(), y.numpy().ravel()),
        }
        if data.x.ndim == 4:
            figures["samples"] = pictures.label_grid(data, (p > self.thresholds).numpy())
        return figures

    def words(self, data: Dataset, y: Tensor) -> list[str]:
        names = data.outputs
        return ["{" + ", ".join(n for n, on in zip(names, row, strict=True) if on) + "}" for row in y.tolist()]

    def say(self, data: Dataset, scores: Tensor) -> list[str]:
        return self.words(data, scores.sigmoid() > self.thresholds)


def sums(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """The sum of the values `(N,)` of each group `(count,)`, whose number `(N,)` stands beside them.

    >>> sums(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([0, 2, 2]), 3)
    tensor([1., 0., 6.])
    """
    return torch.zeros(count, dtype=values.dtype, device=values.device).scatter_add(0, groups, values)


class Keys(torch.autograd.Function):
    """Integers in the reverse order of probabilities: the bits of numbers that are not negative, negated.

    torch sorts them up to seven times as fast. The rule for vmap is here because torch 2.11 has none for bits.

    >>> Keys.apply(torch.tensor([0.2, 0.9, 0.5])).argsort()
    tensor([1, 2, 0])
    """

    @staticmethod
    def forward(p: Tensor) -> Tensor:
        return -p.view(torch.int32 if p.dtype == torch.float32 else torch.int64)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept: there is no gradient."""

    @staticmethod
    def vmap(info: Any, dims: tuple[int], p: Tensor) -> tuple[Tensor, int]:
        return Keys.forward(p), dims[0]


def ranked(p: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Probabilities `(..., N)` from high to low, how many of the first k `y` (0/1) are 1, and k.

    >>> ranked(torch.tensor([0.2, 0.9, 0.5]), torch.tensor([1, 1, 0]))
    (tensor([0.9000, 0.5000, 0.2000]), tensor([1, 1, 2]), tensor([1, 2, 3]))
    """
    order = Keys.apply(p).argsort(dim=-1)
    return p.gather(-1, order), y.gather(-1, order).cumsum(-1), torch.arange(1, p.shape[-1] + 1, device=p.device)


def average_precision(p: Tensor, y: Tensor) -> Tensor:
    """Average precision: the sum over cuts k of `(R_k - R_(k-1)) P_k`, recall and precision of what is above the cut.

    Shapes: probabilities `(..., N)` and what came true, 0/1 `(..., N)`; the result is `(...)`, NaN where nothing came
    true. No cut parts equal probabilities. Source: scikit-learn's `average_precision_score`.

    >>> average_precision(torch.tensor([[0.9, 0.5, 0.5], [0.9, 0.8, 0.1]]), torch.tensor([[1, 1, 0], [0, 0, 0]]))
    tensor([0.8333,    nan])
    """
    p, hits, said = ranked(p, y)
    cut = p > functional.pad(p[..., 1:], (0, 1), value=-1)
    before = functional.pad(torch.where(cut, hits, 0)[..., :-1].cummax(-1).values, (1, 0))  # hits above the last cut
    gained = torch.where(cut, hits - before, 0)
    return (gained * (hits.to(p.dtype) / said)).sum(-1) / hits[..., -1]


def f1_scores(guess: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """F1 of each label `(L,)`, and that of all decisions together; 0 where there is nothing to find and none is found.

    >>> f1_scores(torch.tensor([[1, 1], [1, 0]]), torch.tensor([[1, 0], [0, 0]]))
    (tensor([0.6667, 0.0000]), tensor(0.5000))
    """
    hits, both = (guess * y).sum(0), guess.sum(0) + y.sum(0)
    return 2 * hits / both.clamp(min=1), 2 * hits.sum() / both.sum().clamp(min=1)


def calibration_error(p: Tensor, y: Tensor, bins: int = 15) -> Tensor:
    """Expected calibration error: the mean over decisions of `|mean p - share of y|` in the decision's bin of p.

    Shapes: probabilities `(N,)` and what came true, 0/1 `(N,)`; the bins are of equal width.
    Source: Naeini, Cooper & Hauskrecht, Obtaining Well Calibrated Probabilities Using Bayesian Binning, AAAI 2015.

    >>> calibration_error(torch.tensor([0.9, 0.9, 0.2]), torch.tensor([1, 0, 0]))
    tensor(0.3333)
    """
    which = (p * bins).long().clamp(0, bins - 1)  # a probability that is no number has a bin, too
    return sums(p - y.to(p.dtype), which, bins).abs().sum() / len(p)


def balanced(labels: NDArray[Any]) -> dict[str, Tensor]:
    """Weights that make up for how often each column of 0 and 1 `(N, C)` is 1; a column without any counts one.

    `weight` is `N / (C n)`, for classes, and `pos_weight` `(N - n) / n`, for labels that are there, n times of N.
    Source: scikit-learn's `class_weight="balanced"`; torch.nn.BCEWithLogitsLoss.

    >>> balanced(np.array([[1, 0], [1, 0], [1, 0], [0, 1]]))
    {'weight': tensor([0.6667, 2.0000]), 'pos_weight': tensor([0.3333, 3.0000])}
    """
    rows, columns = labels.shape
    there = np.maximum(labels.sum(0), 1)
    weights = {"weight": rows / (columns * there), "pos_weight": (rows - there) / there}
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in weights.items()}
