"""Train the runs of a sweep in as few stacks as they fit into; each keeps its own folder, record and checkpoints.

One `Trainer.fit` trains a stack. Runs that would share too much train alone: those whose optimizer looks at more than
one weight at a time, whose schedule looks at a metric, or whose callbacks act on one model. A stack that was stopped
resumes as one, from the checkpoints of its runs.
"""

import gc
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig

from losslab import terminal
from losslab.build import batch_size, build_loaders, build_module, build_optimizer, build_trainer
from losslab.config.launch import check_launch
from losslab.config.make import call
from losslab.data.batches import NORMALISED_AHEAD, Batches
from losslab.data.dataset import Dataset
from losslab.errors import Refused
from losslab.machine import environment, frozen_heap
from losslab.record.record import stopped_by
from losslab.stacking.batches import StackedBatches
from losslab.stacking.callbacks import InMemoryCheckpoints, StackCallbacks
from losslab.stacking.finish import Outcome, finish
from losslab.stacking.group import Planned
from losslab.stacking.job import (
    Job,
    begin,
    build_job,
    claim_record,
    release,
    resume_key,
    sort_by_settings,
    write_checkpoints,
)
from losslab.stacking.module import Stack
from losslab.train import train
from losslab.training import preemption
from losslab.training.preemption import notice
from losslab.training.threads import use_threads

Outcomes = dict[int, Outcome]  # by the number of the run


def train_together(runs: Sequence[Planned]) -> list[Outcome]:
    """Train these runs, as stacks where they fit; return the summary of each, or why it has none.

    Args:
        runs: as `losslab.stacking.group.plan_stacks` puts them together.
    """
    terminal.quieten()
    jobs, outcomes = build_jobs(runs)
    stacks: dict[str, list[Job]] = {}
    for job in jobs:
        stacks.setdefault(job.shape_key(), []).append(job)
    left: list[Job] = []
    for stack in stacks.values():
        reason = "there is no other like it" if len(stack) == 1 else reason_apart(stack)
        if reason is None:
            left += train_stack(stack, outcomes)
        else:
            print(f"{len(stack)} of the runs train one by one: {reason}", flush=True)
            left += stack
    alone = [(job.number, job.cfg, job.folder) for job in left]
    del jobs, stacks, left  # their models and data
    for number, cfg, folder in alone:
        outcomes[number] = train_alone(cfg, folder)
    return [outcomes.get(number, RuntimeError("it has no outcome")) for number in range(len(runs))]


def build_jobs(runs: Sequence[Planned]) -> tuple[list[Job], Outcomes]:
    """Build the runs; those that are refused have an outcome already."""
    jobs: list[Job] = []
    outcomes: Outcomes = {}
    datasets: dict[str, Dataset] = {}
    for number, planned in enumerate(runs):
        try:
            check_launch(planned.cfg)
            jobs.append(build_job(number, planned, datasets))
        except Refused as error:
            print(f"losslab: {error}", file=sys.stderr, flush=True)
            outcomes[number] = error
    return jobs, outcomes


def train_alone(cfg: DictConfig, folder: Path | None) -> Outcome:
    """Train one run by itself; whatever it ends with, the next one's turn comes, as with Hydra's own launcher."""
    try:
        return train(cfg, folder=folder)
    except Refused as error:
        print(f"losslab: {error}", file=sys.stderr, flush=True)
        return error
    except Exception as error:
        return error


def build_stack(jobs: Sequence[Job]) -> Stack:
    """Make one Lightning module of these runs."""
    cfg = jobs[0].cfg
    waiting = build_optimizer(cfg)
    losses = [job.loss_key() for job in jobs]
    return Stack([job.run for job in jobs], losses, lambda groups: call(cfg, "optimizer", waiting, groups))


def reason_apart(jobs: Sequence[Job]) -> str | None:
    """Try two rows of each loss; return why a model, a loss or a metric does not run stacked, if it does not."""
    some = list({job.loss_key(): job for job in jobs}.values())
    some += [job for job in jobs if job not in some][: max(0, 2 - len(some))]
    pairs = [next(iter(Batches(job.data, "train", 2))) for job in some]
    x, *truth = (torch.stack(part) for part in zip(*pairs, strict=True))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns where vmap goes through the runs one by one
            stack = build_stack(some)
            scores = stack.scores(x)
            total = stack.compute_loss(scores, *truth).sum()
            torch.autograd.grad(total, list(stack.scores.parameters()), allow_unused=True)
            stack.evaluate("val", (scores.detach(), *truth))
    except Exception as error:  # if stacking is not to blame, a run by itself raises it again
        return " ".join(str(error).split())[:200] or type(error).__name__
    if any(True for job in some for _ in job.run.loss.parameters()):
        return "their loss has parameters of its own"
    return None


