"""What is compared with what, and that test figures choose nothing."""

import json
from pathlib import Path
from typing import Any

import pytest

from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.method import describe_selection
from losslab.compare.runs import Runs, read_runs
from losslab.compare.table import summarize_cells
from losslab.errors import Refused
from tests.compare.written import grid, run


def runs_in(folder: Path) -> Runs:
    return read_runs([str(folder)])


def test_cells_are_what_varies_of_loss_and_optimizer(tmp_path: Path) -> None:
    for loss in ("mae", "mse"):
        run(tmp_path / "one", 0.5, loss=loss)
        for optimizer in ("adam", "sgd"):
            run(tmp_path / "two", 0.5, loss=loss, optimizer=optimizer)
    for size in (32, 64):
        run(tmp_path / "size", 0.5, data__batch_size=size)
    assert sorted(arrange(runs_in(tmp_path / "one")).cells) == ["mae", "mse"]
    assert len(arrange(runs_in(tmp_path / "two")).cells) == 4
    assert arrange(runs_in(tmp_path / "two"), by=["optimizer"]).by == ["optimizer"]
    assert arrange(runs_in(tmp_path / "size")).by == ["data.batch_size"]
    assert arrange(runs_in(tmp_path / "size"), by=["loss"]).tuned == ["data.batch_size"]


def test_the_setting_is_chosen_on_validation_and_never_on_test(tmp_path: Path) -> None:
    for seed in range(3):
        for rate, val, test in ((0.1, 0.40, 0.90), (0.01, 0.50, 0.10), (0.001, 0.60, 0.20)):
            run(tmp_path, test + 0.01 * seed, val=val, loss="mae", seed=seed, optimizer__lr=rate)
            run(tmp_path, 0.5, val=0.9 - val, loss="mse", seed=seed, optimizer__lr=rate)
    found = arrange(runs_in(tmp_path))
    table = summarize_cells(found).set_index("cell")
    assert found.tuned == ["optimizer.lr"]
    assert (table.at["mae", "setting"], table.at["mse", "setting"]) == ("optimizer.lr=0.1", "optimizer.lr=0.001")
    assert table.at["mae", "mean"] == pytest.approx(0.91)
    assert table["tried"].tolist() == [3, 3]


def test_a_setting_that_more_seeds_finished_comes_first(tmp_path: Path) -> None:
    one_split: dict[str, Any] = {"data__seed": 0}
    for seed in range(3):
        run(tmp_path, 0.5, val=0.5, loss="mae", seed=seed, optimizer__lr=0.1, **one_split)
        run(tmp_path, 0.6, loss="mse", seed=seed, optimizer__lr=0.1, **one_split)
    run(tmp_path, 0.1, val=0.1, loss="mae", seed=0, optimizer__lr=1.0, **one_split)  # tried with one seed only: luck
    run(tmp_path, 0.1, status="failed", loss="mae", seed=1, optimizer__lr=1.0, **one_split)
    table = summarize_cells(arrange(runs_in(tmp_path))).set_index("cell")
    assert table.at["mae", "setting"] == "optimizer.lr=0.1"
    assert (table.at["mae", "n"], table.at["mae", "failed"]) == (3, 1)


def test_a_cell_that_was_tuned_first_is_evaluated_on_its_fresh_seeds(tmp_path: Path) -> None:
    for seed in range(3):
        for rate in (0.1, 0.01):
            run(tmp_path, 0.1, loss="mae", seed=seed, optimizer__lr=rate, stage=None)
            run(tmp_path, 0.5, loss="mse", seed=seed, optimizer__lr=rate, stage=None)
        run(tmp_path, 0.3, loss="mae", seed=100 + seed, optimizer__lr=0.1, stage="test")
        run(tmp_path, 0.4, loss="mse", seed=100 + seed, optimizer__lr=0.1, stage="test")
    found = arrange(runs_in(tmp_path))
    assert found.used["seed"].min() == 100
    assert summarize_cells(found)[["mean", "tried"]].to_numpy().tolist() == [
        [pytest.approx(0.3), 2],
        [pytest.approx(0.4), 2],
    ]
    assert describe_selection(found).endswith("never by test results, and the test results come from fresh seeds.")


def test_seeds_and_places_are_no_settings(tmp_path: Path) -> None:
    grid(tmp_path / "a", {"mae": 0.5}, 3)
    grid(tmp_path / "b", {"mse": 0.6}, 3)
    assert arrange(runs_in(tmp_path)).tuned == []


def test_pairs_are_by_seed_where_seeds_match(tmp_path: Path) -> None:
    grid(tmp_path, {"mae": 0.5, "mse": 0.6}, 6)
    run(tmp_path, 0.5, loss="mae", seed=17)
    (pair,) = evaluate(arrange(runs_in(tmp_path))).pairs
    assert (pair.first, pair.second, pair.n, pair.paired) == ("mae", "mse", 6, True)
    assert pair.mean == pytest.approx(100 * 0.1 / 0.645, rel=0.05)
    for seed in range(20, 26):
        run(tmp_path, 0.4 + 0.01 * (seed % 3), loss="huber", seed=seed)
    pairs = {(pair.first, pair.second): pair for pair in evaluate(arrange(runs_in(tmp_path))).pairs}
    assert not pairs["huber", "mae"].paired
    assert pairs["mae", "mse"].paired


