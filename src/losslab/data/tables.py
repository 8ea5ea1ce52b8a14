"""Tables: a CSV file, or a frame at hand, becomes vectors for most models or tokens for a bag of words.

Nothing here imports torch: a fault in a table is told in under a second. All statistics (medians, means, categories,
bins) come from the training rows alone; the names of the classes and labels come from the whole target column.
"""

import copy
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.data.dataset import Array, Dataset, New, Split, split_rows
from losslab.data.reading import table
from losslab.data.truth import TRUTHS, find_truth, strata
from losslab.errors import Refused, nearest

CELL = 100_000  # letters of a list of labels
SHIPPED = Path(__file__).parent / "files"
MISSING = ("", "NA", "N/A", "null", "NULL", "?")  # what an empty cell may hold
NOT_A_NUMBER = re.compile(r"[+-]?(nan|inf|infinity)", re.IGNORECASE)
DATE = re.compile(r"\d{4}-\d{2}-\d{2}([ T].*)?")
SEPARATORS = ("|", ";", ",")
QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")  # an item of a list as Python or JSON writes it
HEIGHTS = {
    "height_cm": (152.4, 157.5, 160.0, 165.1, 172.7, 177.8, 185.4, 190.5, 195.6, 203.2),
    "weight_kg": (50.0, 54.4, 56.7, 59.0, 63.5, 68.0, 72.6, 77.1, 81.6, 90.7),
}


def csv(path: str, target: str | list[str], **settings: Any) -> Dataset:
    """The user's own table; see `encode` for the settings.

    Raises:
        Refused: where the file is missing, empty or not a table, and for all that `encode` refuses.
    """
    return encode(table(path, "data.path"), target, **settings)


def shipped(file: str, target: str, **settings: Any) -> Dataset:
    """A table that comes with losslab."""
    return csv(str(SHIPPED / file), target, **settings)


def diabetes(**settings: Any) -> Dataset:
    """scikit-learn's 442 diabetes patients, in their measured units."""
    from sklearn.datasets import load_diabetes

    return encode(load_diabetes(as_frame=True, scaled=False).frame, "target", **settings)


def heights(**settings: Any) -> Dataset:
    """A textbook's ten people, all of them in every part: the least-squares line has a mean squared error of 1.8618."""
    everyone = np.arange(10)
    rows = {"train": everyone, "val": everyone, "test": everyone}
    return encode(pd.DataFrame(HEIGHTS), "weight_kg", val=0, test=0, rows=rows, **settings)


