"""Readers look at a task's truth and never at its name: a task of the user's own reads every source."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.config.catalogue import TRUTHS
from losslab.config.check import configure
from losslab.data.dataset import Dataset, arrays
from losslab.data.folder import images
from losslab.data.noise import flip_classes
from losslab.data.tables import csv
from losslab.errors import Refused
from tests.data.pictures import pictures

COUNT = 40
SPLIT: dict[str, Any] = {"val": 0.2, "test": 0.2, "seed": 0}
CELLS = {  # each truth as it stands in one column
    "numbers": [f"{i / 4}" for i in range(COUNT)],
    "class": [f"{(2, 10, 1)[i % 3]}" for i in range(COUNT)],
    "labels": [("a|b", "b", "", "a|c")[i % 4] for i in range(COUNT)],
}
OUTPUTS = {"numbers": ["target"], "class": ["1", "2", "10"], "labels": ["a", "b", "c"]}
CANONICAL = {
    "numbers": np.arange(COUNT, dtype=np.float32)[:, None] / 4,
    "class": np.array([(1, 2, 0)[i % 3] for i in range(COUNT)]),
    "labels": np.array([((1, 1, 0), (0, 1, 0), (0, 0, 0), (1, 0, 1))[i % 4] for i in range(COUNT)]),
}


def from_csv(folder: Path, what: str, **more: Any) -> Dataset:
    file = folder / "rows.csv"
    pd.DataFrame({"x": range(COUNT), "target": CELLS[what]}).to_csv(file, index=False)
    return csv(str(file), "target", takes=["vector"], **SPLIT, **more)


def from_folder(folder: Path, what: str, **more: Any) -> Dataset:
    names = pictures(folder / "root", COUNT)
    pd.DataFrame({"file": names, "target": CELLS[what]}).to_csv(folder / "root" / "labels.csv", index=False)
    data = images(str(folder / "root"), size=[12, 8], cache=str(folder / "cache"), target="target", **SPLIT, **more)
    data.y = data.y[np.argsort([int(Path(name).stem[1:]) for name in data.titles or []])]
    return data


def from_arrays(folder: Path, what: str, **more: Any) -> Dataset:
    return arrays(lambda: (np.zeros((COUNT, 2)), CANONICAL[what]), outputs=OUTPUTS[what], **SPLIT, **more)


Reader = Callable[..., Dataset]
SOURCES = (from_csv, from_folder, from_arrays)


@pytest.mark.parametrize("read", SOURCES)
@pytest.mark.parametrize("truth", TRUTHS)
def test_every_truth_is_read_from_every_source_for_a_task_of_the_users_own(
    tmp_path: Path, truth: str, read: Reader
) -> None:
    data = read(tmp_path, truth, task="mine", truth=truth)
    assert data.outputs == OUTPUTS[truth]
    assert data.y.dtype == CANONICAL[truth].dtype
    assert np.array_equal(data.y, CANONICAL[truth])


@pytest.mark.parametrize("read", SOURCES)
@pytest.mark.parametrize(("truth", "task"), TRUTHS.items())
def test_losslabs_own_tasks_need_not_say_it(tmp_path: Path, truth: str, task: str, read: Reader) -> None:
    assert np.array_equal(read(tmp_path, truth, task=task).y, CANONICAL[truth])


@pytest.mark.parametrize("read", SOURCES)
@pytest.mark.parametrize(
    ("truth", "sentence"),
    [
        (
            None,
            r"targets of task=mine are: write truth: \$\{task.truth\} into the data's YAML and truth: numbers, class",
        ),
        ("order", "truth: order of task=mine does not fit: write truth: numbers, class or labels"),
    ],
)
def test_a_truth_that_is_none_is_refused(tmp_path: Path, truth: str | None, sentence: str, read: Reader) -> None:
    with pytest.raises(Refused, match=sentence):
        read(tmp_path, "class", task="mine", truth=truth)


def test_classes_from_subfolders_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = pictures(tmp_path / "all", 30)
    for i, name in enumerate(names):
        place = tmp_path / "root" / ("2", "10", "1")[i % 3]
        place.mkdir(parents=True, exist_ok=True)
        (tmp_path / "all" / f"{name}.png").rename(place / f"{name}.png")
    data = images(str(tmp_path / "root"), size=[12, 8], cache=str(tmp_path / "c"), task="mine", truth="class", **SPLIT)
    assert data.outputs == ["1", "2", "10"]


@pytest.mark.parametrize(
    ("truth", "y", "sentence"),
    [
        (
            "class",
            np.array(["a", "b"] * 20),
            "hold .*'a'.*, but truth: class needs numbers: return an array of numbers",
        ),
        ("numbers", np.array(["1", "2"] * 20), "truth: numbers needs numbers"),
        ("class", np.arange(40) / 2, "hold 0.5, but truth: class needs whole numbers: give each row the index of its"),
        ("labels", np.full((40, 2), 0.25), "hold 0.25, but truth: labels needs whole numbers: give each row 0 and 1"),
        ("class", np.zeros((40, 1)), r"have the shape \(40, 1\), but truth: class needs \(N,\): reshape them"),
        ("labels", np.zeros(40), r"have the shape \(40,\), but truth: labels needs \(N, L\): reshape them"),
    ],
)
def test_arrays_that_do_not_fit_the_truth_are_refused(truth: str, y: np.ndarray, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        arrays(lambda: (np.zeros((40, 2)), y), "mine", truth=truth, **SPLIT)


def test_outliers_are_for_numbers(tmp_path: Path) -> None:
    with pytest.raises(
        Refused, match=r"data.outliers=0.1 is for numbers, and task=mine has class: type data.outliers=0"
    ):
        from_csv(tmp_path, "class", task="mine", truth="class", outliers=0.1)


def test_a_task_that_does_not_say_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "task").mkdir()
    (tmp_path / "task" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /data: digits\n  - override /model: mlp\n"
        "  - override /loss: cross_entropy\ntask:\n  _target_: losslab.tasks.SingleLabel\n  name: mine\n"
        "  inputs: [logits]\n  targets: [index]\n  yardstick: accuracy\n  mode: max\n"
    )
    sentence = "task=mine does not say what its targets are: write truth: numbers, class or labels into its YAML"
    with pytest.raises(Refused, match=sentence):
        configure([f"hydra.searchpath=[{tmp_path}]", "task=mine"])


@pytest.mark.parametrize("share", [0.2, 0.6])
def test_label_noise_is_symmetric_and_spares_the_test_rows(share: float) -> None:
    x, y = np.zeros((3000, 2)), np.arange(3000) % 3
    data = arrays(lambda: (x, y), "single_label", val=0.2, test=0.2, seed=0)
    flip_classes(data, share, seed=0)
    wrong = {part: np.mean(data.y[rows] != y[rows]) for part, rows in data.split.items()}
    assert wrong == pytest.approx({"train": share, "val": share, "test": 0.0}, abs=1e-3)
    moved = (data.y - y)[data.split["train"]] % 3  # 1 and 2 are as often drawn: a binomial, within five deviations
    assert np.bincount(moved)[1] == pytest.approx(900 * share, abs=5 * (450 * share) ** 0.5)


def test_label_noise_is_for_classes() -> None:
    data = arrays(lambda: (np.zeros((40, 2)), np.zeros((40, 3), int)), "multi_label", val=0.2, test=0.2, seed=0)
    with pytest.raises(Refused, match=r"data.label_noise=0.1 is for classes"):
        flip_classes(data, 0.1, seed=0)
