"""Excel, Parquet and Feather: read as the same table in CSV is, or refused in a sentence."""

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.data.lines import DEFAULT, Format
from losslab.data.reading import read_table
from losslab.data.tables import csv
from losslab.errors import Refused
from tests.data.dirty import CLEAN, NUMBERS

SETTINGS: dict[str, Any] = {"takes": ["vector"], "val": 0.2, "test": 0.2, "seed": 0, "task": "regression"}
TYPED = CLEAN.astype(dict.fromkeys(NUMBERS, float)).assign(born=pd.to_datetime(CLEAN["born"]))
WRITE: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "xlsx": lambda frame, path: frame.to_excel(path, index=False),
    "parquet": lambda frame, path: frame.to_parquet(path),
    "feather": lambda frame, path: frame.to_feather(path),
}
PACKAGES = {"xlsx": "openpyxl", "parquet": "pyarrow", "feather": "pyarrow"}


def written(tmp_path: Path, suffix: str, frame: pd.DataFrame) -> str:
    pytest.importorskip(PACKAGES[suffix])
    WRITE[suffix](frame, tmp_path / f"table.{suffix}")
    return str(tmp_path / f"table.{suffix}")


@pytest.mark.parametrize("suffix", WRITE)
@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"age": TYPED["age"].astype("Int64").mask(TYPED.index == 3), "town": TYPED["town"].astype("category")},
        {"born": TYPED["born"].mask(TYPED.index == 3), "height": TYPED["height"].astype("float32")},
        {"age": TYPED["age"] > 40},
    ],
    ids=["numbers and dates", "nullable and categorical", "a date missing", "booleans"],
)
def test_a_typed_table_is_read_as_its_text(tmp_path: Path, suffix: str, columns: dict[str, Any]) -> None:
    frame = TYPED.assign(**columns)
    path = written(tmp_path, suffix, frame)
    frame.to_csv(tmp_path / "table.csv", index=False)
    found, expected = (csv(each, "price", **SETTINGS) for each in (path, str(tmp_path / "table.csv")))
    assert found.inputs == expected.inputs
    np.testing.assert_allclose(np.asarray(found.x), np.asarray(expected.x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.y, expected.y, rtol=1e-6)


def test_lists_are_labels_and_objects_are_refused(tmp_path: Path) -> None:
    labels: Any = [["u"], ["u", "v"], []] * 20
    path = written(tmp_path, "parquet", TYPED.assign(tags=labels))
    data = csv(path, "tags", **{**SETTINGS, "task": "multi_label"})
    assert data.outputs == ["u", "v"]
    assert data.y[:3].tolist() == [[1, 0], [1, 1], [0, 0]]
    objects: Any = [{"years": 3}] * 60
    path = written(tmp_path, "parquet", TYPED.assign(age=objects))
    with pytest.raises(Refused, match="age holds objects: write a column for each of their keys"):
        csv(path, "price", **SETTINGS)


@pytest.mark.parametrize("suffix", WRITE)
def test_a_broken_file_is_refused(tmp_path: Path, suffix: str) -> None:
    path = Path(written(tmp_path, suffix, TYPED))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(Refused, match=f"table.{suffix} is not a table"):
        csv(str(path), "price", **SETTINGS)


def test_of_several_sheets_one_is_named(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    path = str(tmp_path / "table.xlsx")

    def write(sheets: dict[str, pd.DataFrame]) -> None:
        with pd.ExcelWriter(path) as writer:
            for name, frame in sheets.items():
                frame.to_excel(writer, sheet_name=name, index=False)

    def read(form: Format = DEFAULT) -> list[str]:
        return read_table(path, "data.path", form=form)["a"].tolist()

    one, other = pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [3.5, None, 4]})
    write({"notes": pd.DataFrame(), "2024": one})
    assert read() == ["1", "2"]
    write({"2023": one, "2024": other})
    assert read(Format(sheet="2024")) == ["3.5", "", "4"]
    with pytest.raises(Refused, match=r"has 2 sheets \(2023, 2024\): type data.sheet=2023"):
        read()
    with pytest.raises(Refused, match=r"data.sheet=2025 is not in the file; nearest: 202"):
        read(Format(sheet="2025"))


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        ([["Report of May", None], ["a", "y"], [1, 2], [2, 3]], "data.target=y is not a column"),
        ([["a", "y"], ["years", "EUR"], *[[i, i] for i in range(30)]], "column y holds .*'EUR'"),
    ],
    ids=["a merged title", "two header rows"],
)
def test_what_else_a_sheet_holds_is_named(tmp_path: Path, rows: list[list[Any]], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        csv(sheet(tmp_path, rows), "y", **SETTINGS)


def sheet(tmp_path: Path, rows: list[list[Any]]) -> str:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    book.save(tmp_path / "table.xlsx")
    return str(tmp_path / "table.xlsx")


def test_an_error_in_a_cell_is_an_empty_cell_and_noted(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["a", "y"], *[[i, i] for i in range(30)], ["#DIV/0!", 3]]
    assert "a: 1 empty cell filled in" in csv(sheet(tmp_path, rows), "y", **SETTINGS).notes


def test_times_and_cells_of_excel_are_written_as_in_text() -> None:
    from losslab.data.typed_files import to_text

    assert [
        to_text(value) for value in (datetime.datetime(2024, 3, 1, 12, 30), datetime.date(2024, 3, 1), True, 2.5)
    ] == [
        "2024-03-01 12:30:00",
        "2024-03-01",
        "True",
        "2.5",
    ]
