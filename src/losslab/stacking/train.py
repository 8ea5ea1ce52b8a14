"""Train the runs of a sweep in as few stacks as they fit into; each keeps its own folder, record and checkpoints.

One `Trainer.fit` trains a stack. All other runs train alone, as `losslab` trains them: those that
`losslab.stacking.group` names by their configurations, those whose first epoch fails as a stack, and those that go on
from a checkpoint.
"""

import gc
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import NoReturn

import pytorch_lightning as pl
import torch

from losslab import terminal
from losslab.build import batch_size, build_loaders, build_optimizer, build_trainer
from losslab.config.launch import check_launch
from losslab.config.make import call
from losslab.data.batches import NORMALISED_AHEAD
from losslab.data.dataset import Dataset
from losslab.errors import Refused
from losslab.machine import environment, frozen_heap
from losslab.record.record import stopped_by
from losslab.stacking.batches import StackedBatches
from losslab.stacking.callbacks import StackCallbacks
from losslab.stacking.finish import Outcome, finish
from losslab.stacking.group import Planned
from losslab.stacking.job import Job, build_job, claim_record, sort_by_settings
from losslab.stacking.module import Stack
from losslab.train import train
from losslab.training import preemption
from losslab.training.callbacks import build_callbacks
from losslab.training.preemption import notice
from losslab.training.threads import use_threads

Outcomes = dict[int, Outcome]  # by the number of the run


def train_together(runs: Sequence[Planned]) -> list[Outcome]:
    """Train these runs, as stacks where they fit; return the summary of each, or why it has none.

    Args:
        runs: as `losslab.stacking.group.split_stacks` puts them together.
    """
    if len(runs) == 1:
        return [train_alone(runs[0])]
    terminal.quieten()
    outcomes: Outcomes = {}
    left: list[list[Planned]] = []
    stacks: dict[str, list[Job]] = {}
    for job in build_jobs(runs, outcomes):
        stacks.setdefault(job.shape_key(), []).append(job)
    while stacks:
        left += train_stack(stacks.pop(next(iter(stacks))), outcomes)
    gc.collect()  # what was on the device
    for some in left:
        outcomes |= zip((run.number for run in some), train_together(some), strict=True)
    return [outcomes[run.number] for run in runs]


def train_alone(run: Planned) -> Outcome:
    """Train one run by itself; whatever it ends with, the next one's turn comes, as with Hydra's own launcher."""
    try:
        return train(run.cfg, folder=run.folder)
    except Refused as error:
        print(f"losslab: {error}", file=sys.stderr, flush=True)
        return error
    except Exception as error:
        return error


def build_jobs(runs: Sequence[Planned], outcomes: Outcomes) -> list[Job]:
    """Build the runs; those that are refused have an outcome already."""
    jobs: list[Job] = []
    datasets: dict[str, Dataset] = {}
    for planned in runs:
        try:
            check_launch(planned.cfg)
            jobs.append(build_job(planned, datasets))
        except Refused as error:
            print(f"losslab: {error}", file=sys.stderr, flush=True)
            outcomes[planned.number] = error
    return jobs


def build_stack(jobs: Sequence[Job]) -> Stack:
    """Make one Lightning module of these runs."""
    cfg = jobs[0].cfg
    waiting = build_optimizer(cfg)
    losses = [job.loss_key() for job in jobs]
    return Stack([job.run for job in jobs], losses, lambda groups: call(cfg, "optimizer", waiting, groups))


def train_stack(jobs: list[Job], outcomes: Outcomes) -> list[list[Planned]]:
    """Train runs of one shape together and record each; return those that have to train alone or in smaller stacks.

    Args:
        jobs: the runs.
        outcomes: filled with what became of the others.
    """
    if len(jobs) == 1 or any(True for job in jobs for _ in job.run.loss.parameters()):
        why = "there is no other like it" if len(jobs) == 1 else "their loss has parameters of its own"
        print(f"{len(jobs)} of the runs train one by one: {why}", flush=True)
        return [[job.planned] for job in jobs]
    trainer, interrupt = build_trainer(jobs[0].cfg, jobs[0].data), signal.getsignal(signal.SIGINT)
    claimed: list[Job] = []
    with preemption.note_signals():
        try:
            for job in jobs:
                try:
                    claim_record(job, trainer)
                    claimed.append(job)
                except Refused as error:
                    print(f"losslab: {error}", file=sys.stderr, flush=True)
                    outcomes[job.planned.number] = error
            fresh = [job for job in claimed if not job.record.ckpt]
            alone = [job for job in claimed if job not in fresh or len(fresh) == 1]
            if resumed := len(claimed) - len(fresh):
                print(f"{resumed} of the runs go on from their checkpoints, one by one", flush=True)
            smaller = fit(sort_by_settings(fresh), trainer, outcomes) if len(fresh) > 1 else []
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupt)
            for job in claimed:
                job.record.release()
        if notice.by is not None:  # it came when there was nothing left to stop but what follows
            leave(notice.by)
    return [[job.planned] for job in alone] + smaller


