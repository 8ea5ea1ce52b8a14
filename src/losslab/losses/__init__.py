"""The contract of a loss, a weighted sum of losses, and the losses that torch.nn lacks or has in a form that overflows.

Below the contract, each class is a pure function of `input` and `target`, the mean over samples and outputs unless it
says otherwise. Shapes: N samples, D outputs, C classes, L labels, H heads.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from losslab.errors import Refused
from losslab.metrics import one_hot

if TYPE_CHECKING:
    from losslab.tasks import Task


class Loss(nn.Module):
    """A loss, the view of the model's scores that it wants, and the form of the target.

    Args:
        function: a module of two tensors that returns one number, the mean over samples and outputs unless its YAML
            says otherwise. It is a pure function of them; its parameters, if any, are trained too. It may have
            `heads`, the scores that it wants of the model for each target, and `point`, which of them is the
            prediction.
        input: the view: `logits`, `prediction`, `log_prediction`, `values`, `rate` or `heads`.
        target: the form: `index`, `one_hot`, `labels` or `dense`.
        reduction: `mean` over outputs, or their `sum`; always the mean over samples.

    Raises:
        ValueError: where the target has another shape than the input has (`heads` aside), or does not hold one class
            index per row (`index`). Torch would broadcast them instead, and train on the wrong matrix.

    >>> Loss(nn.L1Loss(), "prediction", "dense")(torch.zeros(2, 3), torch.ones(2, 3))
    tensor(1.)
    >>> Loss(nn.L1Loss(), "prediction", "dense", reduction="sum")(torch.zeros(2, 3), torch.ones(2, 3))
    tensor(3.)
    """

    def __init__(self, function: nn.Module, input: str, target: str, reduction: str = "mean") -> None:
        super().__init__()
        self.function, self.input, self.target, self.reduction = function, input, target, reduction
        self.heads = int(getattr(function, "heads", 1))
        self.point = int(getattr(function, "point", 0))
        self.parts: dict[str, Loss] = {}  # see Sum

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        wanted = input.shape[: 1 if self.target == "index" else -1 if self.input == "heads" else None]
        if target.shape != wanted:
            raise ValueError(
                f"{type(self.function).__name__} got input {tuple(input.shape)} and target {tuple(target.shape)}; "
                f"a target of shape {tuple(wanted)} fits"
            )
        loss: Tensor = self.function(input, target)
        return loss * input.shape[-1] if self.reduction == "sum" else loss

    def of(self, task: "Task", scores: Tensor, y: Tensor) -> Tensor:
        """The loss of the model's raw scores against canonical targets, in single precision at least."""
        if scores.dtype in (torch.float16, torch.bfloat16):
            scores = scores.float()
        input = task.view(scores, self.input)
        target = task.encode(y, self.target, self.input)
        return self.forward(input, target.to(input.dtype) if target.is_floating_point() else target)


class Sum(nn.Module):
    """A weighted sum of losses, each on the view and form that it wants.

    Args:
        parts: the losses by name.
        weights: the factor of each; 1 where none is given.

    Raises:
        Refused: where the parts read the model's scores differently: `rate` beside another view, or other heads.
    """

    def __init__(self, parts: Mapping[str, Loss], weights: Mapping[str, float]) -> None:
        super().__init__()
        self.each = nn.ModuleDict(parts)
        self.parts = dict(parts)
        self.weights = {name: float(weights.get(name, 1.0)) for name in parts}
        self.input = "rate" if any(part.input == "rate" for part in parts.values()) else "prediction"
        heads = {name: part.heads for name, part in parts.items() if part.input == "heads"}
        if self.input == "rate" and any(part.input != "rate" for part in parts.values()):
            raise Refused("a loss of rates cannot be added to one of other values: the model's scores are logarithms")
        if len(set(heads.values())) > 1:
            listed = ", ".join(f"{name} {count}" for name, count in heads.items())
            raise Refused(f"these losses want different numbers of scores for a target and cannot be added: {listed}")
        first = next((part for part in parts.values() if part.input == "heads"), None)
        self.heads, self.point = (first.heads, first.point) if first else (1, 0)

    def of(self, task: "Task", scores: Tensor, y: Tensor) -> Tensor:
        """The weighted sum of what the parts make of the scores."""
        total = torch.zeros((), device=scores.device)
        for name, part in self.parts.items():
            total = total + self.weights[name] * part.of(task, scores, y)
        return total


