"""Checkpoints: written often enough, and read back without running code."""

import time

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from losslab.errors import Refused


class LastCheckpoint(ModelCheckpoint):
    """`last.ckpt` at the end of an epoch, but at most once in `seconds`, and always when training is over.

    Where epochs take milliseconds, writing it after each would take longer than training. A run that is killed loses
    at most `seconds` and one epoch; what it resumes to is the same.

    Args:
        dirpath: the run's folder.
        seconds: 0 for every epoch.
    """

    def __init__(self, dirpath: str, seconds: float = 1.0) -> None:
        super().__init__(dirpath, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self.seconds, self.saved = seconds, 0.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning calls it when an epoch is over."""
        over = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        if over or time.monotonic() - self.saved >= self.seconds:
            super().on_train_epoch_end(trainer, pl_module)
            self.saved = time.monotonic()


def fitting(path: str | None, experiment: nn.Module) -> str | None:
    """The path of a checkpoint that this experiment can go on from, or `None` where there is none to go on from.

    Raises:
        Refused: where it cannot be read, or its weights are another model's.
    """
    if path is None:
        return None
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        shapes = {name: tuple(weight.shape) for name, weight in saved["state_dict"].items()}
    except Exception as error:  # torch.load raises many kinds for a file that is no checkpoint
        what = " ".join(str(error).split())[:120]
        raise Refused(f"ckpt={path} is not a whole checkpoint ({what}): type the path of a last.ckpt") from None
    wanted = {name: tuple(weight.shape) for name, weight in experiment.state_dict().items()}
    for name in sorted({*shapes, *wanted}):
        if shapes.get(name) != wanted.get(name):
            raise Refused(
                f"ckpt={path} is of another model: it has {name} of shape {shapes.get(name)}, this model "
                f"{wanted.get(name)}; type the model and data that it was trained with"
            )
    return path
