"""What a sweep file asks for: its cells, their settings and repeats, and the jobs that they make.

A cell is what is compared: data, task, model, loss and optimizer. Seeds, seeds of the split and folds repeat a setting.
All else that the file varies is a setting within a cell. Each cell gets the same number of settings, and each setting
the same repeats.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Literal

from omegaconf import DictConfig

from losslab.config import arguments, check, compose
from losslab.config.catalogue import CONF, options
from losslab.config.flat import excluded_from_name
from losslab.config.ranges import common_ranges, whole
from losslab.config.recorded import check_overrides_in
from losslab.errors import Refused
from losslab.sweep.file import find_parameters, load_file, narrow, parse_command, parse_hyperband, parse_parameter

CELL = ("task", "data", "model", "loss", "optimizer")
REPEATS = {"seed": "seed", "data.seed": "split", "data.fold": "fold"}  # what repeats a setting, and how it is called
MOST = 1_000_000  # runs of one sweep
QUIET = {"logger": "false", "trainer.enable_progress_bar": "false"}  # unless the file or the user says otherwise

Setting = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """What one worker does in one go: the runs of one setting, most often a single one."""

    key: str  # a hash of all that the runs are; the job's name in the ledger
    cell: Setting  # what is compared
    setting: Setting  # every override except those of its repeats and what is drawn
    repeats: list[Setting]  # a run for each, such as `{"seed": 0, "data.fold": 3}`
    draw: bool = False  # whether the rest of the setting is drawn when the job's turn comes


@dataclass(frozen=True)
class Plan:
    """A sweep, read and checked."""

    name: str  # of the sweep and its folder
    method: str  # `grid`, `random` or `bayes`
    fixed: Setting  # the overrides that all runs share
    grid: dict[str, list[Any]]  # for each key the values that are enumerated
    ranges: dict[str, dict[str, Any]]  # for each key the range that is drawn from
    repeats: dict[str, list[int]]  # for each key of `REPEATS` that varies, and `seed`, its values
    trials: int = 0  # settings drawn for each cell; 0 in a grid
    early: dict[str, int] | None = None  # hyperband's `min_iter` and `eta`
    metric: str = ""  # the primary one, by which settings are chosen on the validation rows
    mode: Literal["min", "max"] = "min"  # whether `min` or `max` of it is better
    epochs: int = 1  # of each run

    @cached_property
    def cells(self) -> list[Setting]:
        """All combinations of what is compared."""
        compared = [key for key in self.grid if key in CELL]
        return [dict(zip(compared, values, strict=True)) for values in product(*(self.grid[key] for key in compared))]

    @cached_property
    def rounds(self) -> list[Setting]:
        """All combinations of the repeats: each setting has a run in every round."""
        return [dict(zip(self.repeats, values, strict=True)) for values in product(*self.repeats.values())]

    def count_repeats(self) -> str:
        """Say how often each setting is run, such as `2 seeds x 5 folds`."""
        counts = {REPEATS[key]: len(values) for key, values in self.repeats.items() if len(values) > 1}
        return " x ".join(f"{count} {name}s" for name, count in counts.items()) or "1 seed"

    def first(self, cell: Setting) -> Setting:
        """Return the overrides of the first run of a cell; of a range that is drawn from, its lower end."""
        ranges = {key: ends(spread)[0] for key, spread in self.ranges.items()}
        return {
            **self.fixed,
            **{key: values[0] for key, values in self.grid.items()},
            **ranges,
            **cell,
            **self.rounds[0],
        }

    def jobs(self) -> list[Job]:
        """List all jobs. Repeats and trials go round by round, so that a stopped sweep is a balanced one."""
        if self.trials:
            settings = [(cell, {**self.fixed, **cell}) for cell in self.cells]
            return [make_trial(*each, self.rounds, trial) for trial in range(self.trials) for each in settings]
        within = [key for key in self.grid if key not in CELL]
        settings = [
            (cell, {**self.fixed, **cell, **dict(zip(within, values, strict=True))})
            for cell in self.cells
            for values in product(*(self.grid[key] for key in within))
        ]
        jobs = [make_job(cell, setting, repeat) for repeat in self.rounds for cell, setting in settings]
        return list({job.key: job for job in jobs}.values())


def make_job(cell: Setting, setting: Setting, repeat: Setting) -> Job:
    """Make the job of one run whose setting is known."""
    return Job(hash_setting(setting, *(f"{key} {value}" for key, value in repeat.items())), cell, setting, [repeat])


def make_trial(cell: Setting, setting: Setting, repeats: list[Setting], number: int) -> Job:
    """Make a job whose setting is yet to be drawn, apart from these overrides."""
    return Job(hash_setting(setting, f"trial {number}"), cell, setting, repeats, draw=True)


def pack_jobs(fixed: Setting, jobs: Sequence[Job]) -> dict[str, Any]:
    """Pack jobs for JSON: what most of them share is in it once.

    >>> job = make_job({"loss": "mae"}, {"data": "digits", "loss": "mae"}, {"seed": 0})
    >>> packed = pack_jobs({"data": "digits"}, [job])
    >>> packed["jobs"]
    [['f94c3063d642', {'loss': 'mae'}, {'loss': 'mae'}, [{'seed': 0}], False]]
    >>> unpack_jobs(**packed) == [job]
    True
    """
    shared = {key: value for key, value in fixed.items() if all(key in job.setting for job in jobs)}
    texts = {key: repr(value) for key, value in shared.items()}
    own = [{key: value for key, value in job.setting.items() if texts.get(key) != repr(value)} for job in jobs]
    packed = [[job.key, job.cell, rest, job.repeats, job.draw] for job, rest in zip(jobs, own, strict=True)]
    return {"shared": shared, "jobs": packed}


def unpack_jobs(shared: Setting, jobs: Iterable[Sequence[Any]]) -> list[Job]:
    """Return the jobs that were packed."""
    return [Job(key, cell, {**shared, **own}, repeats, draw) for key, cell, own, repeats, draw in jobs]


def hash_setting(setting: Mapping[str, Any], *more: str) -> str:
    """Return a name that follows from all overrides that can change the numbers."""
    typed = sorted(text for text in to_overrides(setting) if not excluded_from_name(text))
    return hashlib.sha256(json.dumps([*typed, *more]).encode()).hexdigest()[:12]


def to_overrides(setting: Mapping[str, Any]) -> list[str]:
    """Write a setting as it is typed.

    >>> to_overrides({"loss": "mae", "optimizer.lr": 1e-05, "data.drop": None, "model.hidden": [64, 32]})
    ['loss=mae', 'optimizer.lr=1e-05', 'data.drop=null', 'model.hidden=[64, 32]']
    """
    return [f"{key}={arguments.as_typed(value)}" for key, value in setting.items()]


def read(path: str, typed: Mapping[str, str], name: str | None = None, output: str = "outputs") -> Plan:
    """Read a sweep file, and check all that can be checked before anything runs; see `make_plan`.

    Raises:
        Refused: where the file is no sweep file, or asks for what cannot be done.
    """
    return make_plan(path, load_file(path), typed, name or Path(path).stem, output)


def make_plan(path: str, sweep: dict[str, Any], typed: Mapping[str, str], name: str, output: str = "outputs") -> Plan:
    """Make a plan of what a sweep file says, and check all that can be checked before anything runs.

    Args:
        path: of the file, or what else messages name.
        typed: settings that replace what the file says of their keys; several values, `seed=0,1`, are varied.
        output: the folder below which its runs will lie.

    Raises:
        Refused: where the file asks for what cannot be done.
    """
    asked, typed = set(typed), narrow(path, sweep, typed)
    method = sweep.get("method")
    if method not in ("grid", "random", "bayes"):
        raise Refused(f"{path}: method: {method} is not one of grid, random, bayes")
    fixed, grid, ranges = sort_parameters(path, method, sweep, typed)
    every = {key: [value] for key, value in fixed.items()} | grid
    every |= {key: ends(spread) for key, spread in ranges.items()}
    theirs = {key: values for key, values in every.items() if key not in asked}
    texts = [f"{key}={arguments.as_typed(value)}" for key, values in theirs.items() for value in values]
    check_overrides_in(path, texts, compose.parse_allow([f"allow={typed['allow']}"] if "allow" in typed else []))
    fixed |= typed
    seeds = grid.pop("seed", [fixed.pop("seed", 0)])
    repeats = {"seed": seeds, **{key: grid.pop(key) for key in REPEATS if key in grid}}
    repeats = {key: [int(n) if str(n).isdigit() else n for n in values] for key, values in repeats.items()}
    if (runs := prod(map(len, [*grid.values(), *repeats.values()]))) > MOST:
        raise Refused(f"{path} asks for {runs:,} runs, and {MOST:,} are the most: leave some values out")
    plan = Plan(name, method, fixed, grid, ranges, repeats)
    if method == "grid":
        plan = cap_rounds(path, plan, sweep.get("run_cap"))
    else:
        if not ranges:
            raise Refused(f"{path}: method: {method} has nothing to draw: give a parameter min and max, or say grid")
        plan = replace(plan, trials=count_trials(path, plan, sweep.get("run_cap")))
    if "early_terminate" in sweep:
        plan = replace(plan, early=parse_hyperband(path, method, sweep["early_terminate"]))
    task, epochs = check_cells(path, plan, sweep.get("metric"), output)
    return replace(plan, metric=task.yardstick, mode=task.mode, epochs=epochs)


def sort_parameters(
    path: str, method: str, sweep: Mapping[str, Any], typed: Iterable[str]
) -> tuple[Setting, dict[str, list[Any]], dict[str, dict[str, Any]]]:
    """Sort what a sweep file says by what is done with it, without the keys that were typed in its place.

    Returns:
        The settings of all runs, the values that are enumerated, and the ranges that are drawn from, by their keys.

    Raises:
        Refused: where a key has a range, but its values have to be enumerated.
    """
    fixed: Setting = dict(parse_command(path, sweep))
    grid: dict[str, list[Any]] = {}
    ranges: dict[str, dict[str, Any]] = {}
    for key, asked in find_parameters(path, sweep).items():
        spread = parse_parameter(path, key, asked)
        enumerated = method == "grid" or key in CELL or key in REPEATS
        if key in typed:
            continue
        if "value" in spread:
            fixed[key] = spread["value"]
        elif "values" in spread and enumerated:
            grid[key] = spread["values"]
        elif enumerated:
            raise Refused(
                f"{path}: {key} has a range, but {method} needs its values here: type {key}: {{values: [..]}}"
            )
        else:
            ranges[key] = spread
    return fixed, grid, ranges


def ends(spread: Mapping[str, Any]) -> list[Any]:
    """Return the values of a range that are checked: all that it lists, or both its ends."""
    return spread.get("values") or [spread["min"], spread["max"]]


def cap_rounds(path: str, plan: Plan, cap: Any) -> Plan:
    """Leave out the last seeds of a grid where `run_cap` allows fewer runs: each setting keeps as many as the others.

    Raises:
        Refused: where it does not give each setting the same number of runs.
    """
    runs = len(plan.jobs())
    if cap is None or (whole(cap, 1) and cap >= runs):
        return plan
    each = runs // len(plan.repeats["seed"])
    if not whole(cap, 1) or cap % each:
        fits = ", ".join(str(n * each) for n in range(1, 4) if n * each < runs) or str(runs)
        raise Refused(
            f"{path}: run_cap: {arguments.as_typed(cap)} does not give each of {each} settings as many seeds: type "
            f"run_cap={fits.replace(', ', ' or ')}, or fewer values, such as loss=mae,mse"
        )
    return replace(plan, repeats={**plan.repeats, "seed": plan.repeats["seed"][: cap // each]})


def count_trials(path: str, plan: Plan, cap: Any) -> int:
    """Return the number of trials of each cell, the same for all, that `run_cap` allows: it counts runs."""
    each = len(plan.cells) * len(plan.rounds)
    if not isinstance(cap, int) or isinstance(cap, bool) or cap < each:
        raise Refused(
            f"{path}: run_cap: {arguments.as_typed(cap)} does not give each of the {len(plan.cells)} cells a trial "
            f"with {plan.count_repeats()}: type run_cap: {10 * each} for ten"
        )
    if cap % each:
        fits = ", ".join(str(n * each) for n in (cap // each, cap // each + 1))
        raise Refused(f"{path}: run_cap: {cap} gives {len(plan.cells)} cells unequal budgets: type one of {fits}")
    return cap // each


def check_cells(path: str, plan: Plan, metric: Any, output: str) -> tuple[DictConfig, int]:
    """Compose each cell at both ends of what is varied within it, and check the metric.

    Returns:
        The task's configuration and the number of epochs, both of the last cell.
    """
    within = {key: values for key, values in plan.grid.items() if key not in CELL}
    within |= {key: ends(spread) for key, spread in plan.ranges.items()}
    within |= {key: values for key, values in plan.repeats.items() if key != "seed"}
    most = max(map(len, within.values()), default=1)
    fitting = common_ranges()["seed"]
    for seed in plan.repeats["seed"]:
        if not fitting.fits(seed):
            raise Refused(f"{path}: seed={seed} does not fit: it must be {fitting.words}")
    searched: dict[str, list[str]] = {}
    ours = {"logger": "false", "output_dir": output}
    with compose.hydra_ready():
        for number, cell in enumerate(plan.cells):
            for turn in range(most if number == 0 else min(most, 2)):
                setting = {key: values[-1 - turn if turn < len(values) else -1] for key, values in within.items()}
                try:
                    cfg = check.configure(to_overrides({**ours, **plan.fixed, **cell, **setting}))
                except Refused as error:
                    raise Refused(f"{path}: {error}") from None
            check_metric(path, plan, cfg, metric)
            searched |= {place: keys for place, keys in cfg.run.searched.items() if keys or place not in searched}
    check_searched(path, plan, searched)
    return cfg.task, cfg.trainer.max_epochs


def check_searched(path: str, plan: Plan, searched: Mapping[str, Sequence[str]]) -> None:
    """Refuse a place in a range that sets no key in any cell."""
    for place in (place for place, keys in searched.items() if not keys):
        known = options([str(CONF)], "loss").items()
        having = ", ".join(f"{name} ({next(iter(option['search']))})" for name, option in known if "search" in option)
        losses = ", ".join(str(loss) for loss in plan.grid.get("loss", [plan.fixed.get("loss", "the usual one")]))
        raise Refused(
            f"{path}: {place} sets nothing, as no loss here has a range to search ({losses}): leave it out, or add one "
            f"of {having}"
        )


def check_metric(path: str, plan: Plan, cfg: DictConfig, metric: Any) -> None:
    """Refuse to choose by anything but the task's primary metric on the validation rows."""
    right, goal = f"val/{cfg.task.yardstick}", {"min": "minimize", "max": "maximize"}[cfg.task.mode]
    asked = metric or {"name": right, "goal": goal}
    if not isinstance(asked, dict):
        raise Refused(f"{path}: metric: {asked} has no name: type metric: {{name: {right}, goal: {goal}}}")
    name, wanted = asked.get("name"), asked.get("goal", "minimize")
    why = ""
    if str(name).startswith("test/"):
        why = " (that would choose by the rows that the choice is tested on)"
    elif str(name).endswith("loss"):
        why = " (each loss has another unit)"
    if (name, wanted) != (right, goal):
        raise Refused(
            f"{path}: metric {name}, {wanted}, is not the primary metric of task={cfg.task.name}{why}: "
            f"type metric: {{name: {right}, goal: {goal}}}"
        )
    if plan.early and plan.early["min_iter"] >= cfg.trainer.max_epochs:
        raise Refused(
            f"{path}: early_terminate: min_iter: {plan.early['min_iter']} is not below "
            f"trainer.max_epochs={cfg.trainer.max_epochs}, so it would stop nothing"
        )
