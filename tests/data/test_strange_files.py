"""Files that are no CSV, whatever they are called, JSON in all forms of pandas, and a title above the header."""

import io
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.data.reading import read_table
from losslab.data.truth import to_single
from losslab.errors import Refused

FRAME = pd.DataFrame({"x": [1.5, 2.5, -3.0], "c": ["a", "b", "a"], "y": [1, 2, 3]})
CSV = FRAME.to_csv(index=False)


def database() -> bytes:
    """A file of SQLite."""
    with sqlite3.connect(":memory:") as store:
        FRAME.to_sql("prices", store)
        return store.serialize()


def array() -> bytes:
    """A file of NumPy."""
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize("name", ["rows.csv", "rows.txt", "rows"])
@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (CSV.encode("utf-32"), "is UTF-32: save it as UTF-8"),
        (CSV.encode("utf-32-le"), "is UTF-32"),
        (CSV.encode("utf-32-be"), "is UTF-32"),
        (("\ufeff" + CSV).encode("utf-32-be"), "is UTF-32"),
        *((pickle.dumps(FRAME, protocol), "is a pickle: read it with pandas.read_pickle") for protocol in (2, 3, 4, 5)),
        (b"\x89HDF\r\n\x1a\n" + bytes(300), "is of HDF5: read it with pandas.read_hdf"),
        (array(), "is an array of NumPy: type data=arrays"),
        (database(), "is a database"),
        *((text.encode(), "is JSON: rename it to rows.json") for text in (
            FRAME.to_json(orient="records"), FRAME.to_json(orient="records", lines=True), FRAME.to_json(),
            FRAME.to_json(orient="split"), FRAME.to_json(orient="values"), FRAME.to_json(orient="index", indent=2),
        )),
        (f"Prices of 2024,,\n{CSV}".encode(), r"begins with a title \(Prices of 2024\) where names should stand"),
        (f"Prices of 2024\n{CSV}".encode(), "delete what stands above the header"),
        (f"Prices of 2024\n\n{CSV}".encode(), "delete what stands above the header"),
    ],
)  # fmt: skip
def test_what_is_no_csv_is_said_with_what_to_do(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Refused, match=sentence):
        read_table(str(tmp_path / name), "data.path")


@pytest.mark.parametrize("orient", ["records", "lines", "columns", "split", "table"])
def test_json_is_read_in_the_forms_of_pandas(tmp_path: Path, orient: str) -> None:
    how: dict[str, Any] = {"orient": "records", "lines": True} if orient == "lines" else {"orient": orient}
    text = FRAME.to_json(**how)
    (tmp_path / "rows.json").write_text(text)
    found = read_table(str(tmp_path / "rows.json"), "data.path")
    assert found.columns.tolist() == FRAME.columns.tolist()
    pd.testing.assert_frame_equal(found.astype({"x": float, "y": int}), FRAME.astype({"c": str}), check_dtype=False)


@pytest.mark.parametrize("begin", ["{a,b}", "[a],b", "[x],[y]", '"{",b'])
def test_a_header_with_brackets_is_no_json(tmp_path: Path, begin: str) -> None:
    (tmp_path / "rows.csv").write_text(f"{begin}\n1,2\n3,4\n")
    assert len(read_table(str(tmp_path / "rows.csv"), "data.path")) == 2


@pytest.mark.parametrize("scale", [1e-300, 1e-44, 3e-40])
def test_targets_too_small_for_single_precision_are_not_made_zeros(scale: float) -> None:
    y = scale * np.arange(-3.0, 4.0)[:, None]
    with pytest.raises(Refused, match="multiply all of its values by") as refused:
        to_single(y, "data.target=y")
    factor = float(str(refused.value).rpartition(" by ")[2])
    assert np.ptp(to_single(y * factor, "data.target=y")) > 0
