"""Signals by which a cluster takes the machine away: the run keeps a checkpoint at once, and goes on when it is back.

SIGTERM is what SLURM sends when it pre-empts a job, `docker stop` to a container and a cloud to a spot instance.
SIGUSR1 is what `sbatch --signal=USR1@120` sends ahead of the time limit: then the job is queued again, too.
"""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

HEEDED = (signal.SIGTERM, signal.SIGUSR1)


class Preempted(Exception):
    """A run whose machine was taken away; the same command goes on with it.

    Args:
        by: the signal.
    """

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(by.name)
        self.by = by


class Notice:
    """Whether a signal has come, and which; looked at between two steps, where the state of a run is whole."""

    by: signal.Signals | None = None
    awaited = False  # whether a run looks at it

    def heed(self, number: int, frame: FrameType | None) -> None:
        """What Python calls when the signal comes."""
        self.by = signal.Signals(number)

    def listen(self) -> None:
        """From now on; Lightning installs handlers of its own when training begins, which only SIGTERM's stops at."""
        if threading.current_thread() is threading.main_thread():
            for number in HEEDED:
                signal.signal(number, self.heed)


notice = Notice()  # signals are sent to a process, so that one is enough


@contextmanager
def heeded() -> Iterator[None]:
    """Signals are heeded while it lasts."""
    before = {number: signal.getsignal(number) for number in HEEDED}
    notice.by, notice.awaited = None, True
    notice.listen()
    try:
        yield
    finally:
        notice.awaited = False
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def too_early(number: int, frame: FrameType | None) -> None:
    """What to do with a signal when nothing is begun yet: a job of SLURM's whose time is up has to be queued again.

    The process ends here: imports call Python in places where a SystemExit is told and forgotten.
    """
    requeue(signal.Signals(number))
    os._exit(128 + number)


def requeue(by: signal.Signals) -> None:
    """Have SLURM queue this job again, where its time is up; one that it pre-empts, it queues again by itself."""
    if by != signal.SIGUSR1 or "SLURM_JOB_ID" not in os.environ:
        return
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        why = done.stderr.strip() if done.returncode else None
    except OSError as error:
        why = str(error)
    if why:
        print(f"SLURM did not queue job {job} again ({why}): submit the same command", file=sys.stderr, flush=True)
