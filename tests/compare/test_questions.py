"""Runs of several races and sweeps below one folder: each is answered by itself, as it was asked."""

import json
from pathlib import Path
from typing import Any

import pytest

from losslab.compare.__main__ import compare
from losslab.compare.cautions import doubt_seeds
from losslab.compare.design import arrange
from losslab.compare.questions import ask_like_race, split_questions
from losslab.compare.request import parse_request
from losslab.compare.runs import read_runs
from losslab.errors import Refused
from tests.compare.written import grid, run


def raced(folder: Path, said: list[str] | None = None, **asked: Any) -> Path:
    """A race with differences of a third of a per cent, which are lost in noise."""
    grid(folder / "runs", {"mae": 1.0, "mse": 1.003}, 4, spread=0.003)
    (folder / "race.json").write_text(json.dumps({"difference": 5.0, "claim": "", "said": said or [], **asked}))
    return folder


def swept(folder: Path, **settings: Any) -> Path:
    grid(folder / "runs", {"mae": 1.0, "mse": 2.0}, 4, **settings)
    (folder / "sweep.json").write_text("{}")
    return folder


def asked(*words: str) -> str:
    request = parse_request(words)
    return compare(request, read_runs(request.folders))


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two races, one of which goes on, two sweeps of two tasks, and runs of no sweep."""
    monkeypatch.setattr("losslab.compare.__main__.save_plots", lambda *_: [])
    out = tmp_path / "outputs"
    raced(out / "races/ended", ["Use mae. No other candidate is as good.", "mse is worse.", "It took 8 runs."])
    raced(out / "races/goes_on")
    swept(out / "sweeps/labels", task="single_label")
    swept(out / "sweeps/numbers")
    grid(out, {"huber": 1.0, "mape": 3.0}, 3, data="movies")
    return out


def test_each_question_gets_a_paragraph_with_its_own_verdict_and_page(outputs: Path) -> None:
    head, *paragraphs = asked(str(outputs)).split("\n\n")
    assert head.startswith("5 questions.")
    assert [each.split(":")[0] for each in paragraphs] == [
        str(outputs / name) for name in (".", "races/ended", "races/goes_on", "sweeps/labels", "sweeps/numbers")
    ]
    pages = [Path(each.splitlines()[-1].strip()) for each in paragraphs]
    assert [page.is_file() for page in pages] == [True, False, True, True, True], "a race writes its page by itself"
    assert pages[1] == outputs / "races/ended/comparison/index.html"
    assert "Use mae. No other candidate is as good." in paragraphs[1]
    assert "It took 8 runs" not in paragraphs[1], "the page holds the rest"
    assert "Use huber: mape is clearly worse." in paragraphs[0]
    assert "Use mse: mae is clearly worse." in paragraphs[3], "accuracy"
    assert all(len(each.splitlines()) <= 5 for each in paragraphs)
    alone = asked(str(outputs / "sweeps/numbers"))
    assert alone.splitlines()[0] in paragraphs[4]


@pytest.mark.parametrize("words", [["by=[loss]", "task=regression"], ["metric=rmse", "task=regression"]])
def test_what_is_asked_of_all_is_answered_of_all(outputs: Path, words: list[str]) -> None:
    assert "questions" not in asked(str(outputs), *words)
    with pytest.raises(Refused, match="2 tasks"):
        asked(str(outputs / "sweeps/labels"), str(outputs / "sweeps/numbers"))


def test_one_question_that_cannot_be_answered_does_not_hide_the_others(outputs: Path) -> None:
    run(outputs / "sweeps/begun/runs", 1.0)
    (outputs / "sweeps/begun/sweep.json").write_text("{}")
    said = asked(str(outputs))
    assert "6 questions" in said
    assert "sweeps/begun: 1 finished run\n  not compared: one run is no comparison" in said
    for name in ("one", "two"):
        run(outputs / "empty/sweeps" / name, 1.0)
        (outputs / "empty/sweeps" / name / "sweep.json").write_text("{}")
    with pytest.raises(Refused, match="none of these 2 questions"):
        asked(str(outputs / "empty"))


def test_a_race_is_compared_as_it_asked_unless_another_difference_is_typed(outputs: Path) -> None:
    race = outputs / "races/goes_on"
    said = asked(str(race))
    assert "the same within 5 %" in said
    assert "As in the race, difference=5; type another to ask something else." in said
    assert "As in the race" not in asked(str(race), "difference=0.1")
    assert "within 5 %" not in asked(str(race), "difference=0.1")


@pytest.mark.parametrize("found", ["5", [], {}, True, -1.0, 1e9, None])
def test_a_race_whose_file_was_edited_is_compared_as_any_runs(tmp_path: Path, found: object) -> None:
    race = raced(tmp_path / "race", said=None)
    (race / "race.json").write_text(json.dumps({"difference": found, "claim": found, "said": found}))
    request, runs = parse_request([str(race)]), read_runs([str(race)])
    assert ask_like_race(request, runs) == (request, [])
    assert [question.verdict for question in split_questions(runs)] == [[]]


def test_unequal_seeds_are_said_of_the_cell_that_lacks_some(tmp_path: Path) -> None:
    for loss, seeds in (("mae", 4), ("mse", 2)):
        for seed in range(seeds):
            run(tmp_path, 1.0 + 0.1 * seed, loss=loss, seed=seed)
    (said,) = [each for each in doubt_seeds(arrange(read_runs([str(tmp_path)]))) if "Unequal" in each]
    assert said.startswith("Unequal seeds: mse ran"), said