def test_many_cells_are_compared_with_the_best_on_validation(tmp_path: Path) -> None:
    for number in range(10):
        for seed in range(3):
            run(tmp_path, 0.5 + 0.01 * number, val=0.9 - 0.01 * number + 0.001 * seed, loss=f"loss{number}", seed=seed)
    found = evaluate(arrange(runs_in(tmp_path))).pairs
    assert {pair.first for pair in found} == {"loss9"}
    assert len(found) == 9


def test_the_factors_of_a_grid_are_means_over_the_other(tmp_path: Path) -> None:
    for optimizer, shift in (("adam", 0.0), ("sgd", 0.2)):
        grid(tmp_path, {"mae": 0.5 + shift, "mse": 0.6 + shift}, 6, optimizer=optimizer)
    found = evaluate(arrange(runs_in(tmp_path))).options
    (between,), (among,) = found["loss"], found["optimizer"]
    assert (between.first, among.first, between.n) == ("mae", "adam", 6)


def test_what_was_not_finished_is_counted(tmp_path: Path) -> None:
    grid(tmp_path / "sweep", {"mae": 0.5, "mse": 0.6}, 2)
    for seed, status in enumerate(("failed", "pruned", "interrupted", "running")):
        run(tmp_path / "sweep", 0.1, loss="mae", seed=seed, status=status, optimizer__lr=9.0)
    lost = [{"overrides": {"loss": "mse", "seed": 5}, "reason": "out of memory"}]
    (tmp_path / "sweep" / "failed.json").write_text(json.dumps(lost))
    run(tmp_path / "sweep", float("nan"), loss="mse", seed=7)
    table = summarize_cells(arrange(runs_in(tmp_path))).set_index("cell")
    assert list(table.loc["mae", ["n", "failed", "pruned", "unfinished", "tried"]]) == [2, 1, 1, 2, 2]
    assert list(table.loc["mse", ["n", "failed"]]) == [2, 2]


def test_a_run_that_was_repeated_counts_once(tmp_path: Path) -> None:
    for name, value, status in (("a", 0.1, "failed"), ("b", 0.5, "finished"), ("c", 0.5, "finished")):
        run(tmp_path / name, value, loss="mae", status=status)
    run(tmp_path, 0.6, loss="mse")
    table = summarize_cells(arrange(runs_in(tmp_path))).set_index("cell")
    assert list(table.loc["mae", ["n", "failed"]]) == [1, 0]


def test_several_data_sets_weigh_the_same(tmp_path: Path) -> None:
    for data, scale in (("diamonds", 1000.0), ("heights", 1.0)):
        for seed in range(4):
            run(tmp_path, 2 * scale, loss="mae", data=data, seed=seed)
            run(tmp_path, 1 * scale, loss="mse", data=data, seed=seed)
    found = arrange(runs_in(tmp_path))
    table = summarize_cells(found).set_index("cell")
    assert found.datasets == ["diamonds", "heights"]
    assert (table.at["mse", "mean"], table.at["mae", "mean"]) == pytest.approx((2 / 3, 4 / 3))
    assert evaluate(found).pairs[0].n == 2, "data sets"
    assert arrange(runs_in(tmp_path), only={"data": "heights"}).datasets == ["heights"]


def test_any_metric_is_compared_in_its_own_direction(tmp_path: Path) -> None:
    for loss, r2 in (("mae", 0.9), ("mse", 0.8)):
        for seed in range(2):
            best = {"test/r2": r2, "val/r2_best": r2 + 0.05, "val/r2": r2}
            run(tmp_path, 0.5, loss=loss, seed=seed, others=best)
    found = arrange(runs_in(tmp_path), metric="test/r2")
    assert (found.metric, found.mode, found.cells, found.points) == ("r2", "max", ["mae", "mse"], True)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"metric": "rmsee"}, "metric=rmsee is logged by no run; nearest: rmse"),
        ({"by": ["losss"]}, "by=losss is no setting of these runs; nearest: loss"),
        ({"only": {"task": "regresion"}}, "no run has task=regresion; nearest: regression"),
        ({}, "these runs are of 2 tasks: type task=regression or task=single_label"),
    ],
)
def test_each_mistake_is_one_sentence(tmp_path: Path, settings: dict[str, object], sentence: str) -> None:
    run(tmp_path, 0.5, loss="mae")
    run(tmp_path, 0.5, loss="mse", seed=1)
    if not settings:
        run(tmp_path, 0.5, task="single_label")
    with pytest.raises(Refused, match=sentence) as refused:
        arrange(runs_in(tmp_path), **settings)  # type: ignore[arg-type]
    assert "\n" not in str(refused.value)


def test_runs_that_differ_in_several_other_settings_need_by(tmp_path: Path) -> None:
    for model, size in (("mlp", 32), ("linear", 32), ("mlp", 64)):
        run(tmp_path, 0.5, model=model, data__batch_size=size)
    with pytest.raises(Refused, match=r"which differ in model, data\.batch_size: type 'by=\[model\]', or others"):
        arrange(runs_in(tmp_path))
