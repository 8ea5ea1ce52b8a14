"""What a verdict said wrongly once: each case is a set of written records, and what must and must not be said of it."""

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from losslab.compare.claims import Findings, evaluate
from losslab.compare.design import Comparison, arrange
from losslab.compare.lead import find_places, find_standing, write_lead
from losslab.compare.runs import read_runs
from losslab.compare.standing import is_same, is_sure, turn
from losslab.compare.table import summarize_cells
from losslab.compare.verdict import write_verdict
from losslab.errors import Refused
from tests.compare.written import grid, run

ONE: dict[str, Any] = {"data__seed": 0}  # one split
LABELS: dict[str, Any] = {"task": "single_label", **ONE}


def conclude(folder: Path, **settings: Any) -> tuple[Comparison, Findings, str]:
    """Compare runs; whatever they are, the statement of each pair agrees with its interval."""
    comparison = arrange(read_runs([str(folder)]), **settings)
    findings = evaluate(comparison)
    for pair in findings.every:
        if np.isfinite(pair.p):
            assert (pair.p <= comparison.alpha) == (pair.low > 0 or pair.high < 0), pair
            assert pair.low <= pair.mean <= pair.high, pair
    if findings.pairs:
        check_lead(comparison, findings)
    return comparison, findings, "\n".join(write_verdict(comparison, findings))


def check_lead(comparison: Comparison, findings: Findings) -> None:
    """Check that each cell stands in one line of the lead, the one that its pair with the leader asks for."""
    places = find_places(comparison, find_standing(comparison, findings, 1.0), 1.0)
    lost = set(comparison.frame["cell"][comparison.frame["status"] == "failed"])
    used = comparison.used.groupby("cell")["dataset_key"].nunique()
    assert used.loc[places.leader] == len(comparison.datasets), "what lacks data is not recommended"
    names = [places.leader, *places.same, *places.undecided, *places.worse]
    assert sorted(names) == sorted({*comparison.cells, *lost}), "each is in one line"
    for found in findings.tested:
        if not found.key and places.leader in (found.first, found.second):
            pair = found if found.first == places.leader else turn(found)
            if used.loc[pair.second] == len(comparison.datasets):
                assert not is_sure(comparison, turn(pair)), "nothing is surely better than what is recommended"
            assert is_sure(comparison, pair) == (pair.second in places.worse)
            assert (is_same(pair, 1.0) and not pair.p <= comparison.alpha) == (pair.second in places.same)
    lines = {line.question: line for line in write_lead(comparison, findings, 1.0)}
    assert lines["Use"].badge == places.badge
    for question, group in (("Avoid", places.worse), ("Cannot be told apart yet", places.undecided)):
        assert len(lines[question].evidence if question in lines else ()) == len(group)


def four_losses_one_with_two_seeds(folder: Path) -> None:
    for number, loss in enumerate(("mae", "mse", "huber", "log_cosh")):
        for seed in range(2 if loss == "log_cosh" else 5):
            value = 0.5 + 0.1 * number + 0.03 * seed + 0.005 * ((seed * 3 + number) % 4)
            run(folder, value, loss=loss, seed=seed, **ONE)


def the_best_setting_lost_a_run(folder: Path) -> None:
    for seed in range(5):
        run(folder, 0.30 + 0.01 * seed, loss="mse", seed=seed, optimizer__lr=1.0, **LABELS)
        lost = "failed" if seed == 3 else "finished"
        run(folder, 0.97 + 0.001 * seed, loss="mse", seed=seed, optimizer__lr=0.1, status=lost, **LABELS)
        run(folder, 0.90 + 0.002 * seed, loss="bce", seed=seed, optimizer__lr=0.1, **LABELS)


def one_fails_where_it_is_hard(folder: Path) -> None:
    for seed in range(12):
        hard = seed >= 8
        run(folder, (0.6 if hard else 0.8) + 0.005 * (seed % 3), loss="mse", seed=seed, **LABELS)
        failed = "failed" if hard else "finished"
        run(folder, 0.82 + 0.004 * (seed % 4), loss="bce", seed=seed, status=failed, **LABELS)


def one_ran_on_the_easy_data_only(folder: Path) -> None:
    for seed in range(4):
        for loss, value in (("mae", 2.0), ("mse", 1.0)):
            run(folder, 1000 * value + seed, loss=loss, data="diamonds", seed=seed)
            run(folder, value + 0.1 + 0.001 * seed, loss=loss, data="heights", seed=seed)
        run(folder, 0.5 + 0.001 * seed, loss="huber", data="heights", seed=seed)


