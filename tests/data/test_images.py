"""Images with one class each, in the files that others have packed."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from losslab.data import installed
from losslab.data.images import PACKED, digits, torchvision_images
from losslab.errors import Refused
from tests.data.pictures import pack


@pytest.mark.parametrize("place", ["fashion-mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("above", [True, False])
def test_packed_files_are_read_where_debian_and_torchvision_put_them(tmp_path: Path, place: str, above: bool) -> None:
    x, y, tested, y_tested = pack(tmp_path / place)
    root = tmp_path if above else tmp_path / place.partition("/")[0]
    before = sorted(tmp_path.rglob("*"))
    data = torchvision_images("FashionMNIST", str(root), task="single_label", val=0.2, seed=0)
    np.testing.assert_array_equal(data.x[:], np.concatenate([x, tested])[:, None])
    np.testing.assert_array_equal(data.y, np.concatenate([y, y_tested]))
    assert data.split["test"].tolist() == list(range(40, 50))
    assert data.outputs[0] == "T-shirt/top"
    assert sorted(tmp_path.rglob("*")) == before, "nothing is unpacked or downloaded"


def test_packed_files_that_are_not_whole_are_refused(tmp_path: Path) -> None:
    pack(tmp_path / "fashion-mnist")
    file = tmp_path / "fashion-mnist" / f"{PACKED[0]}-ubyte.gz"
    whole = file.read_bytes()
    for content in (whole[:60], b"", gzip.compress(b"no images")):
        file.write_bytes(content)
        with pytest.raises(Refused, match=r"train-images-idx3-ubyte.gz cannot be read .*: type data.root=FOLDER"):
            torchvision_images("FashionMNIST", str(tmp_path), task="single_label", val=0.2, seed=0)


def test_digits_are_those_that_scikit_learn_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    data = digits(task="single_label", val=0.2, test=0.2, seed=0)
    pixels, classes = load_digits(return_X_y=True)
    np.testing.assert_array_equal(data.x[:], (pixels.reshape(-1, 1, 8, 8) * (255 / 16)).round())
    np.testing.assert_array_equal(data.y, classes)
    monkeypatch.setattr(installed, "find_spec", lambda name: None)
    installed.read_scikit_learn.cache_clear()
    with pytest.raises(Refused, match=r"digits\.csv\.gz .*: type pip install scikit-learn$"):
        digits(task="single_label", val=0.2, test=0.2, seed=0)


def test_rows_of_the_training_set_are_left_out_whatever_the_seed_and_none_of_the_test_set(tmp_path: Path) -> None:
    x, y, tested, _ = pack(tmp_path / "fashion-mnist")
    some = [
        torchvision_images("FashionMNIST", str(tmp_path), task="single_label", val=0.2, seed=seed, rows=20)
        for seed in (0, 1)
    ]
    for data in some:
        assert {part: len(rows) for part, rows in data.split.items()} == {"train": 16, "val": 4, "test": 10}
        np.testing.assert_array_equal(data.x[:][20:], tested[:, None])
    np.testing.assert_array_equal(some[0].x[:], some[1].x[:])
    assert some[0].split["val"].tolist() != some[1].split["val"].tolist()
    whole = [image.tobytes() for image in x]
    places = [whole.index(image.tobytes()) for image in some[0].x[:][:20, 0]]
    assert places == sorted({*places})
    np.testing.assert_array_equal(some[0].y[:20], y[places])
    most = torchvision_images("FashionMNIST", str(tmp_path), task="single_label", val=0.2, seed=0, rows=41)
    assert len(most.y) == 50
