"""What is recorded of machine and code, without running what a downloaded folder holds."""

import shutil
import subprocess
from pathlib import Path

import pytest

from losslab import machine

needs_git = pytest.mark.skipif(not shutil.which("git"), reason="there is no git here")


def git(folder: Path, *words: str) -> str:
    """What git does in a folder, which must work."""
    own = ["-c", "user.name=me", "-c", "user.email=me@here"]
    return subprocess.run(["git", *own, *words], cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def repository(folder: Path) -> Path:
    """Make a repository with one commit, of the file `a.txt`."""
    folder.mkdir()
    git(folder, "init", "--quiet")
    (folder / "a.txt").write_text("a")
    git(folder, "add", "a.txt")
    git(folder, "commit", "--quiet", "-m", "one")
    return folder


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with one commit, in which the command is typed; losslab itself lies in none."""
    folder = repository(tmp_path / "clone")
    monkeypatch.chdir(folder)
    (tmp_path / "installed").mkdir()
    monkeypatch.setattr(machine, "__file__", str(tmp_path / "installed" / "machine.py"))
    return folder


@needs_git
def test_commit_and_changes_are_those_of_the_folder(clone: Path) -> None:
    commit = git(clone, "rev-parse", "HEAD")
    assert machine.git_state() == (commit, "no")
    (clone / "a.txt").write_text("b")
    assert machine.git_state() == (commit, "yes")


@needs_git
@pytest.mark.parametrize("how", ["monitor", "filter", "hook", "hooks path", "included", "submodule"])
def test_no_program_of_a_downloaded_repository_is_run(how: str, clone: Path, tmp_path: Path) -> None:
    burst, script = tmp_path / "burst", clone / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch '{burst}'\ncat\n")
    script.chmod(0o755)
    hooks = clone / (".git/hooks" if how == "hook" else "hooks")
    hooks.mkdir(exist_ok=True)
    inner = clone
    if how == "submodule":
        inner = repository(clone / "inner")
        git(clone, "add", "inner")
        git(clone, "commit", "--quiet", "-m", "two")
    if how in ("monitor", "submodule"):
        git(inner, "config", "core.fsmonitor", str(script))
    elif how in ("hook", "hooks path"):
        shutil.copy(script, hooks / "post-index-change")
        if how == "hooks path":
            git(clone, "config", "core.hooksPath", str(hooks))
    else:
        (clone / ".gitattributes").write_text("*.txt filter=evil\n")
        if how == "included":
            (clone / ".git" / "more").write_text(f'[filter "evil"]\n\tclean = {script}\n')
            git(clone, "config", "include.path", "more")
        else:
            git(clone, "config", "filter.evil.clean", str(script))
    (clone / "a.txt").write_text("b")  # as long as before, so that git compares what is in it
    (inner / "a.txt").write_text("b")
    commit, changes = machine.git_state()
    assert commit == (clone / ".git" / (clone / ".git" / "HEAD").read_text()[5:].strip()).read_text().strip()
    assert changes == (None if how in ("filter", "included") else "yes")
    assert not burst.exists()
    subprocess.run(["git", "status"], cwd=inner, check=True, capture_output=True)
    assert burst.exists(), "git itself would have run it"


def test_a_git_in_the_current_folder_is_not_run(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evil = clone / "git"
    evil.write_text("#!/bin/sh\ntouch burst\n")
    evil.chmod(0o755)
    monkeypatch.setenv("PATH", str(clone))
    assert machine.git_state() == (None, "no")
    assert not (clone / "burst").exists()
