"""The runs of a sweep in as few stacks as they fit into; each keeps its own folder, record, checkpoints and end.

A stack is trained by one fit of Lightning's. What it would share wrongly runs alone, as without a stack: runs whose
optimizer looks at more than one weight at a time, schedules that look at a metric, and callbacks that act on one model.
A stack that was stopped goes on as one, from the checkpoints of its runs.
"""

import gc
import json
import math
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Sequence
from ctypes import c_bool
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.plugins.io import CheckpointIO
from pytorch_lightning.utilities import move_data_to_device

from losslab import terminal
from losslab.build import build_loaders, build_module, build_optimizer, build_trainer, plan_steps
from losslab.config.launch import check_launch
from losslab.config.make import call, fill_in, make
from losslab.data.batches import NORMALISED_AHEAD, Batches
from losslab.data.dataset import Dataset
from losslab.errors import Refused, machine_refusal
from losslab.files import remove_locked
from losslab.internals.lightning import update_best, update_early_stopping
from losslab.machine import cores, environment
from losslab.record import wandb
from losslab.record.record import Record, claim, stopped_by
from losslab.record.rows import timeless
from losslab.stacking.batches import StackedBatches
from losslab.stacking.group import Planned
from losslab.stacking.module import Stack, optimizer_settings
from losslab.train import Summary, train
from losslab.train import finish as finish_run
from losslab.training import preemption
from losslab.training.checkpoints import Whole, misfit, read
from losslab.training.module import Experiment
from losslab.training.preemption import Preempted, notice


@dataclass
class Job:
    """One run of a sweep, and how far it has come."""

    cfg: DictConfig
    flat: dict[str, Any]
    folder: Path | None = None  # of a sweep's job
    data: Dataset | None = None
    facts: dict[str, int] = field(default_factory=dict)
    run: Experiment | None = None
    record: Record | None = None
    best: ModelCheckpoint | None = None
    monitor: str = ""  # what it and early stopping look at
    callbacks: list[pl.Callback] = field(default_factory=list)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)  # the checkpoints `best` and `last`, to be written
    saved: dict[str, Any] | None = None  # the checkpoint that it goes on from
    told: int = -1  # the last step that its mirrors know of
    test: tuple[dict[str, float], torch.Tensor] | None = None
    error: BaseException | None = None  # why it has stopped
    outcome: Summary | BaseException | None = None  # its summary, or why it has none

    def of(self, group: str) -> str:
        """The settings of a group, as a text that is the same where they are."""
        mine = {key: value for key, value in self.flat.items() if key.split(".")[0] == group}
        return json.dumps(mine, sort_keys=True, default=str)


def train_together(runs: Sequence[Planned]) -> list[Summary | BaseException]:
    """Train these runs, together where they fit, and tell of each its summary, or why it has none.

    Args:
        runs: as `losslab.stacking.group.plan_stacks` puts them together.
    """
    terminal.quieten()
    jobs = [Job(each.cfg, each.flat, each.folder) for each in runs]
    read: dict[str, Dataset] = {}
    for job in jobs:
        key = job.of("data")
        try:
            check_launch(job.cfg)
            if key not in read:
                read[key] = make(job.cfg, "data")
            job.data = read[key]
            job.cfg, facts = plan_steps(job.cfg, job.data)
            job.run = build_module(job.cfg, job.data)
            job.facts = {"parameters": sum(p.numel() for p in job.run.model.parameters()), **facts}
        except Refused as error:
            print(f"losslab: {error}", file=sys.stderr, flush=True)
            job.outcome = error
    apart: dict[str, list[Job]] = {}
    for job in jobs:
        if job.run is not None and job.data is not None:
            shapes = {name: tuple(value.shape) for name, value in job.run.named_parameters()}
            rows = {part: len(numbers) for part, numbers in job.data.split.items()}
            defined = [getattr(job.run.task, name, None) for name in ("varies", "logarithmic")]  # which metrics are
            apart.setdefault(str((shapes, rows, defined)), []).append(job)
    left: list[Job] = []
    for stack in apart.values():
        why = "there is no other like it" if len(stack) == 1 else unfit(stack)
        if why is None:
            left += fit(stack)
        else:
            print(f"{len(stack)} of the runs train one by one: {why}", flush=True)
            left += stack
    for job in left:
        job.run = job.data = None
        job.outcome = one(job.cfg, job.folder)
    return [job.outcome if job.outcome is not None else RuntimeError("it has no outcome") for job in jobs]


