"""Read a table as text, within limits: a small compressed file may unpack to more than the memory holds."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from losslab.data.typed_files import TYPED, name_package, read_typed
from losslab.errors import Refused, why_missing
from losslab.files import Unreadable, open_regular

COLUMNS = 100_000  # of a table; ten times as many would take minutes
LINE = 2**26  # bytes of one line
UNPACKED = 2**26  # bytes that any file may unpack to
RATIO = 200  # times its own size that a larger file may unpack to; text packs to a tenth, equal bytes to a thousandth


@dataclass(frozen=True)
class Format:
    """How a table is written in its file.

    Args:
        encoding: of the text; UTF-8 if `None`.
        delimiter: between columns; found by itself if `None`.
        header: whether the first line names the columns.
    """

    encoding: str | None = None
    delimiter: str | None = None
    header: bool = True


class TooMuch(ValueError):
    """A file is larger than any table; the message goes on after the file's name."""


DEFAULT = Format()
DELIMITERS = (",", "\t", ";", "|")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
UNPACK: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda source: gzip.GzipFile(fileobj=source),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zip": lambda source: open_member(source),
}


def open_member(source: BinaryIO) -> Any:
    """Open the one table in a zip archive.

    Raises:
        Refused: if there are several, or none.
    """
    archive = zipfile.ZipFile(source)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if len(names) != 1:
        what = ", ".join(names[:3]) or "nothing"
        raise Refused(
            f"{getattr(source, 'name', 'the archive')} holds {what}: unpack it, and type the path of one table"
        )
    return archive.open(names[0])


class Bounded(io.RawIOBase):
    """The bytes of a regular file, unpacked if its name ends in `.gz`, `.bz2`, `.xz` or `.zip`.

    Args:
        file: its path.

    Raises:
        Unreadable: if it is not a regular file, or may not be read.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = open_regular(file)
        self.packed = file.suffix.lower() in UNPACK
        self.stream: Any = UNPACK[file.suffix.lower()](self.source) if self.packed else self.source
        self.taken = self.line = 0  # bytes so far, and bytes so far of the current line
        self.excess: TooMuch | None = None  # kept because pandas replaces what a reader raises

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, and return the number of bytes.

        Raises:
            TooMuch: if a line, or the whole file, is larger than any table's.
        """
        data = self.stream.read(len(buffer))
        buffer[: len(data)] = data
        first, last = data.find(b"\n"), data.rfind(b"\n")
        longest = self.line + (len(data) if first < 0 else first)
        self.line = longest if first < 0 else len(data) - last - 1
        self.taken += len(data)
        if longest > LINE:
            self.excess = TooMuch(f"has a line of more than {LINE // 2**20} MB")
        if self.packed and self.taken > max(UNPACKED, RATIO * self.source.tell()):
            self.excess = TooMuch(f"unpacks to more than {RATIO} times its size")
        if self.excess:
            raise self.excess
        return len(data)

    def close(self) -> None:
        """Close the file, too."""
        super().close()
        self.source.close()


def read_table(path: str, key: str, rows: int | None = None, form: Format = DEFAULT) -> pd.DataFrame:
    """Return the table in a file, all of it text.

    Args:
        path: of the file.
        key: the setting that names it, for messages.
        rows: how many to read, the first ones; all if `None`.
        form: how it is written.

    Raises:
        Refused: if the file is missing, empty or not a table.
    """
    file = Path(path).expanduser()
    check_file(file, f"{key}={path}")
    opened: list[Bounded] = []

    def open_lines() -> io.BufferedReader:
        opened.append(Bounded(file))
        return io.BufferedReader(opened[-1])

    try:
        if file.suffix.lower() in TYPED:
            with open_regular(file) as binary:
                frame = read_typed(binary, file.suffix.lower(), rows)
        else:
            with open_lines() as text:
                found = find_form(text, f"{key}={path}", form)
            with open_lines() as text:
                frame = read_lines(text, found, rows)
    except Unreadable as error:
        raise Refused(f"{key}={path} {error.why}: type the path of a table") from None
    except Refused:
        raise
    except ImportError as error:
        raise Refused(f"{key}={path} needs a package: type {name_package(error)}, or save it as CSV") from None
    except UnicodeDecodeError as error:
        raise Refused(f"{key}={path} {say_encoding(error, key)}") from None
    except pd.errors.EmptyDataError:
        raise Refused(f"{key}={path} is empty: type the path of a table with a header line") from None
    except (ValueError, KeyError, OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile) as error:
        why = " ".join(str(error).split())
        if excess := next((each.excess for each in opened if each.excess), None):
            raise Refused(f"{key}={path} {excess}, as no table does: type the path of another") from None
        if "out of memory" in why:
            raise MemoryError(f"{key}={path}") from None
        raise Refused(f"{key}={path} is not a table ({why}): type the path of one") from None
    if frame.empty:
        raise Refused(f"{key}={path} has a header but no rows: type the path of a table with rows")
    return frame


