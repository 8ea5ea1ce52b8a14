"""A race from its first training to its page, with trainings that are made up: who is dropped, and what goes on."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import losslab
from losslab.errors import Refused
from losslab.race import driver, tuning
from losslab.sweep.ledger import Ledger, Record
from losslab.sweep.plan import Job, Plan
from tests.compare.written import run as write_run
from tests.conftest import some_now

BETTER = {"mae": 100.0, "mse": 100.2, "huber": 140.0, "log_cosh": 100.1, "msle": 0.0}
Train = Callable[[Path, Job], Record]


class MadeUp:
    """In place of the workers, whose jobs `run_jobs` does at once."""

    def __init__(self, folder: Path, plan: Plan, count: int, stack: int = 1) -> None:
        self.folder, self.plan, self.count, self.stack = folder, plan, 1, stack
        self.ledger = Ledger(folder / "jobs")

    def describe(self) -> str:
        return "1 at a time"

    def close(self) -> None:
        self.ledger.close()


class Killed(Exception):
    """What ends a race in the middle."""


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int, str]]:
    """Loss, seed and stage of each training, in their order; `kill_after` of them the race is killed."""
    done: list[tuple[str, int, str]] = []

    def train(folder: Path, job: Job) -> Record:
        loss, seed = job.cell["loss"], job.repeats[0]["seed"]
        setting = {**job.setting, "optimizer.lr": int(job.key[:6], 16) / 2**24} if job.draw else job.setting
        stage = setting.get("stage", "tuning")
        done.append((loss, seed, stage))
        if limit["runs"] and len(done) >= limit["runs"]:
            raise Killed
        rng = np.random.default_rng([seed, *map(ord, loss)])
        value = BETTER[loss] + rng.normal() + 3 * np.random.default_rng(seed).normal()
        runs = [{"overrides": {**setting, **job.repeats[0]}, "value": value, "seconds": 1.0}]
        record = {"state": "done", "reason": None, "value": value, "setting": setting, "runs": runs}
        if loss == "msle" or not np.isfinite(value):
            return record | {"state": "failed", "reason": "the loss is NaN", "value": None}
        own = {"loss": loss, "seed": seed, "data.seed": seed, "stage": stage}
        write_run(folder / "runs", value, **own)
        return record

    def run_jobs(workers: MadeUp, plan: Plan, jobs: Sequence[Job], what: str) -> dict[str, Record]:
        for job in jobs:
            if not workers.ledger.over(job.key):
                workers.ledger.write(f"{job.key}.json", json.dumps(train(workers.folder, job)))
        return workers.ledger.records([job.key for job in jobs])

    for module in (driver, tuning):
        monkeypatch.setattr(module, "run_jobs", run_jobs)
    monkeypatch.setattr("losslab.sweep.engine.Workers", MadeUp)
    monkeypatch.setattr("losslab.page.plots.draw_plots", lambda *_: [])  # those of a comparison; the race's stay
    monkeypatch.setattr("losslab.race.levels.WORK", 2_000_000)  # coarser levels do for these tests
    monkeypatch.chdir(tmp_path)
    limit["runs"] = 0
    return done


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of a race is drawn once here, and looked at in test_story.py."""
    if "the_worse_is_dropped" not in request.node.name:
        monkeypatch.setattr("losslab.race.story.draw_story", lambda *_: [])


limit = {"runs": 0}
WORDS = ["loss=mae,mse,huber", "optimizer=adam", "tune=0", "difference=2", "logger=false"]


def read_race(name: str = "race") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(f"outputs/races/{name}/race.json").read_text())
    return found


