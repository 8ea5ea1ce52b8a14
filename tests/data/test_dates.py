"""Dates and numbers are read in whatever way Python writes them, and as pandas counts days and hours."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from losslab.data.columns import Column, ColumnEncoder
from losslab.data.formats import Told

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAYS = (
    "%d %B %Y",
    "%B %d, %Y",
    "%b. %d, %Y",
    "%d-%b-%y",
    "%d%b%Y",
    "%Y %b %d",
    "%A, %d %B %Y",
    "%d/%m/%y",
    "%m/%d/%y",
    "%d.%m.%y",
    "%Y/%m/%d",
)
MINUTES = (
    "%d %b %Y %H:%M",
    "%m/%d/%Y %I:%M %p",
    "%a, %d %b %Y %H:%M:00 GMT",
    "%a %b %d %H:%M:00 %Y",
    "%d.%m.%Y, %H:%M",
)
MONTHS = ("%b-%y", "%b %Y", "%B %Y", "%Y-%m", "%m/%Y", "%Y%b", "%b '%y")


def read(cells: list[str], **told: str) -> Column:
    return Column(pd.Series(cells, name="when"), formats=Told(**told))


def draw(seed: int) -> list[datetime]:
    """Moments of five decades, in whole minutes."""
    minutes = np.random.default_rng(seed).integers(0, 50 * 365 * 1440, 60)
    return [EPOCH + timedelta(minutes=int(each)) for each in minutes]


@pytest.mark.parametrize("pattern", DAYS + MINUTES + MONTHS)
def test_dates_are_read_as_python_writes_them(pattern: str) -> None:
    moments = draw(len(pattern))
    column = read([f"{moment:{pattern}}" for moment in moments])
    whole = [moment.replace(hour=0, minute=0) if pattern in DAYS else moment for moment in moments]
    whole = [moment.replace(day=1, hour=0, minute=0) if pattern in MONTHS else moment for moment in whole]
    assert column.dates
    assert column.kind == "number"
    np.testing.assert_allclose(column.numbers, [(moment - EPOCH) / timedelta(days=1) for moment in whole], rtol=1e-12)


@pytest.mark.parametrize(
    "write", [str.upper, str.lower, lambda text: text.replace(" ", "st ", 1), lambda text: f"{text}"]
)
def test_neither_case_nor_ordinals_matter(write: object) -> None:
    moments = [datetime(1990 + year, 5, 1, tzinfo=UTC) for year in range(20)]
    assert callable(write)
    column = read([write(f"{moment:%d %B %Y}") for moment in moments])
    np.testing.assert_array_equal(column.numbers, [(moment - EPOCH).days for moment in moments])


def test_quarters_begin_with_their_first_month() -> None:
    for cells in (["2020Q1", "2020Q4"], ["Q1 2020", "Q4 2020"], ["2020-q1", "2020-q4"]):
        np.testing.assert_array_equal(
            read(cells).numbers, pd.to_datetime(["2020-01", "2020-10"]).to_julian_date() - 2440587.5
        )


@pytest.mark.parametrize("seed", range(3))
def test_spans_of_time_are_hours(seed: int) -> None:
    spans = pd.to_timedelta(np.random.default_rng(seed).integers(0, 10**6, 40), unit="s")
    parts = spans.components
    ways = (
        [str(span) for span in spans],
        [span.isoformat() for span in spans],
        [f"{d}d {h}h {m}m {s}s" for d, h, m, s in parts.iloc[:, :4].to_numpy()],
        [f"{d} days, {h} hours and {m} min {s} sec" for d, h, m, s in parts.iloc[:, :4].to_numpy()],
        [f"{24 * d + h}:{m:02d}:{s:02d}" for d, h, m, s in parts.iloc[:, :4].to_numpy()],
    )
    for cells in ways:
        np.testing.assert_allclose(read(cells).numbers, spans / pd.Timedelta(hours=1), rtol=1e-9)


@pytest.mark.parametrize(
    "cells",
    [
        ["2001-02", "2002-03"],  # seasons
        ["30 February 2020", "1 March 2020"],
        ["May", "June"],
        ["13:00 PM", "1:00 AM"],
        ["march", "12 march"],
        ["1 kg", "2 lb"],
        ["A12", "B13"],
        ["1st", "2nd"],
        ["٣", "٤"],  # digits that pandas does not read
        ["5", "5 km"],
    ],
)
def test_what_may_be_something_else_is_a_category(cells: list[str]) -> None:
    assert read(cells * 9).kind == "category"


@pytest.mark.parametrize(
    ("cells", "numbers", "style"),
    [
        (["$3.2M", "$70K", "$5"], [3.2e6, 7e4, 5], ".KMB"),
        (["1,5 kg", "2 kg"], [1.5, 2], ",kg"),
        (["12 m/s", "3.5 m/s"], [12, 3.5], ".m/s"),
        (["1 day", "2.5 days"], [1, 2.5], ".day"),
        (["-3 °C", "(4 °C)"], [-3, -4], ".°C"),
        (["₹1,10,000", "₹50"], [110000, 50], ".₹"),
        (["5 %", "-7%"], [5, -7], ".%"),
    ],
)
def test_one_unit_is_read_and_another_is_none_in_new_rows(cells: list[str], numbers: list[float], style: str) -> None:
    column = read(cells, decimal="comma" if style[0] == "," else "point")
    np.testing.assert_allclose(column.numbers, numbers)
    assert column.style == style
    encoder = ColumnEncoder.fit(column, np.arange(len(cells)))
    np.testing.assert_allclose(Column(pd.Series(cells, name="when"), encoder).numbers, numbers)
    with pytest.raises(ValueError, match="no number in 1 of 1 row"):
        Column(pd.Series(["3 miles"], name="when"), encoder)
