"""How dates and times are written in a column: 31.12.2024, 12/31/24 3:05 PM, 31 December 2024, Dec-24, 2024Q4, 1h 30m.

A style is `dmy`, `mdy` or `ymd` by the order of a date in numbers, `name` where the month has its English name, `month`
where there is no day, `quarter`, or `hours` for a time of the day or how long something took.
"""

import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.errors import Refused

Array = NDArray[Any]
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T].*)?")
DATES = ("dmy", "mdy", "ymd", "name", "month", "quarter")  # styles whose numbers are days since 1970
ORDERS = {"day_first": "dmy", "month_first": "mdy"}
HALVES = r"(?P<half>[AaPp]\.?[Mm]\.?)"
ZONE = r"(?:\s?(?P<zone>Z|UTC|GMT|[+-][0-9]{2}:?[0-9]{2}))"
CLOCK = rf"(?:(?:,? (?:at )?|T|, )(?P<clock>[0-9]{{1,2}}:[0-9]{{2}}(?::[0-9]{{2}}(?:\.[0-9]+)?)?)\s?{HALVES}?{ZONE}?)?"
YEAR = r"(?P<year>[0-9]{4}|'?[0-9]{2})"
NUMERIC_DAY = rf"(?P<one>[0-9]{{1,2}})(?P<sign>[./-])(?P<two>[0-9]{{1,2}})(?P=sign){YEAR}{CLOCK}"
YEAR_LAST = re.compile(NUMERIC_DAY)
YEAR_FIRST = re.compile(
    rf"(?P<year>[0-9]{{4}})(?P<sign>[./])(?P<one>[0-9]{{1,2}})(?P=sign)(?P<two>[0-9]{{1,2}}){CLOCK}"
)
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
NAME = (
    r"(?P<name>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
WEEKDAY = r"(?:(?:mon|tue|wed|thu|fri|sat|sun)[a-z]*\.?,? )?"
DAY = r"(?P<day>[0-9]{1,2})(?:st|nd|rd|th)?"
BETWEEN = r"(?:, |[ ,./-]?)"
NAMED = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{WEEKDAY}{DAY}\.?{BETWEEN}(?:of )?{NAME}{BETWEEN}{YEAR}{CLOCK}",
        rf"{WEEKDAY}{NAME}[ -]{DAY}(?:, |[ ,-]){YEAR}{CLOCK}",
        rf"(?P<year>[0-9]{{4}}){BETWEEN}{NAME}{BETWEEN}{DAY}{CLOCK}",
        rf"{WEEKDAY}{NAME} +{DAY}{CLOCK} (?P<year>[0-9]{{4}})",  # as C's ctime
    )
]
MONTH = [
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"{NAME}(?:, |[ ,./-]?)(?P<year>[0-9]{{4}})",
        rf"{NAME}-(?P<year>'?[0-9]{{2}})|{NAME.replace('name', 'other')} (?P<late>'[0-9]{{2}})",
        rf"(?P<year>[0-9]{{4}})[ ./-]?{NAME}",
        r"(?P<year>[0-9]{4})[-/](?P<two>0[1-9]|1[0-2])",
        r"(?P<two>0?[1-9]|1[0-2])[-/](?P<year>[0-9]{4})",
    )
]
QUARTER = [
    re.compile(r"(?P<year>[0-9]{4})[ /-]?q(?P<quarter>[1-4])", re.IGNORECASE),
    re.compile(r"q(?P<quarter>[1-4])[ /-]?(?P<year>[0-9]{4})", re.IGNORECASE),
]
FORMS = {"ymd": [YEAR_FIRST], "dmy": [YEAR_LAST], "mdy": [YEAR_LAST], "name": NAMED, "month": MONTH, "quarter": QUARTER}
TIME = re.compile(
    rf"(?P<hours>[0-9]{{1,4}}):(?P<minutes>[0-5][0-9])(?::(?P<seconds>[0-5][0-9](?:\.[0-9]+)?))?\s?{HALVES}?"
)
SPANS = {  # in hours
    "weeks": (r"w(?:eeks?|ks?)?", 168.0),
    "days": (r"d(?:ays?)?", 24.0),
    "hours": (r"h(?:ours?|rs?)?", 1.0),
    "minutes": (r"m(?:in(?:ute)?s?)?", 1 / 60),
    "seconds": (r"s(?:ec(?:ond)?s?)?", 1 / 3600),
}
AMOUNTS = {
    name: rf"(?:(?P<{name}>[0-9]+(?:\.[0-9]+)?)\s?{unit}\.?(?:,? (?:and )?|,|(?=[0-9t]|$)))?"
    for name, (unit, _) in SPANS.items()
}
SPAN = re.compile(
    rf"(?=.*[0-9])(?P<minus>-)?p?{AMOUNTS['weeks']}{AMOUNTS['days']}t?{AMOUNTS['hours']}{AMOUNTS['minutes']}"
    rf"{AMOUNTS['seconds']}(?P<rest>[0-9]{{1,2}}:[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?)?",
    re.IGNORECASE,
)
CENTURY = 69  # two digits from here on are a year of the 20th century, as POSIX has it


