"""Each kind of dirt is read right, or is one sentence that names it; large tables are read as small ones are."""

import ast
import re
import tracemalloc
import warnings
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.data import numbers
from losslab.data.dataset import Dataset
from losslab.data.tables import csv
from losslab.errors import Refused
from tests.data.dirty import CLEAN, EVERY, Dirt

SETTINGS: dict[str, Any] = {"takes": ["vector"], "val": 0.2, "test": 0.2, "seed": 0, "task": "regression"}


def read(path: Path, typed: dict[str, Any]) -> Dataset:
    return csv(str(path), **{"target": "price", **SETTINGS, **typed})


def read_or_say(path: Path, typed: dict[str, Any]) -> Dataset | str:
    try:
        return read(path, typed)
    except Refused as refused:
        return str(refused)


@cache
def read_clean(text: str, typed: str) -> Dataset:
    with TemporaryDirectory() as folder:
        Path(folder, "table.csv").write_text(text, encoding="utf-8", newline="")
        return read(Path(folder, "table.csv"), ast.literal_eval(typed))


def several_of_one(text: str) -> bool:
    """Whether a text says "1 cells"."""
    nouns = "cell|row|value|number|file|image|label|class|classe|column|time|epoch|run|setting|seed|job|output"
    return bool(re.search(rf"(?<![\d.,-])1 (\w+ )?({nouns})s\b(?! or)", text))


@pytest.mark.parametrize("dirt", EVERY, ids=lambda dirt: dirt.name)
def test_it_is_read_right_or_refused_in_a_sentence(tmp_path: Path, dirt: Dirt, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / dirt.file
    file.write_bytes(dirt.content)
    found = read_or_say(file, dirt.settings)
    monkeypatch.setattr(numbers, "LARGE", 2)  # rows from which on plain numbers are no text
    monkeypatch.setattr(numbers, "PART", 7)
    large = read_or_say(file, dirt.settings)
    if isinstance(found, str) or isinstance(large, str):
        assert dirt.like is None, found
        assert re.search(dirt.says, str(found)), found
        assert found == large
        assert "\n" not in str(found)
        assert not several_of_one(str(found))
        return
    assert dirt.like is not None, "it is not refused"
    expected = read_clean(dirt.like.to_csv(index=False), repr(dirt.settings_like))
    for data in (found, large):
        assert data.inputs == expected.inputs
        assert data.outputs == expected.outputs
        np.testing.assert_allclose(np.asarray(data.x), np.asarray(expected.x), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(data.y, expected.y, rtol=1e-6)
        assert not dirt.says or any(dirt.says in note for note in data.notes), data.notes
    assert not several_of_one(" | ".join([*found.notes, *(cell for row in found.columns for cell in row)]))
    assert np.array_equal(np.asarray(found.x), np.asarray(large.x))
    assert found.notes == large.notes
    assert [row[:3] for row in found.columns] == [row[:3] for row in large.columns]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        *[(name, True) for name in ("state", "firm_id", "patientId", "zip code", "COUNTY")],
        *[(name, False) for name in ("age", "paid", "statement", "estate")],
    ],
)
def test_numbers_that_are_called_like_codes_are_told(tmp_path: Path, name: str, told: bool) -> None:
    frame = CLEAN.assign(**{name: [str(row % 5) for row in range(len(CLEAN))]})
    frame.to_csv(tmp_path / "table.csv", index=False)
    said = f"{name} is read as numbers: type "
    assert any(note.startswith(said) for note in read(tmp_path / "table.csv", {}).notes) == told


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("https://example.org/table.csv", "is a web address: download the table"),
        (".", "is a folder: type the path of a CSV file"),
        ("none.csv", "is not there"),
    ],
)
def test_a_path_of_no_table_is_refused(path: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        csv(path, "price", **SETTINGS)


def test_numbers_of_three_decimals_need_no_note_beside_others() -> None:
    assert CLEAN["height"].str.fullmatch(r"\d\.\d{3}").all()
    assert not [note for note in read_clean(CLEAN.to_csv(index=False), "{}").notes if "decimal" in note]


def test_there_are_many_kinds() -> None:
    assert len(EVERY) >= 100
    assert len({dirt.name for dirt in EVERY}) == len(EVERY)


def test_a_large_table_of_numbers_takes_less_than_four_times_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "LARGE", 2_000)
    path = tmp_path / "large.csv"
    x = np.random.default_rng(0).normal(size=(20_000, 20))
    np.savetxt(path, x, "%.6f", ",", header=",".join([f"x{i}" for i in range(19)] + ["price"]), comments="")
    tracemalloc.start()
    try:
        data = read(path, {})
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * path.stat().st_size
    train = x[data.split["train"]]
    expected = (x[:, :19] - train[:, :19].mean(0)) / train[:, :19].std(0)
    np.testing.assert_allclose(np.asarray(data.x), expected, atol=1e-4)


def test_what_pandas_warns_of_in_a_large_table_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of columns whose kind changes after a million cells, it would."""
    parts = pd.read_csv

    def read_csv(*words: Any, **settings: Any) -> Any:
        if "chunksize" in settings:
            warnings.warn("Columns (0: age) have mixed types.", pd.errors.DtypeWarning, stacklevel=1)
        return parts(*words, **settings)

    monkeypatch.setattr(numbers, "LARGE", 2)
    monkeypatch.setattr(pd, "read_csv", read_csv)
    (tmp_path / "table.csv").write_text(CLEAN.to_csv(index=False), encoding="utf-8")
    assert len(read(tmp_path / "table.csv", {}).y) == len(CLEAN)
