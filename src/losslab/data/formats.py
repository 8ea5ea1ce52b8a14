"""How numbers and dates are written in a column: 1,234.5 or 1.234,5, $5, 12 %, 31.12.2024 or 12/31/2024.

A style is `plain` (what Python reads, and dates such as 2024-12-31), `.` or `,` by the sign before the decimals, `dmy`,
`mdy` or `ymd` by the order of a date. A column has one style, which is found from all of its cells, or told.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.errors import Refused

Array = NDArray[Any]
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T].*)?")
UNIT = r"(?:[$€£¥]|EUR|USD|GBP|%)"
SPACE = " '\u2019\u00a0\u202f"  # between thousands, beside a comma or a dot
WRITTEN = {
    point: re.compile(
        rf"(?P<open>\()?[+\u2212-]?\s?(?P<before>{UNIT})?\s?[+\u2212-]?(?=[{point}\d])"
        rf"(?:\d{{1,3}}(?:[{comma}{SPACE}]\d{{3}})+|\d*)(?:[{point}]\d+)?(?:[eE][+-]?\d+)?\s?(?P<after>{UNIT})?(?(open)\))"
    )
    for point, comma in ((".", ","), (",", "."))
}
POINT = re.compile(r"[+-]?(?:\d{1,3}|[1-9]\d{0,2}\.\d{3})")
CALLED = {".": "point", ",": "comma"}
CLOCK = r"(?P<clock>[ T]\d{1,2}:.*)?"
YEAR_LAST = re.compile(rf"(?P<one>\d{{1,2}})(?P<sign>[./-])(?P<two>\d{{1,2}})(?P=sign)(?P<year>\d{{4}}){CLOCK}")
YEAR_FIRST = re.compile(rf"(?P<year>\d{{4}})(?P<sign>[./])(?P<one>\d{{1,2}})(?P=sign)(?P<two>\d{{1,2}}){CLOCK}")
ORDERS = {"day_first": "dmy", "month_first": "mdy"}
SAYS = {
    ".": "comma between thousands, or a unit",
    ",": "decimal comma",
    "dmy": "day first",
    "mdy": "month first",
    "ymd": "year first",
}


@dataclass(frozen=True)
class Told:
    """What the user says of all columns."""

    decimal: str | None = None  # `point` or `comma`; found by itself if `None`
    dates: str | None = None  # `day_first` or `month_first`; found by itself if `None`


def find_style(cells: "pd.Series[str]", told: Told) -> str:
    """Return the style in which all cells are numbers or dates; `plain` if there is none.

    Raises:
        Refused: where two styles fit and mean different values.

    >>> find_style(pd.Series(["1,234.5", "12"]), Told()), find_style(pd.Series(["3,14", "1.000,5"]), Told())
    ('.', ',')
    >>> find_style(pd.Series(["31.12.2024", "1.2.2024"]), Told()), find_style(pd.Series(["$5", "red"]), Told())
    ('dmy', 'plain')
    """
    if not len(cells):
        return "plain"
    if order := find_order(cells, told.dates):
        return order
    fitting = [point for point in WRITTEN if told.decimal in (None, CALLED[point]) and fits(cells, point)]
    commas = cells.str.contains(",", regex=False)
    if len(fitting) == 2 and commas.any():
        some = cells[commas].iloc[0]
        raise Refused(
            f"column {cells.name} holds numbers such as {some}: type data.decimal=point if there is a comma between "
            "thousands, or data.decimal=comma if that is a decimal comma"
        )
    return fitting[0] if fitting else "plain"


def all_match(cells: "pd.Series[str]", pattern: re.Pattern[str]) -> bool:
    """Return whether each cell matches; most columns that do not are told by their first hundred."""
    return all(bool(some.str.fullmatch(pattern).all()) for some in (cells.iloc[:100], cells))


def fits(cells: "pd.Series[str]", point: str) -> bool:
    """Return whether all cells are numbers with this sign before the decimals, and all of one unit."""
    if not all_match(cells, WRITTEN[point]):
        return False
    found = cells.str.extract(rf"^{WRITTEN[point].pattern}$")
    units = found["before"].fillna(found["after"])
    return units.dropna().nunique() <= 1 and (not (units == "%").any() or bool((units == "%").all()))


def may_be_thousands(cells: "pd.Series[str]") -> bool:
    """Return whether all cells are numbers such as 543.221 or 12, where a point may stand between thousands.

    >>> may_be_thousands(pd.Series(["543.221", "12"])), may_be_thousands(pd.Series(["543.221", "0.221"]))
    (True, False)
    """
    return all_match(cells, POINT) and bool(cells.str.contains(".", regex=False).any())


def find_order(cells: "pd.Series[str]", told: str | None) -> str | None:
    """Return the order of day, month and year in dates; `None` if the cells are none.

    Raises:
        Refused: where day and month cannot be told apart.
    """
    if all_match(cells, YEAR_FIRST):
        return "ymd"
    if not all_match(cells, YEAR_LAST):
        return None
    parts = cells.str.extract(YEAR_LAST)
    first, second = parts["one"].astype(int), parts["two"].astype(int)
    possible = [order for order, month in (("dmy", second), ("mdy", first)) if (month <= 12).all()]
    if told is not None:
        return ORDERS[told] if ORDERS[told] in possible else None
    if len(possible) == 2 and (parts["sign"] == ".").all():
        return "dmy"
    if len(possible) == 2 and (first != second).any():
        raise Refused(
            f"column {cells.name} holds dates such as {cells[first != second].iloc[0]}: type data.dates=day_first or "
            "data.dates=month_first"
        )
    return possible[0] if possible else None


def parse_cells(cells: "pd.Series[str]", style: str, dates: bool) -> Array:
    """Return numbers, or dates as days since 1970; NaN for what is neither.

    >>> parse_cells(pd.Series(["1.234,5 €", "(3,5)", "3.5"]), ",", False)
    array([1234.5,   -3.5,    nan])
    >>> parse_cells(pd.Series(["02.01.1970", "x"]), "dmy", True)
    array([ 1., nan])
    """
    if style in WRITTEN:
        return parse_numbers(cells, style)
    if style != "plain":
        parts = cells.str.extract(YEAR_FIRST if style == "ymd" else YEAR_LAST)
        day, month = (parts["one"], parts["two"]) if style == "dmy" else (parts["two"], parts["one"])
        clock = parts["clock"].fillna("").str.replace(r"^[ T](\d):", r" 0\1:", regex=True)
        cells = parts["year"] + "-" + month.str.zfill(2) + "-" + day.str.zfill(2) + clock
    if dates:
        cells = cells.where(cells.str.match(r"\d{4}"))  # pandas fails at -1.4, whatever it is told
        days = pd.to_datetime(cells, errors="coerce", utc=True, format="ISO8601")
        return ((days - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(float)
    return pd.to_numeric(cells, errors="coerce").to_numpy(float)


def parse_numbers(cells: "pd.Series[str]", point: str) -> Array:
    """Return numbers that are written with units, between thousands or with brackets for a minus."""
    comma = "," if point == "." else "."
    bare = cells.str.replace(rf"[{comma}{SPACE}()\s]|{UNIT}", "", regex=True).str.replace(point, ".", regex=False)
    bare = bare.str.replace("\u2212", "-", regex=False)
    numbers = pd.to_numeric(bare, errors="coerce").to_numpy(float, copy=True)
    numbers[cells.str.startswith("(").to_numpy()] *= -1
    return np.where(cells.str.fullmatch(WRITTEN[point]).to_numpy(bool), numbers, np.nan)
