"""What autocast and the gradient scaler of mixed precision ask of optimizers."""

from collections.abc import Callable
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor
from torch.optim import Optimizer

from losslab.errors import Refused
from losslab.optim.optimizers import SAM


def scales_loss(cfg: DictConfig) -> bool:
    """Return whether training is in half precision with a gradient scaler."""
    return str(cfg.trainer.precision) in ("16-mixed", "16")


def check_scaler(cfg: DictConfig, optimizer: Optimizer) -> None:
    """Refuse an optimizer that asks for several gradients a step where a gradient scaler gives it one."""
    if scales_loss(cfg) and isinstance(optimizer, torch.optim.LBFGS | SAM):
        raise Refused(
            f"optimizer={cfg.run.choices.optimizer} computes the gradient more than once a step, which "
            f"trainer.precision={cfg.trainer.precision} cannot: type trainer.precision=bf16-mixed"
        )


def outside_autocast(step: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """Return a step whose closure runs in the autocast that is on now, and the optimizer outside of it.

    Autocast is for models and losses. An optimizer that multiplies matrices, such as SOAP, would do so in half
    precision, or fail where its state and their product differ in type.

    Args:
        step: called with a closure.
        kind: the type of the device.
    """
    if not torch.is_autocast_enabled(kind):
        return step
    dtype = torch.get_autocast_dtype(kind)

    def stepped(closure: Callable[[], Tensor]) -> Any:
        def cast() -> Tensor:
            with torch.autocast(kind, dtype, cache_enabled=False):  # a cache would outlive the weights that it casts
                return closure()

        with torch.autocast(kind, enabled=False):
            return step(cast)

    return stepped
