"""Metrics against scikit-learn; views and forms against what the YAML files promise."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from losslab.tasks import Regression

from .test_losses import TASKS, prepared


def test_regression_metrics_are_scikit_learns() -> None:
    task, scores, y = prepared("regression", rows=40)
    found = task.metrics(scores.detach(), y)
    p, t = task.view(scores.detach(), "values").numpy().astype(float), y.numpy().astype(float)
    expected = {
        "rmse": metrics.mean_squared_error(t, p) ** 0.5,
        "mse": metrics.mean_squared_error(t, p),
        "mae": metrics.mean_absolute_error(t, p),
        "msle": metrics.mean_squared_log_error(t, p.clip(min=0)),
        "r2": metrics.r2_score(t, p),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_msle_is_left_out_where_targets_are_negative() -> None:
    task, scores, y = prepared("regression")
    assert "msle" not in task.metrics(scores.detach(), y - 30)


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
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_a_class_that_no_row_has_does_not_count() -> None:
    task, scores, y = prepared("single_label", rows=30)
    y[y == 2] = 0
    guess = scores.detach().argmax(1)
    assert (guess == 2).any()
    recalls = metrics.recall_score(y, guess, labels=[0, 1], average="macro")
    assert float(task.metrics(scores.detach(), y)["balanced_accuracy"]) == pytest.approx(recalls, rel=1e-6)


def test_multi_label_metrics_are_scikit_learns() -> None:
    task, scores, y = prepared("multi_label", rows=40)
    found = task.metrics(scores.detach(), y)
    p, t = scores.detach().sigmoid().numpy().astype(float), y.numpy()
    expected = {
        "average_precision": metrics.average_precision_score(t, p, average="macro"),
        "average_precision_micro": metrics.average_precision_score(t, p, average="micro"),
        "f1": metrics.f1_score(t, p > 0.5, average="macro"),
        "f1_micro": metrics.f1_score(t, p > 0.5, average="micro"),
        "log_loss": np.mean([metrics.log_loss(t[:, i], p[:, i]) for i in range(3)]),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)


def test_a_label_that_no_row_has_is_left_out_of_the_macro_mean() -> None:
    task, scores, y = prepared("multi_label")
    y[:, 2] = 0
    alone = metrics.average_precision_score(y[:, :2].numpy(), scores.detach()[:, :2].sigmoid().numpy(), average="macro")
    assert float(task.metrics(scores.detach(), y)["average_precision"]) == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("name", TASKS)
def test_the_yaml_names_a_yardstick_and_the_way_it_is_better(name: str) -> None:
    task, scores, y = prepared(name)
    assert task.better[task.yardstick] == task.mode
    assert set(task.metrics(scores.detach(), y)) == set(task.better)


@pytest.mark.parametrize("name", TASKS)
def test_every_view_and_form_in_the_yaml_is_a_different_tensor(name: str) -> None:
    task, scores, y = prepared(name)
    views = {view: task.view(scores.detach(), view) for view in task.inputs}
    heads = views.pop("heads", None)
    assert heads is None or heads.shape == (*scores.shape, 1)
    assert all(view.shape == scores.shape for view in views.values())
    assert len({tuple(view.flatten().tolist()) for view in views.values()}) == len(views)
    for form in task.targets:
        target = task.encode(y, form, task.inputs[0])
        assert (
            torch.equal(target, y) if form == "index" else target.is_floating_point() and target.shape == scores.shape
        )


def test_regression_is_trained_in_standard_deviations_and_judged_in_units() -> None:
    task, _, y = prepared("regression")
    assert isinstance(task, Regression)
    trained = task.encode(y, "dense", "prediction")
    torch.testing.assert_close(trained.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(trained.std(0, correction=0), torch.ones(3))
    torch.testing.assert_close(task.view(trained, "values"), y)
    torch.testing.assert_close(task.encode(y, "dense", "values"), y)
    assert float(task.metrics(trained, y)["rmse"]) == pytest.approx(0, abs=1e-4)
