"""What a race is asked: which candidates, what to tune, which difference matters, and what it may cost."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

from losslab.compare.population import CLAIMS
from losslab.config import check
from losslab.config.arguments import read_values, take_folders
from losslab.config.catalogue import CONF, fits, options
from losslab.config.make import make
from losslab.config.words import parse_list
from losslab.errors import Refused, nearest
from losslab.race.levels import first_look
from losslab.sweep.choice import check_selection
from losslab.sweep.file import find_parameters, load_file
from losslab.sweep.plan import CELL, REPEATS, Plan, Setting, make_plan, sort_parameters, to_overrides

COMPARED = ("loss", "optimizer", "model")
FIRST = 1000  # the first seed that tests: those that tune lie below it
CHEAP = 3  # settings are first tried for a third of the epochs, and the best third of them for all
LABEL = "losslab race"  # what messages name where there is no file
UNITS = {"": ("runs", 1), "s": ("hours", 1 / 3600), "m": ("hours", 1 / 60), "h": ("hours", 1), "gpuh": ("GPU-hours", 1)}


@dataclass(frozen=True)
class Budget:
    """What a race may use: an amount of `runs`, `hours` or `GPU-hours`."""

    amount: float
    unit: str

    def __str__(self) -> str:
        return f"{self.amount:.3g} {self.unit}" if self.unit != "runs" else f"{self.amount:.0f} runs"


@dataclass(frozen=True)
class Question:
    """What a race is asked."""

    plan: Plan  # the candidates, and the settings that all share
    tuning: Plan | None  # the settings that are tried for each; `None` where the defaults race
    difference: float  # what is worth finding, in per cent or points; 0 for what some 20 seeds can find
    budget: Budget | None  # what the race may use; `None` without a limit
    claim: str  # what the comparison should speak of; empty for what the records suggest
    log: bool = False  # whether the race's state goes to W&B

    @property
    def keys(self) -> list[str]:
        """The keys whose options make a candidate."""
        return [key for key in self.plan.grid if key in CELL] or ["loss"]

    def seed(self, number: int) -> int:
        """Return the seed of the test with this number, from 0: fresh where seeds were tuned on."""
        return FIRST + number if self.tuning else number

    def least_runs(self) -> int:
        """Return the number of trainings until the first look."""
        candidates = len(self.plan.cells)
        tuned = self.tuning.trials + finalists(self.tuning.trials) if self.tuning else 0
        return candidates * (tuned + first_look(candidates))


def finalists(trials: int) -> int:
    """Return how many of a candidate's settings are trained for all epochs.

    >>> finalists(8), finalists(1)
    (3, 1)
    """
    return -(-trials // CHEAP)


def parse_budget(text: str) -> Budget | None:
    """Parse a budget: 500 (runs), 90s, 30m, 2h or 8gpuh.

    Raises:
        Refused: for anything else.

    >>> parse_budget("2h"), parse_budget("500"), parse_budget("")
    (Budget(amount=2.0, unit='hours'), Budget(amount=500.0, unit='runs'), None)
    """
    if not text:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(|s|m|h|gpuh)", text)
    unit, factor = UNITS[found[2]] if found else ("", 0)
    if found is None or float(found[1]) <= 0:
        raise Refused(f"budget={text} does not fit: type a number of runs or a time, such as 500, 30m, 2h or 8gpuh")
    return Budget(float(found[1]) * factor, unit)


def parse_difference(text: str) -> float:
    """Parse the difference worth finding, in per cent or points; 0 for `auto`.

    Raises:
        Refused: for what is no such number; a race for a difference of 0 never ends.
    """
    if text == "auto":
        return 0.0
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if found == 0:
        raise Refused(
            "difference=0 never ends: equal candidates can't be shown to be equal; type the least that matters to you, "
            "such as difference=1"
        )
    if not 1e-6 <= found <= 1000:
        raise Refused(f"difference={text} does not fit: type a number of per cent or points, such as difference=1")
    return found


def read_question(words: Sequence[str], typed: Mapping[str, str], name: str, folders: Sequence[str]) -> Question:
    """Read what was typed, and check all that can be checked before anything runs.

    Args:
        words: a sweep file, or nothing.
        typed: settings; those of loss, optimizer and model may be lists or `glob(PATTERN)`.

    Raises:
        Refused: where it is no race, or asks for what cannot be done.
    """
    typed = dict(typed)
    difference, budget = parse_difference(typed.pop("difference", "auto")), parse_budget(typed.pop("budget", ""))
    claim, trials = typed.pop("claim", ""), parse_trials(typed.pop("tune", "8"))
    if claim and claim not in CLAIMS:
        raise Refused(f"claim={claim} is not an option: type one of {', '.join(CLAIMS)}")
    for key in ("seed", "data.seed", "data.fold") if not trials else ("seed", "data.fold"):
        if key in typed:
            raise Refused(f"{key}={typed[key]}: a race chooses its own seeds, as many as it needs: leave {key} out")
    path, sweep = (words[0], load_file(words[0])) if words else (LABEL, dict[str, Any]())
    fixed: Setting = {}
    grid: dict[str, list[Any]] = {}
    ranges: dict[str, dict[str, Any]] = {}
    if words:
        find_parameters(path, sweep)
        fixed, grid, ranges = sort_parameters(path, "random", sweep, typed)
        grid = {key: values for key, values in grid.items() if key not in REPEATS}
        fixed = {key: value for key, value in fixed.items() if key not in REPEATS}
    rest = {key: value for key, value in typed.items() if key not in COMPARED}
    for key in COMPARED:
        if key in typed:
            grid.pop(key, None)
            fixed.pop(key, None)
            values = list_options(key, typed[key], fixed | rest, folders)
            (grid.update({key: values}) if len(values) > 1 else fixed.update({key: values[0]}))
    if "data" in grid or "task" in grid:
        key = "data" if "data" in grid else "task"
        raise Refused(f"{path}: {key} has several values, and a race has one: type {key}={grid[key][0]}")
    if not grid and str(typed.get("loss")).startswith("["):
        several = typed["loss"].strip("[]")
        raise Refused(f"{path}: loss={typed['loss']} is one candidate, a weighted sum: type loss={several} for several")
    if not grid:
        raise Refused(f"{path}: one candidate is no race: type several, such as loss=mse,mae,huber or 'loss=glob(*)'")
    parameters: dict[str, Any] = {key: {"value": value} for key, value in fixed.items()}
    parameters |= {key: {"values": values} for key, values in grid.items()}
    plan = make_plan(path, {"method": "grid", "parameters": parameters}, rest, name)
    for key in plan.grid:
        if key not in COMPARED:
            raise Refused(f"{path}: {key} has several values, and a race tunes what it does not compare: type one")
    question = Question(plan, None, difference, budget, claim)
    if trials:
        question = add_tuning(question, path, ranges or find_ranges(plan), trials, rest)
    check_budget(question)
    return question


def parse_trials(text: str) -> int:
    """Parse how many settings of each candidate are tried; 0 races with the defaults."""
    if not text.isdigit() or int(text) > 10_000:
        raise Refused(f"tune={text} does not fit: it must be a whole number of settings, 0 to race with the defaults")
    return int(text)


def list_options(key: str, text: str, setting: Setting, folders: Sequence[str]) -> list[str]:
    """List the options that were typed for a key, such as `mse,mae` or `glob(*)`, which stands for all that fit.

    Raises:
        Refused: for a pattern that no fitting option has.
    """
    found = re.fullmatch(r"glob\((.*)\)", text)
    if not found:
        return list(dict.fromkeys(map(str, read_values(key, text)))) or [text]
    patterns = [pattern.strip("'\" ") for pattern in parse_list(found[1])]
    known = options([*folders, str(CONF)], key)
    named = [name for name in known if any(fnmatch(name, pattern) for pattern in patterns)]
    others = {k: v for k, v in setting.items() if k not in COMPARED}
    if key == "loss":
        cfg = check.configure(to_overrides({**others, "logger": "false"}))
        named = [name for name in named if fits(cfg.task, known[name])]
        if any("domain" in known[name] for name in named):
            data = make(cfg, "data")
            named = [name for name in named if "domain" not in known[name] or not data.outside(known[name]["domain"])]
    left = [name for name in named if composes({**others, key: name, "logger": "false"})]
    if not left:
        raise Refused(f"{key}={text} matches no option that fits; {nearest(patterns[0] if patterns else '', known)}")
    return left


def composes(setting: Setting) -> bool:
    """Tell whether a run with this setting would not be refused."""
    try:
        check.configure(to_overrides(setting))
    except Refused:
        return False
    return True


def find_ranges(plan: Plan) -> dict[str, dict[str, Any]]:
    """Find what is tuned unless a file says it: the learning rate, and the first number that a loss's file names."""
    place = {"min": 0.0, "max": 1.0}
    found = {} if "optimizer.lr" in plan.fixed else {"search.lr": place}
    losses = plan.grid.get("loss", [plan.fixed.get("loss")])
    if any("search" in option for name, option in options([str(CONF)], "loss").items() if name in losses):
        found["search.loss"] = place
    return found


