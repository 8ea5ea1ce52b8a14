"""What users write wrong in code of their own: losses, tasks and callbacks."""

# ruff: noqa: D101

from typing import Any

import torch
from pytorch_lightning import Callback
from torch import Tensor, nn

from losslab.tasks import SingleLabel


class Nothing(nn.Module):
    def forward(self, input: Tensor, target: Tensor) -> None:
        """Forget to return the loss."""


class Pair(nn.Module):
    def forward(self, input: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        return input - target, target


class Broadcast(nn.Module):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return (input[:, 0] - target).square()  # (B,) and (B, 1) make (B, B)


class Twice(nn.Module):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return torch.cat([input, target])


class Detached(nn.Module):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return (input.detach() - target).square()


class OneArgument(nn.Module):
    def forward(self, input: Tensor) -> Tensor:
        return input


class NoModule:
    def __call__(self, input: Tensor, target: Tensor) -> Tensor:
        return input - target


class Unlisted(SingleLabel):
    """Has a metric of which `better` says nothing."""

    def metrics(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        return {**super().metrics(scores, y, weight), "mine": scores.mean()}


class Vector(SingleLabel):
    better = {**SingleLabel.better, "mine": "max"}  # noqa: RUF012

    def metrics(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Tensor]:
        return {**super().metrics(scores, y, weight), "mine": scores.mean(1)}


class Float(Vector):
    def metrics(self, scores: Tensor, y: Tensor, weight: Tensor | None = None) -> dict[str, Any]:
        return {**SingleLabel.metrics(self, scores, y, weight), "mine": float(scores.mean())}


class Missing(SingleLabel):
    better = {**SingleLabel.better, "mine": "max"}  # noqa: RUF012


class Norm(Callback):
    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        for name in ("norm", "twice", "again", "once_more"):
            pl_module.log(name, sum(p.detach().square().sum() for p in pl_module.parameters()))


class NoCallback:
    """Derives from nothing."""
