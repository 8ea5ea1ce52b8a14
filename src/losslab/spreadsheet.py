"""Tables for people: CSV files whose names a spreadsheet never computes, and aligned columns for a terminal."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from losslab.files import write
from losslab.pipes import find_columns

if TYPE_CHECKING:
    import pandas as pd

NARROW = 13  # letters: a column is not cut to less
FORMULA = tuple("=+-@\t\r\n|\uff1d\uff0b\uff0d\uff20")  # the last four are full-width, which spreadsheets also read


def escape(value: Any) -> Any:
    """Put an apostrophe before a text that a spreadsheet would take for a formula.

    Numbers, also those written as text, stay as they are. Carriage returns become line feeds. To get the text back,
    remove one apostrophe before a formula.

    >>> escape("=cmd|' /C calc'!A0"), escape("-drama"), escape("-3.2"), escape(-3.2), escape("mae")
    ("'=cmd|' /C calc'!A0", "'-drama", '-3.2', -3.2, 'mae')
    """
    if isinstance(value, str):
        value = value.replace("\r", "\n")  # a lone carriage return would end a line and is not quoted
    if not isinstance(value, str) or not value.lstrip("' \u00a0\ufeff").startswith(FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Format rows of cells as CSV; the first row is the heading."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([escape(cell) for cell in row] for row in rows)
    return text.getvalue()


def write_csv(file: Path, rows: Iterable[Sequence[Any]]) -> None:
    """Replace a file by rows of cells; the first row is the heading."""
    write(file, csv_text(rows))


def frame_csv(frame: "pd.DataFrame") -> str:
    """Format a table as CSV."""
    shown = frame.rename(columns=escape)
    for name in shown.select_dtypes(exclude=["number", "bool"]):
        texts = {value for value in shown[name].unique() if isinstance(value, str)}
        if changed := {text: safe for text in texts if (safe := escape(text)) != text}:
            shown[name] = [changed.get(value, value) if isinstance(value, str) else value for value in shown[name]]
    if len(shown.columns) < 2:
        return str(shown.to_csv(index=False))
    return "".join(f"{','.join(parts)}\n" for parts in zip(*format_columns(shown), strict=True))


def format_columns(frame: "pd.DataFrame") -> Iterator[list[str]]:
    """Format neighbouring columns, as the parts of all lines that they are.

    Columns with one value are formatted once: most columns of a table of 100,000 runs are such.
    """
    columns = [column for _, column in frame.items()]
    for alike, places in groupby(range(len(columns)), lambda place: has_one_value(columns[place])):
        part, lines = frame.iloc[:, list(places)], Lines()
        if alike:
            part = part.head(1)
        part.insert(0, "-", "-", allow_duplicates=True)  # an empty text alone on its line would be quoted
        part.to_csv(lines, index=False)
        heading, *found = (line[2:-1] for line in lines.found)
        yield [heading, *(found * len(frame) if alike else found)]


def has_one_value(column: "pd.Series[Any]") -> bool:
    """Whether all cells of a column are written alike, as far as a quick look tells."""
    kind = column.dtype.kind
    if kind in "biuf" and hasattr(column.dtype, "char"):  # numpy's: -0.0 is not 0.0
        return column.to_numpy().tobytes() == column.to_numpy()[:1].tobytes() * len(column)
    if column.dtype == object:
        return len({*map(id, column)}) <= 1
    return column.nunique(dropna=False) <= 1


class Lines(io.StringIO):
    """Keep what is written, line by line; a line may hold line feeds."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def write(self, text: str) -> int:
        self.found.append(text)
        return len(text)


def text_table(frame: "pd.DataFrame", beside: int = 0) -> str:
    """Align a table of texts for a terminal, as `align` does; so many letters stand `beside` it.

    >>> import pandas as pd
    >>> print(text_table(pd.DataFrame({"loss": ["mae", "huber"], "n": ["3", "10"]})))
    loss    n
    mae     3
    huber  10
    """
    return align({str(name): list(texts) for name, texts in frame.items()}, max(0, find_columns() - beside))


def align(columns: Mapping[str, Sequence[str]], width: int | None = None) -> str:
    """Align columns of texts, given by their headings: those of numbers to the right, all others to the left.

    Args:
        width: in which it must fit, so that the widest texts are cut; that of the terminal if `None`, 0 for any.

    >>> align({"b": ["x", ""], "a": ["1", "10"]})
    'b   a\\nx   1\\n   10'
    """
    cells = [[name, *texts] for name, texts in columns.items()]
    numbers = [all(re.match(r"[-0-9]|$", cell) for cell in column[1:]) for column in cells]
    widths = cut_widths(
        [max(map(len, column)) for column in cells], numbers, find_columns() if width is None else width
    )
    padded = []
    for column, number, most in zip(cells, numbers, widths, strict=False):
        half = most // 2 - 1  # cut in the middle, as long names often differ at their end
        shown = [cell if len(cell) <= most else f"{cell[:half]}\u2026{cell[half + 1 - most :]}" for cell in column]
        padded.append([cell.rjust(most) if number else cell.ljust(most) for cell in shown])
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))


def cut_widths(widths: Sequence[int], whole: Sequence[bool], width: int) -> list[int]:
    """Cut the widest columns of a table until it fits, two spaces apart; drop its last ones where that is too little.

    Args:
        whole: the columns that are not cut.
        width: in which it must fit; 0 for any.

    >>> cut_widths([5, 50, 30, 8], [False, False, False, True], 60), cut_widths([5, 50], [True, True], 20)
    ([5, 20, 21, 8], [5])
    """
    kept = list(widths)
    while width and len(kept) > 1 and sum(kept) + 2 * (len(kept) - 1) > width:
        long = [place for place, each in enumerate(kept) if each > NARROW and not whole[place]]
        if long:
            kept[max(long, key=lambda place: kept[place])] -= 1
        else:
            kept.pop()
    return kept
