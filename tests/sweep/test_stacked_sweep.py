"""`stack=N` of a sweep: runs that are trained as one leave what they would leave alone, whatever happens to them."""

import json
import os
import signal
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from losslab.errors import Refused
from losslab.sweep.driver import sweep
from losslab.sweep.engine import take_engine
from losslab.sweep.ledger import Ledger, Record
from losslab.sweep.plan import Job, Plan, read
from losslab.sweep.worker import do_job, do_run, work
from tests.conftest import until, without_pictures
from tests.processes import Fork
from tests.sweep.short import FOLDS, LR, start, sweep_file, table

EXACT = {"trainer.precision": {"value": "64-true"}, "optimizer": {"value": "sgd"}, "optimizer.lr": {"value": 0.01}}


def done(path: str, folder: Path, stack: int, some: slice = slice(None)) -> dict[str, Record]:
    """What becomes of the jobs of a sweep, or of some of them, in this process."""
    plan = read(path, {})
    jobs = plan.jobs()[some]
    work(folder, plan, jobs, stack)
    return Ledger(folder / "jobs").records([job.key for job in jobs])


def stacks(folder: Path) -> list[int]:
    """With how many others each run that has finished was trained, itself included."""
    known = [json.loads(file.read_text()) for file in folder.glob("runs/*/status.json")]
    return sorted(status["facts"].get("stacked", 1) for status in known if status["status"] == "finished")


def same(one: Path, other: Path) -> None:
    """Both sweeps have the same runs with the same numbers, but for the last digits."""
    ours, theirs = table(one), table(other)
    assert ours.keys() == theirs.keys()
    for name, numbers in ours.items():
        assert numbers == pytest.approx(theirs[name], rel=1e-9, abs=1e-12), name
    names = [sorted(run.name for run in folder.glob("runs/*-*")) for folder in (one, other)]
    assert names[0] == names[1], "whoever takes a job over finds it"


def told(records: dict[str, Record]) -> list[tuple[Any, ...]]:
    """The records but for numbers and times."""
    return [
        (key, r["state"], r["reason"], r["setting"], [run["overrides"] for run in r["runs"]])
        for key, r in records.items()
    ]


def values(records: dict[str, Record]) -> list[float]:
    return [record["value"] for record in records.values() if record["value"] is not None]


def test_folds_train_as_one_where_they_have_as_many_rows(tmp_path: Path, undrawn: None) -> None:
    more = EXACT | FOLDS | {"loss": {"value": "mse"}, "seed": {"value": 0}, "optimizer.lr": {"values": [0.01, 0.02]}}
    path = sweep_file(tmp_path, "random", parameters=more, run_cap=5)
    (record,) = done(path, tmp_path, 5).values()
    assert (record["state"], len(record["runs"])) == ("done", 5)
    assert record["value"] == pytest.approx(fmean(run["value"] for run in record["runs"]))
    assert stacks(tmp_path) == [2, 2, 3, 3, 3], "of 442 rows, 89 are tested in two folds and 88 in three"
    known = [json.loads(file.read_text())["facts"] for file in tmp_path.glob("runs/*/status.json")]
    assert sorted(facts["train_rows"] for facts in known) == [442 - 89 - 66] * 2 + [442 - 88 - 66] * 3
    alone = do_run(tmp_path / "alone", read(path, {}), "alone", record["runs"][3]["overrides"])
    assert alone["value"] == pytest.approx(record["runs"][3]["value"], rel=1e-9)


