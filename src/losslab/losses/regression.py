"""Losses of numbers. Shapes: N rows, D outputs, H scores per target."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from losslab.losses.contract import RowLoss
from losslab.losses.numerics import smallest_normal


class SumOfSquaresLoss(RowLoss):
    """Sum-of-squares error: the mean over rows of `sum over outputs of (input - target)^2 / 2`.

    Shapes: input and target `(N, D)`; one value per row. Source: Bishop, Pattern Recognition and Machine Learning,
    2006, equation 5.14, there without the mean.

    >>> SumOfSquaresLoss()(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    tensor(2.5000)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.reduce((input - target).square().sum(-1)) / 2


class LogCoshLoss(RowLoss):
    """Log-cosh: the mean of `log cosh(input - target)`, about d^2 / 2 near 0 and |d| - log 2 far from it.

    Shapes: input and target `(N, D)`; one value per row and output. Source: Keras' `LogCosh`.

    >>> LogCoshLoss()(torch.tensor([[1e4]]), torch.tensor([[0.0]]))
    tensor(9999.3066)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        far = (input - target).abs()
        return self.reduce(far + functional.softplus(-2 * far) - math.log(2))


class MSLELoss(RowLoss):
    """Mean squared logarithmic error: the mean of `(log(1 + max(input, 0)) - log(1 + target))^2`.

    Shapes: input and target `(N, D)` in the data's units, targets of at least 0; one value per row and output.
    An input below 0 counts as 0 and has no gradient. Source: Keras' `MeanSquaredLogarithmicError`.

    >>> MSLELoss()(torch.tensor([[0.0]]), torch.tensor([[torch.e - 1]]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(input.clamp(min=0).log1p(), target.log1p(), reduction=self.reduction)


class RMSLELoss(nn.Module):
    """Root mean squared logarithmic error: the square root of `MSLELoss` over the batch.

    Shapes: input and target `(N, D)` in the data's units, targets of at least 0; one number per batch. A perfect batch
    has the gradient 0, where the gradient of the root alone is infinite. Source: as for `MSLELoss`.

    >>> RMSLELoss()(torch.tensor([[0.0]]), torch.tensor([[torch.e - 1]]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        squared = functional.mse_loss(input.clamp(min=0).log1p(), target.log1p())
        return squared.clamp(min=smallest_normal(squared)).sqrt()


class MAPELoss(RowLoss):
    """Mean absolute percentage error: 100 times the mean of `|input - target| / |target|`.

    Shapes: input and target `(N, D)` in the data's units, no target 0; one value per row and output, in percent.
    Source: Keras' `MeanAbsolutePercentageError`.

    >>> MAPELoss()(torch.tensor([[110.0], [180.0]]), torch.tensor([[100.0], [200.0]]))
    tensor(10.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return 100 * self.reduce((input - target).abs() / target.abs())


class SMAPELoss(RowLoss):
    """Symmetric mean absolute percentage error: 100 times the mean of `2 |input - target| / (|input| + |target|)`.

    Shapes: input and target `(N, D)` in the data's units; one value per row and output, in percent, at most 200. It is
    0 if both are 0. Source: Makridakis, Accuracy measures, International Journal of Forecasting, 1993.

    >>> SMAPELoss()(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    tensor(100.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        both = input.abs() + target.abs()
        return 200 * self.reduce((input - target).abs() / both.clamp(min=smallest_normal(both)))


class TweedieLoss(RowLoss):
    """Tweedie deviance of power p: the mean of `2 [y^(2-p) / ((1-p)(2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p)]`.

    Shapes: input m `(N, D)`, rates above 0; target y `(N, D)`, at least 0; one value per row and output.

    Args:
        power: between 1, the deviance of a Poisson distribution, and 2, that of a gamma distribution.

    Source: Jorgensen, The Theory of Dispersion Models, 1997; scikit-learn's `mean_tweedie_deviance`.

    >>> TweedieLoss()(torch.tensor([[4.0]]), torch.tensor([[0.0]]))
    tensor(8.)
    """

    def __init__(self, power: float = 1.5) -> None:
        super().__init__()
        self.power = power

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        one, two = 1 - self.power, 2 - self.power
        constant = target**two / (one * two)
        return 2 * self.reduce(constant - target * input**one / one + input**two / two)


class QuantileLoss(RowLoss):
    """Pinball loss: the mean over rows, outputs and levels q of `max(q (target - input), (q - 1) (target - input))`.

    Shapes: input `(N, D, H)`, a score for each level; target `(N, D)`; one value per row, output and level.

    Args:
        levels: between 0 and 1. Each score learns the quantile of its level; the one nearest 0.5 is the prediction.

    Source: Koenker & Bassett, Regression Quantiles, Econometrica 1978.

    >>> QuantileLoss([0.1, 0.9])(torch.zeros(1, 1, 2), torch.ones(1, 1))
    tensor(0.5000)
    """

    levels: Tensor

    def __init__(self, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)
        self.scores_per_target = len(levels)
        self.prediction_index = min(range(len(levels)), key=lambda index: abs(levels[index] - 0.5))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        below = target[..., None] - input
        levels = self.levels.to(below.dtype)
        return self.reduce(torch.maximum(levels * below, (levels - 1) * below))


class GaussianNLLLoss(RowLoss):
    """Negative log-likelihood of a Gaussian: the mean of `(log v + (target - m)^2 / v) / 2`, without its constant.

    Shapes: input `(N, D, 2)`: the mean m, and s with `v = softplus(s) + eps`; target `(N, D)`; one value per row and
    output.

    Args:
        eps: the smallest variance, in squared standard deviations of the training targets.

    Source: Nix & Weigend, Estimating the Mean and Variance of the Target Probability Distribution, 1994.

    >>> GaussianNLLLoss(eps=0.0)(torch.tensor([[[0.0, 0.5413]]]), torch.tensor([[2.0]]))
    tensor(2.0000)
    """

    scores_per_target = 2

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        mean, variance = input[..., 0], functional.softplus(input[..., 1]) + self.eps
        return self.reduce(variance.log() + (target - mean).square() / variance) / 2

    def deviation(self, input: Tensor) -> Tensor:
        """Return the standard deviation that scores `(N, D, 2)` predict `(N, D)`."""
        return (functional.softplus(input[..., 1]) + self.eps).sqrt()


class CosineSimilarityLoss(RowLoss):
    """Cosine distance: the mean over rows of `1 - cos(input, target)`.

    Shapes: input and target `(N, D)`; one value per row, from 0 to 2. The cosine of a row of zeros is 0, and its
    gradient that of `input . target / |target|`: a cosine's own would be without bounds.

    Raises:
        ValueError: for one output. Its only directions are up and down, so nothing can be learned.

    Source: torch.nn.CosineEmbeddingLoss for similar pairs; Keras' `CosineSimilarity` is this minus 1.

    >>> CosineSimilarityLoss()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if input.shape[-1] < 2:
            raise ValueError("it compares directions, so it needs at least two outputs; this data has one")
        nowhere = (input == 0).all(-1, keepdim=True)
        cosine = functional.cosine_similarity(torch.where(nowhere, target.detach(), input), target, dim=-1)
        towards = (input * functional.normalize(target, dim=-1)).sum(-1)
        return self.reduce(1 - torch.where(nowhere[..., 0], towards, cosine))
