"""The mirror of a run's record in Weights & Biases; the run's folder is the truth."""

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger, WandbLogger

from losslab import launch
from losslab.errors import Refused

Table = list[dict[str, str]]


def prepare(cfg: DictConfig) -> None:
    """Settings that W&B reads from the environment: quiet, flushed each second, and offline without any request."""
    logger = cfg.get("logger") or {}
    if launch.rank() or "wandb" not in str(logger.get("_target_")).lower():
        return
    usual = {"WANDB_SILENT": "true", "WANDB_CONSOLE": "off", "WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL": "1"}
    usual |= {"WANDB_FINISH_TIMEOUT": "300", "WANDB_FINISH_TIMEOUT_RAISES": "true"}  # a server may have gone away
    usual["WANDB_DATA_DIR"] = str(Path(cfg.output_dir).resolve() / "wandb" / "data")
    if in_sweep():
        if "WANDB_MODE" not in os.environ and not any(text.startswith("logger.mode=") for text in cfg.run.overrides):
            cfg.logger.mode = "online"  # the server that sent the agent waits for the run
        usual["WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL"] = "2"  # with its own 15 s, hyperband sees short runs too late
    if logger.get("mode") in ("offline", "dryrun"):
        usual |= {"WANDB_MODE": "offline", "WANDB_ERROR_REPORTING": "false"}
    for key, value in usual.items():
        os.environ.setdefault(key, value)
    import wandb

    wandb.setup()  # read them now: WandbLogger's own first call would warn of a setting that nobody made


def in_sweep() -> bool:
    """Whether an agent of a W&B sweep started this process; it stops a run by SIGTERM."""
    return "WANDB_SWEEP_ID" in os.environ


def agent_run_id() -> str | None:
    """The id that a sweep's agent gave this run, and stops it by."""
    return os.environ.get("WANDB_RUN_ID") if in_sweep() else None


def start(mirrors: Iterable[Logger], hyperparameters: Mapping[str, Any]) -> None:
    """Tell other loggers what the run is.

    Raises:
        Refused: where W&B cannot begin.
    """
    try:
        for logger in mirrors:
            logger.log_hyperparams(dict(hyperparameters))
    except Exception as error:
        if isinstance(error, PermissionError):
            raise Refused(f"W&B cannot write {error.filename}: type output_dir=FOLDER, or logger=false") from error
        if not type(error).__module__.startswith("wandb"):
            raise
        why = " ".join(str(error).split())
        raise Refused(f"W&B could not start ({why}): type logger.mode=offline, or `wandb login` first") from error


def log_pictures(mirrors: Iterable[Logger], folder: Path, pictures: Iterable[str], tables: Mapping[str, Table]) -> None:
    """Hand the pictures in a folder, and the tables, to W&B."""
    for logger in mirrors:
        if isinstance(logger, WandbLogger):
            try:
                for name in pictures:
                    logger.log_image(f"pictures/{name}", [str(folder / f"{name}.png")])
                for name, table in tables.items():
                    logger.log_table(name, list(table[0]), [list(row.values()) for row in table])
            except Exception as error:  # the server went away after training began: the folder is the truth
                if not type(error).__module__.startswith("wandb"):
                    raise
                print(f"W&B did not take the pictures ({' '.join(str(error).split())})", file=sys.stderr, flush=True)


def finish(exit_code: int, preempted: bool) -> None:
    """Close the W&B run with the exit code that its end has."""
    if "wandb" not in sys.modules:
        return
    import wandb

    mirror = wandb.run and Path(wandb.run.dir).parent
    try:
        if preempted and wandb.run:
            wandb.run.mark_preempting()
        wandb.finish(exit_code=exit_code)
    except (TimeoutError, ConnectionError) as late:
        in_time = f" in {os.environ['WANDB_FINISH_TIMEOUT']} seconds" if isinstance(late, TimeoutError) else ""
        print(
            f"W&B did not take all of the run{in_time}; "
            f"nothing is lost: `wandb sync --no-skip-online {mirror}` uploads it",
            file=sys.stderr,
            flush=True,
        )
