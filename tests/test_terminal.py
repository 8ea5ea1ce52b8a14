"""What is printed when a run ends."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.metrics import accuracy_score, average_precision_score, mean_squared_error

from losslab.terminal import find_nothing_learnt, quieten
from tests.losses.examples import dataset, prepared


def reference(task: str, y: Any) -> float:
    """The primary metric of what looks at no input, by scikit-learn."""
    x = np.zeros((len(y), 1))
    if task == "regression":
        return float(np.sqrt(mean_squared_error(y, DummyRegressor().fit(x, y).predict(x))))
    if task == "single_label":
        return float(accuracy_score(y, DummyClassifier(strategy="most_frequent").fit(x, y).predict(x)))
    return float(average_precision_score(y, np.full(y.shape, 0.5), average="macro"))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("regression", "mse"),
        ("regression", "quantile"),
        ("regression", "poisson"),
        ("single_label", "mse"),
        ("multi_label", "bce"),
    ],
)
def test_a_run_that_is_no_better_than_a_constant_is_told_to_have_learnt_nothing(
    name: str, loss: str, weighted: bool
) -> None:
    task, _, y = prepared(name, rows=31, loss=loss)
    data = dataset(y.numpy())
    data.x = np.linspace(0, 1, len(y))[:, None]
    if weighted:
        data.weight = np.ones(len(y), np.float32)
    constant, best = reference(name, y.numpy()), float(task.mode == "max")
    parts: Any = SimpleNamespace(task=task, data=data)

    def said(share: float) -> str:
        """What is said where a run has come this far from the constant to the best value."""
        return find_nothing_learnt({f"test/{task.yardstick}": constant + share * (best - constant)}, parts)

    for share in (0.0, 0.009, -0.5):
        assert said(share).startswith("it learnt nothing: ")
    assert f"gives {constant:.4g};" in said(0.0)
    assert (said(0.011), said(0.5), said(float("nan"))) == ("", "", "")


def test_where_there_is_nothing_to_learn_nothing_is_said() -> None:
    task, _, y = prepared("single_label")
    constant, blank = dataset(torch.zeros_like(y).numpy()), dataset(y.numpy())
    constant.x = np.linspace(0, 1, len(y))[:, None]
    for data, accuracy in ((constant, 1.0), (blank, 0.1)):
        parts: Any = SimpleNamespace(task=task, data=data)
        assert find_nothing_learnt({"test/accuracy": accuracy}, parts) == ""


@pytest.mark.parametrize(
    ("f1", "tuned", "said"), [(0.0, 0.17, True), (0.1, 0.17, False), (0.0, 0.0, False), (0.0, np.nan, False)]
)
def test_an_f1_of_0_beside_a_tuned_one_is_explained(f1: float, tuned: float, said: bool) -> None:
    task, scores, y = prepared("multi_label")
    remark = task.remark({"f1_micro": f1, "f1_micro_tuned": tuned})
    assert ("tuned on the validation rows" in remark) == bool(remark) == said
    assert float(task.metrics(scores.detach().abs().neg(), y)["f1_micro"]) == 0, "which is what it explains"
    assert prepared("regression")[0].remark({"rmse": 0.0}) == ""


def test_a_gpu_that_nobody_asked_for_is_no_matter_of_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a GPU in the machine each run with trainer=cpu would begin with a warning, and the tests would fail."""
    monkeypatch.setattr("pytorch_lightning.trainer.setup.CUDAAccelerator.is_available", staticmethod(lambda: True))
    monkeypatch.setattr("shutil.which", lambda name: None)  # or Lightning warns of an srun that is not used
    words: dict[str, Any] = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    with pytest.warns(UserWarning, match="GPU available but not used"):
        pl.Trainer(**words)
    quieten()
    pl.Trainer(**words)
