"""The mirror of a run's record in Weights & Biases; the run's folder is the truth."""

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from glob import escape
from http.client import HTTPException
from pathlib import Path
from ssl import SSLError
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from losslab.config.arguments import key_of
from losslab.config.flat import excluded_from_name
from losslab.files import check_no_link
from losslab.record import artifacts
from losslab.record.client import SERVERS, client, is_fault, reason, refused
from losslab.record.offline import mend, offline
from losslab.training import distributed

Table = list[dict[str, str]]
TAG = 64  # W&B's longest tag
ANSWERS = 5  # seconds to wait for an answer


class Mirror(WandbLogger):
    """Lightning's W&B logger, which also defines each metric's epoch and goal, and logs artifacts offline.

    Args:
        log_model: whether the best checkpoint and the user's own code go to W&B when the run ends.
        more: for Lightning's logger and `wandb.init`.
    """

    def __init__(self, log_model: bool = False, **more: Any) -> None:
        super().__init__(**more)  # Lightning refuses log_model offline
        self.uploads = log_model
        self.goals: Mapping[str, str] = {}
        self.plain: str | None = None
        self.defined: set[str] = set()
        self.known: dict[int, Mapping[str, float]] = {}

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log an epoch's row, or the summary; W&B draws every metric over the epochs.

        An epoch that a resumed run trains again, to the same end, is not logged again.
        """
        if "epoch" in metrics and "train/loss" not in metrics:
            return  # what a callback logged, which the epoch's row holds
        if (known := self.known.get(int(metrics.get("epoch", -1)))) and known["train/loss"] == metrics["train/loss"]:
            return
        rows = {name for name in metrics if "epoch" in metrics or name.startswith(("train/", "val/", "test/"))}
        for name in rows - {"epoch"} - self.defined:
            self.experiment.define_metric(name, step_metric="epoch", summary=self.summary_of(name))
            self.defined.add(name)
        super().log_metrics(metrics, step)

    def catch_up(self, history: Sequence[Mapping[str, float]]) -> None:
        """Log the rows of the run's record that W&B lacks because the process was killed before they were sent."""
        last = self.last_epoch()
        self.known = {int(row["epoch"]): row for row in history if row["epoch"] <= last}
        for row in history:
            self.log_metrics({key: value for key, value in row.items() if key != "step"}, int(row["step"]))
            self.known[int(row["epoch"])] = row

    def last_epoch(self) -> float:
        """Return the last epoch that W&B has of this run, on its server or in logs of earlier starts; -1 if none."""
        run = self.experiment
        if not run.offline:
            # the summary may have been sent before its row; there are more rows than epochs where a run has ended
            return min(float(run.summary.get("epoch", -1)), run.starting_step - 1) if run.resumed else -1
        earlier = [folder for folder in starts(run) if folder != Path(run.dir).parent]
        rows = [row for folder in earlier for row in self.rows_of(folder)]
        return max((row["epoch"] for row in rows if "train/loss" in row), default=-1)

    @staticmethod
    def rows_of(folder: Path) -> list[dict[str, Any]]:
        """Mend the log of an earlier start, and return its rows."""
        try:
            mend(folder)
            return list(offline(str(folder))["history"])
        except (OSError, ValueError):
            return []

    def summary_of(self, name: str) -> str | None:
        """Return what W&B's summary keeps of a metric: of a validation metric the best value and the last.

        The primary metric stays a plain number: W&B orders a sweep's runs by it. Its best value is `val/NAME_best`.
        """
        goal = self.goals.get(name.removeprefix("val/")) if name.startswith("val/") else None
        return f"{goal},last" if goal and name != self.plain else None


