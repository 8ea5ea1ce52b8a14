"""The lead: what it recommends, and what that may cost."""

from pathlib import Path

import numpy as np

from losslab.compare.claims import Findings, evaluate
from losslab.compare.design import Comparison, arrange
from losslab.compare.lead import write_lead
from losslab.compare.runs import read_runs
from losslab.compare.verdict import write_verdict
from losslab.race.lead import write_lead as write_race_lead
from losslab.race.state import State
from tests.compare.written import grid, run


def found(folder: Path) -> tuple[Comparison, Findings]:
    comparison = arrange(read_runs([str(folder)]))
    return comparison, evaluate(comparison)


def test_what_validation_picks_is_not_recommended_where_test_says_otherwise(tmp_path: Path) -> None:
    """Of many cells the best on validation leads; here it is the worst on test."""
    rng = np.random.default_rng(0)
    for number in range(9):
        for seed in range(6):
            value = 0.5 + 0.1 * number + 0.001 * rng.normal()
            run(tmp_path, value, val=2.0 - value, loss=f"l{number}", seed=seed, data__seed=0)
    comparison, findings = found(tmp_path)
    assert findings.leader == "l8"
    headline, first, *_ = write_verdict(comparison, findings)
    assert headline == "Use l0: all 8 others are clearly worse."
    assert first.startswith("l0 beats l1 by ")
    use, *others = write_lead(comparison, findings, 1.0)
    assert use.answer == "l0. On test it beats l8, which is the best on validation."
    assert [line.answer for line in others if line.question == "Avoid"] == [
        "All 8 others: l8, l7, l6, l5 and 4 others."
    ]


def test_an_undecided_choice_says_what_it_may_cost_at_most(tmp_path: Path) -> None:
    grid(tmp_path, {"mae": 0.5, "huber": 0.501, "mse": 0.6}, 10)
    comparison, findings = found(tmp_path)
    use = write_lead(comparison, findings, 1.0)[0]
    (tie,) = (pair for pair in findings.pairs if pair.second == "huber")
    assert use.answer == (
        f"mae for now. It has the best mean on test. With up to 8 cells this is the rule, as all pairs are tested "
        f"together. None of the undecided is better by more than {-tie.low:.2g} %."
    )


def test_a_race_has_the_same_lines() -> None:
    state = State(1.0, "", ["adam", "lion"], ["sgd"], leader="adam", never={"lbfgs": "it broke"})
    state.beaten = {
        "muon": {"ahead": "sgd", "mean": 5.0, "low": 2.0, "high": 8.0, "n": 3, "rivals": ["sgd"]},
        "rprop": {"ahead": "sgd", "mean": 1.0, "low": 0.0, "high": 8.0, "n": 4, "rivals": ["sgd", "adam"]},
    }
    gap = {"ahead": "adam", "n": 9}
    state.looks = [{"gaps": {"sgd": {**gap, "mean": 0.1, "low": -0.5, "high": 0.7},
                             "lion": {**gap, "mean": -0.4, "low": -2.0, "high": 1.2}}}]  # fmt: skip
    lines = {line.question: line for line in write_race_lead(state, "points of accuracy", "1 point", ("cost", "about"))}
    assert [(line.badge, *line.evidence) for line in lines.values()] == [
        ("undecided",),
        ("same", "sgd: behind adam by 0.1 points of accuracy [-0.5, 0.7]"),
        ("undecided", "lion: ahead of adam by 0.4 points of accuracy [-1.2, 2]"),
        ("clear", "lbfgs: it broke", "muon: found after 3 seeds: behind sgd by 5 points of accuracy [2, 8]"),
        ("clear", "rprop: found after 4 seeds: behind sgd by 1 point of accuracy"),
        ("",),
        ("",),
    ]