def one_of_seven_diverged(folder: Path) -> None:
    for seed in range(7):
        run(folder, 50_000.0 if seed == 3 else 750.0 + seed, loss="mae", seed=seed, **ONE)
        run(folder, 800.0 + 1.5 * seed, loss="mse", seed=seed, **ONE)


def a_cell_of_a_grid_failed_whole(folder: Path) -> None:
    for number, loss in enumerate(("mae", "mse", "huber")):
        for optimizer in ("adam", "sgd"):
            status = "failed" if (loss, optimizer) == ("huber", "sgd") else "finished"
            for seed in range(4):
                value = 0.5 + 0.1 * number + 0.1 * (optimizer == "sgd") + 0.01 * ((seed * 7 + number) % 5)
                run(folder, value, loss=loss, optimizer=optimizer, seed=seed, status=status, **ONE)


def one_was_tuned_more(folder: Path) -> None:
    for seed in range(6):
        for power in range(12):
            value = 0.5 + 0.01 * (seed % 3) + 0.002 * ((seed * 5 + power) % 7)
            run(folder, value, val=0.5 + 0.001 * power, loss="mae", seed=seed, optimizer__lr=0.1**power, **ONE)
        run(folder, 0.55 + 0.01 * (seed % 3) + 0.002 * (seed % 2), loss="mse", seed=seed, optimizer__lr=0.1, **ONE)


def five_splits_of_five_seeds(folder: Path) -> None:
    for split in range(5):
        for seed in range(5):
            shift = 0.02 * ((split * 2) % 5) + 0.001 * ((seed + split) % 3)
            run(folder, 0.5 + shift, loss="mae", seed=seed, data__seed=split)
            run(folder, 0.6 + shift + 0.002 * split, loss="mse", seed=seed, data__seed=split)


def one_split_of_eight_seeds(folder: Path) -> None:
    grid(folder, {"mae": 0.5, "mse": 0.6}, 8, **ONE)


def folds_that_share_training_rows(folder: Path) -> None:
    for fold in range(5):
        facts = {"train_rows": 80, "test_rows": 20, "test_split": fold}
        more: dict[str, Any] = {"data__seed": 0, "data__fold": fold, "data__folds": 5, "facts": facts}
        for loss, value in (("mae", 0.5), ("mse", 0.7)):
            run(folder, value + 0.01 * ((fold * 3 + len(loss)) % 4), loss=loss, **more)


def equal_but_for_the_last_bits(folder: Path) -> None:
    for seed in range(6):
        for number, loss in enumerate(("mse", "bce")):
            run(folder, 0.93 + 0.01 * (seed % 3) + 2e-8 * number, loss=loss, seed=seed, **LABELS)


def one_seed_and_nothing_else(folder: Path) -> None:
    grid(folder, {"mae": 0.5, "mse": 0.6}, 1)


