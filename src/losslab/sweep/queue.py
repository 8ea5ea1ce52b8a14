"""Which job a process tries next, so that a thousand processes share 100,000 jobs without a server.

A process lists the folder now and then, or reads what another has listed. In between it tries jobs that nobody had
claimed by then, which takes one look at the disk each. A process that is alone takes them in order. Where others are
faster, it spreads out: after a job that was taken it picks from twice as many of the next ones, after one that was free
from half as many. The folder is listed again after as many tries as the listing took reads, and ten at least. So a job
takes as many looks among 100,000 as among 100, and all processes still go through the jobs together. A process without
a job looks twice a minute whether one is free again, and at once when its driver says so.
"""

import random
import time
from collections.abc import Sequence
from functools import cache

from losslab.stacking.group import group_key
from losslab.sweep.ledger import READ, Claim, Ledger
from losslab.sweep.plan import Job

Held = tuple[Job, Claim]

TRIES = 10  # claims that are tried at least before the folder is listed again
PAUSE = 30.0  # seconds after which a process without a job looks again


class Queue:
    """The jobs that a process may have to do, in order."""

    def __init__(self, ledger: Ledger, jobs: Sequence[Job]) -> None:
        self.ledger = ledger
        self.jobs: dict[str, Job] = {}
        self.free: list[str] = []  # that nobody has ever claimed
        self.held: list[str] = []  # claimed and not over: others are at them, or have died
        self.claims: dict[str, int] = {}  # of these: how many, when the folder was last listed
        self.crashed: set[str] = set()  # those at which processes died
        self.entries = 0  # how many files there were
        self.tries, self.ended = 0, 0  # claims tried and jobs found over since the folder was listed
        self.width = 0.0  # from so many of the next free jobs one is picked
        self.place = 0  # where in `free` the last one was
        self.checks = True  # whether to see if the holder of a claim is still at work
        self.died = False  # whether a process has, so that each claim is looked at
        self.due = 0.0  # when to look again, where nothing was free
        self.chance = random.Random()  # a run seeds the global one, alike in all processes
        self.salt = self.chance.randrange(2**32)  # each process begins with another one of those that are held
        self.group = cache(lambda key: group_key(self.jobs[key].setting))
        if jobs:
            self.add(jobs)

    def add(self, jobs: Sequence[Job]) -> None:
        """Add jobs to do; none if a process has died. Look at once whether one is free."""
        self.jobs |= {job.key: job for job in jobs}
        self.free, self.due = [], 0.0
        if not jobs:
            self.died = self.checks = True

    def list_jobs(self) -> None:
        """List the folder: which jobs are free, and which are held."""
        listing = self.ledger.glance()
        self.entries, self.crashed = listing.entries, listing.crashed
        left = [key for key in self.jobs if key not in listing.over]
        self.free = [key for key in left if key not in listing.claims]
        held = [key for key in left if key in listing.claims]
        self.width = self.width or max(1, listing.processes)
        first = (self.salt + int(time.monotonic() / (4 * PAUSE))) % max(1, len(held))  # a few looks at each in turn
        self.held = sorted(held[first:] + held[:first], key=self.crashed.__contains__)
        self.claims, self.tries, self.ended = {key: listing.claims[key] for key in held}, 0, 0

    def take(self, stack: int = 1) -> Held | None:
        """Claim a job, where a process takes `stack` free ones in a row; return `None` if none is free now.

        What a dead process left comes first, then what nobody has begun, and last that at which processes died.
        """
        if not self.free and time.monotonic() < self.due:
            return None
        if not self.free or (self.tries + self.ended) * READ > max(self.entries, TRIES * READ):
            self.list_jobs()
        taken = self.take_held(self.crashed) or self.take_free(stack)
        if taken is None:
            self.checks = True
            taken = self.take_held(set())
        if taken is None:
            self.due, self.died = time.monotonic() + PAUSE, False
        return taken

    def take_held(self, but: set[str]) -> Held | None:
        """Claim a job whose holder has died, but none of these.

        Stop at the first whose holder lives, unless a process is known to have died: then look at all of them.
        """
        while self.checks and (key := next((key for key in self.held if key not in but), None)):
            self.held.remove(key)
            if not self.ledger.held(self.ledger.folder / f"{key}.{self.claims[key]}"):
                if self.ledger.over(key):
                    self.ended += 1
                elif claim := self.ledger.claim(key, self.claims[key]):
                    return self.jobs[key], claim
            self.checks = self.died
        return None

    def take_free(self, stack: int) -> Held | None:
        """Claim a job that nobody has begun."""
        while True:
            while self.free:
                spread = min(self.width, len(self.free) / stack)
                self.place = min(int(self.chance.random() * spread) * stack, len(self.free) - 1)
                key = self.free[self.place]
                self.tries += 1
                claim = self.ledger.claim(key, 0)
                if claim is not None:
                    self.width = max(1, self.width / 2)
                    del self.free[self.place]
                    return self.jobs[key], claim
                self.width = min(2 * self.width, len(self.jobs))
                del self.free[: self.place + 1]  # others have been there
            if not self.tries:
                return None
            self.list_jobs()  # for those that all have passed over

    def take_like(self, first: Job, stack: int) -> list[Held]:
        """Claim further jobs that can train as one, of `stack` runs at most, with the first, which was taken last."""
        held = [key for key in self.held if key not in self.crashed] if first.key in self.claims else []
        room, found = stack - len(first.repeats), list[Held]()
        for keys in (held, self.free[0 if held else self.place :]):
            like = [key for key in keys if self.group(key) == self.group(first.key)]
            place, step = 0, 1
            while place < len(like) and len(self.jobs[like[place]].repeats) <= room:
                job = self.jobs[like[place]]
                self.tries += 1
                claim = self.ledger.claim(job.key, self.claims.get(job.key, 0))
                if claim is None:
                    place, step = place + step, 2 * step
                else:
                    place, step = place + 1, 1
                    room -= len(job.repeats)
                    found.append((job, claim))
        taken = {job.key for job, _ in found}
        self.free = [key for key in self.free if key not in taken]
        self.held = [key for key in self.held if key not in taken]
        return found
