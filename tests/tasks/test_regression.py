"""Regression against scikit-learn, its units, and the metrics that some data do not define."""

import numpy as np
import pytest
import torch
from sklearn import metrics

from losslab.tasks import Regression
from tests.losses.examples import dataset, loss_named, prepared


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
    task.fit(dataset((y - 30).numpy()), loss_named("mse"))
    assert set(task.metrics(scores.detach(), y - 30)) == {"rmse", "mse", "mae", "r2"}
    one = y.clone()
    one[-1, -1] = -1e-3
    task.fit(dataset(one.numpy()), loss_named("mse"))
    assert "msle" not in task.metrics(scores.detach()[:8], one[:8])  # decided once, by all rows


def test_r2_is_left_out_where_a_target_does_not_vary_in_a_part() -> None:
    task, scores, y = prepared("regression")
    data = dataset(y.numpy())
    for part in ("train", "val", "test"):
        data.split = dict.fromkeys(("train", "val", "test"), np.arange(16)) | {part: np.array([3, 4])}
        task.fit(data, loss_named("mse"))
        assert set(task.metrics(scores.detach(), y)) == set(task.better)
        for same in ([3], [3, 3]):
            data.split[part] = np.array(same)
            task.fit(data, loss_named("mse"))
            assert set(task.metrics(scores.detach(), y)) == {"rmse", "mse", "mae", "msle"}
    data = dataset(torch.cat([y[:, :2], torch.full((16, 1), 0.1)], 1).numpy())
    task.fit(data, loss_named("mse"))
    assert "r2" not in task.metrics(scores.detach(), torch.from_numpy(data.y))


def test_regression_is_trained_in_standard_deviations_and_judged_in_units() -> None:
    task, _, y = prepared("regression")
    assert isinstance(task, Regression)
    trained = task.encode(y, "dense", "prediction")
    torch.testing.assert_close(trained.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(trained.std(0, correction=0), torch.ones(3))
    torch.testing.assert_close(task.view(trained, "values"), y)
    torch.testing.assert_close(task.encode(y, "dense", "values"), y)
    assert float(task.metrics(trained, y)["rmse"]) == pytest.approx(0, abs=1e-4)
