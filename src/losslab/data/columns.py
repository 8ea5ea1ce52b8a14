"""Columns of a table: what each holds, and how it becomes numbers or words by the training rows alone."""

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.data.dates import DATE, DATES, all_match
from losslab.data.formats import Told, find_style, parse_cells
from losslab.data.lines import BadCell
from losslab.data.notes import count, write_setting
from losslab.data.spelling import spell_as_known

MISSING = ("", "NA", "N/A", "null", "NULL", "?")  # what an empty cell may hold
BLANKED = ("None", "none", "n/a", "#N/A", "<NA>", "#NULL!")  # what programs write into an empty cell of numbers
NOT_A_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
KINDS = ("number", "date", "category", "text")  # what a user may say that a column holds
MOSTLY = 0.8  # of the cells are numbers: then the others are a mistake, or the column is told what it holds
ID = re.compile(
    r"(^|[\s_.-])(?i:id|uuid|guid|key)$|[a-z](Id|ID)$|^Unnamed: \d+$"
    r"|^(?i:name|index|row|rownames?|n[or]|num|number|file|filename)\.?$"
)
LARGEST = 1e37  # a number; standard deviations of larger ones may be infinite in single precision
ITEM_SEPARATORS = ("|", ";")  # a comma stands in ordinary text, too
WORD = re.compile(r"[^\W_]+")
STEM = 4  # letters
MANY = 8  # different cells: more are not listed

Array = NDArray[Any]


