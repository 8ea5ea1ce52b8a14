"""How often processes look at the disk for a job, and that a driver learns of every job that is over."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from losslab.sweep import ledger as ledger_module
from losslab.sweep.ledger import Ledger
from losslab.sweep.plan import Job
from losslab.sweep.queue import Queue
from tests.conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import scale

MOST = 20  # calls a job that name a file


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait for the disk."""
    monkeypatch.setattr(os, "fsync", lambda number: None)


def test_a_job_takes_as_many_looks_at_the_disk_among_many_jobs_as_among_few(tmp_path: Path) -> None:
    few, many = (scale.count_calls(tmp_path, jobs, 8)[0].total() / jobs for jobs in (150, 300))
    assert 9 < many < MOST
    assert many < 1.1 * few


def test_a_driver_for_each_worker_adds_no_look_for_each_of_the_others(tmp_path: Path) -> None:
    """Each driver looks for others' news every 10 to 30 s, whatever their number; a job lasts 100 s."""
    calls, _ = scale.count_calls(tmp_path, 200, 20, 20)
    assert calls.total() / 200 < 2.5 * MOST, "it was 700, when each of them read each record"


def test_processes_without_a_job_hardly_look_at_the_disk(tmp_path: Path) -> None:
    """With one job for each of 100 workers, each waits up to 100 s for the others; a job takes 11 calls."""
    calls, _ = scale.count_calls(tmp_path, 100, 100)
    assert calls.total() / 100 < 50, "it was 112, when each looked at three jobs in four ways"


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
    assert driver.catch_up("abcd", own=1) == 1, "there is another driver"
    assert set(driver.known_records("abcd")) == {"a", "b", "d"}
    driver.close()
    assert not list(tmp_path.glob("*.over"))


def test_drivers_share_what_they_read_and_a_retry_forgets_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "SEVERAL", 0)
    worker, first, second = (Ledger(tmp_path) for _ in range(3))
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
    queue = Queue(ledger, [Job(key, {}, {}, [{"seed": 0}]) for key in "abcdefgh"])
    taken = ""
    while held := queue.take():
        taken += held[0].key
        held[1].finish({"state": "done"})
    assert taken == "bcdfghe"


def test_half_a_record_is_read_again_when_it_is_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    whole: dict[str, Any] = {"state": "done", "value": 1}
    (tmp_path / "a.json").write_text(json.dumps(whole)[:9])
    assert ledger.records("a") == {}
    (tmp_path / "a.json").write_text(json.dumps(whole))
    assert ledger.records("a") == {"a": whole}
