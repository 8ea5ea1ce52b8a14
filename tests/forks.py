"""A command in a process and a folder of its own that has imported everything already: a fork of the one that tests.

Torch and all that comes with it take seconds to import, and a short run a third of one. What only a fresh process can
show is tested in one: that nothing is said while it imports, what is answered before torch is there, and a signal then.
"""

import atexit
import multiprocessing.process
import multiprocessing.util
import os
import runpy
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired
from tempfile import TemporaryFile

import torch

IMPORTED = [  # what a run imports on its way; all that it imports in turn is then there, too
    import_module(name)
    for name in (
        *("matplotlib.backends.backend_agg", "sklearn.datasets", "torch._dynamo", "torch.utils.serialization.config"),
        *("torchvision", "wandb.apis.public", "wandb.sdk.launch.sweeps.utils"),
        *(
            "losslab.training.module",
            "losslab.models",
            "losslab.optim.optimizers",
            "losslab.predict",
            "losslab.stacking.train",
        ),
    )
]
PATIENCE = 600.0  # seconds: whatever takes so long hangs
left: set["Fork"] = set()  # whom nobody has waited for


class Fork:
    """What a function does in a process of its own, with what tests use of `subprocess.Popen[str]`.

    Args:
        does: the function; where it returns, the exit code is 0.
        folder: in which; made where there is none.
        env: the environment; where none is given, that of this process.
    """

    def __init__(self, does: Callable[[], object], folder: Path, env: Mapping[str, str] | None = None) -> None:
        folder.mkdir(exist_ok=True)
        self.returncode: int | None = None
        self.files = TemporaryFile(), TemporaryFile()  # noqa: SIM115  # closed when it has ended
        env = dict(os.environ if env is None else env)
        with warnings.catch_warnings():
            # since Python 3.12; no thread of the one that tests is needed in the fork
            warnings.filterwarnings("ignore", ".* is multi-threaded", DeprecationWarning)
            self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                self.begin(folder, env)
                code = ended(does)
            finally:
                os._exit(code)
        left.add(self)

    def begin(self, folder: Path, env: Mapping[str, str]) -> None:
        """Make the fork like a process that has just been started."""
        os.setpgrp()
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(env)
        for number, file in enumerate(self.files, 1):
            os.dup2(file.fileno(), number)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", 1, closefd=False)
        sys.excepthook, sys.unraisablehook = sys.__excepthook__, sys.__unraisablehook__
        threading.excepthook = threading.__excepthook__
        signal.signal(signal.SIGINT, signal.default_int_handler)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, signal.SIG_DFL)
        atexit._clear()  # what the one that tests does at its end
        multiprocessing.util._finalizer_registry.clear()  # type: ignore[attr-defined]
        multiprocessing.process._children = set()  # type: ignore[attr-defined]
        torch.set_num_threads(1)

    def poll(self) -> int | None:
        """The exit code, or minus the signal that ended it; `None` while it goes on."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.texts = self.said()
                self.returncode = os.waitstatus_to_exitcode(status)
                for file in self.files:
                    file.close()
                left.remove(self)
        return self.returncode

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code, once it has ended."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutExpired("a fork", timeout, *self.said())
            time.sleep(0.005)
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


def ended(does: Callable[[], object]) -> int:
    """The exit code of a process that does this and no more."""
    code = 0
    try:
        does()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if not isinstance(error.code, int | None):
            print(error.code, file=sys.stderr)
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as Python does at its end
    atexit._run_exitfuncs()
    multiprocessing.util._exit_function()  # type: ignore[attr-defined]
    sys.stdout.flush()
    return code


def python(*words: str) -> Callable[[], None]:
    """What `python` does with these words: a script's path or `-m` and a module, and what follows."""

    def does() -> None:
        if words[0] == "-m":
            for name in (words[1], f"{words[1]}.__main__"):
                if not hasattr(sys.modules.get(name), "__path__"):
                    sys.modules.pop(name, None)  # or runpy would warn
            sys.argv, sys.path[:0] = list(words[1:]), [str(Path.cwd())]
            runpy.run_module(words[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv, sys.path[:0] = list(words), [str(Path(words[0]).parent)]
            runpy.run_path(words[0], run_name="__main__")

    return does


def ran(
    *words: str, folder: Path, env: Mapping[str, str] | None = None, timeout: float = PATIENCE
) -> "CompletedProcess[str]":
    """What `python` with these words comes to."""
    fork = Fork(python(*words), folder, env)
    out, err = fork.communicate(timeout)
    return CompletedProcess(words, fork.wait(), out, err)
