"""Regression: real numbers, evaluated in the data's own units."""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from losslab.data.dataset import Dataset
from losslab.metrics import mean_rows, squared_log_error
from losslab.tasks.base import SPAN, Reading, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from losslab.page.pictures import Interval


NORMAL = 1.2815515655446004  # standard deviations on either side of the mean, between which 80 % of a normal lie


class Regression(Task):
    """Real numbers `(B, D)`, standardised on the training rows, so that one learning rate fits any unit.

    Views: `prediction` is the scores, in standard deviations from the training mean. `values` is the same in the data's
    units. `rate` is in the data's units and above 0, the mean times the exponential of the scores: a loss that asks for
    it makes the scores logarithms. `heads` `(B, D, H)` is all scores of a target where a loss wants several.
    """

    better: ClassVar = {"rmse": "min", "mse": "min", "mae": "min", "msle": "min", "r2": "max"}
    chance: ClassVar = "3 is predicted for the targets 2 and 4"
    constant: ClassVar = "predicting the mean of the training targets for every row"
    mean: Tensor
    std: Tensor
    level: Tensor  # a rate is a multiple of it

    def fit(self, data: Dataset, loss: Reading) -> None:
        wide = data.targets("train").astype(np.float64)
        weight = data.weights("train")
        if weight is None:
            mean, spread = wide.mean(0), wide.std(0)
        else:
            mean = np.average(wide, 0, weight)
            spread = np.sqrt(np.average((wide - mean) ** 2, 0, weight))
        spread = np.where(spread > 0, spread, 1.0)  # a target may be constant
        if not data.standardise:
            mean, spread = np.zeros_like(mean), np.ones_like(spread)
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(spread, dtype=torch.float32))
        self.register_buffer("level", torch.tensor(np.where(mean > 0, mean, 1.0), dtype=torch.float32))
        counted = data.y if data.weight is None else np.where(data.weight[:, None] > 0, data.y, np.nan)
        self.varies = all(
            len(rows) and (np.nanmax(counted[rows], 0) > np.nanmin(counted[rows], 0)).all()
            for rows in data.split.values()
        )
        self.logarithmic = not data.outside(">= 0")
        self.scores_per_target, self.prediction_index = loss.scores_per_target, loss.prediction_index
        self.units = "rate" if loss.input == "rate" else "values"
        levels, self.deviation = offered(loss, "levels"), offered(loss, "deviation")
        self.levels = None if levels is None else levels.tolist()

    def view(self, scores: Tensor, input: str) -> Tensor:
        if input == "heads":
            return scores.reshape(scores.shape[0], -1, self.scores_per_target)
        if self.scores_per_target > 1:
            scores = scores.reshape(scores.shape[0], -1, self.scores_per_target)[..., self.prediction_index]
        if input == "rate":
            return scores.exp() * self.level
        return scores * self.std + self.mean if input == "values" else scores

    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        return y if input in ("values", "rate") else (y - self.mean) / self.std

    def metrics(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        values = self.view(scores, self.units)
        errors = (values - y).square()
        mse = mean_rows(errors, weight)
        found = {"rmse": mse.sqrt(), "mse": mse, "mae": mean_rows((values - y).abs(), weight)}
        if self.varies:  # every target in every part of the split
            if weight is None:
                unexplained = errors.sum(0) / (y - y.mean(0)).square().sum(0)
            else:
                each = weight[:, None]
                off = y - (each * y).sum(0) / each.sum()
                unexplained = (each * errors).sum(0) / (each * off.square()).sum(0)
            found["r2"] = (1 - unexplained).mean()  # over the outputs
        if self.logarithmic:  # no target is negative
            found["msle"] = squared_log_error(values, y, weight)
        return found

    def constant_scores(self, data: Dataset) -> Tensor:
        return torch.zeros(len(data.outputs) * self.scores_per_target)

    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, "Figure"]:
        from losslab.page import pictures

        y, values = data.targets("test"), self.view(scores, self.units).numpy()
        interval = self.interval(scores)
        figures = {"predicted": pictures.draw_predictions(y, values, data.outputs, interval)}
        if data.x.shape[1:] == (1,) and data.y.shape[1] == 1:
            figures["line"] = pictures.draw_fit(data, values, interval)
        return figures

    def interval(self, scores: Tensor) -> "Interval | None":
        """Return the interval of each target that the scores state: between the outer levels, or 80 % of a normal."""
        from losslab.page.pictures import Interval

        if self.scores_per_target == 1:
            return None
        each = self.view(scores, "heads")
        if self.deviation is not None:
            middle, reach = self.view(scores, "values"), NORMAL * self.deviation(each).cpu() * self.std
            return Interval((middle - reach).numpy(), (middle + reach).numpy(), 0.8)
        if self.levels is None or len(self.levels) < 2:
            return None
        low, high = (each[..., head] * self.std + self.mean for head in (0, -1))
        return Interval(low.numpy(), high.numpy(), self.levels[-1] - self.levels[0])

    def estimate(self, scores: Tensor) -> Tensor:
        return self.view(scores, self.units)

    def columns(self, data: Dataset, loss: Reading, scores: Tensor) -> dict[str, Tensor]:
        """Also the quantile of each level, or the standard deviation, where the loss has several scores of a target."""
        found = super().columns(data, loss, scores)
        if loss.scores_per_target == 1:
            return found
        each, levels, deviation = self.view(scores, "heads"), offered(loss, "levels"), offered(loss, "deviation")
        more: dict[str, Tensor] = {}  # (N, D)
        if deviation is not None:
            more["standard deviation"] = deviation(each) * self.std
        elif levels is not None:
            quantiles = each * self.std[:, None] + self.mean[:, None]
            more = {f"quantile {level:g}": quantiles[..., head] for head, level in enumerate(levels.tolist())}
        return found | {
            f"{name}, {what}": column
            for what, values in more.items()
            for name, column in zip(data.outputs, values.unbind(1), strict=True)
        }

    def translate(self, scores: Tensor, other: Task) -> Tensor:
        assert isinstance(other, Regression)
        if self.scores_per_target > 1:  # the same loss
            return scores
        values = other.estimate(scores)
        if self.units == "rate":
            return (values / self.level).clamp(min=1e-6).log()  # a rate is above 0
        return self.encode(values, "dense", "prediction")

    def curves(self, loss: Reading) -> dict[int, str]:
        """The outermost scores of a target, and that of its prediction."""
        if loss.scores_per_target == 1:
            return {0: ""}
        shown, levels = sorted({0, loss.prediction_index, loss.scores_per_target - 1}), offered(loss, "levels")
        if levels is None:
            return {head: f"score {head + 1} of {loss.scores_per_target}" for head in shown}
        return {head: f"level {float(levels[head]):g}" for head in shown}

    def axis(self, data: Dataset, views: set[str]) -> str:
        if len(data.outputs) > 1:
            return "error in standard deviations (the other output has none)"
        unit = "the data's units (target 3)" if views & {"values", "rate"} else "standard deviations"
        return f"{'score' if 'heads' in views else 'prediction'} - target, in {unit}"

    def span(self, loss: Reading) -> tuple[float, float]:
        return -2.7 if loss.input == "rate" else -SPAN, SPAN  # near a rate of 0 its logarithm has no end

    def trace(self, loss: Reading, y: Tensor, column: int, x: Tensor) -> tuple[Tensor, Tensor]:
        held = self.right(loss, y)
        return held, ((y[0, 0] + x) / self.level[0]).log() if loss.input == "rate" else held[0, column] + x

    def perfect(self, loss: Reading, data: Dataset) -> Tensor | None:
        return self.right(loss, torch.from_numpy(data.y).double())[None]

    def right(self, loss: Reading, y: Tensor) -> Tensor:
        """Return scores that predict `y` `(N, D)`: all scores of a target where they are levels, else just one."""
        score = (y / self.level).log() if loss.input == "rate" else (y - self.mean) / self.std
        predicts = torch.arange(loss.scores_per_target) == loss.prediction_index
        return (score[..., None] * (predicts | (offered(loss, "levels") is not None))).flatten(1)


def offered(loss: Reading, name: str) -> Any:
    """Return what the function of a loss, or of the first part of a sum that has it, offers by this name.

    `levels` are those of quantiles; `deviation(scores)` is a standard deviation, in the units of training.
    """
    functions = (getattr(part, "function", None) for part in (loss, *loss.parts.values()))
    return next((found for each in functions if (found := getattr(each, name, None)) is not None), None)
