"""Tables: what is inferred, what is learnt from the training rows, and what is refused in a sentence."""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.data.tables import csv, diabetes, encode, heights, shipped
from losslab.errors import Refused

PEOPLE = pd.DataFrame(
    {
        "age": [str(20 + i) for i in range(40)],
        "town": ["Ulm", "Köln"] * 20,
        "born": [f"19{50 + i}-03-01" for i in range(40)],
        "note": [f"likes dish number {i} and song {i * 7}" for i in range(40)],
        "tags": ["a|b", "b", "a", ""] * 10,
        "pay": [str(1000 + 10 * i) for i in range(40)],
        "job": ["cook", "smith", "baker", "cook"] * 10,
        "good": ["0", "1"] * 20,
        "bad": ["1", "1", "0", "0"] * 10,
    }
)
SETTINGS: dict[str, Any] = {"takes": ["vector"], "val": 0.2, "test": 0.2, "seed": 0}


def read(target: str | list[str], task: str = "regression", frame: pd.DataFrame = PEOPLE, **more: Any) -> Any:
    settings = {**SETTINGS, "drop": ["note"], **more}
    return encode(frame, target, task=task, **settings)


def test_numbers_are_standardised_categories_one_hot_dates_days() -> None:
    data = read("pay", drop=["note", "tags", "job", "good", "bad"])
    assert data.inputs == ["age", "town=Köln", "town=Ulm", "born"]
    train = data.x[data.split["train"]]
    np.testing.assert_allclose(train[:, [0, 3]].mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(train[:, [0, 3]].std(0), 1, rtol=1e-5)
    assert (data.x[:, 1] + data.x[:, 2] == 1).all()
    assert data.y[:3, 0].tolist() == [1000, 1010, 1020]


def test_statistics_come_from_the_training_rows_alone() -> None:
    before = read("pay")
    frame = PEOPLE.copy()
    frame.loc[before.split["test"], ["age", "town"]] = ["100000", "Atlantis"]
    after = read("pay", frame=frame)
    train = before.split["train"]
    assert np.array_equal(before.x[train], after.x[train])
    assert before.inputs == after.inputs


def test_empty_cells_are_filled_with_the_training_median_marked_and_reported() -> None:
    frame = PEOPLE.copy()
    missing = read("pay").split["train"][3]
    frame.loc[missing, "age"] = ""
    data = read("pay", frame=frame)
    age, empty = data.inputs.index("age"), data.inputs.index("age is empty")
    assert data.notes == ["age: 1 empty cells filled in", "tags: 10 empty cells filled in"]
    assert data.x[:, empty].sum() == 1
    known = np.setdiff1d(data.split["train"], missing)
    ages = frame["age"].iloc[known].astype(float)
    filled = np.append(ages, ages.median())
    assert data.x[missing, age] == pytest.approx((ages.median() - filled.mean()) / filled.std(), abs=1e-5)


def test_targets_become_canonical() -> None:
    assert read(["pay", "age"]).y.shape == (40, 2)
    job = read("job", "single_label")
    assert (job.outputs, job.y[:4].tolist()) == (["baker", "cook", "smith"], [1, 2, 0, 1])
    numbered = read("good", "single_label")
    assert numbered.outputs == ["0", "1"]
    tags = read("tags", "multi_label")
    assert (tags.outputs, tags.y[:4].tolist()) == (["a", "b"], [[1, 1], [0, 1], [1, 0], [0, 0]])
    columns = read(["good", "bad"], "multi_label")
    assert (columns.outputs, columns.y[:2].tolist()) == (["good", "bad"], [[0, 1], [1, 1]])


def test_a_bag_of_words_takes_every_kind_of_column() -> None:
    data = read("pay", takes=["tokens"], drop=[], buckets=1000)
    assert data.shape == (1000,)
    assert data.x.dtype == np.int64
    assert 0 <= data.x.min() < data.x.max() < 1000
    assert data.titles is not None
    assert data.titles[0].startswith("likes dish")


def test_tokens_follow_from_column_and_word_alone() -> None:
    data = shipped("movies.tsv.gz", "genres", task="multi_label", takes=["tokens"], val=0.1, test=0.2, seed=0)
    for token in ("title=ford", "title=ford-", "cast=wayne newton", "cast=newton", "cast=#5", "year=0"):
        assert (zlib.crc32(token.encode()) % 32767 + 1 in data.x[0]) == (token != "title=ford-"), token
    assert (len(data.x), len(data.outputs)) == (8565, 21)
    assert data.y.sum(1).mean() == pytest.approx(1.83, abs=0.005)


def test_what_is_shipped_is_what_it_says() -> None:
    diamonds = shipped("diamonds.csv.gz", "price", task="regression", **SETTINGS)
    assert diamonds.x.shape == (5000, 26)
    assert diamonds.notes == []
    ten = heights(task="regression", takes=["vector"], seed=0)
    slope, intercept = np.polyfit(ten.x[:, 0], ten.y[:, 0], 1)
    assert np.mean((slope * ten.x[:, 0] + intercept - ten.y[:, 0]) ** 2) == pytest.approx(1.8618, abs=1e-4)
    assert diabetes(task="regression", **SETTINGS).x.shape == (442, 10)


@pytest.mark.parametrize("text", ["x,y\n1,2\n", "x\ty\n1\t2\n", "x;y\n1;2\n", "\ufeffx,y\n1,2\n"])
def test_commas_tabs_semicolons_and_gzip_are_read(tmp_path: Path, text: str) -> None:
    head, _ = text.splitlines()
    sign = next(s for s in ",\t;" if s in head)
    whole = "\n".join([head, *(f"{i}{sign}{i * i}" for i in range(30))])
    plain, packed = tmp_path / "table.csv", tmp_path / "table.csv.gz"
    plain.write_text(whole, encoding="utf-8")
    packed.write_bytes(gzip.compress(whole.encode()))
    for file in (plain, packed):
        data = csv(str(file), "y", task="regression", **SETTINGS)
        assert (data.inputs, data.y[:3, 0].tolist()) == (["x"], [0, 1, 4])


def changed(column: str, row: int, value: str) -> pd.DataFrame:
    frame = PEOPLE.copy()
    frame.loc[row, column] = value
    return frame


@pytest.mark.parametrize(
    ("target", "task", "more", "sentence"),
    [
        ("pa", "regression", {}, "data.target=pa is not a column; nearest: pay"),
        ("pay", "regression", {"drop": ["note", "tow"]}, "data.drop=tow is not a column; nearest: town"),
        ("job", "regression", {}, "holds text .baker, cook, smith., but task=regression needs numbers"),
        ("pay", "single_label", {"frame": changed("pay", 0, "1.5")}, "40 different numbers, which are no classes"),
        ("note", "single_label", {"drop": []}, "40 classes in 40 rows"),
        ("job", "single_label", {"frame": PEOPLE.assign(job="cook")}, "one class only .cook."),
        ("pay", "regression", {"frame": PEOPLE.assign(pay="5")}, "is 5 in every row"),
        ("tags", "multi_label", {"frame": PEOPLE.assign(tags="a")}, "one label only"),
        (["good", "pay"], "multi_label", {}, "label column pay holds 1000, 1010, 1020, .* each must hold 0 or 1"),
        (["job", "good"], "single_label", {}, "one target"),
        ("pay", "regression", {"drop": []}, r"hold text: note; type data.drop=\[note\] or model=bag_of_words"),
        ("pay", "regression", {"frame": changed("age", 4, "inf")}, "age holds NaN or infinity in 1 of 40 rows"),
        ("pay", "regression", {"frame": changed("age", 4, "NaN")}, "age holds NaN or infinity in 1 of 40 rows"),
        ("pay", "regression", {"frame": changed("pay", 4, "nan")}, "column pay holds NaN or infinity in 1 of 40 rows"),
        ("pay", "regression", {"frame": changed("pay", 4, "")}, "column pay holds no value in 1 of 40 rows"),
        ("pay", "regression", {"frame": PEOPLE[["pay"]], "drop": []}, "at least one feature"),
        ("pay", "regression", {"frame": PEOPLE.assign(age="1")[["pay", "age"]], "drop": []}, "nothing to learn from"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused_in_a_sentence(
    target: str | list[str], task: str, more: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        read(target, task, **more)


def test_a_stray_word_among_numbers_is_found() -> None:
    frame = pd.DataFrame({"x": [str(i) for i in range(200)], "y": [str(i) for i in range(200)]})
    frame.loc[9, "x"] = "12O"
    with pytest.raises(Refused, match=r"column x holds text among its numbers in 1 of 200 rows .first: line 11, '12O'"):
        read("y", frame=frame, drop=[])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "is not there"),
        (b"", "is empty"),
        (b"a,b\n", "no rows"),
        (bytes(range(256)), "not a table"),
        (b"a,b\n1,2,3\n1,2,3,4\n", "not a table"),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    file = tmp_path / "my.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Refused, match=sentence):
        csv(str(file), "a", task="regression", **SETTINGS)
