"""The split, the facts, and the user's own arrays."""

import hashlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedKFold

from losslab.config.catalogue import CONF
from losslab.config.check import configure
from losslab.config.make import make
from losslab.data.dataset import Dataset, arrays, split_rows
from losslab.data.truth import stratify
from losslab.errors import Refused

share = st.floats(0.05, 0.3)


@given(st.integers(20, 400), share, share, st.integers(0, 5))
def test_a_split_holds_every_row_once_in_the_shares_asked_for(count: int, val: float, test: float, seed: int) -> None:
    rows = split_rows(count, val=val, test=test, seed=seed)
    assert sorted(np.concatenate(list(rows.values()))) == list(range(count))
    assert len(rows["val"]) == max(2, round(val * count))
    assert len(rows["test"]) == max(2, round(test * count))


@given(st.integers(0, 20))
def test_a_split_follows_from_its_seed(seed: int) -> None:
    first, again, other = (split_rows(50, val=0.2, test=0.2, seed=s) for s in (seed, seed, seed + 1))
    assert all(np.array_equal(first[part], again[part]) for part in first)
    assert not np.array_equal(first["test"], other["test"])


@given(st.lists(st.integers(0, 4), min_size=60, max_size=300), st.integers(0, 3))
def test_classes_keep_their_shares_in_every_part(classes: list[int], seed: int) -> None:
    y = np.array(classes)
    rows = split_rows(len(y), val=0.2, test=0.2, seed=seed, strata=y)
    for found in np.unique(y):
        of_class = (y == found).sum()
        in_test = (y[rows["test"]] == found).sum()
        if of_class >= 3:
            assert abs(in_test - 0.2 * of_class) <= 2
        assert (y[rows["train"]] == found).any(), "a class that cannot be learnt"


def test_rare_classes_stay_where_they_can_be_learnt() -> None:
    y = np.array([0] * 40 + [1, 2, 2])
    for seed in range(20):
        train = set(y[split_rows(43, val=0.2, test=0.2, seed=seed, strata=y)["train"]])
        assert train == {0, 1, 2}


def test_a_split_without_folds_is_the_one_that_it_was_before_there_were_folds() -> None:
    found = hashlib.sha256()
    for seed in range(12):
        random = np.random.default_rng(seed)
        count = int(random.integers(20, 400))
        strata = random.integers(0, 9, count) if seed % 2 else None
        groups = random.integers(0, count // 2, count) if seed % 3 == 0 else None
        for name, rows in split_rows(count, val=0.15, test=0.2, seed=seed, strata=strata, groups=groups).items():
            found.update(name.encode() + rows.astype("<i8").tobytes())
    assert found.hexdigest()[:16] == "5fcdcef7017109bb"


@given(st.integers(40, 300), st.integers(2, 8), st.floats(0.01, 0.2), st.integers(0, 99), st.booleans())
def test_each_row_is_tested_in_one_fold(count: int, folds: int, val: float, seed: int, grouped: bool) -> None:
    random = np.random.default_rng(seed)
    groups = random.integers(0, count, count) if grouped else np.arange(count)
    rows: dict[str, Any] = {"groups": groups if grouped else None}
    rows["strata"] = random.integers(0, 4, count) if seed % 2 else None
    parts = [split_rows(count, val=val, test=0.9, seed=seed, folds=folds, fold=f, **rows) for f in range(folds)]
    assert sorted(np.concatenate([part["test"] for part in parts])) == list(range(count))
    kinds = [{name: set(groups[rows]) for name, rows in part.items()} for part in parts]
    sizes = [len(kind["test"]) for kind in kinds]
    assert max(sizes) - min(sizes) <= 1
    for part, kind in zip(parts, kinds, strict=True):
        assert list(part) == ["train", "val", "test"]
        assert sorted(np.concatenate(list(part.values()))) == list(range(count))
        assert sum(map(len, kind.values())) == len(set(groups)), "no group is in two parts"
        assert len(kind["val"]) == max(2, round(val * len(set(groups))))
    again = split_rows(count, val=val, test=0.9, seed=seed + 1, folds=folds, **rows)
    assert again["test"].tolist() != parts[0]["test"].tolist()


@given(st.integers(60, 300), st.integers(3, 12), st.integers(1, 7), st.integers(0, 99))
def test_folds_have_as_many_rows_of_each_class_as_those_of_scikit_learn(
    count: int, folds: int, classes: int, seed: int
) -> None:
    some = (np.random.default_rng(seed).random(count) ** 3 * classes).astype(np.int64)
    y = np.concatenate([np.arange(classes), some])  # scikit-learn numbers classes in the order of their first rows
    parts = [split_rows(len(y), val=0.1, test=0, seed=seed, strata=y, folds=folds, fold=fold) for fold in range(folds)]
    with warnings.catch_warnings(action="ignore"):  # it warns of classes that are not in every fold
        theirs = [rows for _, rows in StratifiedKFold(folds).split(y, y)]
    for part, rows in zip(parts, theirs, strict=True):
        assert np.bincount(y[part["test"]]).tolist() == np.bincount(y[rows]).tolist()
        for found in np.unique(y):
            assert (y == found).sum() == 1 or (y[part["train"]] == found).any(), "a class that cannot be learnt"
            assert abs((y[part["val"]] == found).sum() - 0.1 * (y == found).sum()) <= 1.5


def test_all_data_that_are_split_have_folds_and_hand_them_on(tmp_path: Path) -> None:
    options = {file.stem: yaml.safe_load(file.read_text()) for file in (CONF / "data").glob("*.yaml")}
    assert {n for n, option in options.items() if "test" in option} == {n for n, o in options.items() if "folds" in o}
    (tmp_path / "my.csv").write_text("a,b\n" + "\n".join(f"{n},{n % 7}" for n in range(40)))
    own = [f"data.path={(tmp_path / 'my.csv').as_posix()}", "data.target=b"]
    for typed in (["data=digits"], ["data=diabetes"], ["data=csv", *own]):
        cfgs = [configure([*typed, "data.folds=3", "data.seed=0", f"data.fold={fold}", "seed=1"]) for fold in range(3)]
        datasets = [make(cfg, "data") for cfg in cfgs]
        tested = sorted(np.concatenate([data.split["test"] for data in datasets]))
        assert tested == list(range(len(datasets[0].y)))
    made = [arrays(lambda: (np.eye(9), np.arange(9.0)), "regression", 0.2, 0, 0, folds=3, fold=f) for f in range(3)]
    assert sorted(np.concatenate([data.split["test"] for data in made])) == list(range(9))


def test_films_are_spread_by_their_rarest_label() -> None:
    y = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 1]])
    assert stratify(y, "labels").tolist() == [1, 0, 2, 3, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [0, 3, 5])
