"""Metrics against scikit-learn, torchmetrics and their definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.utils.class_weight import compute_class_weight
from torchmetrics.functional import classification

from losslab.metrics import (
    average_precision,
    balanced_weights,
    calibration_error,
    f1_scores,
    one_hot,
    squared_log_error,
    sum_groups,
)
from tests.tasks.examples import bin_errors


@given(st.integers(0, 2**31), st.integers(1, 60), st.sampled_from([0.1, 1.0, 100.0]), st.booleans())
def test_average_precision_is_scikit_learns_and_torchmetrics(seed: int, rows: int, scale: float, ties: bool) -> None:
    numbers = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(rows, 5, generator=numbers, dtype=torch.float64)
    p = (scores.round() if ties else scores).sigmoid()  # far scores become 0 and 1, which are ties, too
    y = (torch.rand(rows, 5, generator=numbers) < torch.linspace(0, 1, 5)).long()  # the first label is never there
    found = average_precision(p.T, y.T)
    for label, ours in enumerate(found.tolist()):
        t, given = y[:, label], p[:, label]
        if not t.any():
            assert np.isnan(ours)
            continue
        assert ours == pytest.approx(metrics.average_precision_score(t, given), rel=1e-12)
        theirs = classification.binary_average_precision(given, t, validate_args=False)
        assert ours == pytest.approx(float(theirs), rel=1e-5)
    if y.any():
        micro = metrics.average_precision_score(y, p, average="micro")
        assert float(average_precision(p.flatten(), y.flatten())) == pytest.approx(micro, rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_average_precision_of_many_rows_is_scikit_learns(dtype: torch.dtype) -> None:
    numbers = torch.Generator().manual_seed(0)
    p = torch.rand(40_000, generator=numbers, dtype=dtype)  # so many integers are sorted another way, by radix
    p[::3] = p[::3].mul(50).round() / 50  # ties, 0 and 1 among them
    y = (torch.rand(40_000, generator=numbers) < 0.1 + p / 4).long()
    expected = metrics.average_precision_score(y, p)
    assert float(average_precision(p, y)) == pytest.approx(expected, rel=1e-5 if dtype == torch.float32 else 1e-12)


@given(st.integers(0, 2**31), st.integers(1, 200))
def test_calibration_error_is_its_definition(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    p, y = random.random(rows), random.integers(0, 2, rows)
    p[: rows // 10] = random.integers(0, 2, rows // 10)
    assert float(calibration_error(torch.tensor(p), torch.tensor(y))) == pytest.approx(bin_errors(p, y), abs=1e-9)


@given(st.integers(0, 2**31), st.integers(1, 40))
def test_f1_of_labels_is_scikit_learns(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    y, guess = random.integers(0, 2, (rows, 4)), random.integers(0, 2, (rows, 4))
    y[:, 0] = guess[:, 0] = 0  # nothing true and nothing predicted
    each, micro = f1_scores(torch.tensor(guess), torch.tensor(y))
    expected = metrics.f1_score(y, guess, average=None, zero_division=0)
    assert each.tolist() == pytest.approx(expected, rel=1e-6)
    assert float(micro) == pytest.approx(metrics.f1_score(y, guess, average="micro", zero_division=0), rel=1e-6)


@given(st.integers(0, 2**31), st.integers(1, 20))
def test_squared_log_error_is_scikit_learns(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    y, values = random.exponential(5, (rows, 2)), random.normal(2, 3, (rows, 2))
    expected = metrics.mean_squared_log_error(y, values.clip(min=0))  # which refuses values below 0
    assert float(squared_log_error(torch.tensor(values), torch.tensor(y))) == pytest.approx(expected, rel=1e-12)


@given(st.integers(0, 2**31), st.integers(1, 40))
def test_weights_of_classes_are_scikit_learns_and_those_of_labels_balance_them(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    y = np.concatenate([np.arange(4), random.integers(0, 4, rows)])
    found = balanced_weights(np.eye(4)[y])
    expected = compute_class_weight("balanced", classes=np.arange(4), y=y)
    assert found["weight"].tolist() == pytest.approx(expected, rel=1e-6)
    counts = np.bincount(y)
    assert (found["pos_weight"].numpy() * counts).tolist() == pytest.approx(len(y) - counts, rel=1e-6)


@given(st.integers(0, 2**31), st.integers(0, 40))
def test_sums_of_groups_are_numpys(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    values, groups = random.normal(size=rows), random.integers(0, 5, rows)
    found = sum_groups(torch.tensor(values), torch.tensor(groups), 6)
    assert found.tolist() == pytest.approx(np.bincount(groups, weights=values, minlength=6).tolist(), rel=1e-12)


def test_one_hot_is_torchs() -> None:
    index = torch.randint(0, 7, (50,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(one_hot(index, 7), torch.nn.functional.one_hot(index, 7).float())
