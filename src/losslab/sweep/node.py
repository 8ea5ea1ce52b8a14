"""What a node of a cluster does for a driver: it keeps a worker process at work and hands in what that writes.

The driver's machine and the node need share nothing: jobs, data, run folders and checkpoints travel through the calls
of one object, a `NodeWorker`, which Ray calls an actor. Where the node sees the sweep's folder, on a shared disk, runs
are written there, and only jobs and their records travel. Nothing here imports Ray, so all of it also runs without.
"""

import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from losslab import __version__
from losslab.config.arguments import search_path
from losslab.config.compose import SEARCHPATH, own_folders
from losslab.files import make_folder
from losslab.locks import is_locked, open_lock, try_lock
from losslab.sweep import stopping
from losslab.sweep.archive import unpack
from losslab.sweep.ledger import Ledger, Record
from losslab.sweep.mirror import Files, Mirror
from losslab.sweep.plan import Job, Plan, Setting, to_overrides
from losslab.sweep.processes import Workers

MINUTE = 60.0  # seconds in which a new folder gets its lock
WEEK = 7 * 86400.0  # seconds after which data that nobody used are removed
RATE = 2e7  # bytes a second that these may take on the way


@dataclass(frozen=True)
class Setup:
    """What a worker is told first."""

    plan: dict[str, Any]  # the sweep's, as a dictionary
    folder: str  # the sweep's, as the driver names it
    cwd: str  # the driver's current folder
    token: str  # a file in the sweep's folder: whoever sees it shares a disk with the driver
    stack: int  # at most how many runs are trained as one
    threads: int  # for each run
    gpu: bool  # whether it may use the GPUs that it sees
    every: float  # seconds between two looks at the files of runs that go on
    far: Sequence[str] = ()  # paths that must be on the node


@dataclass(frozen=True)
class Opened:
    """What a worker answers first."""

    version: str  # of losslab on the node
    node: str  # Ray's name of the node
    host: str  # the machine's
    shared: bool  # whether it sees the sweep's folder
    missing: list[str]  # paths that are not there


@dataclass(frozen=True)
class Task:
    """A job for a worker."""

    job: dict[str, Any]  # what is to be done, as a dictionary
    files: Files  # of its runs, as far as another worker got with them
    trial: str = ""  # the number of its trial in Optuna's study, if the run itself has to report to that


@dataclass
class Report:
    """What a worker hands in."""

    records: dict[str, Record] = field(default_factory=dict)  # of the jobs that are over, by key
    # of the runs and logs that changed, by their paths below the sweep's folder
    files: Files = field(default_factory=dict)
    gone: list[str] = field(default_factory=list)  # files that are no longer there
    too_large: list[str] = field(default_factory=list)  # files that stay on the node


