"""The probability of being the best and the interval of a rank are those of every draw, and of the normal law."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from losslab.compare.design import arrange
from losslab.compare.ranks import bootstrap_ranks, rank_cells
from losslab.compare.runs import read_runs
from tests.compare.written import grid, run


def test_draws_agree_with_all_of_them() -> None:
    y = np.random.default_rng(0).normal(size=(5, 4))
    y[:, 3] = y[:, 1]  # always equal
    every = y[np.array(list(product(range(5), repeat=5)))].mean(1)
    assert every.var(0) * 5 / 4 == pytest.approx(y.var(0, ddof=1) / 5)  # so much further do they spread
    every = np.round(y.mean(0) + np.sqrt(5 / 4) * (every - y.mean(0)), 9)
    best, low, high = bootstrap_ranks(y)
    winners = every == every.max(1, keepdims=True)
    assert best == pytest.approx((winners / winners.sum(1, keepdims=True)).mean(0), abs=0.015)
    assert best.sum() == pytest.approx(1)
    assert best[1] == best[3]
    ranks = stats.rankdata(-every, axis=1)
    assert low == pytest.approx(np.floor(np.quantile(ranks, 0.03, axis=0)), abs=0.5)
    assert high == pytest.approx(np.ceil(np.quantile(ranks, 0.97, axis=0)), abs=0.5)


def test_noise_of_the_rows_counts() -> None:
    y = np.tile([1.0, 0.0], (4, 1))  # all units agree
    rows = np.array([[2.0, 0.5], [0.5, 1.0]])  # the difference's variance is 2
    assert bootstrap_ranks(y)[0].tolist() == [1.0, 0.0]
    assert bootstrap_ranks(y, rows)[0][0] == pytest.approx(stats.norm.cdf(1 / np.sqrt(2)), abs=0.015)


def test_cells_with_few_units_are_left_out_and_without_three_units_nothing_is_said(tmp_path: Path) -> None:
    grid(tmp_path / "three", {"mae": 0.5, "mse": 0.6}, 3)
    for seed in range(2):
        run(tmp_path / "three", 0.1, loss="huber", seed=seed)
    comparison = arrange(read_runs([str(tmp_path / "three")]))
    found = rank_cells(comparison).set_axis(comparison.cells)
    assert list(found.loc["mae"]) == [1.0, 1.0, 1.0]
    assert found.loc["huber"].isna().all()
    comparison = arrange(read_runs([str(grid(tmp_path / "two", {"mae": 0.5, "mse": 0.6}, 2))]))
    assert rank_cells(comparison).isna().all(axis=None)
