"""Losses of one class out of several. Shapes: N rows, C classes."""

import torch
from torch import Tensor

from losslab.losses.contract import RowLoss
from losslab.losses.numerics import power
from losslab.metrics import one_hot


class KLDivLoss(RowLoss):
    """Kullback-Leibler divergence: the mean over rows of `sum over classes of target (log target - input)`.

    Shapes: input `(N, C)`, log-probabilities; target `(N, C)`, probabilities; one value per row. With one-hot targets
    it is cross-entropy. torch.nn.KLDivLoss(reduction="batchmean") is the same, but cannot run batched under vmap.
    Source: Kullback & Leibler, On Information and Sufficiency, 1951.

    >>> KLDivLoss()(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0.0]]))
    tensor(0.6931)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        each: Tensor = torch.special.xlogy(target, target) - target * input
        return self.reduce(each.sum(-1))


class FocalLoss(RowLoss):
    """Focal loss: the mean of `-weight (1 - p)^gamma log p` with `p = softmax(input)[target]`.

    Shapes: input `(N, C)` logits, target `(N,)` class indices; one value per row. `gamma = 0` is cross-entropy.

    Args:
        gamma: the higher, the less a row counts that is already right.
        weight: of each class `(C,)`; the mean is over rows, not over weights.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; its alpha is `weight` here.

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
        return self.reduce(loss if self.weight is None else loss * self.weight[target])


class PolyLoss(RowLoss):
    """Poly-1 loss: the mean of `-log p + epsilon (1 - p)` with `p = softmax(input)[target]`.

    Shapes: input `(N, C)` logits, target `(N,)` class indices; one value per row. `epsilon = 0` is cross-entropy.

    Args:
        epsilon: what is added to the first coefficient of cross-entropy's expansion in `1 - p`.

    Source: Leng et al., PolyLoss, ICLR 2022.

    >>> PolyLoss(epsilon=2.0)(torch.zeros(1, 2), torch.tensor([0]))
    tensor(1.6931)
    """

    def __init__(self, epsilon: float = 2.0) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        log_p = input.log_softmax(-1).gather(-1, target[:, None])[:, 0]
        return self.reduce(-log_p - self.epsilon * log_p.expm1())


class GeneralizedCrossEntropyLoss(RowLoss):
    """Generalized cross-entropy: the mean of `(1 - p^q) / q` with `log p = input[target]`.

    Shapes: input `(N, C)` log-probabilities, target `(N,)` class indices; one value per row. As q nears 0 it nears
    cross-entropy; at `q = 1` it is `1 - p`, half the absolute error.

    Args:
        q: above 0 and at most 1; the larger, the less a wrongly labelled row counts.

    Source: Zhang & Sabuncu, Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels, 2018.

    >>> GeneralizedCrossEntropyLoss(q=1.0)(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([0]))
    tensor(0.7500)
    """

    def __init__(self, q: float = 0.7) -> None:
        super().__init__()
        self.q = q

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        log_p = input.gather(-1, target[:, None])[:, 0]
        return self.reduce(-(self.q * log_p).expm1()) / self.q


class SquareLoss(RowLoss):
    """Square loss on raw scores: the mean over rows and classes of `k (input - m)^2` (true class) or `input^2`.

    Shapes: input `(N, C)` logits, target `(N, C)` one-hot; one value per row and class.

    Args:
        k: the weight of the true class.
        m: the score that the true class is to reach, M in the paper. For many classes (over 42 there) raise both, for
            example to k = 1, m = 15 or k = 15, m = 30.

    Source: Hui & Belkin, Evaluation of Neural Architectures Trained with Square Loss vs Cross-Entropy, ICLR 2021.

    >>> SquareLoss(k=1.0, m=1.0)(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 0.0]]))
    tensor(2.5000)
    """

    def __init__(self, k: float = 1.0, m: float = 1.0) -> None:
        super().__init__()
        self.k, self.m = k, m

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.reduce(self.k * target * (input - self.m).square() + (1 - target) * input.square())


class MultiMarginLoss(RowLoss):
    """Multi-class margin loss: the mean over rows of `sum over i != y of max(0, margin - x_y + x_i)^p / C`.

    Shapes: input x `(N, C)` logits, target y `(N,)` class indices; one value per row and class.

    Args:
        p: 1 or 2.
        margin: by how much the true class's score is to exceed every other.

    Source: Crammer & Singer 2001 and Weston & Watkins 1999; torch.nn.MultiMarginLoss, which cannot run under vmap.

    >>> MultiMarginLoss()(torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([2]))
    tensor(0.)
    """

    def __init__(self, p: int = 1, margin: float = 1.0) -> None:
        super().__init__()
        self.p, self.margin = p, margin

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        short = (self.margin - input.gather(-1, target[:, None]) + input).clamp(min=0) ** self.p
        others = 1 - one_hot(target, input.shape[-1]).to(input.dtype)
        return self.reduce(short * others)


class CategoricalHingeLoss(RowLoss):
    """Categorical hinge: the mean over rows of `max(0, 1 + max((1 - target) input) - sum(target input))`.

    Shapes: input `(N, C)` logits, target `(N, C)` one-hot; one value per row. If the largest other score is below 0 it
    counts as 0. Source: Keras' `CategoricalHinge`.

    >>> CategoricalHingeLoss()(torch.tensor([[0.5, 0.2]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.7000)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        right, wrong = (target * input).sum(-1), ((1 - target) * input).amax(-1)
        return self.reduce((1 + wrong - right).clamp(min=0))


class AsymmetricSingleLabelLoss(RowLoss):
    """Asymmetric loss for one class out of several: the mean over rows of `-sum over classes of t w log p`.

    Here `p = softmax(input)`, t is the smoothed one-hot target, and w is `(1 - p)^gamma_pos` for the true class and
    `p^gamma_neg` for the others. Shapes: input `(N, C)` logits, target `(N,)` class indices; one value per row.

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
        true = true.to(torch.promote_types(true.dtype, log_p.dtype))  # so that the smoothing is as exact as the scores
        rest = power(-log_p.expm1(), self.gamma_pos)
        focus = true * rest + (1 - true) * (self.gamma_neg * log_p).exp()
        smooth = true * (1 - self.label_smoothing) + self.label_smoothing / input.shape[-1]
        return self.reduce(-(smooth * focus * log_p).sum(-1))
