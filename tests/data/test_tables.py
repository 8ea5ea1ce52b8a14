"""Tables: what is inferred, what is learnt from the training rows, and what is refused in a sentence."""

import bz2
import gzip
import io
import json
import lzma
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes
from sklearn.preprocessing import TargetEncoder

from losslab.config.check import configure
from losslab.data.encoder import make_encoder
from losslab.data.notes import count
from losslab.data.tables import csv, diabetes, encode, heights, shipped
from losslab.data.targets import split_labels
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
    assert data.notes == ["age: 1 empty cell filled in", "tags: 10 empty cells filled in"]
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
    assert np.mean((slope * ten.x[:, 0] + intercept - ten.y[:, 0]) ** 2) == pytest.approx(1.861747, abs=1e-6)
    found, frame = diabetes(task="regression", **SETTINGS), load_diabetes(as_frame=True, scaled=False).frame
    expected = encode(frame, "target", task="regression", **SETTINGS)
    assert found.x.shape == (442, 10)
    np.testing.assert_array_equal(found.x, expected.x)
    np.testing.assert_array_equal(found.y, expected.y)
    assert (found.inputs, found.columns) == (expected.inputs, expected.columns)


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
        ("pay,age", "regression", {}, r"not a column; type 'data.target=\[pay,age\]' for these 2"),
        ("pay", "regression", {"drop": ["note", "tow"]}, "data.drop=tow is not a column; nearest: town"),
        ("job", "regression", {}, "holds text .baker, cook, smith., but task=regression needs numbers"),
        ("pay", "single_label", {"frame": changed("pay", 0, "1.5")}, "40 different numbers, which are no classes"),
        ("note", "single_label", {"drop": []}, "40 classes in 40 rows"),
        ("job", "single_label", {"frame": PEOPLE.assign(job="cook")}, "one class only .cook."),
        ("pay", "regression", {"frame": PEOPLE.assign(pay="5")}, "is 5 in every row"),
        ("tags", "multi_label", {"frame": PEOPLE.assign(tags="a")}, "one label only"),
        (["good", "pay"], "multi_label", {}, "label column pay holds 1000, 1010, 1020, .* each must hold 0 or 1"),
        (["job", "good"], "single_label", {}, "one target"),
        ("pay", "regression", {"drop": []}, r"hold text: note; type 'data.drop=\[note\]' or model=bag_of_words"),
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
        (
            b"a,b\n1,2,3\n1,2,3,4\n",
            "line 3 has 4 cells where the header has 3|line 2 has 3 cells where the header has 2",
        ),
    ],
)
def test_a_file_that_is_no_table_is_refused_in_a_sentence(tmp_path: Path, content: bytes | None, sentence: str) -> None:
    file = tmp_path / "my.csv"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Refused, match=sentence):
        csv(str(file), "a", task="regression", **SETTINGS)


# what a user says of columns


def mixed(words: dict[int, str]) -> pd.DataFrame:
    """A column of numbers in which some rows hold a word, and the target."""
    numbers = [words.get(row, str(row % 15)) for row in range(200)]
    return pd.DataFrame({"x": numbers, "y": [str(row % 15 + row / 1000) for row in range(200)]})


@pytest.mark.parametrize("words", [{9: "-"}, {9: "unknown", 50: "n.a.", 51: "none"}])
def test_a_word_among_few_numbers_is_no_category_without_being_told(words: dict[int, str]) -> None:
    frame = mixed(words)
    with pytest.raises(
        Refused, match=r"column x holds text .* type data.types=\{x:number\} to take them for empty cells"
    ):
        read("y", frame=frame, drop=[])
    clean = read("y", frame=mixed(dict.fromkeys(words, "")), drop=[])
    ways: list[dict[str, Any]] = [{"types": ["x: number"]}, {"missing": list(words.values())}]
    for told in ways:
        data = encode(frame, "y", task="regression", own=True, **SETTINGS, **told)
        np.testing.assert_array_equal(data.x, clean.x)
        assert f"x: {count(len(words), 'empty cell')} filled in" in data.notes
    assert read("y", frame=frame, types=["x: category"], drop=[]).inputs[:2] == ["x=0", "x=1"]


