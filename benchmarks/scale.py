"""What do 1,000 workers and 100,000 jobs cost? Looks at the disk for each job, and the seconds of `losslab compare`.

    python benchmarks/scale.py queue 1000 16         # jobs and workers of one sweep, as a discrete simulation
    python benchmarks/scale.py queue 1000 16 16      # the same with 16 drivers, as a job of an array for each has one
    python benchmarks/scale.py tables                # both for the tables in docs, stored again in results/
    python benchmarks/scale.py message               # the line with all jobs that a driver sends to each worker
    python benchmarks/scale.py run logger=false      # the calls and files of one run, with what else is typed for it
    python benchmarks/scale.py runs FOLDER 10000     # make a folder of so many finished runs
    python benchmarks/scale.py compare FOLDER        # seconds, memory and bytes of a comparison of that folder
    python benchmarks/scale.py watch FOLDER          # the same of one look of losslab watch

The simulation runs the real ledger and queue on real files, one step of one process after the other, in made-up time:
a job lasts 50 to 150 s and trains nothing. It counts calls that name a file: open, stat, link, unlink, rename, utime,
and one for each 500 names that a listing returns. On a shared disk each is a request to its server.
"""

import heapq
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from losslab.compare.gathered import Gatherer
from losslab.sweep import ledger as ledger_module
from losslab.sweep import queue as queue_module
from losslab.sweep.ledger import READ, SHARE, Claim, Ledger
from losslab.sweep.plan import Job, Plan
from losslab.sweep.queue import PAUSE, Queue

sys.path.append(str(Path(__file__).parent))
from tables import RESULTS, read_table, write_table

FILES = "config.yaml", "status.json", "summary.json"
EVENTS = {"open", "os.link", "os.remove", "os.rename", "os.utime", "os.mkdir", "os.rmdir"}
SHM = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
counts: Counter[str] = Counter()
counting: list[str] = []  # who is at work, while calls are counted
inside: list[str] = []  # the folder to which counting is limited, if it is


def note(event: str, args: tuple[Any, ...]) -> None:
    """Count a call that Python announces; one by a file's descriptor names no file."""
    if event in EVENTS:
        tally(event.removeprefix("os."), args[0])


def tally(what: str, path: Any, calls: int = 1) -> None:
    """Count a call for whom it is made."""
    if counting and not isinstance(path, int):
        if inside and not os.path.abspath(os.fsdecode(path)).startswith(inside[0]):  # noqa: PTH100 # calls nothing
            return
        counts[f"{counting[-1]} {what}"] += calls


