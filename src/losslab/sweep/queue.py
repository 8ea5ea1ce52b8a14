"""Which job a process tries next, so that a thousand processes share 100,000 jobs without a server.

A process lists the folder now and then. In between it tries jobs that nobody had claimed by then, which takes one look
at the disk each. A process that is alone takes them in order. Where others are faster, it spreads out: after a job that
was taken it picks from twice as many of the next ones, after one that was free from half as many. The folder is listed
again after as many tries as the listing took reads. So a job takes as many looks among 100,000 as among 100, and all
processes still go through the jobs together.
"""

import random
import time
from collections import deque
from collections.abc import Sequence
from functools import cache

from losslab.stacking.group import group_key
from losslab.sweep.ledger import Claim, Ledger, Listing
from losslab.sweep.plan import Job

Held = tuple[Job, Claim]

READ = 500  # names that one read of a folder returns, about
CHECKS = 8  # claims in a row that are looked at, whether their holders are still at work
SHARE = 100  # a process without a job lists the folder for a hundredth of its time at most


class Queue:
    """The jobs that a process may have to do.

    Args:
        ledger: of the jobs.
        jobs: all that are to be done, in order.
    """

    def __init__(self, ledger: Ledger, jobs: Sequence[Job]) -> None:
        self.ledger = ledger
        self.jobs: dict[str, Job] = {}
        self.listing = Listing()
        self.free: list[str] = []  # that nobody has ever claimed
        self.held: deque[str] = deque()  # claimed and not over: others are at them, or have died
        self.tries = 0  # since the folder was listed
        self.width = 1.0  # from so many of the next free jobs one is picked
        self.place = 0  # where in `free` the last one was
        self.checks = CHECKS
        self.due = 0.0
        self.chance = random.Random()  # a run seeds the global one, alike in all processes
        self.group = cache(lambda key: group_key(self.jobs[key].setting))
        self.add(jobs)

    def add(self, jobs: Sequence[Job]) -> None:
        """Add jobs to do."""
        self.jobs |= {job.key: job for job in jobs}
        self.free, self.due = [], 0.0

    def list_jobs(self) -> None:
        """List the folder: which jobs are free, and which are held."""
        self.listing = listing = self.ledger.look()
        left = [key for key in self.jobs if key not in listing.over]
        self.free = [key for key in left if key not in listing.claims]
        held = self.ledger.crashed_last([key for key in left if key in listing.claims], listing)
        self.held, self.tries = deque(held), 0
        if len(held) > CHECKS:
            self.held.rotate(self.chance.randrange(len(held)))  # so that processes do not all look at the same ones
        self.due = time.monotonic() + SHARE * listing.seconds

    def take(self, stack: int = 1) -> Held | None:
        """Claim a job; return `None` if none is free now.

        What a dead process left comes first, then what nobody has begun, and last that at which processes died.

        Args:
            stack: how many free jobs in a row a process takes.
        """
        if self.tries * READ > self.listing.entries or (not self.free and time.monotonic() >= self.due):
            self.list_jobs()
        taken = self.take_held(self.listing.crashed) or self.take_free(stack)
        if taken is None:
            self.checks = CHECKS
            taken = self.take_held(set())
            if taken is None:
                self.checks = 0
        return taken

    def take_held(self, but: set[str]) -> Held | None:
        """Claim a job whose holder has died, except these; give up after a few whose holders are at work."""
        for _ in range(len(self.held)):
            if not self.checks:
                break
            key = self.held.popleft()
            if key not in but:
                self.checks -= 1
                claim = self.ledger.claim(key)
                if claim is not None:
                    self.checks = CHECKS
                    return self.jobs[key], claim
            self.held.append(key)
        return None

    def take_free(self, stack: int) -> Held | None:
        """Claim a job that nobody has begun."""
        while True:
            while self.free:
                spread = min(self.width, len(self.free) / stack)
                self.place = min(int(self.chance.random() * spread) * stack, len(self.free) - 1)
                key = self.free[self.place]
                self.tries += 1
                claim = self.ledger.claim(key, free=True)
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
        """Claim further jobs that can train as one with the first, which this process has claimed.

        Args:
            first: the job that was taken last.
            stack: at most how many runs are trained as one.
        """
        crashed = self.listing.crashed
        held = [key for key in self.held if key not in crashed] if first.key in self.listing.claims else []
        room, found = stack - len(first.repeats), list[Held]()
        for keys in (held, self.free[0 if held else self.place :]):
            like = [key for key in keys if self.group(key) == self.group(first.key)]
            place, step = 0, 1
            while place < len(like) and len(self.jobs[like[place]].repeats) <= room:
                job = self.jobs[like[place]]
                self.tries += 1
                claim = self.ledger.claim(job.key, free=job.key not in self.listing.claims)
                if claim is None:
                    place, step = place + step, 2 * step
                else:
                    place, step = place + 1, 1
                    room -= len(job.repeats)
                    found.append((job, claim))
        taken = {job.key for job, _ in found}
        self.free = [key for key in self.free if key not in taken]
        self.held = deque(key for key in self.held if key not in taken)
        return found
