"""Errors that are no job's result: a full disk, a folder that is gone, no memory; and what stops the sweep then."""

import errno
import re
import traceback
from collections.abc import Iterator
from pathlib import Path

GO_ON = "nothing is lost: the same command then goes on"
REMEDIES = {  # for what can end a worker, by the number of the error, which is the worker's exit code
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
imported: set[str] = set()  # packages that a worker imports before any option of the user's
NO_MEMORY = re.compile("llocate memory|failed to map segment|can't start new thread|bad_alloc")
MACHINE = (  # errors of the machine, whichever file they are about
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.ENOMEM, errno.EAGAIN, errno.EMFILE),
    errno.ENFILE,
)


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error, and those that it came of."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        yield error
        seen.append(error)
        error = error.__cause__ or error.__context__


def out_of_memory(error: BaseException) -> bool:
    """Whether the machine's memory is full; that of a GPU is the job's own matter."""
    return any(
        isinstance(each, MemoryError)
        or (isinstance(each, OSError) and each.errno == errno.ENOMEM)
        or (isinstance(each, RuntimeError | ImportError | OSError) and NO_MEMORY.search(str(each)) is not None)
        for each in chain(error)
    )


def no_result(error: BaseException, folder: Path) -> bool:
    """Whether an error is no job's result: of the memory, a disk, the sweep's own folder or our own imports."""
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
    """The number by which the driver knows what has stopped a worker, where the system has one for it."""
    if out_of_memory(error):
        return errno.ENOMEM
    return next((each.errno for each in chain(error) if isinstance(each, OSError) and each.errno in REMEDIES), 1)


def trouble(folder: Path, error: OSError) -> str:
    """The sentence for what stops all of a sweep: its folder, the disk or the memory."""
    remedy = REMEDIES.get(error.errno or 0, "see to it")
    return f"{folder}: {error.strerror or error}: {remedy}; {GO_ON}"