def all_match(cells: "pd.Series[str]", *patterns: re.Pattern[str]) -> bool:
    """Return whether each cell matches one of these; most columns that do not are told by their first hundred.

    These are looked at one by one: pandas parses a pattern each time.
    """
    return all(any(pattern.fullmatch(cell) for pattern in patterns) for cell in cells.iloc[:100].tolist()) and bool(
        np.logical_or.reduce([cells.str.fullmatch(pattern).to_numpy(bool) for pattern in patterns]).all()
    )


def find_date_style(cells: "pd.Series[str]", told: str | None) -> str | None:
    """Return the style of dates or times in which all cells are written; `None` if they are none.

    Args:
        cells: of a column, none of them empty.
        told: `day_first` or `month_first`, or `None`.

    Raises:
        Refused: where day and month cannot be told apart.

    >>> for cells in (["12 March 2020", "1st Apr 2021"], ["Mar-20"], ["2001-02", "2002-03"], ["1h 30m", "45 min"]):
    ...     print(find_date_style(pd.Series(cells), None))
    name
    month
    None
    hours
    """
    if order := find_order(cells, told):
        return order
    for style in ("name", "month", "quarter"):
        if all_match(cells, *FORMS[style]) and np.isfinite(parse_dates(cells, style)).all():
            return None if style == "month" and are_seasons(cells) else style
    if all_match(cells, TIME) or (all_match(cells, SPAN) and not are_one_unit(cells)):
        return "hours"
    return None


def are_seasons(cells: "pd.Series[str]") -> bool:
    """Return whether each cell is a year and the last digits of the next, such as 2001-02."""
    parts = cells.str.extract(r"^([0-9]{4})[-/]([0-9]{2})$")
    if parts.isna().any(axis=None):
        return False
    return bool(((parts[0].astype(int) + 1) % 100 == parts[1].astype(int)).all())


def are_one_unit(cells: "pd.Series[str]") -> bool:
    """Return whether each cell is a number and the same word: these stay in their unit."""
    words = cells.str.replace(r"[0-9., ]+", "", regex=True).str.removesuffix("s")
    return words.nunique() == 1 and bool(cells.str.fullmatch(r"-?[0-9.,]+\s?[^0-9]+").all())


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


