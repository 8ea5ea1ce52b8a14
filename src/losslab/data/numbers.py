"""Large tables: columns of plain numbers are read as numbers, in parts, and never as text.

Text takes some twelve times the memory of its file. What is no plain number is read as text, as in a small table.
"""

import io
import re
import warnings
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.data.formats import may_be_thousands
from losslab.data.lines import Found, name_columns, read_lines, settings

LARGE = 10_000  # rows: smaller tables are read as text
PART = 100_000  # rows that are read at once
CODE = re.compile(r"[+-]?0\d.*")  # begins with 0, as codes do


def read_numbers(
    open_lines: Callable[[], io.BufferedReader],
    form: Found,
    stays_text: Callable[[str], bool],
    missing: Collection[str],
) -> pd.DataFrame:
    """Read a table: columns of plain numbers as float64, NaN for empty cells, and the others as text."""
    head = read_lines(open_lines, form, LARGE)
    if len(head) < LARGE:
        return head
    raw = [*head.columns] if form.header else [*range(head.shape[1])]  # as pandas names them
    titles = dict(zip(raw, head.columns, strict=True))
    empty = [*missing]
    cells = {key: head.iloc[:, place] for place, key in enumerate(titles)}
    plain = choose_plain({key: cells[key] for key, name in titles.items() if not stays_text(to_line(name))}, empty)
    del head, cells
    numbers: dict[Any, list[NDArray[np.float64]]] = {key: [] for key in plain}
    words: dict[Any, list[pd.Series[Any]]] = {key: [] for key in titles if key not in numbers}
    again = []  # columns that hold something else further down
    with open_lines() as lines, warnings.catch_warnings():
        warnings.simplefilter("ignore", pd.errors.DtypeWarning)  # such columns are read again, as text
        parts = pd.read_csv(
            lines,
            dtype=dict.fromkeys(words, str),
            na_values=dict.fromkeys(plain, empty),
            chunksize=PART,
            **settings(form),
        )
        for part in parts:
            for key in words:
                words[key].append(part[key])
            for key in [*numbers]:
                if (found := to_numbers(part[key])) is None:
                    again.append(key)
                    del numbers[key]
                else:
                    numbers[key].append(found)
    columns: dict[Any, Any] = {}
    if again:
        more = read_lines(open_lines, form, None, again)
        columns = dict(zip(sorted(again, key=raw.index), (more[name] for name in more), strict=True))
    for key in raw:
        if key in numbers:
            columns[key] = np.concatenate(numbers.pop(key))
        elif key in words:
            columns[key] = pd.concat(words.pop(key), ignore_index=True)
    return name_columns(pd.DataFrame({key: columns.pop(key) for key in raw}, copy=False), form)


def to_line(name: Any) -> str:
    """Return a column's name without spaces around it, on one line."""
    return " ".join(str(name).split())


def choose_plain(cells: Mapping[Any, "pd.Series[str]"], empty: Collection[str]) -> list[Any]:
    """Return the keys of the columns that are plain numbers.

    Numbers such as 543.221 are none unless others have decimals: a note says how they are read, and needs their text.
    """
    plain = [key for key, column in cells.items() if are_plain(column, empty)]
    unclear = [key for key in plain if may_be_thousands(leave_empty(cells[key], empty))]
    clear = [key for key in plain if key not in unclear]
    decimals = any(have_fractions(pd.to_numeric(cells[key], errors="coerce")) for key in clear) if unclear else True
    return plain if decimals else clear


def are_plain(cells: "pd.Series[str]", missing: Collection[str]) -> bool:
    """Return whether all cells are plain numbers or empty, and none begins with 0 as a code does.

    >>> are_plain(pd.Series(["1", "", "2.5e3"]), [""]), are_plain(pd.Series(["007", "1"]), [])
    (True, False)
    """
    present = leave_empty(cells, missing)
    read = pd.to_numeric(present, errors="coerce").to_numpy(float)
    return bool(len(present)) and bool(np.isfinite(read).all()) and not present.str.fullmatch(CODE).any()


def leave_empty(cells: "pd.Series[str]", missing: Collection[str]) -> "pd.Series[str]":
    """Return the cells that are not empty, without spaces around them."""
    bare = cells.str.strip()
    return bare[~bare.isin([*missing])]


def have_fractions(numbers: Any) -> bool:
    """Return whether some numbers are not whole; NaN is none.

    >>> have_fractions([1.0, float("nan")]), have_fractions([1.5])
    (False, True)
    """
    values = np.asarray(numbers, float)
    values = values[np.isfinite(values)]
    return bool((values != np.floor(values)).any())


def to_numbers(cells: "pd.Series[Any]") -> NDArray[np.float64] | None:
    """Return what pandas has read as float64; `None` if these are not all finite numbers or empty."""
    if cells.dtype.kind not in "if":
        return None
    read = cells.to_numpy(np.float64)
    return None if np.isinf(read).any() else read
