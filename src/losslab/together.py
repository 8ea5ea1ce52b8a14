"""The runs of a sweep in as few stacks as they fit into; each keeps its own folder, record, checkpoints and end.

A stack is trained by one fit of Lightning's. What it would share wrongly runs alone, as without a stack: runs whose
optimizer looks at more than one weight at a time, schedules that look at a metric, dropout, callbacks that act on one
model, and runs that go on from a checkpoint.
"""

import json
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.plugins.io import CheckpointIO

from losslab import preemption, terminal, tracking
from losslab.checkpoints import Whole
from losslab.data.batches import Batches
from losslab.data.dataset import Dataset
from losslab.errors import Refused
from losslab.experiment import Experiment
from losslab.preemption import Preempted, notice
from losslab.stack import SideBySide, Stack, numbers_of
from losslab.stacks import Planned
from losslab.sweep.processes import cores
from losslab.train import OURS, batches, build, call, experiment, optimizer_of, planned, told, train, trainer_of


@dataclass
class Job:
    """One run of a sweep, and how far it has come."""

    cfg: DictConfig
    flat: dict[str, Any]
    data: Dataset | None = None
    facts: dict[str, int] = field(default_factory=dict)
    run: Experiment | None = None
    record: tracking.Record | None = None
    best: ModelCheckpoint | None = None
    callbacks: list[pl.Callback] = field(default_factory=list)
    kept: dict[str, dict[str, Any]] = field(default_factory=dict)  # the checkpoints `best` and `last`, to be written
    test: tuple[dict[str, float], torch.Tensor] | None = None
    error: BaseException | None = None  # why it has stopped
    outcome: dict[str, float] | BaseException | None = None  # its summary, or why it has none

    def of(self, group: str) -> str:
        """The settings of a group, as a text that is the same where they are."""
        mine = {key: value for key, value in self.flat.items() if key.split(".")[0] == group}
        return json.dumps(mine, sort_keys=True, default=str)


def train_together(runs: Sequence[Planned]) -> list[dict[str, float] | BaseException]:
    """Train these runs, together where they fit, and tell of each its summary, or why it has none.

    Args:
        runs: as `losslab.stacks.sort` puts them together.
    """
    terminal.quieten()
    jobs = [Job(each.cfg, each.flat) for each in runs]
    read: dict[str, Dataset] = {}
    for job in jobs:
        key = job.of("data")
        try:
            if key not in read:
                read[key] = build(job.cfg, "data", *OURS["data"])
            job.data = read[key]
            facts = planned(job.cfg, job.data)
            job.run = experiment(job.cfg, job.data)
            job.facts = {"parameters": sum(p.numel() for p in job.run.model.parameters()), **facts}
        except Refused as error:
            print(f"losslab: {error}", file=sys.stderr, flush=True)
            job.outcome = error
    apart: dict[str, list[Job]] = {}
    for job in jobs:
        if job.run is not None and job.data is not None:
            shapes = {name: tuple(value.shape) for name, value in job.run.named_parameters()}
            rows = {part: len(numbers) for part, numbers in job.data.rows.items()}
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
        job.outcome = one(job.cfg)
    return [job.outcome if job.outcome is not None else RuntimeError("it has no outcome") for job in jobs]


def one(cfg: DictConfig) -> dict[str, float] | BaseException:
    """Train one run by itself."""
    try:
        return train(cfg)
    except Refused as error:
        print(f"losslab: {error}", file=sys.stderr, flush=True)
        return error


def stacked(jobs: Sequence[Job]) -> Stack:
    """The runs of these jobs as one."""
    cfg = jobs[0].cfg
    make = optimizer_of(cfg)
    runs = [job.run for job in jobs if job.run is not None]
    return Stack(runs, [job.of("loss") for job in jobs], lambda groups: call(cfg, "optimizer", make, groups))


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
            torch.autograd.grad(stack.loss_of(scores, y).sum(), list(stack.scores.parameters()), allow_unused=True)
            stack.judge("val", scores.detach(), y)
    except (RuntimeError, ValueError, NotImplementedError, UserWarning) as error:
        return " ".join(str(error).split())[:200]
    if any(True for job in some if job.run is not None for _ in job.run.loss.parameters()):
        return "their loss has parameters of its own"
    return None


