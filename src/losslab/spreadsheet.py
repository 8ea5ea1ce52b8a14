"""Tables for people: CSV files whose names a spreadsheet never computes, and aligned columns for a terminal."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from losslab.files import write

if TYPE_CHECKING:
    import pandas as pd

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
        texts = {value for value in shown[name] if isinstance(value, str)}
        if changed := {text: safe for text in texts if (safe := escape(text)) != text}:
            shown[name] = [changed.get(value, value) if isinstance(value, str) else value for value in shown[name]]
    return str(shown.to_csv(index=False))


def text_table(frame: "pd.DataFrame") -> str:
    """Align a table of texts for a terminal, as `align` does.

    >>> import pandas as pd
    >>> print(text_table(pd.DataFrame({"loss": ["mae", "huber"], "n": ["3", "10"]})))
    loss    n
    mae     3
    huber  10
    """
    return align({str(name): list(texts) for name, texts in frame.items()})


def align(columns: Mapping[str, Sequence[str]]) -> str:
    """Align columns of texts, given by their headings: those of numbers to the right, all others to the left.

    >>> align({"b": ["x", ""], "a": ["1", "10"]})
    'b   a\\nx   1\\n   10'
    """
    padded = []
    for name, texts in columns.items():
        width = max(map(len, [name, *texts]))
        numbers = all(re.match(r"[-0-9]|$", text) for text in texts)
        padded.append([cell.rjust(width) if numbers else cell.ljust(width) for cell in (name, *texts)])
    return "\n".join("  ".join(row).rstrip() for row in zip(*padded, strict=True))
