"""Read a table as text, within limits: a small compressed file may unpack to more than the memory holds."""

import codecs
import io
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pandas as pd

from losslab.data.lines import (
    BLANKS,
    DEFAULT,
    BadCell,
    Format,
    Found,
    check_cells,
    explain,
    explains,
    find_line,
    find_nth,
    is_row,
    read_lines,
    split_line,
)
from losslab.data.notes import few
from losslab.data.numbers import read_numbers, to_line
from losslab.data.typed_files import SHEETS, TYPED, name_package, read_typed
from losslab.data.unpack import Bounded
from losslab.errors import Refused, why_missing
from losslab.files import Unreadable, open_regular

COLUMNS = 100_000  # of a table; ten times as many would take minutes
SIGNS = {"tab": "\t", "\\t": "\t", "space": BLANKS, "semicolon": ";", "comma": ",", "pipe": "|"}
DELIMITERS = (",", "\t", ";", "|")
MAGIC = {  # how files begin that are no text
    b"\x1f\x8b": "is packed: rename it to {}.gz",
    b"BZh": "is packed: rename it to {}.bz2",
    b"\xfd7zXZ": "is packed: rename it to {}.xz",
    b"PK\x03\x04": "is packed, or of Excel: rename it to {}.zip or {}.xlsx",
    b"PAR1": "is of Parquet: rename it to {}.parquet",
    b"ARROW1": "is of Feather: rename it to {}.feather",
    b"\xd0\xcf\x11\xe0": "is of an old Excel: rename it to {}.xls",
    b"\x89HDF": "is of HDF5: read it with pandas.read_hdf, and save it by to_csv",
    **{
        bytes([0x80, number]): "is a pickle: read it with pandas.read_pickle, and save it by to_csv"
        for number in (2, 3, 4, 5)
    },
    b"\x93NUMPY": "is an array of NumPy: type data=arrays, which says what it needs",
    b"SQLite format 3": "is a database: read a table with pandas.read_sql, and save it by to_csv",
    b"\xff\xfe\0\0": "is UTF-32: save it as UTF-8",
    b"\0\0\xfe\xff": "is UTF-32: save it as UTF-8",
    b"%PDF": "is a PDF: type the path of a table",
    b"\x89PNG": "is an image: type the path of a table",
    b"\xff\xd8\xff": "is an image: type the path of a table",
}


