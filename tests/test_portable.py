"""The commands work without what POSIX has and Windows lacks, in all processes that they start."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml

from losslab import files, locks, machine
from losslab.sweep.ledger import Ledger
from tests.conftest import ROOT

WITHOUT = ROOT / "tests" / "without_posix"
SHORT = ("data=csv", "data.path=rows.csv", "data.target='πλάτος'", "model=linear", "trainer.max_epochs=2")
LOOKS = """
import os, select, signal, sys
for name in ("fcntl", "resource", "pwd", "termios"):
    try:
        __import__(name)
    except ImportError:
        continue
    sys.exit(f"{name} can be imported")
for module, names in (
    (os, "fork getpgid getpgrp geteuid getuid killpg link register_at_fork sched_getaffinity sysconf WNOHANG"),
    (signal, "SIGHUP SIGKILL SIGUSR1 SIGUSR2 alarm pthread_kill"),
):
    for name in names.split():
        if hasattr(module, name):
            sys.exit(f"{name} is there")
for waits in (lambda: select.select([os.pipe()[0]], [], [], 0), lambda: signal.set_wakeup_fd(os.pipe()[1])):
    try:
        waits()
    except OSError:
        continue
    sys.exit("a pipe can be waited for")
"""


def start(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """Run Python with these words in a fresh process that lacks POSIX, and whose output is of western Europe."""
    env = {
        **os.environ,
        "PYTHONPATH": str(WITHOUT),
        "PYTHONIOENCODING": "cp1252",
        "PYTHONWARNINGS": "ignore:only soft file lock:UserWarning",  # as `sys.platform` is still linux
        "WANDB_MODE": "offline",
    }
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, encoding="cp1252", check=False
    )


def run(folder: Path, *words: str) -> str:
    """Run a command of losslab, which must work; return what it printed."""
    done = start(folder, "-m", "losslab", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """A folder with a table whose target has a Greek name."""
    with (tmp_path / "rows.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["a", "b", "πλάτος"])
        writer.writerows([number, number % 7, 2 * number + number % 7] for number in range(100))
    return tmp_path


@pytest.mark.skipif(sys.platform != "linux", reason="other systems lack other things")
def test_the_processes_of_these_tests_lack_what_windows_lacks(tmp_path: Path) -> None:
    """As losslab's own code sees it, also in processes of a process."""
    code = f"exec({LOOKS!r}, {{'__name__': 'losslab.looks'}})"
    child = f"import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-P', '-c', {code!r}]).returncode)"
    for each in (code, child):
        done = start(tmp_path, "-P", "-c", each)
        assert done.returncode == 0, done.stderr


@pytest.mark.system
def test_a_run_and_its_predictions_without_posix(rows: Path) -> None:
    said = run(rows, *SHORT)
    (folder,) = (file.parent for file in rows.glob("outputs/*/summary.json"))
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"
    assert json.loads((folder / "summary.json").read_text())["peak_memory_mb"] > 50
    assert list(rows.glob("outputs/wandb/offline-run-*/run-*.wandb")), "W&B has its log"
    assert r"target \u03c0\u03bb\u03ac\u03c4\u03bf\u03c2" in said, "code page 1252 has no Greek letters"
    run(rows, "predict", f"ckpt={folder / 'best.ckpt'}", "input=rows.csv", "out=new.csv")
    assert len((rows / "new.csv").read_text(encoding="utf-8").splitlines()) == 101


