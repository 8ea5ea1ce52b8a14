"""Columns of a table: what each holds, and how it becomes numbers or words by the training rows alone."""

import copy
import re
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.errors import Refused

MISSING = ("", "NA", "N/A", "null", "NULL", "?")  # what an empty cell may hold
NOT_A_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T].*)?")
ITEM_SEPARATORS = ("|", ";")  # a comma stands in ordinary text, too
WORD = re.compile(r"[^\W_]+")
STEM = 4  # letters

Array = NDArray[Any]


class Column:
    """One column, and what it holds: `number`, `category` or `text`.

    Args:
        values: its cells.
        like: the same column of the training table, if this is a table of new rows: what that holds, this must hold.

    Raises:
        Refused: if a cell is not what the others are.

    >>> column = Column(pd.Series(["1", "", "3"], name="age"))
    >>> column.kind, column.numbers, column.missing
    ('number', array([ 1., nan,  3.]), array([False,  True, False]))
    """

    dates: bool
    kind: str

    def __init__(self, values: "pd.Series[Any]", like: "Column | None" = None) -> None:
        self.name, self.own = str(values.name), len(values)  # `own`: rows without those that `append` adds
        self.text = values.astype(str).str.strip()
        self.missing: NDArray[np.bool_] = self.text.isin(MISSING).to_numpy()
        present = self.text[~self.missing]
        self.dates = like.dates if like else bool(present.str.fullmatch(DATE).all())
        self.numbers = np.full(len(values), np.nan)
        self.numbers[~self.missing] = parse_cells(present, self.dates)
        self.kind = like.kind if like else self.infer_kind(present)
        no_number = ~np.isfinite(self.numbers) & ~self.missing
        if self.kind == "number":
            what = "NaN or infinity" if like is None else f"no {'date' if self.dates else 'number'}"
            self.check_cells(no_number, what)
        elif self.kind == "text" and like is None and np.isfinite(self.numbers[~self.missing]).mean() > 0.9:
            self.check_cells(no_number, "text among its numbers")

    def infer_kind(self, present: "pd.Series[str]") -> str:
        """Infer what the column holds from the cells that are not empty."""
        finite = np.isfinite(self.numbers[~self.missing])
        if finite.any() and (finite | present.str.fullmatch(NOT_A_NUMBER).to_numpy()).all():
            return "number"
        return "category" if present.nunique() <= min(100, max(20, len(self.text) // 10)) else "text"

    def check_cells(self, bad: NDArray[np.bool_], what: str) -> None:
        """Refuse the column if any of its cells is bad."""
        if bad.any():
            first = int(bad.argmax())
            raise Refused(
                f"column {self.name} holds {what} in {int(bad.sum())} of {len(bad)} rows (first: line {first + 2}, "
                f"'{self.text.iloc[first]}'): correct them, or, unless it is the target, leave those cells empty"
            )

    def append(self, more: "Column") -> "Column":
        """Return this column with the cells of another table at its end; its training rows stay where they are."""
        longer = copy.copy(self)
        longer.text = pd.concat([self.text, more.text], ignore_index=True)
        longer.missing = np.concatenate([self.missing, more.missing])
        longer.numbers = np.concatenate([self.numbers, more.numbers])
        return longer

    def to_features(self, train: NDArray[np.int64]) -> dict[str, Array]:
        """Return named columns of numbers: standardised, or one-hot over the categories of the training rows.

        By hand: importing scikit-learn takes 0.8 s, and a fault in a table should be reported at once.
        """
        if self.kind == "category":
            seen = sorted(set(self.text.iloc[train]))
            return {f"{self.name}={c}": (self.text == c).to_numpy(float) for c in seen} if len(seen) > 1 else {}
        known = self.numbers[train][~self.missing[train]]
        if not known.size or known.std() == 0:
            return {}
        filled = np.where(self.missing, np.median(known), self.numbers)
        found = {self.name: (filled - filled[train].mean()) / filled[train].std()}
        if self.missing[train].any():
            found[f"{self.name} is empty"] = self.missing.astype(float)
        return found

    def to_tokens(self, train: NDArray[np.int64], separator: str | None) -> list[list[str]]:
        """Return the words of each row; for a number, in which tenth of the training rows it lies.

        Args:
            train: row numbers of the training rows.
            separator: between the items of a list in one cell; found by itself if `None`.
        """
        if self.kind == "number":
            known = self.numbers[train][~self.missing[train]]
            edges = np.quantile(known, np.linspace(0.1, 0.9, 9)) if known.size else np.zeros(0)
            tenths = np.searchsorted(edges, self.numbers)
            return [[] if empty else [str(tenth)] for empty, tenth in zip(self.missing, tenths, strict=True)]
        cells = self.text.str.lower()
        if self.kind == "category":
            return [[cell] for cell in cells]
        own = cells.iloc[: self.own]
        sign = separator or next((s for s in ITEM_SEPARATORS if own.str.contains(s, regex=False).mean() > 0.5), None)
        return [split_words(cell, sign) for cell in cells]


def parse_cells(cells: "pd.Series[str]", dates: bool) -> Array:
    """Return numbers, or dates as days since 1970; NaN for what is neither."""
    if dates:
        days = pd.to_datetime(cells, errors="coerce", utc=True, format="ISO8601")
        return ((days - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(float)
    return pd.to_numeric(cells, errors="coerce").to_numpy(float)


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
