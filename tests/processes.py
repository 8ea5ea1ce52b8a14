"""Commands in processes and folders of their own, forked by one that has imported everything already.

Torch and all that comes with it take seconds to import, and a short run a third of one. What only a fresh process can
show is tested in one: that nothing is said while it imports, what is answered before torch is there, and a signal then.
"""

import atexit
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryFile

import cloudpickle

PATIENCE = 600.0  # seconds: whatever takes so long hangs
left: set["Fork"] = set()  # processes that nobody has waited for


class Server:
    """The process that is forked, as `tests.fork_server` describes it, and the exit codes that it has sent."""

    def __init__(self) -> None:
        self.channel, theirs = socket.socketpair()
        words = [sys.executable, str(Path(__file__).with_name("fork_server.py")), str(theirs.fileno())]
        self.process = subprocess.Popen(
            words, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
        )
        theirs.close()
        atexit.register(self.close)
        self.codes: dict[int, int] = {}
        self.started: list[int] = []
        self.rest = b""

    def close(self) -> None:
        self.channel.close()
        self.process.wait()

    def fork(self, *files: int) -> int:
        """The number of a new process that reads, prints and complains to these files."""
        socket.send_fds(self.channel, [b"f"], files)
        while not self.started:
            self.receive()
        return self.started.pop()

    def receive(self, timeout: float | None = None) -> None:
        """Take in what has come, waiting for it if need be."""
        self.channel.settimeout(timeout)
        try:
            text = self.channel.recv(4096)
        except (TimeoutError, BlockingIOError):
            return
        finally:
            self.channel.settimeout(None)
        if not text:
            raise RuntimeError("tests/fork_server.py has ended")
        *lines, self.rest = (self.rest + text).split(b"\n")
        for pid, said in (line.split() for line in lines):
            if said == b"started":
                self.started.append(int(pid))
            else:
                self.codes[int(pid)] = int(said)


server = cache(Server)


class Fork:
    """What a function does in a process of its own, with what tests use of `subprocess.Popen[str]`.

    Args:
        does: the function; where it returns, the exit code is 0. Nothing that a test has patched is in force there.
        folder: in which; made where there is none.
        env: the environment; where none is given, that of this process.
    """

    def __init__(self, does: Callable[[], object], folder: Path, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.returncode: int | None = None
        self.files = TemporaryFile(), TemporaryFile()  # noqa: SIM115  # closed when it has ended
        path = [str(Path(name).absolute()) for name in sys.path]
        asked = str(folder.absolute()), dict(os.environ if env is None else env), path, cloudpickle.dumps(does)
        with TemporaryFile() as request:
            cloudpickle.dump(asked, request)
            request.seek(0)
            self.pid = server().fork(*(file.fileno() for file in (request, *self.files)))
        left.add(self)

    def poll(self, timeout: float = 0.0) -> int | None:
        """The exit code, or minus the signal that ended it; `None` while it goes on."""
        if self.returncode is None:
            if self.pid not in server().codes:
                server().receive(timeout)
            if self.pid in server().codes:
                self.texts = self.said()
                self.returncode = server().codes.pop(self.pid)
                for file in self.files:
                    file.close()
                left.remove(self)
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code, once it has ended."""
        deadline = time.monotonic() + timeout
        while (code := self.poll(max(0.0, deadline - time.monotonic()))) is None:
            if time.monotonic() > deadline:
                raise TimeoutExpired("a fork", timeout, *self.said())
        return code

    def said(self) -> tuple[str, str]:
        """What it has printed so far, to both streams."""
        if self.returncode is not None:
            return self.texts
        out, err = (os.pread(file.fileno(), 1 << 24, 0).decode() for file in self.files)
        return out, err

    def communicate(self, timeout: float = PATIENCE) -> tuple[str, str]:
        """What it printed, once it has ended."""
        self.wait(timeout)
        return self.said()

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def execute(words: tuple[str, ...]) -> None:
    """Do in this process what `python` does with these words."""
    if words[0] == "-m":
        for name in (words[1], f"{words[1]}.__main__"):
            if not hasattr(sys.modules.get(name), "__path__"):
                sys.modules.pop(name, None)  # or runpy would warn
        sys.argv, sys.path[:0] = list(words[1:]), [str(Path.cwd())]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[:0] = list(words), [str(Path(words[0]).parent)]
        runpy.run_path(words[0], run_name="__main__")


def python(*words: str) -> Callable[[], None]:
    """What `python` does with these words: a script's path or `-m` and a module, and what follows."""
    return partial(execute, words)


def execute_undrawn(words: tuple[str, ...]) -> None:
    from tests.conftest import without_pictures

    with without_pictures():
        execute(words)


def undrawn(*words: str) -> Callable[[], None]:
    """The same, but that runs draw no pictures, which takes half the time of a short one."""
    return partial(execute_undrawn, words)


def execute_unplotted(words: tuple[str, ...]) -> None:
    from losslab.page import plots

    plots.draw_plots = lambda *_: iter(())  # in this process alone
    execute_undrawn(words)


def unplotted(*words: str) -> Callable[[], None]:
    """The same, and comparisons draw no plots."""
    return partial(execute_unplotted, words)


def ran(
    *words: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = PATIENCE,
    by: Callable[..., Callable[[], None]] = python,
) -> "CompletedProcess[str]":
    """What `python` with these words comes to."""
    fork = Fork(by(*words), folder, env)
    out, err = fork.communicate(timeout)
    return CompletedProcess(words, fork.wait(), out, err)


def caught(pid: int, number: int) -> bool:
    """Whether a process has an answer of its own to a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    answers = next(int(line.split()[1], 16) for line in lines if line.startswith("SigCgt:"))
    return bool(answers & 1 << (number - 1))
