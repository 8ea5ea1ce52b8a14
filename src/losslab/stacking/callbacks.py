"""The checkpoints and early stopping of each run in a stack."""

import copy
import math
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.utilities import move_data_to_device

from losslab.internals.lightning import dump_checkpoint, update_best, update_early_stopping
from losslab.record.rows import timeless
from losslab.stacking.job import Job
from losslab.stacking.module import Stack
from losslab.training.preemption import Preempted, notice


class StackCallbacks(pl.callbacks.Checkpoint):
    """What the callbacks of each run do at the end of an epoch: the best and last checkpoint, and early stopping.

    Checkpoints are kept in memory, and written when the stack ends or is stopped, and every `within` seconds. A run
    that is over stays in the stack, but nothing more of it is recorded.

    Args:
        jobs: in the stack's order.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = jobs
        last = jobs[0].cfg.callbacks.get("last", {})
        self.seconds, self.within = float(last.get("seconds", 1.0)), float(last.get("within", 300.0))
        self.kept, self.written = -math.inf, time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace Lightning's signal handlers, which would stop the stack without checkpoints."""
        notice.listen()
        self.on_train_batch_end()

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop if a signal has come; the steps since the last epoch are trained again."""
        if notice.by is not None:
            raise Preempted(notice.by)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Record the epoch of each run that is not over."""
        assert isinstance(pl_module, Stack)
        last, now = trainer.current_epoch + 1 == trainer.max_epochs, time.monotonic()
        due, writes = last or now - self.kept >= self.seconds, now - self.written >= self.within
        self.kept, self.written = now if due else self.kept, now if writes else self.written
        saved = dump_checkpoint(trainer)
        saved["lr_schedulers"] = copy.deepcopy(saved["lr_schedulers"])
        saved = move_data_to_device(saved, torch.device("cpu"))  # all at once; a forked process has no GPU
        for number, job in enumerate(self.jobs):
            if job.over:
                continue
            job.error = pl_module.errors[number]
            try:
                if job.error is None:
                    self.end_epoch(trainer, pl_module, number, due, saved)
            except OSError as error:  # the history could not be written
                job.fail(error)
            if writes or job.error is not None:
                job.write_checkpoints()
            if job.error is not None:
                job.record.note("failed", f"{type(job.error).__name__}: {job.error}")
        if all(job.over for job in self.jobs):
            trainer.should_stop = True
        elif not last:
            self.on_train_batch_end()

    def end_epoch(self, trainer: pl.Trainer, stack: Stack, number: int, due: bool, saved: dict[str, Any]) -> None:
        """Record a run's epoch, keep its checkpoints, and note whether it stops early.

        Args:
            trainer: of the stack.
            stack: the runs.
            number: of the run in the stack.
            due: whether the last checkpoint is kept now.
            saved: Lightning's checkpoint of the stack.
        """
        job, row = self.jobs[number], stack.epoch_rows[number]
        job.record.log_metrics(row, step=trainer.global_step)
        best = job.callbacks["best"]
        assert isinstance(best, ModelCheckpoint)
        score = torch.tensor(row[str(best.monitor)])
        better = update_best(best, score)
        early = [callback for callback in job.callbacks.values() if isinstance(callback, EarlyStopping)]
        stops = [update_early_stopping(callback, score, trainer.current_epoch) for callback in early]  # all of them
        job.stopped = any(stops)
        names = ["best"] * better + ["last"] * (due or job.stopped)
        if names:
            state = {
                **stack.checkpoint(number, saved),
                "callbacks": {callback.state_key: callback.state_dict() for callback in job.callbacks.values()},
                "row": timeless(job.record.history[-1]),
            }
            job.checkpoints |= dict.fromkeys(names, state)
