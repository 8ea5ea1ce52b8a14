"""Lock files on Linux, macOS and Windows; a lock ends with its process. Without torch."""

import os
import shutil
from pathlib import Path

from losslab.files import NO_FOLLOW, NO_WAIT, WINDOWS


def open_lock(file: Path) -> int:
    """Open a file to lock: make it where it is missing, do not follow a link, and leave its bytes alone."""
    return os.open(file, os.O_RDWR | os.O_CREAT | NO_FOLLOW | NO_WAIT, 0o666)


def try_lock(number: int, wait: bool = False) -> bool | None:
    """Lock an open file, on Linux, macOS and Windows. The lock ends with the process, also when that is killed.

    Windows lets nobody else read the first byte of a locked file, so a lock has a file of its own.

    Args:
        number: the file's descriptor; closing it unlocks the file.
        wait: whether to wait while another process holds the lock.

    Returns:
        Whether the lock is ours; `None` on a disk that has no locks.
    """
    from filelock import lock_descriptor  # 20 ms, and only what writes needs it

    try:
        return lock_descriptor(number, blocking=wait, poll_interval=0.01)
    except OSError:
        return None


def is_locked(file: Path) -> bool | None:
    """Return whether a process holds the lock of a file; `None` where the disk has no locks."""
    try:
        number = os.open(file, os.O_RDWR | NO_FOLLOW | NO_WAIT)
    except FileNotFoundError:
        return False
    except OSError:
        return None
    try:
        free = try_lock(number)
    finally:
        os.close(number)
    return None if free is None else not free


def remove_locked(folder: Path, lock: int) -> None:
    """Remove a folder whose lock this process holds, and let go of the lock."""
    if WINDOWS:  # Windows removes no file that is open
        os.close(lock)
        shutil.rmtree(folder)
    else:
        shutil.rmtree(folder)
        os.close(lock)
