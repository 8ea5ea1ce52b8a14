"""Read one run's folder, without pandas: its settings, and the rest of its record as a table of runs has it."""

import csv
import os
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from losslab.config.catalogue import CONF, options
from losslab.files import open_regular, parse_yaml, read_json, read_text
from losslab.record.rows import FIRST_NORM, GRADIENT_NORM

Record = dict[str, Any]
CONFIG = 2**22  # bytes of a config.yaml that are read: a thousand times what a run writes
UNREPEATED = r"\+*(output_dir|logger|resume|stage|trainer\.enable_progress_bar)\b"  # settings that change no number
LINE = 2**20  # bytes of a line of history.csv


def read_run(path: str) -> Iterator[tuple[Record, Record]]:
    """Read a run's folder: its settings, and the rest of its record."""
    status = read_json(os.path.join(path, "status.json"))  # noqa: PTH118 - faster for 30,000 runs
    rest = {key: to_plain(status.get(key)) for key in ("status", "reason", "seconds", "started", "id")}
    for kind in ("facts", "environment"):
        if not isinstance(status.get(kind) or {}, dict):
            raise ValueError(f"status.json has {kind}={str(status[kind])[:30]}, which is no object")
        rest |= {f"{kind}.{key}": to_plain(value) for key, value in (status.get(kind) or {}).items()}
    links, typed = status.get("wandb"), status.get("overrides")
    rest["wandb"] = to_plain(links.get("run")) if isinstance(links, dict) else None
    config = parse_config(read_text(os.path.join(path, "config.yaml"), CONFIG))  # noqa: PTH118
    rest["command"] = write_command(typed, config) if isinstance(typed, list) else None
    if rest["status"] == "finished" or Path(path, "summary.json").is_file():
        summary = read_json(os.path.join(path, "summary.json"))  # noqa: PTH118
        check_numbers(summary)
        rest |= summary
    rest[FIRST_NORM] = read_first(path, GRADIENT_NORM)
    yield config, rest


def write_command(typed: list[Any], config: Record) -> str:
    """Write what was typed as a command that repeats a run; where and how it recorded itself is left out.

    Args:
        config: its settings by their flat keys, which say what a place in a range stood for.

    >>> typed = ["loss=mae", "logger='false'", "optimizer.betas=[0.9, 0.99]", "search.lr=0.5", "output_dir=/tmp/runs"]
    >>> write_command(typed, {"optimizer.lr": 0.001})
    "losslab loss=mae 'optimizer.betas=[0.9, 0.99]' optimizer.lr=0.001"
    """
    words = [word for word in map(str, typed) if not re.match(UNREPEATED, word)]
    return shlex.join(["losslab", *(replace_place(word, config) for word in words)])


def replace_place(word: str, config: Record) -> str:
    """Replace a place in a range, such as `search.lr=0.5`, by the setting that it led to, where that is one.

    >>> replace_place("++search.loss=0.5", {"loss": "focal", "loss.gamma": 2.5})
    'loss.gamma=2.5'
    """
    key, _, place = word.lstrip("+").partition("=")
    if not key.startswith("search."):
        return word
    name = first_range(str(config.get("loss"))) if key == "search.loss" else key.removeprefix("search.")
    groups = ("loss",) if key == "search.loss" else ("optimizer", "loss")
    found = [target for target in (f"{group}.{name}" for group in groups) if target in config]
    return f"{found[0]}={config[found[0]]}" if len(found) == 1 else f"{key}={place}"


@cache
def first_range(loss: str) -> str:
    """Return the setting of a loss whose range its file names first; empty where there is none."""
    option = options([str(CONF)], "loss").get(loss, {})
    return next(iter(option.get("search") or ()), "")


def check_numbers(summary: Record) -> None:
    """Check that a `summary.json` holds only numbers.

    Raises:
        ValueError: for a value that is not a number, or is too large for one.
    """
    for key, value in summary.items():
        if not isinstance(value, int | float) or (isinstance(value, int) and value.bit_length() > 64):
            raise ValueError(f"summary.json has {key}={str(value)[:30]}, which is no number")


def parse_config(config: str) -> Record:
    """Parse the flat keys of a `config.yaml`; a list becomes the text that a user would type.

    YAML is slow, so each entry is parsed only once for all runs that share it: 10,000 runs take seconds.

    >>> parse_config("loss: mae\\noptimizer.betas:\\n- 0.9\\n- 0.99\\nseed: 3\\n")
    {'loss': 'mae', 'optimizer.betas': '[0.9, 0.99]', 'seed': 3}
    """
    parsed: Record = {}
    for block in re.split(r"\n(?=[^\s:\-])", config.strip()):
        parsed |= parse_entry(block)
    return parsed


@cache
def parse_entry(block: str) -> Record:
    """Parse one entry of a configuration.

    Raises:
        ValueError: for a key without its value, which is how a file ends that was cut off.
    """
    parsed = parse_yaml(block)
    if not isinstance(parsed, dict):
        raise ValueError(f"config.yaml has '{block[:30]}', which is no setting")
    return {str(key): to_plain(value) for key, value in parsed.items()}


def to_plain(value: object) -> object:
    """Keep numbers, words and booleans and turn all else into text, so that values can be compared and sorted."""
    return value if isinstance(value, int | float | str) or value is None else str(value)


def read_first(path: str, column: str) -> float:
    """Read a column's value in the first epoch; NaN if there is none."""
    try:
        with open_regular(os.path.join(path, "history.csv")) as file:  # noqa: PTH118
            lines = [file.readline(LINE).decode(errors="replace") for _ in range(2)]
        row = next(csv.DictReader(lines), {})
        return float(row.get(column) or "nan")
    except (OSError, ValueError, TypeError, csv.Error):
        return float("nan")
