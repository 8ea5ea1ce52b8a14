"""The checkpoints and early stopping of each run in a stack."""

import math
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint

from losslab.internals.lightning import dump_checkpoint, update_best, update_early_stopping
from losslab.record.rows import timeless
from losslab.stacking.job import Job
from losslab.stacking.module import Stack
from losslab.stacking.snapshots import Snapshots
from losslab.training.preemption import Preempted, ctrl_c_waits, notice


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
        self.snapshots: dict[str, Snapshots] = {}
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
        kept: dict[str, dict[int, Any]] = {"best": {}, "last": {}}
        going = [(number, job) for number, job in enumerate(self.jobs) if not job.over]
        for number, job in going:
            job.error = pl_module.errors[number]
            try:
                if job.error is None:
                    better, more = self.end_epoch(trainer, pl_module, number)
                    kept["best"] |= {number: more} if better else {}
                    kept["last"] |= {number: more} if due or job.stopped else {}
            except OSError as error:  # the history could not be written
                job.fail(error)
        self.keep(trainer, pl_module, kept)
        for _, job in going:
            if writes or job.error is not None:
                job.write_checkpoints()
            if job.error is not None:
                job.record.note("failed", f"{type(job.error).__name__}: {job.error}")
        if all(job.over for job in self.jobs):
            trainer.should_stop = True
        elif not last:
            self.on_train_batch_end()

    def keep(self, trainer: pl.Trainer, stack: Stack, kept: dict[str, dict[int, Any]]) -> None:
        """Keep the checkpoints of this epoch: of each name those of some runs."""
        wanted = {name: runs for name, runs in kept.items() if runs}
        saved = dump_checkpoint(trainer) if wanted else {}
        with ctrl_c_waits():  # half way, a checkpoint would mix two epochs
            for name, runs in wanted.items():
                if name not in self.snapshots:
                    self.snapshots[name] = Snapshots(stack)
                self.snapshots[name].take(saved, runs)
                for number in runs:
                    self.jobs[number].checkpoints[name] = partial(self.snapshots[name].checkpoint, number)

    def end_epoch(self, trainer: pl.Trainer, stack: Stack, number: int) -> tuple[bool, dict[str, Any]]:
        """Record a run's epoch, and note whether it stops early.

        Args:
            trainer: of the stack.
            stack: the runs.
            number: of the run in the stack.

        Returns:
            Whether the epoch is the run's best so far, and what its checkpoint holds beside what the stack knows.
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
        callbacks = {callback.state_key: callback.state_dict() for callback in job.callbacks.values()}
        return better, {"callbacks": callbacks, "row": timeless(job.record.history[-1])}
