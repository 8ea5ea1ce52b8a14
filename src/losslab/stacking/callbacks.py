"""The checkpoints and early stopping of each run in a stack."""

import math
import time
from collections.abc import Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities import move_data_to_device

from losslab.internals.lightning import update_best, update_early_stopping
from losslab.record.rows import timeless
from losslab.stacking.batches import StackedBatches
from losslab.stacking.job import Job, unwritable, write_checkpoints
from losslab.stacking.module import Stack
from losslab.training.preemption import Preempted, notice


class InMemoryCheckpoints(CheckpointIO):
    """Keeps the stack's checkpoint, which Lightning would write: each run writes one of its own."""

    checkpoint: dict[str, Any]

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self.checkpoint = checkpoint

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.checkpoint

    def remove_checkpoint(self, path: Any) -> None:
        """Do nothing: no file was written."""


class StackCallbacks(pl.callbacks.Checkpoint):
    """What the callbacks of each run do at the end of an epoch: the best and last checkpoint, and early stopping.

    Checkpoints are kept in memory, and written when a run ends, when the stack is stopped, and every `within` seconds.

    Args:
        jobs: in the stack's order.
        loaders: whose batches a run no longer needs when it is over.
        memory: keeps Lightning's checkpoint of the stack.
    """

    def __init__(self, jobs: Sequence[Job], loaders: Sequence[StackedBatches], memory: InMemoryCheckpoints) -> None:
        self.jobs, self.loaders, self.memory = list(jobs), loaders, memory
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
        """Record each run's epoch, and go on with those that are not over."""
        assert isinstance(pl_module, Stack)
        over, now = trainer.current_epoch + 1 == trainer.max_epochs, time.monotonic()
        due, writes = over or now - self.kept >= self.seconds, now - self.written >= self.within
        self.kept, self.written = now if due else self.kept, now if writes else self.written
        trainer.save_checkpoint("memory")
        left = []
        for number, (job, row) in enumerate(zip(self.jobs, pl_module.epoch_rows, strict=True)):
            job.error, goes_on = pl_module.errors[number], False
            try:
                goes_on = job.error is None and self.end_epoch(trainer, pl_module, number, job, row, due)
            except OSError as error:  # the history could not be written
                job.error = unwritable(job, error)
            if writes or job.error is not None:
                write_checkpoints(job)
            if job.error is not None:
                job.record.note("failed", f"{type(job.error).__name__}: {job.error}")
            elif goes_on:
                left.append(number)
        self.keep(trainer, pl_module, left)
        if not over and left:
            self.on_train_batch_end()

    def keep(self, trainer: pl.Trainer, stack: Stack, left: list[int]) -> None:
        """Go on with these runs of the stack only."""
        if not left:
            trainer.should_stop = True
        elif len(left) < len(self.jobs):
            stack.keep(left)
            for loader in self.loaders:
                loader.keep(left)
            self.jobs = [self.jobs[number] for number in left]

    def end_epoch(
        self, trainer: pl.Trainer, stack: Stack, number: int, job: Job, row: dict[str, float], due: bool
    ) -> bool:
        """Record a run's epoch and keep its checkpoints; return whether the run goes on.

        Args:
            trainer: of the stack.
            stack: the runs.
            number: of the run in the stack.
            job: the run.
            row: what the run logs of the epoch.
            due: whether the last checkpoint is kept now; of all runs at once, so that they can resume as one.
        """
        job.record.log_metrics(row, step=trainer.global_step)
        score = torch.tensor(row[job.monitor])
        better = update_best(job.best, str(job.record.folder / "best.ckpt"), score)
        early = [callback for callback in job.callbacks if isinstance(callback, EarlyStopping)]
        stops = [update_early_stopping(callback, score, trainer.current_epoch) for callback in early]  # all of them
        stopping = any(stops)
        if better or due or stopping:
            state = {
                **stack.checkpoint(number, self.memory.checkpoint),
                "callbacks": {callback.state_key: callback.state_dict() for callback in job.callbacks},
                "row": timeless(job.record.history[-1]),
            }
            if stack.device.type != "cpu":  # a forked process that writes it has no GPU
                state = move_data_to_device(state, torch.device("cpu"))
            job.checkpoints |= {"best": state} if better else {}
            job.checkpoints |= {"last": state} if due or stopping else {}
        return not stopping
