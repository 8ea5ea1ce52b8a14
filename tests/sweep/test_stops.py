"""A sweep stops at any moment, by any signal, and nothing is lost; what is no job's fault is no job's result."""

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from losslab.errors import Refused
from losslab.sweep import stopping, worker
from losslab.sweep.choice import choose_settings
from losslab.sweep.driver import check_same_sweep, sweep
from losslab.sweep.faults import exit_code, imported, no_result, out_of_memory
from losslab.sweep.ledger import HERE, Ledger
from losslab.sweep.plan import read
from losslab.sweep.processes import Workers
from losslab.sweep.worker import work
from losslab.training import preemption
from tests.conftest import ROOT, some_now
from tests.processes import Fork
from tests.sweep.short import LR, done_here, sweep_file, table

sys.path.append(str(ROOT / "benchmarks"))

import faults

QUICK = 0.3  # seconds of grace


def is_free(ledger: Ledger, key: str) -> bool:
    """Whether a job can be claimed; where it can, it has been."""
    return ledger.claim(key) is not None


def claimed(ledger: Ledger, key: str) -> Path:
    """The claim of a host that is no longer there to be asked."""
    claim = ledger.claim(key)
    assert claim is not None
    return claim.path


@pytest.mark.system
def test_a_signal_to_driver_or_worker_at_any_moment_loses_nothing(tmp_path: Path) -> None:
    """The short form of `benchmarks/faults.py moments`, from real processes."""
    faults.moments(tmp_path, random.Random(2), 4, jobs=8, words=("n=1",))


def for_ever() -> None:
    """A loop that takes every exception for something else, as an import may."""
    while True:
        with suppress(BaseException):
            time.sleep(0.01)


def locked() -> None:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()


HANGING: dict[str, Callable[[], object]] = {
    "a call into C": lambda: time.sleep(600),
    "a lock": locked,
    "what swallows exceptions": for_ever,
}


WHILE = cycle(("importing", "between runs", "in a run", "in a run", "between runs", "importing", "in a run"))


@pytest.mark.system
@pytest.mark.parametrize(
    ("at", "by", "under_way"),
    [(at, by, next(WHILE)) for at in HANGING for by in ("the driver's end", "SIGINT", "SIGTERM", "SIGHUP")],
)
def test_a_worker_ends_soon_whatever_it_is_at(tmp_path: Path, at: str, by: str, under_way: str) -> None:
    os.mkfifo(tmp_path / "driver")

    def hang() -> None:
        stopping.GRACE, stopping.BRIEF = 2 * QUICK, QUICK
        os.dup2(os.open(tmp_path / "driver", os.O_RDONLY), 0)
        stop = stopping.Stop()
        stop.listen()
        stop.importing = under_way == "importing"
        preemption.notice.awaited = under_way == "in a run"
        (tmp_path / "hangs").touch()
        HANGING[at]()

    process = Fork(hang, tmp_path)
    writes = os.open(tmp_path / "driver", os.O_WRONLY)
    while not (tmp_path / "hangs").exists():
        time.sleep(0.01)
    began = time.monotonic()
    if by == "the driver's end":
        os.close(writes)
    else:
        process.send_signal(signal.Signals[by])
    code = process.wait(10)
    number = signal.SIGINT if by == "the driver's end" else signal.Signals[by]
    assert code == (128 + number if under_way == "importing" else -signal.SIGKILL)
    assert time.monotonic() - began < 5
    if by != "the driver's end":
        os.close(writes)


def from_our_own_code(name: str) -> ImportError:
    """An import that fails in a module of that name."""
    try:
        exec("raise ImportError('half of a module')", {"__name__": name})
    except ImportError as error:
        return error
    raise AssertionError


