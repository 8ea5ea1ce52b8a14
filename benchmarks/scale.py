"""What do 1,000 workers and 100,000 jobs cost? Looks at the disk for each job, and the seconds of `losslab compare`.

    python benchmarks/scale.py queue 1000 16         # jobs and workers of one sweep, as a discrete simulation
    python benchmarks/scale.py queue 1000 16 16      # the same with 16 drivers, as a job of an array for each has one
    python benchmarks/scale.py message               # the line with all jobs that a driver sends to each worker
    python benchmarks/scale.py runs FOLDER 10000     # make a folder of so many finished runs
    python benchmarks/scale.py compare FOLDER        # seconds, memory and bytes of a comparison of that folder
    python benchmarks/scale.py watch FOLDER          # the same of one look of losslab watch

The simulation runs the real ledger and queue on real files, one step of one process after the other, in made-up time:
a job lasts 50 to 150 s and trains nothing. It counts calls that name a file: open, stat, link, unlink, rename, utime,
and one for each 500 names that a listing returns. On a shared disk each is a request to its server.
"""

import heapq
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from losslab.sweep import ledger as ledger_module
from losslab.sweep import queue as queue_module
from losslab.sweep.ledger import READ, SHARE, Claim, Ledger
from losslab.sweep.plan import Job, Plan
from losslab.sweep.queue import Queue
from losslab.sweep.worker import PAUSES

EVENTS = {"open", "os.link", "os.remove", "os.rename", "os.utime", "os.mkdir"}
counts: Counter[str] = Counter()
counting: list[str] = []  # who is at work, while calls are counted


def note(event: str, args: tuple[Any, ...]) -> None:
    """Count a call that Python announces; one by a file's descriptor names no file."""
    if counting and event in EVENTS and not isinstance(args[0], int):
        counts[f"{counting[-1]} {event.removeprefix('os.')}"] += 1


@contextmanager
def counted() -> Iterator[None]:
    """Count calls that name a file, in `counts`, by who makes them: the last of `counting`."""
    stat, listdir = os.stat, os.listdir

    def counting_stat(*args: Any, **how: Any) -> Any:
        if counting:
            counts[f"{counting[-1]} stat"] += 1
        return stat(*args, **how)

    def counting_listdir(*args: Any) -> Any:
        found = listdir(*args)
        if counting:
            counts[f"{counting[-1]} list"] += 1 + len(found) // READ
        return found

    counts.clear()
    if note not in hooks:  # a hook stays for ever
        sys.addaudithook(note)
        hooks.append(note)
    os.stat, os.listdir = counting_stat, counting_listdir  # type: ignore[assignment]
    try:
        yield
    finally:
        os.stat, os.listdir = stat, listdir


hooks: list[Callable[[str, tuple[Any, ...]], None]] = []


@dataclass
class Simulation:
    """A sweep of jobs that do nothing, by processes that take turns in made-up time.

    Args:
        folder: of the jobs.
        count: of the jobs.
        workers: how many processes do them.
        drivers: how many follow them.
        seed: of what is random.
    """

    folder: Path
    count: int
    workers: int
    drivers: int = 1
    seed: int = 0
    now: float = 0.0
    done: int = 0  # jobs
    left: int = 0  # drivers that wait
    order: list[int] = field(default_factory=list)
    told: list[str] = field(default_factory=list)  # files of the drivers

    def run(self) -> None:
        """Do all jobs, until the last driver knows that all are over."""
        self.chance = random.Random(self.seed)
        jobs = [Job(f"{number:012x}", {}, {"seed": number}, [{"seed": number}]) for number in range(self.count)]
        self.jobs = {job.key: job for job in jobs}
        self.left, self.began = self.drivers, time.perf_counter()
        turns: list[tuple[float, int, Iterator[float]]] = []
        several = [self.follow() for _ in range(self.drivers)] + [self.work(number) for number in range(self.workers)]
        for number, process in enumerate(several):
            heapq.heappush(turns, (self.chance.uniform(0, 1) + (number >= self.drivers), number, process))
        modules = ledger_module, queue_module
        before = [module.time for module in modules]
        clock = SimpleNamespace(monotonic=lambda: self.now + time.perf_counter() - self.began)
        for module in modules:
            module.time = clock  # type: ignore[attr-defined]
        try:
            while self.left:
                self.now, number, process = heapq.heappop(turns)
                self.began = time.perf_counter()
                with suppress(StopIteration):
                    wait = next(process)
                    heapq.heappush(turns, (self.now + wait, number, process))
        finally:
            for module, real in zip(modules, before, strict=True):
                module.time = real  # type: ignore[attr-defined]

    def work(self, number: int) -> Iterator[float]:
        """Do as a worker does; yield the seconds until it does more."""
        ledger = Ledger(self.folder)
        ledger.tells = self.told[number % self.drivers]
        queue, pause = Queue(ledger, []), PAUSES[0]
        queue.jobs, queue.chance = self.jobs, random.Random(self.seed + number)
        while True:
            with by("worker"):
                held = queue.take()
            if held is None:
                yield pause
                pause = min(2 * pause, PAUSES[1])
                continue
            pause = PAUSES[0]
            self.order.append(held[0].repeats[0]["seed"])
            yield self.chance.uniform(50, 150)
            self.finish(*held)

    def finish(self, job: Job, claim: Claim) -> None:
        """End a job."""
        with by("worker"):
            claim.finish({"state": "done", "value": 1.0, "setting": job.setting, "runs": [{"value": 1.0}]})
        self.done += 1

    def follow(self) -> Iterator[float]:
        """Do as a driver does; yield the seconds until it looks again."""
        ledger, due, own = Ledger(self.folder), 0.0, self.workers // self.drivers
        self.told.append(ledger.listen())
        while True:
            began = time.perf_counter()
            with by("driver"):
                if self.now >= due:
                    due = self.now + ledger.catch_up(self.jobs, own)
                ledger.hear()
            if len(ledger.known) == self.count:
                self.left -= 1
                return
            yield max(SHARE * (time.perf_counter() - began), 5.0)  # hearing calls no file by name


