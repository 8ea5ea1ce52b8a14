"""Private parts of Lightning. A new minor release is run with the tests before pyproject.toml allows it."""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.optim.swa_utils import AveragedModel


def count_steps(optimizer: LightningOptimizer, steps: int) -> None:
    """Count steps in Lightning's `global_step` which did not go through `LightningOptimizer.step`.

    If a release renames these parts, look at what `LightningOptimizer.step` calls around the strategy's
    `optimizer_step`.

    Args:
        optimizer: as Lightning has wrapped it.
        steps: how many it has taken.
    """
    for _ in range(steps):
        optimizer._on_before_step()
        optimizer._on_after_step()


def dump_checkpoint(trainer: pl.Trainer) -> dict[str, Any]:
    """Return what `Trainer.save_checkpoint` would write.

    If the private part goes, have a `CheckpointIO` that writes nothing keep what it is given.
    """
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def update_best(callback: ModelCheckpoint, score: Tensor) -> bool:
    """Tell a callback that keeps one best checkpoint of an epoch's score; return whether it is the best so far.

    A stack writes the checkpoints of many runs, so it can't let the callback save one itself. The callback's state must
    be what Lightning would have made it, because a run may go on alone from it. The fields are public, setting them is
    not foreseen. If they change, compare with `ModelCheckpoint._update_best_and_save`.
    """
    known = callback.best_model_score
    better = known is None or bool(score < known if callback.mode == "min" else score > known)
    if better:
        if score.isnan():  # as Lightning does, so that any number is better than none
            score = torch.tensor(torch.inf if callback.mode == "min" else -torch.inf)
        path = callback.format_checkpoint_name({})  # absolute: Lightning compares it when a run resumes
        callback.best_model_path = callback.kth_best_model_path = path
        callback.current_score = callback.best_model_score = callback.kth_value = score
        callback.best_k_models = {path: score}
    return better


def update_early_stopping(callback: EarlyStopping, score: Tensor, epoch: int) -> bool:
    """Tell an early-stopping callback of an epoch's score; return whether the run stops.

    The callback's own hook would stop the trainer, which trains other runs of the stack too. If the private method
    goes, compare `score` with `callback.best_score` by `mode` and `min_delta`, and count `wait_count` up to `patience`.
    """
    stop, reason = callback._evaluate_stopping_criteria(score)
    if stop:
        callback.stopped_epoch, callback.stopping_reason_message = epoch, reason
    return stop


def finds_unused_parameters(strategy: DDPStrategy) -> bool:
    """Return whether DDP allows parameters that get no gradient.

    If the private field goes, read `find_unused_parameters` from the wrapped model: `strategy.model`.
    """
    return bool(strategy._ddp_kwargs.get("find_unused_parameters"))


def averaged_model(callback: WeightAveraging) -> AveragedModel | None:
    """Return the running average of the weights; `None` before training begins.

    If the private field goes, keep an `AveragedModel` of our own in `optim/averaging.py`.
    """
    return callback._average_model
