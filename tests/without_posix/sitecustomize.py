"""Takes from Python what Windows lacks. Python runs this file in each process that has its folder on `PYTHONPATH`.

Python's own modules and psutil are imported first, because on Linux they are made of these parts. `sys.platform` stays
`linux`, so that other packages load what is installed: what is tested is losslab's own code.
"""

import asyncio  # noqa: F401
import concurrent.futures.process  # noqa: F401
import multiprocessing
import multiprocessing.connection
import multiprocessing.popen_spawn_posix
import os
import select
import shutil  # noqa: F401
import signal
import socket
import subprocess
import sys
import tempfile  # noqa: F401
from types import ModuleType
from typing import Any

import psutil

MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
OF_OS = """
    chown fchmod fchown fork forkpty getegid geteuid getgid getgroups getloadavg getpgid getpgrp getpriority getsid
    killpg lchown link mkfifo mknod nice openpty posix_spawn pread pwrite sched_setaffinity set_blocking setgid
    setpgid setpgrp setsid setuid statvfs wait wait3 wait4
    O_DIRECTORY O_NOCTTY O_NOFOLLOW O_NONBLOCK WNOHANG WIFEXITED WEXITSTATUS WIFSIGNALED WTERMSIG
"""
OF_SIGNAL = """
    SIGALRM SIGCHLD SIGHUP SIGPIPE SIGQUIT SIGTSTP SIGUSR2 SIGWINCH
    alarm pause pthread_kill pthread_sigmask setitimer sigpending sigtimedwait sigwait sigwaitinfo
"""
# On Linux numpy, torch, Lightning and platformdirs insist on these: only losslab's code does not see them.
HIDDEN = {"getuid", "register_at_fork", "sched_getaffinity", "sysconf", "uname"}
HIDDEN |= {"SIGCONT", "SIGKILL", "SIGSTOP", "SIGUSR1"}
wait_for = select.select


def terminate(process: Any) -> None:
    """End a process at once, as `TerminateProcess` does: Linux has no other way than the signal."""
    os.kill(process.pid, 9)


def select_sockets(*files: Any) -> Any:
    """Wait for sockets, which is all that Windows can wait for."""
    for file in (file for some in files[:3] for file in some):
        number = file if isinstance(file, int) else file.fileno()
        with socket.socket(fileno=os.dup(number)):  # raises an OSError for a pipe or a file
            pass
    return wait_for(*files)


def set_wakeup_fd(number: int, real: Any = signal.set_wakeup_fd, **how: Any) -> Any:
    """Have a signal's number written to a socket: Windows refuses a pipe."""
    if number >= 0:
        with socket.socket(fileno=os.dup(number)):
            pass
    return real(number, **how)


class Hiding(ModuleType):
    """A module without the hidden names where losslab's code asks for them."""

    def __getattribute__(self, name: str) -> Any:
        if name in HIDDEN and sys._getframe(1).f_globals.get("__name__", "").startswith("losslab"):
            raise AttributeError(name)
        return super().__getattribute__(name)


multiprocessing.set_start_method("spawn")
for name in MODULES:
    sys.modules[name] = None  # type: ignore[assignment]  # what imports it now gets an ImportError
for module, names in ((os, OF_OS), (signal, OF_SIGNAL)):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
os.__class__ = signal.__class__ = Hiding
subprocess.Popen.kill = subprocess.Popen.terminate = terminate  # type: ignore[method-assign,assignment]
psutil.Process.kill = terminate
select.select = select_sockets
signal.set_wakeup_fd = set_wakeup_fd