def one(cfg: DictConfig, folder: Path | None) -> Summary | BaseException:
    """Train one run by itself; as with Hydra's own launcher, the next one's turn comes however it ends."""
    try:
        return train(cfg, folder=folder)
    except Refused as error:
        print(f"losslab: {error}", file=sys.stderr, flush=True)
        return error
    except Exception as error:
        return error


def stacked(jobs: Sequence[Job]) -> Stack:
    """The runs of these jobs as one."""
    cfg = jobs[0].cfg
    waiting = build_optimizer(cfg)
    runs = [job.run for job in jobs if job.run is not None]
    return Stack(runs, [job.of("loss") for job in jobs], lambda groups: call(cfg, "optimizer", waiting, groups))


def unfit(jobs: Sequence[Job]) -> str | None:
    """Why a model, a loss or a metric of these does not run as one of many; found out by two rows of each loss."""
    some = list({job.of("loss"): job for job in jobs}.values())
    some += [job for job in jobs if job not in some][: max(0, 2 - len(some))]
    pairs = [next(iter(Batches(job.data, "train", 2))) for job in some if job.data is not None]
    x, y = (torch.stack(part) for part in zip(*pairs, strict=True))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # of torch, where it would go through the runs one by one
            stack = stacked(some)
            scores = stack.scores(x)
            torch.autograd.grad(stack.compute_loss(scores, y).sum(), list(stack.scores.parameters()), allow_unused=True)
            stack.evaluate("val", scores.detach(), y)
    except Exception as error:  # if it is no matter of stacks, a run by itself raises it again
        return " ".join(str(error).split())[:200] or type(error).__name__
    if any(True for job in some if job.run is not None for _ in job.run.loss.parameters()):
        return "their loss has parameters of its own"
    return None


class Aside(CheckpointIO):
    """Keeps what Lightning would write: it is one checkpoint, and each run writes its own."""

    taken: dict[str, Any]

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self.taken = checkpoint

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return self.taken

    def remove_checkpoint(self, path: Any) -> None:
        """There is none to remove."""


class Keeper(pl.callbacks.Checkpoint):
    """What the callbacks of each run would do at the end of an epoch: the best and last checkpoint, and early stopping.

    Checkpoints are kept in memory, written when a run ends or the stack is stopped, and every `within` seconds.

    Args:
        jobs: in the stack's order.
        loaders: whose rows are of no use when a run is over.
        aside: where Lightning leaves its checkpoint.
    """

    def __init__(self, jobs: Sequence[Job], loaders: Sequence[StackedBatches], aside: Aside) -> None:
        self.jobs, self.loaders, self.aside = list(jobs), loaders, aside
        last = jobs[0].cfg.callbacks.get("last", {})
        self.seconds, self.within = float(last.get("seconds", 1.0)), float(last.get("within", 300.0))
        self.kept, self.written = -math.inf, time.monotonic()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning has installed its own handlers by now, which would stop the stack without checkpoints."""
        notice.listen()
        self.on_train_batch_end()

    def on_train_batch_end(self, *_: Any) -> None:
        """What was trained since the last end of an epoch is trained again."""
        if notice.by is not None:
            raise Preempted(notice.by)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, Stack)
        over, now = trainer.current_epoch + 1 == trainer.max_epochs, time.monotonic()
        due = over or now - self.kept >= self.seconds
        self.kept = now if due else self.kept
        trainer.save_checkpoint("aside")
        writes = now - self.written >= self.within
        self.written = now if writes else self.written
        done = []
        for number, (job, row) in enumerate(zip(self.jobs, pl_module.epoch_rows, strict=True)):
            job.error, goes_on = pl_module.errors[number], False
            try:
                goes_on = job.error is None and self.step(trainer, pl_module, number, job, row, due)
            except OSError as error:  # the history was not written
                job.error = unwritten(job, error)
            if writes or job.error is not None:
                write(job)
            if job.error is not None:
                assert job.record is not None
                job.record.note("failed", f"{type(job.error).__name__}: {job.error}")
            if job.error is not None or not goes_on:
                done.append(number)
        rest = [number for number in range(len(self.jobs)) if number not in done]
        if not rest:
            trainer.should_stop = True
        elif done:
            pl_module.keep(rest)
            for loader in self.loaders:
                loader.keep(rest)
            self.jobs = [self.jobs[number] for number in rest]
        if not over and rest:
            self.on_train_batch_end()

    def step(self, trainer: pl.Trainer, stack: Stack, number: int, job: Job, row: dict[str, float], due: bool) -> bool:
        """The end of a run's epoch; whether it goes on."""
        assert job.record is not None
        assert job.best is not None
        job.record.log_metrics(row, step=trainer.global_step)
        score = torch.tensor(row[job.monitor])
        better = update_best(job.best, str(job.record.folder / "best.ckpt"), score)
        early = [callback for callback in job.callbacks if isinstance(callback, EarlyStopping)]
        stops = [update_early_stopping(callback, score, trainer.current_epoch) for callback in early]
        stopping = any(stops)  # all of them are updated
        if better or due or stopping:
            states = {callback.state_key: callback.state_dict() for callback in job.callbacks}
            state = {
                **stack.checkpoint(number, self.aside.taken),
                "callbacks": states,
                "row": timeless(job.record.history[-1]),
            }
            if stack.device.type != "cpu":  # what is written by a forked process must not lie on a GPU
                state = move_data_to_device(state, torch.device("cpu"))
            job.kept |= {"best": state} if better else {}
            job.kept |= {"last": state} if due or stopping else {}  # all at the same step, to go on as one from there
        return not stopping


