"""A callback that jobs are given: their runs cannot be over before SLURM takes the nodes away."""

import time
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from losslab.preemption import notice


class Held(Callback):
    """Holds a run as an epoch begins, until a signal has come; on the next start it goes on.

    Args:
        epoch: which one.
        mark: of the files that tell that the run is held, the first part of their names; each process has its own.
    """

    def __init__(self, epoch: int, mark: str) -> None:
        self.epoch, self.mark = epoch, mark

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        mark = Path(f"{self.mark}-{trainer.global_rank}")
        if trainer.current_epoch == self.epoch and not mark.exists():
            mark.touch()
            while notice.by is None:
                time.sleep(0.01)
