"""What differs between machines and systems: cores, memory, processes, versions and the git commit.

Without torch until the environment of a run is asked for.
"""

import ctypes
import gc
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from itertools import takewhile
from pathlib import Path

from losslab import __version__

# A repository's configuration can name programs. Run none: no hook, no monitor. Take no lock.
NO_PROGRAMS = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")

COLLECT = gc.get_threshold()  # how many new objects make the garbage collector look for cycles, as Python sets it

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h


def speed_up_cpu() -> None:
    """Avoid two costs that libraries add to each small step on a CPU.

    Adam asks in each step whether there is a GPU. Lightning has NVML answer, a library that is searched for each time,
    which takes a third of a small step. The C library returns freed tensors of some megabytes to the system, and new
    pages cost as much as the arithmetic on them. Here it keeps them, as torch does on a GPU.
    """
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # of glibc
        for option, limit in ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(option, limit)


def collect_seldom() -> None:
    """Let imports be: the garbage collector walks over all modules time and again while more of them are imported."""
    gc.set_threshold(100_000, *COLLECT[1:])


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Keep the garbage collector from scanning what exists already: a pass over it takes a quarter of a second.

    What a caller has frozen stays so.
    """
    ours = gc.get_freeze_count() == 0
    if ours:
        gc.freeze()
    gc.set_threshold(*COLLECT)
    try:
        yield
    finally:
        if ours:
            gc.unfreeze()


def cores() -> int:
    """Count the cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible_gpus() -> list[str] | None:
    """List the GPUs that `CUDA_VISIBLE_DEVICES` leaves, by number or name, as CUDA reads it; `None` if it is not set.

    What is no GPU ends the list, such as -1, and so does a name after numbers. A list that has one twice leaves none.
    """
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        return None
    names = [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
    kind = next((kind for kind in (r"\d", "GPU-", "MIG-") if re.match(kind, names[0])), "$.")
    known = [*takewhile(re.compile(kind).match, names)]
    return known if len({*known}) == len(known) else []


def total_memory() -> int:
    """Return the machine's memory in bytes."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    import psutil  # Windows

    return int(psutil.virtual_memory().total)


def peak_memory() -> int:
    """Return the most memory that this process has had in use, in bytes."""
    try:
        import resource
    except ImportError:  # Windows
        import psutil

        used = psutil.Process().memory_info()
        return int(getattr(used, "peak_wset", used.rss))
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def kill_tree(pid: int) -> None:
    """Kill a process that leads a group, and all that it has started; do nothing if it has ended."""
    if hasattr(os, "killpg"):
        with suppress(ProcessLookupError, PermissionError):  # PermissionError: macOS, for one that has just ended
            os.killpg(pid, signal.SIGKILL)
        return
    import psutil  # Windows

    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in [*process.children(recursive=True), process]:
            with suppress(psutil.Error):
                each.kill()


def environment() -> dict[str, str | None]:
    """Describe versions, machine and git commit, so that runs of different code or machines can be told apart."""
    import torch

    commit, changes = git_state()
    return {
        "losslab": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pytorch_lightning": version("pytorch_lightning"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "git_commit": commit or os.environ.get("LOSSLAB_COMMIT") or None,  # an image knows its own
        "git_changes": changes,
    }


def git_state() -> tuple[str | None, str | None]:
    """Return the commit of losslab's clone, else of the current folder, and `yes` or `no`: whether it has changes.

    No program that the repository's configuration names is run. Git would run filters to compare files with the commit:
    where the repository has filters, the second answer is `None`.
    """
    for folder in (Path(__file__).parent, Path.cwd()):
        commit = git(folder, "rev-parse", "HEAD")
        if commit:
            scopes = git(folder, "config", "--list", "--show-scope", "--name-only")
            if scopes is None or any(
                line.startswith(("local", "worktree")) and line.split(None, 1)[-1].startswith("filter.")
                for line in scopes.splitlines()
            ):
                return commit, None
            changes = git(folder, "status", "--porcelain", "--untracked-files=no", "--ignore-submodules=all")
            return commit, "yes" if changes else "no"
    return None, "no"


def git(folder: Path, *words: str) -> str | None:
    """Run a git command in a folder; return what it prints, or `None` without git or without a repository."""
    program = shutil.which("git")
    if program is None or Path(program).resolve().is_relative_to(Path.cwd().resolve()):  # Windows looks there first
        return None
    command = [program, *NO_PROGRAMS, "-C", str(folder), *words]
    found = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return found.stdout.strip() if found.returncode == 0 else None