@pytest.mark.system
def test_a_sweep_of_two_processes_and_its_comparison_without_posix(rows: Path) -> None:
    parameters = {
        "loss": {"values": ["mae", "mse"]},
        "search.lr": {"min": 0.0, "max": 1.0},
        "seed": {"values": [0, 1]},
        "data.seed": {"value": 0},
    }
    asked = {
        "program": "train.py",
        "method": "bayes",
        "run_cap": 8,
        "metric": {"name": "val/rmse", "goal": "minimize"},
        "command": ["${program}", *SHORT, "${args}"],
        "parameters": parameters,
    }
    (rows / "short.yaml").write_text(yaml.safe_dump(asked))
    assert "best " in run(rows, "sweep", "short.yaml", "n=2")
    folder = rows / "outputs" / "sweeps" / "short"
    records = [json.loads(file.read_text()) for file in folder.glob("jobs/*.json")]
    assert [record["state"] for record in records] == ["done"] * 4
    assert len(list(folder.glob("logs/*.txt"))) == 2, "each process has a log"
    assert not list(folder.glob("jobs/.*")), "no lock is left"
    assert "4 finished" in run(rows, "sweep", "short.yaml", "n=2")
    assert len(list(folder.glob("runs/*/summary.json"))) == 8
    run(rows, "compare", str(folder))
    assert (folder / "comparison" / "index.html").is_file()


def test_memory_is_known_where_python_has_no_call_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    peak, total = machine.peak_memory(), machine.total_memory()
    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.delattr(os, "sysconf")
    assert machine.total_memory() == pytest.approx(total, rel=0.01)
    assert 0 < machine.peak_memory() <= peak * 1.1


def test_without_process_groups_a_process_is_killed_with_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = "import time; time.sleep(600)"
    begins = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {waits!r}]); print(flush=True); {waits}"
    process = subprocess.Popen([sys.executable, "-c", begins], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    (child,) = psutil.Process(process.pid).children()
    monkeypatch.delattr(os, "killpg")
    machine.kill_tree(process.pid)
    process.wait(10)
    child.wait(10)
    process.stdout.close()
    machine.kill_tree(process.pid)  # nothing is left to kill


def no_links(*_: object) -> None:
    raise OSError(1, "Operation not permitted")


@pytest.mark.parametrize("links", ["there", "refused by the disk", "unknown to the system"])
def test_a_name_is_given_once_and_to_a_whole_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: str) -> None:
    if links == "refused by the disk":
        monkeypatch.setattr(os, "link", no_links)
    elif links == "unknown to the system":
        monkeypatch.delattr(os, "link")
    for number, name in enumerate(("one", "two")):
        (tmp_path / name).write_text(name)
        assert files.publish(tmp_path / name, tmp_path / "file") == (number == 0)
    assert (tmp_path / "file").read_text() == "one"
    ledger = Ledger(tmp_path / "jobs")
    claim = ledger.claim("a")
    assert claim is not None
    assert ledger.claim("a") is None
    claim.finish({"state": "done"})
    assert Ledger(tmp_path / "jobs").records(["a"]) == {"a": {"state": "done"}}


def test_a_lock_is_of_one_process_and_ends_with_its_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "lock"
    assert locks.is_locked(file) is False, "there is no such file"
    first, second = locks.open_lock(file), locks.open_lock(file)
    assert locks.try_lock(first)
    assert locks.try_lock(second) is False
    assert locks.is_locked(file)
    os.close(first)
    assert locks.is_locked(file) is False
    assert locks.try_lock(second, wait=True)
    os.close(second)

    def refuse(*_: object, **__: object) -> bool:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("filelock.lock_descriptor", refuse)
    third = locks.open_lock(file)
    assert locks.try_lock(third) is None
    assert locks.is_locked(file) is None
    os.close(third)


def test_on_windows_a_file_that_is_open_elsewhere_is_replaced_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals, real = iter([True, True, False]), Path.replace

    def replace(self: Path, target: Path) -> Path:
        if next(refusals):
            raise PermissionError(13, "The process cannot access the file because another process uses it")
        return real(self, target)

    monkeypatch.setattr("losslab.files.WINDOWS", True)
    monkeypatch.setattr(Path, "replace", replace)
    files.write(tmp_path / "status.json", "{}")
    assert (tmp_path / "status.json").read_text() == "{}"
