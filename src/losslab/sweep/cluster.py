"""engine=ray: the jobs of a driver, done by workers on the nodes of a Ray cluster.

The driver alone keeps the ledger, and claims a job when it sends it to a node. What a node writes comes back every few
seconds (`node.py`), so that a job whose worker or node is gone goes on elsewhere from its last checkpoint. If the
driver is killed, Ray ends its workers; started again, it sends out what is not over yet, with what has come back.
"""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from losslab import __version__
from losslab.config.compose import SEARCHPATH
from losslab.errors import Refused
from losslab.locks import open_lock, try_lock
from losslab.sweep.archive import Archive, find_paths, pack
from losslab.sweep.connect import Cluster, find_node, first_line
from losslab.sweep.faults import GO_ON, explain
from losslab.sweep.ledger import Claim, Ledger, Record
from losslab.sweep.mirror import put_files, read_files
from losslab.sweep.node import Opened, Report, Setup, Task
from losslab.sweep.plan import Job, Plan
from losslab.sweep.processes import CRASHES, PAUSE, describe_failure
from losslab.sweep.queue import Queue

if TYPE_CHECKING:
    from optuna.trial import Trial

EVERY = 10.0  # seconds between two looks at the files of runs that go on
WAIT = 5.0  # seconds after which a worker answers at the latest


@dataclass
class Assigned:
    """A job that a worker has."""

    job: Job  # as the driver knows it
    claim: Claim  # of it in the driver's ledger
    trial: "Trial | None" = None  # of Optuna's, if the driver has drawn its setting


@dataclass
class RemoteWorker:
    """A worker on a node, seen from the driver."""

    actor: Any  # its handle
    answer: Any  # what it was asked for, to be answered
    receive: Callable[["RemoteWorker", Any], None]  # what is done with the answer
    node: str = ""  # Ray's id of its node, once it has one
    host: str = ""  # the machine's name
    shared: bool = False  # whether it sees the sweep's folder
    jobs: dict[str, Assigned] = field(default_factory=dict)  # the jobs that it has, by key
    locks: dict[str, int] = field(default_factory=dict)  # of the run folders that its files are written to