def unwritten(job: Job, error: OSError) -> BaseException:
    """The sentence for a folder that cannot be written, or is gone."""
    assert job.record is not None
    error.filename = str(job.record.folder)
    return machine_refusal(error) or error


def write(job: Job) -> None:
    """Write the checkpoints that a job has kept; where the disk does not take them, the job has failed."""
    assert job.record is not None
    try:
        for name, state in job.kept.items():
            Whole().save_checkpoint(state, job.record.folder / f"{name}.ckpt")
    except Refused as error:
        job.error = job.error or error


def release(record: Record) -> None:
    """Let others take the folder of a run; one that never began leaves none behind."""
    if record.lock is not None:
        if record.status["status"] is None and not (record.folder / "status.json").exists():
            remove_locked(record.folder, record.lock)
        else:
            os.close(record.lock)
        record.lock = None


def mirrored(job: Job, refused: Any) -> None:
    """Tell W&B, or whichever logger there is, all that the record holds: it is told of a run when that is over.

    Args:
        job: the run.
        refused: whether W&B could not begin, which all processes know.
    """
    assert job.record is not None
    if not job.cfg.get("logger") or refused.value or notice.by is signal.SIGINT:
        return
    filled = wandb.prepare(job.cfg)
    try:
        job.record.mirror([make(job.cfg, "logger", **filled)])
    except Refused as error:  # the folder is the truth
        job.record.mirrors = []
        with refused.get_lock():
            if not refused.value:
                print(f"losslab: {error}; the records of the runs are complete", file=sys.stderr, flush=True)
            refused.value = True
    for row in job.record.history:
        for logger in job.record.mirrors if row["step"] > job.told else ():
            logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))


def fit(jobs: list[Job]) -> list[Job]:
    """Train these jobs as one and record each; those that have to be run one by one are left."""
    trainer = build_trainer(jobs[0].cfg)
    here = environment()
    interrupt = signal.getsignal(signal.SIGINT)
    with preemption.heeded():
        try:
            for job in jobs:
                assert job.run is not None
                trainer.precision_plugin.convert_module(job.run)
                try:
                    job.record = claim(job.cfg, job.run.task.better, trainer, job.folder)
                except Refused as error:
                    print(f"losslab: {error}", file=sys.stderr, flush=True)
                    job.outcome = error
            claimed = [job for job in jobs if job.record is not None]
            points: dict[object, list[Job]] = {}
            for job in claimed:
                points.setdefault(point(job), []).append(job)
            waiting = [in_order(some) for some in points.values() if len(some) > 1]
            left = [some[0] for some in points.values() if len(some) == 1]
            if alone := sum(job.record is not None and job.record.ckpt is not None for job in left):
                print(f"{alone} of the runs go on from their checkpoints, one by one", flush=True)
            while waiting:
                some = waiting.pop(0)
                half = -(-len(some) // 2)
                if half == len(some):
                    left += some
                elif not fit_all(some, here):
                    print(f"{len(some)} runs as one are more than the memory holds: {half} are tried", flush=True)
                    begin_anew(some, trainer)
                    waiting += [some[:half], some[half:]]
        finally:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, interrupt)
            for job in jobs:
                if job.record is not None:
                    release(job.record)
        if notice.by is not None:  # it came when there was nothing left to stop but what follows
            leave(notice.by)
    return left


def leave(by: signal.Signals) -> NoReturn:
    """The end of a process that a signal has stopped."""
    if by in preemption.HEEDED:
        preemption.requeue(by)
    sys.exit(128 + by)


