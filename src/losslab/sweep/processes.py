"""The worker processes of a driver: start them, give them jobs, and replace those that die."""

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from losslab.errors import Refused
from losslab.machine import cores, total_memory, visible_gpus
from losslab.sweep import stopping
from losslab.sweep.faults import GO_ON, NO_MEMORY, REMEDIES, explain
from losslab.sweep.ledger import HERE, Ledger, Record
from losslab.sweep.plan import Job, Plan, pack_jobs

if TYPE_CHECKING:
    from losslab.sweep.queue import Queue

PAUSE = 0.2  # seconds between two looks at the workers
CRASHES = 3  # a job that killed so many workers is given up, and so is a sweep whose workers get nothing done


def gpus() -> list[str]:
    """List the GPUs that this process may use, without CUDA, which takes a second and some memory on each.

    A GPU that is cut into instances (MIG) counts as these: CUDA would give a process the first one only.
    """
    if (visible := visible_gpus()) is not None:
        return visible
    if not shutil.which("nvidia-smi"):
        return []
    with suppress(OSError, subprocess.TimeoutExpired):
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=60)
        named = [
            re.findall(r"\(UUID: (\S+)\)", text) for text in re.split(r"^(?=GPU )", listed.stdout, flags=re.MULTILINE)
        ]
        return [name for whole, *instances in filter(None, named) for name in instances or [whole]]
    return []