def because_of(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (FULL, errno.ENOSPC),
        (because_of(Refused("the checkpoint could not be written"), FULL), errno.ENOSPC),
        (because_of(RuntimeError("unexpected pos 64 vs 0"), because_of(ValueError(), FULL)), errno.ENOSPC),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), errno.EDQUOT),
        (OSError(errno.EIO, "Input/output error"), errno.EIO),
        (FileNotFoundError(errno.ENOENT, "No such file or directory", "FOLDER/runs/a/history.csv"), errno.ENOENT),
        (NotADirectoryError(errno.ENOTDIR, "Not a directory", "FOLDER/jobs/a.1"), errno.ENOTDIR),
        (MemoryError(), errno.ENOMEM),
        (because_of(Refused("loss=mse cannot be made"), MemoryError()), errno.ENOMEM),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), errno.ENOMEM),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), errno.ENOMEM),
        (RuntimeError("can't start new thread"), errno.ENOMEM),
        (ImportError("libx.so: failed to map segment from shared object"), errno.ENOMEM),
        (from_our_own_code("losslab.training.module"), 1),
    ],
    ids=repr,
)
def test_an_error_that_is_no_jobs_fault_is_no_jobs_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    path, folder = sweep_file(tmp_path), tmp_path / "sweep"
    if isinstance(error, OSError) and error.filename:
        error.filename = str(error.filename).replace("FOLDER", str(folder))
    monkeypatch.setattr("losslab.sweep.faults.imported", imported | {"losslab", "tests"})

    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("losslab.sweep.worker.do_run", fail)
    plan = read(path, {})
    with pytest.raises(type(error)) as raised:
        work(folder, plan, plan.jobs())
    assert raised.value is error
    assert exit_code(error) == code
    ledger = Ledger(folder / "jobs")
    first, *others = [job.key for job in plan.jobs()]
    assert ledger.records([first, *others]) == {}
    assert is_free(ledger, first), "it was let go of"
    if out_of_memory(error):
        assert ledger.look().crashed == {first}, "the others' turn comes first"


@pytest.mark.parametrize(
    "error",
    [
        Refused("loss=mse cannot be made with these settings"),
        ValueError("the user's own"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "/elsewhere/their.csv"),
        ModuleNotFoundError("No module named 'theirs'"),
        from_our_own_code("theirs.losses"),
        RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RecursionError("maximum recursion depth exceeded"),
        SystemExit(3),
    ],
    ids=repr,
)
def test_an_error_of_the_users_own_is_that_jobs_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr("losslab.sweep.worker.do_run", fail)
    monkeypatch.setattr("losslab.sweep.faults.imported", {"losslab"})
    monkeypatch.setattr(preemption.notice, "by", None)
    _, records = done_here(sweep_file(tmp_path), tmp_path / "sweep")
    assert [record["state"] for record in records.values()] == ["failed"] * 4
    assert not no_result(error, tmp_path / "sweep")


def test_after_a_stop_nothing_that_happens_is_a_jobs_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, began = read(sweep_file(tmp_path), {}), []

    def half_imported(*_: Any) -> None:
        began.append(1)
        monkeypatch.setattr(worker.stop, "by", signal.SIGINT)
        raise RecursionError

    monkeypatch.setattr("losslab.sweep.worker.do_run", half_imported)
    with pytest.raises(RecursionError):
        work(tmp_path / "sweep", plan, plan.jobs())
    assert work(tmp_path / "sweep", plan, plan.jobs()) == 0
    assert len(began) == 1
    assert not list((tmp_path / "sweep" / "jobs").glob("*.json"))


@pytest.mark.system
@pytest.mark.parametrize(
    ("end", "says"),
    [
        ("sys.exit(errno.ENOSPC)", "No space left on device: free some space there"),
        ("sys.exit(errno.ENOENT)", "No such file or directory: put it back"),
        ("sys.exit(errno.ENOMEM)", "Cannot allocate memory: type a smaller n=, or free some memory"),
        ("os.write(2, b'cannot allocate memory for thread-local data: ABORT'); sys.exit(127)", "type a smaller n="),
        ("sys.exit(200)", "with exit code 200"),
        ("raise ImportError('torch is broken')", "with exit code 1 (ImportError: torch is broken)"),
        ("os.kill(os.getpid(), signal.SIGTERM)", "by SIGTERM"),
        ("sys.exit(143)", "by SIGTERM"),
    ],
)
def test_a_sweep_whose_workers_get_nothing_done_ends_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, says: str
) -> None:
    real = subprocess.Popen

    def ends(words: list[str], **how: Any) -> "subprocess.Popen[str]":
        return real([sys.executable, "-c", f"import errno, os, signal, sys; {end}"], **how)

    monkeypatch.setattr("losslab.sweep.processes.subprocess.Popen", ends)
    with pytest.raises(Refused) as refused:
        sweep(sweep_file(tmp_path), [f"output_dir={tmp_path}", "n=1"])
    assert says in str(refused.value)
    assert "nothing is lost: the same command then goes on" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("sweeps/short/jobs/*.json"))


