"""Read a table as text, within limits: a small compressed file may unpack to more than the memory holds."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from losslab.errors import Refused, why_missing
from losslab.files import Unreadable, open_regular

COLUMNS = 100_000  # of a table; ten times as many would take minutes
LINE = 2**26  # bytes of one line
UNPACKED = 2**26  # bytes that any file may unpack to
RATIO = 200  # times its own size that a larger file may unpack to; text packs to a tenth, equal bytes to a thousandth


class TooMuch(ValueError):
    """A file is larger than any table; the message goes on after the file's name."""


class Bounded(io.RawIOBase):
    """The bytes of a regular file, unpacked if its name ends in `.gz`.

    Args:
        file: its path.

    Raises:
        Unreadable: if it is not a regular file, or may not be read.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = open_regular(file)
        self.packed = file.suffix == ".gz"
        self.stream: BinaryIO | gzip.GzipFile = gzip.GzipFile(fileobj=self.source) if self.packed else self.source
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


def read_table(path: str, key: str, rows: int | None = None) -> pd.DataFrame:
    """Return the table in a file, all of it text.

    Args:
        path: of the file.
        key: the setting that names it, for messages.
        rows: how many to read, the first ones; all if `None`.

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
        with open_lines() as text:
            delimiter = find_delimiter(text, f"{key}={path}")
        with open_lines() as text:
            frame = pd.read_csv(text, sep=delimiter, dtype=str, keep_default_na=False, encoding="utf-8-sig", nrows=rows)
    except Unreadable as error:
        raise Refused(f"{key}={path} {error.why}: type the path of a CSV file") from None
    except Refused:
        raise
    except pd.errors.EmptyDataError:
        raise Refused(f"{key}={path} is empty: type the path of a table with a header line") from None
    except (pd.errors.ParserError, ValueError, OSError, EOFError, zlib.error) as error:
        why = " ".join(str(error).split())
        if excess := next((each.excess for each in opened if each.excess), None):
            raise Refused(f"{key}={path} {excess}, as no table does: type the path of another") from None
        if "out of memory" in why:
            raise MemoryError(f"{key}={path}") from None
        raise Refused(f"{key}={path} is not a table in UTF-8 text ({why}): type the path of one") from None
    if frame.empty:
        raise Refused(f"{key}={path} has a header but no rows: type the path of a table with rows")
    return frame


def check_file(file: Path, typed: str) -> None:
    """Refuse the path of a table if it is a folder or not there."""
    if file.is_dir():
        raise Refused(f"{typed} is a folder: type the path of a CSV file")
    if not file.exists():
        raise Refused(f"{typed} {why_missing(file)}")


def find_delimiter(text: io.BufferedReader, typed: str) -> str:
    """Return what stands between the columns, by the header: a comma, a tab or a semicolon.

    Raises:
        Refused: if there are too many columns.
    """
    first = [text.readline(), text.readline()]
    delimiter = max((",", "\t", ";"), key=first[0].decode("utf-8-sig").count)
    if max(line.count(delimiter.encode()) for line in first) >= COLUMNS:
        raise Refused(f"{typed} has more than {COLUMNS:,} columns: type the path of a table of fewer")
    return delimiter
