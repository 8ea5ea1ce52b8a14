"""How numbers are written in a column: 1,234.5 or 1.234,5, $5, 12 %, 70 kg, 3.2M; dates are in `losslab.data.dates`.

A style is `plain` (what Python reads, and dates such as 2024-12-31), one of `losslab.data.dates`, or the sign before
decimals, `.` or `,`, and what follows each number: `.kg`, or `,KMB` for thousands, millions and billions. A column has
one style, which is found from all of its cells, or told.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.data.dates import all_match, find_date_style, parse_dates, parse_hours
from losslab.errors import Refused

Array = NDArray[Any]
CODES = "EUR|USD|GBP|CHF|JPY|CNY|INR|CAD|AUD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|BRL|MXN|ZAR|KRW|SGD|HKD|THB|TRY|ILS|RUB"
MONEY = rf"(?:(?:US|CA|AU|A|C|R)?[$€£¥₹₩₽₺₫₪฿₱]|Rs\.?|{CODES}|%)"  # may stand beside some numbers and not others
WORD = r"[^\W\d_][^\W\d_./²³]{0,11}[²³.]?"  # kg, km/h, m²
UNIT = rf"(?:{MONEY}|‰|°?{WORD}(?:/{WORD})?|°)"
SPACE = " '\u2019\u00a0\u202f"  # between thousands, beside a comma or a dot
WRITTEN = {
    point: re.compile(
        rf"(?P<open>\()?(?P<one>[+\u2212-])?\s?(?P<before>{MONEY})?\s?(?P<two>[+\u2212-])?(?=[{point}0-9])"
        rf"(?P<number>(?:[0-9]{{1,3}}(?:[{comma}{SPACE}][0-9]{{3}})+|[0-9]{{1,2}}(?:{comma}[0-9]{{2}})+{comma}[0-9]{{3}}|[0-9]*)"
        rf"(?:[{point}][0-9]+)?(?:[eE][+-]?[0-9]+)?)\s?(?P<after>{UNIT})?(?(open)\))"
    )
    for point, comma in ((".", ","), (",", "."))
}
FACTORS = {"k": 1e3, "K": 1e3, "M": 1e6, "mn": 1e6, "million": 1e6, "B": 1e9, "bn": 1e9, "billion": 1e9}
POINT = re.compile(r"[+-]?(?:\d{1,3}|[1-9]\d{0,2}\.\d{3})")
CALLED = {".": "point", ",": "comma"}
SAYS = {
    "dmy": "day first",
    "mdy": "month first",
    "ymd": "year first",
    "name": "months by name",
    "month": "month and year",
    "quarter": "quarters",
    "hours": "in hours",
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
    >>> find_style(pd.Series(["70 kg", "1,070 kg"]), Told("point")), find_style(pd.Series(["$3.2M", "$70K"]), Told())
    ('.kg', '.KMB')
    >>> find_style(pd.Series(["31.12.2024", "1.2.2024"]), Told()), find_style(pd.Series(["$5", "red"]), Told())
    ('dmy', 'plain')
    """
    if not len(cells):
        return "plain"
    if style := find_date_style(cells, told.dates):
        return style
    units = {point: find_unit(cells, point) for point in WRITTEN if told.decimal in (None, CALLED[point])}
    fitting = [point for point, unit in units.items() if unit is not None]
    commas = cells.str.contains(",", regex=False)
    if len(fitting) == 2 and commas.any():
        some = cells[commas].iloc[0]
        raise Refused(
            f"column {cells.name} holds numbers such as {some}: type data.decimal=point if there is a comma between "
            "thousands, or data.decimal=comma if that is a decimal comma"
        )
    return f"{fitting[0]}{units[fitting[0]]}" if fitting else "plain"


