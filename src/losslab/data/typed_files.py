"""Tables in files that know numbers from text: Excel, Parquet, Feather and JSON. All become text, as a CSV file is."""

import json
from numbers import Number
from typing import Any, BinaryIO

import numpy as np
import pandas as pd

from losslab.errors import Refused, nearest

SHEETS = (".xlsx", ".xlsm", ".xls", ".ods")
TYPED = (*SHEETS, ".parquet", ".feather", ".json", ".jsonl", ".ndjson")
NUMBERS = "numbers"  # the attribute of a table that lists its columns of numbers
PACKAGES = {"openpyxl": "openpyxl", "xlrd": "xlrd", "odf": "odfpy", "pyarrow": "pyarrow", "fastparquet": "pyarrow"}


def read_typed(file: BinaryIO, suffix: str, rows: int | None, sheet: str | None = None) -> pd.DataFrame:
    """Return the table in a file as text.

    Args:
        suffix: of its name, one of `TYPED`.
        rows: how many to return; all if `None`.
        sheet: of Excel; may be left out where only one holds something.

    Raises:
        ImportError: if a package is missing.
        ValueError: and its like, if it is no such file.
    """
    try:
        frame = read_frame(file, suffix, sheet)
    except (ImportError, MemoryError, Refused):
        raise
    except Exception as error:  # each package raises errors of its own
        raise ValueError(" ".join(str(error).split())[:150] or type(error).__name__) from error
    frame = frame.reset_index(drop=True).iloc[:rows]
    for name in frame.columns:
        if any(isinstance(value, dict) for value in frame[name].iloc[:100]):
            raise ValueError(f"{name} holds objects: write a column for each of their keys")
    found = pd.DataFrame({str(name): [to_text(value) for value in frame[name]] for name in frame.columns}, dtype=str)
    found.attrs[NUMBERS] = [str(name) for name in frame.columns if holds_numbers(frame[name])]
    return found


def read_frame(file: BinaryIO, suffix: str, sheet: str | None) -> pd.DataFrame:
    """Read a table by the package that its suffix asks for."""
    if suffix in (".jsonl", ".ndjson"):
        return pd.DataFrame([read_line(*pair) for pair in enumerate(file, 1) if pair[1].strip()])
    if suffix == ".json":
        return read_json(file.read())
    if suffix == ".parquet":
        return pd.read_parquet(file)
    if suffix == ".feather":
        return pd.read_feather(file)
    sheets: dict[str, pd.DataFrame] = pd.read_excel(file, sheet_name=None, dtype=object)
    filled = [name for name, frame in sheets.items() if len(frame)]
    if sheet is not None and sheet not in sheets:
        raise Refused(f"data.sheet={sheet} is not in the file; {nearest(sheet, sheets)}")
    if sheet is None and len(filled) > 1:
        raise Refused(f"the file has {len(filled)} sheets ({', '.join(filled[:5])}): type data.sheet={filled[0]}")
    return sheets[sheet or next(iter(filled or sheets))]


def read_json(text: bytes) -> pd.DataFrame:
    """Read a table in JSON as pandas writes it: records, columns, `split`, `table`, or a record in each line.

    >>> read_json(b'{"columns": ["a"], "index": [0, 1], "data": [[1], [2]]}')["a"].tolist()
    [1, 2]
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        if error.msg != "Extra data":
            raise
        return pd.DataFrame([read_line(*pair) for pair in enumerate(text.splitlines(), 1) if pair[1].strip()])
    if not isinstance(content, list | dict):
        raise ValueError("it holds no list of rows")
    if isinstance(content, dict) and isinstance(rows := content.get("data"), list):
        if isinstance(names := content.get("columns"), list):
            return pd.DataFrame(rows, columns=names)
        if isinstance(content.get("schema"), dict):
            frame = pd.DataFrame(rows)
            return frame[[name for name in frame if name not in content["schema"].get("primaryKey", [])]]
    return pd.DataFrame(content)


def read_line(number: int, line: bytes) -> Any:
    """Read a line of JSON.

    Raises:
        ValueError: with its number.
    """
    try:
        return json.loads(line)
    except ValueError as error:
        raise ValueError(f"line {number}: {error}") from None


def holds_numbers(cells: "pd.Series[Any]") -> bool:
    """Return whether no cell is anything but a number, or empty.

    >>> [holds_numbers(pd.Series(cells, dtype=object)) for cells in ([1, None, 2.5], ["1"], [True], [None])]
    [True, False, False, False]
    """
    kinds = {type(value) for value in cells.dropna()}
    return bool(kinds) and all(issubclass(kind, Number) and not issubclass(kind, bool | np.bool_) for kind in kinds)


def to_text(value: Any) -> str:
    """Return a cell as text; one that is missing as nothing.

    >>> to_text(3.0), to_text(None), to_text(pd.Timestamp("2024-03-01")), to_text(["a", "b"])
    ('3', '', '2024-03-01', "['a', 'b']")
    """
    if isinstance(value, list | tuple) or type(value).__name__ == "ndarray":
        return str([to_text(each) for each in value])
    if value is None or value is pd.NaT or value is pd.NA or (isinstance(value, float) and value != value):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    text = str(value)
    return text.removesuffix(" 00:00:00") if hasattr(value, "isoformat") else text


def name_package(error: ImportError) -> str:
    """Return the command that installs what a reader of pandas asks for.

    >>> name_package(ImportError("Missing optional dependency 'openpyxl'"))
    'pip install openpyxl'
    """
    text = str(error)
    return f"pip install {next((PACKAGES[name] for name in PACKAGES if name in text), 'pyarrow')}"
