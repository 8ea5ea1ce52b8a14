"""One run of a stack: its parts, its record, and the checkpoints that are kept for it."""

import json
from collections.abc import Callable
from contextlib import ExitStack
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
from losslab.training.callbacks import build_callbacks
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
    record: Record = field(init=False)  # it and the callbacks from `claim` on
    callbacks: dict[str, pl.Callback] = field(init=False)
    checkpoints: dict[str, Callable[[], dict[str, Any]]] = field(default_factory=dict)  # `best` and `last`
    stopped: bool = False  # by early stopping
    test: tuple[dict[str, float], dict[str, Tensor]] = ({}, {})  # its row, and the scores of each part
    error: BaseException | None = None  # why it has no result

    @property
    def over(self) -> bool:
        """Whether the run is trained no more, though the stack may go on."""
        return self.stopped or self.error is not None

    def shape_key(self) -> str:
        """Return a text that is equal for runs whose weights, rows and metrics are alike in shape and name."""
        shapes = {name: tuple(value.shape) for name, value in self.run.named_parameters()}
        rows = {part: len(numbers) for part, numbers in self.data.split.items()}
        return str((shapes, rows, sorted(self.run.task.try_metrics(self.data, self.run.loss))))

    def claim(self, trainer: pl.Trainer, claims: ExitStack) -> None:
        """Claim the run's folder until `claims` are closed, and make its callbacks, which know it.

        Raises:
            Refused: where it cannot be had.
        """
        self.record = record = claim(self.cfg, self.run.task.better, trainer, self.planned.folder)
        claims.callback(record.release)
        self.cfg = fill_in(self.cfg, dir=str(record.folder), name=record.name, id=record.version)
        self.callbacks = build_callbacks(self.cfg)

    def write_checkpoints(self) -> None:
        """Write the run's checkpoints; if the disk does not take them, the run has failed."""
        try:
            for name, checkpoint in self.checkpoints.items():
                WholeCheckpointIO(self.data.state()).save_checkpoint(checkpoint(), self.record.folder / f"{name}.ckpt")
        except Refused as error:
            self.fail(error)

    def fail(self, error: Exception) -> None:
        """Note why the run has no result: an error of the machine in a sentence that names the folder."""
        if isinstance(error, OSError):
            error.filename = str(self.record.folder)
        self.error = self.error or machine_refusal(error) or error


def settings_key(planned: Planned, group: str) -> str:
    """Return the settings of a group as a text, which is equal for runs whose settings are."""
    settings = {key: value for key, value in planned.flat.items() if key.split(".")[0] == group}
    return json.dumps(settings, sort_keys=True, default=str)


def build_job(planned: Planned, datasets: dict[str, Dataset]) -> Job:
    """Build a run; runs of the same data settings share what was read.

    Raises:
        Refused: where its parts do not fit each other.
    """
    key = settings_key(planned, "data")
    if key not in datasets:
        datasets[key] = read_data(planned.cfg)
    data = datasets[key]
    check_losses(planned.cfg, data)
    cfg, run, facts = build_run(planned.cfg, data)
    return Job(planned, cfg, data, facts, run)