def data_sets(count: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for number in range(count):
            for seed in range(2):
                for loss, value in (("mae", 1.0), ("mse", 1.2 + 0.01 * (number % 3))):
                    run(folder, value * 10**number + 0.001 * seed, loss=loss, data=f"set{number}", seed=seed)

    return write


@pytest.mark.parametrize(
    ("write", "said", "unsaid"),
    [
        (four_losses_one_with_two_seeds, ["mae beats mse", "huber by", "log_cosh by", "over 5 seeds"], ["told apart"]),
        (
            the_best_setting_lost_a_run,
            ["Of the trainings that finished, mse is ahead of bce by .*1 of its trainings failed", "1 of 5 trainings"],
            ["bce beats", "mse beats"],
        ),
        (
            one_fails_where_it_is_hard,
            ["Of the trainings that finished, bce is ahead of mse", "4 of 12 trainings of bce failed"],
            ["bce beats"],
        ),
        (
            one_ran_on_the_easy_data_only,
            ["mse beats mae by 4.* over 2 data sets", "huber ran on 1 of 2 data sets and is last in the table", "only"],
            ["by \\d\\d\\d"],
        ),
        (one_of_seven_diverged, ["mae is ahead of mse by 6", "1 of 7 trainings of mae failed"], ["mse beats"]),
        (
            a_cell_of_a_grid_failed_whole,
            [
                "All trainings of huber . sgd failed",
                "Averaged over the losses that both have .huber left out of some, .*: adam beats",
            ],
            [],
        ),
        (one_was_tuned_more, ["mae.* mse .12 settings tried against 1."], []),
        (five_splits_of_five_seeds, ["mae beats mse by .* 5 splits", "new splits of these rows, with"], ["25"]),
        (one_split_of_eight_seeds, ["over 8 seeds", "these very training and test rows", "did not record"], ["split"]),
        (folds_that_share_training_rows, ["over 5 folds", "folds share training rows, .*Nadeau"], ["seeds"]),
        (equal_but_for_the_last_bits, ["cannot be told apart at 6 seeds|are the same within 1 point"], ["beats"]),
        (one_seed_and_nothing_else, ["one seed shows no spread; run at least 3, such as seed=0,1,2"], ["beats"]),
        (data_sets(5), ["over 5 data sets", "these 5 data sets only"], []),
        (data_sets(6), ["over 6 data sets", "new data sets like these 6: each counts once"], ["only"]),
    ],
)  # fmt: skip
def test_what_is_said_and_what_is_not(
    write: Callable[[Path], None], said: list[str], unsaid: list[str], tmp_path: Path
) -> None:
    write(tmp_path)
    verdict = conclude(tmp_path)[2]
    assert not re.search(r"\b(nan|inf|none|\S+e\+\d+)\b", verdict), verdict
    for pattern in said:
        assert re.search(pattern, verdict), verdict
    for pattern in unsaid:
        assert not re.search(pattern, verdict), verdict


def test_the_setting_that_lost_a_run_is_the_one_that_counts(tmp_path: Path) -> None:
    the_best_setting_lost_a_run(tmp_path)
    comparison, findings, _ = conclude(tmp_path)
    table = summarize_cells(comparison).set_index("cell")
    assert table.at["mse", "mean"] == pytest.approx(0.97175)
    assert list(table.loc["mse", ["n", "trained", "failed", "setting"]]) == [4, 5, 1, "optimizer.lr=0.1"]
    assert findings.pairs[0].improvement == 0.8, "a failure loses"
    assert findings.pairs[0].failed == (1, 0)


def test_a_side_that_was_tuned_more_needs_more_to_be_better(tmp_path: Path) -> None:
    one_was_tuned_more(tmp_path / "unequal")
    grid(tmp_path / "equal", {"mae": 0.5, "mse": 0.55}, 6, **ONE)
    unequal, equal = (conclude(tmp_path / name)[1].pairs[0] for name in ("unequal", "equal"))
    assert (unequal.tries, equal.tries) == ((12, 1), (1, 1))
    assert unequal.critical > 1.5 * equal.critical


def test_an_incomplete_cell_comes_last_and_changes_nothing_of_the_others(tmp_path: Path) -> None:
    one_ran_on_the_easy_data_only(tmp_path)
    comparison, findings, _ = conclude(tmp_path)
    assert comparison.cells == ["mse", "mae", "huber"]
    between = {(pair.first, pair.second): pair.mean for pair in findings.pairs}["mse", "mae"]
    for folder in tmp_path.glob("huber*"):
        (folder / "status.json").unlink()
    assert conclude(tmp_path)[1].pairs[0].mean == pytest.approx(between)


def test_one_more_cell_or_seed_takes_no_finding_away(tmp_path: Path) -> None:
    rng = np.random.default_rng(6)
    table = 0.5 + 0.03 * np.arange(6) + 0.01 * rng.normal(size=(12, 6)) + 0.05 * rng.normal(size=(12, 1))
    found = []
    for seed, row in enumerate(table):
        for number, value in enumerate(row[:5] if seed < 9 else row):  # a sixth cell comes late
            run(tmp_path, value, loss=f"l{number}", seed=seed, **ONE)
        if seed >= 7:
            pairs = conclude(tmp_path)[1].pairs
            found.append({(pair.first, pair.second) for pair in pairs if pair.p <= 0.05 and pair.second != "l5"})
    assert len(found[0]) >= 9, "of 10 pairs"
    lost = [earlier - later for earlier, later in pairwise(found)]
    assert not any(lost), lost


def test_the_probability_of_improvement_is_paired(tmp_path: Path) -> None:
    for seed in range(8):
        for number, loss in enumerate(("mae", "mse")):
            run(tmp_path, 0.5 + 0.2 * seed + 0.01 * number + 0.001 * (seed % 3) * number, loss=loss, seed=seed, **ONE)
    (pair,) = conclude(tmp_path)[1].pairs
    assert pair.improvement == 1.0
    assert (pair.n, pair.paired) == (8, True)


@pytest.mark.parametrize("seeds", [1, 5])
def test_splits_count_once_however_many_seeds_each_has(seeds: int, tmp_path: Path) -> None:
    for split in range(5):
        for seed in range(seeds):
            for number, loss in enumerate(("mae", "mse")):
                value = 0.5 + 0.01 * split + 0.03 * number * ((split * 3) % 4)
                run(tmp_path, value, loss=loss, seed=seed, data__seed=split)
    (pair,) = conclude(tmp_path)[1].pairs
    gaps = 0.03 * np.array([0, 3, 2, 1, 0])
    assert pair.n == 5
    assert pair.sd / pair.mean == pytest.approx(gaps.std(ddof=1) / gaps.mean(), rel=1e-3)


def test_each_split_chooses_its_setting_by_its_own_validation_rows(tmp_path: Path) -> None:
    for seed in range(4):
        for rate in (0.1, 0.01):
            good = (rate == 0.1) == (seed % 2 == 0)
            run(tmp_path, 0.5 if good else 0.1, val=0.4 if good else 0.6, loss="mae", seed=seed, optimizer__lr=rate)
            run(tmp_path, 0.7, loss="mse", seed=seed, optimizer__lr=rate)
    comparison, findings, _ = conclude(tmp_path)
    mae = comparison.used[comparison.used["cell"] == "mae"]
    assert mae.sort_values("seed")["setting"].tolist() == [f"optimizer.lr={rate}" for rate in (0.1, 0.01, 0.1, 0.01)]
    assert findings.pairs[0].n == 4


def test_runs_that_tested_the_same_rows_are_one_split_whatever_its_seed_says(tmp_path: Path) -> None:
    for seed in range(3):
        for loss, value in (("mae", 0.5), ("mse", 0.6)):
            run(tmp_path, value + 0.01 * seed, loss=loss, seed=seed, facts={"test_split": 7})
    assert conclude(tmp_path)[0].population.claim == "seeds"


def rows_of_some(folder: Path) -> None:
    right = (np.arange(40) % 4 > 0).astype(float)
    for seed in range(3):
        run(folder, 0.75, loss="mse", seed=seed, rows=right if seed else None, **LABELS)
        run(folder, 0.75, loss="bce", seed=seed, rows=right, **LABELS)


@pytest.mark.parametrize(
    ("write", "claim", "why", "instead"),
    [
        (one_split_of_eight_seeds, "data", "applies to new data sets, and these runs are on diamonds alone",
         "run the same on other data of this task, or leave claim= out"),
        (one_split_of_eight_seeds, "splits", "applies to new splits, and these runs tested the same rows",
         "run several, such as data.seed=0,1,2,3,4, or leave claim= out"),
        (one_split_of_eight_seeds, "rows",
         "needs what each run said of its test rows, and 16 of 16 runs have no rows.npz",
         "train them again, or type claim=seeds"),
        (rows_of_some, "rows", "needs what each run said of its test rows, and 1 of 6 runs have no rows.npz",
         "train them again, or type claim=seeds"),
        (five_splits_of_five_seeds, "seeds", "applies to one split, and these runs have 5",
         "run several seeds on one, such as data.seed=0 seed=0,1,2,3,4, or leave claim= out"),
        (data_sets(2), "rows", "applies to one data set, and these runs are on 2", "type data=set0"),
        (data_sets(2), "splits", "applies to one data set, and these runs are on 2", "type data=set0"),
    ],
)  # fmt: skip
def test_a_claim_that_the_records_do_not_allow_says_what_is_missing(
    write: Callable[[Path], None], claim: str, why: str, instead: str, tmp_path: Path
) -> None:
    write(tmp_path)
    with pytest.raises(Refused) as refused:
        conclude(tmp_path, claim=claim)
    assert str(refused.value) == f"claim={claim} {why}: {instead}"


@pytest.mark.parametrize(
    ("write", "claim", "wider"),
    [(five_splits_of_five_seeds, "rows", np.sqrt(1 + 5 * 0.2857)), (folds_that_share_training_rows, "splits", 1.0)],
)
def test_a_claim_about_rows_from_splits_is_wider(
    write: Callable[[Path], None], claim: str, wider: float, tmp_path: Path
) -> None:
    write(tmp_path)
    usual, asked = (conclude(tmp_path, claim=each)[1].pairs[0] for each in ("", claim))
    assert asked.mean == usual.mean
    assert (asked.high - asked.low) / (usual.high - usual.low) == pytest.approx(wider, rel=0.02)