@pytest.mark.system
def test_a_grid_leaves_the_runs_that_it_leaves_one_by_one(tmp_path: Path, undrawn: None) -> None:
    rates = {"optimizer": {"values": ["sgd", "adam"]}, "optimizer.lr": {"values": [0.01, 0.003]}}
    path = sweep_file(tmp_path, parameters=EXACT | rates)
    alone = done(path, tmp_path / "alone", 1)
    done(path, tmp_path / "stacked", 1, slice(2))  # before someone thought of stacks
    as_one = done(path, tmp_path / "stacked", 6)
    assert stacks(tmp_path / "stacked") == [1] * 2 + [2] * 2 + [6] * 12
    same(tmp_path / "stacked", tmp_path / "alone")
    assert told(as_one) == told(alone)
    assert values(as_one) == pytest.approx(values(alone), rel=1e-9)
    assert done(path, tmp_path / "stacked", 6) == as_one, "nothing is missing"


@pytest.mark.system
@pytest.mark.parametrize(("method", "sizes"), [("random", [6] * 12), ("bayes", [2] * 12)])
def test_what_a_search_draws_trains_as_one(tmp_path: Path, undrawn: None, method: str, sizes: list[int]) -> None:
    settings = {"optimizer.lr": "left out", "loss": {"value": "mse"}}
    path = sweep_file(tmp_path, method, run_cap=12, parameters=EXACT | LR | settings)
    alone = done(path, tmp_path / "alone", 1)
    as_one = done(path, tmp_path / "stacked", 6)
    assert stacks(tmp_path / "stacked") == sizes, "a Bayesian search draws by the trials that are over"
    same(tmp_path / "stacked", tmp_path / "alone")
    assert values(as_one) == pytest.approx(values(alone), rel=1e-9)
    assert [record["setting"] for record in as_one.values()] == [record["setting"] for record in alone.values()]