def add_tuning(
    question: Question, path: str, ranges: dict[str, Any], trials: int, typed: Mapping[str, str]
) -> Question:
    """Add the settings that are tried for each candidate, on one split for all that are tested.

    Raises:
        Refused: where rows that are tuned on would be tested.
    """
    plan = question.plan
    fixed = {"data.seed": 0, **plan.fixed}
    parameters: dict[str, Any] = {key: {"value": value} for key, value in fixed.items() if key not in typed}
    parameters |= {key: {"values": values} for key, values in plan.grid.items()}
    for key, spread in ranges.items():
        parameters[key] = {k: v for k, v in spread.items() if k in ("values", "min", "max")}
        if spread.get("log"):
            parameters[key]["distribution"] = "log_uniform_values"
    if not ranges:
        return question
    sweep = {"method": "random", "parameters": parameters, "run_cap": trials * len(plan.cells)}
    tuning = make_plan(path, sweep, typed, plan.name)
    check_selection(tuning, path, [FIRST])
    return replace(question, plan=replace(plan, fixed=fixed), tuning=tuning)


def check_budget(question: Question) -> None:
    """Refuse a budget that ends before the first look."""
    budget, least = question.budget, question.least_runs()
    if budget and budget.unit == "runs" and budget.amount < least:
        raise Refused(
            f"budget={budget.amount:.0f} is too small: {len(question.plan.cells)} candidates need {least} runs until "
            f"the first look; type budget={least} or more{', or tune=0' if question.tuning else ''}"
        )


def split_words(words: Sequence[str]) -> tuple[list[str], list[str], list[str]]:
    """Split what was typed into sweep files, settings, and folders of the user's own options.

    Raises:
        Refused: for several files.
    """
    words, folders = take_folders(words)
    files = [word for word in words if "=" not in word]
    if len(files) > 1:
        raise Refused(f"a race has one sweep file, and these are {len(files)}: {', '.join(files)}")
    return files, [word for word in words if word not in files], folders
