"""Who does which job, and what became of it: one file per job in a folder that any number of processes and hosts share.

    KEY.json    the job is over: `done` or `failed`, with its runs. Linked into place, so there is exactly one
    KEY.1       the job's first claim; KEY.2 its second, made when the first was given up, and so on

A claim is made whole and locked under another name, and then linked to its own: of many who try, one succeeds. Its
holder keeps it locked and its time fresh. On the same machine a claim is given up as soon as its lock is gone, which
the kernel sees to when a process dies; on another, when it has not been touched for `lease` seconds by the clock of the
shared disk. Nothing is ever deleted to take a job over, so there is no moment at which two can do so.
"""

import fcntl
import json
import os
import platform
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from losslab.files import Unreadable, read_json

BOOT = Path("/proc/sys/kernel/random/boot_id")  # a container without a network has no address to be known by
HERE = f"{platform.node()} {BOOT.read_text().strip() if BOOT.is_file() else f'{uuid.getnode():x}'}"

Record = dict[str, Any]


def content(file: Path) -> Record:
    """What a file of the folder holds; nothing where the machine stopped before the disk had it."""
    try:
        found: Record = read_json(file)
    except Unreadable as error:
        if isinstance(error.__context__, OSError | MemoryError) and file.exists():
            raise error.__context__ from None  # the file may be as good as ever
        return {}
    return found


class Ledger:
    """The jobs of a sweep.

    Args:
        folder: its own; made if it is not there.
        lease: seconds after which an untouched claim of another machine counts as given up.
    """

    def __init__(self, folder: Path, lease: float = 60.0) -> None:
        self.folder, self.lease = folder, lease
        self.known: dict[str, Record] = {}
        self.watched: dict[Path, tuple[float, float]] = {}  # when a claim was touched, and since when we know that
        folder.mkdir(parents=True, exist_ok=True)

    def records(self, keys: Iterable[str]) -> dict[str, Record]:
        """What became of those of these jobs that are over."""
        there = {entry.name for entry in os.scandir(self.folder)}
        found = {}
        for key in keys:
            if f"{key}.json" in there:
                if key not in self.known:
                    record = content(self.folder / f"{key}.json")
                    if "state" not in record:
                        self.put_aside(f"{key}.json")
                        continue
                    self.known[key] = record
                found[key] = self.known[key]
        return found

    def put_aside(self, name: str) -> None:
        """Keep a record that is not whole under another name, so that its job is done again."""
        print(f"{self.folder / name} is not whole: its job is looked at again", file=sys.stderr, flush=True)
        with suppress(FileNotFoundError):  # another process did so
            (self.folder / name).replace(self.folder / f"{name}.damaged")

    def over(self, key: str) -> bool:
        """Whether the job is done or failed."""
        return (self.folder / f"{key}.json").exists()

    def forget_failures(self) -> None:
        """Let the jobs that failed be done again."""
        for key, record in self.records([file.stem for file in self.folder.glob("*.json")]).items():
            if record["state"] == "failed":
                del self.known[key]
                for file in (self.folder / f"{key}.json", *self.folder.glob(f"{key}.*.crashed")):
                    file.unlink(missing_ok=True)

    def last_claim(self, key: str) -> Path | None:
        """The newest claim of the job."""
        number = 0
        while (self.folder / f"{key}.{number + 1}").exists():
            number += 1
        return self.folder / f"{key}.{number}" if number else None

    def claim(self, key: str) -> "Claim | None":
        """The job for this process, unless it is over or someone else is at it."""
        last = self.last_claim(key)
        if self.over(key) or (last is not None and self.held(last)):
            return None
        path = self.folder / f"{key}.{int(last.suffix[1:]) + 1 if last else 1}"
        part = self.folder / f".{uuid.uuid4().hex}"
        file = part.open("w")
        try:
            with suppress(OSError):  # a disk without locks: the lease decides
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.write(json.dumps({"host": HERE, "pid": os.getpid()}))
            file.flush()
            os.link(part, path)
        except OSError as error:
            with suppress(OSError):  # what a full disk did not take, it does not take now
                file.close()
            if isinstance(error, FileExistsError):
                return None
            raise
        finally:
            part.unlink(missing_ok=True)
        claim = Claim(self, key, path, file)
        if self.over(key):  # its holder came to an end between our two looks
            claim.release()
            return None
        return claim

    def held(self, path: Path) -> bool:
        """Whether the holder of a claim is still at it.

        The lease is measured by two clocks, as either may jump: by the disk's it is over, or the claim is of the
        future; and by our own the claim has not been touched since we first saw it, in more time than a holder lets
        pass.
        """
        touched = path.stat().st_mtime
        if not touched:  # released
            return False
        if content(path).get("host") == HERE:
            with path.open() as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    return False
                except BlockingIOError:
                    return True
                except OSError:
                    pass
        known, since = self.watched.get(path, (None, 0.0))
        if known != touched:
            self.watched[path] = touched, (since := time.monotonic())
        age, unchanged = self.now() - touched, time.monotonic() - since
        if age < 0:
            return unchanged < self.lease
        return age < self.lease or unchanged < self.lease / 4

    def now(self) -> float:
        """The time by the clock of the disk, which all hosts share."""
        clock = self.folder / f".{uuid.uuid4().hex}"
        clock.touch()
        try:
            return clock.stat().st_mtime
        finally:
            clock.unlink(missing_ok=True)

    def crashes(self, key: str) -> int:
        """How many processes died at a job."""
        return len(list(self.folder.glob(f"{key}.*.crashed")))

    def crashed_last(self, keys: Sequence[str]) -> list[str]:
        """These jobs in their order, but those at which processes died at the end."""
        names = [entry.name for entry in os.scandir(self.folder)]
        crashed = {name.partition(".")[0] for name in names if name.endswith(".crashed")}
        return sorted(keys, key=lambda key: key in crashed)

    def crashed(self, pid: int, keys: Iterable[str]) -> dict[str, int]:
        """Which jobs a process of this machine was at when it died, and how many died at each so far."""
        found = {}
        for key in keys:
            last = self.last_claim(key)
            if last is None or self.over(key) or content(last) != {"host": HERE, "pid": pid}:
                continue
            if not last.stat().st_mtime:  # it was let go of before
                continue
            (self.folder / f"{last.name}.crashed").touch()
            found[key] = self.crashes(key)
        return found

    def write(self, name: str, text: str) -> bool:
        """Put a whole file into the folder, unless it is there; whether it was not."""
        part = self.folder / f".{uuid.uuid4().hex}"
        try:
            with part.open("w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.link(part, self.folder / name)
        except FileExistsError:
            return False
        finally:
            part.unlink(missing_ok=True)
        return True


class Claim:
    """A job that this process does, until it is finished or released."""

    def __init__(self, ledger: Ledger, key: str, path: Path, file: TextIO) -> None:
        self.ledger, self.key, self.path, self.file = ledger, key, path, file

    def touch(self) -> bool:
        """Say that this process is still at it; `False` when another has taken it over."""
        os.utime(self.path)
        return not self.path.with_suffix(f".{int(self.path.suffix[1:]) + 1}").exists()

    def crash(self) -> None:
        """Say that a process can hardly live with the job: it is the last to be tried again, and alone."""
        self.path.with_name(f"{self.path.name}.crashed").touch()

    def finish(self, record: Record) -> None:
        """The job is over."""
        self.ledger.write(f"{self.key}.json", json.dumps(record, indent=1) + "\n")
        self.release()

    def release(self) -> None:
        """Let another go on with it at once."""
        try:
            os.utime(self.path, (0, 0))
        finally:
            self.file.close()
