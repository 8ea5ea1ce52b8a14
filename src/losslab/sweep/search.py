"""Optuna's part in a sweep: it draws settings, in one study for each cell, and stops runs that have fallen behind.

Its journal is in the sweep's folder, so that processes on any number of hosts draw from the same studies.
"""

import os
import warnings
from functools import lru_cache
from pathlib import Path
from typing import Any

import optuna
import pytorch_lightning as pl
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.pruners import BasePruner, HyperbandPruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileSymlinkLock
from optuna.trial import Trial, TrialState

from losslab.config import arguments
from losslab.data.notes import count
from losslab.errors import Pruned
from losslab.locks import open_lock, try_lock
from losslab.sweep.ledger import Ledger
from losslab.sweep.plan import Job, Plan

optuna.logging.set_verbosity(optuna.logging.WARNING)
LINE = 1 << 20  # bytes; no line of the journal is longer


class Lock(JournalFileSymlinkLock):
    """A lock that lets one process at a time write to the journal, and ends with that process.

    Optuna's own lock is a link. A process that is killed leaves it behind, and the others wait, some of them for ever.
    It serves on disks without locks.
    """

    def __init__(self, journal: Path) -> None:
        super().__init__(str(journal.resolve()))
        self.journal = journal

    def acquire(self) -> bool:
        self.number: int | None = open_lock(self.journal.with_suffix(".lock"))
        if not try_lock(self.number, wait=True):  # a disk without locks
            os.close(self.number)
            self.number = None
            return super().acquire()
        self.cut_half_line()
        return True

    def cut_half_line(self) -> None:
        """Remove the half line that a full disk left: nothing could be read after it."""
        with self.journal.open("rb+") as journal:
            journal.seek(max(0, journal.seek(0, os.SEEK_END) - LINE))
            begin, tail = journal.tell(), journal.read()
            if tail and not tail.endswith(b"\n"):
                journal.truncate(begin + tail.rfind(b"\n") + 1)

    def release(self) -> None:
        if self.number is None:
            super().release()
        else:
            os.close(self.number)
            self.number = None


def distribution(spread: dict[str, Any]) -> BaseDistribution:
    """Return the range of a parameter as Optuna's distribution."""
    if "values" in spread:
        return CategoricalDistribution([arguments.as_typed(v) if isinstance(v, list) else v for v in spread["values"]])
    low, high, step = spread["min"], spread["max"], spread["step"]
    if spread["whole"]:
        return IntDistribution(low, high, step=step or 1)
    return FloatDistribution(low, high, log=spread["log"], step=step)


def open_journal(file: Path) -> JournalStorage:
    """Open a sweep's journal; a process that has read it before then reads only what is new."""
    file.touch()
    facts = file.stat()
    return open_once(file, facts.st_dev, facts.st_ino)


@lru_cache(1)
def open_once(file: Path, *identity: int) -> JournalStorage:
    """Open a journal, and keep it open for this process; `identity` tells it from another file of that name."""
    return JournalStorage(JournalFileBackend(str(file), Lock(file)))


def draw(folder: Path, ledger: Ledger, plan: Plan, job: Job) -> Trial:
    """Return the trial of a job, which is drawn the first time and then kept.

    Each trial has random numbers of its own, so random search does not depend on the order of the jobs.
    """
    seed = int(job.key[:8], 16)
    startup = min(10, max(3, plan.trials // 3))
    sampler: BaseSampler = (
        TPESampler(seed=seed, n_startup_trials=startup) if plan.method == "bayes" else RandomSampler(seed=seed)
    )
    early = plan.early
    pruner: BasePruner = (
        HyperbandPruner(early["min_iter"], max_resource=plan.epochs, reduction_factor=early["eta"])
        if early
        else NopPruner()
    )
    storage = open_journal(folder / "optuna.journal")
    name = " ".join(f"{key}={value}" for key, value in job.cell.items()) or plan.name
    try:
        study = optuna.load_study(study_name=name, storage=storage, sampler=sampler, pruner=pruner)
    except KeyError:  # this is its first trial
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            sampler=sampler,
            pruner=pruner,
            direction="minimize" if plan.mode == "min" else "maximize",
            load_if_exists=True,
        )
    note = ledger.folder / f"{job.key}.trial"
    if note.exists() and not note.read_text().isdigit():  # the machine stopped before the disk had it
        note.unlink()
    if not note.exists():
        trial = study.ask({key: distribution(spread) for key, spread in plan.ranges.items()})
        ledger.write(note.name, str(trial.number))
    known = storage.get_study_id_from_name(study.study_name)
    return Trial(study, storage.get_trial_id_from_study_id_trial_number(known, int(note.read_text())))


def is_open(trial: Trial) -> bool:
    """Return whether Optuna still waits for the trial's result; it knows that of a failed one that is done again."""
    return not trial.study.get_trials(deepcopy=False)[trial.number].state.is_finished()


def tell(trial: Trial, value: float | None, *, failed: bool = False) -> None:
    """Give Optuna the result of a trial; `None` for one that was stopped or failed."""
    state = TrialState.FAIL if failed else TrialState.PRUNED if value is None else TrialState.COMPLETE
    trial.study.tell(trial.number, value, state=state, skip_if_finished=True)


class Reports(pl.Callback):
    """Report the primary metric of each epoch to Optuna, and stop the run if hyperband says so.

    This happens when the next epoch begins: by then the last one is on record. The best value so far is reported,
    because that is the trial's result in the end.
    """

    def __init__(self, trial: Trial, monitor: str, mode: str) -> None:
        self.trial, self.monitor, self.better = trial, monitor, {"min": min, "max": max}[mode]
        self.best: float | None = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.monitor not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.monitor])
        self.best = value if self.best is None else self.better(self.best, value)
        epoch = trainer.current_epoch
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a resumed run reports an epoch again
            self.trial.report(self.best, epoch)
        if self.trial.should_prune():
            raise Pruned(f"hyperband stopped it after {count(epoch, 'epoch')} with {self.monitor} {self.best:.6g}")
