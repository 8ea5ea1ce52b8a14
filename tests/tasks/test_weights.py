"""Rows with weights: every metric is scikit-learn's with `sample_weight`, and a weight of two is the row twice."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics
from sklearn.utils.class_weight import compute_class_weight
from torch import Tensor

from losslab.metrics import balanced_weights
from losslab.tasks import MultiLabel, Regression, Task
from tests.losses.examples import TASKS, exactly, prepared
from tests.tasks.examples import tune

Array = NDArray[Any]
close = partial(
    torch.testing.assert_close, rtol=1e-6, atol=1e-7, check_dtype=False
)  # F1 of counts is in single precision


def weighted(name: str, seed: int, rows: int = 50) -> tuple[Task, Tensor, Tensor, Tensor]:
    """A task, scores and targets in double precision, and weights from 0 to 4."""
    task, scores, y = prepared(name, rows=rows)
    draws = torch.Generator().manual_seed(seed)
    scores = torch.randn(scores.shape, generator=draws, dtype=torch.float64)
    weight = torch.randint(0, 5, (rows,), generator=draws).double()
    return task.double(), scores, y.double() if y.is_floating_point() else y, weight


def numbers_by_sklearn(values: Array, y: Array, w: Array) -> dict[str, float]:
    mse = metrics.mean_squared_error(y, values, sample_weight=w)
    return {
        "mse": mse,
        "rmse": mse**0.5,
        "mae": metrics.mean_absolute_error(y, values, sample_weight=w),
        "r2": metrics.r2_score(y, values, sample_weight=w),
        "msle": metrics.mean_squared_log_error(y, values.clip(min=0), sample_weight=w),
    }


def classes_by_sklearn(p: Array, y: Array, w: Array) -> dict[str, float]:
    guess = p.argmax(1)
    best, right = p.max(1), (guess == y).astype(float)
    return {
        "accuracy": metrics.accuracy_score(y, guess, sample_weight=w),
        "balanced_accuracy": metrics.balanced_accuracy_score(y, guess, sample_weight=w),
        "f1": metrics.f1_score(y, guess, average="macro", sample_weight=w),
        "log_loss": metrics.log_loss(y, p, sample_weight=w),
        "brier": float(np.average(((p - np.eye(p.shape[1])[y]) ** 2).sum(1), weights=w)),
        "ece": bins_by_numpy(best, right, w),
    }


def labels_by_sklearn(p: Array, y: Array, w: Array, thresholds: Array) -> dict[str, float]:
    columns = range(p.shape[1])
    found = {
        "log_loss": np.mean([metrics.log_loss(y[:, i], p[:, i], sample_weight=w, labels=[0, 1]) for i in columns]),
        "brier": np.mean([metrics.brier_score_loss(y[:, i], p[:, i], sample_weight=w) for i in columns]),
        "ece": bins_by_numpy(p.ravel(), y.ravel(), np.repeat(w, p.shape[1])),
    }
    for suffix, average in (("", "macro"), ("_micro", "micro")):
        found[f"average_precision{suffix}"] = metrics.average_precision_score(y, p, average=average, sample_weight=w)
        for tuned, above in (("", 0.5), ("_tuned", thresholds)):
            found[f"f1{suffix}{tuned}"] = metrics.f1_score(y, p > above, average=average, sample_weight=w)
    return {name: float(value) for name, value in found.items()}


def bins_by_numpy(p: Array, y: Array, w: Array) -> float:
    which = np.minimum((p * 15).astype(int), 14)
    return float(sum(abs(w[which == b] @ (p - y)[which == b]) for b in range(15)) / w.sum())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TASKS)
def test_weighted_metrics_are_scikit_learns(name: str, seed: int) -> None:
    task, scores, y, weight = weighted(name, seed)
    if isinstance(task, MultiLabel):
        scores = (scores * 2).round() / 2  # equal ones, too
        tune(task, scores, y)
    found = {key: float(value) for key, value in task.metrics(scores, y, weight).items()}
    there = weight > 0  # of classes that occur in rows of weight 0 alone scikit-learn takes the mean as well
    t, w = y[there].numpy(), weight[there].numpy()
    if isinstance(task, Regression):
        expected = numbers_by_sklearn(task.view(scores, "values")[there].numpy(), t, w)
    else:
        p = task.view(scores, "prediction")[there].numpy()
        more = (task.thresholds.numpy(),) if isinstance(task, MultiLabel) else ()
        expected = (labels_by_sklearn if more else classes_by_sklearn)(p, t, w, *more)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", TASKS)
def test_a_weight_is_so_many_equal_rows_for_metrics_and_thresholds(name: str, seed: int) -> None:
    task, scores, y, weight = weighted(name, seed)
    weight[0] += -weight.sum() % 32  # torch's sigmoid of equal scores may differ in a last, short block: no tie there
    times = weight.long()
    repeated = scores.repeat_interleave(times, 0), y.repeat_interleave(times, 0)
    for key, value in task.tune(scores, y, 0.25 * weight).items():
        exactly(value, task.tune(*repeated)[key])
    close(task.metrics(scores, y, 0.25 * weight), task.metrics(*repeated))


@pytest.mark.parametrize("name", TASKS)
def test_equal_weights_are_none(name: str) -> None:
    task, scores, y, _ = weighted(name, 0)
    close(task.metrics(scores, y, torch.full((len(y),), 0.3).double()), task.metrics(scores, y))


@pytest.mark.parametrize("name", TASKS)
def test_runs_of_a_stack_have_the_weighted_metrics_that_they_have_alone(name: str) -> None:
    task, scores, y, weight = weighted(name, 0)
    runs = [torch.stack([each, each.flip(0).roll(3, 0)]) for each in (scores, y)]
    each = torch.func.vmap(lambda *rows: task.metrics(*rows))
    together = each(*runs, torch.stack([weight, weight.roll(5)]))
    alone = [task.metrics(runs[0][run], runs[1][run], weight.roll(5 * run)) for run in range(2)]
    exactly(together, {key: torch.stack([each[key] for each in alone]) for key in together})


def test_balanced_class_weights_count_weights() -> None:
    draws = np.random.default_rng(0)
    y, w = draws.integers(0, 3, 40), draws.uniform(0, 2, 40)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=y, sample_weight=w)
    np.testing.assert_allclose(balanced_weights(np.eye(3)[y], w)["weight"], expected, rtol=1e-6)