HALVES = {"half": '{"method": "gr', "empty": "", "a list": "[1]", "zeros": "\0" * 50, "deep": "[" * 100_000}


@pytest.mark.parametrize("half", some_now(HALVES, ["half", "empty"]))
def test_half_a_file_of_the_sweep_is_a_sentence_or_heals(tmp_path: Path, undrawn: None, half: str) -> None:
    path, folder = sweep_file(tmp_path), tmp_path / "sweep"
    plan, records = done_here(path, folder)
    whole = table(folder)
    jobs, keys = plan.jobs(), list(records)
    (folder / "jobs" / f"{keys[0]}.json").write_text(HALVES[half])
    (run,) = folder.glob(f"runs/*-{keys[1][:6]}")
    for name, key in (("status", keys[1]), ("summary", keys[2])):
        (run,) = folder.glob(f"runs/*-{key[:6]}")
        (run / f"{name}.json").write_text(HALVES[half])
        (folder / "jobs" / f"{key}.json").unlink()
    assert len(Ledger(folder / "jobs").records(keys)) == 1, "as a driver looks, that of the first is put aside"
    _, again = done_here(path, folder)
    assert [record["value"] for record in again.values()] == [record["value"] for record in records.values()]
    assert table(folder) == whole
    for name in ("sweep", "chosen"):
        (folder / f"{name}.json").write_text(HALVES[half])
    with pytest.raises(Refused, match=r"sweep\.json is not whole.* name=ANOTHER"):
        check_same_sweep(folder, plan)
    if half != "a list":
        with pytest.raises(Refused, match=r"chosen\.json is not whole.* name=ANOTHER"):
            choose_settings(folder, plan, jobs, again)


@pytest.mark.parametrize("half", HALVES)
def test_half_a_claim_holds_for_the_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, half: str) -> None:
    ledger = Ledger(tmp_path, lease=60)
    (tmp_path / "a.1").write_text(HALVES[half])
    assert not is_free(ledger, "a")
    assert ledger.crashed(os.getpid(), ["a"]) == {}
    os.utime(tmp_path / "a.1", (1, 1))
    assert not is_free(ledger, "a")
    later = time.monotonic() + 16
    monkeypatch.setattr("losslab.sweep.ledger.time", SimpleNamespace(monotonic=lambda: later))
    assert is_free(ledger, "a")


@pytest.mark.parametrize("jumps", [0, 3600, -3600, 86400 * 365])
def test_a_lease_is_over_when_its_holder_is_gone_and_no_clock_that_jumps_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jumps: int
) -> None:
    """Seconds go by for both, the holder keeps its claim fresh, and the clock of the disk jumps once."""
    theirs = claimed(Ledger(tmp_path), "a")
    monkeypatch.setattr("losslab.sweep.ledger.HERE", "another host")
    now = time.time()
    seen = {"own": 0.0, "disk": now}
    monkeypatch.setattr("losslab.sweep.ledger.time", SimpleNamespace(monotonic=lambda: seen["own"]))
    ledger = Ledger(tmp_path)
    monkeypatch.setattr(ledger, "now", lambda: seen["disk"])
    for second in range(300):
        seen["own"] += 1
        seen["disk"] += 1 + jumps * (second == 155)
        if second % 10 == 0:
            os.utime(theirs, (seen["disk"],) * 2)
        assert not is_free(ledger, "a"), f"after {second} s"
    waited = 0
    while not is_free(ledger, "a"):
        waited += 1
        seen["own"] += 1
        seen["disk"] += 1
        assert waited < 120
    assert 45 <= waited <= 75


def test_a_clock_that_is_put_back_does_not_keep_a_dead_hosts_claim_for_hours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = claimed(Ledger(tmp_path), "a")
    os.utime(theirs, (time.time() + 7200,) * 2)
    monkeypatch.setattr("losslab.sweep.ledger.HERE", "another host")
    ledger = Ledger(tmp_path)
    assert not is_free(ledger, "a")
    later = time.monotonic() + 61
    monkeypatch.setattr("losslab.sweep.ledger.time", SimpleNamespace(monotonic=lambda: later))
    assert is_free(ledger, "a")


