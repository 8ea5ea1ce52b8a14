"""A table says the same to a trained model in whichever form it comes: text, Parquet, Excel, JSON lines, or a frame."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.api.new_rows import read_new
from losslab.data.encoder import TableEncoder
from losslab.data.tables import csv
from losslab.errors import Refused

ROWS = 300


def draw(seed: int) -> pd.DataFrame:
    """Numbers of three decimals and of very different size, whole ones, truth values, codes, words and dates."""
    chance = np.random.default_rng(seed)
    code = pd.array(chance.choice([1, 2, 3, 17], ROWS), dtype="Int64")
    code[::11] = pd.NA
    frame = pd.DataFrame(
        {
            "narrow": chance.uniform(1, 9, ROWS).round(3),
            "wide": (10 ** chance.uniform(-1, 4, ROWS)).round(3),
            "whole": chance.integers(-5, 2000, ROWS),
            "flag": chance.random(ROWS) > 0.4,
            "code": code,
            "word": chance.choice(["owl", "big cat", "3"], ROWS),
            "day": pd.Timestamp("2021-01-01") + pd.to_timedelta(chance.integers(0, 700, ROWS), "D"),
        }
    )
    frame.loc[::13, "narrow"] = np.nan
    return frame.assign(y=frame["wide"] ** 0.5)


def write_european(frame: pd.DataFrame, file: Path) -> None:
    frame.assign(day=frame["day"].dt.strftime("%d.%m.%Y")).to_csv(file, sep=";", decimal=",", index=False)


def write_american(frame: pd.DataFrame, file: Path) -> None:
    wide = frame["wide"].map("${:,.3f}".format)
    frame.assign(day=frame["day"].dt.strftime("%m/%d/%Y"), wide=wide).to_csv(file, index=False)


WRITE: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "plain.csv": lambda frame, file: frame.to_csv(file, index=False),
    "european.csv": write_european,
    "american.csv": write_american,
    "table.parquet": lambda frame, file: frame.to_parquet(file),
    "table.xlsx": lambda frame, file: frame.to_excel(file, index=False),
    "table.jsonl": lambda frame, file: frame.to_json(file, orient="records", lines=True, date_format="iso"),
}
TYPED = ("table.parquet", "table.xlsx", "table.jsonl")


def encode(encoder: TableEncoder, given: Any, file: Path | None = None) -> Any:
    if file is not None:
        return encoder.read(file).x
    run: Any = SimpleNamespace(encoder=encoder, data=SimpleNamespace(shape=(1,)))
    return read_new(run, given, None).x


@pytest.mark.parametrize(("seed", "trained_on"), [*enumerate(WRITE)])
def test_new_rows_say_the_same_in_every_form(seed: int, trained_on: str, tmp_path: Path) -> None:
    frame = draw(seed)
    for name in {trained_on, *TYPED}:
        WRITE[name](frame, tmp_path / name)
    data = csv(
        str(tmp_path / trained_on), target="y", task="regression", takes=["vector"], seed=0, val=0.2, test=0.2,
        types=["code:category"],
    )  # fmt: skip
    encoder = data.encoder
    assert isinstance(encoder, TableEncoder)
    wanted = encode(encoder, None, tmp_path / trained_on)
    np.testing.assert_array_equal(wanted, data.x)
    features = frame.drop(columns="y")
    forms = {
        "as it is": features,
        "of floats": features.astype({"whole": float, "code": float, "flag": int}),
        "of objects": features.astype(object),
        "with dates of Python": features.assign(day=frame["day"].dt.date),
        "as pandas reads it": pd.read_csv(tmp_path / "plain.csv") if trained_on == "plain.csv" else features,
    }
    for title, form in forms.items():
        np.testing.assert_allclose(encode(encoder, form), wanted, atol=1e-6, err_msg=title)
    for name in TYPED:
        np.testing.assert_allclose(encode(encoder, None, tmp_path / name), wanted, atol=1e-6, err_msg=name)


def test_text_with_a_point_is_not_taken_for_text_with_a_comma(tmp_path: Path) -> None:
    frame = draw(0)
    for name in ("european.csv", "plain.csv"):
        WRITE[name](frame, tmp_path / name)
    data = csv(
        str(tmp_path / "european.csv"), target="y", task="regression", takes=["vector"], seed=0, val=0.2, test=0.2
    )
    assert isinstance(data.encoder, TableEncoder)
    with pytest.raises(Refused, match=r"column \w+ holds no number in [\d,]+ of 300 rows"):
        data.encoder.read(tmp_path / "plain.csv")
    one = frame.drop(columns="y").iloc[[1]].assign(narrow=5.095, wide=12.345, day="31.12.2021")
    one.to_csv(tmp_path / "one.csv", sep=";", index=False)
    notes = data.encoder.read(tmp_path / "one.csv").notes
    assert any("5.095 is read as 5095, as a point stands between thousands" in note for note in notes)


def test_a_test_table_of_typed_numbers_fits_no_text_with_a_comma(tmp_path: Path) -> None:
    frame = draw(0)
    for name in ("plain.csv", "european.csv", "table.parquet"):
        WRITE[name](frame, tmp_path / name)
    more: dict[str, Any] = {
        "target": "y",
        "task": "regression",
        "takes": ["vector"],
        "seed": 0,
        "val": 0.2,
        "test": 0.2,
    }
    tested = str(tmp_path / "table.parquet")
    data = csv(str(tmp_path / "plain.csv"), test_path=tested, types=["code:category"], **more)
    np.testing.assert_array_equal(data.x[:ROWS], data.x[ROWS:])
    with pytest.raises(Refused, match=r"holds numbers in column .*, and data.path texts such as '.*,.*': save both"):
        csv(str(tmp_path / "european.csv"), test_path=tested, drop=["day"], **more)
