"""Train the runs of a sweep in as few stacks as they fit into; each keeps its own folder, record and checkpoints.

One `Trainer.fit` trains a stack. All other runs train alone, as `losslab` trains them: those that
`losslab.stacking.group` names by their configurations, those whose first epoch fails as a stack, and those that go on
from a checkpoint.
"""

import gc
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NoReturn

import pytorch_lightning as pl
import torch

from losslab import terminal
from losslab.build import batch_size, build_loaders, build_trainer
from losslab.config.launch import check_launch
from losslab.data.batches import NORMALISED_AHEAD
from losslab.data.dataset import Dataset
from losslab.errors import Refused
from losslab.machine import environment, frozen_heap
from losslab.record.record import stopped_by
from losslab.stacking.batches import StackedBatches
from losslab.stacking.callbacks import StackCallbacks
from losslab.stacking.finish import finish
from losslab.stacking.group import Planned
from losslab.stacking.job import Job, build_job, settings_key
from losslab.stacking.module import Stack
from losslab.train import Summary, train
from losslab.training import preemption
from losslab.training.preemption import notice
from losslab.training.threads import use_threads


def train_together(runs: Sequence[Planned]) -> list[Summary | BaseException]:
    """Train these runs, as stacks where they fit; return the summary of each, or why it has none.

    Args:
        runs: as `losslab.stacking.group.split_stacks` puts them together.
    """
    left = [list(runs)]
    while left:
        some = left.pop(0)
        if len(some) == 1:
            with noted(some[0]):
                some[0].outcome = train(some[0].cfg, folder=some[0].folder)
            continue
        terminal.quieten()
        stacks: dict[str, list[Job]] = {}
        for job in build_jobs(some):
            stacks.setdefault(job.shape_key(), []).append(job)
        while stacks:
            left += train_stack(stacks.pop(next(iter(stacks))))
        gc.collect()  # what was on the device
    return [run.outcome for run in runs]


@contextmanager
def noted(run: Planned) -> Iterator[None]:
    """Note an error as what became of a run: the next one's turn comes, as with Hydra's own launcher."""
    try:
        yield
    except Exception as error:
        run.outcome = error
        if isinstance(error, Refused):
            print(f"losslab: {error}", file=sys.stderr, flush=True)


def build_jobs(runs: Sequence[Planned]) -> list[Job]:
    """Build the runs but those that are refused, sorted by the settings of their optimizers as `Stack` needs them."""
    jobs: list[Job] = []
    datasets: dict[str, Dataset] = {}
    for planned in sorted(runs, key=lambda run: settings_key(run, "optimizer")):
        with noted(planned):
            check_launch(planned.cfg)
            jobs.append(build_job(planned, datasets))
    return jobs


def train_stack(jobs: list[Job]) -> list[list[Planned]]:
    """Train runs of one shape together and record each; return those that have to train alone or in smaller stacks."""
    apart = [[job.planned] for job in jobs]
    if len(jobs) == 1 or any(True for job in jobs for _ in job.run.loss.parameters()):
        why = "there is no other like it" if len(jobs) == 1 else "their loss has parameters of its own"
        print(f"{len(jobs)} of the runs train one by one: {why}", flush=True)
        return apart
    trainer = build_trainer(jobs[0].cfg, jobs[0].data)
    with preemption.note_signals(), ExitStack() as claims:
        for job in jobs:
            with noted(job.planned):
                job.claim(trainer, claims)
        claimed = [job for job in jobs if job.planned.outcome is None]
        fresh = [job for job in claimed if not job.record.ckpt]
        if resumed := len(claimed) - len(fresh):
            print(f"{resumed} of the runs go on from their checkpoints, one by one", flush=True)
        left = fit(fresh, trainer) if len(fresh) > 1 else []
        claims.close()
        if notice.by is not None:  # it came when there was nothing left to stop but what follows
            leave(notice.by)
    return [[job.planned] for job in claimed if job not in fresh or len(fresh) == 1] + left


def fit(jobs: list[Job], trainer: pl.Trainer) -> list[list[Planned]]:
    """Train, test and record runs as one stack; return what to train instead where that is not possible."""
    first, here, by = jobs[0], environment(), None
    threads = use_threads(first.cfg, trainer, first.run, first.data, batch_size(first.cfg, first.data) * len(jobs))
    for job in jobs:
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
    finish(jobs, by)
    if by is not None:
        leave(by)
    return []


def split(jobs: list[Job], error: BaseException) -> list[list[Planned]]:
    """Split a stack that does not fit into memory into two, and one that fails before an epoch is over into its runs.

    `vmap` does not know all that a model may do. If stacking is not to blame, a run by itself fails in the same way.
    """
    size, why = 1, " ".join(str(error).split())[:200] or type(error).__name__
    if isinstance(error, torch.OutOfMemoryError):
        size = -(-len(jobs) // 2)
        print(f"{len(jobs)} runs as one need more memory than there is: trying {size}", flush=True)
    elif any(job.record.history for job in jobs):
        return []
    else:
        print(f"{len(jobs)} of the runs train one by one: {why}", flush=True)
    for job in jobs:
        job.planned.folder = job.record.folder
    return [[job.planned for job in jobs[start : start + size]] for start in range(0, len(jobs), size)]


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
    good = [(job, each) for job, each in zip(jobs, loaders, strict=True) if job.error is None]
    if not good:
        return
    for job, _ in good:
        job.run.load_state_dict(job.checkpoints["best"]()["state_dict"])
    stack = build_stack([job for job, _ in good])
    trainer.test(stack, [StackedBatches([each[part] for _, each in good]) for part in (2, 1)], verbose=False)
    for (job, _), row, *scores in zip(good, stack.test_rows, stack.test_scores, stack.val_scores, strict=True):
        job.test = row, dict(zip(("test", "val"), scores, strict=True))


def build_stack(jobs: Sequence[Job]) -> Stack:
    """Make one Lightning module of these runs."""
    return Stack([job.run for job in jobs], [settings_key(job.planned, "loss") for job in jobs])


def leave(by: signal.Signals) -> NoReturn:
    """Exit after a signal, with its exit code."""
    if by in preemption.SIGNALS:
        preemption.requeue(by)
    sys.exit(128 + by)
