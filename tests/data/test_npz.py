"""Arrays of the user's own in a file of NumPy's."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.preprocessing import StandardScaler

from losslab.data.npz import npz
from losslab.errors import Refused

CHANCE = np.random.default_rng(0)
X = CHANCE.normal(3, 5, size=(40, 3))
ASK: dict[str, Any] = {"takes": ["vector"], "val": 0.2, "test": 0.2, "seed": 0}


def held(folder: Path, **arrays: Any) -> str:
    np.savez(folder / "a.npz", **arrays)
    return str(folder / "a.npz")


def test_vectors_are_standardised_by_the_training_rows_as_scikit_learn_does(tmp_path: Path) -> None:
    data = npz(held(tmp_path, x=X, y=X[:, 0]), task="regression", **ASK)
    expected = StandardScaler().fit(X[data.split["train"]]).transform(X)
    np.testing.assert_allclose(np.asarray(data.x), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(data.y[:, 0], X[:, 0], rtol=1e-6)
    assert data.inputs == ["x0", "x1", "x2"]


def test_outputs_are_named(tmp_path: Path) -> None:
    y = np.arange(40) % 2
    classes = npz(held(tmp_path, x=X, y=y, outputs=np.array(["yes", "no"])), task="single_label", **ASK)
    assert [classes.outputs[i] for i in classes.y[:3]] == ["yes", "no", "yes"]
    labels = npz(held(tmp_path, x=X, y=np.stack([y, 1 - y], 1)), task="multi_label", **ASK)
    assert (labels.outputs, labels.y.shape) == (["y0", "y1"], (40, 2))
    images = npz(held(tmp_path, x=np.zeros((40, 1, 4, 4), np.uint8), y=y), task="single_label", **ASK)
    assert (images.shape, images.outputs) == ((1, 4, 4), ["0", "1"])


WRONG: dict[str, tuple[Callable[[Path], str], str]] = {
    "missing": (lambda folder: str(folder / "b.npz"), "is not there"),
    "no archive": (lambda folder: str(Path(__file__)), "is no file of arrays"),
    "no y": (lambda folder: held(folder, x=X), "lacks y"),
    "objects": (lambda folder: held(folder, x=X, y=np.array([{}] * 40)), "is no file of arrays .*pickle"),
    "rows": (lambda folder: held(folder, x=X, y=X[:9, 0]), "40 rows of x and 9 of y"),
    "shape": (lambda folder: held(folder, x=X[0], y=X[0]), r"x of the shape \(3,\)"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_file_that_is_no_arrays_is_refused(tmp_path: Path, name: str) -> None:
    make, sentence = WRONG[name]
    with pytest.raises(Refused, match=sentence):
        npz(make(tmp_path), task="regression", **ASK)
