"""Claims and results of a sweep's jobs: files in a folder that any number of processes and hosts share.

    KEY.json    the job is over: `done` or `failed`, with its runs
    KEY.1       the job's first claim; KEY.2 its second, made when the first was given up, and so on
    .ID.alive   is locked while a process lives; its claims name it
    .ID.over    keys of the jobs that the workers of a driver ended: it reads them instead of listing the folder
    .1.records  records that one driver has read, so that the others need not; .2.records later ones, and so on
    .names      the names of a large folder as one process listed them, so that the others need not: a hint, no more

A claim is written under another name, then published under its own: of many who try, one succeeds. Its holder keeps its
modification time fresh. On the same machine a claim is given up as soon as its holder's lock is gone, which the system
releases when a process dies. On another machine it is given up when it has not been touched for `lease` seconds by the
clock of the shared disk. No file is deleted to take a job over, so two processes can't do so at once.
"""

import json
import os
import platform
import random
import sys
import time
import uuid
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from losslab.files import Unreadable, append, publish, read_json, read_text, write
from losslab.locks import is_locked, open_lock, try_lock

BOOT = Path("/proc/sys/kernel/random/boot_id")  # identifies a container that has no network address
HERE = f"{platform.node()} {BOOT.read_text().strip() if BOOT.is_file() else f'{uuid.getnode():x}'}"

Record = dict[str, Any]

READ = 500  # names that one read of a folder returns, about
LARGE = 4 * READ  # names of a folder from which on processes share what they list
BATCH = 200  # records in one file that drivers share
SHARE = 20  # a driver lists the folder for a twentieth of its time at most
POLL = 30.0  # seconds between two looks at what others have shared are one to three times this


def read_record(file: Path) -> Record:
    """Read a file of the folder; return an empty record where the machine stopped before the disk had it."""
    try:
        found: Record = read_json(file)
    except Unreadable as error:
        if isinstance(error.__context__, OSError | MemoryError) and file.exists():
            raise error.__context__ from None  # the file may be as good as ever
        return {}
    return found


@dataclass
class Listing:
    """What a look at the folder shows."""

    over: set[str] = field(default_factory=set)  # keys of the jobs that have a record
    claims: dict[str, int] = field(default_factory=dict)  # how often each job was claimed
    crashed: set[str] = field(default_factory=set)  # keys of the jobs at which processes died, or ran out of memory
    processes: int = 0  # how many have been at work here; those that were killed count, too
    entries: int = 0  # how many files there are
    seconds: float = 0.0  # how long it took to read what is new