def fit(jobs: list[Job], trainer: pl.Trainer, outcomes: Outcomes) -> list[list[Planned]]:
    """Train, test and record runs as one stack; return what to train instead where that is not possible.

    Args:
        jobs: the runs, sorted by the settings of their optimizers.
        trainer: for them.
        outcomes: filled with what became of the runs.
    """
    first, here, by = jobs[0], environment(), None
    threads = use_threads(first.cfg, trainer, first.run, first.data, batch_size(first.cfg, first.data) * len(jobs))
    for job in jobs:
        job.callbacks = build_callbacks(job.cfg)
        job.record.begin([], {**job.facts, "threads": threads, "stacked": len(jobs)}, here)
    print(terminal.opening_stack([job.cfg for job in jobs], first.facts), flush=True)
    try:
        with frozen_heap():
            fit_and_test(jobs, trainer)
    except BaseException as error:
        by = stopped_by(error)
        if by is None and not isinstance(error, Exception):
            raise
        if by is None and (smaller := split(jobs, error)):
            return smaller
        for job in jobs:  # checkpoints first: there may be little time
            job.error = job.error or error
            job.write_checkpoints()
    outcomes |= zip((job.planned.number for job in jobs), finish(jobs, by), strict=True)
    if by is not None:
        leave(by)
    return []


def split(jobs: list[Job], error: BaseException) -> list[list[Planned]]:
    """Split a stack that does not fit into memory into two, and one that fails before an epoch is over into its runs.

    `vmap` does not know all that a model may do. If stacking is not to blame, a run by itself fails in the same way.
    """
    half, why = 1, " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, torch.OutOfMemoryError):
        half = -(-len(jobs) // 2)
        print(f"{len(jobs)} runs as one need more memory than there is: trying {half}", flush=True)
    elif any(job.record.history for job in jobs):
        return []
    else:
        print(f"{len(jobs)} of the runs train one by one: {why}", flush=True)
    again = [replace(job.planned, folder=job.record.folder) for job in jobs]
    return [again[start : start + half] for start in range(0, len(again), half)]


def fit_and_test(jobs: list[Job], trainer: pl.Trainer) -> None:
    """Fit the stack, and test the best epoch of each run that did not fail."""
    for job in jobs:
        trainer.precision_plugin.convert_module(job.run)
    images = sum(4 * job.data.x[0].size * len(job.data.y) for job in jobs)  # bytes: each run has its own
    loaders = [build_loaders(job.cfg, job.data, ahead=images <= NORMALISED_AHEAD) for job in jobs]
    training, val, _ = (StackedBatches(parts) for parts in zip(*loaders, strict=True))
    bar = [terminal.Progress(jobs[0].cfg)] if jobs[0].cfg.trainer.enable_progress_bar else []
    callbacks = [*bar, StackCallbacks(jobs)]
    trainer.callbacks = callbacks  # type: ignore[attr-defined]
    trainer.fit(build_stack(jobs), training, val)
    good = [number for number, job in enumerate(jobs) if job.error is None]
    for job in (jobs[number] for number in good):
        job.run.load_state_dict(job.checkpoints["best"]["state_dict"])
    if good:
        stack = build_stack([jobs[number] for number in good])
        parts = [StackedBatches([loaders[number][part] for number in good]) for part in (2, 1)]
        trainer.test(stack, parts, verbose=False)
        for number, row, *scores in zip(good, stack.test_rows, stack.test_scores, stack.val_scores, strict=True):
            jobs[number].test = row, dict(zip(("test", "val"), scores, strict=True))


def leave(by: signal.Signals) -> NoReturn:
    """Exit after a signal, with its exit code."""
    if by in preemption.SIGNALS:
        preemption.requeue(by)
    sys.exit(128 + by)
