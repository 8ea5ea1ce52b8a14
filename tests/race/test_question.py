"""What cannot be raced is refused in a sentence, before anything is started."""

from pathlib import Path

import pytest

from losslab.errors import Refused
from losslab.race.driver import race
from losslab.race.question import Budget, parse_budget, read_question, split_words

QUICK = ["logger=false", "trainer.max_epochs=1"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["loss=mse"], "one candidate is no race"),
        (["loss=mse,mse"], "one candidate is no race"),
        (["loss=[mse,mae]"], "loss=[mse,mae] is one candidate, a weighted sum: type loss=mse,mae for several"),
        (["loss=mse,cross_entropy"], "cross_entropy"),
        (["loss=mse,maee"], "maee"),
        (["loss=mse,mae", "difference=0"], "never ends"),
        (["loss=mse,mae", "difference=-1"], "difference=-1 does not fit"),
        (["loss=mse,mae", "difference=much"], "difference=much does not fit"),
        (["loss=mse,mae", "budget=5", "tune=0"], "2 candidates need 10 runs"),
        (["loss=mse,mae", "budget=10"], "need 32 runs until the first look; type budget=32 or more, or tune=0"),
        (["loss=mse,mae", "budget=soon"], "such as 500, 30m, 2h or 8gpuh"),
        (["loss=mse,mae", "budget=0h"], "does not fit"),
        (["loss=mse,mae", "tune=few"], "tune=few does not fit"),
        (["loss=mse,mae", "claim=all"], "type one of rows, seeds, splits, data"),
        (["loss=mse,mae", "seed=3"], "a race chooses its own seeds"),
        (["loss=mse,mae", "seed=0,1"], "a race chooses its own seeds"),
        (["loss=mse,mae", "tune=0", "data.seed=1"], "a race chooses its own seeds"),
        (["loss=glob(nothing*)"], "matches no option that fits"),
        (["none.yaml"], "none.yaml is not there"),
        (["a.yaml", "b.yaml"], "one sweep file"),
        (["loss=mse,mae", "name=../a"], "no path"),
        (["loss=mse,mae", "n=-1"], "n=-1 does not fit"),
        (["loss=mse,mae", "optimizer.lr=-1", "tune=0"], "optimizer.lr"),
        (["sweeps.yaml"], "a race has one"),
    ],
)  # fmt: skip
def test_refused(words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweeps.yaml").write_text(
        "method: grid\nparameters:\n  data: {values: [diamonds, friedman]}\n  loss: {values: [mse, mae]}\n"
    )
    with pytest.raises(Refused) as refused:
        race([*words, *QUICK])
    assert sentence in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not Path("outputs").exists()


def test_a_pattern_stands_for_the_losses_that_fit() -> None:
    files, words, folders = split_words(["loss=glob([m*,huber])", "tune=0"])
    typed = dict(word.split("=", 1) for word in words)
    names = [cell["loss"] for cell in read_question(files, typed, "race", folders).plan.cells]
    assert {"mse", "mae", "huber"} <= set(names)
    assert not {"margin", "multi_margin", "cross_entropy"} & set(names)


@pytest.mark.parametrize(
    ("text", "losses"),
    [
        ("mse,mae", ["mse", "mae"]),
        ("[mse,0.5*mae],mae", ["[mse,0.5*mae]", "mae"]),
        ("mae,mse,mae", ["mae", "mse"]),
        ("choice(mse,huber)", ["mse", "huber"]),
    ],
)
def test_candidates_are_read_as_the_values_of_a_sweep_are(text: str, losses: list[str]) -> None:
    plan = read_question([], {"loss": text, "tune": "0"}, "race", []).plan
    assert [cell["loss"] for cell in plan.cells] == losses


def test_a_file_gives_candidates_and_what_is_tuned(tmp_path: Path) -> None:
    file = tmp_path / "q.yaml"
    file.write_text(
        "method: random\nrun_cap: 8\nparameters:\n  seed: {values: [0, 1]}\n  loss: {values: [mse, mae]}\n"
        "  optimizer.lr: {min: 0.001, max: 0.1, distribution: log_uniform_values}\n"
    )
    asked = read_question([str(file)], {"tune": "4", "difference": "2"}, "q", [])
    assert asked.tuning is not None
    assert (asked.tuning.trials, list(asked.tuning.ranges)) == (4, ["optimizer.lr"])
    assert asked.plan.fixed["data.seed"] == 0
    assert (asked.seed(0), asked.difference, asked.least_runs()) == (1000, 2.0, 2 * (4 + 2 + 5))
    narrowed = read_question([str(file)], {"loss": "mae,huber", "tune": "0"}, "q", [])
    assert [cell["loss"] for cell in narrowed.plan.cells] == ["mae", "huber"]
    assert "data.seed" not in narrowed.plan.fixed


@pytest.mark.parametrize(
    ("text", "budget"),
    [("500", Budget(500, "runs")), ("90s", Budget(0.025, "hours")), ("30m", Budget(0.5, "hours")),
     ("1.5h", Budget(1.5, "hours")), ("8gpuh", Budget(8, "GPU-hours")), ("", None)],
)  # fmt: skip
def test_budgets(text: str, budget: Budget | None) -> None:
    assert parse_budget(text) == budget