class Column:
    """One column, and what it holds: `number`, `category` or `text`.

    Args:
        values: its cells; floats are numbers, and NaN is empty.
        like: learned from the same column of the training table, if these rows are new: what it holds, these must hold.
        kind: one of `KINDS`; inferred if `None`. In a column told to hold numbers or dates, other cells count as empty.
        missing: what an empty cell may hold beside `MISSING`.
        formats: what the user says of how numbers and dates are written; `None` for plain ones alone.
        instead: what to do about bad cells, which ends the sentence that refuses them; or a function of their texts.

    Raises:
        Refused: if a cell is not what the others are, or may be read in two ways.

    >>> column = Column(pd.Series(["1", "", "3"], name="age"))
    >>> column.kind, column.numbers, column.missing
    ('number', array([ 1., nan,  3.]), array([False,  True, False]))
    """

    dates: bool
    kind: str

    def __init__(
        self,
        values: "pd.Series[Any]",
        like: "ColumnEncoder | None" = None,
        kind: str | None = None,
        missing: Iterable[str] = (),
        formats: Told | None = None,
        instead: "str | Callable[[list[str]], str]" = "",
    ) -> None:
        self.name, self.told, self.rows = str(values.name), kind is not None, values.index
        self.missing: NDArray[np.bool_]
        if kind is None and (like is None or like.plain) and are_numbers(values):
            self.kind, self.dates, self.style = "number", False, "plain"
            self.numbers = values.to_numpy()
            self.missing = np.isnan(self.numbers)
            self.check_size()
            return
        known = None if like is None or like.kind == "text" else like.categories
        self.text = spell_as_known(values.astype(str).str.strip(), known)
        self.missing = self.text.isin({*MISSING, *missing}).to_numpy()
        present = self.text[~self.missing]
        self.style = like.style_of(present) if like else "plain"
        self.dates = like.dates if like else kind == "date" or (kind is None and all_match(present, DATE))
        self.numbers = np.full(len(values), np.nan)
        self.numbers[~self.missing] = parse_cells(present, self.style, self.dates)
        if like is None and formats is not None and kind not in ("category", "text"):
            present = self.leave_blanked(present, kind, formats)
            self.find_style(present, formats, kind)
        self.kind = like.kind if like else {"date": "number"}.get(kind or "", kind) or self.infer_kind(present)
        if self.kind != "number":
            return
        self.lenient = like.lenient if like else self.told
        empty = [*filter(np.isfinite, map(to_number, missing))]  # -999 is -999.0, too
        self.missing = self.missing | np.isin(self.numbers, empty)
        self.numbers[self.missing] = np.nan
        no_number = ~np.isfinite(self.numbers) & ~self.missing
        if like is not None and no_number.any():
            self.missing = self.missing | (no_number & self.text.isin(BLANKED).to_numpy())
            no_number &= ~self.missing
        if self.lenient:
            self.missing = self.missing | no_number
            self.numbers[no_number] = np.nan
            self.taken = int(no_number.sum())  # as empty
        else:
            if like is None:
                self.check_cells(no_number, "NaN or infinity", instead)
            else:
                what = f"no {'date' if self.dates else 'number'}"
                self.check_cells(no_number, what, "correct them, or leave those cells empty")
        self.check_size()

    lenient = False
    taken = 0

    @cached_property
    def text(self) -> "pd.Series[str]":
        """The cells as text, without spaces around them; numbers that were read as such as Python writes them."""
        numbers = pd.Series(self.numbers, name=self.name)
        whole = bool((np.floor(self.numbers) == self.numbers)[~self.missing].all())
        return numbers.map(lambda number: "" if number != number else f"{number:.0f}" if whole else repr(float(number)))

    def check_size(self) -> None:
        """Refuse numbers that single precision does not hold."""
        self.check_cells(np.abs(self.numbers) > LARGEST, f"numbers beyond {LARGEST:g}", "write them in a larger unit")

    def is_unique(self) -> bool:
        """Return whether no cell comes twice."""
        if "text" in vars(self):
            return bool(self.text.is_unique)
        return not self.missing.any() and len(np.unique(self.numbers)) == len(self.numbers)

    def write(self, row: int) -> str:
        """Return a cell as text."""
        return str(self.text.iloc[row]) if "text" in vars(self) else f"{self.numbers[row]:.10g}"

    def leave_blanked(self, present: "pd.Series[str]", kind: str | None, formats: Told) -> "pd.Series[str]":
        """Take `BLANKED` for empty if all other cells are numbers or dates; return these."""
        blanked = present.isin(BLANKED)
        if not blanked.any() or blanked.all():
            return present
        rest = present[~blanked]
        dates = kind in (None, "date") and all_match(rest, DATE)
        numbers = parse_cells(rest, "plain", dates)
        if not dates and not np.isfinite(numbers).all() and find_style(rest, formats) == "plain":
            return present
        self.dates, self.missing = dates, self.missing | self.text.isin(BLANKED).to_numpy()
        self.numbers[~self.missing] = numbers
        return rest

    def find_style(self, present: "pd.Series[str]", formats: Told, kind: str | None) -> None:
        """Read the cells in another style than the plain one, if they are not all plain and all fit another."""
        plain = bool(np.isfinite(self.numbers[~self.missing]).all())
        if plain and not (formats.decimal == "comma" and present.str.contains(".", regex=False).any()):
            return
        style = find_style(present, formats)
        dates = style in DATES
        if style == "plain" or (kind == "number" and dates) or (kind == "date" and not dates):
            return
        self.style, self.dates = style, dates
        self.numbers[~self.missing] = parse_cells(present, style, dates)

    def infer_kind(self, present: "pd.Series[str]") -> str:
        """Infer what the column holds from the cells that are not empty."""
        finite = np.isfinite(self.numbers[~self.missing])
        if finite.any() and bool(present[~finite].str.fullmatch(NOT_A_NUMBER).all()):
            return "number"
        return "category" if present.nunique() <= min(100, max(20, len(self.text) // 10)) else "text"

    def check_mixture(self, instead: "str | Callable[[list[str]], str]") -> None:
        """Refuse a column that holds mostly numbers and some text, unless it was told what it holds.

        Args:
            instead: what to do, which ends the sentence; or a function of the cells' texts.
        """
        finite = np.isfinite(self.numbers) & ~self.missing
        if self.kind != "number" and not self.told and finite.sum() > MOSTLY * (~self.missing).sum():
            self.check_cells(~finite & ~self.missing, "text among its numbers", instead)

    def check_cells(self, bad: NDArray[np.bool_], what: str, instead: "str | Callable[[list[str]], str]" = "") -> None:
        """Refuse the column if any of its cells is bad."""
        if bad.any():
            first = int(bad.argmax())
            if callable(instead):
                instead = instead(list(dict.fromkeys(map(self.write, np.flatnonzero(bad).tolist()))))
            instead = instead or "correct them, or, unless it is the target, leave those cells empty"
            raise BadCell(
                f"column {self.name} holds {what} in {int(bad.sum()):,} of {count(len(bad), 'row')} (first: ",
                int(self.rows[first]),
                f", '{self.write(first)}'): {instead}",
            )


@dataclass(frozen=True)
class ColumnEncoder:
    """What the training rows say of a column, by which any cells of it are encoded; see `fit`."""

    name: str
    kind: str
    dates: bool = False
    median: float = 0.0  # fills empty cells
    mean: float = 0.0  # with those filled
    std: float = 0.0  # 0 for a column that does not vary
    marks_empty: bool = False  # whether a feature says which cells are empty
    categories: list[str] = field(default_factory=list)
    edges: list[float] = field(default_factory=list)  # between the tenths of the numbers
    separator: str | None = None  # between the items of a list
    low: float = 0.0
    high: float = 0.0  # of the training rows' numbers
    style: str = "plain"  # how numbers and dates are written; see `losslab.data.formats`
    lenient: bool = False  # whether what is no number counts as empty
    outputs: list[str] = field(default_factory=list)  # whose means stand for a category; none for one-hot
    means: list[list[float]] = field(default_factory=list)  # for each category, of each output, standardised
    unknown: list[float] = field(default_factory=list)  # for a category that no training row has

    def style_of(self, present: "pd.Series[str]") -> str:
        """Return the style of new cells: the training table's, but dates with the year first are always plain."""
        return "plain" if self.dates and all_match(present, DATE) else self.style

    @property
    def plain(self) -> bool:
        """Whether the cells are plain numbers, which can be read as such."""
        return (self.kind, self.style, self.dates) == ("number", "plain", False)

    @classmethod
    def fit(cls, column: Column, train: NDArray[np.int64], separator: str | None = None) -> "ColumnEncoder":
        """Learn from the training rows of a column; the `separator` of a list's items is found by itself if `None`.

        By hand: importing scikit-learn takes 0.8 s, and a fault in a table should be reported at once.
        """
        name, kind, dates = column.name, column.kind, column.dates
        if kind == "category":
            return cls(name, kind, dates, categories=sorted(set(column.text.iloc[train])))
        if kind == "text":
            found = (s for s in ITEM_SEPARATORS if column.text.str.contains(s, regex=False).mean() > 0.5)
            return cls(name, kind, dates, separator=separator or next(found, None))
        empty = column.missing[train]
        known = column.numbers[train][~empty]
        if not known.size:
            return cls(name, kind, dates)
        median = float(np.median(known))
        filled = np.where(empty, median, column.numbers[train])
        return cls(
            name,
            kind,
            dates,
            median,
            float(filled.mean()),
            float(filled.std()) if np.ptp(known) else 0.0,
            bool(empty.any()),
            edges=np.quantile(known, np.linspace(0.1, 0.9, 9)).tolist(),
            low=float(known.min()),
            high=float(known.max()),
            style=column.style,
            lenient=column.lenient,
        )

    def feature_names(self) -> list[str]:
        """Return the names of the features; a column that does not vary over the training rows has none."""
        if self.outputs:
            return [f"{self.name}, mean of {output}" for output in self.outputs]
        if self.kind == "category":
            return [f"{self.name}={known}" for known in self.categories] if len(self.categories) > 1 else []
        return [self.name, *([f"{self.name} is empty"] if self.marks_empty else [])] if self.std else []

    def to_features(self, column: Column) -> Iterable[Array]:
        """Return features `(N,)`: standardised numbers, or 0 and 1 for each category of the training rows."""
        if not self.feature_names():
            return []
        if self.outputs:
            place = pd.Index(self.categories).get_indexer(pd.Index(column.text))  # -1, the last, is unknown
            return list(np.array([*self.means, self.unknown])[place].T)
        if self.kind == "category":
            place = pd.Index(self.categories).get_indexer(pd.Index(column.text))
            return (place == number for number in range(len(self.categories)))
        filled = np.where(column.missing, self.median, column.numbers) if column.missing.any() else column.numbers
        return [(filled - self.mean) / self.std, *([column.missing.astype(float)] if self.marks_empty else [])]

    def to_tokens(self, column: Column) -> list[list[str]]:
        """Return the words of each row: items and words, a category, or in which tenth of the column a number lies."""
        if self.kind == "number":
            tenths = np.searchsorted(np.array(self.edges), column.numbers)
            return [[] if empty else [str(tenth)] for empty, tenth in zip(column.missing, tenths, strict=True)]
        cells = column.text.str.lower()
        return [[cell] if self.kind == "category" else split_words(cell, self.separator) for cell in cells]

    def note_points(self, column: Column) -> list[str]:
        """Return a note where a decimal comma was learned, and each point here may as well be a decimal one."""
        if self.style[:1] != ",":
            return []
        cells = column.text[~column.missing]
        pointed = cells[cells.str.contains(".", regex=False)]
        if pointed.empty or cells.str.contains(",", regex=False).any():
            return []
        some = pointed.iloc[0]
        return [f"{some} is read as {column.numbers[column.text == some][0]:g}, as a point stands between thousands"]

    def note_unknown(self, column: Column) -> str:
        """Return a note on cells that are empty, far off, or of an unknown category; empty if there are none."""
        notes = []
        if self.kind == "number" and column.missing.any():
            notes.append(f"{count(int(column.missing.sum()), 'empty cell')} filled in as in training")
        if self.kind == "number" and self.std:
            width = self.high - self.low
            far = (column.numbers < self.low - width) | (column.numbers > self.high + width)
            if far.any():
                span = f"{self.low:.5g} to {self.high:.5g}"
                notes.append(
                    f"{count(int(far.sum()), 'cell')} far outside of {span}, where the training rows lie: same unit?"
                )
            notes += self.note_points(column)
        odd: list[str] = []
        if self.kind == "category":
            odd = column.text[~column.text.isin(self.categories)].tolist()
        if len(odd):
            some = ", ".join(value or "an empty cell" for value in sorted(set(odd))[:3])
            as_what = "the mean" if self.outputs else "none"
            notes.append(
                f"{count(len(odd), 'cell')} of a category that no training row has ({some}): encoded as {as_what}"
            )
        return f"{self.name}: {'; '.join(notes)}" if notes else ""


def type_of(name: str, kind: str) -> str:
    """Return what to type to say what a column holds.

    >>> print(type_of("age", "number"), type_of("size (m)", "number"))
    data.types={age:number} 'data.types={size (m):number}'
    """
    return (
        shlex.quote(f"data.types={{{name}:{kind}}}") if re.search(r"[^\w.-]", name) else f"data.types={{{name}:{kind}}}"
    )


def offer_types(name: str, missing: Sequence[str], cells: Sequence[str]) -> str:
    """Say what to type for a column that mixes numbers with these texts, where `missing` already count as empty.

    >>> offer_types("age", [], ["-"]).partition(",")[0]
    "type data.types={age:number} to take them for empty cells ('data.missing=[-]' does so in all columns)"
    """
    every = (
        f" ({write_setting('data.missing', [*missing, *cells])} does so in all columns)" if len(cells) <= MANY else ""
    )
    as_number, as_category = (type_of(name, kind) for kind in ("number", "category"))
    return (
        f"type {as_number} to take them for empty cells{every}, {as_category} if these are no numbers, or correct them"
    )


def offer_empty(missing: Sequence[str], cells: Sequence[str]) -> str:
    """Say what to type to leave these cells of a column empty, where `missing` already count as empty.

    >>> offer_empty(["-"], ["inf"])
    "type 'data.missing=[-,inf]' to leave those cells empty, or correct them"
    """
    if len(cells) > MANY:
        return "correct them, or leave those cells empty"
    return f"type {write_setting('data.missing', [*missing, *cells])} to leave those cells empty, or correct them"


def to_number(text: str) -> float:
    """Return the number in a text; NaN if it is none.

    >>> to_number("-999"), to_number("-")
    (-999.0, nan)
    """
    try:
        return float(text)
    except ValueError:
        return float("nan")


def are_numbers(values: "pd.Series[Any]") -> bool:
    """Return whether cells were read as numbers, some of them not empty and none infinite."""
    if values.dtype != np.float64:
        return False
    numbers = values.to_numpy()
    return not np.isinf(numbers).any() and not np.isnan(numbers).all()


def split_words(cell: str, separator: str | None) -> list[str]:
    """Split text into its words, their stems and their number; a list also into its items, whose number counts then.

    >>> split_words("the seventh seal", None)
    ['the', 'seventh', 'seal', 'seve-', '#3']
    >>> split_words("bibi andersson|gunnar", "|")
    ['bibi andersson', 'gunnar', 'bibi', 'andersson', 'gunnar', '#2']
    """
    items = [item.strip() for item in cell.split(separator) if item.strip()] if separator else []
    words = WORD.findall(cell)
    stems = [] if separator else [f"{word[:STEM]}-" for word in words if len(word) > STEM]
    return [*items, *words, *stems, f"#{len(items or words)}"]
