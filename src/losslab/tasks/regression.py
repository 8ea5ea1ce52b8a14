"""Regression: real numbers, judged in the data's own units."""

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from losslab.data.dataset import Dataset
from losslab.metrics import squared_log_error
from losslab.tasks.base import Reading, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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

    def fit(self, data: Dataset, loss: Reading) -> None:
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
            found["msle"] = squared_log_error(values, y)
        return found

    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, "Figure"]:
        from losslab.page import pictures

        y, values = data.targets("test"), self.view(scores, self.units).numpy()
        figures = {"predicted": pictures.draw_predictions(y, values, data.outputs)}
        if data.x.shape[1:] == (1,) and data.y.shape[1] == 1:
            figures["line"] = pictures.draw_fit(data, values)
        return figures

    def words(self, data: Dataset, y: Tensor) -> list[str]:
        return [", ".join(f"{value:.5g}" for value in row) for row in y.tolist()]

    def say(self, data: Dataset, scores: Tensor) -> list[str]:
        return self.words(data, self.view(scores, self.units))
