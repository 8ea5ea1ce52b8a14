"""The split, the facts, and the user's own arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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


def test_films_are_spread_by_their_rarest_label() -> None:
    y = np.array([[1, 1, 0], [1, 0, 0], [1, 0, 1], [0, 0, 0], [1, 0, 1]])
    assert stratify(y, "labels").tolist() == [1, 0, 2, 3, 2]  # type: ignore[union-attr]


@pytest.mark.parametrize("count", [0, 3, 5])
def test_too_few_rows_are_refused(count: int) -> None:
    with pytest.raises(Refused, match="too few"):
        split_rows(count, val=0.1, test=0.1, seed=0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["x", "y"])
def test_values_that_are_no_numbers_are_refused_by_column_and_row(bad: float, where: str) -> None:
    values = {"x": np.ones((30, 2)), "y": np.ones((30, 2))}
    values[where][7, 1] = bad
    what = {"x": "features", "y": "targets"}[where]
    with pytest.raises(Refused, match=rf"column 1 of the {what} holds NaN or infinity in 1 rows \(first: row 7\)"):
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