def count_workers(on_cpu: bool = False) -> int:
    """Return the number of GPUs; without any, or on the CPU, that of cores, with 2 GB of memory for each."""
    return (0 if on_cpu else len(gpus())) or max(1, min(cores(), total_memory() // 2_000_000_000))


class Workers:
    """The processes that do the jobs; one that dies is replaced, and its jobs are done again.

    Args:
        count: of processes; 0 lets this process do the jobs itself.
        stack: at most how many runs each of them trains as one.
        ledger: of the jobs; default: the sweep's.
    """

    def __init__(self, folder: Path, plan: Plan, count: int, stack: int = 1, ledger: Ledger | None = None) -> None:
        self.folder, self.plan, self.count, self.stack = folder, plan, count, stack
        self.ledger = ledger or Ledger(folder / "jobs")
        self.ledger.lock_name()  # it is at work from now on
        self.jobs: dict[str, Job] = {}
        self.processes: list[subprocess.Popen[str]] = []
        stopping.workers = self.processes
        self.logs: dict[int, Path] = {}
        self.gpus = gpus() if count > 1 else []  # a single worker may use all of them
        self.on: dict[int, str] = {}
        self.left = self.in_vain = 0
        self.queue: Queue | None = None  # where this process does the jobs itself
        (folder / "logs").mkdir(parents=True, exist_ok=True)

    def describe(self) -> str:
        """Say how many runs are trained at a time."""
        kind = f"stack{'s' if self.count > 1 else ''} of up to {self.stack} runs " * (self.stack > 1)
        return f"{self.count} {kind}at a time" if self.count else f"one {kind}after the other, in this process"

    def work_here(self) -> None:
        """Do the next free jobs in this process, a stack of them at most; what the runs print goes into a log."""
        from losslab.sweep.queue import Queue
        from losslab.sweep.worker import do_next

        if self.queue is None or len(self.queue.jobs) < len(self.jobs):
            self.queue = Queue(self.ledger, [*self.jobs.values()])
        log = self.folder / "logs" / f"{HERE.replace(' ', '-')}-{os.getpid()}.txt"
        with log.open("a", encoding="utf-8") as out, redirect_stdout(out):
            done = do_next(self.folder, self.plan, self.queue, self.stack)
        if not done:  # other processes are at them
            time.sleep(PAUSE)

    def start(self) -> "subprocess.Popen[str]":
        """Start a process in a session of its own, so that Ctrl-C reaches the driver alone."""
        own = {"OMP_NUM_THREADS": str(max(1, cores() // self.count)), **os.environ, "PYTHONIOENCODING": "utf-8"}
        for name in ("SLURM_NTASKS", "SLURM_PROCID", "SLURM_JOB_ID"):
            own.pop(name, None)  # SLURM did not start the runs, and the driver requeues the job
        living = [self.on.get(process.pid) for process in self.processes]
        gpu = min(self.gpus, key=living.count, default="")
        if gpu:
            own["CUDA_VISIBLE_DEVICES"] = gpu
        log = self.folder / "logs" / f"{HERE.replace(' ', '-')}-{os.getpid()}-{time.time_ns()}.txt"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "losslab.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=own,
                text=True,
                start_new_session=True,
                creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),  # the same for Windows
            )
        self.on[process.pid], self.logs[process.pid] = gpu, log
        self.send(process, self.encode([*self.jobs.values()]))
        return process

    def encode(self, jobs: Sequence[Job]) -> str:
        """Write jobs as a line for workers: 13 MB for 100,000."""
        message = {
            "folder": str(self.folder),
            "ledger": str(self.ledger.folder),
            "tells": self.ledger.listen(),
            "plan": asdict(self.plan),
            "jobs": pack_jobs(self.plan.fixed, jobs),
            "stack": self.stack,
        }
        return json.dumps(message) + "\n"

    def send(self, process: "subprocess.Popen[str]", line: str) -> None:
        """Send a line to a worker."""
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died at once; the next round replaces it
            process.stdin.write(line)
            process.stdin.flush()

    def add(self, jobs: Sequence[Job]) -> None:
        """Give more jobs to all workers."""
        self.jobs |= {job.key: job for job in jobs}
        if self.processes:
            line = self.encode(jobs)
            for process in self.processes:
                self.send(process, line)

    def advance(self, left: int) -> None:
        """Start as many workers as there is work for, and give up jobs that keep killing them; wait a moment.

        Raises:
            Refused: where workers end and nothing gets done.
        """
        if not self.count:
            self.work_here()
            return
        if left != self.left:
            self.left, self.in_vain = left, 0
        for process in [process for process in self.processes if process.poll() is not None]:
            self.processes.remove(process)
            self.ledger.records(self.jobs)  # it may have ended a job and not said so
            if process.stdin is not None:
                with suppress(BrokenPipeError):  # lines that it has not read
                    process.stdin.close()
            deaths = self.ledger.crashed(process.pid, self.jobs)
            if self.ran_out_of_memory(process):  # the machine's fault
                deaths, in_vain = {}, True
            else:
                in_vain = not deaths
            self.in_vain += in_vain
            if in_vain and self.in_vain >= CRASHES:
                raise Refused(self.explain(process))
            for key in [key for key, count in deaths.items() if count >= CRASHES]:
                self.give_up(self.jobs[key], process.returncode)
            self.add([])  # another may go on with its jobs at once
        while len(self.processes) < min(self.count, left):
            self.processes.append(self.start())
        time.sleep(PAUSE)

    def close(self) -> None:
        """End the processes."""
        stopping.stop_workers()
        self.ledger.close()

    def give_up(self, job: Job, code: int) -> None:
        """Record that a job failed, because processes died at it; the last one ended with this exit code."""
        claim = self.ledger.claim(job.key)
        if claim is not None:
            died = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
            why = f"its process died {CRASHES} times, the last time {died}; SIGKILL often means out of memory"
            claim.finish(describe_failure(job, why))

    def explain(self, process: "subprocess.Popen[str]") -> str:
        """Return the sentence for a sweep whose workers end and get nothing done, from the last of them."""
        code = errno.ENOMEM if self.ran_out_of_memory(process) else process.returncode
        if code in REMEDIES:
            return explain(self.folder, OSError(code, os.strerror(code)))
        by = -code if code < 0 else code - 128
        if by in {*signal.Signals}:
            last = f"by {signal.Signals(by).name}"
        else:
            lines = self.last_words(process)
            last = f"with exit code {code}{f' ({lines[-1].strip()})' if lines else ''}"
        log = self.logs[process.pid]
        return f"{CRASHES} workers ended before they had done anything, the last one {last}: see {log}; {GO_ON}"

    def last_words(self, process: "subprocess.Popen[str]") -> list[str]:
        """Return the last lines of a worker's log."""
        try:
            return self.logs[process.pid].read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        except OSError:
            return []

    def ran_out_of_memory(self, process: "subprocess.Popen[str]") -> bool:
        """Return whether the C library ended the process for want of memory, without asking Python."""
        return process.returncode in (127, -signal.SIGABRT) and any(map(NO_MEMORY.search, self.last_words(process)))


def describe_failure(job: Job, why: str) -> Record:
    """Return the record of a job that is given up, because processes died at it."""
    runs = [{"overrides": {**job.setting, **job.repeats[0]}}]
    return {"state": "failed", "reason": why, "value": None, "setting": job.setting, "runs": runs}