def read_table(
    path: str,
    key: str,
    rows: int | None = None,
    form: Format = DEFAULT,
    stays_text: Callable[[str], bool] | None = None,
    missing: Collection[str] = (),
) -> pd.DataFrame:
    """Return the table in a file.

    Args:
        key: the setting that names it, for messages.
        rows: how many to read, the first ones; all if `None`.
        stays_text: tells which columns stay text; the others of a large table become float64 where all cells are plain
            numbers or empty. All stay text if `None`.
        missing: what an empty cell of a number column may hold.

    Raises:
        Refused: if the file is missing, empty or not a table.
    """
    file, typed = Path(path).expanduser(), f"{key}={path}"
    check_file(file, typed)
    opened: list[Bounded] = []

    def open_lines() -> io.BufferedReader:
        opened.append(Bounded(file))
        return io.BufferedReader(opened[-1])

    try:
        if file.suffix.lower() in TYPED:
            with open_regular(file) as binary:
                frame = read_typed(binary, file.suffix.lower(), rows, form.sheet)
        else:
            frame = read_text(open_lines, typed, rows, form, stays_text, missing)
        return check_names(frame, typed)
    except Unreadable as error:
        raise Refused(f"{typed} {error.why}: type the path of a table") from None
    except Refused:
        raise
    except ImportError as error:
        raise Refused(f"{typed} needs a package: type {name_package(error)}, or save it as CSV") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{typed} {say_encoding(error, key)}") from None
    except pd.errors.EmptyDataError:
        raise Refused(f"{typed} is empty: type the path of a table with a header line") from None
    except (ValueError, KeyError, OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        why = " ".join(str(error).split())
        if excess := next((each.excess for each in opened if each.excess), None):
            raise Refused(f"{typed} {excess}, as no table does: type the path of another") from None
        if "out of memory" in why:
            raise MemoryError(typed) from None
        raise Refused(f"{typed} {explain(why)}") from None


def read_text(
    open_lines: Callable[[], io.BufferedReader],
    typed: str,
    rows: int | None,
    form: Format,
    stays_text: Callable[[str], bool] | None,
    missing: Collection[str],
) -> pd.DataFrame:
    """Read a table whose lines `open_lines` opens; see `read_table`."""
    with open_lines() as lines:
        found = find_form(lines, typed, form)
    if found.wider:
        check_cells(open_lines, found, typed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if found.wider else "error", pd.errors.ParserWarning)
        try:
            if stays_text is None or rows is not None:
                frame = read_lines(open_lines, found, rows)
            else:
                frame = read_numbers(open_lines, found, stays_text, missing)
        except pd.errors.ParserWarning:  # rows are longer than the header
            check_cells(open_lines, found, typed)
            raise ValueError("its rows are longer than its header") from None
        except pd.errors.ParserError as error:
            if not explains(why := " ".join(str(error).split())):
                raise
            raise Refused(f"{typed} {explain(why, partial(find_nth, open_lines, found))}") from None
    if rows is None and len(frame) and frame.iloc[:, -1].isin(["", None]).any():
        check_cells(open_lines, found, typed)
    return frame


@contextmanager
def name_lines(path: str, form: Format = DEFAULT, test_path: str | None = None) -> Iterator[None]:
    """Refuse a cell with the line that it stands in, in the file that its table was read from.

    Args:
        test_path: of a file whose rows are numbered -1, -2, ... (`losslab.data.tables.append_test`).
    """
    try:
        yield
    except BadCell as error:
        if error.row < 0 and test_path is not None:
            path, error.before, error.row = test_path, f"data.test_path={test_path}: {error.before}", -1 - error.row
        file = Path(path).expanduser()
        if file.suffix.lower() in TYPED:
            raise BadCell(error.before, error.row - (file.suffix.lower() not in SHEETS), error.after) from None
        line = find_line(*open_text(file, form), error.row)
        raise Refused(f"{error.before}line {line}{error.after}") from None


def open_text(file: Path, form: Format) -> tuple[Callable[[], io.BufferedReader], "Found"]:
    """Return what opens the lines of a text file, and how it is written."""

    def open_lines() -> io.BufferedReader:
        return io.BufferedReader(Bounded(file))

    with open_lines() as lines:
        return open_lines, find_form(lines, str(file), form)


def note_doubled(names: Iterable[str], path: str, form: Format) -> list[str]:
    """Return notes on columns of one name: pandas calls the second `a.1`, the third `a.2`."""
    pairs = [(name, re.fullmatch(r"(.+)\.\d+", name)) for name in names]
    later: dict[str, list[str]] = {}
    for name, found in pairs:
        if found and found[1] in dict(pairs):
            later.setdefault(found[1], []).append(name)
    file = Path(path).expanduser()
    if not later or not form.header:
        return []
    if file.suffix.lower() not in TYPED:  # a file may call a column a.1 itself
        open_lines, written = open_text(file, form)
        header = read_lines(open_lines, replace(written, header=False), 1).iloc[0].str.strip().tolist()
        later = {name: others for name, others in later.items() if header.count(name) > 1}
    which = {name: "the others are" if others[1:] else "the second is" for name, others in later.items()}
    return [
        f"{name} heads {len(others) + 1} columns: {which[name]} read as {few(others)}" for name, others in later.items()
    ]


def check_names(frame: pd.DataFrame, typed: str) -> pd.DataFrame:
    """Return a table with names of one line, without spaces around them; refuse one without rows, and equal names."""
    if frame.empty:
        raise Refused(f"{typed} has a header but no rows: type the path of a table with rows")
    names = [*map(to_line, frame.columns)]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise Refused(f"{typed} has two columns called {twice[0]}: rename one")
    frame.columns = pd.Index(names)
    return frame


def check_file(file: Path, typed: str) -> None:
    """Refuse the path of a table if it is a web address, a folder or not there."""
    if re.match(r"\w\w+:[/\\]", str(file)) and not file.exists():  # C:\ is a drive
        raise Refused(f"{typed} is a web address: download the table, and type the path of the file")
    if file.is_dir():
        raise Refused(f"{typed} is a folder: type the path of a CSV file")
    if not file.exists():
        raise Refused(f"{typed} {why_missing(file)}")


def find_form(lines: io.BufferedReader, typed: str, form: Format) -> Found:
    """Find the encoding, by the first bytes, and what stands between the columns, by the header, unless they are told.

    Raises:
        Refused: if there are too many columns, or the header is a row of numbers.
    """
    head = lines.peek(1024)[:1024]
    for begin, what in MAGIC.items():
        if head.startswith(begin):
            raise Refused(f"{typed} {what.replace('{}', Path(typed.partition('=')[2]).stem)}")
    if head[1:4] == b"\0\0\0" or head[:3] == b"\0\0\0":
        raise Refused(f"{typed} is UTF-32: save it as UTF-8")
    if re.match(rb'\s*(\{\s*["}]|\[\s*[\[{]\s*["}\]\d-])', head):
        raise Refused(f"{typed} is JSON: rename it to {Path(typed.partition('=')[2]).stem}.json")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise Refused(f"{typed} is a web page and no table: download the table itself, as CSV")
    wide = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    encoding = form.encoding or ("utf-16" if wide else "utf-8-sig")
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise Refused(f"data.encoding={encoding} is none that Python knows: type utf-8, cp1252 or utf-16") from None
    raw = [lines.readline() for _ in range(3)]
    new = typed.startswith("input=")  # read as the training table was, whatever else is typed
    if not wide and form.encoding is None and b"\0" in head:
        told = "" if new else ", or data.encoding=utf-16-le if it is a text of Windows"
        raise Refused(f"{typed} is not a table (it holds bytes that no text has): type the path of one{told}")
    if wide or encoding.lower().replace("_", "-").startswith("utf-16"):
        first = (b"".join(raw) + lines.read(2**16)).decode(encoding, "ignore").splitlines()[:3]
    else:
        first = [line.decode(encoding).rstrip("\r\n") for line in raw]
    skip = 1 if first and re.fullmatch(r"sep=.", first[0]) else 0
    delimiter = form.delimiter or (first[0][-1] if skip else find_delimiter(first[:2]))
    first = first[skip:]
    delimiter = SIGNS.get(delimiter, delimiter)
    if form.delimiter and first and delimiter != BLANKS and delimiter not in first[0]:
        raise Refused(f"{typed} has no {form.delimiter} in its first line: type data.delimiter= what stands there")
    if max((line.count(delimiter) for line in first), default=0) >= COLUMNS:
        raise Refused(f"{typed} has more than {COLUMNS:,} columns: type the path of a table of fewer")
    names, row = (split_line(first[place], delimiter) if len(first) > place else [] for place in (0, 1))
    if form.header and len(names) > 1 and is_row(names):
        told = "write the training table's header above" if new else "if it has no header, type data.header=false"
        raise Refused(f"{typed} begins with numbers ({', '.join(names[:3])}, ...) where names should stand: {told}")
    if form.header and len(names) > 1 and not any(names[1:]) and all(row) and len(row) == len(names):
        raise Refused(
            f"{typed} begins with a title ({names[0]}) where names should stand: delete what stands above them"
        )
    wider = form.header and len(row) > len(names) > 1 and not any(row[len(names) :])
    return Found(encoding, delimiter, form.header, form.sheet, skip, wider)


def find_delimiter(first: list[str]) -> str:
    """Return what stands between the columns, by a header and the first row.

    >>> find_delimiter(["a;b", "1,5;2"]), find_delimiter(["a  b", "1 22"]) == BLANKS, find_delimiter(["a b", "1"])
    (';', True, ',')
    """
    if not first:
        return ","
    delimiter = max(DELIMITERS, key=first[0].count)
    counts = {len(line.split()) for line in first}
    if len(first) > 1 and not any(sign in line for sign in DELIMITERS for line in first) and len(counts) == 1:
        return BLANKS if counts.pop() > 1 else delimiter
    return delimiter


def say_encoding(error: UnicodeDecodeError, key: str) -> str:
    """Say what to type for a text that is not in the encoding; new rows are read in that of the training table."""
    around = bytes(error.object[max(0, error.start - 8) : error.start + 8])
    shown = " ".join(around.decode("cp1252", "replace").split())
    name = error.encoding.upper().replace("-SIG", "")
    if key == "input":
        return f"is not in {name}, as the training table is: save it so"
    return (
        f"is not in {name}: if '{shown}' looks right, type data.encoding=cp1252; else the encoding that it was saved in"
    )