def encode(
    frame: pd.DataFrame,
    target: str | list[str],
    *,
    task: str,
    takes: list[str],
    val: float,
    test: float,
    seed: int,
    drop: list[str] | None = None,
    separator: str | None = None,
    buckets: int = 32768,
    outliers: float = 0.0,
    rows: Split | None = None,
    new: str | None = None,
    truth: str | None = None,
) -> Dataset:
    """From a frame to a dataset: infer what each column holds, split, and encode by the training rows.

    Numbers (and dates, as days) are standardised, empty cells filled with the median and marked; categories become
    one-hot. For a model that takes tokens, these are hashed: each word and its first four letters, each item of a
    list, how many there are; each category; and the tenth of a column's range in which a number lies.

    Args:
        target: a column; several for multi-output regression or 0/1 labels.
        task: the task's name.
        takes: what the model takes; vectors are preferred over tokens.
        val, test, seed: the split.
        drop: columns to leave out.
        separator: stands between labels, or between items of a list, in one cell; found by itself when `None`.
        buckets: number of token ids.
        outliers: the part of the training rows whose regression target is multiplied by ten, as by a slipped decimal
            point; the rows that are validated and tested on stay clean.
        rows: a fixed split instead of `val` and `test`.
        truth: `numbers`, `class` or `labels`; may be left out for losslab's own tasks.
        new: the file of another table with the same features, with or without the target, to be predicted on.

    Raises:
        Refused: for columns that are missing, targets that do not fit the task, NaN, infinity, and text that the
            model cannot take.
    """
    truth = find_truth(task, truth)
    targets = [target] if isinstance(target, str) else list(target)
    for name, key in [*((name, "data.target") for name in targets), *((name, "data.drop") for name in drop or [])]:
        if name not in frame.columns:
            raise Refused(f"{key}={name} is not a column; {nearest(str(name), map(str, frame.columns))}")
    y, outputs = encode_target(frame[targets], truth, task, separator)
    rows = rows or split_rows(len(frame), val=val, test=test, seed=seed, strata=strata(y, truth))
    slipped = np.random.default_rng(seed).permutation(rows["train"])[: round(outliers * len(rows["train"]))]
    if len(slipped) and truth != "numbers":
        raise Refused(f"data.outliers={outliers} is for numbers, and task={task} has {truth}: type data.outliers=0")
    y[slipped] *= 10
    columns = [Column(frame[name]) for name in frame.columns if name not in targets and name not in (drop or [])]
    if not columns:
        raise Refused(f"the table has no column besides {', '.join(targets)}: it needs at least one feature")
    words = [column for column in columns if column.kind == "text"]
    titles = words[0].text.tolist() if words else None
    notes = [f"{c.name}: {n} empty cells filled in" for c in columns if (n := int(c.missing.sum()))]
    unseen = read_new(new, columns, rows["train"]) if new else None
    if unseen is not None:
        columns = [column.followed_by(more) for column, more in zip(columns, unseen[0], strict=True)]
    if len(slipped):
        notes.append(f"{len(slipped)} training targets were multiplied by ten (data.outliers={outliers})")
    if "vector" in takes:
        if words:
            listed = ",".join(column.name for column in words)
            raise Refused(
                f"the model takes {' or '.join(takes)}, but these columns hold text: {listed}; "
                f"type data.drop=[{listed}] or model=bag_of_words"
            )
        encoded = [column.features(rows["train"]) for column in columns]
        notes += [f"{c.name}: one value only, left out" for c, found in zip(columns, encoded, strict=True) if not found]
        features = [feature for found in encoded for feature in found]
        if not features:
            raise Refused("no column varies over the training rows: there is nothing to learn from")
        x = np.stack([values for _, values in features], 1).astype(np.float32)
        axis = (
            columns[0].numbers[: len(y)] if len(columns) == len(features) == 1 and columns[0].kind == "number" else None
        )
        names = [name for name, _ in features]
        more = New(x[len(y) :], *unseen[1:]) if unseen else None
        return Dataset(x[: len(y)], y, rows, (x.shape[1],), outputs, names, axis, titles, notes, new=more)
    lists = [[] for _ in columns[0].text]  # type: list[list[int]]
    for column in columns:
        for row, tokens in enumerate(column.tokens(rows["train"], separator)):
            lists[row] += [zlib.crc32(f"{column.name}={token}".encode()) % (buckets - 1) + 1 for token in tokens]
    x = np.zeros((len(lists), max(1, max(map(len, lists)))), np.int64)
    for row, ids in enumerate(lists):
        x[row, : len(ids)] = ids
    more = New(x[len(y) :], *unseen[1:]) if unseen else None
    return Dataset(x[: len(y)], y, rows, (buckets,), outputs, [c.name for c in columns], None, titles, notes, new=more)


def read_new(
    path: str, columns: "list[Column]", train: NDArray[np.int64]
) -> "tuple[list[Column], list[str], list[str]]":
    """The same columns of another table, a name for each of its rows, and what is to be known of them.

    Raises:
        Refused: where there is no such table, it lacks a column, or a cell is no number where all others were.
    """
    frame = table(path, "input")
    lacking = [column.name for column in columns if column.name not in frame.columns]
    if lacking:
        raise Refused(
            f"input={path} lacks {', '.join(lacking)}, which the model was trained on; "
            f"its columns are {', '.join(map(str, frame.columns))}"
        )
    try:
        found = [Column(frame[column.name], like=column) for column in columns]
    except Refused as error:
        raise Refused(f"input={path}: {error}") from None
    notes = []
    for known, more in zip(columns, found, strict=True):
        if known.kind == "number" and more.missing.any():
            notes.append(f"{more.name}: {int(more.missing.sum())} empty cells filled in as in training")
        odd = more.text[~more.text.isin(set(known.text.iloc[train]))] if known.kind == "category" else more.text[:0]
        if len(odd):
            some = ", ".join(value or "an empty cell" for value in sorted(set(odd))[:3])
            notes.append(f"{more.name}: {len(odd)} cells hold what no training row did ({some}): none of the known")
    words = [column for column in found if column.kind == "text"]
    return found, words[0].text.tolist() if words else [str(row) for row in range(len(frame))], notes


