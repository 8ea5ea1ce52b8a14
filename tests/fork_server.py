"""The process that `tests.processes` forks: it has imported what a run imports, and done nothing else.

The tests write a byte and three open files to its socket: what to do (by cloudpickle), and where its output and its
errors go. It answers with the number of the new process, and with its exit code when it has ended.
"""

import atexit
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path

# not wandb: when it is imported it makes a folder, which the first process to end would delete for all
IMPORTED = (
    *("matplotlib.backends.backend_agg", "losslab.data.tables", "torch._dynamo", "torch.utils.serialization.config"),
    *("torchvision", "cloudpickle", "tests.conftest", "tests.processes"),
    *("losslab.training.module", "losslab.models", "losslab.optim.optimizers", "losslab.predict"),
    *("losslab.stacking.train", "losslab.race.driver", "losslab.page.plots"),
)
exit_code = 1


def leave() -> None:
    """End at once: no test looks at how Python clears a thousand modules, which takes a second."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    os._exit(exit_code)


def serve(channel: socket.socket) -> list[int]:
    """Fork for each request, until nobody asks any more; return its files, in the new process alone."""
    ended, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([channel.fileno(), ended], [], [])[0]
        if channel.fileno() in ready:
            request, files, _, _ = socket.recv_fds(channel, 1, 3)
            if not request:
                os._exit(0)
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for number in (ended, wakes):
                    os.close(number)
                channel.close()
                return files
            for number in files:
                os.close(number)
            channel.sendall(b"%d started\n" % pid)
        if ended in ready:
            os.read(ended, 4096)
            while (found := reaped()) is not None:
                channel.sendall(b"%d %d\n" % found)


def reaped() -> tuple[int, int] | None:
    """A process that has ended and its exit code, if there is one."""
    try:
        pid, status = os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return None
    return (pid, os.waitstatus_to_exitcode(status)) if pid else None


def execute(request: int, out: int, err: int) -> None:
    """Do what is asked for, in a process that is set up like one that has just been started."""
    global exit_code
    import cloudpickle

    os.setpgrp()
    for old, new in ((out, 1), (err, 2)):
        os.dup2(old, new)
        os.close(old)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    with os.fdopen(request, "rb") as file:
        asked: tuple[str, Mapping[str, str], list[str], bytes] = cloudpickle.load(file)
    folder, env, sys.path[:], task = asked
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(env)
    does: Callable[[], object] = cloudpickle.loads(task)
    try:
        does()
        exit_code = 0
    except SystemExit as error:
        exit_code = error.code if isinstance(error.code, int) else int(error.code is not None)
        raise


if __name__ == "__main__":
    atexit.register(leave)  # before all others, so that it is called after them
    sys.path[0] = str(Path(__file__).parents[1])
    for name in IMPORTED:
        import_module(name)
    execute(*serve(socket.socket(fileno=int(sys.argv[1]))))
