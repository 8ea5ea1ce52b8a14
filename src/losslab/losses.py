"""The contract of a loss, and the losses that torch.nn lacks."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Loss(nn.Module):
    """A loss, the view of the model's scores that it wants, and the form of the target.

    Args:
        function: a module of two tensors that returns one number, the mean over samples and outputs unless its YAML
            says otherwise. It is a pure function of them; its parameters, if any, are trained too.
        input: the view: `logits`, `prediction`, `log_prediction` or `values`.
        target: the form: `index` or `dense`.

    Raises:
        ValueError: where input and target do not have equal shape (`dense`), or the target does not hold one class
            index per row (`index`). Torch would broadcast them instead, and train on the wrong matrix.

    >>> Loss(nn.L1Loss(), "prediction", "dense")(torch.zeros(2, 1), torch.ones(2, 1))
    tensor(1.)
    """

    def __init__(self, function: nn.Module, input: str, target: str) -> None:
        super().__init__()
        self.function = function
        self.input = input
        self.target = target

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        wanted = input.shape if self.target == "dense" else input.shape[:1]
        if target.shape != wanted:
            raise ValueError(
                f"{type(self.function).__name__} got input {tuple(input.shape)} and target {tuple(target.shape)}; "
                f"a target of shape {tuple(wanted)} fits"
            )
        loss: Tensor = self.function(input, target)
        return loss


class MSLELoss(nn.Module):
    """Mean squared logarithmic error: the mean of `(log(1 + max(input, 0)) - log(1 + target))^2`.

    Shapes: input and target `(N, D)`, in the data's own units, targets of at least 0; the result is one number.
    Below 0 the input counts as 0 and has no gradient. Source: Keras' `MeanSquaredLogarithmicError`.

    >>> MSLELoss()(torch.tensor([[0.0]]), torch.tensor([[torch.e - 1]]))
    tensor(1.)
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return functional.mse_loss(input.clamp(min=0).log1p(), target.log1p())


class FocalLoss(nn.Module):
    """Focal loss: the mean of `-(1 - p)^gamma log p`, where `p = softmax(input)[target]`.

    Shapes: input `(N, C)` logits, target `(N,)` class indices; the result is one number. `gamma = 0` is
    cross-entropy. Source: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, without the weight alpha.

    >>> FocalLoss(gamma=2.0)(torch.zeros(1, 2), torch.tensor([0])) / torch.log(torch.tensor(2.0))
    tensor(0.2500)
    """

    def __init__(self, gamma: float = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        log_p = input.log_softmax(-1).gather(-1, target[:, None])[:, 0]
        # 1 - p, kept away from 0 where its power has no finite gradient; p is 1 there, so the loss is 0 anyway
        rest = (-log_p.expm1()).clamp(min=torch.finfo(log_p.dtype).tiny)
        return -(rest**self.gamma * log_p).mean()