def find_unit(cells: "pd.Series[str]", point: str) -> str | None:
    """Return what all cells have beside their numbers, nothing included; `None` if they are no numbers of one unit.

    >>> find_unit(pd.Series(["1 day", "2.5 days"]), "."), find_unit(pd.Series(["1 kg", "2"]), ".")
    ('day', None)
    """
    if not all_match(cells, WRITTEN[point]):
        return None
    found = cells.str.extract(rf"^{WRITTEN[point].pattern}$")
    before, after = found["before"].fillna(""), found["after"].fillna("")
    if before[before != ""].nunique() > 1:
        return None
    if set(after) != {""} and set(after) <= {"", *FACTORS}:
        return "KMB"
    money = bool(after[after != ""].str.fullmatch(MONEY).all())
    units = [*pd.concat([before, after]).loc[lambda unit: unit != ""].map(to_singular).unique()]
    if len(units) > 1 or (units and (units == ["%"] or not money) and bool(((before == "") & (after == "")).any())):
        return None
    return units[0] if units else ""


def to_singular(unit: str) -> str:
    """Return a unit without the s of its plural.

    >>> to_singular("days"), to_singular("ms")
    ('day', 'ms')
    """
    return unit[:-1] if len(unit) > 3 and unit.endswith("s") else unit


def is_number_style(style: str) -> bool:
    """Return whether a style is one of numbers that are written otherwise than Python does."""
    return style[:1] in WRITTEN


def say_style(style: str) -> str:
    """Return how a column was read, in a few words; nothing for a plain one.

    >>> say_style(",€"), say_style("."), say_style(".KMB"), say_style("dmy"), say_style("plain")
    ('€, decimal comma', 'comma between thousands', 'K is 1,000, M a million', 'day first', '')
    """
    if not is_number_style(style):
        return SAYS.get(style, "")
    comma = "decimal comma" if style[0] == "," else ""
    if style[1:] == "KMB":
        return ", ".join(filter(None, ["K is 1,000, M a million", comma]))
    return ", ".join(filter(None, [style[1:], comma])) or "comma between thousands"


def may_be_thousands(cells: "pd.Series[str]") -> bool:
    """Return whether all cells are numbers such as 543.221 or 12, where a point may stand between thousands.

    >>> may_be_thousands(pd.Series(["543.221", "12"])), may_be_thousands(pd.Series(["543.221", "0.221"]))
    (True, False)
    """
    return all_match(cells, POINT) and bool(cells.str.contains(".", regex=False).any())


def parse_cells(cells: "pd.Series[str]", style: str, dates: bool) -> Array:
    """Return numbers, or dates as days since 1970; NaN for what is neither.

    >>> parse_cells(pd.Series(["1.234,5 €", "(3,5)", "3.5"]), ",", False)
    array([1234.5,   -3.5,    nan])
    >>> parse_cells(pd.Series(["02.01.1970", "x"]), "dmy", True)
    array([ 1., nan])
    """
    if is_number_style(style):
        return parse_numbers(cells, style[0], style[1:])
    if style == "hours":
        return parse_hours(cells)
    if dates:
        return parse_dates(cells, style)
    return pd.to_numeric(cells, errors="coerce").to_numpy(float)


def parse_numbers(cells: "pd.Series[str]", point: str, unit: str = "") -> Array:
    """Return numbers that are written with a unit, signs between thousands or brackets for a minus.

    Args:
        cells: texts.
        point: the sign before decimals.
        unit: what may stand beside each number; a currency or per cent if empty.
    """
    parts = cells.str.extract(rf"^{WRITTEN[point].pattern}$")
    comma = "," if point == "." else "."
    bare = parts["number"].str.replace(rf"[{comma}{SPACE}]", "", regex=True).str.replace(point, ".", regex=False)
    numbers = pd.to_numeric(bare, errors="coerce").to_numpy(float, copy=True)
    less = parts["open"].notna() | parts[["one", "two"]].isin(["-", "\u2212"]).any(axis=1)
    numbers[less.to_numpy()] *= -1
    beside = parts[["before", "after"]].fillna("").map(to_singular)
    if unit == "KMB":
        numbers *= beside["after"].map(FACTORS).fillna(1.0).to_numpy()
        return np.where(beside["after"].isin(["", *FACTORS]), numbers, np.nan)
    if unit == "":
        return np.where(beside["after"].str.fullmatch(rf"(?:{MONEY})?"), numbers, np.nan)
    return np.where(beside.isin(["", unit]).all(axis=1), numbers, np.nan)
