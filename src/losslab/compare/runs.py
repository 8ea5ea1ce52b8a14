"""Read run folders, thousands of them in seconds. A record that is incomplete is named and left out."""

import csv
import os
import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from losslab.compare import wandb_runs
from losslab.errors import Refused
from losslab.files import Unreadable, open_regular, parse_yaml, read_json, read_text
from losslab.record import rows
from losslab.record.offline import offline
from losslab.record.rows import FIRST_NORM, GRADIENT_NORM

Record = dict[str, Any]
CONFIG = 2**22  # bytes of a config.yaml that are read: a thousand times what a run writes
UNREPEATED = r"\+*(output_dir|logger|resume|trainer\.enable_progress_bar)\b"  # settings that change no number
LINE = 2**20  # bytes of a line of history.csv


@dataclass
class Runs:
    """The runs that were read.

    Args:
        frame: one row per run: its settings, the rest of its record under the names in its files, and `folder`.
        settings: the columns that are settings.
        broken: a phrase for each record that could not be read.
    """

    frame: pd.DataFrame
    settings: list[str]
    broken: list[str] = field(default_factory=list)


def read_runs(folders: Iterable[str]) -> Runs:
    """Read all runs below the folders, in the order of their paths; a run found twice counts once.

    Where there are no run folders, W&B's own offline records are read instead; `wandb:ENTITY/PROJECT` reads a project
    from the server.

    Raises:
        Refused: if a folder does not exist, or no run is below any of them.
    """
    table, broken = Table(), list[str]()
    places = list(folders)
    names = [os.path.normpath(name) for name in places if not name.startswith("wandb:")]
    for name in names:
        if not Path(name).is_dir():
            raise Refused(f"{name} is not a folder: type the folder of a run, of a sweep, or outputs")
    for project in (name.removeprefix("wandb:") for name in places if name.startswith("wandb:")):
        for path, record in wandb_runs.read_project(project):
            for config, rest in unpack_wandb_record(record):
                table.add(config, {**rest, "folder": path})
    for path, kind in sorted({record for name in names for record in find_records(name)}):
        try:
            for config, rest in READERS[kind](path):
                table.add(config, {**rest, "folder": path})
        except Exception as error:  # whatever the file holds, the other runs can be compared
            broken.append(f"{path} ({describe_error(error)})")
    if not table.rows and not broken:
        raise Refused(f"no run lies below {', '.join(places)}: a run is a folder with a status.json")
    return Runs(table.to_frame(), list(table.settings), broken)


class Table:
    """Records as rows of values: 100,000 of them as dictionaries would take gigabytes."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.settings: dict[str, None] = {}
        self.rows: list[list[Any]] = []

    def add(self, config: Record, rest: Record) -> None:
        """Add a record: its settings, and what is not set, which no setting hides."""
        record = {**config, **rest}
        if [*record] != self.names:
            self.settings |= dict.fromkeys(config)
            self.names = list(dict.fromkeys([*self.names, *record]))
            record = dict.fromkeys(self.names, float("nan")) | record
        self.rows.append(list(record.values()))

    def to_frame(self) -> pd.DataFrame:
        """Return a table with a column for each name; what a record lacks is NaN."""
        width = len(self.names)
        rows = [row if len(row) == width else row + [float("nan")] * (width - len(row)) for row in self.rows]
        return pd.DataFrame(rows, columns=self.names) if rows else pd.DataFrame()


def find_records(name: str) -> Iterator[tuple[str, str]]:
    """Walk a folder for records: run folders and lists of failed jobs, or W&B's offline runs where it has no runs.

    Yields:
        The record's folder, and its kind: a key of `READERS`.
    """
    mirrors, folders = [], False
    for path, inner, files in os.walk(name):
        if "status.json" in files:
            inner.clear()
            folders = True
            yield path, "status.json"
        elif "failed.json" in files:
            yield path, "failed.json"
        elif any(file.startswith("run-") and file.endswith(".wandb") for file in files):
            mirrors.append((path, ".wandb"))
    if not folders:
        yield from mirrors


def read_run(path: str) -> Iterator[tuple[Record, Record]]:
    """Read a run's folder: its settings, and the rest of its record."""
    status = read_json(os.path.join(path, "status.json"))  # noqa: PTH118 - faster for 30,000 runs
    rest = {key: to_plain(status.get(key)) for key in ("status", "reason", "seconds", "started", "id")}
    for kind in ("facts", "environment"):
        rest |= {f"{kind}.{key}": to_plain(value) for key, value in (status.get(kind) or {}).items()}
    links, typed = status.get("wandb"), status.get("overrides")
    rest["wandb"] = to_plain(links.get("run")) if isinstance(links, dict) else None
    rest["command"] = write_command(typed) if isinstance(typed, list) else None
    config = parse_config(read_text(os.path.join(path, "config.yaml"), CONFIG))  # noqa: PTH118
    if rest["status"] == "finished" or Path(path, "summary.json").is_file():
        summary = read_json(os.path.join(path, "summary.json"))  # noqa: PTH118
        check_numbers(summary)
        rest |= summary
    rest[FIRST_NORM] = read_first(path, GRADIENT_NORM)
    yield config, rest


def write_command(typed: list[Any]) -> str:
    """Write what was typed as a command that repeats a run; where and how it recorded itself is left out.

    >>> write_command(["loss=mae", "logger='false'", "optimizer.betas=[0.9, 0.99]", "output_dir=/tmp/runs"])
    "losslab loss=mae 'optimizer.betas=[0.9, 0.99]'"
    """
    return shlex.join(["losslab", *(word for word in map(str, typed) if not re.match(UNREPEATED, word))])


def unpack_wandb_record(found: Record) -> Iterator[tuple[Record, Record]]:
    """Return the settings of a W&B record and the rest; nothing for a report, which is a logged comparison."""
    if found["job_type"] != "report":
        config, rest = wandb_runs.split_record(found)
        yield {key: to_plain(value) for key, value in config.items()}, rest


def read_failed_jobs(path: str) -> Iterator[tuple[Record, Record]]:
    """Read the jobs of a sweep that failed before they had a folder."""
    for job in read_json(Path(path, "failed.json"), list):
        yield (
            {key: to_plain(value) for key, value in job["overrides"].items()},
            {"status": "failed", "reason": job["reason"]},
        )


READERS: dict[str, Callable[[str], Iterator[tuple[Record, Record]]]] = {
    "status.json": read_run,
    "failed.json": read_failed_jobs,
    ".wandb": lambda path: unpack_wandb_record(offline(path)),
}


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


def read_history(path: str) -> pd.DataFrame:
    """Read one row per epoch of a run; no rows if its history cannot be read."""
    if path.startswith("wandb:") or any(Path(path).glob("run-*.wandb")):
        return wandb_runs.read_history(path)
    return pd.DataFrame(rows.read_history(Path(path, "history.csv")))


def describe_error(error: Exception) -> str:
    """Say in a phrase why a record could not be read."""
    if isinstance(error, Unreadable):
        return f"{error.file.name} {error.why}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:90]
