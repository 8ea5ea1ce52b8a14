"""Group the runs of a sweep that can be trained as one model, by their configurations alone and without torch."""

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
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

FREE = ("seed", "data.seed", "data.fold", "loss", "optimizer", "search")  # in these the runs of a stack may differ


@dataclass(eq=False)
class Planned:
    """One run of a sweep, and what became of it."""

    cfg: DictConfig  # empty if it is refused
    folder: Path | None = None  # where it is recorded; `None` for one of the run's name
    outcome: Any = None  # its summary, or the error that it ended with

    @cached_property
    def flat(self) -> dict[str, Any]:
        """The run's settings by their flat keys."""
        return {**flatten(self.cfg), **self.cfg.run.choices}


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
    unusual = [key for key in trainer if key not in usual]
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
    free = tuple(f"{name}." for name in FREE)
    kept = {key: value for key, value in flat.items() if not excluded_from_name(key) and not f"{key}.".startswith(free)}
    optimizer = flat.get("optimizer._target_", flat.get("optimizer"))
    return json.dumps({**kept, "optimizer": optimizer}, sort_keys=True, default=str)


def plan_runs(typed: Sequence[list[str]]) -> list[Planned]:
    """Compose the runs of a sweep; those that are refused have an outcome already.

    Args:
        typed: for each run, what would stand on the command line.

    Raises:
        Refused: where a run names an option or a key that does not exist, as Hydra would before the first run.
    """
    runs = []
    for overrides in typed:
        try:
            runs.append(Planned(check.configure([show_sum(text) for text in overrides])))
        except Refused as error:
            if isinstance(error.__cause__, HydraException | OmegaConfBaseException):
                raise  # an option or a key that does not exist
            print(f"losslab: {error}", file=sys.stderr, flush=True)
            runs.append(Planned(DictConfig({}), outcome=error))
    return runs


def split_stacks(runs: Sequence[Planned], width: int) -> list[list[Planned]]:
    """Split the runs into stacks of at most `width`, each in the order of the runs; print why some train alone."""
    if not whole(width, 1):
        raise Refused(f"hydra.launcher.width={width} does not fit: it must be a whole number of at least 1")
    stacks: dict[str, list[Planned]] = {}
    why: Counter[str] = Counter()
    for number, run in enumerate(runs):
        if run.outcome is None:
            reason = reason_alone(run.cfg)
            why.update([reason] if reason else [])
            stacks.setdefault(f"{number}" if reason else group_key(run.flat), []).append(run)
    for reason, count in why.items():
        print(f"{count} of {len(runs)} runs train alone: {reason}", flush=True)
    return [stack[start : start + width] for stack in stacks.values() for start in range(0, len(stack), width)]


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

    def objective(run: Planned, end: Any) -> Any:
        best = f"val/{run.cfg.task.yardstick}_best"
        return end if isinstance(end, BaseException) else SweepObjective(end[best], str(end.folder))

    return list(map(objective, stack, train_together(stack)))