@contextmanager
def counted() -> Iterator[None]:
    """Count calls that name a file, in `counts`, by who makes them: the last of `counting`."""
    stat, lstat, listdir = os.stat, os.lstat, os.listdir

    def counting_stat(path: Any, *args: Any, **how: Any) -> Any:
        tally("stat", path)
        return stat(path, *args, **how)

    def counting_lstat(path: Any, *args: Any, **how: Any) -> Any:
        tally("stat", path)
        return lstat(path, *args, **how)

    def counting_listdir(path: Any = ".") -> Any:
        found = listdir(path)
        tally("list", path, 1 + len(found) // READ)
        return found

    counts.clear()
    if note not in hooks:  # a hook stays for ever
        sys.addaudithook(note)
        hooks.append(note)
    os.stat, os.lstat, os.listdir = counting_stat, counting_lstat, counting_listdir
    try:
        yield
    finally:
        os.stat, os.lstat, os.listdir = stat, lstat, listdir


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
        self.left, self.began = self.drivers, time.process_time()
        turns: list[tuple[float, int, Iterator[float]]] = []
        several = [self.follow() for _ in range(self.drivers)] + [self.work(number) for number in range(self.workers)]
        for number, process in enumerate(several):
            heapq.heappush(turns, (self.chance.uniform(0, 1) + (number >= self.drivers), number, process))
        modules = ledger_module, queue_module
        before = [module.time for module in modules]
        clock = SimpleNamespace(monotonic=lambda: self.now + time.process_time() - self.began)
        for module in modules:
            module.time = clock  # type: ignore[attr-defined]
        try:
            while self.left:
                self.now, number, process = heapq.heappop(turns)
                self.began = time.process_time()
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
        queue = Queue(ledger, [])
        queue.jobs, queue.chance = self.jobs, random.Random(self.seed + number)
        while True:
            with by("worker"):
                held = queue.take()
            if held is None:
                yield PAUSE
                continue
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
            began = time.process_time()
            with by("driver"):
                if self.now >= due:
                    due = self.now + ledger.catch_up(self.jobs, own)
                ledger.hear()
            if len(ledger.known) == self.count:
                self.left -= 1
                return
            yield max(SHARE * (time.process_time() - began), 5.0)  # hearing calls no file by name


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
    with tempfile.TemporaryDirectory(dir=SHM) as name:
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


def count_run(*words: str) -> tuple[Counter[str], int]:
    """Count what a run calls by name in its own folders, and its files; W&B's own process is not counted."""
    from losslab.cli import train

    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        inside[:] = [os.path.realpath(name)]
        sys.argv = ["losslab", *words]
        with counted(), by("run"):
            train()
        os.chdir("/")
        inside.clear()
        return counts.copy(), sum(path.is_file() for path in Path(name).rglob("*"))


def show_run(*words: str) -> None:
    """Print what a run calls, and how many files it leaves."""
    found, files = count_run(*words)
    print(f"{found.total()} calls: {dict(found.most_common())}; {files} files")


def renew_tables() -> None:
    """Measure each row of two tables again, and store it."""
    made_by = f"python benchmarks/scale.py tables, {date.today()}"
    file = RESULTS / "scale-run.csv"
    heading, *_ = read_table(file)
    rows = []
    for name, words in {"`logger=false`": ["logger=false"], "W&B, offline": []}.items():
        with ProcessPoolExecutor(1, get_context("spawn")) as fresh:  # what a process does once is counted, too
            found, files = fresh.submit(count_run, *words).result()
        numbers = [found.total(), *(found[f"run {what}"] for what in ("stat", "open", "rename", "mkdir")), files]
        rows.append([name, *map(str, numbers)])
    write_table(file, made_by, heading, rows)
    file = RESULTS / "scale-queue.csv"
    heading, *asked = read_table(file)
    with tempfile.TemporaryDirectory(dir=SHM) as name:
        write_table(file, made_by, heading, [count_row(Path(name), *row[:3]) for row in asked])


def count_row(folder: Path, jobs: str, workers: str, drivers: str) -> list[str]:
    """Simulate a row of the table of queues."""
    count, *several = (int(text.replace(",", "")) for text in (jobs, workers, drivers))
    found = count_calls(folder, count, *several)[0]
    calls = [sum(n for key, n in found.items() if key.startswith(who)) / count for who in ("worker", "driver")]
    return [jobs, workers, drivers, *(f"{each:.0f}" for each in calls)]


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


def make_runs(name: str, count: int) -> None:
    """Make a sweep's folder of finished runs: 20 cells, 10 learning rates each, and as many seeds as it takes.

    One run is trained; the others have its files with other settings and made-up figures, and its rows and history as
    hard links. Their lines are gathered as a sweep does; a comparison without them needs `rm runs/.*.gathered`.
    """
    folder = Path(name) / "runs"
    chance, template = random.Random(0), train_template(Path(name) / "template")
    config, status, summary = ((template / file).read_text() for file in FILES)
    lines = dict(line.split(": ", 1) for line in config.splitlines() if ": " in line)
    known, figures = json.loads(status), json.loads(summary)
    linked = {file: template / file for file in ("history.csv", "rows.npz")}
    gatherer = Gatherer()
    cells = list(product(("mse", "mae", "huber", "log_cosh"), ("sgd", "adam", "adamw", "nadam", "rmsprop")))
    for number in range(count):
        loss, optimizer = cells[number % 20]
        rate, seed = 10 ** -(1 + number // 20 % 10 / 3), number // 200
        run = folder / f"diabetes-linear-{loss}-{optimizer}-s{seed}-{number:014x}"
        run.mkdir(parents=True)
        settings = {"loss": loss, "optimizer": optimizer, "optimizer.lr": f"{rate:.6g}", "seed": f"{seed}"}
        text = config
        for key, value in settings.items():
            text = text.replace(f"\n{key}: {lines[key]}\n", f"\n{key}: {value}\n")
        figure = 60 + number % 20 / 10 + abs(number // 20 % 10 - 5) + chance.gauss(0, 1)
        known |= {"id": f"{number:08x}", "overrides": [f"{key}={each}" for key, each in settings.items()]}
        figures |= {"val/rmse_best": figure + chance.gauss(0, 1), "test/rmse": figure}
        for file, content in zip(FILES, (text, json.dumps(known), json.dumps(figures)), strict=True):
            (run / file).write_text(content)
        for file, source in linked.items():
            try:
                os.link(source, run / file)
            except OSError:  # a file has 65,000 names at most
                linked[file] = Path(shutil.copy(source, run / file))
        gatherer.add(run)
    shutil.rmtree(template)


def train_template(folder: Path) -> Path:
    """Train the run that all others are made of."""
    words = ["data=diabetes", "model=linear", "trainer.max_epochs=3", "logger=false", "data.seed=0"]
    subprocess.run(
        [sys.executable, "-m", "losslab", *words, f"output_dir={folder}", "trainer.enable_progress_bar=false"],
        check=True,
        capture_output=True,
    )
    (run,) = folder.iterdir()
    run.rename(folder / "run")
    return folder / "run"


def show_command(*words: str) -> None:
    """Run a command of losslab to its end; print its time and memory, and the size of the page."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([sys.executable, "-m", "losslab", *words], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    pages = {page.parent.name: f"{page.stat().st_size / 1e6:.1f} MB" for page in Path(words[1]).glob("*/index.html")}
    print(
        f"losslab {words[0]}: {used:.1f} s of CPU, {time.monotonic() - began:.1f} s, {after.ru_maxrss / 1024:.0f} MB; "
        f"pages: {pages}"
    )


def main(words: list[str]) -> None:
    """Run a part."""
    parts: dict[str, Callable[..., None]] = {
        "queue": show_queue,
        "message": show_message,
        "tables": renew_tables,
        "run": show_run,
        "runs": make_runs,
        "compare": lambda folder: show_command("compare", folder),
        "watch": lambda folder: show_command("watch", folder),
    }
    if not words or words[0] not in parts:
        sys.exit(__doc__)
    parts[words[0]](*(int(word) if word.isdigit() else word for word in words[1:]))


if __name__ == "__main__":
    main(sys.argv[1:])