def test_a_claim_that_was_let_go_of_is_no_crash(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    claim = ledger.claim("a")
    assert claim is not None
    (alive,) = tmp_path.glob(".*.alive")
    assert json.loads(claim.path.read_text()) == {"host": HERE, "pid": os.getpid(), "lock": alive.name}
    claim.release()
    assert ledger.crashed(os.getpid(), ["a"]) == {}
    assert is_free(ledger, "a")
    assert ledger.crashed(os.getpid(), ["a"]) == {"a": 1}


@pytest.mark.system
def test_a_search_goes_on_where_a_process_died_in_the_midst_of_its_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the lock held, half of a line written, and a relative path, which Optuna's own lock waits at for ever."""
    from losslab.sweep.search import Lock, draw

    monkeypatch.chdir(tmp_path)
    folder = Path("sweep")
    plan = read(sweep_file(tmp_path, "random", run_cap=8, parameters=LR), {})
    ledger = Ledger(folder / "jobs")
    first, _, second, *_ = plan.jobs()
    drawn = draw(folder, ledger, plan, first)

    def die() -> None:
        Lock(folder / "optuna.journal").acquire()
        with (folder / "optuna.journal").open("a") as journal:
            journal.write('{"op_code": 4, "worker_')
        os.kill(os.getpid(), signal.SIGKILL)

    assert Fork(die, tmp_path).wait() == -signal.SIGKILL
    began = time.monotonic()
    other = draw(folder, ledger, plan, second)
    assert time.monotonic() - began < 5
    assert other.number != drawn.number
    (folder / "jobs" / f"{first.key}.trial").write_text("")
    assert draw(folder, ledger, plan, first).params == drawn.params


def in_a_fork(path: str, folder: Path, where: Path) -> int:
    """Do all jobs in a process of its own; its exit code is a worker's."""

    def does() -> None:
        try:
            done_here(path, folder)
        except OSError as error:
            sys.exit(exit_code(error))
        except Refused as error:
            sys.exit(exit_code(error))

    return Fork(does, where).wait()


@pytest.mark.system
def test_a_disk_that_fills_up_and_is_emptied(tmp_path: Path, undrawn: None) -> None:
    small, where = tmp_path / "small", tmp_path / "fork"
    small.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("no disk of a size can be mounted here")
    try:
        path, folder = sweep_file(tmp_path), small / "sweep"
        (folder / "jobs").mkdir(parents=True)
        for left in (0, 4096, 16384, 40960, 81920, 120_000):
            with (small / "filler").open("wb", buffering=0) as filler:
                while filler.write(b"\0" * 4096):
                    space = os.statvfs(small)
                    if space.f_bavail * space.f_frsize <= left:
                        break
            before = len(list(folder.glob("jobs/*.json")))
            code = in_a_fork(path, folder, where)
            assert code == errno.ENOSPC or len(list(folder.glob("jobs/*.json"))) == 4, f"{left} bytes left: {code}"
            assert len(list(folder.glob("jobs/*.json"))) >= before
            (small / "filler").unlink()
        _, records = done_here(path, folder)
        assert [record["state"] for record in records.values()] == ["done"] * 4
        done_here(path, tmp_path / "peace")
        assert table(folder) == table(tmp_path / "peace")
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def test_a_folder_that_vanishes_and_returns(tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    from losslab.training.module import Experiment

    path, folder = sweep_file(tmp_path), tmp_path / "sweep"
    begun, turns = Experiment.on_train_epoch_start, iter(range(100))

    def start(self: Experiment) -> None:
        if next(turns) == 3:  # of the second run
            folder.rename(tmp_path / "away")
        begun(self)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "on_train_epoch_start", start)
        with pytest.raises((OSError, Refused)) as error:
            done_here(path, folder)
    assert exit_code(error.value) == errno.ENOENT
    shutil.rmtree(folder, ignore_errors=True)
    (tmp_path / "away").rename(folder)
    assert len(list(folder.glob("jobs/*.json"))) == 1
    done_here(path, folder)
    done_here(path, tmp_path / "peace")
    assert table(folder) == table(tmp_path / "peace")


@pytest.mark.system
def test_a_worker_begins_nothing_where_the_sweep_is_gone(tmp_path: Path) -> None:
    plan = read(sweep_file(tmp_path), {})
    (tmp_path / "sweep").mkdir()
    workers = Workers(tmp_path / "sweep", plan, 1)
    workers.add(plan.jobs())
    process = workers.start()
    assert process.stdin is not None
    shutil.rmtree(tmp_path / "sweep")
    assert process.wait(60) == errno.ENOENT
    process.stdin.close()
    assert not list(tmp_path.glob("sweep/runs/*-*"))