def read_lines(text: io.BufferedReader, form: Format, rows: int | None) -> pd.DataFrame:
    """Read lines of text as a table."""
    frame = pd.read_csv(
        text,
        sep=form.delimiter,
        header=0 if form.header else None,
        dtype=str,
        keep_default_na=False,
        encoding=form.encoding,
        nrows=rows,
    )
    if not form.header:
        frame.columns = pd.Index([f"column{number}" for number in range(1, frame.shape[1] + 1)])
    return frame


def check_file(file: Path, typed: str) -> None:
    """Refuse the path of a table if it is a folder or not there."""
    if file.is_dir():
        raise Refused(f"{typed} is a folder: type the path of a CSV file")
    if not file.exists():
        raise Refused(f"{typed} {why_missing(file)}")


def find_form(text: io.BufferedReader, typed: str, form: Format) -> Format:
    """Find the encoding, by the first bytes, and what stands between the columns, by the header, unless they are told.

    Raises:
        Refused: if there are too many columns, or the header is a row of numbers.
    """
    head = text.peek(1024)[:1024]
    first = [text.readline(), text.readline()]
    wide = first[0][:2] in (b"\xff\xfe", b"\xfe\xff")
    if not wide and form.encoding is None and b"\0" in head:
        raise ValueError("it holds bytes that no text has")
    encoding = form.encoding or ("utf-16" if wide else "utf-8-sig")
    try:
        codecs.lookup(encoding)
    except LookupError:
        raise Refused(f"data.encoding={encoding} is none that Python knows: type utf-8, cp1252 or utf-16") from None
    if wide or encoding.lower().replace("_", "-").startswith("utf-16"):
        lines = (first[0] + first[1] + text.read(2**16)).decode(encoding, "ignore").splitlines()[:2]
    else:
        lines = [line.decode(encoding) for line in first]
    delimiter = form.delimiter or max(DELIMITERS, key=lines[0].count if lines else len)
    if len(delimiter) > 1:
        delimiter = {"tab": "\t", "\\t": "\t", "space": " "}.get(delimiter, delimiter)
    if max((line.count(delimiter) for line in lines), default=0) >= COLUMNS:
        raise Refused(f"{typed} has more than {COLUMNS:,} columns: type the path of a table of fewer")
    names = [cell.strip().strip('"') for cell in lines[0].split(delimiter)] if lines else []
    if form.header and len(names) > 1 and is_row(names):
        raise Refused(
            f"{typed} begins with numbers ({', '.join(names[:3])}, ...) where names should stand: if it has no header, "
            "type data.header=false"
        )
    return Format(encoding, delimiter, form.header)


def is_row(names: list[str]) -> bool:
    """Return whether a header is rather a row: all are numbers, and some are negative, broken or equal.

    >>> is_row(["2019", "2020"]), is_row(["5.1", "3.5"]), is_row(["1", "1", "0"])
    (False, True, True)
    """
    if not all(NUMBER.fullmatch(name) for name in names):
        return False
    return len(set(names)) < len(names) or any(not name.isdigit() for name in names)


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
