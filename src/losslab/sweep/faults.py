"""Errors that are no job's fault: a full disk, a missing folder, no memory. They stop the sweep with a remedy."""

import errno
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

GO_ON = "nothing is lost: the same command then goes on"
REMEDIES = {  # by `errno`, which is also the exit code of the worker
    errno.ENOSPC: "free some space there",
    errno.EDQUOT: "free some space there",
    errno.ENOMEM: "type a smaller n=, or free some memory",
    errno.EAGAIN: "type a smaller n=, or end other processes",
    errno.EMFILE: "type a smaller n=, or raise ulimit -n",
    errno.ENFILE: "type a smaller n=, or end other processes",
    errno.ENOENT: "put it back",
    errno.ENOTDIR: "put the folder back",
    errno.ESTALE: "have the disk mounted again",
    errno.EIO: "see to the disk",
    errno.EACCES: "make it yours",
    errno.EROFS: "make the disk writable",
}
imported: set[str] = set()  # packages that a worker imports before any of the user's own code
NO_MEMORY = re.compile("llocate memory|failed to map segment|can't start new thread|bad_alloc")
MACHINE = REMEDIES.keys() - {errno.ENOENT, errno.ENOTDIR, errno.EACCES}  # whichever file such an error names


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, and those that caused it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def out_of_memory(error: BaseException) -> bool:
    """Return whether the machine's memory is full; a GPU's memory is the job's own matter."""
    return any(
        isinstance(each, MemoryError)
        or (isinstance(each, OSError) and each.errno == errno.ENOMEM)
        or (isinstance(each, RuntimeError | ImportError | OSError) and NO_MEMORY.search(str(each)) is not None)
        for each in chain(error)
    )


def no_result(error: BaseException, folder: Path) -> bool:
    """Return whether an error is no job's fault: one of memory, a disk, the sweep's folder or our own imports."""
    if out_of_memory(error) or not (folder / "jobs").is_dir():
        return True
    for each in chain(error):
        if isinstance(each, OSError) and (
            each.errno in MACHINE or Path(str(each.filename)).absolute().is_relative_to(folder.absolute())
        ):
            return True
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    packages = {str(frame.f_globals.get("__name__")).partition(".")[0] for frame in frames}
    return isinstance(error, ImportError) and packages <= imported


def exit_code(error: BaseException) -> int:
    """Return the exit code that tells the driver what stopped a worker: an `errno` of `REMEDIES`, else 1."""
    if out_of_memory(error):
        return errno.ENOMEM
    return next((each.errno for each in chain(error) if isinstance(each, OSError) and each.errno in REMEDIES), 1)


def explain(folder: Path, error: OSError) -> str:
    """Return the sentence for what stops all of a sweep: its folder, the disk or the memory."""
    remedy = REMEDIES.get(error.errno or 0, "see to it")
    return f"{folder}: {error.strerror or error}: {remedy}; {GO_ON}"
