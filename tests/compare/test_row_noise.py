"""How much means would differ on other test rows, against what is computed from the rows themselves."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from losslab.compare.claims import evaluate
from losslab.compare.contrasts import Layout
from losslab.compare.design import arrange
from losslab.compare.row_noise import RowNoise, estimate_row_noise, read_run_blocks
from losslab.compare.runs import read_runs
from losslab.compare.simultaneous import infer_family
from losslab.record.blocks import Blocks, assign_blocks
from tests.compare.written import run

CELLS = ["a", "b"]


def estimate(values: NDArray[np.float64]) -> RowNoise:
    """The row noise of values `(cells, runs, rows)` of a metric that is their mean."""
    cells, runs, rows = values.shape
    block = assign_blocks(np.arange(rows))
    blocks, table = {}, []
    for cell in range(cells):
        for seed in range(runs):
            own = values[cell, seed]
            without = np.array([[own[block != each].mean()] for each in range(block.max() + 1)])
            blocks[f"{seed}/{cell}"] = Blocks(["accuracy"], np.array([own.mean()]), without, rows, 0)
            table.append({"cell": CELLS[cell], "repeat": f"{seed}", "folder": f"{seed}/{cell}"})
    used = pd.DataFrame(table).sample(frac=1, random_state=runs)  # in whatever order
    return estimate_row_noise(used, CELLS[:cells], blocks, "accuracy")


def test_one_run_of_each_has_the_covariance_of_its_rows() -> None:
    rng = np.random.default_rng(0)
    hard = rng.random(50) < 0.4
    right = np.stack([hard ^ (rng.random(50) < 0.1), hard ^ (rng.random(50) < 0.2)]).astype(float)
    found = estimate(right[:, None])
    assert found.covariance == pytest.approx(np.cov(right) / 50)
    assert (found.df, found.rows) == (49.0, 50)


@pytest.mark.usefixtures("few_draws")
@pytest.mark.parametrize(  # of few runs it is rather too much than too little
    ("runs", "most"), [(4, 1.3), pytest.param(20, 1.1, marks=pytest.mark.system)]
)
def test_runs_and_rows_are_crossed_and_both_variances_are_right_on_average(runs: int, most: float) -> None:
    rng, rows = np.random.default_rng(1), 50
    of_run, of_row, of_both = 0.3, 1.0, 2.0  # standard deviations of the difference
    whole, only_rows, layout = [], [], np.array([[1.0, -1.0]])
    for _ in range(200):
        shared = 5 * rng.normal(size=(1, runs, rows))
        half = np.array([1.0, -1.0])[:, None, None] / 2
        noise = of_run * rng.normal(size=(1, runs, 1)) + of_row * rng.normal(size=(1, 1, rows))
        values = shared + half * (noise + of_both * rng.normal(size=(1, runs, rows)))
        found = estimate(values)
        only_rows.append(layout[0] @ (found.covariance - found.mixed) @ layout[0])
        y = values.mean(2).T
        row_noise: dict[str, Any] = {"row_noise": found.covariance, "row_df": found.df, "mixed": found.mixed}
        family = infer_family(y, Layout(np.ones(y.shape, bool), layout, np.ones(1), **row_noise))
        whole.append(family.se[0] ** 2)
    assert np.mean(only_rows) == pytest.approx(of_row**2 / rows, rel=0.1)
    true = of_run**2 / runs + of_row**2 / rows + of_both**2 / (runs * rows)
    assert 0.9 * true < np.mean(whole) < most * true


def test_a_block_without_which_the_metric_has_no_value_is_left_out() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(50,))
    used = pd.DataFrame({"cell": ["a", "a"], "repeat": ["0", "1"], "folder": ["0", "1"]})
    blocks = {}
    for folder in ("0", "1"):
        without = (values.sum() - values)[:, None] / 49
        without[7] = np.nan
        blocks[folder] = Blocks(["r2"], np.array([values.mean()]), without, 50, 0)
    found = estimate_row_noise(used, ["a"], blocks, "r2")
    assert found.covariance[0, 0] == pytest.approx(np.delete(values, 7).var(ddof=1) / 50, rel=1e-9)


@pytest.mark.parametrize("seeds", [1, 3])
def test_models_on_the_same_rows_are_compared_over_rows_and_seeds(seeds: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    easy = rng.random(1000)
    for seed in range(seeds):
        for loss, accuracy in (("cross_entropy", 0.9), ("mse", 0.8)):
            right = (easy + 0.1 * rng.normal(size=1000) < accuracy).astype(float)
            run(tmp_path, right.mean(), task="single_label", loss=loss, seed=seed, rows=right, data__seed=0)
    found = arrange(read_runs([str(tmp_path)]))
    assert (found.population.claim, found.population.crossed) == ("rows", True)
    assert ("these very models" in found.population.sentence) == (seeds == 1)
    (pair,) = evaluate(found).pairs
    assert (pair.first, pair.n, pair.sd > 0) == ("cross_entropy", seeds, seeds > 1)
    assert 0 < pair.row_se < 2
    assert pair.p < 0.01
    assert pair.low > 0
    alone = arrange(read_runs([str(tmp_path)]), claim="seeds")
    assert alone.population.claim == "seeds"
    assert "did not record" not in alone.population.sentence
    assert np.isnan(evaluate(alone).pairs[0].p) == (seeds == 1)


def test_runs_that_tested_other_rows_or_recorded_none_do_not_count_over_rows(tmp_path: Path) -> None:
    right = (np.arange(60) % 4 > 0).astype(float)
    for seed, rows in enumerate((right, right, right[:40], None)):
        run(tmp_path, 0.75, task="single_label", seed=seed, rows=rows, data__seed=0)
    (damaged,) = tmp_path.glob("*-1-64-*")
    used = read_runs([str(tmp_path)]).frame
    assert len(read_run_blocks(used, "accuracy")) == 2
    assert read_run_blocks(used, "r2") == {}
    (damaged / "rows.npz").write_bytes(b"PK")
    assert len(read_run_blocks(used, "accuracy")) < 2 or str(damaged) not in read_run_blocks(used, "accuracy")
