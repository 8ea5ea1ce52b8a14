"""Make the loss that a run is trained on, and check the metrics that it is evaluated by, against its data."""

from inspect import signature
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig, OmegaConf

from losslab.config.compose import loss_paths
from losslab.config.make import make, refusal_of
from losslab.data.class_weights import CLASS_WEIGHTS, are_class_weights, read_class_weights
from losslab.errors import Refused, nearest
from losslab.losses import Loss, Sum

if TYPE_CHECKING:
    from losslab.data.dataset import Dataset
    from losslab.tasks import Task


def build_loss(cfg: DictConfig, task: "Task", data: "Dataset") -> Loss | Sum:
    """Make the loss, or the weighted sum of several, and fit the task to it and to the data.

    Raises:
        Refused: where weights are not one for each class or label, or the loss cannot be computed on the first rows.
    """
    loss = make_loss(cfg, task, data)
    count = 3 if len(data.outputs) == 2 else 2  # another number of rows than of outputs: broadcasting shows
    first = torch.from_numpy(data.targets("train")[:count])
    weights = () if data.weight is None else (torch.ones(len(first)),)
    scores = torch.zeros(len(first), task.count_scores(len(data.outputs), loss), requires_grad=True)
    try:
        with torch.enable_grad():
            value = loss.compute(task, scores, first, *weights)
    except Exception as error:  # a user's own loss raises what it likes
        raise refusal_of(cfg, "loss", error) from error
    if not value.requires_grad:
        raise Refused(f"loss={cfg.run.choices.loss} has no gradient: compute it from its input by functions of torch")
    return loss


def make_loss(cfg: DictConfig, task: "Task", data: "Dataset") -> Loss | Sum:
    """Make the loss, or the weighted sum of several, and fit the task to it and to the data."""
    parts = {name: build_part(cfg, name, path, task, data) for name, path in loss_paths(cfg).items()}
    loss = Sum(parts, cfg.loss.get("weights", {})) if "parts" in cfg.loss else parts[cfg.run.choices.loss]
    task.fit(data, loss)
    return loss


def build_part(cfg: DictConfig, name: str, path: str, task: "Task", data: "Dataset") -> Loss:
    """Make one loss, with its weights for each class or label."""
    keys = OmegaConf.select(cfg, path)
    weights = class_weights(cfg, path, task, data)
    function = make(cfg, path, **weights)
    if not isinstance(function, torch.nn.Module):
        raise Refused(
            f"loss={name} is made by {keys.get('_target_')}, which is no torch.nn.Module: "
            "name a class that derives from it in _target_"
        )
    return Loss(function, keys.input, keys.target, keys.get("reduction", "mean"), keys.get("per", "row"))


def class_weights(cfg: DictConfig, path: str, task: "Task", data: "Dataset") -> dict[str, Any]:
    """Return a loss's `weight` and `pos_weight` as tensors; the task says what `balanced` is.

    Anything but `balanced` and a number for each class, such as the one number of a user's own loss, is left to it.
    """
    keys = OmegaConf.select(cfg, path)
    weights: dict[str, Any] = {}
    for key in CLASS_WEIGHTS:
        given = keys.get(key)
        if are_class_weights(given):
            each = read_class_weights(given, data.outputs, f"{path}.{key}", cfg.run.choices.data)
            weights[key] = torch.tensor(each, dtype=torch.float32)
        elif given == "balanced":
            known = task.balance(data)
            if key in known:
                weights[key] = known[key]
                continue
            raise Refused(f"{path}.{key}=balanced has no meaning in task={cfg.task.name}: type a list, or null")
    return weights


def check_takes_weights(cfg: DictConfig, task: "Task") -> None:
    """Refuse rows with weights where a task of the user's own does not know them."""
    for name in ("metrics", "tune"):
        if len(signature(getattr(task, name)).parameters) < 3:
            raise Refused(
                f"task={cfg.run.choices.task} knows no data.weight: write {name}(self, scores, y, weight=None) into "
                f"{type(task).__name__}, where weight says how much each row counts, or type data.weight=null"
            )


def check_metrics(cfg: DictConfig, task: "Task", data: "Dataset", loss: Loss | Sum) -> None:
    """Refuse a task whose metrics are no single numbers, or whose primary metric is not one of them."""
    if data.weight is not None:
        check_takes_weights(cfg, task)
    try:
        found = task.try_metrics(data, loss)
    except Exception as error:  # a user's own task raises what it likes
        raise refusal_of(cfg, "task", error) from error
    where, primary = f"task={cfg.run.choices.task}", cfg.task.yardstick
    for name, value in found.items():
        if not isinstance(value, torch.Tensor) or value.ndim:
            raise Refused(
                f"{where} returns no tensor of one number as metric {name}: return values.mean(), or its like"
            )
    if lacking := sorted(found.keys() - task.better.keys()):
        raise Refused(f"{where} has the metric {lacking[0]}: say in `better` of its class whether min or max is better")
    if primary not in found:
        raise Refused(f"task.yardstick={primary} is no metric of {where}; {nearest(primary, found)}")
    if cfg.task.mode != (better := task.better[primary]):
        raise Refused(
            f"task.mode={cfg.task.mode} does not fit: of {primary}, {better} is better: type task.mode={better}"
        )
