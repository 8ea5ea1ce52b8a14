"""What a user's mistake becomes: one sentence."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from losslab.pipes import outlive_readers

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
GONE = (errno.ENOENT, errno.ENOTDIR, getattr(errno, "ESTALE", errno.ENOENT))
DISK = (errno.EIO, errno.ELOOP, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTEMPTY, errno.EBUSY)
MEMORY = re.compile(
    r"(allocate|enough|out of) memory|bad_alloc|start new thread|map segment|unable to allocate", re.IGNORECASE
)


class Refused(ValueError):
    """A user's mistake, in one sentence: what was given, what fits, what to type instead.

    Control characters, which a file could contain to move a terminal's cursor, become spaces.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", sentence))


class Diverged(Refused):
    """The loss is no longer a finite number, so training stopped."""


class Pruned(Exception):
    """A run that its sweep stopped because other runs do better."""


def machine_refusal(error: BaseException, instead: str = "output_dir=FOLDER") -> Refused | None:
    """Make the sentence for an error of the machine: a full disk, a file that is gone or not the user's, no memory.

    Args:
        error: what was raised.
        instead: what to type to write elsewhere.

    Returns:
        `None` if it is something else, such as a bug.

    >>> str(machine_refusal(OSError(28, "No space left", "a.png"), "out=FILE"))
    'a.png could not be written (No space left): free some space, or type out=FILE on another disk'
    """
    if isinstance(error, Refused):
        return error
    why = " ".join(str(error).split())
    if isinstance(error, OSError) and error.errno is not None and error.errno != errno.ENOMEM:
        why, file = error.strerror or os.strerror(error.errno), error.filename2 or error.filename
        what = os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else "a file"
        if error.errno in FULL:
            return Refused(f"{what} could not be written ({why}): free some space, or type {instead} on another disk")
        if error.errno in DENIED:
            return Refused(f"{what} is not open to you ({why}): change its permissions, or type {instead} of your own")
        if error.errno in GONE:
            return Refused(f"{what} is gone ({why}): it was moved or deleted meanwhile; type the same command again")
        if error.errno in (errno.EMFILE, errno.ENFILE):
            return Refused(f"{what} could not be opened ({why}): type `ulimit -n 4096` first")
        if error.errno in DISK:
            return Refused(f"{what} could not be read or written ({why}): look at it, or type {instead}")
    if not isinstance(error, MemoryError | OSError | RuntimeError | ImportError):
        return None
    if isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM or MEMORY.search(why):
        more = f" ({why[:120].rstrip('. ')})" if why else ""
        return Refused(
            f"there is not enough memory{more}: type a smaller data.batch_size, model or table, or end other programs"
        )
    return None


@contextmanager
def machine_errors(instead: str = "output_dir=FOLDER") -> Iterator[None]:
    """Raise errors of the machine as `Refused`. Works as a context manager and as a decorator."""
    try:
        yield
    except Exception as error:
        refused = machine_refusal(error, instead)
        if refused is None or refused is error:
            raise
        raise refused from error


@contextmanager
def one_sentence(instead: str = "output_dir=FOLDER") -> Iterator[None]:
    """End a command in one sentence after a mistake, an error of the machine or Ctrl-C.

    A bug ends in a traceback; so does an error of the machine if `HYDRA_FULL_ERROR=1` asks for one.
    """
    outlive_readers()
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        try:
            yield
        except SystemExit:
            print(end="", flush=True)
            raise
        print(end="", flush=True)  # reports a full disk now, not when Python exits
    except KeyboardInterrupt:
        print("losslab: stopped by Ctrl-C", file=sys.stderr, flush=True)
        sys.exit(130)
    except Exception as error:
        refused = machine_refusal(error, instead)
        if refused is None or (traceback_wanted and refused is not error):
            raise
        sys.exit(f"losslab: {refused}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Suggest the names most like `name`, or list the first 30 if none is like it.

    >>> nearest("maee", ["bce", "mae", "mse"])
    'nearest: mae, mse'
    >>> nearest("zzz", ["bce", "mae"])
    'type one of: bce, mae'
    """
    options = sorted(names)
    if not options:
        return "there is nothing to choose from"
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if close:
        return f"nearest: {', '.join(close)}"
    return f"type one of: {', '.join(options[:30])}{', ...' if len(options) > 30 else ''}"
