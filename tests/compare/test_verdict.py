"""The sentences of the verdict, and the cautions: each appears where it should, and only there."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from losslab.compare.cautions import find_cautions
from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.method import describe_method, describe_selection
from losslab.compare.runs import read_runs
from losslab.compare.settings import CROSS
from losslab.compare.table import format_pairs, tabulate_pairs
from losslab.compare.verdict import write_verdict
from tests.compare.written import grid, run


def verdict_of(folder: Path, **settings: Any) -> list[str]:
    found = arrange(read_runs([str(folder)]), **settings)
    return write_verdict(found, evaluate(found))


def cautions_of(folder: Path) -> str:
    found = arrange(read_runs([str(folder)]))
    return "\n".join(find_cautions(found, evaluate(found)))


def test_what_is_better_and_what_cannot_be_told_apart(tmp_path: Path) -> None:
    headline, second, first, third, about = verdict_of(grid(tmp_path, {"mae": 0.5, "huber": 0.501, "mse": 0.6}, 10))
    assert headline == "Use mae for now: huber cannot be told apart from it yet, and mse is clearly worse."
    assert re.fullmatch(r"mae beats mse by 16 % rmse \[\S+, \S+\] over 10 splits \(p < 0\.001\)\.", first)
    assert re.fullmatch(
        r"mae and huber cannot be told apart at 10 splits\. It would take more than 200 new splits to find a "
        r"difference of 1 %\.",
        second,
    )
    assert re.fullmatch(r"huber beats mse by 15 % \[\S+, \S+\]\.", third)
    assert about.startswith("This applies to new splits of these rows, with each model retrained.")


def test_points_are_for_what_lies_between_0_and_1(tmp_path: Path) -> None:
    for seed in range(6):
        run(tmp_path, 0.90 + 0.001 * seed, task="single_label", loss="mse", seed=seed, data__seed=0)
        run(tmp_path, 0.93 + 0.002 * seed, task="single_label", loss="cross_entropy", seed=seed, data__seed=0)
    headline, first = verdict_of(tmp_path)[:2]
    assert headline == "Use cross_entropy: mse is clearly worse."
    assert first.startswith("cross_entropy beats mse by 3.2 points of accuracy [3.1, 3.4] over 6 seeds")


def test_three_seeds_can_say_something_and_one_says_what_is_missing(tmp_path: Path) -> None:
    grid(tmp_path / "few", {"mae": 0.5, "mse": 0.9}, 3, data__seed=0)
    assert re.match(r"mae beats mse by 42 % rmse \[\S+, \S+\] over 3 seeds \(p = ", verdict_of(tmp_path / "few")[1])
    grid(tmp_path / "one", {"mae": 0.5, "mse": 0.9}, 1)
    headline, one, about = verdict_of(tmp_path / "one")
    assert headline == "Nothing is decided yet: mae leads, and mse cannot be told apart from it."
    assert one == (
        "mae and mse cannot be told apart at 1 seed: one seed shows no spread; run at least 3, such as seed=0,1,2."
    )
    assert about.startswith("This applies to retraining on these very training and test rows.")
    assert "One seed only in mae and mse" in cautions_of(tmp_path / "one")


@pytest.mark.parametrize(("losses", "doubted"), [((0.3, 0.3), True), ((0.3, 0.31), False)])
def test_seeds_change_something_if_any_metric_differs(
    losses: tuple[float, float], doubted: bool, tmp_path: Path
) -> None:
    for seed, loss in enumerate(losses):
        run(tmp_path, 0.9, task="single_label", loss="mse", seed=seed, others={"test/loss": loss})
        run(tmp_path, 0.8 + 0.01 * seed, task="single_label", loss="mae", seed=seed)
    assert ("All seeds of mse give the very same accuracy" in cautions_of(tmp_path)) == doubted


def test_nothing_to_compare_with(tmp_path: Path) -> None:
    said = f"Only loss and optimizer mae{CROSS}adam has finished runs: nothing to compare it with."
    assert verdict_of(grid(tmp_path, {"mae": 0.5}, 3)) == [said]


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ({"mae": 0.0, "mse": 0.0}, "mae and mse are the same within 1 % [0, 0]."),
        ({"mae": 0.5, "mse": 0.8, "huber": 0.9}, "Use mae: both others are clearly worse."),
        ({"mae": 0.5, "mse": 0.8, "huber": 0.9, "poly": 0.9}, "Use mae: all 3 others are clearly worse."),
    ],
)
def test_what_is_said_of_equal_runs_and_of_all_others(tmp_path: Path, means: dict[str, float], said: str) -> None:
    for loss, mean in means.items():
        for seed in range(6):
            run(tmp_path, mean * (1 + 0.01 * (seed * 7 % 5)), loss=loss, seed=seed)
    assert said in verdict_of(tmp_path)


def test_a_record_without_last_values_is_compared_by_the_tasks_direction(tmp_path: Path) -> None:
    for loss, mean in (("mae", -2.0), ("mse", -1.5)):
        for seed in range(6):
            others = {"test/r2": mean + 0.01 * seed, "val/r2_best": mean}
            run(tmp_path, 0.5 + 0.01 * seed, loss=loss, seed=seed, others=others)
    found = arrange(read_runs([str(tmp_path)]), metric="r2")
    assert (found.mode, found.cells[0]) == ("max", "mse")


def test_a_grid_is_compared_by_its_factors_too(tmp_path: Path) -> None:
    for optimizer, shift in (("adam", 0.0), ("sgd", 0.3)):
        grid(tmp_path, {"mae": 0.5 + shift, "mse": 0.6 + shift}, 6, optimizer=optimizer)
    said = verdict_of(tmp_path)
    assert any(line.startswith("Averaged over the 2 optimizers: mae beats mse") for line in said)
    assert any(line.startswith("Averaged over the 2 losses: adam beats sgd") for line in said)


def test_a_data_set_that_all_cells_predict_perfectly_counts_for_none(tmp_path: Path) -> None:
    for data, size in (("a", 1.0), ("b", 0.0), ("c", 1e6)):
        for loss, mean in (("mae", 0.5), ("mse", 0.6)):
            for seed in range(3):
                run(tmp_path, size * (mean + 0.01 * seed), loss=loss, seed=seed, data=data)
    used = arrange(read_runs([str(tmp_path)])).used
    assert used["score"].notna().all()
    assert used[used["data"] == "b"]["score"].eq(1).all()
    assert used.groupby("cell")["score"].mean().idxmin() == "mae"


def test_data_sets_are_ranked(tmp_path: Path) -> None:
    for number, data in enumerate(("a", "b", "c", "d")):
        grid(tmp_path, {"mae": 1 + number, "mse": 2 + number, "huber": 3 + number}, 2, data=data)
    *_, ranks, about = verdict_of(tmp_path)
    assert ranks == "Average ranks over the 4 data sets: mae 1.00, mse 2.00, huber 3.00."
    assert about.startswith("This applies to these 4 data sets only; from 6 on it would apply to others like them. Bra")


def test_sound_runs_have_no_caution(tmp_path: Path) -> None:
    folder = grid(tmp_path, {"mae": 0.5, "mse": 0.6}, 6)
    assert cautions_of(folder) == ""
    assert describe_selection(arrange(read_runs([str(folder)]))) == (
        "Best epochs were chosen by val/rmse, never by test results."
    )


@pytest.mark.parametrize(("alpha", "level"), [(0.05, "95 %"), (0.0065, "99.35 %")])
def test_the_table_of_pairs_and_the_method_name_the_level_at_which_pairs_were_tested(
    tmp_path: Path, alpha: float, level: str
) -> None:
    comparison = arrange(read_runs([str(grid(tmp_path, {"mae": 0.5, "mse": 0.502}, 6))]))
    findings = evaluate(replace(comparison, alpha=alpha))
    table = format_pairs(tabulate_pairs(findings.tested), comparison.unit, findings.alpha)
    (low, high) = map(float, table[f"{level} interval"].iloc[0].split(" to "))
    assert (low > 0 or high < 0) == (findings.pairs[0].p <= alpha)
    assert any(f"hold together at {level}, and p" in text for text in describe_method(comparison, None, alpha))


@pytest.mark.parametrize("seed", range(6))
def test_no_error_is_behind_by_more_than_all_of_it(tmp_path: Path, seed: int) -> None:
    draw = np.random.default_rng(seed)
    for number, mean in enumerate((0.05, 1.0, 30.0)):
        for repeat in range(3):
            run(tmp_path, mean * draw.lognormal(0, 1), loss=f"l{number}", seed=repeat)
    pairs = evaluate(arrange(read_runs([str(tmp_path)]))).pairs
    assert len(pairs) == 3
    for pair in pairs:
        ahead = (pair.mean, pair.high) if pair.mean >= 0 else (-pair.mean, -pair.low)
        assert 0 <= ahead[0] <= ahead[1] <= 100
        assert pair.low <= pair.mean <= pair.high
    assert any(100 in (pair.high, -pair.low) for pair in pairs), "the noise is as wide as that"


def test_what_changes_no_tested_row_is_no_caution(tmp_path: Path) -> None:
    for seed in range(6):
        for size in (16, 64):
            run(tmp_path, 0.5 + 0.01 * seed + size / 1000, seed=seed, loss="mae", data__batch_size=size)
    found = arrange(read_runs([str(tmp_path)]), ["data.batch_size"])
    assert not any("rows that are tested" in text for text in find_cautions(found, evaluate(found)))


def test_a_setting_that_follows_from_the_data_set_alone_is_no_caution(tmp_path: Path) -> None:
    for number, data in enumerate(("a", "b", "c")):
        for seed in range(3):
            for loss in ("mae", "mse"):
                same: dict[str, Any] = {"seed": seed, "data": data, "trainer__max_epochs": 10 * (number + 1)}
                run(tmp_path, 0.5 + 0.01 * seed + 0.1 * (loss == "mse"), loss=loss, **same)
    assert "differ in" not in cautions_of(tmp_path)
    for seed in range(3):
        run(tmp_path, 0.9 + 0.01 * seed, loss="huber", seed=seed, data="a", trainer__max_epochs=99)
    assert "The cells differ in trainer.max_epochs, too" in cautions_of(tmp_path)


def test_figures_of_seeds_that_were_tuned_with_are_a_caution_beside_fresh_ones(tmp_path: Path) -> None:
    for seed in range(3):
        for loss in ("mae", "mse"):
            run(tmp_path, 0.1 + 0.01 * seed, loss=loss, seed=seed, stage=None)
    assert cautions_of(tmp_path) == ""
    for seed in (100, 101, 102):
        run(tmp_path, 0.001 * seed, loss="mae", seed=seed, stage="test")
    assert "The figures of mse come from the seeds of the tuning" in cautions_of(tmp_path)
    for seed in (100, 101, 102):
        run(tmp_path, 0.001 * seed - 0.01, loss="mse", seed=seed, stage="test")
    assert cautions_of(tmp_path) == ""


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ([{"seed": 9}], "Unequal seeds: mse ran with other seeds than the rest"),
        ([{"seed": s, "loss": "huber"} for s in (7, 8)], "huber ran with other .*; no seed is in both, so they are"),
        ([{"seed": 9, "status": "failed"}], r"1 of 13 runs failed: mae \(1\); most often: it broke\."),
        ([{"seed": 9, "status": "running"}], "1 of 13 runs still say running"),
        ([{"seed": 9, "status": "interrupted"}], "1 of 13 runs were interrupted"),
        ([{"seed": 9, "status": "pruned"}], "1 of 13 runs were pruned"),
        ([{"seed": 9, "loss": "msle", "status": "failed"}], "1 of 13 runs failed: msle .1.; most often: it broke."),
        ([{"seed": 9, "environment": {"git_commit": "abd"}}], "2 versions of the code are mixed: abc and abd"),
        ([{"seed": 9, "environment": {"machine": "there"}}], "2 machines are mixed"),
        ([{"seed": 9, "environment": {"git_changes": "yes"}}], "1 of 13 runs used code with uncommitted changes"),
        ([{"seed": 9, "facts": {"stacked": 16}}], "1 of 13 runs trained in stacks of up to 16: .* are the stack's"),
        ([{"seed": 9, "facts": {"train_rows": 50}}], "Runs on diamonds were trained on 50 to 100 rows"),
        ([{"seed": s, "loss": "mse", "gradient": 150.0} for s in range(20, 31)], "of mse is 150 times that of mae"),
        ([{"seed": s, "data": "heights"} for s in range(6)], "mixed .*, and mse did not run on all of them"),
        ([{"seed": s, "loss": "huber", "model": "linear"} for s in range(6)], "The cells differ in model, too"),
        ([{"seed": 9, "others": {"epochs": 900, "updates": 900}}], "Unequal training: .* updates"),
    ],
)  # fmt: skip
def test_each_reason_for_doubt_is_a_caution(tmp_path: Path, more: list[dict[str, Any]], sentence: str) -> None:
    grid(tmp_path, {"mae": 0.5, "mse": 0.6}, 6)
    for settings in more:
        run(tmp_path, 0.5, **{"loss": "mae", **settings})
    assert re.search(sentence, cautions_of(tmp_path)), cautions_of(tmp_path)


def test_groups_of_any_size_make_no_other_data_but_other_rows_of_one_split_do(tmp_path: Path) -> None:
    for seed in range(4):
        for loss in ("mae", "mse"):
            run(tmp_path, 0.5, loss=loss, seed=seed, data__group="patient", facts={"train_rows": 90 + 10 * seed})
    assert "not the same data" not in cautions_of(tmp_path)
    run(tmp_path, 0.5, loss="mae", seed=9, data__seed=0, data__group="patient", facts={"train_rows": 50})
    assert "were trained on 50 to 90 rows: these are not the same data" in cautions_of(tmp_path)


def test_learning_rates_at_the_edge_and_unequal_budgets_are_cautions(tmp_path: Path) -> None:
    for seed in range(6):
        for power, rate in enumerate((0.001, 0.01, 0.1)):
            run(tmp_path, 0.9 - 0.1 * power + 0.01 * seed, loss="mae", seed=seed, optimizer__lr=rate)
            if power:
                run(tmp_path, 0.5 + 0.1 * power + 0.01 * seed, loss="mse", seed=seed, optimizer__lr=rate)
    said = cautions_of(tmp_path)
    assert "The best optimizer.lr is the largest tried in mae (0.1): a larger one may be better still." in said
    assert "The best optimizer.lr is the smallest tried in mse (0.01): a smaller one may be better still." in said
    assert "Unequal budgets: from 2 settings tried in mse to 3 in mae" in said
    assert "Best epochs and settings were chosen by val/rmse" in describe_selection(arrange(read_runs([str(tmp_path)])))