def parse_dates(cells: "pd.Series[str]", style: str) -> Array:
    """Return dates as days since 1970; NaN for what is none.

    >>> parse_dates(pd.Series(["02.01.1970", "x", "2.1.70 6:00 PM"]), "dmy")
    array([1.  ,  nan, 1.75])
    >>> parse_dates(pd.Series(["2 January 1970", "Fri, Jan 2nd, 1970 12:00 AM"]), "name")
    array([1., 1.])
    """
    if style == "plain":
        written = cells.where(cells.str.match(r"\d{4}"))  # pandas fails at -1.4, whatever it is told
    else:
        parts = pd.DataFrame("", cells.index, ["year", "one", "two", "name", "day", "quarter", "clock", "half", "zone"])
        for pattern in FORMS[style]:
            found = cells.str.extract(rf"^(?:{pattern.pattern})$", flags=pattern.flags)
            found = found.rename(columns={"late": "year2", "other": "name2"}).fillna("")
            for name in ("year", "name"):
                if f"{name}2" in found:
                    found[name] = found[name] + found.pop(f"{name}2")
            known = found.columns.intersection(parts.columns)
            new = (parts["year"] == "") & (found["year"] != "")
            parts.loc[new, known] = found.loc[new, known]
        written = write_dates(parts, style)
    days = pd.to_datetime(written, errors="coerce", utc=True, format="ISO8601")
    return ((days - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(float)


def write_dates(parts: pd.DataFrame, style: str) -> "pd.Series[str]":
    """Return dates as ISO 8601 has them, from their parts."""
    day, month = (parts["one"], parts["two"]) if style == "dmy" else (parts["two"], parts["one"])
    if style in ("name", "month", "quarter"):
        names = parts["name"].str.lower().str[:3].map({name: str(place) for place, name in enumerate(MONTHS, 1)})
        quarters = parts["quarter"].map({str(number): str(3 * number - 2) for number in range(1, 5)})
        month = names.fillna(quarters).fillna(parts["two"])
        day = parts["day"].where(parts["day"] != "", "1")
    short = parts["year"].str.removeprefix("'")
    late = pd.to_numeric(short, errors="coerce") >= CENTURY
    year = short.where(short.str.len() == 4, late.map({True: "19", False: "20"}) + short)
    clock = parts["clock"].where(parts["half"] == "", to_24_hours(parts["clock"], parts["half"]))
    clock = clock.str.replace(r"^(\d):", r"0\1:", regex=True)
    zone = parts["zone"].replace({"UTC": "Z", "GMT": "Z"})
    written = year + "-" + month.str.zfill(2) + "-" + day.str.zfill(2)
    written = written.where(clock == "", written + " " + clock + zone)
    return written.where(parts["year"] != "")


def to_24_hours(clock: "pd.Series[str]", half: "pd.Series[str]") -> "pd.Series[str]":
    """Return times such as 3:05 with AM or PM beside them as 15:05."""
    hour, rest = clock.str.partition(":")[0], clock.str.partition(":")[2]
    number = pd.to_numeric(hour, errors="coerce")
    late = half.str.lower().str.startswith("p")
    right = (number % 12 + 12 * late).fillna(0).astype(int).astype(str).str.zfill(2)
    return (right.where(number.between(1, 12), "99") + ":" + rest).where(clock != "", "")  # 13 PM is no time


def parse_hours(cells: "pd.Series[str]") -> Array:
    """Return times of the day and spans of time in hours; NaN for what is neither.

    >>> parse_hours(pd.Series(["1:30", "12:15 AM", "1h 30m", "PT45M", "2 days 03:00:00", "x"]))
    array([ 1.5 ,  0.25,  1.5 ,  0.75, 51.  ,   nan])
    """
    times = cells.str.extract(rf"^{TIME.pattern}$")
    hours = pd.to_numeric(times["hours"])
    late = times["half"].fillna("").str.lower().str.startswith("p")
    hours = hours.where(times["half"].isna(), (hours % 12 + 12 * late).where(hours.between(1, 12)))
    of_day = hours + pd.to_numeric(times["minutes"]) / 60 + pd.to_numeric(times["seconds"]).fillna(0) / 3600
    spans = cells.str.extract(rf"^{SPAN.pattern}$", flags=re.IGNORECASE)
    rest = pd.to_timedelta(spans["rest"]) / pd.Timedelta(hours=1)
    each = [pd.to_numeric(spans[name]) * length for name, (_, length) in SPANS.items()]
    total = pd.concat([*each, rest], axis=1).sum(axis=1, min_count=1)
    signed = total.where(spans["minus"].isna(), -total)
    return of_day.fillna(signed).to_numpy(float)
