"""What quality costs: times to a target and Pareto fronts, worked out by hand and by the definition."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from losslab.compare.costs import Target, find_front, name_costs, time_to_target
from losslab.compare.design import Comparison, arrange
from losslab.compare.runs import read_runs
from losslab.compare.table import format_cost
from tests.compare.written import run

PATHS = {"mae": [3.0, 1.0, 0.5], "mse": [3.0, 2.0, 1.0], "huber": [3.0, 3.0, 2.0]}  # 0.1 s and 10 updates an epoch


def targets(folder: Path, **settings: Any) -> tuple[Comparison, Target]:
    for loss, history in PATHS.items():
        for seed in range(3):
            run(folder, history[-1], history=history, loss=loss, seed=seed, **settings)
    comparison = arrange(read_runs([str(folder)]))
    found = time_to_target(comparison)
    assert found is not None
    return comparison, found


def test_the_target_is_what_the_median_cell_reaches_and_some_never_do(tmp_path: Path) -> None:
    comparison, found = targets(tmp_path)
    assert (comparison.cells, found.over) == (["mae", "mse", "huber"], "seconds")
    assert found.table["to target"].tolist() == pytest.approx([0.2, 0.3, np.inf])
    assert found.table["reached"].tolist() == [3, 3, 0]
    assert found.sentence.startswith("The target is a val/rmse of 1, which the median training of the median cell")
    assert format_cost(found.table["to target"][2]) == "never"


def test_runs_of_a_stack_are_counted_in_updates(tmp_path: Path) -> None:
    comparison, found = targets(tmp_path, facts={"stacked": 9})
    assert found.over == "updates"
    assert found.table["to target"].tolist() == [20, 30, np.inf]
    assert name_costs(comparison) == ["updates"]
    assert "updates, as the seconds of a stack are those of all its runs" in found.sentence


def test_a_training_that_failed_never_gets_there(tmp_path: Path) -> None:
    for seed in range(3, 6):
        run(tmp_path, 0.5, loss="mae", seed=seed, status="failed")
    comparison, found = targets(tmp_path)
    assert list(found.table.set_axis(comparison.cells).loc["mae"]) == [np.inf, 3]  # the median of six is the fourth


@pytest.mark.parametrize("seed", range(20))
def test_what_is_on_the_front_is_dominated_by_none(seed: int) -> None:
    rng = np.random.default_rng(seed)
    quality, cost = rng.integers(0, 4, (2, 8)).astype(float)  # many ties
    cost[rng.integers(8)] = np.nan

    def dominates(one: int, other: int) -> bool:
        no_worse = quality[one] >= quality[other] and cost[one] <= cost[other]
        return bool(no_worse) and bool(quality[one] > quality[other] or cost[one] < cost[other])

    said = [bool(np.isfinite(cost[i])) and not any(dominates(j, i) for j in range(8)) for i in range(8)]
    assert find_front(quality, cost).tolist() == said
