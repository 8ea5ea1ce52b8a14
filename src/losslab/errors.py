"""What a user's mistake becomes: one sentence."""

import difflib
import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from losslab.pipes import outlive_readers

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC), errno.EFBIG)
DENIED = (errno.EACCES, errno.EPERM, errno.EROFS)
MANY = 10  # names that are listed at most, where none is near
GONE = (errno.ENOENT, errno.ENOTDIR, getattr(errno, "ESTALE", errno.ENOENT))
DISK = (errno.EIO, errno.ELOOP, errno.EISDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ENOTEMPTY, errno.EBUSY)
MEMORY = re.compile(
    r"(allocate|enough|out of) memory|bad_alloc|start new thread|map segment|unable to allocate|STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
OVERFLOW = re.compile(r"to type \S*(float|Half|BFloat16) without overflow|Numerical result out of range")
DETERMINISTIC = re.compile(
    r"(\w+) does not have a deterministic implementation|not deterministic because it uses CuBLAS"
)


class Refused(ValueError):
    """A user's mistake, in one sentence: what was given, what fits, what to type instead.

    Control characters, which a file could contain to move a terminal's cursor, become spaces.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", sentence))

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows instead of a traceback."""
        return [f"losslab: {self}"]


class Diverged(Refused):
    """The loss is no longer a finite number, so training stopped."""


class Pruned(Exception):
    """A run that its sweep stopped because other runs do better."""


def machine_refusal(error: BaseException, instead: str = "output_dir=FOLDER") -> Refused | None:
    """Make the sentence for a full disk, a file that is gone or not the user's, no memory, or a step that overflows.

    It is `None` for other errors.

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
    if not isinstance(error, MemoryError | OSError | RuntimeError | ImportError | OverflowError):
        return None
    if OVERFLOW.search(why):
        return Refused("a step of the optimizer overflows: type a smaller optimizer.lr or optimizer.weight_decay")
    if isinstance(error, MemoryError) or getattr(error, "errno", 0) == errno.ENOMEM or MEMORY.search(why):
        more = f" ({why[:120].rstrip('. ')})" if why else ""
        return Refused(
            f"there is not enough memory{more}: type a smaller data.batch_size, model or table, or end other programs"
        )
    if found := DETERMINISTIC.search(why):
        return Refused(
            f"{found[1] or 'cuBLAS, which this process has used before,'} cannot give the same numbers each time "
            "on this device: type trainer.deterministic=false, and repeated runs may differ in their last digits"
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
    """Suggest the names most like `name`, or list some if none is like it. Case does not count.

    >>> nearest("MAEE", ["bce", "mae", "mse"])
    'nearest: mae, mse'
    >>> nearest("zzz", ["bce", "mae"])
    'type one of: bce, mae'
    """
    options = {option.lower(): option for option in sorted(names, reverse=True)}
    if not options:
        return "there is nothing to choose from"
    close = difflib.get_close_matches(name.lower(), options, n=3, cutoff=0.5)
    if close:
        return f"nearest: {', '.join(options[option] for option in close)}"
    first = sorted(options.values())
    shown = first if len(first) <= MANY + 2 else first[:MANY]
    more = f" and {len(first) - len(shown)} others" if len(shown) < len(first) else ""
    return f"type one of: {', '.join(shown)}{more}"


def why_missing(file: Path, suffix: str = "") -> str:
    """Say why there is no such file, and which files beside it have a name like it.

    >>> why_missing(Path("no_such_folder/a.csv"))
    'is not there, nor is the folder no_such_folder: type the path of a file'
    """
    if re.match(r"\w\w+:[/\\]", str(file)) and not file.parent.is_dir():  # C:\ is a drive
        return "is a web address: download it, and type the path of the file"
    if not file.parent.is_dir():
        return f"is not there, nor is the folder {file.parent}: type the path of a file"
    if file.exists() or file.is_symlink():
        return "is no file but a folder, a link to nothing or a device: type the path of a file"
    beside = [str(file.parent / each.name) for each in file.parent.iterdir() if each.is_file()]
    beside = [path for path in beside if path.endswith(suffix)]
    if not beside:
        return f"is not there, and {file.parent.resolve()} holds no {suffix or 'file'}: type the path of a file"
    return f"is not there; {nearest(str(file), beside)}"


def yaml_fault(error: Exception) -> str:
    """Say where a YAML text is wrong, and how.

    >>> import yaml
    >>> try: yaml.safe_load("a: b: c")
    ... except yaml.YAMLError as error: yaml_fault(error)
    'line 1, column 5: mapping values are not allowed here'
    """
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text: save it as UTF-8"
    if mark is None or not problem:
        return " ".join(str(error).partition("full_key:")[0].split())[:150]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"
