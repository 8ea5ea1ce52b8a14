"""One run of a stack: its parts, its record, and the checkpoints that are kept for it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig
from torch import Tensor

from losslab.build import build_run
from losslab.config.make import fill_in
from losslab.data.dataset import Dataset
from losslab.data.make import check_losses, read_data
from losslab.errors import Refused, machine_refusal
from losslab.record.record import Record, claim
from losslab.stacking.group import Planned
from losslab.stacking.module import optimizer_settings
from losslab.training.checkpoints import WholeCheckpointIO
from losslab.training.module import Experiment


@dataclass(eq=False)
class Job:
    """One run of a sweep, and how far it has come."""

    planned: Planned
    cfg: DictConfig
    data: Dataset
    facts: dict[str, int]
    run: Experiment
    record: Record = field(init=False)  # from `claim_record` on
    callbacks: dict[str, pl.Callback] = field(default_factory=dict)
    checkpoints: dict[str, dict[str, Any]] = field(default_factory=dict)  # `best` and `last`, to be written
    stopped: bool = False  # by early stopping
    test: tuple[dict[str, float], dict[str, Tensor]] | None = None  # its row, and the scores of each part
    error: BaseException | None = None  # why it has no result

    def loss_key(self) -> str:
        """Return a text that is equal for runs of the same loss and settings of it."""
        return settings_key(self.planned.flat, "loss")

    def shape_key(self) -> str:
        """Return a text that is equal for runs whose weights, rows and metrics are alike in shape and name."""
        shapes = {name: tuple(value.shape) for name, value in self.run.named_parameters()}
        rows = {part: len(numbers) for part, numbers in self.data.split.items()}
        return str((shapes, rows, sorted(self.run.task.try_metrics(self.data, self.run.loss))))

    def write_checkpoints(self) -> None:
        """Write the run's checkpoints; if the disk does not take them, the run has failed."""
        try:
            for name, state in self.checkpoints.items():
                WholeCheckpointIO(self.data.state()).save_checkpoint(state, self.record.folder / f"{name}.ckpt")
        except Refused as error:
            self.error = self.error or error

    def fail(self, error: Exception) -> None:
        """Note why the run has no result: an error of the machine in a sentence that names the folder."""
        if isinstance(error, OSError):
            error.filename = str(self.record.folder)
        self.error = self.error or machine_refusal(error) or error


def settings_key(flat: Mapping[str, Any], group: str) -> str:
    """Return the settings of a group as a text, which is equal where they are."""
    settings = {key: value for key, value in flat.items() if key.split(".")[0] == group}
    return json.dumps(settings, sort_keys=True, default=str)


def build_job(planned: Planned, datasets: dict[str, Dataset]) -> Job:
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
    return Job(planned, cfg, data, facts, run)


def claim_record(job: Job, trainer: pl.Trainer) -> None:
    """Claim the run's folder.

    Raises:
        Refused: where it cannot be had.
    """
    job.record = record = claim(job.cfg, job.run.task.better, trainer, job.planned.folder)
    job.cfg = fill_in(job.cfg, dir=str(record.folder), name=record.name, id=record.version)


def sort_by_settings(jobs: Sequence[Job]) -> list[Job]:
    """Sort runs so that those with equal optimizer settings follow each other, as `Stack` needs them."""
    settings = [repr(optimizer_settings(job.run)) for job in jobs]
    return [job for first in dict.fromkeys(settings) for job, own in zip(jobs, settings, strict=True) if own == first]
