"""Read a W&B sweep file: each of its words must be known, and each range one that can be drawn from."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from losslab.config import arguments
from losslab.config.flat import excluded_from_name
from losslab.config.ranges import number, whole
from losslab.errors import Refused, nearest, why_missing
from losslab.files import read_yaml

FILE = ("program", "method", "metric", "parameters", "command", "early_terminate", "run_cap")
COMMAND = 'command: ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]'
TITLES = ("name", "description", "project", "entity")
PARAMETER = ("value", "values", "min", "max", "distribution", "q")
DISTRIBUTIONS = ("constant", "categorical", "int_uniform", "uniform", "q_uniform", "log_uniform_values")

LISTED = ("task", "data", "model", "optimizer", "seed", "data.seed", "data.fold")  # of these, [a,b] are several values


def pick_file(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return the sweep file among the words of a command, and the others.

    >>> pick_file(["--config-dir", "my_conf", "a.yaml", "seed=0"]), pick_file([])
    (('a.yaml', ['seed=0', '--config-dir', 'my_conf']), ('', []))
    """
    left, folders = arguments.take_folders(words)
    files = [word for word in left if not word.startswith("-") and ("=" not in word or Path(word).is_file())]
    if not files:
        if words:
            raise Refused(
                "a sweep needs its file: type losslab sweep FILE.yaml, or losslab train -m for one in one line"
            )
        return "", []
    left.remove(files[0])
    return files[0], [*left, *(word for folder in folders for word in ("--config-dir", folder))]


def load_file(path: str) -> dict[str, Any]:
    """Load a sweep file; refuse a key that W&B does not know."""
    file = Path(path)
    if not file.is_file():
        raise Refused(f"{path} {why_missing(file, '.yaml')}")
    sweep = read_yaml(file)
    if not isinstance(sweep, dict):
        raise Refused(f"{path} is no sweep file: it needs method, metric and parameters")
    for key in sweep:
        if key not in (*FILE, *TITLES):
            raise Refused(f"{path}: {key} is not a key of a sweep file; {nearest(str(key), (*FILE, *TITLES))}")
    if Path(str(sweep.get("program", "train.py"))).name != "train.py":
        raise Refused(f"{path}: program: {sweep['program']} is not losslab's: type program: train.py")
    return sweep