class NodeWorker:
    """A worker process on this node and what it needs: a folder, a ledger of its own, the data."""

    def open(self, setup: Setup, find_node: Callable[[], str]) -> Opened:
        """Look around, and make a folder of its own; `find_node` returns the engine's name of this node."""
        self.setup = setup
        home = Path(setup.cwd) / setup.folder
        self.shared = (home / setup.token).is_file()
        self.store = make_folder(Path(tempfile.gettempdir()) / f"losslab-{getattr(os, 'getuid', lambda: 'user')()}")
        self.clean_up()
        self.scratch = Path(tempfile.mkdtemp(prefix="node-", dir=self.store))
        self.lock = open_lock(self.scratch / ".lock")
        try_lock(self.lock)
        near = not Path(setup.folder).is_absolute() and ".." not in Path(setup.folder).parts
        self.cwd = Path(setup.cwd) if self.shared and near else self.scratch
        os.chdir(self.cwd)
        self.folder = home if self.shared and not near else Path(setup.folder) if near else Path("sweep")
        self.folder.mkdir(parents=True, exist_ok=True)
        os.environ["OMP_NUM_THREADS"] = str(setup.threads)
        if not setup.gpu:
            os.environ["CUDA_VISIBLE_DEVICES"] = ""
        self.mirror = Mirror(self.folder, ("runs", "logs"))
        missing = [path for path in setup.far if not Path(path).exists()]
        return Opened(__version__, find_node(), platform.node(), self.shared, missing)

    def clean_up(self) -> None:
        """Remove what workers left that were killed, and data that nobody has used for a week."""
        for place in [*self.store.glob("node-*"), *self.store.glob("data-*")]:
            with suppress(FileNotFoundError):  # another worker cleans up, too
                age = time.time() - place.stat().st_mtime
                left = age > MINUTE and is_locked(place / ".lock") is False
                if left if place.name.startswith("node-") else age > WEEK:
                    shutil.rmtree(place, ignore_errors=True)

    def prepare(self, digest: str, pieces: Sequence[Any], get: Callable[[Any], bytes]) -> Report:
        """Start to take jobs; before that, unpack the data into the current folder unless the disk is shared.

        Args:
            digest: of the archive; empty if nothing travels.
            pieces: what stands for each piece of it.
        """
        if digest and self.cwd == self.scratch:
            unpack(digest, map(get, pieces), self.store, self.cwd)
        sweep = self.folder / "sweep.json"
        if not sweep.is_file():
            sweep.write_text("{}")
        plan = Plan(**{**self.setup.plan, "fixed": self.move_folders(self.setup.plan["fixed"])})
        self.ledger = Ledger((self.scratch if self.shared else self.folder) / "jobs")
        self.workers = Workers(self.folder, plan, 1, self.setup.stack, self.ledger)
        self.left: set[str] = set()
        self.over: list[str] = []
        self.next = time.monotonic() + self.setup.every
        return Report()

    def move_folders(self, setting: Setting) -> Setting:
        """Return a setting whose folders of options in the driver's current folder are those that travelled here."""
        if SEARCHPATH not in setting:
            return setting
        folders = own_folders(to_overrides({SEARCHPATH: setting[SEARCHPATH]}))
        home, here = Path(self.setup.cwd), self.cwd.resolve()
        moved = [
            str(here / Path(each).relative_to(home)) if Path(each).is_relative_to(home) else each for each in folders
        ]
        return {**setting, SEARCHPATH: search_path(moved)[0].partition("=")[2]}

    def work(self, tasks: Sequence[Task], wait: float) -> Report:
        """Take more jobs, and return as soon as there is something to hand in.

        Raises:
            Refused: where worker processes end and nothing gets done.
        """
        self.forget_runs()  # the driver has them: else it would not ask for more
        self.take(tasks)
        deadline = time.monotonic() + wait
        while True:
            self.workers.advance(len(self.left))
            records, now = self.ledger.records(self.left), time.monotonic()
            if records or now >= min(self.next, deadline):
                return self.report(records, now >= self.next)

    def take(self, tasks: Sequence[Task]) -> None:
        """Take jobs, with what other workers have done of them."""
        for task in tasks:
            key = task.job["key"]
            for run in self.find_runs(key) if task.files else ():
                self.mirror.forget(run)
            self.mirror.put(task.files)
            if task.trial:
                self.ledger.write(f"{key}.trial", task.trial)
            self.left.add(key)
        if tasks:
            jobs = [Job(**{**task.job, "setting": self.move_folders(task.job["setting"])}) for task in tasks]
            self.workers.jobs = {key: job for key, job in self.workers.jobs.items() if key in self.left}
            self.workers.add(jobs)

    def report(self, records: dict[str, Record], due: bool) -> Report:
        """Report jobs that are over, and the files that changed if a job is over or it is time to look."""
        self.left -= records.keys()
        self.over = [*records]
        if self.shared or not (records or due):
            return Report(records)
        files, gone = self.mirror.read_changes()
        self.next = time.monotonic() + max(self.setup.every, sum(map(len, files.values())) / RATE)
        large = sorted(self.mirror.too_large)
        self.mirror.too_large.clear()
        return Report(records, files, gone, large)

    def find_runs(self, key: str) -> list[Path]:
        """List the folders of a job's runs."""
        return list((self.folder / "runs").glob(f"*-{key[:6]}"))

    def forget_runs(self) -> None:
        """Remove the runs that were handed in, if this folder is ours."""
        for key in self.over if not self.shared else ():
            for run in self.find_runs(key):
                self.mirror.forget(run)
        self.over = []

    def close(self) -> None:
        """End the worker process and remove what it leaves here."""
        with suppress(AttributeError):  # it was never ready
            stopping.stop_workers()
        os.chdir(self.store)
        os.close(self.lock)
        shutil.rmtree(self.scratch, ignore_errors=True)