class Aside(CheckpointIO):
    """Keeps what Lightning would write: it is one checkpoint, and each run writes its own."""

    taken: dict[str, Any]

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        self.taken = checkpoint

    def load_checkpoint(self, path: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        raise NotImplementedError

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

    def __init__(self, jobs: Sequence[Job], loaders: Sequence[SideBySide], aside: Aside) -> None:
        self.jobs, self.loaders, self.aside = list(jobs), loaders, aside
        last = jobs[0].cfg.callbacks.get("last", {})
        self.seconds, self.within = float(last.get("seconds", 1.0)), float(last.get("within", 300.0))
        self.kept = self.written = time.monotonic()

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
        done = []
        for number, (job, row) in enumerate(zip(self.jobs, pl_module.rows, strict=True)):
            error = pl_module.errors[number]
            if error is not None:
                job.error = error
                write(job)
                assert job.record is not None
                job.record.note("failed", f"{type(error).__name__}: {error}")
            elif self.step(trainer, pl_module, number, job, row, due):
                continue
            done.append(number)
        rest = [number for number in range(len(self.jobs)) if number not in done]
        if not rest:
            trainer.should_stop = True
        elif done:
            pl_module.keep(rest)
            for loader in self.loaders:
                loader.keep(rest)
            self.jobs = [self.jobs[number] for number in rest]
        if now - self.written >= self.within:
            self.written = now
            for job in self.jobs:
                write(job)
        if not over and rest:
            self.on_train_batch_end()

    def step(self, trainer: pl.Trainer, stack: Stack, number: int, job: Job, row: dict[str, float], due: bool) -> bool:
        """The end of a run's epoch; whether it goes on."""
        assert job.record is not None
        assert job.best is not None
        job.record.log_metrics(row, step=trainer.global_step)
        best, score = job.best, torch.tensor(row[str(job.cfg.monitor)])
        known, best.current_score = best.best_model_score, score
        better = known is None or bool(score < known if best.mode == "min" else score > known)
        if better:
            path = str(job.record.folder / "best.ckpt")
            best.best_model_path = best.kth_best_model_path = path
            best.best_model_score = best.kth_value = score
            best.best_k_models = {path: score}
        early = [callback for callback in job.callbacks if isinstance(callback, EarlyStopping)]
        stops = [callback._evaluate_stopping_criteria(score)[0] for callback in early]  # each is told of each epoch
        stop = any(stops)
        if better or due or stop:
            states = {callback.state_key: callback.state_dict() for callback in job.callbacks}
            state = {**stack.checkpoint(number, self.aside.taken), "callbacks": states}
            job.kept |= {name: state for name, so in (("best", better), ("last", due or stop)) if so}
        return not stop


def write(job: Job) -> None:
    """Write the checkpoints that a job has kept."""
    for name, state in job.kept.items():
        assert job.record is not None
        Whole().save_checkpoint(state, job.record.folder / f"{name}.ckpt")


def release(record: tracking.Record) -> None:
    """Let others take the folder of a run."""
    if record.lock is not None:
        os.close(record.lock)
        record.lock = None


def mirrored(job: Job) -> None:
    """Tell W&B, or whichever logger there is, all that the record holds: it is told of a run when that is over."""
    assert job.record is not None
    if not job.cfg.get("logger"):
        return
    tracking.prepare_wandb(job.cfg)
    try:
        job.record.mirror([build(job.cfg, "logger")])
    except Refused as error:  # the folder is the truth
        print(f"losslab: {error}", file=sys.stderr, flush=True)
        job.record.mirrors = []
    for row in job.record.history:
        for logger in job.record.mirrors:
            logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))


