"""Signals by which a cluster takes the machine away: the run keeps a checkpoint at once, and goes on when it is back.

SIGTERM is what SLURM sends when it pre-empts a job, `docker stop` to a container and a cloud to a spot instance.
SIGHUP is what a closed terminal or a lost connection sends, unless `nohup` has it ignored, which it then stays.
SIGUSR1 is what `sbatch --signal=USR1@120` sends ahead of the time limit: then the job is queued again, too.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Windows has only the first
HEEDED = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))


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
        handle(self.heed, *HEEDED)


notice = Notice()  # signals are sent to a process, so that one is enough


def handle(handler: Callable[[int, FrameType | None], object], *numbers: int) -> None:
    """Have a handler called for these signals, but for those that are ignored: `nohup` began us so for a reason."""
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


@contextmanager
def heeded() -> Iterator[None]:
    """Signals are heeded while it lasts, and Ctrl-C is Python's own from now on: Lightning knows what to do with it.

    A worker of a sweep has an answer to it of its own.
    """
    before = {number: signal.getsignal(number) for number in HEEDED}
    notice.by, notice.awaited = None, True
    notice.listen()
    if signal.getsignal(signal.SIGINT) is too_early:
        handle(signal.default_int_handler, signal.SIGINT)
    try:
        yield
    finally:
        notice.awaited = False
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def heed_early() -> None:
    """From now until training begins, any signal that stops us ends the process at once, in one sentence."""
    handle(too_early, signal.SIGINT, *HEEDED)


def too_early(number: int, frame: FrameType | None) -> None:
    """What to do with a signal when nothing is begun yet: a job of SLURM's whose time is up has to be queued again.

    The process ends here, by `os._exit`: an exception would be raised in the midst of an import, where C code and
    `try: import` take it for a missing module, print it with forty lines of traceback, or go on as if nothing had been.
    """
    by = signal.Signals(number)
    requeue(by)
    name = "Ctrl-C" if by == signal.SIGINT else by.name
    with suppress(OSError, ValueError):  # the terminal is closed
        os.write(2, f"losslab: stopped by {name} before anything began\n".encode())
    os._exit(128 + number)


def requeue(by: signal.Signals) -> None:
    """Have SLURM queue this job again, where its time is up; one that it pre-empts, it queues again by itself."""
    if by != getattr(signal, "SIGUSR1", None) or "SLURM_JOB_ID" not in os.environ:
        return
    import subprocess  # Ctrl-C is heeded a hundredth of a second earlier without it

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
