"""Does a sweep that is disturbed in every way end as one that is left in peace?

    python benchmarks/faults.py moments 488     # a signal to the driver or a worker at each moment from 0 to 6 s
    python benchmarks/faults.py kills 200       # kill -9 of driver, workers or both at random moments, the end included
    python benchmarks/faults.py drivers 20      # two drivers and four workers on one folder, killed in turn
    python benchmarks/faults.py clock 6         # two hosts, of which one dies, under a clock that jumps by hours
    python benchmarks/faults.py disk 6          # the disk fills up and is emptied again
    python benchmarks/faults.py folder 6        # the sweep's folder vanishes and returns
    python benchmarks/faults.py flat 1000       # so many runs in one process: memory, files and threads
    python benchmarks/faults.py resume 50       # kill -9 of runs, alone and stacked, of each task

A second number is the seed of what is random, and a third, of moments, how many of them to skip. In the end every job
must have one result and one finished run, each number of each run must be the undisturbed sweep's, and five seconds
after a driver is gone none of its processes may be left.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import product
from pathlib import Path

from trials import Driver, Table, goes_on, none_failed, records, send, sweep_file, undisturbed

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
LEASE = 6.0  # seconds, where hosts are played


class Sweeps:
    """One sweep after the other of the same file, each gone on with until it is over, and then compared.

    Args:
        folder: for all of them.
        jobs: of each.
    """

    def __init__(self, folder: Path, jobs: int, *words: str) -> None:
        self.folder, self.jobs, self.words = folder, jobs, words or ("n=2",)
        self.file = sweep_file(folder, jobs)
        began = time.monotonic()
        self.peace: Table = undisturbed(self.file, folder / "peace", *self.words)
        self.seconds = time.monotonic() - began
        self.number = self.over = 0
        self.slowest = 0.0
        print(f"undisturbed: {jobs} jobs in {self.seconds:.0f} s", flush=True)

    @property
    def output(self) -> Path:
        """Of the sweep that is under way."""
        return self.folder / f"war{self.number}"

    def driver(self) -> Driver:
        """Begin the sweep that is under way, or go on with it."""
        return Driver(self.file, self.output, *self.words)

    def gone(self, driver: Driver) -> None:
        """After a driver has been stopped: nothing is left of it, nothing has failed."""
        seconds = driver.gone()
        self.slowest = max(self.slowest, seconds)
        driver.ended()
        assert seconds < max(5, self.seconds / 5), f"its processes were gone after {seconds:.1f} s"
        none_failed(self.output)
        if len(records(self.output)) == self.jobs:
            self.end()

    def end(self) -> None:
        """End the sweep that is under way, compare it, and turn to the next."""
        goes_on(self.file, self.output, self.peace, *self.words)
        shutil.rmtree(self.output)
        self.number += 1
        self.over += 1

    def report(self, what: str) -> None:
        """End the last sweep, and say what came of all."""
        self.end()
        print(
            f"{what}: {self.over} sweeps of {self.jobs} jobs, one result for each job, none failed, all numbers equal; "
            f"all processes gone after {self.slowest:.1f} s at most",
            flush=True,
        )


def moments(
    folder: Path,
    chance: random.Random,
    count: int = 488,
    skip: int = 0,
    jobs: int = 48,
    words: tuple[str, ...] = ("n=2",),
) -> None:
    """A signal to the driver or to one of its workers at each moment from 0 to 6 s in steps of 0.1 s."""
    trials = list(product(range(61), ("driver", "worker"), SIGNALS))
    chance.shuffle(trials)
    sweeps, nobody = Sweeps(folder, jobs, *words), 0
    for number, (tenths, whom, by) in enumerate(trials[skip:count]):
        driver = sweeps.driver()
        try:
            if driver.at(tenths / 10) and whom == "driver":
                send([driver.process.pid], by)
            elif whom == "worker":
                workers = driver.workers()
                nobody += not workers
                send(workers and [chance.choice(workers)], by)
                driver.at(tenths / 10 + chance.uniform(0, 3))
                send([driver.process.pid], signal.SIGTERM)
            sweeps.gone(driver)
        except AssertionError as error:
            print(f"{tenths / 10} s, {whom}, {by.name}: {error}", flush=True)
            raise
        if number % 50 == 49:
            print(f"{number + 1} moments: {sweeps.over} sweeps, {sweeps.slowest:.1f} s at most", flush=True)
    sweeps.report(f"{len(trials[skip:count])} moments ({nobody} before there was a worker)")


def kills(folder: Path, chance: random.Random, count: int = 200) -> None:
    """kill -9 of the driver, a worker or all at random moments of a sweep's life, its imports and its end included."""
    sweeps = Sweeps(folder, 12)
    for number in range(count):
        driver = sweeps.driver()
        if driver.at(chance.uniform(0, sweeps.seconds + 1)):
            whom = chance.choice(("worker", "driver", "all"))
            workers = driver.workers()
            send(workers and [chance.choice(workers)] if whom == "worker" else driver.living() if whom == "all" else [])
            if whom == "worker":
                driver.at(time.monotonic() - driver.began + chance.uniform(0, 3))
            send([driver.process.pid])
        sweeps.gone(driver)
        if number % 50 == 49:
            print(f"{number + 1} kills: {sweeps.over} sweeps, {sweeps.slowest:.1f} s at most", flush=True)
    sweeps.report(f"{count} kills")