def test_the_worse_is_dropped_and_those_that_are_the_same_end_it(
    trained: list[tuple[str, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert driver.race(WORDS) == 0
    said, found = capsys.readouterr().out, read_race()
    assert set(found["beaten"]) == {"huber"}
    assert found["beaten"]["huber"]["mean"] == pytest.approx(28, abs=3)  # per cent of 140
    assert {found["leader"], *found["same"]} == {"mae", "mse"}
    assert f"Use {found['leader']}, or one that is the same." in said
    assert f"is the same as {found['leader']} within 2 %" in said
    assert len(trained) == len(set(trained))
    assert max(seed for loss, seed, _ in trained if loss == "huber") == 2  # it ran with three seeds
    page = Path("outputs/races/race/comparison/index.html").read_text()
    assert f"Use {found['leader']}, or one" in page
    assert "The race: how far each candidate" in page
    before = list(trained)
    assert driver.race(WORDS) == 0
    assert trained == before  # nothing is left to do
    again = capsys.readouterr().out
    assert again[again.index("Use ") :] == said[said.index("Use ") :]


def test_python_gets_the_verdict(trained: list[tuple[str, int, str]], capsys: pytest.CaptureFixture[str]) -> None:
    found = losslab.race("diamonds", loss=["mae", "huber"], tune=0, difference=2, logger="false")
    assert found.verdict.splitlines()[0].startswith("Use mae.")
    assert all(sentence in capsys.readouterr().out for sentence in found.verdict.splitlines()[:1])


def test_a_candidate_that_the_budget_does_not_reach_is_said_to_be_untrained(
    trained: list[tuple[str, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    few = ["loss=mae,mse", *WORDS[1:], "budget=10"]
    assert driver.race(few) == 0
    count = len(trained)
    capsys.readouterr()
    assert driver.race(["loss=mae,mse,huber", *few[1:]]) == 0
    said = capsys.readouterr().out
    assert len(trained) == count
    assert "huber is not trained yet." in said
    assert "huber is undecided" not in said


def test_a_candidate_that_raced_cannot_be_left_out(trained: list[tuple[str, int, str]]) -> None:
    assert driver.race(WORDS) == 0
    with pytest.raises(Refused, match=r"holds a race with mae, too, .* type those as well, or name=ANOTHER"):
        driver.race(["loss=mse,huber", *WORDS[1:]])


def test_killed_at_any_moment_it_ends_the_same(trained: list[tuple[str, int, str]]) -> None:
    assert driver.race([*WORDS, "name=whole"]) == 0
    whole, count = read_race("whole"), len(trained)
    rng = np.random.default_rng(0)
    trained.clear()
    for runs in sorted(rng.choice(np.arange(1, count), 5, replace=False)):
        limit["runs"] = int(runs)
        with pytest.raises(Killed):
            driver.race(WORDS)
        trained.pop()  # the one that was killed
    limit["runs"] = 0
    assert driver.race(WORDS) == 0
    assert len(trained) == len(set(trained)) == count
    assert read_race() | {"hours": 0} == whole | {"hours": 0}


def test_a_candidate_can_be_added_and_one_that_fails_is_out(
    trained: list[tuple[str, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert driver.race(WORDS) == 0
    before = read_race()
    assert driver.race(["loss=mae,mse,huber,log_cosh,msle", *WORDS[1:]]) == 0
    after, said = read_race(), capsys.readouterr().out
    assert after["beaten"]["huber"]["rivals"] == before["beaten"]["huber"]["rivals"]
    assert after["looks"][: len(before["looks"])] == before["looks"]
    assert "log_cosh" in {after["leader"], *after["same"], *after["beaten"]}
    assert "trainings failed: the loss is NaN" in after["never"]["msle"]
    assert "msle is out" in said
    assert len(trained) == len(set(trained))


def test_settings_are_tuned_cheaply_first_and_tests_have_fresh_seeds(trained: list[tuple[str, int, str]]) -> None:
    words = ["loss=mae,huber", "tune=4", "difference=5", "trainer.max_epochs=9", "logger=false"]
    assert driver.race(words) == 0
    stages = [stage for _, _, stage in trained]
    assert stages.count("tuning") == 2 * (4 + 2)
    assert stages == sorted(stages, reverse=True)  # all tuning comes before the first test
    assert all((seed >= 1000) == (stage == "test") for _, seed, stage in trained)
    chosen = json.loads(Path("outputs/races/race/tuned.json").read_text())
    assert {name: setting["trainer.max_epochs"] for name, setting in chosen.items()} == {"mae": 9, "huber": 9}


@pytest.mark.parametrize(("budget", "most"), some_now([("9", 9), ("20", 20)], [("9", 9)]))
def test_a_budget_is_kept_and_what_is_undecided_is_said(
    budget: str, most: int, trained: list[tuple[str, int, str]], capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["loss=mae,mse,log_cosh", "tune=0", "difference=0.01", f"budget={budget}", "logger=false"]
    assert driver.race(words) == 0
    said = capsys.readouterr().out
    assert len(trained) <= most
    assert f"It ended because the next look would go beyond the budget of {most} runs; about" in said
    assert "Not decided;" in said
    assert "is undecided after" in said
    assert driver.race([*words[:3], "budget=40", "logger=false"]) == 0
    assert most < len(trained) <= 40


def test_another_difference_is_another_race(trained: list[tuple[str, int, str]]) -> None:

    driver.race(WORDS)
    for other in (["difference=3"], ["difference=2", "claim=rows"]):
        with pytest.raises(Refused, match="name=ANOTHER"):
            driver.race([*WORDS[:3], *other, "logger=false"])


def test_where_all_trainings_fail_no_candidate_is_blamed(
    trained: list[tuple[str, int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from losslab.errors import Refused

    words = ["loss=mse,msle", "tune=0", "difference=2", "logger=false"]
    monkeypatch.setitem(BETTER, "mse", float("nan"))
    with pytest.raises(Refused, match=r"all 10 trainings since the last look failed \(the loss is NaN\): fix that"):
        driver.race(words)
    assert not Path("outputs/races/race/race.json").exists()
    monkeypatch.setitem(BETTER, "mse", 1.0)
    assert driver.race([*words, "retry=true"]) == 0
    assert set(read_race()["never"]) == {"msle"}
    assert driver.race(["loss=mse,mae", "tune=0", "difference=2", "logger=false", "name=other"]) == 0