@contextmanager
def by(who: str) -> Iterator[None]:
    """Count calls as those of a worker or a driver."""
    counting.append(who)
    try:
        yield
    finally:
        counting.pop()


def count_calls(folder: Path, jobs: int, workers: int, drivers: int = 1, seed: int = 0) -> tuple[Counter[str], float]:
    """Simulate a sweep; return the calls by who makes them, and the made-up seconds that it took."""
    simulation = Simulation(folder / f"{jobs}-{workers}-{drivers}", jobs, workers, drivers, seed)
    with counted():
        simulation.run()
    assert simulation.done == jobs, "each job was done once"
    return counts.copy(), simulation.now


def show_queue(jobs: int, workers: int, drivers: int = 1) -> None:
    """Print what a simulation counts for each job."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() else None) as name:
        began = time.process_time()
        found, seconds = count_calls(Path(name), jobs, workers, drivers)
        for who in ("worker", "driver"):
            each = {key.split()[1]: n / jobs for key, n in sorted(found.items()) if key.startswith(who)}
            print(f"{who}s: {sum(each.values()):.1f} calls a job ", {key: round(n, 2) for key, n in each.items()})
        polls = sum(n for key, n in found.items() if key.startswith("driver")) / drivers / seconds
        print(
            f"{jobs} jobs, {workers} workers, {drivers} drivers: {found.total() / jobs:.1f} calls a job; each driver "
            f"{polls:.2f} calls a second; {seconds:.0f} made-up seconds, {time.process_time() - began:.0f} s of CPU"
        )


def show_message() -> None:
    """Print how large the line with all jobs is."""
    from losslab.sweep.processes import Workers

    for count in (100, 1000, 10_000, 100_000):
        losses, optimizers = ([f"{kind}{number}" for number in range(10)] for kind in ("loss", "optimizer"))
        fixed = {"data": "diabetes", "model": "linear", "trainer.max_epochs": 2, "data.batch_size": 64}
        grid = {"loss": losses, "optimizer": optimizers}
        plan = Plan("scale", "grid", fixed, grid, {}, {"seed": list(range(count // 100))})
        with tempfile.TemporaryDirectory() as name:
            began = time.process_time()
            jobs = plan.jobs()
            planned = time.process_time()
            line = Workers(Path(name), plan, 1).encode(jobs)
            print(
                f"{count:>7,} jobs: {len(line) / 1e6:.2f} MB, planned in {planned - began:.2f} s, written in "
                f"{time.process_time() - planned:.2f} s of CPU",
                flush=True,
            )


def main(words: list[str]) -> None:
    """Run a part."""
    parts: dict[str, Callable[..., None]] = {"queue": show_queue, "message": show_message}
    if not words or words[0] not in parts:
        sys.exit(__doc__)
    parts[words[0]](*(int(word) if word.isdigit() else word for word in words[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
