"""What Optuna does for a sweep: it draws settings, one study for each cell, and stops runs that are not worth going on.

Its journal lies in the sweep's folder, so that processes on any number of hosts draw from the same studies.
"""

import os
import warnings
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
from losslab.errors import Pruned
from losslab.files import open_lock, try_lock
from losslab.sweep.ledger import Ledger
from losslab.sweep.plan import Job, Plan

optuna.logging.set_verbosity(optuna.logging.WARNING)
LINE = 1 << 20  # bytes: more than a line of the journal


class Lock(JournalFileSymlinkLock):
    """Lets one process at a time write to the journal; the kernel unlocks it when that process dies.

    Optuna's own is a link, which whoever is killed leaves behind: the others wait for it, 30 seconds or for ever.
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
        self.mend()
        return True

    def mend(self) -> None:
        """Take away the half of a line that a full disk took: nothing could be read after it."""
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
    """Optuna's word for the range of a parameter."""
    if "values" in spread:
        return CategoricalDistribution([arguments.as_typed(v) if isinstance(v, list) else v for v in spread["values"]])
    low, high, step = spread["min"], spread["max"], spread["step"]
    if spread["whole"]:
        return IntDistribution(low, high, step=step or 1)
    return FloatDistribution(low, high, log=spread["log"], step=step)


def draw(folder: Path, ledger: Ledger, plan: Plan, job: Job) -> Trial:
    """The trial of a job: drawn when it is first asked for, and the same one ever after.

    Every trial draws from random numbers of its own, so what is drawn at random does not depend on who was first.
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
    journal = folder / "optuna.journal"
    storage = JournalStorage(JournalFileBackend(str(journal), Lock(journal)))
    study = optuna.create_study(
        study_name=" ".join(f"{key}={value}" for key, value in job.cell.items()) or plan.name,
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


def undecided(trial: Trial) -> bool:
    """Whether Optuna still waits for the trial; one that failed and is done again has been told."""
    return not trial.study.trials[trial.number].state.is_finished()


def tell(trial: Trial, value: float | None, *, failed: bool = False) -> None:
    """What a trial came to; `None` for one that was stopped or failed."""
    state = TrialState.FAIL if failed else TrialState.PRUNED if value is None else TrialState.COMPLETE
    trial.study.tell(trial.number, value, state=state, skip_if_finished=True)


class Reports(pl.Callback):
    """Tells Optuna the yardstick of each epoch, and stops the run when hyperband says so.

    It does so as the next epoch begins: by then the last one is on record.

    Args:
        trial: what is reported to.
        monitor: what is reported; the best of it so far, because that is what the trial is judged by in the end.
        mode: whether `min` or `max` is better.
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
            raise Pruned(f"hyperband stopped it after {epoch} epochs with {self.monitor} {self.best:.6g}")