def point(job: Job) -> object:
    """Where a run goes on with those at the same step; `None` where it begins, its folder where it has to go on alone.

    A run by itself goes on in the midst of an epoch, and tests what early stopping had ended.
    """
    assert job.run is not None
    assert job.record is not None
    if not (path := job.record.ckpt):
        return None
    try:
        saved = read(path)
        (process,) = saved["processes"]
        scalars = any(not weight.ndim for weight in job.run.parameters())  # their state is not told from a count
        ended = any(state.get("stopped_epoch", 0) for state in saved["callbacks"].values())
        best = (job.record.folder / "best.ckpt").is_file()
        if misfit(saved, job.run) or any(process["seen"]) or scalars or ended or not best:
            return str(job.record.folder)
    except (Refused, ValueError):  # no whole checkpoint, or one of several processes
        return str(job.record.folder)
    job.saved = saved
    return saved["epoch"], saved["global_step"]


def in_order(jobs: Sequence[Job]) -> list[Job]:
    """These jobs, sorted so that runs with the same numbers in their optimizers follow on from each other."""
    first: dict[str, int] = {}
    settings = {id(job): repr(optimizer_settings(job.run)) for job in jobs if job.run is not None}
    return sorted(jobs, key=lambda job: first.setdefault(settings[id(job)], len(first)))


def go_on(job: Job) -> None:
    """Give a run and its callbacks what its checkpoint holds."""
    assert job.run is not None
    assert job.record is not None
    assert job.saved is not None
    job.run.load_state_dict(job.saved["state_dict"])
    job.record.restore(job.saved.get("row"))
    job.run.resumed, job.run.draws = job.saved, job.saved["processes"][0]["rng"]
    for callback in job.callbacks:
        callback.load_state_dict(job.saved["callbacks"][callback.state_key])
    job.kept = {"best": read(job.record.folder / "best.ckpt"), "last": job.saved}


def begin_anew(jobs: Sequence[Job], trainer: pl.Trainer) -> None:
    """Give these jobs the models that they began with, and the device the memory that their stack held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    for job in jobs:
        assert job.data is not None
        job.run = build_module(job.cfg, job.data)
        trainer.precision_plugin.convert_module(job.run)


def fit_all(jobs: list[Job], here: dict[str, str | None]) -> bool:
    """Train, test and record jobs that stand in their order; `False` where the memory is too small to begin with."""
    cfg, trainer = jobs[0].cfg, build_trainer(jobs[0].cfg)
    for job in jobs:
        assert job.record is not None
        record = job.record
        job.cfg = fill_in(job.cfg, dir=str(record.folder), name=record.name, id=record.version)
        made = make(job.cfg, "callbacks")
        job.best, job.callbacks, job.monitor = made["best"], list(made.values()), str(job.cfg.monitor)
        before = json.loads((job.record.folder / "status.json").read_text()) if job.saved is not None else {}
        job.record.begin([], {**job.facts, "stacked": len(jobs)}, here)
        if job.saved is not None:
            go_on(job)
            if before["status"] == "preempted" and job.record.history:  # and the mirrors were told of it
                job.told = int(job.record.history[-1]["step"])
    images = [4 * job.data.x[0].size * len(job.data.y) for job in jobs if job.data is not None]
    ahead = sum(images) <= NORMALISED_AHEAD  # each run has its own
    loaders = [build_loaders(job.cfg, job.data, ahead=ahead) for job in jobs if job.data is not None]
    training, val, test = (StackedBatches(parts) for parts in zip(*loaders, strict=True))
    trainer.strategy.checkpoint_io = aside = Aside()
    keeper = Keeper(jobs, (training, val), aside)
    bar = [terminal.Progress(cfg.run.steps)] if cfg.trainer.enable_progress_bar else []
    trainer.callbacks = [*bar, keeper]  # type: ignore[attr-defined]
    print(terminal.opening_stack([job.cfg for job in jobs], jobs[0].facts), flush=True)
    by = None
    try:
        stack, ckpt = stacked(jobs), None
        if saved := [job.saved for job in jobs if job.saved is not None]:
            print(f"resumed  from their checkpoints, after {saved[0]['global_step']:,} steps", flush=True)
            aside.taken, ckpt = stack.join_checkpoints(saved), "aside"
        trainer.fit(stack, training, val, ckpt_path=ckpt)
        good = [job for job in jobs if job.error is None]
        for job in good:
            assert job.run is not None
            job.run.load_state_dict(job.kept["best"]["state_dict"])
        test.keep([jobs.index(job) for job in good])
        if good:
            stack = stacked(good)
            trainer.test(stack, test, verbose=False)
            for job, row, scores in zip(good, stack.test_rows, stack.test_scores, strict=True):
                job.test = row, scores
    except BaseException as error:
        fresh = not any(job.record.history for job in jobs if job.record is not None)
        if isinstance(error, torch.OutOfMemoryError) and len(jobs) > 1 and fresh:
            return False
        by = stopped_by(error)
        if by is None and not isinstance(error, Exception):
            raise
        for job in jobs:  # first of all, as there may be little time
            job.error = job.error or crowded(error, len(jobs))
            write(job)
    hand_in(jobs, by)
    if by is not None:
        leave(by)
    return True


def crowded(error: BaseException, runs: int) -> BaseException:
    """The sentence for a stack that is too large for the device's memory; any other error as it is."""
    if not isinstance(error, torch.OutOfMemoryError):
        return error
    return Refused(
        f"{runs} runs at once are more than the memory holds: type hydra.launcher.width={max(1, runs // 2)}, "
        f"or stack={max(1, runs // 2)} for a sweep file"
    )