class Column:
    """One column, and what it holds: `number`, `category` or `text`; in another table, what the one `like` it does."""

    kind: str
    dates: bool

    def __init__(self, values: "pd.Series[Any]", like: "Column | None" = None) -> None:
        self.name, self.own = str(values.name), len(values)
        self.text = values.astype(str).str.strip()
        self.missing: NDArray[np.bool_] = self.text.isin(MISSING).to_numpy()
        present = self.text[~self.missing]
        self.numbers = np.full(len(values), np.nan)
        self.dates = bool(present.str.fullmatch(DATE).all()) if like is None else like.dates
        if self.dates:
            days = pd.to_datetime(present, errors="coerce", utc=True, format="ISO8601")
            parsed = ((days - pd.Timestamp(0, tz="UTC")) / pd.Timedelta(days=1)).to_numpy(float)
        else:
            parsed = pd.to_numeric(present, errors="coerce").to_numpy(float)
        self.numbers[~self.missing] = parsed
        if like is not None:
            self.kind = like.kind
            if self.kind == "number":
                self.refuse(~np.isfinite(self.numbers) & ~self.missing, f"no {'date' if self.dates else 'number'}")
            return
        odd = present.str.fullmatch(NOT_A_NUMBER).to_numpy()
        different = present.nunique()
        if np.isfinite(parsed).any() and not (~np.isfinite(parsed) & ~odd).any():
            self.kind = "number"
            self.refuse(~np.isfinite(self.numbers) & ~self.missing, "NaN or infinity")
        elif different <= min(100, max(20, len(values) // 10)):
            self.kind = "category"
        else:
            self.kind = "text"
            if np.isfinite(parsed).mean() > 0.9:
                self.refuse(~np.isfinite(self.numbers) & ~self.missing, "text among its numbers")

    def refuse(self, bad: NDArray[np.bool_], what: str) -> None:
        """Refuse the column if any of its rows is bad."""
        if bad.any():
            first = int(bad.argmax())
            raise Refused(
                f"column {self.name} holds {what} in {int(bad.sum())} of {len(bad)} rows (first: line {first + 2}, "
                f"'{self.text.iloc[first]}'): correct them, or, unless it is the target, leave those cells empty"
            )

    def followed_by(self, more: "Column") -> "Column":
        """This column with cells of another table at its end: its statistics stay those of its own training rows."""
        longer = copy.copy(self)
        longer.text = pd.concat([self.text, more.text], ignore_index=True)
        longer.missing = np.concatenate([self.missing, more.missing])
        longer.numbers = np.concatenate([self.numbers, more.numbers])
        return longer

    def features(self, train: NDArray[np.int64]) -> list[tuple[str, Array]]:
        """Named columns of numbers: standardised, or one-hot over the categories of the training rows."""
        if self.kind == "category":
            seen = sorted(set(self.text.iloc[train]))
            return [(f"{self.name}={c}", (self.text == c).to_numpy(float)) for c in seen] if len(seen) > 1 else []
        known = self.numbers[train][~self.missing[train]]
        if not known.size or known.std() == 0:
            return []
        filled = np.where(self.missing, np.median(known), self.numbers)
        found = [(self.name, (filled - filled[train].mean()) / filled[train].std())]
        if self.missing[train].any():
            found.append((f"{self.name} is empty", self.missing.astype(float)))
        return found

    def tokens(self, train: NDArray[np.int64], separator: str | None) -> list[list[str]]:
        """The words of each row."""
        if self.kind == "number":
            known = self.numbers[train][~self.missing[train]]
            edges = np.quantile(known, np.linspace(0.1, 0.9, 9)) if known.size else np.zeros(0)
            tenth = np.searchsorted(edges, self.numbers)
            return [[] if gone else [str(t)] for gone, t in zip(self.missing, tenth, strict=True)]
        lowered = self.text.str.lower()
        if self.kind == "category":
            return [[value] for value in lowered]
        own = lowered.iloc[: self.own]
        sign = separator or next((s for s in SEPARATORS[:2] if own.str.contains(s, regex=False).mean() > 0.5), None)
        found: list[list[str]] = []
        for value in lowered:
            items = [item.strip() for item in value.split(sign) if item.strip()] if sign else []
            words = re.findall(r"[^\W_]+", value)
            stems = [] if sign else [f"{word[:4]}-" for word in words if len(word) > 4]
            found.append([*items, *words, *stems, f"#{len(items or words)}"])
        return found


def encode_target(frame: pd.DataFrame, truth: str, task: str, separator: str | None) -> tuple[Array, list[str]]:
    """Return the canonical target, and the names of its outputs."""
    names = [str(name) for name in frame.columns]
    columns = [Column(frame[name]) for name in frame.columns]
    for column in columns:
        if truth != "labels" or len(columns) > 1:
            column.refuse(column.missing, "no value")
    if truth == "numbers":
        return number_target(columns, task), names
    if truth == "class":
        if len(columns) > 1:
            raise Refused(f"task={task} has one target, not {', '.join(names)}: type data.target={names[0]}")
        return class_target(columns[0])
    if len(columns) > 1:
        return label_columns(columns), names
    return label_lists(columns[0], separator)


def number_target(columns: list[Column], task: str) -> Array:
    """Return numbers, as they are."""
    for column in columns:
        if column.kind != "number":
            some = ", ".join(sorted(set(column.text))[:3])
            raise Refused(
                f"data.target={column.name} holds text ({some}), but task={task} needs numbers: "
                f"type task={TRUTHS['class']}, or name a column of numbers"
            )
        if np.ptp(column.numbers) == 0:
            raise Refused(f"data.target={column.name} is {column.numbers[0]:g} in every row: there is nothing to learn")
    return np.stack([column.numbers for column in columns], 1).astype(np.float32)


def class_target(column: Column) -> tuple[Array, list[str]]:
    """Each different value is a class, in the order of the numbers or of the alphabet."""
    classes, index = np.unique(column.text.to_numpy(str), return_inverse=True)
    if column.kind == "number":
        numbers, index = np.unique(column.numbers, return_inverse=True)
        classes = np.array([f"{number:g}" for number in numbers])
        if (numbers != np.round(numbers)).any() or len(numbers) > max(20, len(index) // 2):
            raise Refused(
                f"data.target={column.name} holds {len(numbers)} different numbers, which are no classes: "
                f"type task={TRUTHS['numbers']}, or name a column of classes"
            )
    if len(classes) == 1:
        raise Refused(f"data.target={column.name} has one class only ({classes[0]}): there is nothing to tell apart")
    if len(classes) > len(index) // 2:
        raise Refused(
            f"data.target={column.name} has {len(classes)} classes in {len(index)} rows: too few rows of each"
        )
    return index.astype(np.int64), classes.tolist()


def label_columns(columns: list[Column]) -> Array:
    """Columns of 0 and 1."""
    for column in columns:
        if column.kind != "number" or not np.isin(column.numbers, (0, 1)).all():
            some = ", ".join(sorted(set(column.text) - {"0", "1"})[:3])
            raise Refused(f"label column {column.name} holds {some}: with several targets each must hold 0 or 1")
    return np.stack([column.numbers for column in columns], 1).astype(np.int64)


def label_lists(column: Column, separator: str | None) -> tuple[Array, list[str]]:
    """One column of labels with a separator between them; an empty cell has none."""
    return multi_hot(labels_of(column.text, separator), column.name)


def labels_of(cells: "pd.Series[str]", separator: str | None) -> list[list[str]]:
    """The labels in each cell: with a separator between them, or written as a list, such as `['Comedy', 'Drama']`.

    >>> labels_of(pd.Series(["a | b", "b", ""]), None)
    [['a', 'b'], ['b'], []]
    >>> labels_of(pd.Series(["['a', 'b c']", "[]"]), None)
    [['a', 'b c'], []]
    """
    if (longest := cells.str.len().max()) > CELL:
        raise Refused(f"a list of labels has {longest:,} letters: type data.target=COLUMN of a column of labels")
    if separator is None and written_as_list(cells):
        quoted = [[single or double for single, double in QUOTED.findall(cell)] for cell in cells]
        items = [found or cell[1:-1].split(",") for cell, found in zip(cells, quoted, strict=True)]
    else:
        sign = separator or max(SEPARATORS, key=lambda s: int(cells.str.contains(s, regex=False).sum()))
        items = [cell.split(sign) for cell in cells]
    return [[label.strip() for label in row if label.strip()] for row in items]


def written_as_list(cells: "pd.Series[str]") -> bool:
    """Whether each cell that is not empty stands in brackets."""
    filled = cells[cells != ""]
    return bool(len(filled)) and bool((filled.str.startswith("[") & filled.str.endswith("]")).all())


def multi_hot(rows: list[list[str]], name: str) -> tuple[Array, list[str]]:
    """0 and 1 for each label of each row, and the names of the labels."""
    names = sorted({label for row in rows for label in row})
    if len(names) < 2:
        raise Refused(f"data.target={name} has one label only ({', '.join(names)}): there is nothing to tell apart")
    if len(names) > max(20, len(rows) // 2):
        raise Refused(
            f"data.target={name} has {len(names)} labels in {len(rows)} rows, such as '{names[0]}': "
            "name a column of labels, or type data.separator="
        )
    position = {label: i for i, label in enumerate(names)}
    y = np.zeros((len(rows), len(names)), np.int64)
    for row, labels in enumerate(rows):
        y[row, [position[label] for label in labels]] = 1
    return y, names
