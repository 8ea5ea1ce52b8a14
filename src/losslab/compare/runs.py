"""Reading run folders, thousands of them in seconds; what is half-written is named and left out."""

import csv
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from losslab.compare import mirrored
from losslab.errors import Refused
from losslab.files import Unreadable, open_regular, parse_yaml, read_json, read_text
from losslab.record.offline import offline
from losslab.record.rows import read_history

Record = dict[str, Any]
CONFIG = 2**22  # bytes of a config.yaml that are read: a thousand times what a run writes
LINE = 2**20  # bytes of a line of history.csv


@dataclass
class Runs:
    """What was read.

    Args:
        frame: a row for each run: its settings and the rest of its record, by the names in its files; `folder`.
        settings: the columns that are settings.
        broken: a phrase for each record that could not be read.
    """

    frame: pd.DataFrame
    settings: list[str]
    broken: list[str] = field(default_factory=list)


def read(folders: Iterable[str]) -> Runs:
    """All runs below the folders, in the order of their paths; one that is met twice counts once.

    W&B's own records, which mirror them, are read where there are no run folders, and where `wandb:ENTITY/PROJECT`
    names a project on its server.

    Raises:
        Refused: where a folder is not there, or no run is below any of them.
    """
    configs: list[Record] = []
    rests: list[Record] = []
    broken: list[str] = []
    typed_ = list(folders)
    names = [os.path.normpath(name) for name in typed_ if not name.startswith("wandb:")]
    for name in names:
        if not Path(name).is_dir():
            raise Refused(f"{name} is not a folder: type the folder of a run, of a sweep, or outputs")
    for project in (name.removeprefix("wandb:") for name in typed_ if name.startswith("wandb:")):
        for path, record in mirrored.online(project):
            for config, rest in mirror(record):
                configs.append(config)
                rests.append({**rest, "folder": path})
    for path, what in sorted({(path, what) for name in names for path, what in found(name)}):
        try:
            for config, rest in READERS[what](path):
                configs.append(config)
                rests.append({**rest, "folder": path})
        except Exception as error:  # whatever another wrote there: the other runs are compared all the same
            broken.append(f"{path} ({reason(error)})")
    if not configs and not broken:
        raise Refused(f"no run lies below {', '.join(typed_)}: a run is a folder with a status.json")
    settings = list(dict.fromkeys(key for config in configs for key in config))
    rows = [{**config, **rest} for config, rest in zip(configs, rests, strict=True)]  # no setting hides a figure
    return Runs(pd.DataFrame(rows), settings, broken)


def found(name: str) -> Iterator[tuple[str, str]]:
    """The folders below this one that are a run, and those that list jobs without one; else W&B's offline runs."""
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


def run(path: str) -> Iterator[tuple[Record, Record]]:
    """The settings of one run, and the rest of its record."""
    status = read_json(os.path.join(path, "status.json"))  # noqa: PTH118 - 30,000 of them
    rest = {key: typed(status.get(key)) for key in ("status", "reason", "seconds", "started", "id")}
    for kind in ("facts", "environment"):
        rest |= {f"{kind}.{key}": typed(value) for key, value in (status.get(kind) or {}).items()}
    config = flat(read_text(os.path.join(path, "config.yaml"), CONFIG))  # noqa: PTH118
    if rest["status"] == "finished" or Path(path, "summary.json").is_file():
        rest |= figures(read_json(os.path.join(path, "summary.json")))  # noqa: PTH118
    rest["first/gradient_norm"] = first(path, "gradient_norm")
    yield config, rest


def mirror(found: Record) -> Iterator[tuple[Record, Record]]:
    """The same of W&B's record of a run; a comparison that was logged is none."""
    if found["job_type"] != "report":
        config, rest = mirrored.sorted_out(found)
        yield {key: typed(value) for key, value in config.items()}, rest


def lost(path: str) -> Iterator[tuple[Record, Record]]:
    """Jobs of a sweep that failed before they had a folder of their own."""
    for job in read_json(Path(path, "failed.json"), list):
        yield (
            {key: typed(value) for key, value in job["overrides"].items()},
            {"status": "failed", "reason": job["reason"]},
        )


READERS: dict[str, Callable[[str], Iterator[tuple[Record, Record]]]] = {
    "status.json": run,
    "failed.json": lost,
    ".wandb": lambda path: mirror(offline(path)),
}


def figures(summary: Record) -> Record:
    """The numbers of a `summary.json`.

    Raises:
        ValueError: where one of them is none.
    """
    for key, value in summary.items():
        if not isinstance(value, int | float) or (isinstance(value, int) and value.bit_length() > 64):
            raise ValueError(f"summary.json has {key}={str(value)[:30]}, which is no number")
    return summary


def flat(config: str) -> Record:
    """A configuration of flat keys, as `config.yaml` holds it; lists in the way that they are typed.

    Each entry is read as YAML, once for all runs that share it, which is why 10,000 runs take seconds.

    >>> flat("loss: mae\\noptimizer.betas:\\n- 0.9\\n- 0.99\\nseed: 3\\n")
    {'loss': 'mae', 'optimizer.betas': '[0.9, 0.99]', 'seed': 3}
    """
    read: Record = {}
    for block in re.split(r"\n(?=[^\s:\-])", config.strip()):
        read |= entry(block)
    return read


@cache
def entry(block: str) -> Record:
    """One entry of a configuration; a key without its value, as a half-written file ends, is refused."""
    read = parse_yaml(block)
    if not isinstance(read, dict):
        raise ValueError(f"config.yaml has '{block[:30]}', which is no setting")
    return {str(key): typed(value) for key, value in read.items()}


def typed(value: object) -> object:
    """Numbers, words and booleans as they are, all else as text, so that values can be told apart and sorted."""
    return value if isinstance(value, int | float | str) or value is None else str(value)


def first(path: str, column: str) -> float:
    """A column's value in the first epoch; NaN where there is none."""
    try:
        with open_regular(os.path.join(path, "history.csv")) as file:  # noqa: PTH118
            lines = [file.readline(LINE).decode(errors="replace") for _ in range(2)]
        row = next(csv.DictReader(lines), {})
        return float(row.get(column) or "nan")
    except (OSError, ValueError, TypeError, csv.Error):
        return float("nan")


def history(path: str) -> pd.DataFrame:
    """One row for each epoch of a run; none where it cannot be read."""
    if path.startswith("wandb:") or any(Path(path).glob("run-*.wandb")):
        return mirrored.history(path)
    return pd.DataFrame(read_history(Path(path, "history.csv")))


def reason(error: Exception) -> str:
    """Why a record could not be read, in a phrase."""
    if isinstance(error, Unreadable):
        return f"{error.file.name} {error.why}"
    return " ".join(f"{type(error).__name__}: {error}".split())[:90]
