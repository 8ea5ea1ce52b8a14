"""Labels against scikit-learn, and the thresholds above which they are predicted."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from torch import Tensor
from torchmetrics.functional import classification

from losslab.metrics import (
    f1_scores,
)
from losslab.record.rows import Row
from losslab.tasks import MultiLabel
from losslab.train import train
from losslab.training.module import Experiment
from tests.conftest import Typed, folder_of
from tests.losses.examples import dataset, prepared
from tests.tasks.examples import bin_errors, labels, tune


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
        assert float(row["ece"]) == pytest.approx(bin_errors(p[:, i], t[:, i]), rel=1e-3)
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

    def watched(self: Experiment, part: str, rows: tuple[Tensor, ...], with_loss: bool = True) -> list[Row]:
        if part == "val":
            scores, y = rows
            alone = labels(y)
            tune(alone, scores, y)
            assert isinstance(self.task, MultiLabel)
            assert torch.equal(self.task.thresholds, alone.thresholds)
        judged[part].append(self.task.state_dict()["thresholds"].clone())
        return evaluate(self, part, rows, with_loss)

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


def test_labels_are_said_above_one_half() -> None:
    y = torch.tensor([[1, 0, 1]] * 2)
    task, data = labels(y), dataset(y.numpy())
    scores = torch.tensor([[0.3, 0.3, 0.3], [0.6, 0.1, 0.9]]).logit()
    assert task.describe(data, task.decide(scores)) == ["{}", "{a, c}"]


@pytest.mark.system
def test_a_small_table_is_predicted_as_well_as_by_a_forest(typed: Typed, tmp_path: Path) -> None:
    """Of 700 digits, with heavy tails as those of many real columns: is it even, prime, round, large, or straight?"""
    images, digits = load_digits(return_X_y=True)
    random = np.random.default_rng(0)
    x = np.exp(images[:700] / 4 + random.normal(0, 0.5, (700, 64)))
    kinds = ([0, 2, 4, 6, 8], [2, 3, 5, 7], [0, 6, 8, 9], [5, 6, 7, 8, 9], [1, 4, 7])
    y = np.stack([np.isin(digits[:700], kind) for kind in kinds], 1) ^ (random.random((700, 5)) < 0.1)
    names = [f"label{label}" for label in range(5)]
    part = np.repeat(["train", "val", "test"], [490, 70, 140])
    frame = pd.DataFrame(x).add_prefix("pixel").assign(part=part, **dict(zip(names, y.T.astype(int), strict=True)))
    frame.to_csv(tmp_path / "digits.csv", index=False)
    forest = RandomForestClassifier(random_state=0).fit(x[:490], y[:490])
    found = np.stack([each[:, 1] for each in forest.predict_proba(x[560:])], 1)
    theirs = metrics.average_precision_score(y[560:], found, average="macro")
    table = ("data=csv", f"data.path={tmp_path / 'digits.csv'}", f"data.target=[{','.join(names)}]", "data.split=part")
    ours = train(typed(*table, "task=multi_label"))["test/average_precision"]
    assert ours > theirs - 0.01
    assert ours > train(typed(*table, "task=multi_label", "model=mlp"))["test/average_precision"]