def hand_in(jobs: list[Job], by: signal.Signals | None) -> None:
    """Checkpoints, summaries, pictures and W&B of runs that are over, by as many processes as there are cores.

    Args:
        jobs: all that were trained together.
        by: the signal that stopped them, if one did.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, notice.heed)  # `fit` looks whether one came, when all that is over is on record
    count = min(len(jobs), cores()) if sys.platform == "linux" and hasattr(os, "fork") else 1
    forks = multiprocessing.get_context("fork" if count > 1 else None)
    refused = forks.Value(c_bool, False)
    if count < 2:
        errors = finish(jobs, refused)
    else:
        errors = [None] * len(jobs)
        pipes = [forks.Pipe(duplex=False) for _ in range(count)]
        processes = [
            forks.Process(target=send, args=(jobs[k::count], refused, pipe)) for k, (_, pipe) in enumerate(pipes)
        ]
        for process, (_, pipe) in zip(processes, pipes, strict=True):
            process.start()
            pipe.close()
        for k, (pipe, _) in enumerate(pipes):
            try:
                errors[k::count] = pipe.recv()
            except EOFError:
                errors[k::count] = [RuntimeError("the process that records runs was killed")] * len(jobs[k::count])
        for process in processes:
            process.join()
    for job, error in zip(jobs, errors, strict=True):
        assert job.record is not None
        job.error = job.error or error
        if job.error is None:
            job.outcome = Summary(json.loads((job.record.folder / "summary.json").read_text()))
            job.outcome.folder = job.record.folder
        else:
            job.outcome = job.error
    told_of(jobs, by)


def told_of(jobs: Sequence[Job], by: signal.Signals | None) -> None:
    """Tell a person of the runs that did not come to their end, in a few lines however many they are."""
    folders = [(job.record.folder, job.error) for job in jobs if job.record is not None]
    sentences: dict[str, list[str]] = {}
    for folder, error in folders:
        if isinstance(error, Refused):
            sentences.setdefault(str(error), []).append(str(folder))
    for sentence, where in sentences.items():
        print("\n".join([f"losslab: {sentence}", *where]), file=sys.stderr, flush=True)
    stopped = [folder for folder, error in folders if error is not None and not isinstance(error, Refused)]
    if by is not None and stopped:
        many = f"{len(stopped)} runs, of which this is the first, were " if len(stopped) > 1 else ""
        print(f"\n{many}{terminal.stopped(stopped[0], by).strip()}", file=sys.stderr, flush=True)


def send(jobs: list[Job], refused: Any, pipe: Any) -> None:
    """What one process of several does of the end."""
    torch.set_num_threads(1)  # the threads of the process before are not in this one
    pipe.send(
        [
            error
            if error is None or isinstance(error, Refused)
            else RuntimeError("".join(traceback.format_exception(error)))
            for error in finish(jobs, refused)
        ]
    )


def finish(jobs: list[Job], refused: Any) -> list[BaseException | None]:
    """The end of each of these, one by one, and why it did not come to that.

    Args:
        jobs: trained and tested, or stopped.
        refused: whether W&B could not begin, which all processes know.
    """
    errors: list[BaseException | None] = []
    for job in jobs:
        assert job.record is not None
        assert job.run is not None
        assert job.data is not None
        try:
            write(job)
            mirrored(job, refused)
            if job.error is None:
                assert job.test is not None
                finish_run(job.record, job.data, job.run.task, *job.test)
            for logger in job.record.mirrors:
                logger.save()
        except Exception as error:  # of one run: the others are recorded all the same
            job.error = job.error or (
                unwritten(job, error) if isinstance(error, OSError) else machine_refusal(error) or error
            )
        job.record.conclude(job.error, quiet=True)
        job.error = job.error or job.record.unwritten
        errors.append(job.error)
    return errors
