"""Read run folders, thousands of them in seconds. A record that is incomplete is named and left out."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from losslab.compare import wandb_runs
from losslab.compare.gathered import Gathered
from losslab.compare.run_folder import Record, to_plain
from losslab.errors import Refused
from losslab.files import Unreadable, read_json
from losslab.record import rows
from losslab.record.offline import offline

SUMMED = "gathered"  # the kind of a record: a line that sums up a run


@dataclass
class Runs:
    """The runs that were read."""

    # one row per run: its settings, the rest of its record under the names in its files, and `folder`
    frame: pd.DataFrame
    settings: list[str]  # the columns that are settings
    broken: list[str] = field(default_factory=list)  # a phrase for each record that could not be read


def read_runs(folders: Iterable[str], gathered: Gathered | None = None) -> Runs:
    """Read all runs below the folders, in the order of their paths; a run found twice counts once.

    Where there are no run folders, W&B's own offline records are read instead; `wandb:ENTITY/PROJECT` reads a project
    from the server.

    Raises:
        Refused: if a folder does not exist, or no run is below any of them.
    """
    table, broken, gathered = Table(), list[str](), gathered or Gathered()
    readers = {SUMMED: gathered.read, "status.json": gathered.read, **READERS}
    places = list(folders)
    names = [os.path.normpath(name) for name in places if not name.startswith("wandb:")]
    for name in names:
        if not Path(name).is_dir():
            raise Refused(f"{name} is not a folder: type the folder of a run, of a sweep, or outputs")
    for project in (name.removeprefix("wandb:") for name in places if name.startswith("wandb:")):
        for path, record in wandb_runs.read_project(project):
            for config, rest in unpack_wandb_record(record):
                table.add(config, {**rest, "folder": path})
    for path, kind in sorted(dict(record for name in names for record in find_records(name, gathered)).items()):
        try:
            for config, rest in readers[kind](path):
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


def find_records(name: str, gathered: Gathered | None = None) -> Iterator[tuple[str, str]]:
    """Walk a folder for records: run folders and lists of failed jobs, or W&B's offline runs where it has no runs.

    Args:
        gathered: lines that sum up runs; a run with one is not looked into.

    Yields:
        The record's folder, and its kind: `status.json`, `SUMMED`, or a key of `READERS`.
    """
    mirrors, folders = [], False
    for path, inner, files in os.walk(name):
        if "status.json" in files or "status.json" in inner:  # a folder of that name is said to be no record
            inner.clear()
            folders = True
            yield path, "status.json"
            continue
        if gathered is not None and (known := gathered.find(path, inner, files)):
            folders = True
            inner[:] = [each for each in inner if each not in known]
            yield from ((os.path.join(path, each), SUMMED) for each in known)  # noqa: PTH118
        if "failed.json" in files:
            yield path, "failed.json"
        elif any(file.startswith("run-") and file.endswith(".wandb") for file in files):
            mirrors.append((path, ".wandb"))
    if not folders:
        yield from mirrors


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
    "failed.json": read_failed_jobs,
    ".wandb": lambda path: unpack_wandb_record(offline(path)),
}


def read_history(path: str) -> pd.DataFrame:
    """Read one row per epoch of a run; no rows if its history cannot be read."""
    if path.startswith("wandb:") or any(Path(path).glob("run-*.wandb")):
        return wandb_runs.read_history(path)
    return pd.DataFrame(rows.read_history(Path(path, "history.csv")))


def describe_error(error: Exception) -> str:
    """Say in a phrase why a record could not be read."""
    if isinstance(error, Unreadable):
        return f"{error.file.name} {error.why}"
    if type(error) is ValueError:  # a sentence of our own
        return str(error)[:120]
    return " ".join(f"{type(error).__name__}: {error}".split())[:90]