def test_too_few_rows_are_refused(count: int) -> None:
    with pytest.raises(Refused, match="too few"):
        split_rows(count, val=0.1, test=0.1, seed=0)


@pytest.mark.parametrize(
    ("count", "folds", "said"),
    [
        (3, 2, "3 rows .* are too few for data.folds=2, as each fold tests two: add rows"),
        (9, 5, "9 rows .* are too few for data.folds=5, as each fold tests two: type data.folds=4 or less"),
        (4, 2, "are too few to split, as each of train, val needs two: add rows$"),
    ],
)
def test_too_few_rows_for_so_many_folds_are_refused(count: int, folds: int, said: str) -> None:
    with pytest.raises(Refused, match=said):
        split_rows(count, val=0.1, test=0.1, seed=0, folds=folds)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "y"])
def test_values_that_are_no_numbers_are_refused_by_column_and_row(bad: float, where: str) -> None:
    values = {"x": np.ones((30, 2)), "y": np.ones((30, 2))}
    values[where][7, 1] = bad
    what = {"x": "features", "y": "targets"}[where]
    with pytest.raises(Refused, match=rf"column 1 of the {what} holds NaN or infinity in 1 row \(first: row 7\)"):
        arrays(lambda: (values["x"], values["y"]), "regression", val=0.1, test=0.1, seed=0)


def test_the_users_own_arrays_become_canonical() -> None:
    x = np.random.default_rng(0).random((30, 4))
    one = arrays(lambda: (x, np.arange(30) % 3), "single_label", val=0.1, test=0.1, seed=0)
    assert (str(one.x.dtype), str(one.y.dtype)) == ("float32", "int64")
    assert (one.shape, one.outputs, one.inputs) == ((4,), ["0", "1", "2"], ["x0", "x1", "x2", "x3"])
    many = arrays(lambda: (x, x > 0.5), "multi_label", val=0.1, test=0.1, seed=0, outputs=list("abcd"))
    assert (str(many.y.dtype), set(many.y.flat), many.outputs) == ("int64", {0, 1}, list("abcd"))


def test_images_are_scaled_by_the_training_images_alone() -> None:
    x = np.random.default_rng(0).integers(0, 255, (40, 3, 4, 4)).astype(np.uint8)
    rows = split_rows(40, val=0.2, test=0.2, seed=0)
    x[rows["test"]] = 255
    scale = Dataset(x, np.arange(40) % 2, rows, (3, 4, 4), ["a", "b"]).scale
    assert scale is not None
    train = x[rows["train"]].astype(float)
    np.testing.assert_allclose(scale[0], train.mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(scale[1], train.std((0, 2, 3)), rtol=1e-5)
