"""One run of a stack: its parts, its record, and the checkpoints that are kept for it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor

from losslab.build import build_run
from losslab.config.make import fill_in
from losslab.data.dataset import Dataset
from losslab.data.make import check_losses, read_data
from losslab.errors import Refused, machine_refusal
from losslab.locks import remove_locked
from losslab.record.record import Record, claim
from losslab.stacking.group import Planned
from losslab.stacking.module import optimizer_settings
from losslab.training.callbacks import build_callbacks
from losslab.training.checkpoints import WholeCheckpointIO, find_change, find_misfit, read, relocate
from losslab.training.module import Experiment


@dataclass(eq=False)
class Job:
    """One run of a sweep, and how far it has come."""

    number: int  # among the runs of the sweep that may be one stack
    cfg: DictConfig
    flat: dict[str, Any]
    folder: Path | None  # of a sweep's job
    data: Dataset
    facts: dict[str, int]
    run: Experiment
    record: Record = field(init=False)  # from `claim_record` on
    best: ModelCheckpoint = field(init=False)  # from `begin` on
    monitor: str = ""  # what `best` and early stopping look at
    callbacks: list[pl.Callback] = field(default_factory=list)
    checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)  # `best` and `last`, to be written
    saved: dict[str, Any] | None = None  # the checkpoint that it is resumed from
    last_logged_step: int = -1  # that W&B has
    test: tuple[dict[str, float], dict[str, Tensor]] | None = None  # its row, and the scores of each part
    error: BaseException | None = None  # why it has stopped

    def loss_key(self) -> str:
        """Return a text that is equal for runs of the same loss and settings of it."""
        return settings_key(self.flat, "loss")

    def shape_key(self) -> str:
        """Return a text that is equal for runs whose weights, rows and metrics are alike in shape and name."""
        shapes = {name: tuple(value.shape) for name, value in self.run.named_parameters()}
        rows = {part: len(numbers) for part, numbers in self.data.split.items()}
        return str((shapes, rows, sorted(self.run.task.try_metrics(self.data, self.run.loss))))


def settings_key(flat: Mapping[str, Any], group: str) -> str:
    """Return the settings of a group as a text, which is equal where they are."""
    settings = {key: value for key, value in flat.items() if key.split(".")[0] == group}
    return json.dumps(settings, sort_keys=True, default=str)


def build_job(number: int, planned: Planned, datasets: dict[str, Dataset]) -> Job:
    """Build a run; runs of the same data settings share what was read.

    Raises:
        Refused: where its parts do not fit each other.
    """
    key = settings_key(planned.flat, "data")
    if key not in datasets:
        datasets[key] = read_data(planned.cfg)
    data = datasets[key]
    check_losses(planned.cfg, data)
    cfg, run, facts = build_run(planned.cfg, data)
    return Job(number, cfg, planned.flat, planned.folder, data, facts, run)


def claim_record(job: Job, trainer: pl.Trainer) -> None:
    """Claim the run's folder.

    Raises:
        Refused: where it cannot be had.
    """
    job.record = record = claim(job.cfg, job.run.task.better, trainer, job.folder)
    job.cfg = fill_in(job.cfg, dir=str(record.folder), name=record.name, id=record.version)


def resume_key(job: Job) -> object:
    """Return a key that is equal for runs that resume together, and load the run's checkpoint.

    It is `None` for a run that starts, its epoch and step for one that resumes in a stack, and its folder for one that
    resumes alone: a run alone can resume within an epoch, and test what early stopping had ended.
    """
    if not (path := job.record.ckpt):
        return None
    try:
        saved = read(path)
        (process,) = saved["processes"]
        relocate(saved, job.record.folder)
    except (Refused, ValueError):  # no whole checkpoint, or one of several processes
        return str(job.record.folder)
    scalars = any(not weight.ndim for weight in job.run.parameters())  # their state looks like a step count
    ended = any(state.get("stopped_epoch", 0) for state in saved["callbacks"].values())
    best = (job.record.folder / "best.ckpt").is_file()
    changed = find_misfit(saved, job.run) or find_change(saved, job.data.state())
    if changed or any(process["seen"]) or scalars or ended or not best:
        return str(job.record.folder)
    job.saved = saved
    return saved["epoch"], saved["global_step"]


def sort_by_settings(jobs: Sequence[Job]) -> list[Job]:
    """Sort runs so that those with equal optimizer settings follow each other, as `Stack` needs them."""
    first: dict[str, int] = {}
    settings = {job.number: repr(optimizer_settings(job.run)) for job in jobs}
    return sorted(jobs, key=lambda job: first.setdefault(settings[job.number], len(first)))


def begin(job: Job, stacked: int, environment: dict[str, str | None]) -> None:
    """Make the run's callbacks, begin its record, and restore its checkpoint if it is resumed.

    Args:
        job: the run.
        stacked: how many runs are trained as one.
        environment: of all of them.
    """
    made: Any = build_callbacks(job.cfg)
    job.best, job.callbacks, job.monitor = made["best"], list(made.values()), str(job.cfg.monitor)
    status = job.record.folder / "status.json"
    preempted = job.saved is not None and json.loads(status.read_text())["status"] == "preempted"
    job.record.begin([], {**job.facts, "stacked": stacked}, environment)
    if job.saved is None:
        return
    job.run.load_state_dict(job.saved["state_dict"])
    job.record.restore(job.saved.get("row"))
    job.run.resumed, job.run.draws = job.saved, job.saved["processes"][0]["rng"]
    for callback in job.callbacks:
        callback.load_state_dict(job.saved["callbacks"][callback.state_key])
    job.checkpoints = {"best": read(job.record.folder / "best.ckpt"), "last": job.saved}
    if preempted and job.record.history:  # W&B has its rows; of a run that was killed it has none
        job.last_logged_step = int(job.record.history[-1]["step"])


def write_checkpoints(job: Job) -> None:
    """Write the run's checkpoints; if the disk does not take them, the run has failed."""
    try:
        for name, state in job.checkpoints.items():
            WholeCheckpointIO(job.data.state()).save_checkpoint(state, job.record.folder / f"{name}.ckpt")
    except Refused as error:
        job.error = job.error or error


def unwritable(job: Job, error: OSError) -> BaseException:
    """Return the sentence for a folder that cannot be written, or is gone."""
    error.filename = str(job.record.folder)
    return machine_refusal(error) or error


def release(record: Record) -> None:
    """Unlock the folder of a run; remove it if the run never began."""
    if record.lock is not None:
        if record.status["status"] is None and not (record.folder / "status.json").exists():
            remove_locked(record.folder, record.lock)
        else:
            os.close(record.lock)
        record.lock = None