def test_a_run_that_fails_takes_no_other_with_it_and_is_not_trained_twice(
    tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweep_file(tmp_path, parameters=EXACT | {"optimizer.lr": {"values": [0.01, 1e30]}, "seed": {"value": 0}})
    alone = done(path, tmp_path / "alone", 1)
    monkeypatch.setattr("losslab.train.train", lambda *_: pytest.fail("it was trained by itself"))
    as_one = done(path, tmp_path / "stacked", 4)
    assert [record["state"] for record in as_one.values()] == ["done", "failed", "done", "done"], "mse at 1e30"
    assert told(as_one) == told(alone)
    same(tmp_path / "stacked", tmp_path / "alone")


def die(folder: Path, path: str, what: str) -> None:
    """A worker whose stack is more than the memory holds, or that one run of the stack kills."""

    def killed(*_: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)

    with without_pictures(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(what, killed)
        done(path, folder, 4)


@pytest.mark.system
def test_what_was_in_a_stack_that_killed_its_process_trains_alone(tmp_path: Path, undrawn: None) -> None:
    path, folder = sweep_file(tmp_path, parameters=EXACT), tmp_path / "sweeps" / "short"
    keys = [job.key for job in read(path, {}).jobs()]
    process = Fork(lambda: die(folder, path, "losslab.stacking.train.train_together"), tmp_path)
    assert process.wait() == -signal.SIGKILL
    ledger = Ledger(folder / "jobs")
    assert ledger.crashed(process.pid, keys) == dict.fromkeys(keys, 1)
    done(path, folder, 4)
    assert stacks(folder) == [1] * 4


@pytest.mark.system
def test_the_runs_of_a_stack_that_is_stopped_go_on_one_by_one(tmp_path: Path, undrawn: None) -> None:
    more = {"trainer.max_epochs": {"value": 150}}
    path, war = sweep_file(tmp_path, parameters=EXACT | more), tmp_path / "war"
    folder = war / "sweeps" / "short"
    driver = start(path, war, "n=1", "stack=4")
    until(lambda: len(list(folder.glob("runs/*/history.csv"))) == 4 or driver.poll() is not None)
    assert driver.poll() is None, driver.communicate()
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=300)
    assert (driver.returncode, "nothing is lost" in errors) == (130, True), errors
    known = [json.loads(file.read_text())["status"] for file in folder.glob("runs/*/status.json")]
    assert known == ["interrupted"] * 4
    assert len(list(folder.glob("runs/*/last.ckpt"))) == 4
    driver = start(path, war, "n=1", "stack=4")
    said, errors = driver.communicate(timeout=300)
    assert driver.returncode == 0, errors
    assert "stacked   0 of 4 runs" in said
    done(path, tmp_path / "peace", 1)
    same(folder, tmp_path / "peace")
    for file in folder.glob("runs/*/history.csv"):
        assert len(file.read_text().splitlines()) == 151


@pytest.mark.system
def test_of_runs_that_do_not_stack_the_log_says_why(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sweep_file(tmp_path, parameters={"optimizer": {"value": "lbfgs"}, "seed": {"value": 0}})
    assert sweep(path, [f"output_dir={tmp_path}", "n=1", "stack=2"]) == 0
    said = capsys.readouterr().out
    folder = tmp_path / "sweeps" / "short"
    assert "sweep     short: 2 runs of 2 cells, 0 finished; 1 stack of up to 2 runs at a time" in said
    assert f"stacked   0 of 2 runs; {folder / 'logs'} says why not the others" in said
    (log,) = (folder / "logs").iterdir()
    assert "2 of 2 runs train alone: optimizer=lbfgs is not marked `stacks: true`" in log.read_text()


@pytest.mark.parametrize(
    ("gpus", "typed", "fixed", "stack"),
    [
        (2, "", {}, 32),
        (2, "stack=auto n=16", {}, 6),
        (2, "stack=8", {}, 8),
        (2, "stack=1", {}, 1),
        (2, "", {"trainer": "cpu"}, 1),
        (2, "", {"data": "mnist", "model": "cnn"}, 1),
        (0, "", {}, 1),
        (0, "stack=32", {}, 32),
    ],
)
def test_small_models_on_gpus_train_as_one_unless_one_says_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gpus: int, typed: str, fixed: dict[str, str], stack: int
) -> None:
    monkeypatch.setattr("losslab.sweep.engine.gpus", lambda: ["GPU"] * gpus)
    monkeypatch.setattr("losslab.sweep.engine.count_workers", lambda on_cpu: 2)
    plan = Plan("p", "grid", {"data": "diabetes", **fixed}, {}, {}, {"seed": [0]})
    engine = take_engine(dict(word.split("=") for word in typed.split()))
    assert engine.start(tmp_path, plan, runs=100).stack == stack
    advised = engine.advise(100, plan, stack)
    assert advised.startswith("stack     stack=32 ") == (not typed and stack == 1 and "model" not in fixed)
    assert not engine.advise(63, plan, stack)


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"^stack=0 does not fit: it must be a whole number of at least 1 or auto"):
        sweep(sweep_file(tmp_path), ["stack=0"])
    early = {"early_terminate": {"type": "hyperband", "min_iter": 1}, "run_cap": 4, "parameters": LR}
    with pytest.raises(Refused, match="early_terminate looks at each run by itself: type it without stack=8"):
        sweep(sweep_file(tmp_path, "bayes", **early), ["stack=8"])


def test_a_job_asks_for_nothing_that_was_trained_with_others(tmp_path: Path) -> None:
    plan: Plan = read(sweep_file(tmp_path), {})
    job: Job = plan.jobs()[0]
    run = tmp_path / "run"
    run.mkdir()
    (run / "status.json").write_text(json.dumps({"seconds": 2.5, "facts": {"stacked": 7}}))
    ends: Any = {(job.key, 0): (run, {"val/rmse_best": 3.0})}
    record = do_job(tmp_path, Ledger(tmp_path / "jobs"), plan, job, ends)
    assert record["runs"] == [{"overrides": {**job.setting, "seed": 0}, "value": 3.0, "seconds": 2.5, "stacked": 7}]
    assert (record["state"], record["value"]) == ("done", 3.0)
    ends = {(job.key, 0): (run, {"val/rmse_best": float("nan")})}
    assert "was nan at best" in do_job(tmp_path, Ledger(tmp_path / "jobs"), plan, job, ends)["reason"]
