"""The column of weights: what it may hold, and that it is no feature."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.data.dataset import Dataset
from losslab.data.encoder import make_encoder
from losslab.data.folder import images
from losslab.data.tables import csv, encode
from losslab.errors import Refused
from tests.data.pictures import pictures

SETTINGS: dict[str, Any] = {"takes": ["vector"], "val": 0.2, "test": 0.2, "seed": 0}
PEOPLE = pd.DataFrame(
    {"age": map(str, range(20, 60)), "town": ["Ulm", "Köln"] * 20, "pay": map(str, range(0, 400, 10))}
)


def test_the_column_of_weights_is_no_feature_and_stands_in_the_schema() -> None:
    frame = PEOPLE.assign(n=[str(i % 3) for i in range(40)])
    data = encode(frame, "pay", task="regression", weight="n", own=True, **SETTINGS)
    assert "n" not in data.inputs
    assert data.columns[-1][:4] == ("n", "weight", "0", "0 to 2")
    assert data.weight is not None
    assert data.weight.tolist() == (np.arange(40) % 3).tolist()
    scaled = data.weights("train")
    assert scaled is not None
    assert scaled.dtype == np.float32
    given = data.weight[data.split["train"]]
    np.testing.assert_allclose(scaled * given.mean(), given, rtol=1e-6)
    assert data.encoder is not None
    assert "n" not in [column.name for column in make_encoder(data.encoder.state()).columns]  # type: ignore[attr-defined]


def test_without_weights_nothing_changes() -> None:
    frame = PEOPLE.assign(n="1")
    plain = encode(frame, "pay", task="regression", drop=["n"], **SETTINGS)
    weighted = encode(frame, "pay", task="regression", weight="n", **SETTINGS)
    assert plain.weight is None
    assert np.array_equal(np.asarray(plain.x), np.asarray(weighted.x))
    assert all(np.array_equal(plain.split[part], weighted.split[part]) for part in plain.split)


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (
            {3: "-1", 7: "-0.5"},
            r"column n holds weights below 0 in 2 of 40 rows \(first: line 5, '-1'\): write a number",
        ),
        ({5: ""}, r"column n holds no weight in 1 of 40 rows \(first: line 7, ''\): write a number from 0 up"),
        ({5: "nan"}, r"no weight in 1 of 40 rows \(first: line 7, 'nan'\)"),
        ({5: "inf", 6: "1e400"}, r"no weight in 2 of 40 rows \(first: line 7, 'inf'\)"),
        ({5: "much"}, r"no weight in 1 of 40 rows \(first: line 7, 'much'\)"),
        (dict.fromkeys(range(40), "0"), r"all val rows have the weight 0|all train rows have the weight 0"),
    ],
)
def test_weights_that_are_none_are_refused_with_their_line(cells: dict[int, str], sentence: str) -> None:
    frame = PEOPLE.assign(n=[cells.get(i, "2") for i in range(40)])
    with pytest.raises(Refused, match=sentence):
        encode(frame, "pay", task="regression", weight="n", **SETTINGS)


@pytest.mark.parametrize(
    ("column", "sentence"),
    [
        ("m", "data.weight=m is not a column"),
        ("town", "data.weight=town holds no number .'Ulm'.: name a column of numbers"),
    ],
)
def test_a_column_that_is_none_is_refused(column: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        encode(PEOPLE, "pay", task="regression", weight=column, **SETTINGS)


def test_huge_and_tiny_weights_are_as_good_as_others() -> None:
    rows = dict.fromkeys(("train", "val", "test"), np.arange(3))
    for factor in (1e308, 1e-300, 1.0):
        data = Dataset(
            np.zeros((3, 1), np.float32), np.arange(3), rows, (1,), list("abc"), weight=factor * np.array([0, 0.5, 1.0])
        )
        np.testing.assert_allclose(data.scaled_weight, [0, 1, 2], rtol=1e-6)  # type: ignore[arg-type]


def test_a_test_table_brings_its_weights(tmp_path: str) -> None:
    frame = pd.DataFrame({"a": range(40), "y": range(40), "n": 2})
    for name, part in (("train.csv", frame), ("test.csv", frame.assign(n=6))):
        part.to_csv(f"{tmp_path}/{name}", index=False)
    settings = {**SETTINGS, "task": "regression", "weight": "n", "test_path": f"{tmp_path}/test.csv"}
    data = csv(f"{tmp_path}/train.csv", "y", **settings)
    assert data.weights("test").tolist() == [3.0] * 40  # type: ignore[union-attr]
    frame.assign(n=[6, 6, -1] + [6] * 37).to_csv(f"{tmp_path}/test.csv", index=False)
    with pytest.raises(Refused, match=r"^data.test_path=.*: column n holds weights below 0 in 1 of 80 rows .*line 4, "):
        csv(f"{tmp_path}/train.csv", "y", **settings)


def test_a_table_of_labels_may_weigh_images(tmp_path: Path) -> None:
    pictures(tmp_path / "root", 40)
    table = pd.DataFrame({"file": [f"p{i}" for i in range(40)], "kind": list("ab") * 20, "n": range(40)})
    table.to_csv(tmp_path / "root" / "labels.csv", index=False)
    settings: dict[str, Any] = {"size": [12, 8], "val": 0.2, "test": 0.2, "seed": 0, "cache": str(tmp_path / "cache")}
    data = images(str(tmp_path / "root"), task="single_label", weight="n", **settings)
    assert data.titles is not None
    assert data.weight is not None
    assert dict(zip([Path(name).stem for name in data.titles], data.weight, strict=True)) == {
        f"p{i}": i for i in range(40)
    }
    table.replace({"n": {7: -1}}).to_csv(tmp_path / "root" / "labels.csv", index=False)
    for weight, sentence in (
        ("n", "below 0 .*line 9, '-1'"),
        ("m", "data.weight=m is not a column"),
        ("kind", "target, too"),
    ):
        with pytest.raises(Refused, match=sentence):
            images(str(tmp_path / "root"), task="single_label", weight=weight, target="kind", **settings)
