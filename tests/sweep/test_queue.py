"""How often processes look at the disk for a job, and that a driver learns of every job that is over."""

import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from losslab.sweep import ledger as ledger_module
from losslab.sweep import queue as queue_module
from losslab.sweep.ledger import Ledger
from losslab.sweep.plan import Job
from losslab.sweep.queue import Queue
from tests.conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import scale

MOST = 20  # calls a job that name a file
JOBS = [Job(key, {}, {}, [{"seed": 0}]) for key in "abcdefgh"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


def parse_count(text: str) -> int:
    """Parse a number as the table has it."""
    return int(text.replace(",", ""))


ROWS = re.findall(
    r"^\| ([\d,]+) \| ([\d,]+) \| (\d+) \| (\d+) \| (\d+) \|$", (ROOT / "docs/scale.md").read_text(), re.M
)
TABLE = {(jobs, workers, drivers): calls for jobs, workers, drivers, *calls in (map(parse_count, row) for row in ROWS)}


def test_a_job_takes_as_many_looks_at_the_disk_among_many_jobs_as_among_few(tmp_path: Path) -> None:
    """The documented numbers are those of the code, within a call."""
    assert len(TABLE) > 10
    assert max(map(sum, TABLE.values())) <= MOST
    many = scale.count_calls(tmp_path, 300, 8)[0]
    for who, said in zip(("worker", "driver"), TABLE[300, 8, 1], strict=True):
        assert sum(n for key, n in many.items() if key.startswith(who)) / 300 == pytest.approx(said, abs=1)
    few = scale.count_calls(tmp_path, 150, 8)[0].total() / 150
    assert 9 < many.total() / 300 < 1.1 * few


def test_a_driver_for_each_worker_adds_no_look_for_each_of_the_others(tmp_path: Path) -> None:
    """Each driver looks for others' news every 10 to 30 s, whatever their number; a job lasts 100 s."""
    calls, _ = scale.count_calls(tmp_path, 200, 20, 20)
    assert calls.total() / 200 < 1.2 * MOST, "it was 700, when each of them read each record"


def test_processes_without_a_job_hardly_look_at_the_disk(tmp_path: Path) -> None:
    """With one job for each of 100 workers, each waits up to 100 s for the others; a job takes 11 calls."""
    calls, _ = scale.count_calls(tmp_path, 100, 100)
    assert calls.total() / 100 < 40, "it was 112, when each looked at three jobs in four ways"


@pytest.mark.parametrize(("workers", "apart"), [(1, 0), (4, 20), (16, 60)])
def test_workers_go_through_the_jobs_together(tmp_path: Path, workers: int, apart: int) -> None:
    simulation = scale.Simulation(tmp_path, 200, workers)
    simulation.run()
    assert sorted(simulation.order) == [*range(200)], "each once"
    late = sorted(abs(place - number) for place, number in enumerate(simulation.order))
    assert late[len(late) * 9 // 10] <= apart


def end(ledger: Ledger, *keys: str) -> None:
    """A worker ends jobs."""
    for key in keys:
        claim = ledger.claim(key)
        assert claim is not None
        claim.finish({"state": "done", "value": 1.0})


def test_a_driver_hears_of_its_own_workers_and_lists_the_folder_for_all_others(tmp_path: Path) -> None:
    driver, worker, other = (Ledger(tmp_path) for _ in range(3))
    worker.tells = driver.listen()
    end(worker, "a")
    end(other, "b")
    with (tmp_path / worker.tells).open("a") as file:
        file.write("../a\n\nc\na\nd")  # no keys, a job that is not over, an old one, and half a line
    assert driver.hear()
    assert not driver.hear()
    assert set(driver.known_records("abcd")) == {"a"}
    end(other, "d")
    with (tmp_path / worker.tells).open("a") as file:
        file.write("\n")
    assert driver.hear()
    assert set(driver.known_records("abcd")) == {"a", "d"}
    assert driver.catch_up("abcd", own=1) < 7, "there is another driver, and the sweep is young"
    assert set(driver.known_records("abcd")) == {"a", "b", "d"}
    driver.close()
    assert not list(tmp_path.glob("*.over"))


def test_drivers_share_what_they_read_and_a_retry_forgets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker, first, second = (Ledger(tmp_path) for _ in range(3))
    first.lock_name()
    end(worker, "a", "b")
    claim = worker.claim("c")
    assert claim is not None
    claim.finish({"state": "failed"})
    assert set(first.records("abc")) == {*"abc"}
    with monkeypatch.context() as patch:
        patch.setattr(second, "learn", lambda key: pytest.fail(f"{key} was read again"))
        assert second.records("abc") == first.known
    (tmp_path / "b.json").unlink()
    assert set(Ledger(tmp_path).records("abc")) == {"a", "c"}, "the folder is the truth"
    first.forget_failures()
    end(worker, "c")
    assert Ledger(tmp_path).records("c")["c"]["state"] == "done"


def test_what_was_left_comes_first_and_what_killed_its_process_last(tmp_path: Path) -> None:
    gone, ledger = Ledger(tmp_path), Ledger(tmp_path)
    end(gone, "a")
    for key in "bc":
        claim = gone.claim(key)
        assert claim is not None
        claim.release()
    assert gone.claim("e") is not None
    assert gone.crashed(os.getpid(), "e") == {"e": 1}
    gone.close()
    queue = Queue(ledger, JOBS)
    taken = ""
    while held := queue.take():
        taken += held[0].key
        held[1].finish({"state": "done"})
    assert {*taken[:2]} == {*"bc"}
    assert taken[2:] == "dfghe"


def test_of_a_large_folder_a_process_reads_what_another_has_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was listed is a hint: jobs that ended or were claimed since are not done twice, and none is left out."""
    monkeypatch.setattr(ledger_module, "LARGE", 1)
    first, second, third = (Queue(Ledger(tmp_path), JOBS) for _ in range(3))
    end(first.ledger, *"ab")
    first.list_jobs()
    (tmp_path / "b.json").unlink()  # its record was put aside, as it was not whole
    end(first.ledger, *"cd")
    held = first.ledger.claim("e")
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda folder: pytest.fail("it was listed again"))
        for queue in (second, third):
            queue.list_jobs()
            assert queue.free == [*"cdefgh"]
    taken = set()
    for queue in (second, third):
        while job := queue.take():
            assert job[0].key not in taken
            taken.add(job[0].key)
            job[1].finish({"state": "done"})
    assert taken == {*"bfgh"}
    assert held is not None
    assert not held.path.with_suffix(".2").exists()
    first.ledger.forget_failures()
    assert not (tmp_path / ".names").exists()


def test_a_process_without_a_job_looks_seldom_and_at_once_when_its_driver_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, ledger = Ledger(tmp_path), Ledger(tmp_path)
    claims = [other.claim(job.key) for job in JOBS]
    queue = Queue(ledger, JOBS)
    assert queue.take() is None
    for claim in filter(None, claims):
        claim.release()
    with monkeypatch.context() as patch:
        patch.setattr(ledger, "glance", lambda: pytest.fail("it looked again"))
        assert queue.take() is None
    queue.add([])
    assert queue.take() is not None


@pytest.mark.parametrize("dead", [job.key for job in JOBS])
def test_what_a_process_left_that_has_surely_died_is_found_at_once(tmp_path: Path, dead: str) -> None:
    """Whichever job it was at, among those that others are at, and others it may have left."""
    holders = {job.key: Ledger(tmp_path) for job in JOBS}
    assert all(holder.claim(key) for key, holder in holders.items())
    queue = Queue(Ledger(tmp_path), JOBS)
    assert queue.take() is None
    for key in {dead, "a"}:
        holders[key].close()
    queue.add([])
    found = {held[0].key for held in iter(queue.take, None)}
    assert found == {dead, "a"}


def test_a_process_without_a_job_looks_at_all_that_are_held_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seven jobs are done for hours elsewhere, and the holder of one is gone, with its machine."""
    claims = {job.key: Ledger(tmp_path).claim(job.key) for job in JOBS}
    monkeypatch.setattr(ledger_module, "HERE", "another host")
    now = 0.0
    for module in (ledger_module, queue_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now))
    ledger = Ledger(tmp_path)
    monkeypatch.setattr(ledger, "now", lambda: 1000 + now)
    queue, held = Queue(ledger, JOBS), None
    while held is None:
        assert now < 1200, "it is not looked at"
        for key, claim in claims.items():
            assert claim is not None
            os.utime(claim.path, (1000, 1000) if key == "f" else (1000 + now, 1000 + now))
        held = queue.take()
        now += 10
    assert held[0].key == "f"


def test_half_a_record_is_read_again_when_it_is_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    whole: dict[str, Any] = {"state": "done", "value": 1}
    (tmp_path / "a.json").write_text(json.dumps(whole)[:9])
    assert ledger.records("a") == {}
    (tmp_path / "a.json").write_text(json.dumps(whole))
    assert ledger.records("a") == {"a": whole}