def drivers(folder: Path, chance: random.Random, count: int = 20) -> None:
    """Two drivers with two workers each on one folder; now and then one of them or a worker is killed."""
    sweeps = Sweeps(folder, 60)
    for _ in range(count):
        several = [sweeps.driver(), sweeps.driver()]
        several[0].at(chance.uniform(2, sweeps.seconds + 2))
        workers = [pid for driver in several for pid in driver.workers()]
        send(workers and [chance.choice(workers)])
        time.sleep(chance.uniform(0, 2))
        send(chance.choice(([several[0].process.pid], several[1].living())))
        time.sleep(chance.uniform(0, 3))
        for driver in several:
            send([driver.process.pid], signal.SIGINT)
        for driver in several:
            driver.gone()
        for driver in several:
            sweeps.gone(driver)
    sweeps.report(f"two drivers, {count} times killed")


def host(folder: Path, name: str) -> dict[str, str]:
    """The environment of processes that take themselves to be on a host of that name, with a short lease."""
    path = folder / "hosts"
    path.mkdir(exist_ok=True)
    (path / "sitecustomize.py").write_text(
        "import os, platform\n"
        "platform.node = lambda: os.environ['PLAYED_HOST']\n"
        "from losslab.sweep.ledger import Ledger\n"
        f"Ledger.__init__.__defaults__ = ({LEASE},)\n"
    )
    return {"PYTHONPATH": os.pathsep.join((str(path), os.environ.get("PYTHONPATH", ""))), "PLAYED_HOST": name}


def jump(output: Path, chance: random.Random, over: threading.Event) -> None:
    """Have the clock of the disk jump: each claim that its holder touches was touched an hour ago, or will be in one.

    A claim that nobody touches any more, as its host has died, keeps its time, as on a disk whose clock jumps.
    """
    jumped: dict[Path, float] = {}
    while not over.wait(chance.uniform(0.2, 2)):
        by = chance.choice((-3600, 3600))
        for claim in output.glob("sweeps/*/jobs/*.[0-9]"):
            with suppress(OSError):
                if claim.stat().st_mtime not in (0.0, jumped.get(claim)):
                    os.utime(claim, (time.time() + by,) * 2)
                    jumped[claim] = claim.stat().st_mtime