class ClusterWorkers:
    """The workers of a driver on the nodes of a cluster; one that is lost is replaced, and its jobs go on elsewhere."""

    def __init__(self, folder: Path, plan: Plan, cluster: Cluster, stack: int) -> None:
        self.folder, self.plan, self.cluster, self.stack = folder, plan, cluster, stack
        self.count = cluster.count
        self.ledger = Ledger(folder / "jobs")
        self.queue = Queue(self.ledger, [])
        self.left = 0
        self.workers: list[RemoteWorker] = []
        self.near, self.far = find_paths(plan)
        self.archive: Archive | None = None
        self.in_vain = 0
        self.token = f".{uuid4().hex}.here"

    def describe(self) -> str:
        """Say how many runs are trained at a time, and with what."""
        kind = f"stack{'s' if self.count > 1 else ''} of up to {self.stack} runs " * (self.stack > 1)
        gpus = f" and {self.cluster.gpus:g} GPU" if self.cluster.gpus else ""
        cores = f"{self.cluster.cpus:g} core{'s' if self.cluster.cpus > 1 else ''}"
        return f"{self.count} {kind}at a time on a Ray cluster, each with {cores}{gpus}"

    @property
    def jobs(self) -> dict[str, Job]:
        """All jobs so far, by key."""
        return self.queue.jobs

    def add(self, jobs: Sequence[Job]) -> None:
        """Take more jobs."""
        self.queue.add(jobs)

    def advance(self, left: int) -> None:
        """Start as many workers as there is work for, send jobs, and take in what the workers hand in; wait a moment.

        Raises:
            Refused: where workers end and nothing gets done, and where the cluster is gone.
        """
        self.left = left
        while len(self.workers) < min(self.count, left):
            self.workers.append(self.start())
        for worker in self.workers:
            if worker.answer is None and not self.send(worker):
                break  # no job is free
        waiting = {worker.answer: worker for worker in self.workers if worker.answer is not None}
        if not waiting:  # others are at the jobs
            time.sleep(PAUSE)
            return
        try:
            if self.cluster.ray.wait([*waiting], timeout=PAUSE)[0]:
                for answer in self.cluster.ray.wait([*waiting], num_returns=len(waiting), timeout=0)[0]:
                    self.take_in(waiting[answer])
        except OSError as error:
            if error.errno is not None:  # of this machine
                raise
            raise Refused(f"the Ray cluster no longer answers ({first_line(error)}): start it again; {GO_ON}") from None

    def start(self) -> RemoteWorker:
        """Start a worker."""
        (self.folder / self.token).touch()
        threads, gpu = max(1, int(self.cluster.cpus)), bool(self.cluster.gpus)
        place = str(self.folder), str(Path.cwd())
        setup = Setup(asdict(self.plan), *place, self.token, self.stack, threads, gpu, EVERY, self.far)
        actor = self.cluster.start()
        return RemoteWorker(actor, actor.open.remote(setup, find_node), self.opened)

    def take_in(self, worker: RemoteWorker) -> None:
        """Take in a worker's answer, or notice that it is lost."""
        answer, worker.answer = worker.answer, None
        try:
            found = self.cluster.ray.get(answer)
        except self.cluster.ray.exceptions.RayActorError as error:
            died = bool(worker.node) and self.cluster.has_node(worker.node)
            self.lose(worker, first_line(error), died)
        except self.cluster.ray.exceptions.RayTaskError as error:
            if isinstance(fault := error.cause, OSError):
                self.lose(worker, explain(Path(fault.filename or self.folder), fault))
            elif isinstance(fault, Refused):
                self.lose(worker, str(fault))
            else:
                raise  # a bug
        else:
            worker.receive(worker, found)

    def opened(self, worker: RemoteWorker, found: Opened) -> None:
        """Send the data to a worker that has started.

        Raises:
            Refused: where the node lacks what runs need.
        """
        worker.node, worker.host, worker.shared = found.node, found.host, found.shared
        if found.version != __version__:
            raise Refused(
                f"node {found.host} has losslab {found.version}, and this is {__version__}: install the same on all "
                "nodes"
            )
        if found.missing:
            raise Refused(
                f"{found.missing[0]} is not on node {found.host}: put it there, on a disk that all nodes share, or "
                "into the current folder and type its path from there, and it is sent to every node"
            )
        if self.plan.early and not found.shared:
            raise Refused(
                f"early_terminate compares runs while they train, and node {found.host} does not see {self.folder}: "
                "put output_dir on a disk that all nodes share, or leave early_terminate out"
            )
        if self.archive is None and self.near and not found.shared:
            self.archive = pack(self.near, self.cluster.ray.put)
        digest, pieces = (self.archive.digest, self.archive.pieces) if self.archive else ("", [])
        worker.receive = self.reported
        worker.answer = worker.actor.prepare.remote(digest, pieces, self.cluster.ray.get)

    def send(self, worker: RemoteWorker) -> bool:
        """Send a worker its next jobs, and ask for what it has to hand in; return whether it has any."""
        tasks = [self.make_task(assigned, worker) for assigned in self.pick_jobs(worker)]
        if worker.jobs:
            worker.answer = worker.actor.work.remote(tasks, WAIT)
        return bool(worker.jobs)

    def pick_jobs(self, worker: RemoteWorker) -> Iterator[Assigned]:
        """Claim the next jobs for a worker: a stack of them, and another to go on with while many are left.

        A job at which a worker died comes last and alone.
        """
        bayes = self.plan.method == "bayes"  # which draws by finished trials
        many = not bayes and self.left > 3 * self.stack * len(self.workers)
        while len(worker.jobs) <= (self.stack if many else 0) and (first := self.queue.take(self.stack)) is not None:
            alone = bayes or self.stack == 1 or self.ledger.crashes(first[0].key)
            for job, claim in [first, *([] if alone else self.queue.take_like(first[0], self.stack))]:
                worker.jobs[job.key] = Assigned(job, claim)
                yield worker.jobs[job.key]

    def make_task(self, assigned: Assigned, worker: RemoteWorker) -> Task:
        """Make the task of a job, with what other workers have done of it."""
        job, number = assigned.job, ""
        if job.draw and (self.plan.method == "bayes" or self.plan.early):
            from losslab.sweep.search import draw

            trial = draw(self.folder, self.ledger, self.plan, job)
            if self.plan.early:
                number = str(trial.number)  # the run reports to the study on the shared disk
            else:
                assigned.trial, job = trial, replace(job, setting={**job.setting, **trial.params}, draw=False)
        files = {}
        if not worker.shared and assigned.claim.path.suffix != ".1":  # it is not the job's first worker
            files = read_files(self.folder, (self.folder / "runs").glob(f"*-{job.key[:6]}"))
        return Task(asdict(job), files, number)

    def reported(self, worker: RemoteWorker, report: Report) -> None:
        """Write down what a worker hands in, and send it the next jobs."""
        for name in report.too_large:
            print(f"{name} is too large to be sent and stays on node {worker.host}", file=sys.stderr, flush=True)
        self.lock_runs(worker, report.files)
        put_files(self.folder, report.files, report.gone)
        for key, record in report.records.items():
            self.finish(worker, worker.jobs.pop(key), record)
        self.send(worker)

    def lock_runs(self, worker: RemoteWorker, files: Iterable[str]) -> None:
        """Lock the run folders that files are written to, as the process that trains there does."""
        for run in {name.split("/")[1] for name in files if name.startswith("runs/")} - worker.locks.keys():
            (self.folder / "runs" / run).mkdir(parents=True, exist_ok=True)
            worker.locks[run] = open_lock(self.folder / "runs" / run / ".lock")
            try_lock(worker.locks[run])

    def unlock_runs(self, worker: RemoteWorker, key: str = "") -> None:
        """Unlock the run folders of a job, or of all jobs of a worker."""
        for run in [run for run in worker.locks if run.endswith(f"-{key[:6]}" if key else "")]:
            os.close(worker.locks.pop(run))

    def finish(self, worker: RemoteWorker, assigned: Assigned, record: Record) -> None:
        """Record that a job is over."""
        self.in_vain = 0
        if assigned.trial is not None:
            from losslab.sweep.search import tell

            tell(assigned.trial, record["value"], failed=record["state"] == "failed")
        for setting in (record["setting"], *(run.get("overrides", {}) for run in record["runs"])):
            if SEARCHPATH in setting:  # the folders that travelled, where they are at home
                setting[SEARCHPATH] = assigned.job.setting[SEARCHPATH]
        assigned.claim.finish(record)
        self.unlock_runs(worker, assigned.job.key)

    def lose(self, worker: RemoteWorker, why: str, died: bool | None = None) -> None:
        """Let other workers go on with the jobs of one that is lost; give up a job at which several have died.

        Args:
            died: whether it died and its node did not; `None` if it could not go on.

        Raises:
            Refused: where workers end and nothing gets done.
        """
        self.workers.remove(worker)
        with suppress(Exception):  # it may have been cut off, and live on
            self.cluster.ray.kill(worker.actor)
        self.unlock_runs(worker)
        self.in_vain += died is None or not worker.jobs
        if self.in_vain >= CRASHES:
            last = (f"on node {worker.host}: {why}" if worker.host else why).removesuffix(f"; {GO_ON}")
            raise Refused(
                f"{CRASHES} workers of the cluster ended before they had done anything, the last one {last}; {GO_ON}"
            )
        for assigned in worker.jobs.values():
            if died:
                assigned.claim.crash()
            if died and self.ledger.crashes(assigned.job.key) >= CRASHES:
                why = f"{CRASHES} workers of the cluster died at it; out of memory is the usual reason"
                assigned.claim.finish(describe_failure(assigned.job, why))
            else:
                assigned.claim.release()
        self.queue.add([])  # another may go on with them at once

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        ray = self.cluster.ray
        with suppress(Exception):
            ended = [worker.actor.close.remote() for worker in self.workers if worker.host]
            ray.wait(ended, num_returns=len(ended), timeout=WAIT)
        for worker in self.workers:
            self.unlock_runs(worker)
        (self.folder / self.token).unlink(missing_ok=True)
        with suppress(Exception):  # the cluster is gone
            ray.shutdown()
        self.ledger.close()
