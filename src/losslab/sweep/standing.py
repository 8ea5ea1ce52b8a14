"""How the runs below a folder stand: read from their files, whoever trains them."""

import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from losslab.compare.gathered import Gathered
from losslab.compare.runs import SUMMED, find_records
from losslab.files import Unreadable, open_regular, parse_yaml, read_json, read_text
from losslab.locks import is_locked

PLANNED = "planned.json"  # in the folder of a sweep or a race: what its driver waits for
TAIL = 2**16  # bytes at the end of a history that are read


@dataclass(frozen=True)
class Standing:
    """How the runs below a folder stand."""

    planned: int  # how many jobs there are in all, as far as their driver has said; 0 if nobody has
    ended: Counter[str]  # how many runs ended in each way
    # of each run that goes on, its folder's name, its epoch, of how many, and what its validation rows said
    running: list[dict[str, Any]]
    alive: bool  # whether a driver waits for more

    @property
    def over(self) -> bool:
        """Whether nothing goes on, and nobody waits."""
        return not self.running and not self.alive

    @property
    def sentence(self) -> str:
        """How they stand, in a sentence.

        >>> Standing(12, Counter(finished=3, failed=1), [{}, {}], True).sentence
        '4 of 12 runs have ended (1 failed), 2 are running'
        """
        total = self.ended.total()
        of = f" of {self.planned}" if self.planned >= total + len(self.running) else ""
        others = [f"{count} {how}" for how, count in sorted(self.ended.items()) if how != "finished" and count]
        ways = f" ({', '.join(others)})" if others else ""
        runs, have = ("run", "has") if total == 1 and not of else ("runs", "have")
        now = f"{len(self.running)} {'is' if len(self.running) == 1 else 'are'} running"
        return f"{total}{of} {runs} {have} ended{ways}, {now}"


def read_standing(folder: Path, known: Gathered | None = None) -> Standing:
    """Read how the runs below a folder stand; `known` are those that have ended and were read before.

    A run that says `running` and whose process is gone has stopped. On a disk without locks it counts as running.
    """
    ended, running, known = Counter[str](), [], known or Gathered()
    for path, kind in find_records(str(folder), known):
        if kind == SUMMED and (both := known.decode(path)):
            ended[str(both[1]["status"])] += 1
            continue
        if kind not in ("status.json", SUMMED):
            continue
        try:
            status = str(read_json(Path(path, "status.json")).get("status"))
        except Unreadable:
            continue
        if status != "running":
            ended[status] += 1
        elif is_locked(Path(path, ".lock")) is False:
            ended["stopped"] += 1
        else:
            running.append(read_progress(Path(path)))
    planned, alive = read_planned(folder)
    return Standing(planned, ended, running, alive)


def read_planned(folder: Path) -> tuple[int, bool]:
    """Read for how many jobs a driver waits, and whether it lives."""
    try:
        found = read_json(folder / PLANNED)
        return int(found["jobs"]), is_locked(folder / "jobs" / str(found["lock"])) is not False
    except (Unreadable, KeyError, TypeError, ValueError):
        return 0, False


def read_progress(folder: Path) -> dict[str, Any]:
    """Read how far a run is: its epoch, counted from 1, of how many, and its last row."""
    last = read_last_row(folder / "history.csv")
    try:
        config = parse_yaml(read_text(folder / "config.yaml", 2**22)) or {}
    except Unreadable:
        config = {}
    metric = f"val/{config.get('task.yardstick')}"
    epoch = int(float(last["epoch"])) + 1 if last.get("epoch") else 0
    return {
        "run": folder.name,
        "folder": str(folder),
        "epoch": epoch,
        "epochs": config.get("trainer.max_epochs"),
        "metric": metric,
        "value": last.get(metric, ""),
    }


def read_last_row(file: Path) -> dict[str, str]:
    """Read the last whole row of a CSV file; nothing where there is none."""
    try:
        with open_regular(file) as lines:
            first = lines.readline()
            lines.seek(max(len(first), os.fstat(lines.fileno()).st_size - TAIL))
            rest = lines.read()
    except (OSError, Unreadable):
        return {}
    whole = [line for line in rest.decode("utf-8", "replace").split("\n")[:-1] if line]
    names, *values = csv.reader([first.decode("utf-8", "replace"), *whole[-1:]])
    return dict(zip(names, values[0], strict=False)) if values else {}