def tiny(values: Tensor) -> float:
    """The smallest positive normal number of the tensor's type: what a logarithm or a power is kept above."""
    return torch.finfo(values.dtype).tiny


def signs(labels: Tensor) -> Tensor:
    """Labels of 0 and 1 as -1 and 1."""
    return 2 * labels - 1


# Regression


class SumOfSquaresLoss(nn.Module):
    """Sum-of-squares error: the mean over samples of `sum over outputs of (input - target)^2 / 2`.

    Shapes: input and target `(N, D)`; the result is one number. Source: Bishop, Pattern Recognition and Machine
    Learning, 2006, equation 5.14, there without the mean.

    >>> SumOfSquaresLoss()(torch.tensor([[1.0, 2.0]]), torch.zeros(1, 2))
    tensor(2.5000)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return (input - target).square().sum(-1).mean() / 2


class LogCoshLoss(nn.Module):
    """Log-cosh: the mean of `log cosh(input - target)`, about d^2 / 2 near 0 and |d| - log 2 far from it.

    Shapes: input and target `(N, D)`; the result is one number. Source: Keras' `LogCosh`.

    >>> LogCoshLoss()(torch.tensor([[1e4]]), torch.tensor([[0.0]]))
    tensor(9999.3066)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        far = (input - target).abs()
        return (far + functional.softplus(-2 * far) - math.log(2)).mean()


