"""Noise by source: the analysis of variance of textbooks, known components found again, and what is worth repeating."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.runs import read_runs
from losslab.compare.variance import Components, estimate_components, find_levels, format_components, nested_variances
from tests.compare.written import run


def components_of(folder: Path, claim: str = "") -> Components:
    comparison = arrange(read_runs([str(folder)]), claim=claim)
    found = estimate_components(comparison, evaluate(comparison))
    assert found is not None
    return found


def test_one_way_components_are_those_of_the_analysis_of_variance() -> None:
    rng = np.random.default_rng(0)
    group = np.repeat(np.arange(5), [2, 3, 4, 1, 6])
    y = rng.normal(size=16) + 3 * rng.normal(size=5)[group]
    sizes = np.bincount(group)
    means = np.bincount(group, y) / sizes
    between = (sizes * (means - y.mean()) ** 2).sum() / 4
    within = ((y - means[group]) ** 2).sum() / 11
    typical = (16 - (sizes**2).sum() / 16) / 4  # Searle, Casella & McCulloch 1992, section 3.6
    assert nested_variances(y, [group]) == pytest.approx([(between - within) / typical, within])
    assert nested_variances(y, []) == pytest.approx([y.var(ddof=1)])


@pytest.mark.parametrize("equal", [True, False])
def test_known_components_are_found_again(equal: bool) -> None:
    rng = np.random.default_rng(1)
    outer = np.repeat(np.arange(6), 20)
    inner = np.repeat(np.arange(24), 5)
    if not equal:
        kept = np.sort(rng.choice(120, 80, replace=False))
        outer, inner = outer[kept], inner[kept]
    found = []
    for _ in range(400):
        y = 1.5 * rng.normal(size=6)[outer] + rng.normal(size=24)[inner] + 0.7 * rng.normal(size=len(outer))
        found.append(nested_variances(y, [outer, inner]))
    assert np.mean(found, 0) == pytest.approx([2.25, 1.0, 0.49], rel=0.07)


@pytest.mark.parametrize(
    ("datasets", "splits", "found"),
    [
        ("aaaa", "0000", ([], "training again")),
        ("aaaa", "0011", (["split"], "training again")),
        ("aaaa", "0123", ([], "split and training again")),
        ("aabb", "0000", (["data set"], "training again")),
        ("aabb", "0101", (["data set"], "split and training again")),
        ("abcd", "0000", ([], "data set and training again")),
        ("aaaabbbb", "00110011", (["data set", "split"], "training again")),
    ],
)
def test_a_source_is_told_apart_where_it_varies_and_repeats(
    datasets: str, splits: str, found: tuple[list[str], str]
) -> None:
    names, groups, last = find_levels(pd.DataFrame({"dataset_key": list(datasets), "split": list(splits)}))
    assert (names, last) == found
    assert all(1 < len(set(each)) < len(datasets) for each in groups)


def test_rows_and_trainings_of_one_split_are_those_that_were_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    rows = {loss: rng.uniform(0.2, 0.8, 50) for loss in ("mae", "mse")}
    shift = {loss: np.round(0.01 * rng.normal(size=4), 6) for loss in rows}
    for loss, values in rows.items():
        for seed in range(4):
            said = values + shift[loss][seed]
            run(tmp_path, said.mean(), task="single_label", loss=loss, seed=seed, data__seed=0, rows=said)
    found = components_of(tmp_path)
    table = found.table.set_index("source")
    mean_variance = np.mean([values.var(ddof=1) / 50 for values in rows.values()])
    assert table.at["rows tested", "metric"] == pytest.approx(100 * np.sqrt(mean_variance), rel=1e-3)
    each = rows["mae"] - rows["mse"]
    assert table.at["rows tested", "difference"] == pytest.approx(100 * each.std(ddof=1) / np.sqrt(50), rel=1e-3)
    training = (shift["mae"] - shift["mse"]).std(ddof=1)
    assert table.at["training again", "difference"] == pytest.approx(100 * training, rel=1e-3)
    share = each.var(ddof=1) / 50 / (each.var(ddof=1) / 50 + training**2 / 4)
    assert table.at["rows tested", "share"] == pytest.approx(share, rel=1e-3)
    assert found.sentence.endswith(
        f"{100 * share:.0f} % of its variance comes from the rows tested. More test rows help most: data.folds=5 tests "
        "every row."
    )
    shown = format_components(found, "points of accuracy").set_index("source")
    assert list(shown.loc["split"]) == ["1", "", "", ""]
    alone = components_of(tmp_path, claim="seeds")  # on these very rows
    assert "nearly all of its variance comes from training again. More seeds help most." in alone.sentence


@pytest.mark.parametrize(
    ("splits", "seeds", "of_split", "sentence"),
    [
        (4, 3, 0.05, "as far as it is known: .* comes from the split. More splits, such as data.seed=0,1,2,3,4, help"),
        (4, 3, 0.0, "comes from training again. More seeds help most."),
        (8, 0, 0.05, "Only one source is known; several seeds on each split, .*, tell its parts apart"),
        (1, 4, 0.0, "Only one source is known: these runs did not record what they said of each row"),
    ],
)
def test_the_source_of_most_of_the_error_is_worth_repeating(
    tmp_path: Path, splits: int, seeds: int, of_split: float, sentence: str
) -> None:
    rng = np.random.default_rng(3)
    for loss, mean in (("mae", 0.5), ("mse", 0.6)):
        for split in range(splits):
            own = of_split * rng.normal()
            for seed in range(seeds) if seeds else [split]:
                run(tmp_path, mean + own + 0.01 * rng.normal(), loss=loss, seed=seed, data__seed=split)
    assert re.search(sentence, components_of(tmp_path).sentence)


def test_what_a_split_adds_is_apart_from_the_rows_that_it_tests(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    means, noise = [], []
    for split in range(5):
        said = {loss: rng.uniform(0.2, 0.8, 50) + 0.1 * rng.normal() for loss in ("mae", "mse")}
        for loss, values in said.items():
            run(tmp_path, values.mean(), task="single_label", loss=loss, seed=split, rows=values,
                facts={"test_split": split})  # fmt: skip
        means.append(said["mae"].mean() - said["mse"].mean())
        noise.append((said["mae"] - said["mse"]).var(ddof=1) / 50)
    found = components_of(tmp_path).table.set_index("source")["difference"]
    assert found["rows tested"] == pytest.approx(100 * np.sqrt(np.mean(noise)), rel=1e-3)
    rest = np.var(means, ddof=1) - np.mean(noise)
    assert found["split and training again"] == pytest.approx(100 * np.sqrt(rest), rel=1e-3)


def test_without_two_shared_trainings_nothing_is_known(tmp_path: Path) -> None:
    run(tmp_path, 0.5, loss="mae", seed=0)
    run(tmp_path, 0.6, loss="mse", seed=0)
    run(tmp_path, 0.6, loss="mse", seed=1)
    comparison = arrange(read_runs([str(tmp_path)]))
    assert estimate_components(comparison, evaluate(comparison)) is None
