"""The lines of a table in a text file: read by pandas, and looked at one by one to say where a fault stands."""

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import pandas as pd

from losslab.errors import Refused

BLANKS = r"\s+"  # any number of spaces between columns
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
LONG = re.compile(r"Expected (\d+) fields in line (\d+), saw (\d+)")
UNCLOSED = re.compile(r"EOF inside string starting at row (\d+)")


class BadCell(Refused):
    """A cell that does not fit its column.

    Args:
        before: the sentence up to the line that the cell stands in.
        row: of the cell in its file, from 0 on.
        after: the rest of the sentence.
    """

    def __init__(self, before: str, row: int, after: str) -> None:
        super().__init__(f"{before}line {row + 2}{after}")
        self.before, self.row, self.after = before, row, after


@dataclass(frozen=True)
class Format:
    """How a table is written in its file."""

    encoding: str | None = None  # of the text; UTF-8 if `None`
    delimiter: str | None = None  # between columns; found by itself if `None`
    header: bool = True  # whether the first line names the columns
    sheet: str | None = None  # of an Excel file with several


@dataclass(frozen=True)
class Found(Format):
    """How a table is written in its file, as found."""

    encoding: str = "utf-8-sig"
    delimiter: str = ","
    skip: int = 0  # lines above the header
    wider: bool = False  # whether the first row has empty cells beyond the header


DEFAULT = Format()


def read_lines(
    open_lines: Callable[[], io.BufferedReader], form: Found, rows: int | None, columns: list[Any] | None = None
) -> pd.DataFrame:
    """Read so many lines of text, and the columns of these names, as a table of text; all of them if `None`."""
    with open_lines() as lines:
        frame: pd.DataFrame = pd.read_csv(lines, dtype=str, nrows=rows, usecols=columns, **settings(form))
    return name_columns(frame, form)


def settings(form: Found) -> dict[str, Any]:
    """Return what pandas must know of a file."""
    return {
        "sep": re.escape(form.delimiter) if len(form.delimiter) > 1 and form.delimiter != BLANKS else form.delimiter,
        "engine": "python" if len(form.delimiter) > 1 and form.delimiter != BLANKS else "c",
        "header": 0 if form.header else None,
        "encoding": form.encoding,
        "skiprows": form.skip,
        "keep_default_na": False,
        "index_col": False,  # else rows longer than the header would lose their first cell
    }


def name_columns(frame: pd.DataFrame, form: Found) -> pd.DataFrame:
    """Name the columns of a file without a header."""
    if not form.header:
        frame.columns = pd.Index([f"column{int(number) + 1}" for number in frame.columns])
    return frame


def check_cells(open_lines: Callable[[], io.BufferedReader], form: Found, typed: str) -> None:
    """Refuse a table if a row has fewer cells than the header, or cells beyond it that are not empty."""
    width = 0
    if form.delimiter == BLANKS:
        return
    for number, cells, last in split_rows(open_lines, form):
        width = width or cells
        if cells < width or (cells > width and last):
            raise Refused(f"{typed} {say_cells(number, cells, width)}")


def split_rows(open_lines: Callable[[], io.BufferedReader], form: Found) -> Iterator[tuple[int, int, str]]:
    """Yield the first line, the number of cells and the last cell of each row that is not empty."""
    for number, cells, last in split_lines(open_lines, form):
        if number > form.skip and (cells > 1 or last):
            yield number, cells, last


def split_lines(open_lines: Callable[[], io.BufferedReader], form: Found) -> Iterator[tuple[int, int, str]]:
    """Yield the first line, the number of cells and the last cell of each row, and of lines that are empty.

    Rows without quotes are only counted, which is fast; from the first quote on, Python's reader splits them.
    """
    with open_lines() as opened:
        lines = io.TextIOWrapper(opened, form.encoding, newline="")
        for number, line in enumerate(lines, 1):
            if '"' not in line:
                bare = line.rstrip("\r\n")
                yield number, bare.count(form.delimiter) + 1, bare.rpartition(form.delimiter)[2].strip()
                continue
            reader, before = csv.reader(chain([line], lines), delimiter=form.delimiter[-1]), 0  # one sign, as it asks
            try:
                for cells in reader:
                    yield number + before, len(cells), cells[-1].strip() if cells else ""
                    before = reader.line_num
            except csv.Error:  # a very long cell
                pass
            return


def find_nth(open_lines: Callable[[], io.BufferedReader], form: Found, nth: int) -> int:
    """Return the line in which what pandas counts as the n-th line begins: a row of several lines is one to it."""
    return next(islice((number for number, _, _ in split_lines(open_lines, form)), nth - 1, None), nth)


def find_line(open_lines: Callable[[], io.BufferedReader], form: Found, row: int) -> int:
    """Return the line in which a row, from 0, begins: cells may hold several lines, and lines may be empty."""
    numbers = (number for number, _, _ in split_rows(open_lines, form))
    return next(islice(numbers, row + form.header, None), row + 2)


def say_cells(line: int, cells: int, width: int) -> str:
    """Say that a line has another number of cells than the header.

    >>> say_cells(5, 9, 7)
    'line 5 has 9 cells where the header has 7: correct that line, or write cells that hold the separator in quotes'
    """
    what = "correct that line, or write cells that hold the separator in quotes"
    if width == 1 < cells:
        what = "delete what stands above the header, or type data.delimiter=SIGN, which stands between columns"
    return f"line {line} has {cells} cells where the header has {width}: {what}"


def explain(why: str, find: Callable[[int], int] = int) -> str:
    """Return what is wrong with a file, and what to do, from what pandas or another reader says.

    Args:
        why: what it says. It counts a row of several lines as one.
        find: returns the line of what it counts, from 1 on.

    >>> explain("Error tokenizing data. C error: EOF inside string starting at row 1")
    'has a quote in line 2 that is never closed: close it, or delete it'
    >>> explain("bad magic number")
    'is not a table (bad magic number): type the path of one'
    """
    if found := LONG.search(why):
        width, line, cells = map(int, found.groups())
        return say_cells(find(line), cells, width)
    if found := UNCLOSED.search(why):
        return f"has a quote in line {find(int(found[1]) + 1)} that is never closed: close it, or delete it"
    return f"is not a table ({why}): type the path of one"


def explains(why: str) -> bool:
    """Return whether `explain` names a line for what pandas says."""
    return bool(LONG.search(why) or UNCLOSED.search(why))


def split_line(line: str, delimiter: str) -> list[str]:
    """Split a line into cells, without spaces and quotes around them."""
    if delimiter == BLANKS:
        return line.split()
    return [cell.strip().strip('"') for cell in line.split(delimiter)]


def is_row(names: list[str]) -> bool:
    """Return whether a header is rather a row: all are numbers, and some are negative, broken or equal.

    >>> is_row(["2019", "2020"]), is_row(["5.1", "3.5"]), is_row(["1", "1", "0"])
    (False, True, True)
    """
    if not all(NUMBER.fullmatch(name) for name in names):
        return False
    return len(set(names)) < len(names) or any(not name.isdigit() for name in names)
