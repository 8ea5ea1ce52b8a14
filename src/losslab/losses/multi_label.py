"""Losses of labels of which any number may apply. Shapes: N rows, L labels."""

import torch  # noqa: F401 - for the examples
from torch import Tensor, nn
from torch.nn import functional

from losslab.losses.contract import RowLoss
from losslab.losses.numerics import power, smallest_normal, to_signs


class BCEWithLogitsLoss(nn.BCEWithLogitsLoss):
    """Binary cross-entropy on logits: `-[t log s + (1 - t) log(1 - s)]`, s = sigmoid(input), t the smoothed target.

    Here `t = (1 - label_smoothing) target + label_smoothing / 2`. Shapes: input `(N, L)` logits, target `(N, L)` 0/1;
    one value per row and label. torch.nn.BCEWithLogitsLoss, its base, does not smooth.

    Args:
        label_smoothing: from 0, which leaves targets alone, to 1, which turns all into one half.
        pos_weight: the weight of each label where it applies `(L,)`.

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


class BCEProbabilityLoss(RowLoss):
    """Binary cross-entropy of probabilities: the mean of `-[target log p + (1 - target) log(1 - p)]`, p = input.

    Shapes: input and target `(N, L)` from 0 to 1; one value per row and label. It is finite at 0 and 1: the wrong side
    costs 87 in single precision, but has no gradient. `bce`, on logits, has one. Source: Keras' `BinaryCrossentropy`.

    >>> BCEProbabilityLoss()(torch.tensor([[0.9, 0.0]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.0527)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        yes, no = (p.clamp(min=smallest_normal(p)).log() for p in (input, 1 - input))
        return self.reduce(-(target * yes + (1 - target) * no))


class BinaryFocalLoss(RowLoss):
    """Binary focal loss: the mean of `-a (1 - q)^gamma log q`, q the probability given to the true side.

    If the label applies, `q = sigmoid(input)` and `a = alpha`; if not, `q = 1 - sigmoid(input)` and `a = 1 - alpha`.
    Shapes: input `(N, L)` logits, target `(N, L)` 0/1; one value per row and label.

    Args:
        gamma: the higher, the less an element counts that is already right; 0 is binary cross-entropy.
        alpha: the weight of labels that apply; `None` for no weights.

    Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017; torchvision.ops.sigmoid_focal_loss.

    >>> BinaryFocalLoss(gamma=2.0, alpha=None)(torch.zeros(1, 1), torch.ones(1, 1)) / torch.log(torch.tensor(2.0))
    tensor(0.2500)
    """

    def __init__(self, gamma: float = 2.0, alpha: float | None = 0.25) -> None:
        super().__init__()
        self.gamma, self.alpha = gamma, alpha

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        towards = input * to_signs(target)
        loss = -power((-towards).sigmoid(), self.gamma) * functional.logsigmoid(towards)
        if self.alpha is not None:
            loss = loss * (self.alpha * target + (1 - self.alpha) * (1 - target))
        return self.reduce(loss)


class AsymmetricLoss(RowLoss):
    """Asymmetric loss: the mean of `-[t (1 - p)^gamma_pos log p + (1 - t) r^gamma_neg log(1 - r)]`.

    Here t is the target, `p = sigmoid(input)` and `r = max(p - clip, 0)`. Shapes: input `(N, L)` logits, target
    `(N, L)` 0/1; one value per row and label. The paper sums over labels: `reduction: sum`.

    Args:
        gamma_pos, gamma_neg: the focus on labels that apply and on those that do not.
        clip: below this probability a label that does not apply costs nothing.
        stop_gradient: whether no gradient passes through the focusing weights `(1 - p)^gamma_pos` and `r^gamma_neg`,
            as in the authors' own training.

    Source: Ridnik et al., Asymmetric Loss For Multi-Label Classification, ICCV 2021.

    >>> AsymmetricLoss(0.0, 0.0, 0.0)(torch.zeros(1, 1), torch.ones(1, 1))
    tensor(0.6931)
    """

    def __init__(
        self, gamma_pos: float = 1.0, gamma_neg: float = 4.0, clip: float = 0.05, stop_gradient: bool = False
    ) -> None:
        super().__init__()
        self.gamma_pos, self.gamma_neg, self.clip, self.stop_gradient = gamma_pos, gamma_neg, clip, stop_gradient

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        focus = input.detach() if self.stop_gradient else input
        there = power((-focus).sigmoid(), self.gamma_pos) * functional.logsigmoid(input)
        absent = power((focus.sigmoid() - self.clip).clamp(min=0), self.gamma_neg)
        if self.clip:
            absent = absent * ((-input).sigmoid() + self.clip).clamp(max=1).log()
        else:
            absent = absent * functional.logsigmoid(-input)
        return self.reduce(-(target * there + (1 - target) * absent))


class SoftF1Loss(nn.Module):
    """Soft F1: one minus the mean over labels of `2 sum(p t) / (sum(p) + sum(t))`, sums over the batch.

    Shapes: input p `(N, L)` probabilities, target t `(N, L)` 0/1; one number per batch. It is macro F1 with
    probabilities in place of decisions. A label that no row of the batch has costs 1.
    Source: Maiza, The Unknown Benefits of using a Soft-F1 Loss in Classification Systems, 2019.

    >>> SoftF1Loss()(torch.tensor([[1.0], [0.0], [1.0]]), torch.tensor([[1.0], [1.0], [1.0]]))
    tensor(0.2000)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        both = input.sum(0) + target.sum(0)
        return 1 - (2 * (input * target).sum(0) / both.clamp(min=smallest_normal(both))).mean()


class TverskyLoss(nn.Module):
    """Tversky loss: `1 - (TP + eps) / (TP + alpha FP + beta FN + eps)`, each summed over all elements of the batch.

    Here `TP = sum(p t)`, `FP = sum(p (1 - t))`, `FN = sum((1 - p) t)`. Shapes: input p `(N, L)` probabilities, target
    t `(N, L)` 0/1; one number per batch. With alpha = beta = 0.5 it is the Dice loss
    `1 - 2 sum(p t) / (sum(p) + sum(t))`.

    Args:
        alpha: the cost of a label that is predicted but does not apply.
        beta: the cost of a label that applies but is not predicted.
        eps: makes a batch without labels cost 0 instead of dividing by 0.

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


class SoftMarginLoss(RowLoss):
    """Soft margin: the mean of `log(1 + exp(-s input))`, s = 1 for a label that applies, else -1; equal to `bce`.

    Shapes: input `(N, L)` logits, target `(N, L)` 0/1; one value per row and label. torch.nn.SoftMarginLoss takes
    targets of -1 and 1, and overflows. Source: the logistic loss of Boosting, Friedman, Hastie & Tibshirani 2000.

    >>> SoftMarginLoss()(torch.tensor([[0.0, -1e4]]), torch.tensor([[1.0, 0.0]]))
    tensor(0.3466)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return self.reduce(functional.softplus(-input * to_signs(target)))


class HingeLoss(RowLoss):
    """Hinge: the mean of `max(0, 1 - s input)^p`, s = 1 for a label that applies, else -1.

    Shapes: input `(N, L)` logits, target `(N, L)` 0/1; one value per row and label.

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
        return self.reduce((1 - input * to_signs(target)).clamp(min=0) ** self.p)


class MultiLabelMarginLoss(RowLoss):
    """Multi-label margin: the mean over rows of `sum of max(0, 1 - x_j + x_i) / L`; label j applies, label i does not.

    Shapes: input x `(N, L)` logits, target `(N, L)` 0/1; one value per row. torch.nn.MultiLabelMarginLoss is the same
    for padded lists of indices. Source: Crammer & Singer 2003; torch.

    >>> MultiLabelMarginLoss()(torch.tensor([[0.0, 0.0, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]]))
    tensor(0.3333)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        short = (1 - input[..., :, None] + input[..., None, :]).clamp(min=0)  # (N, j, i)
        pairs = target[..., :, None] * (1 - target[..., None, :])
        return self.reduce((short * pairs).sum((-2, -1))) / input.shape[-1]
