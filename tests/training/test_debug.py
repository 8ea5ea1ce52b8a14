"""`debug=`, and a run that looks at another metric than the primary one."""

import csv

import pytest
import torch

from losslab.train import train
from tests.conftest import Typed

pytestmark = pytest.mark.usefixtures("undrawn")


def test_a_run_keeps_and_tests_the_best_epoch_by_the_metric_that_it_monitors(typed: Typed) -> None:
    words = ["data=digits", "model=linear", "trainer.max_epochs=3", "callbacks=early_stopping"]
    summary = train(typed(*words, "monitor=val/log_loss", "optimizer.lr=0.003"))
    with (summary.folder / "history.csv").open(newline="") as lines:
        history = [float(row["val/log_loss"]) for row in csv.DictReader(lines)]
    assert summary["best_epoch"] == history.index(min(history)) == 2, "max, the accuracy's, would keep the first"
    assert torch.load(summary.folder / "best.ckpt", weights_only=True)["epoch"] == 2


def test_the_same_batch_is_learned_by_heart(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["data=diabetes", "data.batch_size=8", "optimizer.lr=0.01", "trainer.max_epochs=60"]
    summary = train(typed("debug=overfit", *small))
    assert summary["train/loss"] < 0.01 < summary["val/loss"]
    assert "overfit  the training loss of the one batch is " in capsys.readouterr().out


def test_a_profile_names_what_took_the_time(typed: Typed, capsys: pytest.CaptureFixture[str]) -> None:
    summary = train(typed("debug=profile", "data=heights"))
    assert summary["epochs"] == 2
    assert " x  run_training_epoch\n" in capsys.readouterr().out