def train_stack(jobs: list[Job], outcomes: Outcomes) -> list[Job]:
    """Train runs of one shape together and record each; return those that have to train alone.

    Args:
        jobs: the runs.
        outcomes: filled with what became of the others.
    """
    first = jobs[0]
    trainer = build_trainer(first.cfg, first.data)
    threads = use_threads(first.cfg, trainer, first.run, first.data, batch_size(first.cfg, first.data) * len(jobs))
    for job in jobs:
        job.facts["threads"] = threads
    here = environment()
    interrupt = signal.getsignal(signal.SIGINT)
    claimed: list[Job] = []
    with preemption.note_signals():
        try:
            for job in jobs:
                trainer.precision_plugin.convert_module(job.run)
                try:
                    claim_record(job, trainer)
                    claimed.append(job)
                except Refused as error:
                    print(f"losslab: {error}", file=sys.stderr, flush=True)
                    outcomes[job.number] = error
            waiting, left = group_by_start(claimed)
            while waiting:
                some = waiting.pop(0)
                half = -(-len(some) // 2)
                if half == len(some):
                    left += some
                elif not fit(some, here, outcomes):
                    print(f"{len(some)} runs as one need more memory than there is: trying {half}", flush=True)
                    rebuild(some, trainer)
                    waiting += [some[:half], some[half:]]
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupt)
            for job in claimed:
                release(job.record)
        if notice.by is not None:  # it came when there was nothing left to stop but what follows
            leave(notice.by)
    return left


def group_by_start(jobs: Sequence[Job]) -> tuple[list[list[Job]], list[Job]]:
    """Group runs that start, or resume from the same step; return the groups, and the runs that have no other."""
    starts: dict[object, list[Job]] = {}
    for job in jobs:
        starts.setdefault(resume_key(job), []).append(job)
    left = [some[0] for some in starts.values() if len(some) == 1]
    if alone := sum(job.record.ckpt is not None for job in left):
        print(f"{alone} of the runs go on from their checkpoints, one by one", flush=True)
    return [sort_by_settings(some) for some in starts.values() if len(some) > 1], left


def leave(by: signal.Signals) -> NoReturn:
    """Exit after a signal, with its exit code."""
    if by in preemption.SIGNALS:
        preemption.requeue(by)
    sys.exit(128 + by)


def rebuild(jobs: Sequence[Job], trainer: pl.Trainer) -> None:
    """Free the device's memory, and give the runs the weights that they began with."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for job in jobs:
        job.run = build_module(job.cfg, job.data)
        trainer.precision_plugin.convert_module(job.run)


def fit(jobs: list[Job], here: dict[str, str | None], outcomes: Outcomes) -> bool:
    """Train, test and record runs as one stack; return `False` if the memory is too small to begin.

    Args:
        jobs: the runs, sorted by the settings of their optimizers.
        here: the environment.
        outcomes: filled with what became of the runs.
    """
    for job in jobs:
        begin(job, len(jobs), here)
    print(terminal.opening_stack([job.cfg for job in jobs], jobs[0].facts), flush=True)
    by = None
    try:
        with frozen_heap():
            fit_and_test(jobs)
    except BaseException as error:
        fresh = not any(job.record.history for job in jobs)
        if isinstance(error, torch.OutOfMemoryError) and len(jobs) > 1 and fresh:
            return False
        by = stopped_by(error)
        if by is None and not isinstance(error, Exception):
            raise
        for job in jobs:  # checkpoints first: there may be little time
            job.error = job.error or explain_memory(error, len(jobs))
            write_checkpoints(job)
    outcomes |= zip((job.number for job in jobs), finish(jobs, by), strict=True)
    if by is not None:
        leave(by)
    return True


def fit_and_test(jobs: list[Job]) -> None:
    """Fit the stack, and test the best epoch of each run that did not fail."""
    cfg, trainer = jobs[0].cfg, build_trainer(jobs[0].cfg, jobs[0].data)
    images = sum(4 * job.data.x[0].size * len(job.data.y) for job in jobs)  # bytes: each run has its own
    loaders = [build_loaders(job.cfg, job.data, ahead=images <= NORMALISED_AHEAD) for job in jobs]
    training, val, test = (StackedBatches(parts) for parts in zip(*loaders, strict=True))
    again = StackedBatches(val.loaders)  # the validation rows of runs that end early, too
    trainer.strategy.checkpoint_io = memory = InMemoryCheckpoints()
    bar = [terminal.Progress(cfg)] if cfg.trainer.enable_progress_bar else []
    callbacks = [*bar, StackCallbacks(jobs, (training, val), memory)]
    trainer.callbacks = callbacks  # type: ignore[attr-defined]
    stack, ckpt = build_stack(jobs), None
    if saved := [job.saved for job in jobs if job.saved is not None]:
        print(f"resumed  from their checkpoints, after {saved[0]['global_step']:,} steps", flush=True)
        memory.checkpoint, ckpt = stack.join_checkpoints(saved), "memory"
    trainer.fit(stack, training, val, ckpt_path=ckpt)
    good = [job for job in jobs if job.error is None]
    for job in good:
        job.run.load_state_dict(job.checkpoints["best"]["state_dict"])
    for each in (test, again):
        each.keep([jobs.index(job) for job in good])
    if good:
        stack = build_stack(good)
        trainer.test(stack, [test, again], verbose=False)
        for job, row, *scores in zip(good, stack.test_rows, stack.test_scores, stack.val_scores, strict=True):
            job.test = row, dict(zip(("test", "val"), scores, strict=True))


def explain_memory(error: BaseException, runs: int) -> BaseException:
    """Return the sentence for a stack that is too large for the device's memory; any other error as it is."""
    if not isinstance(error, torch.OutOfMemoryError):
        return error
    half = max(1, runs // 2)
    return Refused(
        f"{runs} runs at once are more than the memory holds: type hydra.launcher.width={half}, "
        f"or stack={half} for a sweep file"
    )
