"""What was made of the columns of a user's table, for the user to look over."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from losslab.data.columns import ID, Column, ColumnEncoder, type_of
from losslab.data.formats import may_be_thousands, say_style
from losslab.data.notes import count, few, write_setting
from losslab.data.numbers import have_fractions

if TYPE_CHECKING:
    import pandas as pd

COPY = 1 - 1e-9  # a correlation above it is a copy
FEW = 10  # rows: fewer are counted by many a column
SHOWN, WIDEST = 15, 40  # rows of the table that are printed, and characters of a cell
LONG = 12  # characters of a number: more say nothing of a range
CODES = re.compile(
    r"(^|[\s_.-])(?i:id|code|zip|plz|postcode|state|county|country|district|region|firm|station|store|subject|patient"
    r"|family)(?i:[\s_.-]?(id|code|nr|no))?$|[a-z](Id|ID|Code)$"
)
HEADING = ("column", "type", "empty", "range", "what was done")


def describe_columns(
    columns: Sequence[Column], encoders: Sequence[ColumnEncoder], buckets: int | None
) -> list[tuple[str, ...]]:
    """Return a row for each column: its name, type, empty cells, range, and what was done."""
    kinds = ["date" if column.dates and column.kind == "number" else column.kind for column in columns]
    each = zip(columns, kinds, encoders, strict=True)
    return [(c.name, kind, str(int(c.missing.sum())), span(c), done(c, e, buckets)) for c, kind, e in each]


def describe_weight(name: str, weight: NDArray[np.float64]) -> tuple[str, ...]:
    """Return the row of the column that says what each row counts.

    >>> describe_weight("n", np.array([1.0, 2.5]))
    ('n', 'weight', '0', '1 to 2.5', 'how much each row counts in the loss and in all metrics')
    """
    span = f"{weight.min():g} to {weight.max():g}"
    return name, "weight", "0", span, "how much each row counts in the loss and in all metrics"


def span(column: Column) -> str:
    """Return the range of a column's numbers or dates, or how many different values it has.

    >>> import pandas as pd
    >>> span(Column(pd.Series(["0.1", "2.123456789012345"]))), span(Column(pd.Series(["a", "b"])))
    ('0.1 to 2.12346', '2 values')
    """
    if column.kind != "number":
        return count(column.text[~column.missing].nunique(), "value")
    known = np.flatnonzero(~column.missing)
    if not len(known):
        return "no number"
    ends = [known[pick(column.numbers[known])] for pick in (np.argmin, np.argmax)]
    written = [column.write(row) for row in ends]
    long = not column.dates and max(map(len, written)) > LONG
    return " to ".join(f"{column.numbers[row]:.6g}" for row in ends) if long else " to ".join(written)


def done(column: Column, encoder: ColumnEncoder, buckets: int | None) -> str:
    """Return what was done to a column."""
    said = say_style(column.style) if column.kind == "number" else ""
    written = f"{said}; " if said else ""
    if buckets is not None:
        return written + {"number": "tenths, as words", "category": "a word", "text": "words"}[column.kind]
    if not encoder.feature_names():
        return "left out: one value only"
    if encoder.outputs:
        return "mean target of each category"
    if encoder.kind == "category":
        return "one-hot"
    filled = f", {column.taken} that are none taken as empty" if column.taken else ""
    return f"{written}standardised{', empty ones the median and marked' if encoder.marks_empty else ''}{filled}"


def find_suspects(columns: Sequence[Column], y: NDArray[Any], train: NDArray[np.int64]) -> list[str]:
    """Return notes on columns that name rows, and on those that copy the target."""
    notes = []
    for column in columns:
        drop = f"type {write_setting('data.drop', [column.name])} unless it"
        if ID.search(column.name) and column.is_unique():
            notes.append(f"{column.name} differs in every row and is called like an id: {drop} says more")
        elif counts_rows(column):
            notes.append(f"{column.name} counts the rows: {drop} says more")
        elif copies(column, y, train):
            notes.append(f"{column.name} tells the target of every row: {drop} is known when predictions are made")
        if column.kind == "number" and column.style == "plain" and not column.told and has_codes(column):
            notes.append(
                f"{column.name} begins with 0 as codes do, and is read as numbers: type "
                f"{type_of(column.name, 'category')} if they are codes"
            )
        elif are_codes(column):
            notes.append(
                f"{column.name} is read as numbers: type {type_of(column.name, 'category')} if they are codes, whose "
                "size means nothing"
            )
    return notes


def counts_rows(column: Column) -> bool:
    """Return whether a column numbers the rows of its file, in their order or backwards.

    >>> import pandas as pd
    >>> counts_rows(Column(pd.Series(map(str, range(1, 21))))), counts_rows(Column(pd.Series(["1", "2", "4"] * 7)))
    (True, False)
    """
    if column.kind != "number" or column.dates or column.missing.any() or len(column.rows) < FEW:
        return False
    rows = column.rows.to_numpy()
    return bool(np.ptp(column.numbers - rows) == 0 or np.ptp(column.numbers + rows) == 0)


def note_points(columns: Sequence[Column], targets: Mapping[str, "pd.Series[Any]"], y: NDArray[Any]) -> list[str]:
    """Return a note where every point in a table, also of numeric `targets`, may stand between thousands: 543.221."""
    plain = [c for c in columns if c.kind == "number" and c.style == "plain" and not c.dates]
    cells = {c.name: c.text[~c.missing] for c in plain if "text" in vars(c)} | {**targets}
    unclear = [name for name, known in cells.items() if may_be_thousands(known)]
    others: list[Any] = [c.numbers for c in plain if c.name not in unclear]
    others += [y[:, place] for place, name in enumerate(targets) if name not in unclear]
    if not unclear or any(map(have_fractions, others)):
        return []
    some = next(cell for cell in cells[unclear[0]] if "." in cell)
    return [
        f"{few(unclear)}: {some} is read as {float(some):g}, with a decimal point; type data.decimal=comma if it is "
        f"{some.replace('.', '')}, with a point between thousands"
    ]


def note_untested(y: NDArray[Any], test: NDArray[np.int64], outputs: Sequence[str]) -> list[str]:
    """Return a note on the classes or labels that no test row has, whose errors no test metric counts.

    >>> note_untested(np.array([0, 1, 0, 0]), np.array([2, 3]), ["a", "b"])
    ['all test rows are of class a: metrics of them say nothing of b']
    >>> note_untested(np.array([[1, 0], [0, 1], [0, 1]]), np.array([1, 2]), ["a", "b"])
    ['no test row has label a: test metrics say nothing of it']
    """
    if y.dtype.kind == "f":
        return []
    what = "class" if y.ndim == 1 else "label"
    tested = set((y[test] if y.ndim == 1 else np.flatnonzero(y[test].any(0))).tolist())
    lacking = [name for place, name in enumerate(outputs) if place not in tested]
    if not lacking:
        return []
    if y.ndim == 1 and len(tested) == 1:
        return [f"all test rows are of class {outputs[min(tested)]}: metrics of them say nothing of {few(lacking)}"]
    several = f"{what}{'es' if what == 'class' else 's'} {few(lacking)}"
    named = f"{what} {lacking[0]}" if len(lacking) == 1 else several
    return [f"no test row has {named}: test metrics say nothing of {'it' if len(lacking) == 1 else 'them'}"]


def has_codes(column: Column) -> bool:
    """Return whether numbers are written with as many digits and some with 0 before them, as postcodes are."""
    if "text" not in vars(column):  # read as numbers, which none of its cells forbade
        return False
    cells = column.text[~column.missing]
    return bool(cells.str.fullmatch(r"0\d+").any()) and cells.str.len().nunique() == 1


def are_codes(column: Column) -> bool:
    """Return whether a column is called like a code and holds whole numbers that come again.

    >>> import pandas as pd
    >>> are_codes(Column(pd.Series(["1", "7", "9"] * 9, name="state"))), are_codes(Column(pd.Series(["1", "7"] * 9)))
    (True, False)
    """
    if column.kind != "number" or column.dates or column.told or not CODES.search(column.name):
        return False
    known = column.numbers[~column.missing]
    return 2 < len(np.unique(known)) <= len(known) / 2 and bool((known == np.floor(known)).all())


def count_equal(x: NDArray[Any], y: NDArray[Any]) -> int:
    """Count the rows that are equal to an earlier one, in features and targets.

    >>> count_equal(np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]]), np.array([0, 0, 0]))
    1
    """
    draws = np.random.default_rng(0)
    of_x, of_y = draws.normal(size=x.shape[1]), draws.normal(size=y[:1].size)
    parts = range(0, len(x), 2**16)  # at once, they would be copied in double precision
    pairs = ((x[start : start + 2**16], y[start : start + 2**16]) for start in parts)
    mixed = np.concatenate([x_part @ of_x + y_part.reshape(len(y_part), -1) @ of_y for x_part, y_part in pairs])
    return len(mixed) - len(np.unique(mixed))


def copies(column: Column, y: NDArray[Any], train: NDArray[np.int64]) -> bool:
    """Return whether a column says what the target is: a linear function of a number, or a name for each class.

    >>> import pandas as pd
    >>> copies(Column(pd.Series(["1", "2", "5"])), np.array([[10.0], [20.0], [50.0]]), np.arange(3))
    True
    """
    targets = y[train].reshape(len(train), -1)
    if column.kind == "number" and y.dtype.kind == "f":
        numbers = column.numbers[train]
        known = ~column.missing[train]
        if known.sum() < 3 or not np.ptp(numbers[known]):
            return False
        a = numbers[known] - numbers[known].mean()
        b = targets[known] - targets[known].mean(0, dtype=float)
        together, alone = abs(a @ b), np.sqrt((a**2).sum() * (b**2).sum(0))
        return bool((together >= COPY * alone)[alone > 0].any())
    if y.dtype.kind == "f" or column.kind == "text":
        return False
    cells = column.numbers[train] if column.kind == "number" else column.text.to_numpy(str)[train]
    values, code = np.unique(cells, return_inverse=True)
    if not 1 < len(values) <= min(100, len(train) // 4):
        return False
    return any(is_told_by(code, target, len(values)) for target in targets.T)


def is_told_by(code: NDArray[Any], target: NDArray[Any], values: int) -> bool:
    """Return whether rows of one code have one target, and not all rows the same."""
    low, high = (np.full(values, edge) for edge in (target.max(), target.min()))
    np.minimum.at(low, code, target)
    np.maximum.at(high, code, target)
    return bool((low == high).all() and target.min() < target.max())


def write_columns(rows: Sequence[tuple[str, ...]], beside: int = 0) -> str:
    """Return the table as aligned text, its first rows, and how many there are of each type beyond.

    Args:
        beside: how many letters stand beside it.

    >>> print(write_columns([("age", "number", "0", "1 to 9", "standardised")]))
    column  type    empty   range  what was done
    age     number      0  1 to 9  standardised
    """
    import pandas as pd

    from losslab.spreadsheet import text_table

    text = text_table(pd.DataFrame([[short(cell) for cell in row] for row in rows[:SHOWN]], columns=HEADING), beside)
    kinds = [row[1] for row in rows[SHOWN:]]
    more = ", ".join(f"{kinds.count(kind)} of type {kind}" for kind in dict.fromkeys(kinds))
    return f"{text}\nand {len(kinds)} more: {more}" if kinds else text


def short(text: str) -> str:
    """Return a text that is not wider than a column."""
    return text if len(text) <= WIDEST else f"{text[: WIDEST - 1]}…"
