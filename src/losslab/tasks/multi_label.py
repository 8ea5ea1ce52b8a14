"""Multi-label classification: any number of labels at once."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from losslab.data.dataset import Dataset
from losslab.metrics import (
    average_precision,
    balanced_weights,
    calibration_error,
    f1_scores,
    mean_rows,
    rank,
    spread_weight,
)
from losslab.tasks.base import Reading, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MultiLabel(Task):
    """Any number of L labels at once, 0/1 `(B, L)`.

    Views: `logits` is the scores, `prediction` their sigmoid. A label is predicted where its probability is above one
    half, and rare labels hardly ever are. For the tuned metrics it is predicted above a threshold of its own, the one
    with the best F1 on the validation rows. A model that knows little then predicts many labels, which is what F1
    rewards.
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
    learned: ClassVar = ("thresholds",)
    chance: ClassVar = "each label is as likely as not"
    constant: ClassVar = "giving every row the same scores"
    thresholds: Tensor  # of each label (L,); checkpoints hold them

    def fit(self, data: Dataset, loss: Reading) -> None:
        self.register_buffer("thresholds", torch.full((len(data.outputs),), 0.5))

    def tune(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Return for each label the threshold with the best F1 on these rows, midway between two probabilities.

        Every threshold is tried. The highest of equally good ones counts, and 0.5 for a label that no row has.
        Source: Lipton, Elkan & Narayanaswamy, Optimal Thresholding of Classifiers to Maximize F1, ECML 2014.
        """
        p = scores.sigmoid()
        if weight is not None:
            p = torch.where(weight[:, None] > 0, p, 0)  # no threshold lies beside a row that does not count
        p, hits, predicted = rank(p.T, y.T, weight)
        below = functional.pad(p[:, 1:], (0, 1))
        f1 = torch.where(
            p > below, 2 * hits.to(p.dtype) / (predicted + hits[:, -1:]), 0
        )  # none lies between equal ones
        best, cut = f1.max(-1)
        high, low = (ends.gather(-1, cut[:, None])[:, 0] for ends in (p, below))
        middle = (high + low) / 2
        return {"thresholds": torch.where(best > 0, torch.where(middle < high, middle, low), 0.5)}

    def view(self, scores: Tensor, input: str) -> Tensor:
        return scores.sigmoid() if input == "prediction" else scores

    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        return y.float()

    def balance(self, data: Dataset) -> dict[str, Tensor]:
        return {"pos_weight": balanced_weights(data.targets("train"), data.weights("train"))["pos_weight"]}

    def average_precisions(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
        """Compute the average precision of each label `(L,)`; NaN for a label that no row has."""
        return average_precision(scores.sigmoid().T, y.T, weight)

    def metrics(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        p, every = scores.sigmoid(), spread_weight(weight, scores.shape[1])
        costs = functional.binary_cross_entropy_with_logits(
            scores, y.to(p.dtype), reduction="mean" if weight is None else "none"
        )
        found = {
            "average_precision": average_precision(p.T, y.T, weight).nanmean(),
            "average_precision_micro": average_precision(p.flatten(), y.flatten(), every),
            "log_loss": costs if weight is None else mean_rows(costs, weight),
            "brier": mean_rows((p - y).square(), weight),
            "ece": calibration_error(p.flatten(), y.flatten(), every),  # of all labels together
        }
        for suffix, thresholds in (("", 0.5), ("_tuned", self.thresholds)):
            each, micro = f1_scores(p > thresholds, y, weight, p.dtype)
            found |= {f"f1{suffix}": each.mean(), f"f1_micro{suffix}": micro}
        return found

    def constant_scores(self, data: Dataset) -> Tensor:
        shares = np.average(data.targets("train"), 0, data.weights("train"))
        return torch.from_numpy(shares).float().logit(1e-6)

    def tables(self, data: Dataset, scores: Tensor) -> dict[str, list[dict[str, str]]]:
        """Add the table `labels`: how well each label is predicted, the most frequent one first."""
        p, y, weight = scores.sigmoid(), torch.from_numpy(data.targets("test")), data.weights("test")
        given = None if weight is None else torch.from_numpy(weight)
        columns = {
            "average_precision": self.average_precisions(scores, y, given),
            "prior": y.float().mean(0) if given is None else given @ y.float() / given.sum(),
            "f1": f1_scores(p > 0.5, y, given)[0],
            "threshold": self.thresholds,
            "f1_tuned": f1_scores(p > self.thresholds, y, given)[0],
            "ece": torch.func.vmap(partial(calibration_error, weight=given))(p.T, y.T),
        }
        rows = [
            {"label": data.outputs[label], "rows": str(int(y[:, label].sum()))}
            | {name: "" if column[label].isnan() else f"{column[label]:.4g}" for name, column in columns.items()}
            for label in y.sum(0).argsort(descending=True, stable=True).tolist()
        ]
        return {**super().tables(data, scores), "labels": rows}

    def remark(self, tests: Mapping[str, float]) -> str:
        if not tests["f1_micro"] == 0 < tests["f1_micro_tuned"]:
            return ""
        return (
            "f1 and f1_micro are 0, as no label that a row has gets a probability above 0.5; f1_tuned and "
            "f1_micro_tuned use a threshold for each label, tuned on the validation rows"
        )

    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, "Figure"]:
        from losslab.page import image_grids, pictures

        p, y = self.view(scores, "prediction"), torch.from_numpy(data.targets("test"))
        each = self.average_precisions(scores, y).numpy()
        figures = {
            "average_precision": pictures.draw_average_precisions(each, y.float().mean(0).numpy(), data.outputs),
            "calibration": pictures.draw_reliability(p.numpy().ravel(), y.numpy().ravel()),
        }
        if data.x.ndim == 4:
            figures["samples"] = image_grids.draw_labels(data, self.decide(scores).numpy())
        return figures

    def decide(self, scores: Tensor) -> Tensor:
        return scores.sigmoid() > 0.5

    def axis(self, data: Dataset, views: set[str]) -> str:
        return f"score of the label{' (its opposite has 0)' if len(data.outputs) > 1 else ''}"
