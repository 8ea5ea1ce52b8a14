"""Metrics against scikit-learn; views and forms against what the YAML files promise."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics
from torch import Tensor
from torchmetrics.functional import classification

from losslab.metrics import average_precision, calibration_error, f1_scores
from losslab.record.rows import Row
from losslab.tasks import MultiLabel, Regression, Task
from losslab.train import train
from losslab.training.module import Experiment
from tests.conftest import Typed, folder_of
from tests.losses.examples import TASKS, Runs, dataset, exactly, loss_named, prepared


def tune(task: Task, scores: Tensor, y: Tensor) -> None:
    """What is learned from validation rows, set as a run sets it."""
    for name, value in task.tuned(scores, y).items():
        setattr(task, name, value)


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


def test_multi_label_metrics_are_scikit_learns() -> None:
    task, scores, y = prepared("multi_label", rows=40)
    assert isinstance(task, MultiLabel)
    found = task.metrics(scores.detach(), y)
    p, t = scores.detach().sigmoid().numpy().astype(float), y.numpy()
    expected = {
        "average_precision": metrics.average_precision_score(t, p, average="macro"),
        "average_precision_micro": metrics.average_precision_score(t, p, average="micro"),
        "f1": metrics.f1_score(t, p > 0.5, average="macro"),
        "f1_micro": metrics.f1_score(t, p > 0.5, average="micro"),
        "f1_tuned": metrics.f1_score(t, p > 0.5, average="macro"),  # nothing has been tuned
        "f1_micro_tuned": metrics.f1_score(t, p > 0.5, average="micro"),
        "log_loss": np.mean([metrics.log_loss(t[:, i], p[:, i]) for i in range(3)]),
        "brier": np.mean([metrics.brier_score_loss(t[:, i], p[:, i]) for i in range(3)]),
        "ece": classification.binary_calibration_error(
            torch.tensor(p).flatten(), y.flatten(), n_bins=15, norm="l1"
        ).item(),
    }
    assert {name: float(value) for name, value in found.items()} == pytest.approx(expected, rel=1e-5)
    tune(task, scores.detach(), y)
    tuned, guess = task.metrics(scores.detach(), y), p > task.thresholds.numpy()
    assert float(tuned["f1_tuned"]) == pytest.approx(metrics.f1_score(t, guess, average="macro"), rel=1e-5)
    assert float(tuned["f1_micro_tuned"]) == pytest.approx(metrics.f1_score(t, guess, average="micro"), rel=1e-5)
    assert tuned["f1_tuned"] > tuned["f1"]


def test_a_label_that_no_row_has_is_left_out_of_the_macro_mean() -> None:
    task, scores, y = prepared("multi_label")
    y[:, 2] = 0
    alone = metrics.average_precision_score(y[:, :2].numpy(), scores.detach()[:, :2].sigmoid().numpy(), average="macro")
    assert float(task.metrics(scores.detach(), y)["average_precision"]) == pytest.approx(alone, rel=1e-5)


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


@pytest.mark.parametrize("what", ["metrics", "tuned"])
@pytest.mark.parametrize(
    ("name", "loss"),
    [(name, "mse") for name in TASKS] + [("regression", loss) for loss in ("poisson", "quantile")],
)
def test_many_runs_are_judged_in_one_call_as_each_by_itself(name: str, loss: str, what: str) -> None:
    runs = Runs(name, loss)
    runs.run = getattr(runs.task, what)
    runs.scores = (4 * runs.scores).round() / 4  # ties
    if name == "multi_label":
        runs.y[1, :, 2] = 0
    elif name == "single_label":
        runs.y[1, runs.y[1] == 2] = 0
    every = runs.together(runs.scores)
    assert set(every) == (
        set(runs.task.better) if what == "metrics" else set(runs.task.tuned(runs.scores[0], runs.y[0]))
    )
    for run in range(3):
        alone = runs.alone(run, runs.scores[run])
        assert list(every) == list(alone)
        for key, number in alone.items():
            assert number.isfinite().all()
            exactly(every[key][run], number)
    assert all(len(set(map(tuple, numbers.reshape(3, -1).tolist()))) == 3 for numbers in every.values())


@pytest.mark.parametrize("name", TASKS)
def test_a_run_whose_scores_are_no_numbers_leaves_the_others_alone(name: str) -> None:
    runs = Runs(name)
    lost = runs.scores.clone()
    lost[1] = torch.nan
    every, with_lost = runs.together(runs.scores), runs.together(lost)
    for key, numbers in every.items():
        assert torch.equal(numbers[::2], with_lost[key][::2])
    error = {"regression": "rmse", "single_label": "ece", "multi_label": "ece"}[name]
    assert with_lost[error].isnan().tolist() == [False, True, False]
    assert runs.task.metrics(lost[1], runs.y[1])[error].isnan()


def labels(y: Tensor) -> MultiLabel:
    """A task for these labels."""
    task = MultiLabel("multi_label", "labels", [], [], "average_precision", "max")
    data = dataset(y.numpy())
    data.outputs = [f"label {i}" for i in range(y.shape[1])]
    task.fit(data, None)  # type: ignore[arg-type]
    return task


@given(st.integers(0, 2**31), st.integers(1, 30), st.sampled_from([0.1, 1.0, 50.0]), st.booleans())
def test_no_threshold_is_better_than_the_tuned_one(seed: int, rows: int, scale: float, ties: bool) -> None:
    numbers = torch.Generator().manual_seed(seed)
    scores = scale * torch.randn(rows, 5, generator=numbers)
    scores = scores.round() if ties else scores
    y = (torch.rand(rows, 5, generator=numbers) < torch.linspace(0, 1, 5)).long()  # the first label is never there
    task = labels(y)
    tune(task, scores, y)
    p, thresholds = scores.sigmoid().numpy(), task.thresholds.numpy()
    assert thresholds[0] == 0.5
    for label in range(1, 5):
        t, given = y[:, label].numpy(), p[:, label]
        if not t.any():
            assert thresholds[label] == 0.5
            continue
        precision, recall, cuts = metrics.precision_recall_curve(t, given)  # at each score that there is, and beyond
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        best = f1[:-1][cuts > 0].max(initial=0.0)
        assert metrics.f1_score(t, given > thresholds[label], zero_division=0) == pytest.approx(best, abs=1e-6)
        if best > 0:  # midway between two neighbours, or between the lowest and 0
            above, below = given[given > thresholds[label]].min(), given[given <= thresholds[label]].max(initial=0.0)
            assert thresholds[label] == pytest.approx((above + below) / 2, rel=1e-5)


def test_the_tuned_threshold_is_the_best_of_scikit_learns_precision_recall_curve() -> None:
    numbers = torch.Generator().manual_seed(0)
    scores = torch.randn(500, 4, generator=numbers)
    y = (scores + torch.randn(500, 4, generator=numbers) > torch.tensor([0.0, 1.0, 2.0, 3.0])).long()
    task = labels(y)
    tune(task, scores, y)
    ours = f1_scores(scores.sigmoid() > task.thresholds, y)[0]
    for label in range(4):
        precision, recall, _ = (curve[:-1] for curve in metrics.precision_recall_curve(y[:, label], scores[:, label]))
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        assert float(ours[label]) == pytest.approx(f1.max(), rel=1e-5)


def test_thresholds_part_neighbouring_floats_and_travel_in_the_state() -> None:
    low = torch.tensor([[0.25], [0.25]]).logit()
    scores = torch.stack([low[0], torch.nextafter(low[1], torch.ones(1))])
    while (scores.sigmoid()[0] == scores.sigmoid()[1]).any():
        scores[1] = torch.nextafter(scores[1], torch.ones(1))
    y = torch.tensor([[0], [1]])
    task = labels(y)
    tune(task, scores, y)
    assert f1_scores(scores.sigmoid() > task.thresholds, y)[0].tolist() == [1.0]
    other = labels(y)
    assert other.thresholds.tolist() == [0.5]
    other.load_state_dict(task.state_dict())
    assert torch.equal(other.thresholds, task.thresholds)


def ece(p: NDArray[np.float64], y: NDArray[np.int64], bins: int = 15) -> float:
    """The definition, bin by bin."""
    total = 0.0
    for b in range(bins):
        inside = (p >= b / bins) & ((p < (b + 1) / bins) | (b == bins - 1))
        if inside.any():
            total += inside.mean() * abs(p[inside].mean() - y[inside].mean())
    return total


@given(st.integers(0, 2**31), st.integers(1, 200))
def test_calibration_error_is_its_definition(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    p, y = random.random(rows), random.integers(0, 2, rows)
    p[: rows // 10] = random.integers(0, 2, rows // 10)
    assert float(calibration_error(torch.tensor(p), torch.tensor(y))) == pytest.approx(ece(p, y), abs=1e-9)


def test_the_table_of_labels_says_how_each_is_predicted() -> None:
    numbers = torch.Generator().manual_seed(1)
    scores = torch.randn(60, 4, generator=numbers) - 1
    y = (torch.rand(60, 4, generator=numbers) < torch.tensor([0.2, 0.6, 0.0, 0.4])).long()
    task, data = labels(y), dataset(y.numpy())
    data.outputs = ["rare", "common", "never", "middling"]
    tune(task, scores, y)
    tables = task.tables(data, scores)
    assert list(tables) == ["samples", "labels"]
    assert tables["samples"] == task.sample(data, scores)
    assert [row["label"] for row in tables["labels"]] == ["common", "middling", "rare", "never"]
    p, t = scores.sigmoid().double().numpy(), y.numpy()
    for row in tables["labels"]:
        i = data.outputs.index(row["label"])
        assert row["rows"] == str(t[:, i].sum())
        assert float(row["prior"]) == pytest.approx(t[:, i].mean(), rel=1e-3)
        assert float(row["threshold"]) == pytest.approx(float(task.thresholds[i]), rel=1e-3)
        assert float(row["f1"]) == pytest.approx(metrics.f1_score(t[:, i], p[:, i] > 0.5), rel=1e-3)
        tuned = metrics.f1_score(t[:, i], p[:, i] > float(task.thresholds[i]), zero_division=0)
        assert float(row["f1_tuned"]) == pytest.approx(tuned, rel=1e-3)
        assert float(row["ece"]) == pytest.approx(ece(p[:, i], t[:, i]), rel=1e-3)
        if t[:, i].any():
            expected = metrics.average_precision_score(t[:, i], p[:, i])
            assert float(row["average_precision"]) == pytest.approx(expected, rel=1e-3)
        else:
            assert row["average_precision"] == ""


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("callbacks", ["default", "ema"])
def test_the_test_is_judged_at_the_thresholds_that_the_best_epochs_validation_gave(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, callbacks: str
) -> None:
    judged: dict[str, list[Tensor]] = {"train": [], "val": [], "test": []}
    evaluate = Experiment.evaluate

    def watched(self: Experiment, part: str, scores: Tensor, y: Tensor, with_loss: bool = True) -> list[Row]:
        if part == "val":
            alone = labels(y)
            tune(alone, scores, y)
            assert isinstance(self.task, MultiLabel)
            assert torch.equal(self.task.thresholds, alone.thresholds)
        judged[part].append(self.task.state_dict()["thresholds"].clone())
        return evaluate(self, part, scores, y, with_loss)

    monkeypatch.setattr(Experiment, "evaluate", watched)
    overrides = ("task=multi_label", "trainer.max_epochs=4", "optimizer.lr=0.03", "data.buckets=256", "data.test=0.6")
    cfg = typed(*overrides, f"callbacks={callbacks}")
    summary = train(cfg)
    assert all(torch.equal(mine, val) for mine, val in zip(judged["train"], judged["val"], strict=True))
    assert not torch.equal(judged["val"][0], judged["val"][1])
    best = judged["val"][int(summary["best_epoch"])]
    assert torch.equal(judged["test"][0], best)
    saved = torch.load(folder_of(cfg) / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(saved["task.thresholds"], best)


def test_labels_are_said_above_their_own_thresholds() -> None:
    y = torch.tensor([[1, 0, 1]] * 2)
    task, data = labels(y), dataset(y.numpy())
    scores = torch.tensor([[0.3, 0.3, 0.3], [0.6, 0.1, 0.9]]).logit()
    assert task.describe(data, task.decide(scores)) == ["{}", "{a, c}"]
    task.thresholds = torch.tensor([0.2, 0.5, 0.2])
    assert task.describe(data, task.decide(scores)) == ["{a, c}", "{a, c}"]


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
