"""A callback that runs are given: they wait in the midst, so that what is to happen to them does not come too late."""

import time
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer

from losslab.training.preemption import notice


class Held(Callback):
    """Holds a run as an epoch begins, until a signal has come or its mark is gone; where the run resumes, it goes on.

    Args:
        epoch: which one.
        mark: where the file lies that tells that the run is held; each process adds its number.
        rate: runs with a larger learning rate are not held.
    """

    def __init__(self, epoch: int, mark: str, rate: float = float("inf")) -> None:
        self.epoch, self.mark, self.rate = epoch, mark, rate

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        mark = Path(f"{self.mark}-{trainer.global_rank}")
        slow = trainer.optimizers[0].param_groups[0]["lr"] <= self.rate
        if trainer.current_epoch == self.epoch and slow and not mark.exists():
            mark.touch()
            while notice.by is None and mark.exists():
                time.sleep(0.01)
