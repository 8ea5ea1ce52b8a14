"""Names in tables for people are never computed by a spreadsheet, and numbers stay numbers."""

import csv
import io
import random
import re
from base64 import b64decode
from pathlib import Path

import pandas as pd
import pytest

from losslab.compare.__main__ import compare
from losslab.compare.request import parse_request
from losslab.compare.runs import read_runs
from losslab.spreadsheet import FORMULA, csv_text, escape, frame_csv
from tests.compare.written import run

FORMULAS = ("=1+1", "+cmd|' /C calc'!A0", "-drama", "@SUM(A1)", "\t=1", "\r=1", " =1", "'=1", "\uff1d1", '=x,"y"')


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_shown_and_can_be_had_back(text: str) -> None:
    for table in (csv_text([[text, 1]]), frame_csv(pd.DataFrame({text: [text]}))):
        assert next(csv.reader(io.StringIO(table, newline="")))[0] == f"'{text}".replace("\r", "\n")


@pytest.mark.parametrize("value", ["-3.2", "+1", "-1e-05", "-inf", "mae", "a=b", "", "'tis", -3.2, 0, None, True])
def test_all_else_is_as_it_was(value: object) -> None:
    assert escape(value) == value


def test_escaping_loses_nothing() -> None:
    chance = random.Random(0)
    for _ in range(2000):
        text = "".join(chance.choices("=+-@'\t a1\n", k=chance.randint(0, 5)))
        cell = escape(text)
        assert cell in (text, f"'{text}")
        if cell == text and text.startswith(FORMULA):
            float(text)


def test_a_table_is_written_as_pandas_writes_it() -> None:
    """Columns of one value, of nothing, of zeros with two signs, of what needs quotes, and of mixed types."""
    chance = random.Random(0)
    kinds: list[list[object]] = [
        ["", "a", "x,y", 'q"', "two\nlines", None],
        [0.0, -0.0],
        [1, True, 1.0, None],
        [0.1, 1e-30, float("nan")],
        [0, 7, 10**12],
    ]
    for trial in range(200):
        rows, table = trial % 4, {}
        for place in range(chance.randint(0, 6)):
            kind = chance.choice(kinds)
            table[f"n,{place}"] = chance.choice([chance.choices(kind, k=rows), [chance.choice(kind)] * rows])
        frame = pd.DataFrame(table)
        assert frame_csv(frame) == frame.to_csv(index=False)


def test_no_table_of_a_comparison_begins_a_cell_with_a_formula(tmp_path: Path) -> None:
    for seed in range(2):
        for loss in ("=mse", "@mae", "+x", "-y"):
            run(tmp_path / "outputs", 0.5, loss=loss, seed=seed)
    compare(parse_request([str(tmp_path / "outputs")]), read_runs([str(tmp_path / "outputs")]))
    folder = tmp_path / "outputs" / "comparison"
    tables = [file.read_text() for file in folder.glob("*.csv")]
    links = re.findall(r"data:text/csv;base64,([\w+/=]+)", (folder / "index.html").read_text())
    tables += [b64decode(link).decode() for link in links]
    cells = [cell for table in tables for row in csv.reader(table.splitlines()) for cell in row]
    assert "'=mse" in cells
    assert {cell for cell in cells if cell != escape(cell)} <= {cell for cell in cells if cell.startswith("'")}