def prepare(cfg: DictConfig) -> dict[str, Any]:
    """Set what W&B reads from the environment: quiet, flushed each second, and offline without any request.

    Returns:
        Keys for the logger, in place of those that its option leaves open.
    """
    logger = cfg.get("logger") or {}
    if distributed.rank() or "wandb" not in str(logger.get("_target_")).lower():
        return {}
    filled = describe(cfg)
    check_no_link(Path(cfg.output_dir) / "wandb")
    waits = "600" if logger.get("log_model") else "60"  # a server may have gone away
    usual = {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1"}
    usual |= {"WANDB_INIT_TIMEOUT": "30", "WANDB_FINISH_TIMEOUT": waits, "WANDB_FINISH_TIMEOUT_RAISES": "true"}
    usual["WANDB_DATA_DIR"] = str(Path(cfg.output_dir).resolve() / "wandb" / "data")
    if in_sweep():
        if "WANDB_MODE" not in os.environ and not any(text.startswith("logger.mode=") for text in cfg.run.overrides):
            filled["mode"] = "online"  # the server that sent the agent waits for the run
        usual["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "2"  # with its own 15 s, hyperband sees short runs too late
    if filled.get("mode", logger.get("mode")) in ("offline", "dryrun"):
        usual |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    for key, value in usual.items():
        os.environ.setdefault(key, value)
    logging.raiseExceptions = False  # the run itself reports a full disk, in one sentence
    client().setup()  # read them now: WandbLogger would warn of a setting that nobody made
    return filled


def describe(cfg: DictConfig) -> dict[str, Any]:
    """Return what the logger's option leaves open: the sweep as the group, what was typed as the notes, short tags."""
    typed = " ".join(text for text in cfg.run.overrides if not excluded_from_name(key_of(text)))
    filled: dict[str, Any] = {
        key: value or None
        for key, value in (("group", sweep_of(cfg)), ("notes", typed))
        if key in cfg.logger and cfg.logger[key] is None and f"WANDB_{KEYS[key]}" not in os.environ
    }
    if cfg.logger.get("tags"):
        filled["tags"] = [str(tag)[:TAG] for tag in cfg.logger.tags if tag]
    return filled


KEYS = {"group": "RUN_GROUP", "notes": "NOTES"}  # variables of the environment, after WANDB_


def sweep_of(cfg: DictConfig) -> str | None:
    """Return the sweep that the run is part of: W&B's id, or the name of one on this machine."""
    here = Path(cfg.output_dir).parent
    return os.environ.get("WANDB_SWEEP_ID") or (here.name if (here / "sweep.json").is_file() else None)


def in_sweep() -> bool:
    """Tell whether an agent of a W&B sweep started this process; it stops a run by SIGTERM."""
    return "WANDB_SWEEP_ID" in os.environ


def agent_run_id() -> str | None:
    """Return the id that a sweep's agent gave this run, and by which it stops it."""
    return os.environ.get("WANDB_RUN_ID") if in_sweep() else None


def start(mirrors: Iterable[Logger], hyperparameters: Mapping[str, Any], goals: Mapping[str, str], plain: str) -> None:
    """Log what the run is.

    Args:
        hyperparameters: settings and facts.
        goals: for each metric, whether `min` or `max` is better.
        plain: the primary metric, as it is logged.

    Raises:
        Refused: where a logger cannot begin.
    """
    for logger in mirrors:
        kind = type(logger).__name__
        try:
            if isinstance(logger, Mirror):
                logger.goals, logger.plain = goals, plain
            logger.log_hyperparams(dict(hyperparameters))
        except Exception as error:
            if kind not in SERVERS and not is_fault(error):
                raise
            raise refused(error, kind) from error


def catch_up(mirrors: Iterable[Logger], history: Sequence[Mapping[str, float]]) -> None:
    """Log the epochs of a resumed run that W&B lacks."""
    for logger in mirrors:
        if isinstance(logger, Mirror) and history:
            logger.catch_up(history)


def links(mirrors: Iterable[Logger]) -> dict[str, str]:
    """Return the links to a run and its sweep in W&B; nothing offline."""
    runs = [logger.experiment for logger in mirrors if isinstance(logger, WandbLogger)]
    found = {"run": [run.url for run in runs], "sweep": [run.sweep_url for run in runs]}
    return {name: urls[0] for name, urls in found.items() if urls and urls[0]}


def log_pictures(
    mirrors: Iterable[Logger],
    folder: Path,
    pictures: Iterable[str],
    tables: Mapping[str, Table],
    code: Callable[[], Mapping[str, Path]],
) -> str | None:
    """Log a finished run's pictures and tables, and if asked its best checkpoint and the user's own code.

    Args:
        pictures: the names of those in `pictures/`.
        code: finds the files that are the user's own, by their names there.

    Returns:
        Why W&B did not take all of it: its server went away, the disk is full. The folder is the truth.
    """
    for logger in mirrors:
        if isinstance(logger, WandbLogger):
            try:
                for name in pictures:
                    logger.log_image(f"pictures/{name}", [str(folder / "pictures" / f"{name}.png")])
                if not reachable(logger.experiment):  # the client itself would wait 19 seconds
                    raise ConnectionError("its server does not answer")
                for name, table in tables.items():
                    logger.log_table(name, list(table[0]), [list(row.values()) for row in table])
                if isinstance(logger, Mirror) and logger.uploads:
                    artifacts.log(folder, logger.experiment, code())
            except Exception as error:
                if not is_fault(error):
                    raise
                return reason(error)
    return None


def reachable(run: Any) -> bool:
    """Tell whether the server of an online run answers at all."""
    if run.offline or run.disabled:
        return True
    settings = run.settings
    proxies = {"http": settings.http_proxy, "https": settings.https_proxy}
    opener = build_opener(ProxyHandler({kind: url for kind, url in proxies.items() if url} or None))
    try:
        opener.open(Request(settings.base_url, method="HEAD"), timeout=ANSWERS).close()
    except HTTPError as error:
        error.close()  # it holds the connection
        return True
    except URLError as error:
        return isinstance(error.reason, SSLError)  # of a certificate that the client may trust nevertheless
    except (OSError, HTTPException):
        return False
    return True


def sync_command(run: Any) -> str:
    """Return the command that uploads an offline run: its folders, one for each start, in their order."""
    here = Path.cwd()
    folders = (folder.relative_to(here) if folder.is_relative_to(here) else folder for folder in starts(run))
    return shlex.join(
        ["wandb", "sync", *(f"./{folder}" if str(folder).startswith("-") else str(folder) for folder in folders)]
    )


def starts(run: Any) -> list[Path]:
    """List the folders of an offline run, one for each start."""
    folder = Path(run.dir).parent
    return sorted(folder.parent.glob(f"offline-run-*-{escape(run.id)}")) or [folder]


def finish(exit_code: int, preempted: bool, missing: str | None = None) -> None:
    """Close the W&B run, and print in one sentence what it did not take.

    Args:
        exit_code: 0 where the run came to its end.
        preempted: whether it will be gone on with.
        missing: why pictures, tables or artifacts were not logged.
    """
    if "wandb" not in sys.modules:
        return
    wandb = client()
    run = wandb.run
    folder = run and Path(run.dir).parent
    incomplete = None
    try:
        if preempted and run:
            run.mark_preempting()
        wandb.finish(exit_code=exit_code)
    except Exception as error:
        if not is_fault(error):
            raise
        in_time = isinstance(error, TimeoutError) and f" in {run.settings.finish_timeout:g} seconds"
        incomplete = in_time or f" ({reason(error)})"
    if incomplete:
        command = shlex.join(["wandb", "sync", "--no-skip-online", str(folder)])
        says = f"W&B did not take all of the run{incomplete}; nothing is lost: `{command}` uploads it"
    elif missing:
        says = f"W&B did not take all of the run ({missing}); nothing is lost: the run's folder has it"
    else:
        return
    print(says, file=sys.stderr, flush=True)