def clock(folder: Path, chance: random.Random, count: int = 6) -> None:
    """Two hosts share a folder under a clock that jumps; one is killed, and its leases expire."""
    sweeps = Sweeps(folder, 60)
    for _ in range(count):
        hosts = [Driver(sweeps.file, sweeps.output, "n=1", env=host(folder, name)) for name in ("one", "two")]
        over = threading.Event()
        jumps = threading.Thread(target=jump, args=(sweeps.output, chance, over))
        jumps.start()
        hosts[0].at(chance.uniform(4, sweeps.seconds))
        send(hosts[0].living())
        said = hosts[1].ended()
        over.set()
        jumps.join()
        assert hosts[1].process.returncode == 0, said
        for each in hosts:
            each.gone()
        sweeps.end()
    print(f"a clock that jumps and a host that dies, {count} times: the other host ended the sweep, all numbers equal")


def stopped_in_a_sentence(driver: Driver, why: str) -> None:
    """The driver ends by itself, with one sentence that says why and how to go on."""
    said = driver.ended()
    last = said.strip().splitlines()[-1]
    assert driver.process.returncode == 1, said
    assert "Traceback" not in said, said
    assert last.startswith("losslab: "), said
    assert why in last, said
    assert "the same command then goes on" in last, said


def disk(folder: Path, chance: random.Random, count: int = 6) -> None:
    """The disk fills up while a sweep runs, and is emptied when that has stopped."""
    small = folder / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(small)], check=True)
    try:
        sweeps = Sweeps(folder, 60)
        for number in range(count):
            output = small / f"{number}"
            driver = Driver(sweeps.file, output, "n=2")
            lives = driver.at(chance.uniform(1, sweeps.seconds))
            with suppress(OSError), (small / "filler").open("wb") as filler:
                while True:
                    filler.write(b"\0" * 4096)
                    filler.flush()
            if lives and len(records(output)) < sweeps.jobs:
                stopped_in_a_sentence(driver, "No space left on device: free some space there")
            driver.gone()
            none_failed(output)
            (small / "filler").unlink()
            goes_on(sweeps.file, output, sweeps.peace)
            shutil.rmtree(output)
    finally:
        subprocess.run(["umount", "-l", str(small)], check=False)
    print(f"a full disk, {count} times: one sentence, none failed; emptied: all numbers equal")


def vanishing(folder: Path, chance: random.Random, count: int = 6) -> None:
    """The sweep's folder is moved away while it runs, and put back when that has stopped."""
    sweeps, away = Sweeps(folder, 60), folder / "away"
    for _ in range(count):
        driver = sweeps.driver()
        lives, mine = driver.at(chance.uniform(1.5, sweeps.seconds)), sweeps.output / "sweeps" / "faults"
        while lives and not (mine / "sweep.json").is_file():  # the driver is still starting
            lives = driver.at(time.monotonic() - driver.began + 0.2)
        mine.rename(away)
        if lives:
            stopped_in_a_sentence(driver, "No such file or directory: put it back")
        driver.gone()
        shutil.rmtree(mine, ignore_errors=True)
        away.rename(mine)
        none_failed(sweeps.output)
        sweeps.end()
    print(f"a folder that vanishes, {count} times: one sentence, none failed; put back: all numbers equal")


def main(words: list[str]) -> None:
    """Run a scenario."""
    from endurance import flat, resume

    scenarios: dict[str, Callable[..., None]] = {
        "moments": moments,
        "kills": kills,
        "drivers": drivers,
        "clock": clock,
        "disk": disk,
        "folder": vanishing,
        "flat": flat,
        "resume": resume,
    }
    if not words or words[0] not in scenarios:
        sys.exit(__doc__)
    numbers = [int(word) for word in words[1:]]
    seed = numbers.pop(1) if len(numbers) > 1 else 0
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        scenarios[words[0]](Path(name), random.Random(seed), *numbers)
        print(f"{words[0]}: {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main(sys.argv[1:])
