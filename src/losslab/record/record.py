"""What a run records.

A run's folder is the truth and W&B its mirror. docs/records.md lists the plain files that the folder holds.
JSON and YAML files are replaced whole, so a reader never sees half of one.
"""

import math
import os
import signal
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import torch
import yaml
from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from losslab import terminal
from losslab.errors import Diverged, Pruned, Refused, machine_refusal
from losslab.files import append, known_json, make_folder, replacing, write, write_json
from losslab.locks import remove_locked
from losslab.machine import environment, peak_memory
from losslab.record import wandb
from losslab.record.artifacts import own_code
from losslab.record.folder import claim_folder, flat_config, run_id
from losslab.record.rows import FIRST_NORM, GRADIENT_NORM, SPEED, Row, read_history
from losslab.spreadsheet import csv_text, write_csv
from losslab.training import distributed, preemption
from losslab.training.preemption import Preempted

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from matplotlib.figure import Figure


def claim(cfg: DictConfig, better: Mapping[str, str], trainer: "pl.Trainer", folder: Path | None = None) -> "Record":
    """Return the record of a run in a folder of its own, as the trainer's first process decides for all."""
    lock: int | None = None

    def decide() -> dict[str, Any]:
        nonlocal lock
        place, lock, ckpt = claim_folder(cfg, folder)
        return {"dir": str(place), "id": run_id(place), "ckpt": ckpt}

    agreed = distributed.broadcast_decision(trainer, decide)
    return Record(
        Path(agreed["dir"]),
        cfg,
        better,
        id=agreed["id"],
        ckpt=agreed["ckpt"],
        first=trainer.is_global_zero,
        world=trainer.world_size,
        lock=lock,
    )


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory in MB: the GPU's if training runs on one, else the process's."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    return peak_memory() / 1e6


