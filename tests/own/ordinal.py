"""Ordered classes, such as stars: a task of one's own, with its loss, its metric, its picture and its data."""

from functools import partial
from typing import ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from losslab.data.dataset import Dataset
from losslab.losses import RowLoss
from losslab.metrics import mean_rows
from losslab.tasks import Reading, Task


def log_shares(cumulative: Tensor) -> Tensor:
    """Return the log-probabilities of K classes `(N, K)` from the rising logits of `P(class <= k)` `(N, K - 1)`.

    `F(b) - F(a) = F(b) F(-a) (1 - exp(a - b))` for the logistic function F, which loses no digits.

    >>> log_shares(torch.tensor([[0.0]])).exp()
    tensor([[0.5000, 0.5000]])
    """
    below, above = functional.logsigmoid(cumulative), functional.logsigmoid(-cumulative)
    gaps = cumulative.diff().clamp(min=torch.finfo(cumulative.dtype).tiny)
    between = (-torch.expm1(-gaps)).log()
    return functional.pad(below, (0, 1)) + functional.pad(above, (1, 0)) + functional.pad(between, (1, 1))


def quadratic_kappa(guess: Tensor, y: Tensor, weight: Tensor | None = None) -> Tensor:
    """Compute quadratic weighted kappa: `1 - mean (guess - y)^2 / mean of that over all pairs of a guess and a y`.

    Shapes: class indices `(N,)`, and weights `(N,)`. It is 1 for perfect agreement and 0 for that of chance.
    Source: Cohen, Weighted Kappa, Psychological Bulletin 1968; scikit-learn's `cohen_kappa_score(weights="quadratic")`.

    >>> quadratic_kappa(torch.tensor([0, 1, 2]), torch.tensor([0, 1, 1]))
    tensor(0.6667)
    """
    guess, y = guess.double(), y.double()  # the difference below would lose digits
    mean = partial(mean_rows, weight=weight)
    by_chance = mean(guess.square()) - 2 * mean(guess) * mean(y) + mean(y.square())
    return (1 - mean((guess - y).square()) / by_chance.clamp(min=1e-12)).float()


class CumulativeLink(RowLoss):
    """Cumulative-link loss: the mean of `-log (F(c_y) - F(c_(y-1)))`, F the logistic function.

    Shapes: input c `(N, K - 1)`, the logits of `P(class <= k)`; target y `(N,)` class indices; one value per row.
    Source: McCullagh, Regression Models for Ordinal Data, JRSS B 1980.

    >>> CumulativeLink()(torch.tensor([[0.0, 0.0]]), torch.tensor([0]))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Return the mean, or a value for each row."""
        return self.reduce(-log_shares(input).gather(1, target[:, None])[:, 0])


class Ordinal(Task):
    """One of K ordered classes: `logit P(class <= k) = (theta_k - f) exp(s)`, a proportional-odds model for each s.

    The model gives two scores: f, where a row lies on a line, and s, how sure that is. The thresholds theta are fixed:
    scores of 0 predict the shares of the classes in the training rows. Source: McCullagh, Regression Models for Ordinal
    Data, JRSS B 1980.

    Views: `cumulative` `(B, K - 1)` is the logits of `P(class <= k)`, `log_prediction` `(B, K)` log-probabilities.
    """

    better: ClassVar = {"kappa": "max", "mae": "min", "accuracy": "max", "log_loss": "min"}
    chance: ClassVar = "all classes are as likely"
    thresholds: Tensor

    def fit(self, data: Dataset, loss: Reading) -> None:
        """Set the thresholds."""
        counts = np.bincount(data.targets("train"), minlength=len(data.outputs)) + 0.5  # a class may have no row
        below = counts.cumsum()[:-1] / counts.sum()
        self.register_buffer("thresholds", torch.tensor(np.log(below / (1 - below)), dtype=torch.float32))

    def count_scores(self, outputs: int, loss: Reading) -> int:
        """Two, however many classes there are."""
        return 2

    def view(self, scores: Tensor, input: str) -> Tensor:
        """Return the view that a loss asks for."""
        cumulative = (self.thresholds - scores[:, :1]) * scores[:, 1:].exp()
        return log_shares(cumulative) if input == "log_prediction" else cumulative

    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        """Return the class index."""
        return y

    def estimate(self, scores: Tensor) -> Tensor:
        """Return the probability of each class."""
        return self.view(scores, "log_prediction").exp()

    def decide(self, scores: Tensor) -> Tensor:
        """Return the class in the middle: half of the probability lies below, half above."""
        return (scores[:, :1] > self.thresholds).sum(1)

    def metrics(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        """Compute kappa, the mean absolute error in classes, accuracy and log loss."""
        guess, log_p = self.decide(scores), self.view(scores, "log_prediction")
        return {
            "kappa": quadratic_kappa(guess, y, weight),
            "mae": mean_rows((guess - y).abs().float(), weight),
            "accuracy": mean_rows((guess == y).float(), weight),
            "log_loss": -mean_rows(log_p.gather(1, y[:, None]), weight),
        }

    def pictures(self, data: Dataset, scores: Tensor) -> dict[str, Figure]:
        """Draw how many test rows are predicted how many classes too high or too low."""
        off = self.decide(scores).numpy() - data.targets("test")
        figure = Figure(figsize=(5.0, 3.0), layout="constrained")
        axis = figure.subplots()
        axis.bar(*np.unique(off, return_counts=True))
        axis.set(xlabel="predicted - true, in classes", ylabel="test rows")
        return {"off_by": figure}

    def axis(self, data: Dataset, views: set[str]) -> str:
        """Say what a card's horizontal axis is."""
        return "place of the row on the line"

    def examples(self) -> list[NDArray[np.int64]]:
        """Draw a card of three classes."""
        return [np.arange(3)]

    def perfect(self, loss: Reading, data: Dataset) -> Tensor:
        """Place each row in the middle of its class, the surer the better."""
        ends = torch.cat([self.thresholds[:1] - 1, self.thresholds, self.thresholds[-1:] + 1])
        place = ((ends[1:] + ends[:-1]) / 2)[torch.from_numpy(data.y)].expand(100, -1)
        sure = torch.linspace(0, 6, 100, dtype=ends.dtype)[:, None].expand_as(place)
        return torch.stack([place, sure], -1)


def read_stars(rows: int = 600) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Draw stars from 0 to 4 that three features and chance decide; few rows have the most or the fewest."""
    random = np.random.default_rng(0)
    x = random.normal(size=(rows, 3))
    liked = x @ [2.0, -1.0, 0.5] + random.logistic(size=rows)
    return x, np.digitize(liked, [-4.0, -1.5, 1.5, 4.0])
