"""The rows of `history.csv`, one for each epoch; read without torch."""

import csv
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from losslab.files import Unreadable, read_bytes

Row = dict[str, float]
COUNTS = ("epoch", "step")  # whole numbers, in every row
GRADIENT_NORM = "gradient_norm"  # of an epoch's first step, before clipping
FIRST_NORM = f"first/{GRADIENT_NORM}"  # of a run's first step, in a comparison
SPEED = "examples_per_second"


def timeless(row: Mapping[str, float]) -> Row:
    """Return a row without its speed, so that checkpoints of equal runs are equal.

    >>> timeless({"epoch": 0, "examples_per_second": 9.5})
    {'epoch': 0}
    """
    return {key: value for key, value in row.items() if key != SPEED}


def read_history(file: Path) -> list[Row]:
    """Read the rows in the order of their epochs; skip those that were cut off or damaged.

    >>> read_history(Path("none.csv"))
    []
    """
    try:
        heading, *lines = read_bytes(file, limit=2**30).decode(errors="replace").split("\n")[:-1] or [""]
        names = next(csv.reader([heading.rstrip("\r")], strict=True), [])
    except (Unreadable, csv.Error):
        return []
    rows: list[Row] = []
    for line in lines if {*COUNTS} <= {*names} else ():
        with suppress(ValueError):  # a cell that is no number, or a line of another length
            cells = zip(names, line.rstrip("\r").split(","), strict=True)
            row = {key: int(value) if key in COUNTS else float(value) for key, value in cells}
            if row["epoch"] > (rows[-1]["epoch"] if rows else -1):
                rows.append(row)
    return rows
