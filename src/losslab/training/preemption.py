"""Signals by which a cluster preempts a run: it writes a checkpoint at once, and goes on when it is started again.

SIGTERM comes from SLURM when it preempts a job, from `docker stop`, and from a cloud that takes back a spot instance.
SIGHUP comes from a closed terminal or a lost connection; `nohup` has it ignored, and so it stays.
SIGUSR1 comes from `sbatch --signal=USR1@120` ahead of the time limit; the job is then queued again, too.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

# Windows has only the first
SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP", "SIGUSR1") if hasattr(signal, name))


class Preempted(Exception):
    """A run was preempted; the same command goes on with it."""

    def __init__(self, by: signal.Signals) -> None:
        super().__init__(by.name)
        self.by = by


class Notice:
    """The signal that has come, if any. A run looks at it between two steps, where its state is whole."""

    by: signal.Signals | None = None
    awaited = False  # whether a run is there to look at it

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Note a signal; Python calls this."""
        self.by = signal.Signals(number)

    def listen(self) -> None:
        """Note signals from now on; call this again when training begins, where Lightning replaces the handlers."""
        handle(self.receive, *SIGNALS)


notice = Notice()  # a signal is sent to a process, so one is enough


def handle(handler: Callable[[int, FrameType | None], object], *numbers: int) -> None:
    """Have a handler called for these signals, except ignored ones: `nohup` has SIGHUP ignored for a reason."""
    if threading.current_thread() is threading.main_thread():
        for number in numbers:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


@contextmanager
def note_signals() -> Iterator[None]:
    """Note signals inside this context. Ctrl-C is Python's own from now on, because Lightning handles it.

    A worker of a sweep keeps its own handler of Ctrl-C.
    """
    if signal.getsignal(signal.SIGINT) is exit_at_once:
        handle(signal.default_int_handler, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGINT)}
    notice.by, notice.awaited = None, True
    notice.listen()
    try:
        yield
    finally:
        notice.awaited = False
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


@contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Let Ctrl-C wait until this context ends, so that it stops nothing half way."""
    pressed, before = Notice(), signal.getsignal(signal.SIGINT)
    handle(pressed.receive, signal.SIGINT)
    try:
        yield
    finally:
        if callable(before):
            handle(before, signal.SIGINT)
    if pressed.by is not None:
        signal.raise_signal(signal.SIGINT)


def exit_on_signals() -> None:
    """Until training begins, let any signal end the process at once, with one sentence."""
    handle(exit_at_once, signal.SIGINT, *SIGNALS)


def exit_at_time_limit() -> None:
    """Inside a SLURM job, end the process at once if its time is up before training begins."""
    if "SLURM_JOB_ID" in os.environ and hasattr(signal, "SIGUSR1"):
        signal.signal(signal.SIGUSR1, exit_at_once)


def exit_at_once(number: int, frame: FrameType | None) -> None:
    """End the process at once, because nothing has begun; a SLURM job whose time is up is queued again.

    `os._exit` ends it here. An exception might be raised inside an import, where C code and `try: import` take it for a
    missing module, print it with forty lines of traceback, or ignore it.
    """
    by = signal.Signals(number)
    requeue(by)
    name = "Ctrl-C" if by == signal.SIGINT else by.name
    with suppress(OSError, ValueError):  # the terminal is closed
        os.write(2, f"losslab: stopped by {name} before anything began\n".encode())
    os._exit(128 + number)


def requeue(by: signal.Signals) -> None:
    """Have SLURM queue this job again if its time is up; a job that SLURM preempts, it queues again by itself."""
    if by != getattr(signal, "SIGUSR1", None) or "SLURM_JOB_ID" not in os.environ:
        return
    import subprocess  # takes a hundredth of a second, in which Ctrl-C would not be handled yet

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
