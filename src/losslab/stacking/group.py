"""Group the runs of a sweep that can be trained as one model, by their configurations alone and without torch."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from losslab.config import check
from losslab.config.arguments import show_sum
from losslab.config.catalogue import options
from losslab.config.flat import excluded_from_name, flatten
from losslab.config.ranges import whole
from losslab.errors import Refused
from losslab.training import preemption

FREE = (
    "seed",
    "data.seed",
    "data.fold",
    "loss",
    "optimizer",
    "search",
)  # settings in which the runs of a stack may differ


@dataclass
class Planned:
    """One run of a sweep."""

    number: int  # its place in the sweep
    overrides: list[str]  # what was typed for it
    cfg: DictConfig
    flat: dict[str, Any]  # its settings by their flat keys
    folder: Path | None = None  # where it is recorded; `None` for one of the run's name


@cache
def option_of(catalogue: tuple[str, ...], group: str, name: str) -> dict[str, Any]:
    """Return an option as its file in the catalogue has it; nothing where it has none."""
    return options(catalogue, group).get(name, {})


def supports_callback(cfg: DictConfig, name: str) -> bool:
    """Return whether a stack does for each run what this callback does: early stopping, and the usual checkpoints."""
    callback = cfg.callbacks[name]
    if callback._target_ == "pytorch_lightning.callbacks.EarlyStopping":
        return bool(callback.monitor == cfg.monitor and callback.get("check_on_train_epoch_end"))
    usual = option_of(tuple(cfg.run.catalogue), "callbacks", "default").get(name)
    free = ("dirpath", "monitor", "mode", "ranges", "seconds", "within")
    same = usual is not None and all(callback.get(key) == usual.get(key) for key in {*callback, *usual} - {*free})
    return same and (name == "last" or (callback.monitor, callback.mode) == (cfg.monitor, cfg.task.mode))


def reason_alone(cfg: DictConfig) -> str | None:
    """Return why a run cannot be part of a stack, as far as its configuration tells."""
    choice, trainer, catalogue = cfg.run.choices, cfg.trainer, tuple(cfg.run.catalogue)
    others = [name for name in cfg.callbacks if not supports_callback(cfg, name)]
    usual = option_of(catalogue, "trainer", "auto")
    unusual = [key for key in trainer if key not in usual or (key == "check_val_every_n_epoch" and trainer[key] != 1)]
    reasons = {
        f"optimizer={choice.optimizer} is not marked `stacks: true`: it does not treat each weight by itself":
            not option_of(catalogue, "optimizer", choice.optimizer).get("stacks"),
        f"scheduler={choice.scheduler} looks at the run's own metric": "monitor" in cfg.scheduler,
        f"callbacks.{', '.join(others)} acts on one model": bool(others),
        f"trainer.{', trainer.'.join(map(str, unusual))} is not known to stacks": bool(unusual),
        "it has several processes": trainer.devices != 1 or trainer.get("num_nodes", 1) != 1,
        f"trainer.strategy={trainer.get('strategy')} is not auto": trainer.get("strategy", "auto") != "auto",
        f"trainer.precision={trainer.precision} is neither 32-true nor 64-true":
            trainer.precision not in ("32-true", "64-true"),
        f"augment={choice.get('augment')} draws at random": bool(cfg.get("augment")),
        "it goes on from a checkpoint": cfg.ckpt is not None,
    }  # fmt: skip
    return next((reason for reason, so in reasons.items() if so), None)


def group_key(flat: Mapping[str, Any]) -> str:
    """Return a text that is equal for runs which may be in one stack.

    Args:
        flat: a run's settings by their flat keys; or what is typed for it, which tells less.

    >>> group_key({"seed": 1, "optimizer": "adam"}) == group_key({"seed": 2, "optimizer": "adam"})
    True
    """
    free = [
        key
        for key in flat
        if excluded_from_name(key) or any(key == name or key.startswith(f"{name}.") for name in FREE)
    ]
    kept = {key: value for key, value in flat.items() if key not in free}
    optimizer = flat.get("optimizer._target_", flat.get("optimizer"))
    return json.dumps({**kept, "optimizer": optimizer}, sort_keys=True, default=str)


def plan_run(number: int, overrides: list[str], cfg: DictConfig, folder: Path | None = None) -> Planned:
    """Return a run of a sweep with its settings by their flat keys."""
    return Planned(number, overrides, cfg, {**flatten(cfg), **cfg.run.choices}, folder)


def split_stacks(runs: Sequence[Planned], width: int) -> list[list[Planned]]:
    """Split the runs into stacks of at most `width`, each in the order of the runs; print why some train alone."""
    stacks: dict[str, list[Planned]] = {}
    why: dict[str, int] = {}
    for run in runs:
        reason = reason_alone(run.cfg)
        if reason:
            why[reason] = why.get(reason, 0) + 1
        stacks.setdefault(f"{run.number}" if reason else group_key(run.flat), []).append(run)
    for reason, count in why.items():
        print(f"{count} of {len(runs)} runs train alone: {reason}", flush=True)
    return [stack[start : start + width] for stack in stacks.values() for start in range(0, len(stack), width)]


def plan_stacks(typed: Sequence[list[str]], width: int) -> tuple[list[list[Planned]], dict[int, Refused]]:
    """Compose the runs of a sweep and split them into stacks.

    Args:
        typed: for each run, what would stand on the command line.
        width: how many runs a stack may hold.

    Returns:
        The stacks, each in the order of the sweep; and by their numbers the runs that are refused.

    Raises:
        Refused: where a run names an option or a key that does not exist, as Hydra would before the first run.
    """
    if not whole(width, 1):
        raise Refused(f"hydra.launcher.width={width} does not fit: it must be a whole number of at least 1")
    runs: list[Planned] = []
    refused: dict[int, Refused] = {}
    for number, overrides in enumerate(typed):
        try:
            cfg = check.configure([show_sum(text) for text in overrides])
        except Refused as error:
            if isinstance(error.__cause__, HydraException | OmegaConfBaseException):
                raise  # an option or a key that does not exist
            print(f"losslab: {error}", file=sys.stderr, flush=True)
            refused[number] = error
        else:
            runs.append(plan_run(number, overrides, cfg))
    return split_stacks(runs, width), refused


def train_stacks(stacks: list[list[Planned]], first: int, typed: DictConfig) -> list[Any]:
    """Train the stack of this job and return the objectives of its runs; a launcher calls it for each job.

    Args:
        stacks: of all jobs.
        first: the number of the first job, as Hydra counts them.
        typed: the job's configuration, which is that of the stack's first run.
    """
    preemption.exit_at_time_limit()
    stack = stacks[HydraConfig.get().job.num - first]

    from losslab.app import SweepObjective
    from losslab.stacking.train import train_together

    return [
        outcome
        if isinstance(outcome, BaseException)
        else SweepObjective(outcome[f"val/{job.cfg.task.yardstick}_best"], str(outcome.folder))
        for job, outcome in zip(stack, train_together(stack), strict=True)
    ]
