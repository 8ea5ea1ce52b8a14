"""Single-label classification: one class out of several."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from losslab.data.dataset import Dataset
from losslab.metrics import balanced_weights, calibration_error, mean_rows, one_hot, sum_groups
from losslab.tasks.base import Reading, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
    chance: ClassVar = "both classes are as likely"
    constant: ClassVar = "predicting the most frequent class of the training rows for every row"

    def view(self, scores: Tensor, input: str) -> Tensor:
        if input == "prediction":
            return scores.softmax(-1)
        return scores.log_softmax(-1) if input == "log_prediction" else scores

    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        return y if target == "index" else one_hot(y, self.classes)

    def fit(self, data: Dataset, loss: Reading) -> None:
        self.classes = len(data.outputs)

    def balance(self, data: Dataset) -> dict[str, Tensor]:
        return balanced_weights(np.eye(len(data.outputs))[data.targets("train")], data.weights("train"))

    def metrics(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        log_p, classes = scores.T.log_softmax(0), scores.shape[1]  # over a short last dimension it is slow
        p, (best, guess) = log_p.exp(), log_p.max(0)
        right, one = (guess == y).long(), torch.ones_like(y) if weight is None else weight
        hits, true, predicted = (sum_groups(*each, classes) for each in ((right * one, y), (one, y), (one, guess)))
        hits, either, least = hits.to(p.dtype), true + predicted, 1 if weight is None else torch.finfo(p.dtype).tiny
        return {
            "accuracy": mean_rows(right.to(p.dtype), weight),
            "balanced_accuracy": (hits / true.clamp(min=least)).sum() / (true > 0).sum(),  # over classes that occur
            "f1": (2 * hits / either.clamp(min=least)).sum() / (either > 0).sum(),  # that occur or are predicted
            "log_loss": -mean_rows(log_p.gather(0, y[None])[0], weight),
            "brier": mean_rows(p.scatter_add(0, y[None], -torch.ones_like(p[:1])).square().sum(0), weight),
            "ece": calibration_error(best.exp(), right, weight),  # of the predicted class
        }

    def constant_scores(self, data: Dataset) -> Tensor:
        shares = np.bincount(data.targets("train"), data.weights("train"), len(data.outputs))
        return torch.from_numpy(shares / shares.sum()).float().clamp(min=1e-9).log()

    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, "Figure"]:
        from losslab.page import image_grids, pictures

        y = data.targets("test")
        figures = {"confusion": pictures.draw_confusion_matrix(y, scores.argmax(1).numpy(), data.outputs)}
        if data.x.ndim == 4:
            figures["samples"] = image_grids.draw_classes(data, self.sample(data, scores))
        return figures

    def decide(self, scores: Tensor) -> Tensor:
        return scores.argmax(1)

    def axis(self, data: Dataset, views: set[str]) -> str:
        return "score of class A (class B has 0)"
