"""A run's name and folder, which one process claims."""

import hashlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from losslab.config.flat import excluded_from_name, flatten
from losslab.errors import Refused
from losslab.files import clear_parts, known_json, make_folder
from losslab.locks import open_lock, try_lock
from losslab.machine import environment
from losslab.record import wandb


def flat_config(cfg: DictConfig) -> dict[str, Any]:
    """List every setting under its dotted key; a group's own name holds the option chosen.

    Folds are listed where there are any, so that other runs keep the names and the records of before there were folds.
    """
    flat = {**flatten(cfg), **cfg.run.choices}
    unset = ("data.folds", "data.fold") if flat.get("data.folds", 0) is None else ()
    return {key: flat[key] for key in sorted(flat) if key not in unset}


def run_name(cfg: DictConfig) -> str:
    """Name a run by its main options and a hash of every setting that can change its numbers.

    Where it writes and how it is logged is no part of the name.
    """
    config = flat_config(cfg)
    what = {key: value for key, value in config.items() if not excluded_from_name(key)}
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:8]
    name = "-".join([*(config[group] for group in ("data", "model", "loss", "optimizer")), f"s{cfg.seed}", digest])
    return name.replace("*", "")  # of a weighted sum of losses


def claim_folder(cfg: DictConfig, folder: Path | None = None) -> tuple[Path, int | None, str | None]:
    """Claim a folder that no other process works in, also when many start at once.

    Args:
        cfg: the configuration. With `resume=auto`, a run of the same settings and code that was preempted or killed is
            resumed.
        folder: where a sweep has its job recorded, whichever process trains it; `None` for one of the run's name.

    Returns:
        The folder, its lock, and the checkpoint to resume from, if any.

    Raises:
        Refused: where it cannot be made, or another process goes on with the run.
    """
    if cfg.ckpt and (Path(cfg.ckpt).parent / "status.json").is_file():
        folder = Path(cfg.ckpt).parent
        make_folder(folder.resolve(), "ckpt=FILE in a copy of it")
        lock = locked(folder)
        if lock is None:
            raise Refused(
                f"ckpt={cfg.ckpt} belongs to a run that another process is continuing: wait for it, or stop it"
            )
        return folder, lock, cfg.ckpt
    if folder is not None:
        make_folder(folder)
        return folder, locked(folder), cfg.ckpt
    count, name = 1, run_name(cfg)
    while True:
        folder = Path(cfg.output_dir) / (name if count == 1 else f"{name}-{count}")
        try:
            lock = locked(make_folder(folder))
        except OSError as error:
            raise Refused(
                f"output_dir={cfg.output_dir} cannot be written ({error.strerror}): type output_dir=FOLDER"
            ) from None
        if lock is not None:
            if not (folder / "status.json").is_file():
                return folder, lock, cfg.ckpt
            if cfg.resume == "auto" and not cfg.ckpt and resumable(folder):
                last = folder / "last.ckpt"
                return folder, lock, str(last) if last.is_file() else None
            os.close(lock)
        count += 1


def locked(folder: Path) -> int | None:
    """Lock a run's folder until this process ends, and return the lock; `None` if another process holds it.

    Remove what a killed process had not finished writing there.
    """
    lock = open_lock(folder / ".lock")
    ours = try_lock(lock)
    if ours is False:
        os.close(lock)
        return None
    if ours:
        clear_parts(folder)
    return lock


def resumable(folder: Path) -> bool:
    """Tell whether the run in this folder was preempted or killed, and its code is the present one."""
    status = known_json(folder / "status.json")
    if status.get("status") not in ("preempted", "running"):
        return False
    code, now = status.get("environment"), environment()  # which asks git
    return isinstance(code, dict) and all(code.get(key) == now[key] for key in ("losslab", "git_commit"))


def run_id(folder: Path) -> str:
    """Return W&B's id of the run: the one that it had before, else a sweep agent's, else a new one."""
    known = known_json(folder / "status.json").get("id")
    if isinstance(known, str) and re.fullmatch(r"[\w-]+", known):
        return known
    if agent_id := wandb.agent_run_id():
        return agent_id
    return hashlib.sha256(f"{folder.resolve()} {time.time_ns()}".encode()).hexdigest()[:8]