class MSLELoss(nn.Module):
    """Mean squared logarithmic error: the mean of `(log(1 + max(input, 0)) - log(1 + target))^2`.

    Shapes: input and target `(N, D)`, in the data's own units, targets of at least 0; the result is one number.
    Below 0 the input counts as 0 and has no gradient. Source: Keras' `MeanSquaredLogarithmicError`.

    >>> MSLELoss()(torch.tensor([[0.0]]), torch.tensor([[torch.e - 1]]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(input.clamp(min=0).log1p(), target.log1p())


class RMSLELoss(MSLELoss):
    """Root mean squared logarithmic error: the square root of `MSLELoss` over the batch.

    Shapes and source: as there. A perfect batch has no gradient, where the root's own would be infinite.

    >>> RMSLELoss()(torch.tensor([[0.0]]), torch.tensor([[torch.e - 1]]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        squared = super().forward(input, target)
        return squared.clamp(min=tiny(squared)).sqrt()


class MAPELoss(nn.Module):
    """Mean absolute percentage error: 100 times the mean of `|input - target| / |target|`.

    Shapes: input and target `(N, D)`, in the data's own units, no target 0; the result is in percent.
    Source: Keras' `MeanAbsolutePercentageError`.

    >>> MAPELoss()(torch.tensor([[110.0], [180.0]]), torch.tensor([[100.0], [200.0]]))
    tensor(10.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return 100 * ((input - target).abs() / target.abs()).mean()


class SMAPELoss(nn.Module):
    """Symmetric mean absolute percentage error: 100 times the mean of `2 |input - target| / (|input| + |target|)`.

    Shapes: input and target `(N, D)`, in the data's own units; the result is in percent, at most 200. Where both are 0
    it is 0. Source: Makridakis, Accuracy measures, International Journal of Forecasting, 1993.

    >>> SMAPELoss()(torch.tensor([[1.0]]), torch.tensor([[3.0]]))
    tensor(100.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        both = input.abs() + target.abs()
        return 200 * ((input - target).abs() / both.clamp(min=tiny(both))).mean()


class TweedieLoss(nn.Module):
    """Tweedie deviance of power p: the mean of `2 [y^(2-p) / ((1-p)(2-p)) - y m^(1-p) / (1-p) + m^(2-p) / (2-p)]`.

    Shapes: input m `(N, D)`, rates above 0; target y `(N, D)`, at least 0; the result is one number.

    Args:
        power: between 1, where it would be Poisson's deviance, and 2, where it would be the gamma distribution's.

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
        return 2 * (constant - target * input**one / one + input**two / two).mean()


class QuantileLoss(nn.Module):
    """Pinball loss: the mean over samples, outputs and levels q of `max(q (target - input), (q - 1) (target - input))`.

    Shapes: input `(N, D, H)`, a score for each level; target `(N, D)`; the result is one number.

    Args:
        levels: between 0 and 1; each head learns the quantile of its level, the one nearest 0.5 is the prediction.

    Source: Koenker & Bassett, Regression Quantiles, Econometrica 1978.

    >>> QuantileLoss([0.1, 0.9])(torch.zeros(1, 1, 2), torch.ones(1, 1))
    tensor(0.5000)
    """

    levels: Tensor

    def __init__(self, levels: Sequence[float] = (0.1, 0.5, 0.9)) -> None:
        super().__init__()
        self.register_buffer("levels", torch.tensor(levels, dtype=torch.float32), persistent=False)
        self.heads = len(levels)
        self.point = min(range(len(levels)), key=lambda head: abs(levels[head] - 0.5))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        below = target[..., None] - input
        levels = self.levels.to(below.dtype)
        return torch.maximum(levels * below, (levels - 1) * below).mean()


class GaussianNLLLoss(nn.Module):
    """Negative log-likelihood of a Gaussian: the mean of `(log v + (target - m)^2 / v) / 2`, without its constant.

    Shapes: input `(N, D, 2)`: the mean m, and s of `v = softplus(s) + eps`; target `(N, D)`; the result is one number.

    Args:
        eps: the least variance, in squared standard deviations of the training targets.

    Source: Nix & Weigend, Estimating the Mean and Variance of the Target Probability Distribution, 1994.

    >>> GaussianNLLLoss(eps=0.0)(torch.tensor([[[0.0, 0.5413]]]), torch.tensor([[2.0]]))
    tensor(2.0000)
    """

    heads = 2

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        mean, variance = input[..., 0], functional.softplus(input[..., 1]) + self.eps
        return (variance.log() + (target - mean).square() / variance).mean() / 2


class CosineSimilarityLoss(nn.Module):
    """Cosine distance: the mean over samples of `1 - cos(input, target)`, the angle between the rows.

    Shapes: input and target `(N, D)`; the result is one number, 0 to 2. A row of zeros has the cosine 0.

    Raises:
        ValueError: for one output, whose only directions are up and down, so that nothing can be learned.

    Source: torch.nn.CosineEmbeddingLoss for similar pairs; Keras' `CosineSimilarity` is this minus 1.

    >>> CosineSimilarityLoss()(torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if input.shape[-1] < 2:
            raise ValueError("it compares directions, so it needs at least two outputs; this data has one")
        return (1 - functional.cosine_similarity(input, target, dim=-1)).mean()


# Single-label


class KLDivLoss(nn.Module):
    """Kullback-Leibler divergence: the mean over samples of `sum over classes of target (log target - input)`.

    Shapes: input `(N, C)`, log-probabilities; target `(N, C)`, probabilities; the result is one number. Against
    one-hot targets it is cross-entropy. torch.nn.KLDivLoss(reduction="batchmean") is the same, but does not run
    batched under vmap. Source: Kullback & Leibler, On Information and Sufficiency, 1951.

    >>> KLDivLoss()(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        each: Tensor = torch.special.xlogy(target, target) - target * input
        return each.sum(-1).mean()


class FocalLoss(nn.Module):
    """Focal loss: the mean of `-weight (1 - p)^gamma log p`, where `p = softmax(input)[target]`.

    Shapes: input `(N, C)` logits, target `(N,)` class indices; the result is one number. `gamma = 0` is
    cross-entropy.

    Args:
        gamma: how much less a sample counts that is already right.
        weight: of each class `(C,)`; the mean is over samples, not over weights.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, whose alpha is `weight` here.

    >>> FocalLoss(gamma=2.0)(torch.zeros(1, 2), torch.tensor([0])) / torch.log(torch.tensor(2.0))
    tensor(0.2500)
    """

    weight: Tensor | None

    def __init__(self, gamma: float = 2.0, weight: Tensor | None = None) -> None:
        super().__init__()
        self.gamma = gamma
        self.register_buffer("weight", weight, persistent=False)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        log_p = input.log_softmax(-1).gather(-1, target[:, None])[:, 0]
        loss = -power(-log_p.expm1(), self.gamma) * log_p
        return (loss if self.weight is None else loss * self.weight[target]).mean()


class PolyLoss(nn.Module):
    """Poly-1 loss: the mean of `-log p + epsilon (1 - p)`, where `p = softmax(input)[target]`.

    Shapes: input `(N, C)` logits, target `(N,)` class indices; the result is one number. `epsilon = 0` is
    cross-entropy.

    Args:
        epsilon: by how much the first coefficient of cross-entropy's expansion in `1 - p` is raised.

    Source: Leng et al., PolyLoss, ICLR 2022.

    >>> PolyLoss(epsilon=2.0)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(1.6931)
    """

    def __init__(self, epsilon: float = 2.0) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        log_p = input.log_softmax(-1).gather(-1, target[:, None])[:, 0]
        return (-log_p - self.epsilon * log_p.expm1()).mean()


class GeneralizedCrossEntropyLoss(nn.Module):
    """Generalized cross-entropy: the mean of `(1 - p^q) / q`, where `log p = input[target]`.

    Shapes: input `(N, C)` log-probabilities, target `(N,)` class indices; the result is one number. It nears
    cross-entropy as q nears 0, and is `1 - p`, half the absolute error, at `q = 1`.

    Args:
        q: above 0 and at most 1; the larger, the less a wrongly labelled sample counts.

    Source: Zhang & Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, 2018.

    >>> GeneralizedCrossEntropyLoss(q=1.0)(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([0]))
    tensor(0.7500)
    """

    def __init__(self, q: float = 0.7) -> None:
        super().__init__()
        self.q = q

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        log_p = input.gather(-1, target[:, None])[:, 0]
        return -(self.q * log_p).expm1().mean() / self.q


class SquareLoss(nn.Module):
    """Square loss on raw scores: the mean over samples and classes of `k (input - m)^2` (true class) or `input^2`.

    Shapes: input `(N, C)` logits, target `(N, C)` one-hot; the result is one number.

    Args:
        k: the weight of the true class.
        m: the score that the true class is to reach, M in the paper. With many classes (over 42 there) both are
            raised, such as to k = 1, m = 15 or k = 15, m = 30.

    Source: Hui & Belkin, Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy, ICLR 2021.

    >>> SquareLoss(k=1.0, m=1.0)(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    tensor(2.5000)
    """

    def __init__(self, k: float = 1.0, m: float = 1.0) -> None:
        super().__init__()
        self.k, self.m = k, m

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return (self.k * target * (input - self.m).square() + (1 - target) * input.square()).mean()


class MultiMarginLoss(nn.Module):
    """Multi-class margin loss: the mean over samples of `sum over i != y of max(0, margin - x_y + x_i)^p / C`.

    Shapes: input x `(N, C)` logits, target y `(N,)` class indices; the result is one number.

    Args:
        p: 1 or 2.
        margin: by how much the true class's score is to exceed every other.

    Source: Crammer & Singer 2001 and Weston & Watkins 1999; torch.nn.MultiMarginLoss, which does not run under vmap.

    >>> MultiMarginLoss()(torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([2]))
    tensor(0.)
    """

    def __init__(self, p: int = 1, margin: float = 1.0) -> None:
        super().__init__()
        self.p, self.margin = p, margin

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        short = (self.margin - input.gather(-1, target[:, None]) + input).clamp(min=0) ** self.p
        others = 1 - one_hot(target, input.shape[-1])
        return (short * others).mean()


class CategoricalHingeLoss(nn.Module):
    """Categorical hinge: the mean over samples of `max(0, 1 + max((1 - target) input) - sum(target input))`.

    Shapes: input `(N, C)` logits, target `(N, C)` one-hot; the result is one number. The largest other score counts as
    0 where it is below 0. Source: Keras' `CategoricalHinge`.

    >>> CategoricalHingeLoss()(torch.tensor([[0.5, 0.2]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.7000)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        right, wrong = (target * input).sum(-1), ((1 - target) * input).amax(-1)
        return (1 + wrong - right).clamp(min=0).mean()


class AsymmetricSingleLabelLoss(nn.Module):
    """Asymmetric loss for one class of many: the mean over samples of `-sum over classes of t w log p`.

    There `p = softmax(input)`, t is the smoothed one-hot target, and w is `(1 - p)^gamma_pos` for the true class and
    `p^gamma_neg` for the others. Shapes: input `(N, C)` logits, target `(N,)` class indices; the result is one number.

    Args:
        gamma_pos, gamma_neg: the focus on the true class and on the others.
        label_smoothing: the part of the target that is spread evenly over all classes.

    Source: Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021; its authors' single-label form.

    >>> AsymmetricSingleLabelLoss(0.0, 0.0, 0.0)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(0.6931)
    """

    def __init__(self, gamma_pos: float = 0.0, gamma_neg: float = 4.0, label_smoothing: float = 0.1) -> None:
        super().__init__()
        self.gamma_pos, self.gamma_neg, self.label_smoothing = gamma_pos, gamma_neg, label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        log_p = input.log_softmax(-1)
        true = one_hot(target, input.shape[-1])
        rest = power(-log_p.expm1(), self.gamma_pos)
        focus = true * rest + (1 - true) * (self.gamma_neg * log_p).exp()
        smooth = true * (1 - self.label_smoothing) + self.label_smoothing / input.shape[-1]
        return -(smooth * focus * log_p).sum(-1).mean()


# Multi-label


class BCEWithLogitsLoss(nn.BCEWithLogitsLoss):
    """Binary cross-entropy on logits: `-[t log s + (1 - t) log(1 - s)]`, s = sigmoid(input), t the smoothed target.

    There `t = (1 - label_smoothing) target + label_smoothing / 2`. Shapes: input `(N, L)` logits, target `(N, L)` 0/1;
    the result is one number. torch.nn.BCEWithLogitsLoss, which this is, does not smooth.

    Args:
        label_smoothing: 0 for targets as they are, up to 1, where all become one half.
        pos_weight: of each label that is there `(L,)`.

    Source: Szegedy et al., Rethinking the Inception Architecture, CVPR 2016; Keras' `BinaryCrossentropy`.

    >>> BCEWithLogitsLoss(label_smoothing=0.5)(torch.zeros(1, 1), torch.ones(1, 1))
    tensor(0.6931)
    """

    def __init__(self, label_smoothing: float = 0.0, pos_weight: Tensor | None = None) -> None:
        super().__init__(pos_weight=pos_weight)
        self.label_smoothing = label_smoothing

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        if self.label_smoothing:
            target = target * (1 - self.label_smoothing) + self.label_smoothing / 2
        return super().forward(input, target)


class BCEProbabilityLoss(nn.Module):
    """Binary cross-entropy of probabilities: the mean of `-[target log p + (1 - target) log(1 - p)]`, p = input.

    Shapes: input and target `(N, L)` from 0 to 1; the result is one number, finite at 0 and 1, where the wrong side
    costs 87 in single precision and has no gradient. `bce`, on logits, has one. Source: Keras' `BinaryCrossentropy`.

    >>> BCEProbabilityLoss()(torch.tensor([[0.9, 0.0]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.0527)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        yes, no = (p.clamp(min=tiny(p)).log() for p in (input, 1 - input))
        return -(target * yes + (1 - target) * no).mean()


class BinaryFocalLoss(nn.Module):
    """Binary focal loss: the mean of `-a (1 - q)^gamma log q`, q the probability given to the true side.

    There `q = sigmoid(input)` and `a = alpha` for a label that is there, `1 - sigmoid(input)` and `1 - alpha` for one
    that is not. Shapes: input `(N, L)` logits, target `(N, L)` 0/1; the result is one number.

    Args:
        gamma: how much less an element counts that is already right; 0 for binary cross-entropy.
        alpha: the weight of labels that are there; `None` for no weights.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; torchvision.ops.sigmoid_focal_loss.

    >>> BinaryFocalLoss(gamma=2.0, alpha=None)(torch.zeros(1, 1), torch.ones(1, 1)) / torch.log(torch.tensor(2.0))
    tensor(0.2500)
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = 0.25) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        towards = input * signs(target)
        loss = -power((-towards).sigmoid(), self.gamma) * functional.logsigmoid(towards)
        if self.alpha is not None:
            loss = loss * (self.alpha * target + (1 - self.alpha) * (1 - target))
        return loss.mean()


class AsymmetricLoss(nn.Module):
    """Asymmetric loss: the mean of `-[t (1 - p)^gamma_pos log p + (1 - t) r^gamma_neg log(1 - r)]`.

    There t is the target, `p = sigmoid(input)` and `r = max(p - clip, 0)`. Shapes: input `(N, L)` logits, target
    `(N, L)` 0/1; the result is one number. The paper sums over labels: `reduction: sum`.

    Args:
        gamma_pos, gamma_neg: the focus on labels that are there and that are not.
        clip: a label that is not there costs nothing below this probability.

    Source: Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021.

    >>> AsymmetricLoss(0.0, 0.0, 0.0)(torch.zeros(1, 1), torch.ones(1, 1))
    tensor(0.6931)
    """

    def __init__(self, gamma_pos: float = 1.0, gamma_neg: float = 4.0, clip: float = 0.05) -> None:
        super().__init__()
        self.gamma_pos, self.gamma_neg, self.clip = gamma_pos, gamma_neg, clip

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        there = power((-input).sigmoid(), self.gamma_pos) * functional.logsigmoid(input)
        absent = power((input.sigmoid() - self.clip).clamp(min=0), self.gamma_neg)
        if self.clip:
            absent = absent * ((-input).sigmoid() + self.clip).clamp(max=1).log()
        else:
            absent = absent * functional.logsigmoid(-input)
        return -(target * there + (1 - target) * absent).mean()


class SoftF1Loss(nn.Module):
    """Soft F1: one minus the mean over labels of `2 sum(p t) / (sum(p) + sum(t))`, sums over the batch.

    Shapes: input p `(N, L)` probabilities, target t `(N, L)` 0/1; the result is one number. It is macro F1 with
    probabilities for decisions, of the whole batch, not a mean over samples. A label that the batch lacks counts 1.
    Source: Maiza, The Unknown Benefits of using a Soft-F1 Loss in Classification Systems, 2019.

    >>> SoftF1Loss()(torch.tensor([[1.0], [0.0], [1.0]]), torch.tensor([[1.0], [1.0], [1.0]]))
    tensor(0.2000)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        both = input.sum(0) + target.sum(0)
        return 1 - (2 * (input * target).sum(0) / both.clamp(min=tiny(both))).mean()


class TverskyLoss(nn.Module):
    """Tversky loss: `1 - (TP + eps) / (TP + alpha FP + beta FN + eps)` over all elements of the batch at once.

    There `TP = sum(p t)`, `FP = sum(p (1 - t))`, `FN = sum((1 - p) t)`. Shapes: input p `(N, L)` probabilities, target
    t `(N, L)` 0/1; the result is one number, of the whole batch, not a mean over samples. With alpha = beta = 0.5 it
    is the Dice loss `1 - 2 sum(p t) / (sum(p) + sum(t))`.

    Args:
        alpha, beta: the cost of a label that is said wrongly, and of one that is missed.
        eps: keeps an empty batch finite, at 0.

    Source: Salehi et al., Tversky Loss Function for Image Segmentation Using 3D FCN, 2017 (Tversky);
    Milletari et al., V-Net, 2016 (Dice); Keras' `Tversky` and `Dice`.

    >>> TverskyLoss()(torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    tensor(0.3333)
    """

    def __init__(self, alpha: float = 0.5, beta: float = 0.5, eps: float = 1e-7) -> None:
        super().__init__()
        self.alpha, self.beta, self.eps = alpha, beta, eps

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        hit = (input * target).sum()
        wrong, missed = (input * (1 - target)).sum(), ((1 - input) * target).sum()
        return 1 - (hit + self.eps) / (hit + self.alpha * wrong + self.beta * missed + self.eps)


class SoftMarginLoss(nn.Module):
    """Soft margin: the mean of `log(1 + exp(-s input))`, s = 1 for a label that is there, else -1; equal to `bce`.

    Shapes: input `(N, L)` logits, target `(N, L)` 0/1; the result is one number. torch.nn.SoftMarginLoss wants -1 and
    1, and overflows. Source: the logistic loss of Boosting, Friedman, Hastie & Tibshirani 2000.

    >>> SoftMarginLoss()(torch.tensor([[0.0, -1e4]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.3466)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.softplus(-input * signs(target)).mean()


class HingeLoss(nn.Module):
    """Hinge: the mean of `max(0, 1 - s input)^p`, s = 1 for a label that is there, else -1.

    Shapes: input `(N, L)` logits, target `(N, L)` 0/1; the result is one number.

    Args:
        p: 1, or 2 for the squared hinge.

    Source: Cortes & Vapnik, Support-Vector Networks, 1995; Keras' `Hinge` and `SquaredHinge`.

    >>> HingeLoss()(torch.tensor([[0.5, 0.5]]), torch.tensor([[1.0, 0.0]]))
    tensor(1.)
    """

    def __init__(self, p: int = 1) -> None:
        super().__init__()
        self.p = p

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return ((1 - input * signs(target)).clamp(min=0) ** self.p).mean()


class MultiLabelMarginLoss(nn.Module):
    """Multi-label margin: the mean over samples of `sum of max(0, 1 - x_j + x_i) / L`, j there, i not there.

    Shapes: input x `(N, L)` logits, target `(N, L)` 0/1; the result is one number. torch.nn.MultiLabelMarginLoss is
    the same for padded lists of indices. Source: Crammer & Singer 2003; torch.

    >>> MultiLabelMarginLoss()(torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]]))
    tensor(0.3333)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        short = (1 - input[..., :, None] + input[..., None, :]).clamp(min=0)  # (N, j, i)
        pairs = target[..., :, None] * (1 - target[..., None, :])
        return (short * pairs).sum((-2, -1)).mean() / input.shape[-1]


def power(base: Tensor, exponent: float) -> Tensor:
    """`base^exponent` for a base of at least 0, with a gradient that is finite at 0 whatever the exponent."""
    return base.clamp(min=tiny(base)) ** exponent if exponent else torch.ones_like(base)
