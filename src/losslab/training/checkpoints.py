"""Checkpoints: written often enough and whole, and read back without running code."""

import time
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from losslab.errors import Refused
from losslab.files import check_archive, replacing
from losslab.training.distributed import any_of
from losslab.training.preemption import Preempted, notice

WHOLE_RUN = (
    "epoch",
    "global_step",
    "loops",
    "callbacks",
    "optimizer_states",
    "lr_schedulers",
    "processes",
    "epoch_so_far",
)
AHEAD = 30.0  # seconds: how much of an epoch may be lost where it is stopped while it is validated


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt`: at the end of an epoch, within long ones, and at once when the machine is taken away.

    Where epochs take milliseconds, writing it after each would take longer than training, so it is written at most once
    in `seconds`, and always when training is over. A run that is killed loses at most `seconds` and one epoch, or
    `within` of a long one; what it resumes to is the same.

    Args:
        dirpath: the run's folder.
        seconds: between two at ends of epochs; 0 for every epoch.
        within: between two in the midst of an epoch; 0 for every batch that Lightning sees.
    """

    def __init__(self, dirpath: str, seconds: float = 1.0, within: float = 300.0) -> None:
        super().__init__(dirpath, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self.seconds, self.within = seconds, within
        self.saved, self.early = time.monotonic(), False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has installed its own handlers by now, which would stop a run without a checkpoint."""
        super().on_train_start(trainer, pl_module)
        if notice.by is not None:
            raise Preempted(notice.by)  # before the first step, so that there is nothing to keep
        notice.listen()
        stopped = [each for each in trainer.early_stopping_callbacks if each.wait_count >= each.patience]
        trainer.should_stop = any(each.stopped_epoch > 0 for each in stopped)  # only its test was left to do
        self.saved = time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.early = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Never after an epoch's last batch: Lightning would go on with the next epoch, without validation."""
        left = int(trainer.num_training_batches) - 1 - batch_idx
        age = time.monotonic() - self.saved
        due = age >= self.within or (left == 1 and age >= AHEAD)
        due, stop = any_of([due, notice.by is not None], trainer.strategy.root_device)
        if left > 0 and (due or stop):
            trainer.save_checkpoint(Path(str(self.dirpath)) / "last.ckpt")
            self.saved, self.early = time.monotonic(), True
            if stop:
                raise Preempted(notice.by or SIGTERM)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Lightning calls it after each batch that is validated."""
        if self.early and any_of([notice.by is not None], trainer.strategy.root_device)[0]:
            raise Preempted(notice.by or SIGTERM)

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """The training is over and kept: the same command tests it."""
        if any_of([notice.by is not None], trainer.strategy.root_device)[0]:
            raise Preempted(notice.by or SIGTERM)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning calls it when an epoch is over."""
        over = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        due = over or time.monotonic() - self.saved >= self.seconds
        due, stop = any_of([due, notice.by is not None], trainer.strategy.root_device)
        if due or stop:
            super().on_train_epoch_end(trainer, pl_module)
            self.saved = time.monotonic()
        if stop and not over:
            raise Preempted(notice.by or SIGTERM)


class Whole(TorchCheckpointIO):
    """Writes a checkpoint beside its place and puts it there when it is whole, whatever happens in between.

    Lightning's own writes it to the folder for temporary files, which may be on another disk, and moves it.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """What Lightning calls on the first process.

        Raises:
            Refused: where the disk does not take it.
        """
        file = Path(path)
        try:
            with replacing(file, durable=True) as out:
                torch.save(checkpoint, out)
        except FileNotFoundError as error:
            raise Refused(f"{file.parent} is gone: it was moved or deleted; type the same command again") from error
        except (OSError, RuntimeError) as error:  # torch's writer tells a full disk its own way
            of_disk = next((e for e in (error, error.__context__) if isinstance(e, OSError) and e.strerror), None)
            why = of_disk.strerror if of_disk else " ".join(str(error).split())
            kept = "the last good one is kept" if file.is_file() else "there is none yet"
            raise Refused(
                f"the checkpoint {file} could not be written ({why}); {kept}: free some space there, "
                "or type output_dir=FOLDER on another disk"
            ) from error


def fitting(path: str | None, experiment: nn.Module, epochs: int) -> str | None:
    """The path of a checkpoint that this experiment can go on from, or `None` where there is none to go on from.

    Raises:
        Refused: where it cannot be read, its weights are another model's, or it was trained for more epochs already.
    """
    if path is None:
        return None
    saved = read(path)
    if lacking := [key for key in WHOLE_RUN if key not in saved]:
        raise Refused(f"ckpt={path} is not a whole checkpoint (it lacks {lacking[0]}): type the path of a last.ckpt")
    if other := misfit(saved, experiment):
        name, theirs, ours = other
        raise Refused(
            f"ckpt={path} is of another model: it has {name} of shape {theirs}, this model {ours}; "
            "type the model and data that it was trained with"
        )
    if isinstance(saved["epoch"], int) and saved["epoch"] > epochs:
        trained = saved["epoch"] + 1
        raise Refused(
            f"ckpt={path} was trained for {trained} epochs already, more than trainer.max_epochs={epochs}: "
            f"type trainer.max_epochs={trained + 1} or more"
        )
    return path


def misfit(saved: dict[str, Any], experiment: nn.Module) -> tuple[str, Any, Any] | None:
    """The first weight whose shape in a checkpoint is not that in this experiment, and both shapes."""
    theirs, ours = (
        {name: tuple(weight.shape) for name, weight in state.items()}
        for state in (saved["state_dict"], experiment.state_dict())
    )
    names = (name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name))
    return next(((name, theirs.get(name), ours.get(name)) for name in names), None)


def read(path: str | Path) -> dict[str, Any]:
    """What a checkpoint holds, read as data: code that a stranger put into it is not run.

    Raises:
        Refused: where it is not there, not whole, or holds more than data.
    """
    try:
        if not check_archive(Path(path)):
            raise ValueError("it is no archive of torch's")
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not all(isinstance(weight, torch.Tensor) for weight in saved["state_dict"].values()):
            raise ValueError("its weights are no tensors")
    except Exception as error:  # torch.load raises many kinds for a file that is no checkpoint
        what = " ".join(str(error).split())[:120]
        raise Refused(f"ckpt={path} is not a whole checkpoint ({what}): type the path of a last.ckpt") from None
    return saved
