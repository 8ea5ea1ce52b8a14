"""The bytes of a file, unpacked within limits: a small one may unpack to more than the memory holds."""

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from losslab.errors import Refused
from losslab.files import open_regular

LINE = 2**26  # bytes of one line
UNPACKED = 2**26  # bytes that any file may unpack to
RATIO = 200  # times its own size that a larger file may unpack to; text packs to a tenth, equal bytes to a thousandth


class TooMuch(ValueError):
    """A file is larger than any table; the message goes on after the file's name."""


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
        raise Refused(f"the archive holds {what}: unpack it, and type the path of one table")
    return archive.open(names[0])


class Bounded(io.RawIOBase):
    """The bytes of a regular file, unpacked if its name ends in `.gz`, `.bz2`, `.xz` or `.zip`.

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