class Record(Logger):
    """The record of one run in its folder, and how the run ended.

    It is a Lightning logger, given the same numbers as W&B. As a context it marks the run finished, failed,
    interrupted or pruned, and closes the W&B run with the same exit code. A run that is refused before it begins leaves
    no folder behind.

    Args:
        folder: the run's own; what an earlier start left there is read and gone on with.
        better: for each metric, whether `min` or `max` is better.
        first: whether this is the run's first process: the others record nothing.
        lock: of the folder, to be held until the run ends.
    """

    def __init__(
        self,
        folder: Path,
        cfg: DictConfig,
        better: Mapping[str, str],
        *,
        id: str,
        ckpt: str | None = None,
        first: bool = True,
        world: int = 1,
        lock: int | None = None,
    ) -> None:
        super().__init__()
        self.first, self.world, self.lock, self.ckpt = first, world, lock, ckpt
        self.folder, self.better = folder, {"loss": "min", **better}
        self.config = {**flat_config(cfg), "ckpt": ckpt}
        self.yardstick = str(cfg.task.yardstick)
        best = cfg.callbacks.get("best", {})  # refused later where it lacks
        self.monitor, self.mode = str(best.get("monitor")), str(best.get("mode", cfg.task.mode))
        self.mirrors: list[Logger] = []
        self.code = partial(own_code, cfg)  # called at the end, when allowed packages have been imported
        self.pictures: list[str] = []  # the names of those in `pictures/`
        self.unmirrored: str | None = None
        self.history: list[Row] = []
        self.unwritten: Refused | None = None  # why the status could not be written
        self.rewrite = True  # history.csv may have lost its end, so the first row is written with all before it
        self.began = time.time()
        self.status: dict[str, Any] = {
            "status": None,
            "reason": None,
            "id": id,
            "overrides": list(cfg.run.overrides),
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return self.folder.name

    @property
    def version(self) -> str:
        """The id of the run, equal to W&B's."""
        return str(self.status["id"])

    def begin(
        self, mirrors: list[Logger], facts: Mapping[str, Any], here: Mapping[str, str | None] | None = None
    ) -> None:
        """Record what the run is, with facts beyond its settings, when it starts or resumes, here and in loggers."""
        if not self.first:
            return
        self.status |= {"facts": dict(facts), "environment": dict(here or environment())}
        self.mirror(mirrors)
        self.history = read_history(self.folder / "history.csv")
        wandb.catch_up(mirrors, self.history)
        write(self.folder / "config.yaml", yaml.safe_dump(self.config, sort_keys=True))
        self.note("running")

    def mirror(self, mirrors: list[Logger]) -> None:
        """Log what the run is to other loggers, and from then on its rows.

        Raises:
            Refused: where W&B cannot begin.
        """
        self.mirrors = mirrors
        beyond = {
            f"{kind}.{key}": value for kind in ("facts", "environment") for key, value in self.status[kind].items()
        }
        wandb.start(mirrors, {**self.config, **beyond}, self.better, f"val/{self.yardstick}")
        if links := wandb.links(mirrors):
            self.status["wandb"] = links

    def note(self, status: str, reason: str | None = None) -> None:
        """Write the run's status and the reason for it."""
        self.status |= {"status": status, "reason": reason, "seconds": round(time.time() - self.began, 3)}
        try:
            write_json(self.folder / "status.json", self.status)
            self.unwritten = None
        except OSError as error:  # a full disk: say what stopped the run all the same
            self.unwritten = machine_refusal(error)
            if status == "finished" or isinstance(error, FileNotFoundError):  # the end reports that
                return
            print(f"{self.folder / 'status.json'} could not be written ({error.strerror})", file=sys.stderr, flush=True)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the configuration is written when the run begins."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Write an epoch's row to disk; a row that a resumed run trains again replaces the old one.

        Lightning also sends what a callback logs by itself; the epoch's row holds it.
        """
        if "train/loss" not in metrics:
            return
        row = {"epoch": int(metrics["epoch"]), "step": int(step or 0), **metrics}
        while self.history and self.history[-1]["epoch"] >= row["epoch"]:
            self.history.pop()
            self.rewrite = True
        self.history.append(row)
        if self.rewrite or not append(
            self.folder / "history.csv", csv_text([[row.get(name) for name in self.history[0]]])
        ):
            self.write_history()

    def write_history(self) -> None:
        """Rewrite `history.csv` with all rows."""
        names = list(self.history[0])
        write_csv(self.folder / "history.csv", [names, *([row.get(name) for name in names] for row in self.history)])
        self.rewrite = False

    def restore(self, row: Row | None) -> None:
        """Restore a checkpoint's last row, which `history.csv` may have lost."""
        if row and self.first and (self.history[-1]["epoch"] if self.history else -1) < row["epoch"]:
            self.history.append({**row, SPEED: math.nan})  # no checkpoint keeps the speed
            self.write_history()

    def best_epoch(self) -> int:
        """Return the epoch that is tested: the best on the validation rows by `monitor`, usually the primary metric."""
        choose = min if self.mode == "min" else max
        return int(choose(self.history, key=lambda row: row.get(self.monitor, row[f"val/{self.yardstick}"]))["epoch"])

    def finish(self, test: Mapping[str, float]) -> Row:
        """Write the summary: the last and best value of each metric, and the test metrics."""
        last = {key: value for key, value in self.history[-1].items() if key not in ("epoch", "step")}
        best = {
            f"val/{name}_best": (min if better == "min" else max)(row[f"val/{name}"] for row in self.history)
            for name, better in self.better.items()
            if f"val/{name}" in last
        }
        tail = [row["train/loss"] for row in self.history[-max(5, len(self.history) // 10) :]]
        last["train/loss_spread"] = statistics.pstdev(tail)  # over the last tenth of the epochs
        ends = {"best_epoch": self.best_epoch(), "epochs": len(self.history), "updates": self.history[-1]["step"]}
        summary = {**last, **best, **test, **ends}
        write_json(self.folder / "summary.json", summary)
        for logger in self.mirrors:
            first = {FIRST_NORM: self.history[0].get(GRADIENT_NORM, math.nan)}
            logger.log_metrics({**best, **test, **ends, **first, "train/loss_spread": last["train/loss_spread"]})
        return summary

    def keep_tables(self, tables: Mapping[str, list[dict[str, str]]]) -> None:
        """Save tables as CSV."""
        folder = make_folder(self.folder / "pictures")
        for name, table in tables.items():
            write_csv(folder / f"{name}.csv", [list(table[0]), *(list(row.values()) for row in table)])

    def keep_pictures(self, draw: Callable[[], Mapping[str, "Figure"]]) -> None:
        """Draw figures and save them as PNG; say so if one fails, as hours of training are worth more than a picture.

        Raises:
            OSError: such as on a full disk.
        """
        from losslab.page.figures import save_png

        try:
            for name, figure in draw().items():
                with replacing(self.folder / "pictures" / f"{name}.png") as out:
                    save_png(figure, out)
                self.pictures.append(name)
        except (OSError, Refused):
            raise
        except Exception as error:
            file, line, *_ = traceback.extract_tb(error.__traceback__)[-1]
            why = f"{type(error).__name__} in {Path(file).name}, line {line}: {error}"
            print(f"Not all pictures were drawn ({why}); the run's numbers are complete.", file=sys.stderr, flush=True)

    def mirror_pictures(self, tables: Mapping[str, list[dict[str, str]]]) -> None:
        """Log the pictures that were kept, and the tables, to W&B."""
        self.unmirrored = wandb.log_pictures(self.mirrors, self.folder, self.pictures, tables, self.code)

    def __enter__(self) -> "Record":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self.first:
                self.leave(error)
            elif self.status["status"] is not None:
                self.end(error)
        finally:
            self.release()

    def release(self) -> None:
        """Unlock the folder; remove it if the run was refused before it began."""
        lock, self.lock = self.lock, None
        if lock is None:
            return
        if self.first and self.status["status"] is None and not (self.folder / "status.json").exists():
            remove_locked(self.folder, lock)
        else:
            os.close(lock)

    def end(self, error: BaseException | None) -> None:
        """Record how the run ended; after a signal, exit with that signal's code.

        Raises:
            Refused: where the machine did not allow it, such as on a full disk.
        """
        by = stopped_by(error)
        refused = machine_refusal(error) if error is not None and by is None else None
        self.conclude(refused or error)
        if by is not None:
            if self.status["status"] == "preempted":
                preemption.requeue(by)
            sys.exit(128 + by)  # Lightning would say 0, or 1
        if error is None:
            refused = self.unwritten
        if refused is not None and refused is not error:
            raise refused from error

    def conclude(self, error: BaseException | None, quiet: bool = False) -> None:
        """Record how the run ended, here and on W&B; `quiet` if the caller prints it."""
        by = stopped_by(error)
        if error is None:
            self.note("finished")
        elif isinstance(error, Pruned):
            self.note("pruned", str(error))
        elif by == signal.SIGTERM and wandb.in_sweep():
            self.note("pruned", "SIGTERM in a W&B sweep, which stops runs that others are far ahead of")
        elif by == signal.SIGINT:
            self.note("interrupted", "Ctrl-C")
        elif by is not None:
            self.note("preempted", by.name)
        elif self.world > 1 and isinstance(error, RuntimeError) and (why := self.failed_elsewhere()):
            self.note("failed", why)
        else:
            self.note("failed", f"{type(error).__name__}: {error}")
        if self.status["status"] not in ("finished", "pruned") and not quiet and self.folder.is_dir():
            print(terminal.stopped(self.folder, by), file=sys.stderr, flush=True)
        exit_code = 0 if error is None or isinstance(error, Pruned) else 1
        wandb.finish(exit_code, self.status["status"] == "preempted", self.unmirrored)
        for logger in self.mirrors:
            if not isinstance(logger, WandbLogger):
                logger.finalize("failed" if exit_code else "success")

    def leave(self, error: BaseException | None) -> None:
        """End a process other than the first: record only an error that no other process has."""
        if isinstance(error, Pruned | Diverged) or stopped_by(error):
            sys.exit(0)  # the first process reports it; for another exit code Lightning would kill that one
        if error is None:  # the next run of a sweep waits for it
            return
        if isinstance(error, RuntimeError) and self.failed_elsewhere():
            sys.exit(1)
        file = self.folder / "status.json"
        before = known_json(file)
        reason = f"process {distributed.rank()}: {type(error).__name__}: {error}"
        write_json(file, {**before, "status": "failed", "reason": reason})

    def failed_elsewhere(self) -> str | None:
        """Return why another process failed, if this one lost its connection because of that."""
        deadline = time.monotonic() + 2
        while True:
            status = known_json(self.folder / "status.json")
            if status.get("status") == "failed":
                return str(status["reason"])
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.1)


def stopped_by(error: BaseException | None) -> signal.Signals | None:
    """Return the signal that stopped a run; Lightning turns Ctrl-C into an exit and SIGTERM into another error.

    SLURM sends SIGTERM to all that a job has started. Where W&B's own process or one that loads data ends of it first,
    the error that follows is the signal's doing.
    """
    if isinstance(error, Preempted):
        return error.by
    if isinstance(error, OSError | RuntimeError) and preemption.notice.by:
        return preemption.notice.by
    if isinstance(error, SIGTERMException):
        return signal.SIGTERM
    if isinstance(error, SystemExit):
        error = error.__context__
    return signal.SIGINT if isinstance(error, KeyboardInterrupt) else None