def fit(jobs: list[Job]) -> list[Job]:
    """Train these jobs as one and record each; those that go on from a checkpoint are left to be run one by one."""
    cfg = jobs[0].cfg
    trainer = trainer_of(cfg)
    here = tracking.environment()
    with preemption.heeded():
        for job in jobs:
            assert job.run is not None
            job.record = tracking.claim(job.cfg, job.run.task.better, trainer)
            trainer.precision_plugin.convert_module(job.run)
        left = [job for job in jobs if job.cfg.ckpt is not None]
        for job in left:
            assert job.record is not None
            release(job.record)
        if left:
            print(f"{len(left)} of the runs go on from their checkpoints, one by one", flush=True)
        first: dict[str, int] = {}
        settings = {id(job): repr(numbers_of(job.run)) for job in jobs if job.run is not None}
        order = sorted(
            (job for job in jobs if job.cfg.ckpt is None),
            key=lambda job: first.setdefault(settings[id(job)], len(first)),
        )
        if order:
            fit_all(order, trainer, here)
    return left


def fit_all(jobs: list[Job], trainer: pl.Trainer, here: dict[str, str | None]) -> None:
    """Train, test and record jobs that stand in their order."""
    cfg = jobs[0].cfg
    for job in jobs:
        assert job.record is not None
        made = build(job.cfg, "callbacks")
        job.best, job.callbacks = made["best"], list(made.values())
        job.record.begin([], {**job.facts, "stacked": len(jobs)}, here)
    loaders = [batches(job.cfg, job.data, ahead=len(jobs) <= 16) for job in jobs if job.data is not None]
    training, val, test = (SideBySide(parts) for parts in zip(*loaders, strict=True))
    trainer.strategy.checkpoint_io = aside = Aside()
    keeper = Keeper(jobs, (training, val), aside)
    bar = [terminal.Progress(cfg.run.steps)] if cfg.trainer.enable_progress_bar else []
    trainer.callbacks = [*bar, keeper]  # type: ignore[attr-defined]
    print(terminal.opening_stack([job.cfg for job in jobs], jobs[0].facts), flush=True)
    try:
        trainer.fit(stacked(jobs), training, val)
        good = [job for job in jobs if job.error is None]
        for job in good:
            assert job.run is not None
            job.run.load_state_dict(job.kept["best"]["state_dict"])
        test.keep([jobs.index(job) for job in good])
        if good:
            stack = stacked(good)
            trainer.test(stack, test, verbose=False)
            for job, run, scores in zip(good, stack.runs, stack.test_scores, strict=True):
                job.test = run.test_row, scores
    except BaseException as error:
        for job in jobs:
            job.error = job.error or error
            write(job)
        hand_in(jobs)
        by = tracking.stopped_by(error)
        if by is None:
            raise
        if by in preemption.HEEDED:
            preemption.requeue(by)
        sys.exit(128 + by)
    hand_in(jobs)


def hand_in(jobs: list[Job]) -> None:
    """Checkpoints, summaries, pictures and W&B of runs that are over, by as many processes as there are cores."""
    count = min(len(jobs), cores()) if sys.platform == "linux" else 1
    if count < 2:
        finish(jobs)
    else:
        forks = multiprocessing.get_context("fork")
        processes = [forks.Process(target=finish, args=(jobs[k::count], True)) for k in range(count)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
    for job in jobs:
        assert job.record is not None
        release(job.record)
        status = json.loads((job.record.folder / "status.json").read_text())
        if status["status"] == "finished":
            job.outcome = json.loads((job.record.folder / "summary.json").read_text())
        else:
            job.outcome = job.error or RuntimeError(f"{job.record.folder} could not be recorded: {status['reason']}")


def finish(jobs: list[Job], forked: bool = False) -> None:
    """The end of each of these, one by one."""
    if forked:
        torch.set_num_threads(1)  # the threads of the process before are not in this one
    for job in jobs:
        assert job.record is not None
        assert job.run is not None
        assert job.data is not None
        try:
            write(job)
            mirrored(job)
            if job.error is None:
                assert job.test is not None
                told(job.cfg, job.record, job.data, job.run.task, *job.test)
        except Exception as error:  # of one run: the others are recorded all the same
            job.error = job.error or error
        job.record.conclude(job.error)
