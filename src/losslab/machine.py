"""What a run was made on and with: versions, machine and git commit."""

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from losslab import __version__

# A repository can name programs of its own in its configuration: no hook, no monitor, no lock, none in a submodule.
NO_PROGRAMS = ("--no-optional-locks", "-c", "core.fsmonitor=false", "-c", f"core.hooksPath={os.devnull}")


def environment() -> dict[str, str | None]:
    """Versions, machine and git commit, so that runs of different code or machines can be told apart."""
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
    """The commit of the clone that losslab runs from, else of the current folder; and whether it was changed.

    No program that the repository's own configuration names is run. Git would run its filters to compare files with
    the commit: where it has any, the second answer, yes or no, is `None`.
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
    """What git says of a folder; `None` where there is no git or no repository."""
    program = shutil.which("git")
    if program is None or Path(program).resolve().is_relative_to(Path.cwd().resolve()):  # Windows looks there first
        return None
    command = [program, *NO_PROGRAMS, "-C", str(folder), *words]
    found = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return found.stdout.strip() if found.returncode == 0 else None
