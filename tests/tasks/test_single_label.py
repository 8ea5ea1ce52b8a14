"""One class out of several against scikit-learn and torchmetrics."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from torchmetrics.functional import classification

from tests.losses.examples import prepared


def test_single_label_metrics_are_scikit_learns() -> None:
    task, scores, y = prepared("single_label", rows=40)
    found = task.metrics(scores.detach(), y)
    p, t = scores.detach().double().softmax(1).numpy(), y.numpy()
    expected = {
        "accuracy": metrics.accuracy_score(t, p.argmax(1)),
        "balanced_accuracy": metrics.balanced_accuracy_score(t, p.argmax(1)),
        "f1": metrics.f1_score(t, p.argmax(1), average="macro"),
        "log_loss": metrics.log_loss(t, p),
        "brier": ((p - np.eye(3)[t]) ** 2).sum(1).mean(),
        "ece": classification.multiclass_calibration_error(torch.tensor(p), y, 3, n_bins=15, norm="l1").item(),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_a_class_that_no_row_has_does_not_count() -> None:
    task, scores, y = prepared("single_label", rows=30)
    y[y == 2] = 0
    guess = scores.detach().argmax(1)
    assert (guess == 2).any()
    recalls = metrics.recall_score(y, guess, labels=[0, 1], average="macro")
    assert float(task.metrics(scores.detach(), y)["balanced_accuracy"]) == pytest.approx(recalls, rel=1e-6)


@given(st.integers(0, 2**31), st.integers(1, 40), st.booleans())
def test_recall_and_f1_of_classes_are_scikit_learns_and_torchmetrics(seed: int, rows: int, sparse: bool) -> None:
    numbers = torch.Generator().manual_seed(seed)
    scores = torch.randn(rows, 5, generator=numbers, dtype=torch.float64)
    y = torch.randint(0, 3 if sparse else 5, (rows,), generator=numbers)
    scores[:, :2] -= 9.0 if sparse else 0.0  # some classes are neither there nor said
    task, _, _ = prepared("single_label")
    found, guess = task.metrics(scores, y), scores.argmax(1)
    there = sorted(set(y.tolist()))
    recall = metrics.recall_score(y, guess, labels=there, average="macro")
    assert float(found["balanced_accuracy"]) == pytest.approx(recall, rel=1e-12)
    assert float(found["f1"]) == pytest.approx(metrics.f1_score(y, guess, average="macro"), rel=1e-12)
    theirs = classification.multiclass_f1_score(guess, y, 5, average="macro", validate_args=False)
    assert float(found["f1"]) == pytest.approx(float(theirs), rel=1e-6)
    theirs = classification.multiclass_recall(guess, y, 5, average=None, validate_args=False)[there].mean()
    assert float(found["balanced_accuracy"]) == pytest.approx(float(theirs), rel=1e-6)
