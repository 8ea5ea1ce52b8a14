"""What a user's mistake becomes: one sentence; and the words of the small commands, read that way."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch

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

    Control characters in it, which may come from a file and would move a terminal's cursor, become spaces.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", sentence))


class Diverged(Refused):
    """The loss is no longer a finite number, so training stopped."""


class Pruned(Exception):
    """A run that its sweep stopped, because others of the sweep do better."""


def machine_refusal(error: BaseException, instead: str = "output_dir=FOLDER") -> Refused | None:
    """The sentence for what the machine did not allow: a full disk, a file that is gone or not the user's, no memory.

    Args:
        error: what was raised.
        instead: what to type to write elsewhere.

    Returns:
        `None` where it is something else, such as a bug.

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
    """What the machine did not allow while it lasts is raised as `Refused`, its sentence; also a decorator."""
    try:
        yield
    except Exception as error:
        refused = machine_refusal(error, instead)
        if refused is None or refused is error:
            raise
        raise refused from error


@contextmanager
def one_sentence(instead: str = "output_dir=FOLDER") -> Iterator[None]:
    """What every command has around its work: a mistake, the machine's refusal and Ctrl-C end it in one sentence.

    A bug ends it in a traceback, and so does the machine where `HYDRA_FULL_ERROR=1` asks for one.
    """
    outlive_readers()
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        try:
            yield
        except SystemExit:
            print(end="", flush=True)
            raise
        print(end="", flush=True)  # a full disk below it is told now, and not when Python ends
    except KeyboardInterrupt:
        print("losslab: stopped by Ctrl-C", file=sys.stderr, flush=True)
        sys.exit(130)
    except Exception as error:
        refused = machine_refusal(error, instead)
        if refused is None or (traceback_wanted and refused is not error):
            raise
        sys.exit(f"losslab: {refused}")


@contextmanager
def command(says: str | None, instead: str = "out=PATH") -> Iterator[list[str]]:
    """A small command and the words typed after it: help ends it, and so does a mistake, in one sentence.

    Args:
        says: its help.
        instead: what to type to write elsewhere, where the disk is full or not the user's.
    """
    with one_sentence(instead):
        words = sys.argv[1:]
        if {"-h", "--help"} & set(words):
            sys.exit(print(says))
        yield words


def nearest(name: str, names: Iterable[str]) -> str:
    """Names like `name`, or all of them where none is like it and they are few enough to read.

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


def keyed(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Words such as `out=a.png` by their key; `known` are the keys that there are, `loss.*` for many.

    Raises:
        Refused: for a word that is no `key=value`, and for an unknown key.

    >>> keyed(["loss=focal", "loss.gamma=5"], ["loss", "loss.*"])
    {'loss': 'focal', 'loss.gamma': '5'}
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not any(fnmatch(key, pattern) for pattern in known):
            raise Refused(f"{key} is not a setting here; {nearest(key, known)}")
        if not equals:
            raise Refused(f"'{word}' cannot be read: type {key}=VALUE")
        found[key] = value
    return found


def listed(value: str) -> list[str]:
    """What stands in `[a,b]`, brackets or not.

    >>> listed("[mae, mse]"), listed("mae"), listed("[]")
    (['mae', 'mse'], ['mae'], [])
    """
    return [name.strip() for name in value.strip("[]").split(",") if name.strip()]
