"""Output whose reader may leave: `losslab … | head -3` reads three lines, and the run goes on to its end."""

import errno
import io
import os
import sys
from typing import Any

GONE = (errno.EPIPE, errno.EIO)  # the reader of a pipe has ended; a terminal was closed


class Output(io.FileIO):
    """Standard output or error. When its reader has gone, what is written goes nowhere, and no error is raised."""

    def write(self, data: Any) -> int:
        """Write bytes, and tell how many were taken."""
        try:
            return super().write(data) or 0
        except OSError as error:
            if error.errno not in GONE:
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # for libraries and processes that write to the same number, too
            os.close(nowhere)
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """From now on a closed pipe or terminal ends neither the process nor its exit code 0.

    What was printed is not the record: a run, a page or a table is complete without its reader.
    """
    if sys.platform == "win32":
        return  # its console is no file
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            if stream.fileno() != number or isinstance(stream.buffer.raw, Output):
                continue
        except (AttributeError, OSError, ValueError):  # closed, or another's, as in tests
            continue
        stream.flush()
        buffer = io.BufferedWriter(Output(number, "w", closefd=False))
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                buffer,
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            ),
        )
