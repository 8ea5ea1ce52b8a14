"""Which runs of a sweep can be trained as one model, told by their configurations alone; nothing here imports torch."""

import json
import os
import signal
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from losslab.config import check
from losslab.config.catalogue import options
from losslab.config.ranges import silent, whole
from losslab.errors import Refused
from losslab.training import preemption

FREE = ("seed", "data.seed", "loss", "optimizer", "search")  # runs of one stack may differ in these, and what is below


@dataclass
class Planned:
    """One run of a sweep: its number, what was typed for it, its configuration, and that by its flat keys."""

    number: int
    overrides: list[str]
    cfg: DictConfig
    flat: dict[str, Any]


@cache
def element_wise(catalogue: tuple[str, ...]) -> frozenset[str]:
    """The optimizers of a catalogue that are marked `stacks: true`: they treat each weight by itself."""
    return frozenset(name for name, option in options(catalogue, "optimizer").items() if option.get("stacks"))


@cache
def file(catalogue: tuple[str, ...], group: str, name: str) -> dict[str, Any]:
    """An option as it stands in the catalogue."""
    return options(catalogue, group)[name]


def followed(cfg: DictConfig, name: str) -> bool:
    """Whether each run of a stack has this callback: early stopping, and the two checkpoints as they come."""
    callback = cfg.callbacks[name]
    if callback._target_ == "pytorch_lightning.callbacks.EarlyStopping":
        return bool(callback.monitor == cfg.monitor and callback.get("check_on_train_epoch_end"))
    usual = file(tuple(cfg.run.catalogue), "callbacks", "default").get(name)
    free = ("dirpath", "monitor", "mode", "ranges", "seconds", "within")
    same = usual is not None and all(callback.get(key) == usual.get(key) for key in {*callback, *usual} - {*free})
    return same and (name == "last" or (callback.monitor, callback.mode) == (cfg.monitor, cfg.task.mode))


def alone(cfg: DictConfig) -> str | None:
    """Why a run cannot be one of a stack, as far as its configuration tells."""
    choice, trainer = cfg.run.choices, cfg.trainer
    others = [name for name in cfg.callbacks if not followed(cfg, name)]  # such as an average of the weights
    usual = file(tuple(cfg.run.catalogue), "trainer", "auto")
    unusual = [key for key in trainer if key not in usual or (key == "check_val_every_n_epoch" and trainer[key] != 1)]
    reasons = {
        f"optimizer={choice.optimizer} is not marked `stacks: true`: it does not treat each weight by itself":
            choice.optimizer not in element_wise(tuple(cfg.run.catalogue)),
        f"scheduler={choice.scheduler} looks at the run's own metric": "monitor" in cfg.scheduler,
        f"callbacks.{', '.join(others)} acts on one model": bool(others),
        f"trainer.{', trainer.'.join(map(str, unusual))} is not known to stacks": bool(unusual),
        "it has several processes": trainer.devices != 1 or trainer.get("num_nodes", 1) != 1,
        f"trainer.strategy={trainer.get('strategy')} is not auto": trainer.get("strategy", "auto") != "auto",
        f"trainer.precision={trainer.precision} is neither 32-true nor 64-true":
            trainer.precision not in ("32-true", "64-true"),
        f"augment={choice.get('augment')} draws at random": bool(cfg.get("augment")),
        "it goes on from a checkpoint of another sweep": cfg.ckpt is not None and cfg.run.dir is None,
    }  # fmt: skip
    return next((reason for reason, so in reasons.items() if so), None)


def alike(flat: Mapping[str, Any]) -> str:
    """A text that is the same for runs which may be in one stack.

    Args:
        flat: a run's settings by their flat keys; or, as far as that tells, what is typed for it.
    """
    free = [key for key in flat if silent(key) or any(key == name or key.startswith(f"{name}.") for name in FREE)]
    kept = {key: value for key, value in flat.items() if key not in free}
    optimizer = flat.get("optimizer._target_", flat.get("optimizer"))
    return json.dumps({**kept, "optimizer": optimizer}, sort_keys=True, default=str)


def composed(number: int, overrides: list[str], cfg: DictConfig) -> Planned:
    """A run of a sweep with its settings by their flat keys."""
    return Planned(number, overrides, cfg, {**check.flatten(cfg), **cfg.run.choices})


def apart(runs: Sequence[Planned], width: int) -> list[list[Planned]]:
    """The runs in stacks of at most `width`, each stack in the order of the runs; tells why some train alone."""
    stacks: dict[str, list[Planned]] = {}
    why: dict[str, int] = {}
    for run in runs:
        reason = alone(run.cfg)
        if reason:
            why[reason] = why.get(reason, 0) + 1
        stacks.setdefault(f"{run.number}" if reason else alike(run.flat), []).append(run)
    for reason, count in why.items():
        print(f"{count} of {len(runs)} runs train alone: {reason}", flush=True)
    return [stack[start : start + width] for stack in stacks.values() for start in range(0, len(stack), width)]


def sort(typed: Sequence[list[str]], width: int) -> tuple[list[list[Planned]], dict[int, Refused]]:
    """The runs in stacks of at most `width`, each stack in the order of the sweep; and those that are refused.

    Args:
        typed: for each run, what would stand on the command line.

    Raises:
        Refused: where a run cannot be composed, as Hydra itself would.
    """
    if not whole(width, 1):
        raise Refused(f"hydra.launcher.width={width} does not fit: it must be a whole number of at least 1")
    runs: list[Planned] = []
    refused: dict[int, Refused] = {}
    for number, overrides in enumerate(typed):
        try:
            cfg = check.configure([text.replace("+losses=", "loss=", 1) for text in overrides])
        except Refused as error:
            if isinstance(error.__cause__, HydraException | OmegaConfBaseException):
                raise  # an option or a key that does not exist: nothing is trained before that is mended
            print(f"losslab: {error}", file=sys.stderr, flush=True)
            refused[number] = error
        else:
            runs.append(composed(number, overrides, cfg))
    return apart(runs, width), refused


class Share:
    """What a launcher calls for each stack: it trains the runs and tells what each has reached.

    Args:
        stacks: of all jobs.
        first: the number of the first job, as Hydra counts them.
    """

    def __init__(self, stacks: list[list[Planned]], first: int) -> None:
        self.stacks, self.first = stacks, first

    def __call__(self, typed: DictConfig) -> list[Any]:
        if "SLURM_JOB_ID" in os.environ:
            signal.signal(signal.SIGUSR1, preemption.too_early)
        stack = self.stacks[HydraConfig.get().job.num - self.first]

        from losslab.stacking.train import one, train_together
        from losslab.train import Reached

        outcomes: Iterable[Any] = train_together(stack) if len(stack) > 1 else [one(stack[0].cfg)]
        return [
            outcome
            if isinstance(outcome, BaseException)
            else Reached(outcome[f"val/{job.cfg.task.yardstick}_best"], self.first + job.number, job.cfg.run.dir)
            for job, outcome in zip(stack, outcomes, strict=True)
        ]
