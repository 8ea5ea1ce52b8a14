"""How the processes of a sweep stop: at any moment, within seconds, and with nothing lost.

All that a sweep knows is on disk and whole at any moment. So its driver needs no clean-up: it ends where the signal
meets it, even while it imports. Workers notice by the end of their standard input. A worker only notes that it has to
stop: its run writes a checkpoint after the next step, and its jobs are released. An exception at any moment would not
do: an import might swallow it and leave half of a module behind.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from queue import SimpleQueue
from types import FrameType

from losslab.machine import kill_tree
from losslab.training import preemption

SIGNALS = (signal.SIGINT, *preemption.SIGNALS)
GRACE = 10.0  # seconds that a run has to write its checkpoint
BRIEF = 2.0  # the same for a process without a run
GO_ON = "stopped; nothing is lost: the same command goes on with what is missing"

workers: list["subprocess.Popen[str]"] = []  # of this driver, living or not


def until_signalled(handler: Callable[[int, FrameType | None], object]) -> None:
    """From now on, call `handler` when a signal asks this process to stop."""
    for number in SIGNALS:
        # a shell starts background jobs with SIGINT ignored, which is not meant; with `nohup`, an ignored SIGHUP is
        if number == signal.SIGINT or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handler)


def stop_driver(number: int, _: FrameType | None) -> None:
    """Let the workers end, say how to go on, and end; a second signal waits for nobody."""
    until_signalled(lambda *_: kill(process for process in workers if process.returncode is None))
    with suppress(Exception):  # it may be closed, or in the midst of a line
        sys.stdout.flush()
    with suppress(OSError):
        os.write(2, f"\n{GO_ON}\n".encode())
    living = [process for process in workers if process.returncode is None]
    for process in workers:
        assert process.stdin is not None
        with suppress(OSError, ValueError):
            os.close(process.stdin.fileno())  # the file itself may be in the midst of a write
    deadline = time.monotonic() + GRACE + 2
    while living and time.monotonic() < deadline:
        living = [process for process in living if not has_ended(process)]
        time.sleep(0.02)
    kill(living)
    preemption.requeue(signal.Signals(number))
    os._exit(128 + number)


def has_ended(process: "subprocess.Popen[str]") -> bool:
    """Return whether a worker has ended, without the lock of its `Popen`, which the interrupted code may hold."""
    if not hasattr(os, "WNOHANG"):  # Windows, where `Popen` has no lock
        return process.poll() is not None
    try:
        return os.waitpid(process.pid, os.WNOHANG)[0] == process.pid
    except ChildProcessError:
        return True


def kill(processes: Iterable["subprocess.Popen[str]"]) -> None:
    """Kill workers, and all that they have started."""
    for process in processes:
        kill_tree(process.pid)


def stop_workers() -> None:
    """Close the workers' standard input and wait until they have ended; kill those that have not after `GRACE`."""
    for process in workers:
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
    deadline = time.monotonic() + GRACE + 2
    while time.monotonic() < deadline and any(process.poll() is None for process in workers):
        time.sleep(0.02)
    kill(process for process in workers if process.poll() is None)
    for process in workers:
        process.wait()
    workers.clear()


class Stop(threading.Thread):
    """Reads what the driver writes, notices signals and the driver's end, and makes this worker end in time.

    The system writes the number of a signal into a socket, whatever Python is doing. Neither thread imports anything or
    takes a lock that an import may hold.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.by: signal.Signals | None = None  # why to stop
        self.lines: SimpleQueue[str] = SimpleQueue()
        self.reasons: SimpleQueue[signal.Signals] = SimpleQueue()
        self.importing = True  # then there is nothing to wait for

    def listen(self) -> None:
        """Listen from now on; call this in the main thread of a worker."""
        self.woken, self.wake = socket.socketpair()  # Windows takes no pipe
        self.wake.setblocking(False)
        signal.set_wakeup_fd(self.wake.fileno(), warn_on_full_buffer=False)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=lambda: signal.set_wakeup_fd(-1))  # a child has signals of its own
        until_signalled(lambda *_: None)
        for reads in (self.read_lines, self.read_signals):
            threading.Thread(target=reads, daemon=True).start()
        self.start()

    def read_lines(self) -> None:
        """Pass on the lines of standard input; its end means that the driver is gone."""
        rest = b""
        while text := os.read(0, 1 << 16):
            *lines, rest = (rest + text).split(b"\n")
            for line in lines:
                self.lines.put(line.decode())
        self.reasons.put(signal.SIGINT)

    def read_signals(self) -> None:
        """Pass on the first signal that asks to stop."""
        while not (found := [number for number in self.woken.recv(64) if number in SIGNALS]):
            pass
        self.reasons.put(signal.Signals(found[0]))

    def run(self) -> None:
        """Wait for a reason to stop, then end this process as soon as it may, and at the latest after `GRACE`."""
        self.by = self.reasons.get()
        began = idle = now = time.monotonic()
        while not self.importing and now - began < GRACE and now - idle < BRIEF:
            preemption.notice.by = self.by  # a run that begins forgets an earlier notice
            time.sleep(0.02)
            now = time.monotonic()
            idle = now if preemption.notice.awaited else idle
        if not self.importing and (not hasattr(os, "getpgrp") or os.getpgrp() == os.getpid()):
            kill_tree(os.getpid())  # with all that the run has started
        os._exit(128 + self.by)