class Ledger:
    """The jobs of a sweep.

    Args:
        lease: seconds after which an untouched claim of another machine counts as given up.
    """

    def __init__(self, folder: Path, lease: float = 60.0) -> None:
        self.folder, self.lease = folder, lease
        self.known: dict[str, Record] = {}
        self.holders: dict[Path, Record] = {}  # of claims
        self.shared, self.due = 0, 0.0  # files of shared records that were read; when to list the folder all the same
        self.began, self.chance, self.seen = time.monotonic(), random.Random(), Listing()  # what a driver saw last
        self.names, self.large = "", True  # as another process listed the folder; whether it may be large
        self.tells = ""  # the file of the driver that wants to know which jobs are over
        self.ear: int | None = None  # that of this driver
        self.heard, self.rest = 0, b""
        self.watched: dict[Path, tuple[float, float]] = {}  # when a claim was touched, and since when we know that
        self.lock: tuple[int, str] | None = None  # descriptor and name, from the first claim on
        folder.mkdir(parents=True, exist_ok=True)

    def glance(self) -> Listing:
        """List the folder, or take what another process has listed since this was last done, where it is large."""
        file = self.folder / ".names"
        if self.large:
            with suppress(Unreadable):  # nobody has
                before, self.names = self.names, read_text(file)
                if self.names != before:
                    return self.look(self.names.split("\n"))
        found = os.listdir(self.folder)  # noqa: PTH208 - twice as fast as paths
        self.large = len(found) > LARGE
        if self.large:
            self.names = "\n".join(filter(str.isascii, found))
            write(file, self.names)
        return self.look(found)

    def look(self, names: Iterable[str] | None = None) -> Listing:
        """Say what names mean, or list the folder: a third of a second for 100,000 jobs, so never once per job."""
        found = Listing()
        for name in os.listdir(self.folder) if names is None else names:  # noqa: PTH208
            key, _, rest = name.partition(".")
            found.entries += 1
            if rest == "json":
                found.over.add(key)
            elif rest.isdigit():
                found.claims[key] = max(found.claims.get(key, 0), int(rest))
            elif rest.endswith(".crashed"):
                found.crashed.add(key)
            elif not key and rest.endswith(".alive"):
                found.processes += 1
        return found

    def records(self, keys: Iterable[str]) -> dict[str, Record]:
        """List the folder; return the records of those of these jobs that are over. Share them if at work here."""
        keys, began = list(keys), time.monotonic()
        self.seen = self.look()
        self.read_shared()
        self.known = {key: record for key, record in self.known.items() if key in self.seen.over}
        new = [key for key in keys if key in self.seen.over and key not in self.known]
        self.chance.shuffle(new)  # drivers that begin together each read others
        for place in range(0, len(new), BATCH):
            found = {}
            for key in new[place : place + BATCH]:
                if key not in self.known and not self.learn(key):
                    self.rename_damaged(f"{key}.json")
                elif key in self.known:
                    found[key] = self.known[key]
            if found and self.lock:
                self.write(f".{self.shared + 1}.records", json.dumps(found), durable=False)
                self.read_shared()
        self.seen.seconds = time.monotonic() - began
        return self.known_records(keys)

    def known_records(self, keys: Iterable[str]) -> dict[str, Record]:
        """Return the records of those of these jobs that this process knows to be over."""
        return {key: self.known[key] for key in keys if key in self.known}

    def learn(self, key: str) -> bool:
        """Read the record of a job; return whether it is whole."""
        record = read_record(self.folder / f"{key}.json")
        if "state" in record:
            self.known[key] = record
        return "state" in record

    def read_shared(self) -> bool:
        """Read the records that other drivers have shared since; return whether there are."""
        before = self.shared
        with suppress(Unreadable):  # most often, there is no next file
            while True:
                self.known |= read_json(self.folder / f".{self.shared + 1}.records")
                self.shared += 1
        return self.shared > before

    def listen(self) -> str:
        """Make the file in which workers of this machine say which jobs are over; return its name."""
        name = self.lock_name().replace(".alive", ".over")
        if self.ear is None:
            self.ear = open_lock(self.folder / name)
        return name

    def hear(self) -> bool:
        """Learn which jobs are over by now, from this machine's workers alone; return whether there are more."""
        if self.ear is not None:
            *keys, self.rest = (self.rest + os.read(self.ear, 2**20)).split(b"\n")
            for key in (key.decode() for key in keys if key.isalnum()):
                self.learn(key)
        before, self.heard = self.heard, len(self.known)
        return self.heard != before

    def catch_up(self, keys: Iterable[str], own: int) -> float:
        """Learn what other drivers' workers ended, beside `own` ones; return after how many seconds to do so again.

        Drivers share what they read, and list the folder where nobody has shared anything for a while. One that is
        alone lists it now and then to see whether it still is.
        """
        now, alone = time.monotonic(), self.seen.processes <= own + 1
        shared = not alone and self.read_shared()
        if not shared and now >= self.due:
            self.records(keys)
            alone, shared = self.seen.processes <= own + 1, True
        seldom = 1 + (now - self.began + self.seen.processes) / 10  # a short sweep is not to wait long
        reads = self.seen.entries / READ
        least, poll = SHARE * self.seen.seconds, self.chance.uniform(1, 3) * min(seldom, POLL)
        if alone:
            return max(least, min(seldom, max(2 * POLL, 10 * reads), 20 * POLL))
        if shared:
            self.due = now + max(least, poll, self.chance.uniform(40, 120) * reads / self.seen.processes)
        return poll

    def rename_damaged(self, name: str) -> None:
        """Rename a record that is not whole, so that its job is done again."""
        print(f"{self.folder / name} is not whole: its job is looked at again", file=sys.stderr, flush=True)
        with suppress(FileNotFoundError):  # another process did so
            (self.folder / name).replace(self.folder / f"{name}.damaged")

    def over(self, key: str) -> bool:
        """Return whether the job is done or failed."""
        return (self.folder / f"{key}.json").exists()

    def forget_failures(self, lost: Collection[str] = ()) -> None:
        """Delete the records of failed jobs, so that they are done again, and those of `lost` ones."""
        listing = self.look()
        records = self.records(listing.over)
        for file in (*self.folder.glob(".*.records"), self.folder / ".names"):
            file.unlink(missing_ok=True)
        for key, record in records.items():
            if record["state"] == "failed" or key in lost:
                del self.known[key]
                numbers = range(1, listing.claims.get(key, 0) + 1) if key in listing.crashed else ()
                for name in (f"{key}.json", *(f"{key}.{number}.crashed" for number in numbers)):
                    (self.folder / name).unlink(missing_ok=True)

    def count_claims(self, key: str) -> int:
        """Count the claims of a job: the number of the newest one."""
        number = 0
        while (self.folder / f"{key}.{number + 1}").exists():
            number += 1
        return number

    def claim(self, key: str, number: int | None = None) -> "Claim | None":
        """Claim a job for this process; return `None` if it is over or someone else holds it.

        Args:
            number: of its newest claim when the folder was listed, if it was not over then; 0 if it had none.
        """
        if number is None:
            number = self.count_claims(key)
            if self.over(key):
                return None
        path = self.folder / f"{key}.{number + 1}"
        if path.exists() or (number and self.held(self.folder / f"{key}.{number}")):
            return None
        text = json.dumps({"host": HERE, "pid": os.getpid(), "lock": self.lock_name()})
        if not self.write(path.name, text, durable=False):
            return None
        claim = Claim(self, key, path)
        if number and self.over(key):  # its holder finished between our two looks
            claim.release()
            return None
        return claim

    def lock_name(self) -> str:
        """Return the name of the file that is locked while this process lives; lock it the first time."""
        if self.lock is None:
            name = f".{uuid.uuid4().hex}.alive"
            number = open_lock(self.folder / name)
            try_lock(number)  # on a disk without locks the lease decides
            self.lock = number, name
        return self.lock[1]

    def close(self) -> None:
        """Unlock and remove this process's lock: claims that could not be released are given up."""
        if self.lock is not None:
            names = [self.lock[1]]
            os.close(self.lock[0])
            if self.ear is not None:
                names.append(self.listen())
                os.close(self.ear)
            self.lock = self.ear = None
            for name in names:
                with suppress(OSError):  # the folder is gone
                    (self.folder / name).unlink()

    def held(self, path: Path) -> bool:
        """Return whether the holder of a claim is still at work.

        The lease is measured by two clocks, because either may jump. By the disk's clock, the claim is older than the
        lease, or lies in the future. By our own clock, it has not been touched for longer than a holder ever waits.
        """
        try:
            touched = path.stat().st_mtime
        except FileNotFoundError:  # another host has seen it, and this one will
            return True
        if not touched:  # released
            return False
        holder = self.holders.get(path) or read_record(path)
        self.holders[path] = holder
        name = str(holder.get("lock"))
        if holder.get("host") == HERE and Path(name).name == name:
            locked = is_locked(self.folder / name)
            if locked is not None:
                return locked
        known, since = self.watched.get(path, (None, 0.0))
        if known != touched:
            self.watched[path] = touched, (since := time.monotonic())
        unchanged = time.monotonic() - since
        if unchanged < self.lease / 4:  # whatever the disk's clock says, which costs three calls
            return True
        age = self.now() - touched
        return unchanged < self.lease if age < 0 else age < self.lease

    def now(self) -> float:
        """Return the time by the clock of the disk, which all hosts share."""
        clock = self.folder / f".{uuid.uuid4().hex}"
        clock.touch()
        try:
            return clock.stat().st_mtime
        finally:
            clock.unlink(missing_ok=True)

    def crashes(self, key: str) -> int:
        """Count the processes that died at a job."""
        numbers = range(1, self.count_claims(key) + 1)
        return sum((self.folder / f"{key}.{number}.crashed").exists() for number in numbers)

    def crashed(self, pid: int, keys: Iterable[str]) -> dict[str, int]:
        """Note which of these jobs a process of this machine held when it died; return how many have died at each."""
        found, listing = {}, self.look()
        for key in keys:
            if key not in listing.claims or key in listing.over:  # free or finished
                continue
            last = self.folder / f"{key}.{listing.claims[key]}"
            if not last.stat().st_mtime:  # released
                continue
            holder = read_record(last)
            if (holder.get("host"), holder.get("pid")) != (HERE, pid):
                continue
            (self.folder / f"{last.name}.crashed").touch()
            found[key] = self.crashes(key)
        return found

    def write(self, name: str, text: str, durable: bool = True) -> bool:
        """Put a whole file into the folder unless its name is taken; return whether it was free.

        Args:
            durable: whether to wait until the bytes are on the disk, so that they outlive a power failure.
        """
        part = self.folder / f".{uuid.uuid4().hex}"
        try:
            with part.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                if durable:
                    os.fsync(file.fileno())
            return publish(part, self.folder / name)
        finally:
            part.unlink(missing_ok=True)


class Claim:
    """A job that this process does, until it is finished or released."""

    def __init__(self, ledger: Ledger, key: str, path: Path) -> None:
        self.ledger, self.key, self.path = ledger, key, path

    def touch(self) -> bool:
        """Say that this process is still at work; return `False` if another has taken the job over."""
        os.utime(self.path)
        return not self.path.with_suffix(f".{int(self.path.suffix[1:]) + 1}").exists()

    def crash(self) -> None:
        """Note that the job can kill its process: it is tried again last, and alone."""
        self.path.with_name(f"{self.path.name}.crashed").touch()

    def finish(self, record: Record) -> None:
        """Record that the job is over."""
        text = json.dumps(record, indent=1) + "\n"
        if self.ledger.write(f"{self.key}.json", text):
            self.ledger.known[self.key] = json.loads(text)
        self.release()
        if self.ledger.tells:
            with suppress(OSError):  # its driver will list the folder
                append(self.ledger.folder / self.ledger.tells, f"{self.key}\n")

    def release(self) -> None:
        """Let another process go on with the job at once."""
        os.utime(self.path, (0, 0))
