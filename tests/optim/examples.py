"""The optimizers of the catalogue, with small problems to try them on; the files of conf/optimizer are the list."""

from collections.abc import Callable
from typing import Any

import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.optim import Optimizer

from losslab import models
from losslab.config.catalogue import CONF, DESCRIPTIONS, OWN_KEYS, options
from losslab.optim.groups import group_parameters

OPTIMIZERS = {name: keys for name, keys in options([str(CONF)], "optimizer").items() if "rates" not in keys}
OURS = (*OWN_KEYS["optimizer"], *DESCRIPTIONS)  # keys that are not the constructor's
TASKS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "regression": lambda scores, y: nn.functional.mse_loss(scores, y @ torch.ones(6, 3)),
    "single_label": lambda scores, y: nn.functional.cross_entropy(scores, y[:, :3].argmax(1)),
    "multi_label": lambda scores, y: nn.functional.binary_cross_entropy_with_logits(scores, (y[:, 3:] > 0).float()),
}


def module_of(model: nn.Module, loss: nn.Module | None = None) -> nn.Module:
    """Return a module as `group_parameters` takes it."""
    return nn.ModuleDict({"model": model, "loss": loss or nn.Module()})


def make(name: str, model: nn.Module, loss: nn.Module | None = None, **keys: Any) -> Optimizer:
    """Make an optimizer of the catalogue from its file, without a configuration."""
    settings = {**OPTIMIZERS[name], **keys}
    groups = group_parameters(module_of(model, loss), settings["lr"], hidden=settings.get("hidden", False))
    theirs = {key: value for key, value in settings.items() if key not in OURS}
    made: Optimizer = instantiate(theirs, _convert_="all")(groups)
    return made


def closure_of(optimizer: Optimizer, loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()  # type: ignore[no-untyped-call]
        return value.detach()

    return closure


def problem(task: str = "regression") -> tuple[nn.Module, Callable[[], Tensor]]:
    """Return a small model, and its loss on a little data."""
    torch.manual_seed(0)
    model, x = models.MLP((6,), 3, hidden=[8, 8]), torch.randn(32, 6)
    return model, lambda: TASKS[task](model(x), x)


def set_mode(optimizer: Optimizer, mode: str) -> None:
    """Switch a schedule-free optimizer between the weights that it trains and those that it is evaluated at."""
    getattr(optimizer, mode, lambda: None)()