def test_a_type_that_is_told_holds() -> None:
    data = read("pay", drop=["note", "tags"], types=["age: category", "born: category"])
    assert {"age=20", "born=1950-03-01"} <= set(data.inputs)
    with pytest.raises(Refused, match="these columns hold text: town"):
        read("pay", types=["town: text"])


def test_a_type_that_there_is_not_is_refused() -> None:
    with pytest.raises(
        Refused, match=r"data.types=\{age:numbr\} does not fit: type data.types=\{age:number\}, or date"
    ):
        read("pay", types="age: numbr")
    with pytest.raises(Refused, match=r"data.types=ag is not a column; nearest: "):
        read("pay", types=["ag: number"])
    for typed, instead in (("age", "{age:number}"), ("age:", "{age:number}"), ("number", "{COLUMN:number}")):
        with pytest.raises(
            Refused, match=f"data.types={typed} needs a column and its type: type data.types={instead}$"
        ):
            read("pay", types=typed)


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"types": ["age: number", "age: category"]}, "data.types names age twice"),
        ({"target": ["pay", "pay"]}, "data.target names pay twice"),
        ({"split": "town", "time": "born"}, "data.split and data.time both say which rows are tested"),
        ({"split": "town", "group": "job"}, "data.split and data.group both say which rows are tested"),
        ({"time": "born", "folds": 5}, "data.time and data.folds both say which rows are tested"),
        ({"test_path": "table.csv", "folds": 5}, "data.test_path and data.folds both say which rows are tested"),
        ({"sheet": "may"}, "data.sheet=may is for Excel files"),
        ({"weight": "town"}, "data.weight=town holds no number .'Ulm'."),
        ({"time": "town"}, "data.time=town holds 'Ulm': name a column of dates or numbers"),
        ({"time": "broken"}, "column broken holds no date in 1 of 40 rows .first: line 5, 'x'.: correct them"),
        ({"time": "gap"}, "column gap holds no time in 1 of 40 rows .first: line 5, ''.: write a date or a number"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    broken = ["x" if place == 3 else cell for place, cell in enumerate(PEOPLE["born"])]
    PEOPLE.assign(broken=broken, gap=[cell.strip("x") for cell in broken]).to_csv("table.csv", index=False)
    with pytest.raises(Refused, match=sentence):
        csv(
            "table.csv",
            **{"target": "pay", "task": "regression", "drop": ["note", "broken", "gap"], **SETTINGS, **settings},
        )


def test_times_are_read_in_any_style_of_dates(tmp_path: Path) -> None:
    for name, pattern in (("plain", "%Y-%m-%d"), ("german", "%d.%m.%Y"), ("american", "%m/%d/%Y")):
        dates = pd.to_datetime(PEOPLE["born"]).dt.strftime(pattern)
        PEOPLE.assign(born=dates).to_csv(tmp_path / f"{name}.csv", index=False)
        data = csv(
            f"{tmp_path}/{name}.csv",
            "pay",
            time="born",
            dates="month_first",
            task="regression",
            drop=["note"],
            **SETTINGS,
        )
        assert data.split["test"].tolist() == list(range(32, 40))


@pytest.mark.parametrize("task", ["regression", "single_label", "multi_label"])
def test_many_categories_become_mean_targets_as_scikit_learns(task: str) -> None:
    random = np.random.default_rng(0)
    shop = random.integers(0, 150, 3000)
    frame = pd.DataFrame({"shop": [f"s{n:03}" for n in shop], "x": random.normal(size=3000).round(4).astype(str)})
    value = shop % 7 + random.normal(size=3000)
    frame["y"] = value.round(5).astype(str)
    frame["z"] = (value > 3).astype(int).astype(str)
    target: str | list[str] = {"regression": "y", "single_label": "z"}.get(task, ["z", "w"])
    frame["w"] = (value < 1).astype(int).astype(str)
    data = read(target, task, frame=frame, drop=[n for n in "yzw" if n not in target])
    column, train = data.inputs.index(f"shop, mean of {data.outputs[-1]}"), data.split["train"]
    outcome = data.y[:, -1] if data.y.ndim > 1 else data.y
    known = TargetEncoder(target_type="continuous").fit(frame[["shop"]].iloc[train], outcome[train].astype(float))
    for part in ("val", "test"):
        theirs = known.transform(frame[["shop"]].iloc[data.split[part]])[:, 0]
        ours = data.x[data.split[part], column]
        np.testing.assert_allclose(np.polyval(np.polyfit(ours, theirs, 1), ours), theirs, atol=1e-5)
    own = known.transform(frame[["shop"]].iloc[train])[:, 0]
    crossed = np.corrcoef(data.x[train, column], outcome[train])[0, 1]
    assert crossed < np.corrcoef(own, outcome[train])[0, 1], "a row's own target is not in its feature"
    np.testing.assert_allclose([data.x[train, column].mean(), data.x[train, column].std()], [0, 1], atol=1e-5)
    few = read(target, task, frame=frame, drop=[n for n in "yzw" if n not in target], max_categories=150)
    assert sum(name.startswith("shop=") for name in few.inputs) == 150


@pytest.mark.parametrize(
    ("column", "cells", "target", "found"),
    [
        ("id", range(40), "pay", "id differs in every row"),
        ("cents", range(100_000, 104_000, 100), "pay", "cents tells the target"),
        ("trade", ["c", "s", "b", "c"] * 10, "job", "trade tells the target"),
        ("noise", [n * (n % 7 > 0) for n in range(40)], "pay", None),
        ("trade", ["c", "s", "b", "b"] * 10, "job", None),
    ],
)
def test_ids_and_copies_of_the_target_are_named(column: str, cells: Any, target: str, found: str | None) -> None:
    task = "regression" if target == "pay" else "single_label"
    frame = PEOPLE[["town", target]].assign(**{column: [str(cell) for cell in cells]})
    notes = read(target, task, frame=frame, drop=[], own=True).notes
    assert [note for note in notes if column in note and "data.drop" in note] == [
        note for note in notes if found and note.startswith(found)
    ]
    assert bool(found) == any("data.drop" in note for note in notes)


def test_what_was_made_of_each_column_is_told() -> None:
    frame = PEOPLE.assign(age=["", "old", *PEOPLE["age"][2:]])
    told = {row[0]: row[1:] for row in read("pay", frame=frame, types=["age: number"], own=True).columns}
    assert told["age"][:3] == ("number", "2", "22 to 59")
    assert told["born"] == ("date", "0", "1950-03-01 to 1989-03-01", "standardised")
    assert told["town"] == ("category", "0", "2 values", "one-hot")


# which rows


def test_a_few_rows_are_the_same_whatever_the_seed(tmp_path: Path) -> None:
    PEOPLE.to_csv(tmp_path / "own.csv", index=False)
    own: dict[str, Any] = {**SETTINGS, "task": "regression", "rows": 20, "drop": ["note"]}
    few = [csv(str(tmp_path / "own.csv"), "pay", **{**own, "seed": seed}) for seed in (0, 1)]
    assert len(few[0].y) == 20
    np.testing.assert_array_equal(few[0].y, few[1].y)
    assert few[0].split["test"].tolist() != few[1].split["test"].tolist()


def test_rows_without_a_target_are_left_out_if_told(tmp_path: Path) -> None:
    PEOPLE.assign(pay=["", "-", *PEOPLE["pay"][2:]]).to_csv(tmp_path / "own.csv", index=False)
    own = [str(tmp_path / "own.csv"), "pay"]
    with pytest.raises(Refused, match=r"type data.drop_rows=missing_target to leave those rows out"):
        csv(*own, task="regression", missing=["-"], drop=["note"], **SETTINGS)
    data = csv(*own, task="regression", missing=["-"], drop_rows="missing_target", drop=["note"], **SETTINGS)
    assert (len(data.y), data.notes[0]) == (38, "2 rows without a target left out")


def test_another_table_is_tested(tmp_path: Path) -> None:
    for name, rows in (("train", PEOPLE[:30]), ("test", PEOPLE[30:][list(reversed(PEOPLE.columns))])):
        rows.to_csv(tmp_path / f"{name}.csv", index=False)
    settings: dict[str, Any] = {
        "task": "regression",
        "test_path": str(tmp_path / "test.csv"),
        "drop": ["note"],
        **SETTINGS,
    }
    data = csv(str(tmp_path / "train.csv"), "pay", **settings)
    assert data.split["test"].tolist() == list(range(30, 40))
    assert len(data.split["val"]) == 6
    assert data.y[30:, 0].tolist() == [float(pay) for pay in PEOPLE["pay"][30:]]
    PEOPLE[30:].drop(columns="town").to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(Refused, match=r"data.test_path=.*test.csv lacks town, which data.path has"):
        csv(str(tmp_path / "train.csv"), "pay", **settings)


def test_a_column_says_the_part_the_group_or_the_time_and_is_no_feature() -> None:
    random = np.random.default_rng(0)
    frame = PEOPLE.assign(
        part=random.permutation(["train"] * 20 + ["valid"] * 10 + ["TEST"] * 10),
        who=[f"p{number}" for number in random.integers(0, 12, 40)],
        day=[f"2024-01-{number:02}" for number in random.integers(1, 25, 40)],
    )
    drop = ["note", "tags"]
    given = read("pay", frame=frame, split="part", drop=drop)
    assert all((frame["part"].iloc[given.split[p]] == name).all() for p, name in (("val", "valid"), ("test", "TEST")))
    grouped = read("pay", frame=frame, group="who", drop=drop)
    parts = [set(frame["who"].iloc[rows]) for rows in grouped.split.values()]
    assert sum(map(len, parts)) == len(set.union(*parts)) == frame["who"].nunique()
    timed = read("pay", frame=frame, time="day", drop=drop)
    ends = [(frame["day"].iloc[timed.split[p]].min(), frame["day"].iloc[timed.split[p]].max()) for p in timed.split]
    assert ends[0][1] < ends[1][0] <= ends[1][1] < ends[2][0]
    for data, name in ((given, "part"), (grouped, "who"), (timed, "day")):
        assert not [feature for feature in data.inputs if feature.startswith(name)]
        assert sorted(np.concatenate([*data.split.values()])) == list(range(40))


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"split": "town"}, "data.split holds 'Ulm', which is no part: write train, val or test"),
        ({"split": "twon"}, "data.split=twon is not a column; nearest: town"),
        ({"time": "town"}, "data.time=town holds 'Ulm': name a column of dates or numbers"),
        ({"time": "good"}, "data.time has 2 different times, too few for a .* part"),
        *(({key: "pay"}, f"data.{key}=pay is the target, too") for key in ("split", "group", "time", "weight")),
    ],
)
def test_rows_that_cannot_be_split_so_are_refused(more: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        read("pay", **more)


# labels, however they are written


@pytest.mark.parametrize(
    ("yes", "no"),
    [("1", "0"), ("1", "-1"), ("1.0", "-1.0"), ("True", "False"), ("yes", "no"), ("Y", "N"), ("on", "off")],
)
def test_two_words_are_a_label(yes: str, no: str) -> None:
    frame = PEOPLE.assign(good=[(no, yes)[n % 2] for n in range(40)], bad=[(yes, no)[n % 3 > 0] for n in range(40)])
    data = read(["good", "bad"], "multi_label", frame=frame)
    assert data.y.tolist() == [[n % 2, int(n % 3 == 0)] for n in range(40)]


def test_two_other_words_are_none() -> None:
    with pytest.raises(
        Refused, match="label column good holds maybe, yes, but with several targets each must hold 0 or 1"
    ):
        read(["good", "bad"], "multi_label", frame=PEOPLE.assign(good=["yes", "maybe"] * 20))


@pytest.mark.parametrize("sign", ["|", ";", ", ", " ", "  "])
def test_tags_are_separated_by_any_usual_sign(sign: str) -> None:
    frame = PEOPLE.assign(tags=[cell.replace("|", sign) for cell in ["a|b", "b", "a", "b|a|c"] * 10])
    data = read("tags", "multi_label", frame=frame)
    assert (data.outputs, data.y[:4].tolist()) == (["a", "b", "c"], [[1, 1, 0], [0, 1, 0], [1, 0, 0], [1, 1, 1]])


def test_zeros_and_ones_that_are_trained_as_numbers_are_named() -> None:
    assert (
        "good: 0 and 1 are trained as numbers; if they are none, type task=single_label" in read("good", own=True).notes
    )
    assert any("type task=multi_label" in note for note in read(["good", "bad"], own=True).notes)


@pytest.mark.parametrize(
    ("words", "model"),
    [
        (["data.target=[good,bad]", "data.drop=[note]"], "tabular"),
        (["data.target=[good,bad]"], "bag_of_words"),
        (["data.target=note", "data.drop=[tags]"], "tabular"),
        (["data.target=[good,bad]", "data.drop=[note]", "model=bag_of_words"], "bag_of_words"),
        (["data.target=[good,bad]", "data.drop=[note]", "model.hidden=0"], "bag_of_words"),
    ],
)
def test_the_model_follows_what_the_columns_are(tmp_path: Path, words: list[str], model: str) -> None:
    PEOPLE.to_csv(tmp_path / "own.csv", index=False)
    cfg = configure(["data=csv", f"data.path={tmp_path / 'own.csv'}", "task=multi_label", *words])
    assert cfg.run.choices.model == model
    assert configure(cfg.run.overrides).run.choices.model == model


# how files, numbers and dates are written


def table(rows: int = 60) -> pd.DataFrame:
    """Numbers, dates and words, and a target that follows from the numbers."""
    random = np.random.default_rng(0)
    size = random.normal(2000, 1500, rows).round(2)
    day = pd.date_range("2024-01-20", periods=rows)
    return pd.DataFrame({"size": size, "day": day, "town": ["Köln", "Ulm"] * (rows // 2), "y": size * 2})


def as_text(frame: pd.DataFrame, number: Any = str, date: str = "%Y-%m-%d") -> pd.DataFrame:
    return frame.assign(
        size=[number(value) for value in frame["size"]],
        y=[number(v) for v in frame["y"]],
        day=frame["day"].dt.strftime(date),
    )


def german(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


@pytest.mark.parametrize(
    ("number", "date"),
    [
        (lambda v: f"{v:,.2f}", "%d.%m.%Y"),
        (german, "%m/%d/%Y"),
        (lambda v: f"${v:,.2f}", "%d-%m-%Y"),
        (lambda v: f"{german(v)} €", "%Y/%m/%d"),
        (lambda v: f"{v} %", "%Y-%m-%d"),
        (lambda v: f"({-v})" if v < 0 else str(v), "%d/%m/%Y 0:00:00"),
        (lambda v: f"{v:,.2f}".replace(",", " "), "%Y.%m.%d"),
    ],
)
def test_numbers_and_dates_are_read_however_they_are_written(number: Any, date: str) -> None:
    plain = encode(as_text(table()), "y", task="regression", **SETTINGS)
    data = encode(as_text(table(), number, date), "y", task="regression", own=True, **SETTINGS)
    np.testing.assert_array_equal(data.x, plain.x)
    np.testing.assert_array_equal(data.y, plain.y)
    assert data.encoder is not None
    again = make_encoder(json.loads(json.dumps(data.encoder.state())))
    assert again == data.encoder


@pytest.mark.parametrize(
    ("cells", "sentence"),
    [
        (
            ["1,234", "5,678", "900"],
            "column x holds numbers such as 1,234: type data.decimal=point if there is a comma between",
        ),
        (
            ["03/04/2024", "5/6/2024"],
            "column x holds dates such as 03/04/2024: type data.dates=day_first or data.dates=month",
        ),
    ],
)
def test_what_may_be_read_in_two_ways_is_refused(cells: list[str], sentence: str) -> None:
    frame = pd.DataFrame({"x": (cells * 30)[:60], "y": [str(n) for n in range(60)]})
    with pytest.raises(Refused, match=sentence):
        read("y", frame=frame, drop=[])
    one, other = (
        ({"decimal": "point"}, {"decimal": "comma"})
        if "numbers" in sentence
        else ({"dates": "day_first"}, {"dates": "month_first"})
    )
    values = [read("y", frame=frame, drop=[], **told).axis[:2].tolist() for told in (one, other)]
    assert values == (
        [[1234, 5678], [1.234, 5.678]] if "numbers" in sentence else [[19816.0, 19879.0], [19786.0, 19849.0]]
    )


@pytest.mark.parametrize("cells", [["$5", "€6"], ["5%", "6"], ["1,2,3", "4"], ["1.2.10", "1.3.0"], ["2:1", "0:3"]])
def test_what_is_no_number_stays_text(cells: list[str]) -> None:
    frame = pd.DataFrame({"x": cells * 30, "y": [str(n) for n in range(60)]})
    assert read("y", frame=frame, drop=[]).inputs == [f"x={cell}" for cell in sorted(cells)]


def pack(whole: bytes, suffix: str) -> bytes:
    if suffix == ".zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as archive:
            archive.writestr("inner.csv", whole)
        return out.getvalue()
    if suffix == ".gz":
        return gzip.compress(whole)
    return bz2.compress(whole) if suffix == ".bz2" else lzma.compress(whole)


@pytest.mark.parametrize(
    "suffix", [".gz", ".bz2", ".xz", ".zip", ".json", ".jsonl", ".tsv", ".psv", ".utf16", ".cp1252"]
)
def test_a_table_is_the_same_in_every_file(tmp_path: Path, suffix: str) -> None:
    frame, file = as_text(table()), tmp_path / f"table{suffix}"
    more: dict[str, Any] = {}
    whole = frame.to_csv(index=False)
    if suffix.startswith(".json"):
        frame.assign(size=table()["size"]).to_json(file, orient="records", lines=suffix == ".jsonl")
    elif suffix in (".tsv", ".psv"):
        file.write_text(frame.to_csv(index=False, sep="\t" if suffix == ".tsv" else "|"), encoding="utf-8")
    elif suffix == ".utf16":
        file.write_text(whole, encoding="utf-16")
    elif suffix == ".cp1252":
        file.write_bytes(whole.encode("cp1252"))
        with pytest.raises(Refused, match=r"is not in UTF-8: if '.*Köln.*' looks right, type data.encoding=cp1252"):
            csv(str(file), "y", task="regression", **SETTINGS)
        more = {"encoding": "cp1252"}
    else:
        file.write_bytes(pack(whole.encode(), suffix))
    plain = encode(frame, "y", task="regression", **SETTINGS)
    data = csv(str(file), "y", task="regression", **SETTINGS, **more)
    np.testing.assert_array_equal(data.x, plain.x)
    assert data.inputs == plain.inputs


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet", ".feather", ".json", ".zip", ".bz2"])
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"table{suffix}"
    file.write_bytes(b"no such file")
    with pytest.raises(Refused, match=r"is not a table \(|needs a package: type pip install (openpyxl|pyarrow)"):
        csv(str(file), "y", task="regression", **SETTINGS)


def test_a_file_without_a_header_is_noticed(tmp_path: Path) -> None:
    file = tmp_path / "bare.csv"
    file.write_text("".join(f"{n * 0.5},{n % 7},{n}\n" for n in range(-3, 60)))
    with pytest.raises(
        Refused, match=r"begins with numbers \(-1.5, 4, -3, ...\) .*: if it has no header, type data.header"
    ):
        csv(str(file), "y", task="regression", **SETTINGS)
    data = csv(str(file), "column3", task="regression", header=False, **SETTINGS)
    assert (data.inputs, len(data.y)) == (["column1", "column2"], 63)


WAYS: dict[str, Any] = {
    "list": str,
    "tuple": lambda row: str(tuple(row)),
    "set": lambda row: str(set(row)),
    "json": json.dumps,
}


@pytest.mark.parametrize("sign", ["|", ";", ",", " & ", " and ", "/", "+", "//", "::", "\t", " ", *WAYS])
def test_labels_are_split_however_they_are_written(sign: str) -> None:
    draw = np.random.default_rng(len(sign)).random((60, 3)) < 0.5
    rows = [[name for name, there in zip(("cat", "dog", "owl"), row, strict=True) if there] for row in draw]
    cells = [WAYS[sign](row) if sign in WAYS else sign.join(row) for row in rows]
    assert [sorted(row) for row in split_labels(pd.Series(cells), None)] == rows
