"""Output whose reader may leave: `losslab … | head -3` reads three lines, and the run goes on to its end."""

import errno
import io
import os
import sys
from contextlib import suppress
from typing import Any

GONE = (errno.EPIPE, errno.EIO)  # the reader of a pipe has ended; a terminal was closed


class Output(io.FileIO):
    """Standard output or error. When its reader has gone, what is written goes nowhere, and no error is raised.

    A full disk below standard output is an error, as its text may be all that was asked for; below standard error it
    is none.
    """

    def write(self, data: Any) -> int:
        """Write bytes, and tell how many were taken."""
        try:
            return super().write(data) or 0
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # for libraries and processes that write to the same number, too
            os.close(nowhere)
            if self.fileno() == 1 and error.errno not in GONE:
                error.filename = "standard output"
                raise  # once
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """From now on a closed pipe or terminal ends neither the process nor its exit code 0.

    What was printed is not the record: a run, a page or a table is complete without its reader.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no name is an error, such as a Greek one in code page 1252
    if sys.platform == "win32":
        return  # its console is no file
    fill_gaps()
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            raw = getattr(stream.buffer, "raw", stream.buffer)  # python -u has no buffer
            if raw.fileno() != number or isinstance(raw, Output):
                continue
        except (AttributeError, OSError, ValueError):  # closed, or another's, as in tests
            continue
        with suppress(OSError):  # its reader has gone already
            stream.flush()
        output = Output(number, "w", closefd=False)
        wrapped = io.TextIOWrapper(
            output if raw is stream.buffer else io.BufferedWriter(output),
            encoding=stream.encoding,
            errors=stream.errors,
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, wrapped)


def fill_gaps() -> None:
    """Give a process that was begun with closed streams open ones: the next file would take their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
