"""Which rows of a table are taken, and into which parts they go."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.data.columns import BLANKED, MISSING, MOSTLY, Column
from losslab.data.dataset import Split, draw_parts, split_rows
from losslab.data.dates import DATE
from losslab.data.formats import Told
from losslab.data.notes import count
from losslab.errors import Refused

PARTS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


def take_rows(frame: pd.DataFrame, most: int | None) -> pd.DataFrame:
    """Take at most so many rows, chosen at random but the same whatever the run's seed, in their order.

    >>> take_rows(pd.DataFrame({"x": range(5)}), 2)["x"].tolist()
    [2, 4]
    """
    if most is None or most >= len(frame):
        return frame
    chosen = np.sort(np.random.default_rng(0).permutation(len(frame))[:most])
    return frame.iloc[chosen]


def drop_without_target(frame: pd.DataFrame, targets: list[str], missing: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """Leave out rows without a target; return the others, and a note of it.

    Where all others are numbers, so is a row whose target is NaN, or what programs write into an empty cell.
    """
    cells = frame[targets].astype(str).apply(lambda column: column.str.strip())
    empty = cells.isin({*MISSING, *missing}).any(axis=1)
    for name in targets:
        odd = cells[name].isin(BLANKED) | (cells[name].str.lower() == "nan")
        if odd.any() and Column(cells[name][~odd & ~empty], formats=Told("point", "day_first")).kind == "number":
            empty |= odd
    if not empty.any():
        return frame, []
    if empty.all():
        raise Refused(f"data.target={', '.join(targets)} is empty in every row: name another column")
    left = int(empty.sum())
    return frame[~empty], [f"{count(left, 'row')} without a target left out"]


def split_table(
    frame: pd.DataFrame,
    strata: NDArray[np.int64] | None,
    *,
    val: float,
    test: float,
    seed: int,
    folds: int | None = None,
    fold: int = 0,
    split: str | None = None,
    group: str | None = None,
    time: str | None = None,
    given: NDArray[Any] | None = None,
    formats: Told | None = None,
) -> Split:
    """Split the rows of a table.

    Args:
        strata, val, test, seed, folds, fold: see `split_rows`.
        split: a column that holds each row's part, `train`, `val` or `test`. Without `val`, that is drawn from `train`.
        group: a column; rows of equal value stay together.
        time: a column of dates or numbers. The latest rows are tested, those before them are for validation: nothing is
            trained on that is later than what is tested, and rows of the same time stay together.
        given: the part of each row, as `split` would name it.
        formats: how dates may be written; `None` for plain ones alone.

    Raises:
        Refused: if there are too few rows, or a column does not hold what it should.
    """
    if split is not None:
        given = frame[split].to_numpy()
    if given is not None:
        return take_given(given, strata, val, seed)
    if time is not None:
        return split_by_time(read_time(frame[time], formats), val, test)
    groups = None if group is None else frame[group].astype(str).to_numpy(str)
    return split_rows(len(frame), val=val, test=test, seed=seed, strata=strata, groups=groups, folds=folds, fold=fold)


def take_given(given: NDArray[Any], strata: NDArray[np.int64] | None, val: float, seed: int) -> Split:
    """Split as a column says.

    >>> parts = take_given(np.array(["train", "Test", "train", "val", "training"]), None, 0.1, 0)
    >>> {part: rows.tolist() for part, rows in parts.items()}
    {'train': [0, 2, 4], 'val': [3], 'test': [1]}
    """
    named = pd.Series(given).astype(str).str.strip().str.lower().map(PARTS)
    if named.isna().any():
        odd = str(given[int(named.isna().argmax())])
        raise Refused(f"data.split holds '{odd}', which is no part: write train, val or test into each of its cells")
    parts = {part: np.flatnonzero(named == part) for part in ("train", "val", "test")}
    if not len(parts["train"]) or not len(parts["test"]):
        lacking = "train" if not len(parts["train"]) else "test"
        raise Refused(f"data.split names no row {lacking}: each of train and test needs some")
    if not len(parts["val"]):
        size = max(2, round(val * len(parts["train"])))
        parts |= draw_parts(parts["train"], {"val": size}, seed, strata)
    return parts


def read_weight(column: "pd.Series[Any]", formats: Told) -> NDArray[np.float64]:
    """Return the weights of the rows.

    Raises:
        Refused: for a cell that holds no number of at least 0, with its line.

    >>> read_weight(pd.Series(["2", "0.5", "0"]), Told())
    array([2. , 0.5, 0. ])
    """
    read = Column(column, kind="number", formats=formats)
    if read.missing.all():
        raise Refused(f"data.weight={column.name} holds no number ('{read.text.iloc[0]}'): name a column of numbers")
    read.check_cells(read.missing, "no weight", "write a number from 0 up into each of its cells")
    read.check_cells(read.numbers < 0, "weights below 0", "write a number from 0 up into each of its cells")
    return read.numbers


def split_by_time(time: NDArray[np.float64], val: float, test: float) -> Split:
    """Split into the earliest rows, later ones and the latest, so that no time lies in two parts.

    >>> parts = split_by_time(np.array([3.0, 1.0, 2.0, 2.0, 4.0, 5.0]), val=0.2, test=0.2)
    >>> {part: rows.tolist() for part, rows in parts.items()}
    {'train': [0, 1, 2, 3], 'val': [4], 'test': [5]}
    """
    ordered = np.sort(time)
    first_test = ordered[min(len(time) - 1, round((1 - test) * len(time)))]
    first_val = ordered[min(len(time) - 1, round((1 - test - val) * len(time)))]
    parts = {
        "train": np.flatnonzero(time < first_val),
        "val": np.flatnonzero((time >= first_val) & (time < first_test)),
        "test": np.flatnonzero(time >= first_test),
    }
    if empty := [part for part, rows in parts.items() if not len(rows)]:
        raise Refused(
            f"data.time has {count(len(np.unique(time)), 'different time')}, too few for a {empty[0]} part of later "
            "rows: type other data.val and data.test, or data.time of a finer column"
        )
    return parts


def read_time(column: "pd.Series[Any]", formats: Told | None = None) -> NDArray[np.float64]:
    """Return the times of the rows: dates as days, or numbers.

    Raises:
        Refused: for a column of anything else, and for an empty cell.
    """
    read = Column(column, formats=formats)
    if read.kind != "number":
        dates = read.text.str.fullmatch(DATE).to_numpy(bool)
        if dates.mean() > MOSTLY:
            read.check_cells(~dates & ~read.missing, "no date", "correct them")
        read.check_mixture("correct them")
    if read.kind != "number":
        raise Refused(f"data.time={column.name} holds '{read.text.iloc[0]}': name a column of dates or numbers")
    read.check_cells(
        read.missing, "no time", "write a date or a number into each of its cells, or leave those rows out"
    )
    return read.numbers
