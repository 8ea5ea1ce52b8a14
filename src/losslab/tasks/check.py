"""What a task's metrics must be; a user's own task is checked before it trains."""

import torch
from omegaconf import DictConfig

from losslab.config.make import refusal_of
from losslab.data.dataset import Dataset
from losslab.errors import Refused, nearest
from losslab.tasks.base import Reading, Task


def check_metrics(cfg: DictConfig, task: Task, data: Dataset, loss: Reading) -> None:
    """Refuse a task whose metrics are no single numbers, or whose primary metric is not one of them."""
    y = torch.from_numpy(data.targets("train")[:2])
    try:
        found = task.metrics(torch.zeros(len(y), task.count_scores(len(data.outputs), loss)), y)
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
