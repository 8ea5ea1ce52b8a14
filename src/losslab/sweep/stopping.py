"""How the processes of a sweep stop: at any moment, within seconds, and with nothing lost.

All that a sweep knows is on disk and whole at any moment, so its driver needs no clean-up: it ends where the signal
meets it, be it in the midst of an import. Workers hear of that by the end of their standard input. A worker only notes
that it has to stop: its run keeps a checkpoint after the next step, its jobs are let go of. An exception out of the
blue would be swallowed by some import, and leave half of a module behind.
"""

import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from types import FrameType

from losslab.training import preemption

SIGNALS = (signal.SIGINT, *preemption.HEEDED)
GRACE = 10.0  # seconds in which a run that is told to stop has to keep its checkpoint
BRIEF = 2.0  # the same for a process that has no run under way
GO_ON = "stopped; nothing is lost: the same command goes on with what is missing"

workers: list["subprocess.Popen[str]"] = []  # of this driver, living or not


def until_signalled(handler: Callable[[int, FrameType | None], object]) -> None:
    """From now on, call `handler` when a signal asks this process to stop."""
    for number in SIGNALS:
        # a shell begins background jobs with SIGINT ignored, which is not meant; with `nohup` SIGHUP is
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def stop_the_driver(number: int, _: FrameType | None) -> None:
    """Let the workers end, say how to go on, and end; a second signal waits for nobody."""
    until_signalled(lambda *_: kill(process.pid for process in workers if process.returncode is None))
    with suppress(Exception):  # it may be closed, or in the midst of a line
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, f"\n{GO_ON}\n".encode())
    living = [process.pid for process in workers if process.returncode is None]
    for process in workers:
        assert process.stdin is not None
        with suppress(OSError, ValueError):
            os.close(process.stdin.fileno())  # as the file itself may be in the midst of a write
    deadline = time.monotonic() + GRACE + 2
    while living and time.monotonic() < deadline:
        living = [pid for pid in living if not has_ended(pid)]
        time.sleep(0.02)
    kill(living)
    preemption.requeue(signal.Signals(number))
    os._exit(128 + number)


def has_ended(pid: int) -> bool:
    """Whether a worker has ended; without the lock of its `Popen`, which the code that was stopped may hold."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def kill(pids: Iterable[int]) -> None:
    """Kill workers, and all that they have started."""
    for pid in pids:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(pid, signal.SIGKILL)


def stop_workers() -> None:
    """Let go of the workers, and wait until they have ended; those that do not are killed."""
    for process in workers:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
    deadline = time.monotonic() + GRACE + 2
    while time.monotonic() < deadline and any(process.poll() is None for process in workers):
        time.sleep(0.02)
    kill(process.pid for process in workers if process.poll() is None)
    for process in workers:
        process.wait()
    workers.clear()


class Stop(threading.Thread):
    """Hears what the driver writes, that it has ended, and signals; and sees to it that this worker ends in time.

    The kernel writes the number of a signal into a pipe, whatever Python is at. This thread imports nothing and takes
    no lock that an import may hold.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.by: signal.Signals | None = None  # why to stop
        self.lines: SimpleQueue[str] = SimpleQueue()
        self.importing = True  # then there is nothing to wait for

    def listen(self) -> None:
        """From now on, in the main thread of a worker."""
        self.woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # which signals are its own
        until_signalled(lambda *_: None)
        self.start()

    def run(self) -> None:
        rest = b""
        while self.by is None:
            ready, _, _ = select.select([0, self.woken], [], [])
            if self.woken in ready:
                numbers = os.read(self.woken, 64)
                self.by = next((number for number in SIGNALS if number in numbers), None)
            elif text := os.read(0, 1 << 16):
                *lines, rest = (rest + text).split(b"\n")
                for line in lines:
                    self.lines.put(line.decode())
            else:
                self.by = signal.SIGINT  # the driver is gone
        began = idle = now = time.monotonic()
        while not self.importing and now - began < GRACE and now - idle < BRIEF:
            preemption.notice.by = self.by  # a run forgets, as it begins, what came before
            time.sleep(0.02)
            now = time.monotonic()
            idle = now if preemption.notice.awaited else idle
        if not self.importing and os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)  # and all that the run has started
        os._exit(128 + self.by)
