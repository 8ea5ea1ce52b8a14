"""Output whose reader may leave: after `losslab … | head -3` has read three lines, the run still completes."""

import errno
import io
import os
import re
import shutil
import sys
import textwrap
from contextlib import suppress
from typing import Any

CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]+")  # all but the end of a line
COMMAND = re.compile(r" *(losslab|python|wandb) ")
LABEL = re.compile(r" {0,4}[\w-]+(=\S*)?  +(?=\S)")  # with the spaces behind it
QUOTED = re.compile(r"`[^`]*`")
GONE = (errno.EPIPE, errno.EIO)  # the reader of a pipe has ended; a terminal was closed


def clean(text: str) -> str:
    r"""Return a text whose control characters are spaces: those of someone else's file could move a terminal's cursor.

    >>> clean("a\x1b[31mb\n c")
    'a [31mb\n c'
    """
    return CONTROL.sub(" ", text)


def find_columns() -> int:
    """Return how wide the terminal is; 0 if standard output is none, as lines of a file end where sentences do."""
    return shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else 0


def fit(text: str, columns: int) -> str:
    """Wrap the lines of a text that are wider than so many columns. Words and what stands in backticks stay whole.

    So do lines that are a command to paste, and those of a progress bar.

    >>> print(fit("mae beats mse by 3 points\\nrace      then type `losslab race` again", 30))
    mae beats mse by 3 points
    race      then type
              `losslab race` again
    """
    if not columns or "\r" in text or "\x1b" in text:
        return text
    wrap = textwrap.TextWrapper(max(columns, 20), break_long_words=False, break_on_hyphens=False)
    lines = text.split("\n")
    for place, line in enumerate(lines):
        if len(line) > columns and not COMMAND.match(line):
            label = LABEL.match(line)
            wrap.subsequent_indent = " " * (label.end() if label else len(line) - len(line.lstrip()) + 2)
            whole = QUOTED.sub(lambda found: found[0].replace(" ", "\0"), line)
            lines[place] = wrap.fill(whole).replace("\0", " ")
    return "\n".join(lines)


class Terminal(io.TextIOWrapper):
    """A terminal, whose lines end between words."""

    def write(self, text: str) -> int:
        """Write a text; return its length."""
        super().write(fit(text, shutil.get_terminal_size().columns))
        return len(text)


class Output(io.FileIO):
    """Standard output or error. Once its reader has gone, writes are discarded and raise no error.

    A full disk under standard output is an error, because its text may be all that was asked for. Under standard
    error it is none.
    """

    def write(self, data: Any) -> int:
        """Write bytes and return how many were taken."""
        try:
            return super().write(data) or 0
        except OSError as error:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())  # libraries and child processes write to the same descriptor
            os.close(nowhere)
            if self.fileno() == 1 and error.errno not in GONE:
                error.filename = "standard output"
                raise  # once
            return memoryview(data).nbytes


def outlive_readers() -> None:
    """Keep the process and its exit code 0 when a pipe or terminal is closed.

    The printed text is not the record: a run, a page or a table is complete without a reader.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # no name is an error, such as a Greek one in code page 1252
    if sys.platform != "win32":  # its console is no file, and its pipes raise no signal
        watch_streams()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if type(stream) is io.TextIOWrapper and stream.isatty():
            stream.flush()
            setattr(sys, name, copy_stream(stream, stream.detach(), Terminal))


def copy_stream(stream: io.TextIOWrapper, below: Any, kind: type[io.TextIOWrapper]) -> io.TextIOWrapper:
    """Make a text stream like another one, on top of another stream of bytes."""
    return kind(
        below,
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def watch_streams() -> None:
    """Replace standard output and error by streams that outlive their readers."""
    fill_gaps()
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        try:
            raw = getattr(stream.buffer, "raw", stream.buffer)  # python -u has no buffer
            if raw.fileno() != number or isinstance(raw, Output):
                continue
        except (AttributeError, OSError, ValueError):  # closed, or replaced as in tests
            continue
        with suppress(OSError):  # its reader has gone already
            stream.flush()
        output = Output(number, "w", closefd=False)
        below = output if raw is stream.buffer else io.BufferedWriter(output)
        setattr(sys, name, copy_stream(stream, below, io.TextIOWrapper))


def fill_gaps() -> None:
    """Open streams that were closed when the process started; the next file would take their descriptors."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free descriptor
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w", closefd=False))