def parse_command(path: str, sweep: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings in a sweep file's command. A file without a command has W&B's own, which sets nothing.

    >>> parse_command("a.yaml", {"command": ["${env}", "python", "${program}", "seed=1", "${args}"]})
    {'seed': '1'}
    """
    command = sweep.get("command") or ["${program}", "${args}"]
    words = [str(word) for word in command] if isinstance(command, list) else []
    if "${program}" not in words or not {"${args}", "${args_no_hyphens}"} & set(words):
        raise Refused(f"{path}: this command does not type the settings as key=value: type {COMMAND}, or leave it out")
    found = {}
    for word in words[words.index("${program}") + 1 :]:
        if word not in ("${args}", "${args_no_hyphens}"):
            key, equals, value = word.removeprefix("--").partition("=")
            if not equals or "${" in word:
                raise Refused(f"{path}: '{word}' in command cannot be read: type key=value, such as seed=1")
            found[key] = value
    return found


def find_parameters(path: str, sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the file says of each parameter, by key."""
    found = sweep.get("parameters")
    if not isinstance(found, dict) or not found:
        raise Refused(f"{path} varies nothing: it needs parameters, such as loss: {{values: [mae, mse]}}")
    for key in found:
        if not isinstance(key, str):
            raise Refused(f"{path}: {arguments.as_typed(key)} in parameters is no setting: type one such as loss")
    return dict(found)


def narrow(path: str, sweep: dict[str, Any], typed: Mapping[str, str]) -> dict[str, str]:
    """Put what was typed after a sweep file in the place of what `sweep` varies; return the settings that are left.

    Several values, such as `seed=0,1`, or one that the file lists become the parameter's values, so that the runs are
    some of those that the whole file asks for.
    """
    parameters, left = find_parameters(path, sweep), dict(typed)
    if "run_cap" in left:
        cap = left.pop("run_cap")
        if not cap.isdigit():
            raise Refused(f"run_cap={cap} does not fit: it must be a whole number of at least 1")
        sweep["run_cap"] = int(cap)
    for key, text in typed.items():
        if key == "run_cap" or excluded_from_name(key):
            continue
        listed = parameters.get(key, {})
        known = listed.get("values") if isinstance(listed, dict) else None
        among = {arguments.as_typed(value): value for value in known} if isinstance(known, list) else {}
        inner = text[1:-1] if key in LISTED and text.startswith("[") and text.endswith("]") else text
        values = [among.get(arguments.as_typed(value), value) for value in arguments.read_values(key, inner)]
        if len(values) > 1 or (values and arguments.as_typed(values[0]) in among):
            parameters[key] = {"values": values}
            del left[key]
        elif not values:
            raise Refused(f"{key}={text} has no values: type one, such as {key}=0")
    sweep["parameters"] = parameters
    return left


def parse_parameter(path: str, key: str, asked: Any) -> dict[str, Any]:
    """Return a parameter's `value`, its `values`, or its `min` and `max` with `log`, `whole` and `step`.

    >>> parse_parameter("a.yaml", "optimizer.lr", {"distribution": "log_uniform_values", "min": 0.001, "max": 1})
    {'min': 0.001, 'max': 1, 'log': True, 'whole': False, 'step': None}
    >>> parse_parameter("a.yaml", "data.types", {"value": {"age": "number", "zip:category": None}})
    {'value': ['age: number', 'zip:category']}
    """
    if not isinstance(asked, dict) or not asked:
        raise Refused(f"{path}: {key} has no values: type {key}: {{values: [..]}} or {{min: .., max: ..}}")
    if arguments.BY_NAME.fullmatch(key):
        asked = {word: list_by_name(value) for word, value in asked.items()}
    check_words(path, key, asked)
    given = [word for word in PARAMETER if asked.get(word) is not None and word != "distribution"]
    if len(given) > 1 and given[0] in ("value", "values"):
        raise Refused(f"{path}: {key} has {given[0]} and {given[1]}: leave one of them out")
    if "value" in asked:
        return {"value": asked["value"]}
    if "values" not in asked:
        return parse_range(path, key, asked)
    if not isinstance(asked["values"], list) or not asked["values"]:
        raise Refused(f"{path}: {key} has no values: type {key}: {{values: [..]}}")
    texts = [arguments.as_typed(value) for value in asked["values"]]
    if len(set(texts)) < len(texts):
        raise Refused(f"{path}: {key} has a value twice in {', '.join(texts)}: type each once")
    return {"values": asked["values"]}


def list_by_name(value: Any) -> Any:
    """Return a value by names as a list of texts, as it is typed; several of them each so, and any other as it is."""
    if isinstance(value, list):
        return [list_by_name(each) for each in value]
    if not isinstance(value, dict):
        return value
    return [str(name) if each is None else f"{name}: {each}" for name, each in value.items()]


def check_words(path: str, key: str, asked: Mapping[str, Any]) -> None:
    """Refuse nested keys, and words that W&B or losslab does not know."""
    below = asked.get("parameters", asked.get("value"))
    if "parameters" in asked or isinstance(below, dict):
        first = next(iter(below), "KEY") if isinstance(below, dict) else "KEY"
        raise Refused(f"{path}: {key} is nested: type its keys flat, such as {key}.{first}")
    for word in asked:
        if word not in PARAMETER:
            raise Refused(f"{path}: {key}: {word} is not known here; {nearest(str(word), PARAMETER)}")
    if (distribution := asked.get("distribution")) == "log_uniform":
        ends = [asked.get(end) for end in ("min", "max")]
        low, high = [
            f"{math.exp(end):.3g}" if isinstance(end, int | float) and abs(end) < 700 else ".." for end in ends
        ]
        raise Refused(
            f"{path}: {key}: log_uniform has the exponents of e for its min and max: type distribution: "
            f"log_uniform_values, min: {low}, max: {high}"
        )
    if distribution not in (None, *DISTRIBUTIONS):
        raise Refused(f"{path}: {key}: {distribution} is not one of {', '.join(DISTRIBUTIONS)}")


def parse_range(path: str, key: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Return a parameter's range; whole numbers are drawn where both ends are whole and no distribution is given."""
    low, high, distribution = asked.get("min"), asked.get("max"), asked.get("distribution")
    for name, end in (("min", low), ("max", high)):
        if not number(end):
            wrong = f"has no {name}" if end is None else f"{name}: {end} is not a number"
            raise Refused(f"{path}: {key} {wrong}: type numbers such as {{min: 0.001, max: 1.0}}, or values: [..]")
    assert low is not None
    assert high is not None
    if low >= high:
        raise Refused(f"{path}: {key}: min {low} is not below max {high}")
    log = distribution == "log_uniform_values"
    if log and low <= 0:
        raise Refused(f"{path}: {key}: min {low} has no logarithm: type a number above 0")
    integers = isinstance(low, int) and isinstance(high, int)
    if distribution == "int_uniform" and not integers:
        raise Refused(f"{path}: {key}: int_uniform draws whole numbers: type min and max without a point")
    step = asked.get("q", 1 if distribution == "q_uniform" else None)
    drawn_whole = distribution == "int_uniform" or (distribution is None and integers)
    if step is not None:
        check_step(path, key, step, high - low, log, drawn_whole)
    return {"min": low, "max": high, "log": log, "whole": drawn_whole, "step": step}


def check_step(path: str, key: str, step: Any, width: float, log: bool, drawn_whole: bool) -> None:
    """Refuse a step `q` that does not fit its range."""
    if not (number(step) and 0 < step <= width):
        raise Refused(f"{path}: {key}: q: {step} does not fit: it must be a number above 0, up to {width:g}")
    if log:
        raise Refused(f"{path}: {key}: log_uniform_values has no q: leave q out")
    if drawn_whole and not whole(step, 1):
        raise Refused(f"{path}: {key}: q: {step} does not fit whole numbers: type q: 1, or min and max with a point")


def parse_hyperband(path: str, method: str, asked: Any) -> dict[str, int]:
    """Return the first epoch at which hyperband stops runs, and the factor between the epochs at which it does."""
    known = ("type", "min_iter", "max_iter", "s", "eta")
    if not isinstance(asked, dict) or asked.get("type") != "hyperband":
        raise Refused(f"{path}: early_terminate must be of type hyperband: type {{type: hyperband, min_iter: 3}}")
    for key in asked:
        if key not in known:
            raise Refused(f"{path}: early_terminate: {key} is not known; {nearest(str(key), known)}")
    if method == "grid":
        raise Refused(f"{path}: a grid is run whole: type method: random or bayes, or leave early_terminate out")
    numbers = {key: value for key, value in asked.items() if key != "type"}
    eta, brackets = numbers.get("eta", 3), numbers.get("s", 1)
    if not all(whole(value, 1) for value in numbers.values()) or eta < 2 or brackets > 20:
        raise Refused(f"{path}: early_terminate needs whole numbers: type {{type: hyperband, min_iter: 3, eta: 3}}")
    least = numbers.get("min_iter") or numbers.get("max_iter", 0) // eta**brackets
    if least < 1:
        raise Refused(f"{path}: early_terminate needs min_iter: type {{type: hyperband, min_iter: 3, eta: 3}}")
    return {"min_iter": least, "eta": eta}
