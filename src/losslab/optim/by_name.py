"""The optimizers of pytorch_optimizer by their names."""

import inspect
from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer

from losslab.errors import Refused, nearest


def load(params: Iterable[Any], name: str, lr: float, **settings: Any) -> Optimizer:
    """Make pytorch_optimizer's optimizer of this name.

    Args:
        params: parameters, or groups of them; those marked `hidden` go to optimizers that ask for `use_muon`.
        name: as in the library, such as `adopt`; conf/optimizer/any.yaml lists those that can train here.

    Raises:
        Refused: for a setting that its class does not have, and where it lacks one.

    >>> from torch import nn
    >>> type(load(nn.Linear(2, 1).parameters(), "adopt", lr=0.01)).__name__
    'ADOPT'

    Source: https://pytorch-optimizers.readthedocs.io
    """
    from pytorch_optimizer import load_optimizer

    made: Any = load_optimizer(name)
    known = {key: p for key, p in inspect.signature(made).parameters.items() if key not in ("params", "kwargs")}
    for key in settings:
        if key not in known:
            raise Refused(f"optimizer.{key} is no setting of {made.__name__}; {nearest(key, known)}")
    for key, parameter in known.items():
        if parameter.default is inspect.Parameter.empty and key not in {"lr", *settings}:
            raise Refused(f"optimizer.name={name} needs optimizer.{key}: type optimizer.{key}=VALUE")
    tuples: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in settings.items()
    }
    optimizer: Optimizer = made(mark_hidden(params, name), lr=lr, **tuples)
    return optimizer


def mark_hidden(params: Iterable[Any], name: str) -> list[Any]:
    """Mark groups of hidden matrices as pytorch_optimizer wants them, where `group_parameters` has made any.

    Raises:
        Refused: if the groups are for an optimizer of hidden matrices, and the model has none.
    """
    groups = [dict(each) if isinstance(each, dict) else each for each in params]
    if not any(isinstance(each, dict) and each.get("hidden") for each in groups):
        if name in ("adago", "adamuon", "muon", "muonclip", "normuon"):
            raise Refused(
                f"optimizer.name={name} is for hidden matrices, and this model has none between its first and last "
                "layer: type model=mlp 'model.hidden=[256,256]', or optimizer=adamw"
            )
        return groups
    for group in groups:
        group["use_muon"] = bool(group.pop("hidden", False))
    return groups
