"""Tables: a CSV file, or a frame, becomes vectors for most models or tokens for a bag of words.

Nothing here imports torch, so a fault in a table is reported in under a second. All statistics (medians, means,
categories, quantiles) come from the training rows alone; names of classes and labels come from the whole target column.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.data.columns import Column
from losslab.data.dataset import Array, Dataset, New, Split, split_rows
from losslab.data.reading import read_table
from losslab.data.targets import encode_target
from losslab.data.truth import find_truth, stratify
from losslab.errors import Refused, nearest

SHIPPED = Path(__file__).parent / "files"
HEIGHTS = {
    "height_cm": (152.4, 157.5, 160.0, 165.1, 172.7, 177.8, 185.4, 190.5, 195.6, 203.2),
    "weight_kg": (50.0, 54.4, 56.7, 59.0, 63.5, 68.0, 72.6, 77.1, 81.6, 90.7),
}


def csv(path: str, target: str | list[str], **settings: Any) -> Dataset:
    """Read the user's own table; see `encode` for the settings.

    Raises:
        Refused: if the file is missing, empty or not a table, and for all that `encode` refuses.
    """
    return encode(read_table(path, "data.path"), target, **settings)


def shipped(file: str, target: str, **settings: Any) -> Dataset:
    """Read a table that comes with losslab."""
    return csv(str(SHIPPED / file), target, **settings)


def diabetes(**settings: Any) -> Dataset:
    """Return scikit-learn's 442 diabetes patients, in their measured units."""
    from sklearn.datasets import load_diabetes

    return encode(load_diabetes(as_frame=True, scaled=False).frame, "target", **settings)


def heights(**settings: Any) -> Dataset:
    """Return a textbook's ten people, all in every part: the least-squares line has a mean squared error of 1.8618."""
    split = dict.fromkeys(("train", "val", "test"), np.arange(10))
    return encode(pd.DataFrame(HEIGHTS), "weight_kg", val=0, test=0, split=split, **settings)


def encode(  # long because it documents all settings of a table
    frame: pd.DataFrame,
    target: str | list[str],
    *,
    task: str,
    takes: list[str],
    val: float,
    test: float,
    seed: int,
    folds: int | None = None,
    fold: int = 0,
    drop: list[str] | None = None,
    separator: str | None = None,
    buckets: int = 32768,
    outliers: float = 0.0,
    split: Split | None = None,
    new: str | None = None,
    truth: str | None = None,
) -> Dataset:
    """Infer what each column holds, split the rows, and encode them by the training rows.

    For vectors, numbers and dates (as days) are standardised, empty cells filled with the median and marked, and
    categories become one-hot. For tokens, these are hashed: each word and its first four letters, each item of a list
    and how many there are, each category, and in which tenth of its column a number lies.

    Args:
        frame: the table, its cells text or numbers.
        target: a column; several for several numbers a row, or for labels in columns of 0 and 1.
        task: the task's name.
        takes: what the model takes; vectors are preferred over tokens.
        val, test, seed, folds, fold: the split; see `split_rows`.
        drop: columns to leave out.
        separator: between labels, or items of a list, in one cell; found by itself if `None`.
        buckets: number of token ids.
        outliers: share of the training targets to multiply by ten, as a slipped decimal point would; the validation
            and test rows stay clean.
        split: a fixed split instead of `val` and `test`.
        new: the file of another table with the same features, with or without the target, to predict on.
        truth: `numbers`, `class` or `labels`; may be left out for losslab's own tasks.

    Raises:
        Refused: for columns that are missing, targets that do not fit the truth, NaN, infinity, and text that the
            model cannot take.
    """
    truth = find_truth(task, truth)
    targets, dropped = [target] if isinstance(target, str) else list(target), drop or []
    check_columns(frame, targets, dropped)
    y, outputs = encode_target(frame[targets], truth, task, separator)
    if split is None:
        strata = stratify(y, truth)
        split = split_rows(len(y), val=val, test=test, seed=seed, strata=strata, folds=folds, fold=fold)
    train = split["train"]
    slipped = slip_decimals(y, train, outliers, seed, truth, task)
    columns = [Column(frame[name]) for name in frame.columns if name not in (*targets, *dropped)]
    if not columns:
        raise Refused(f"the table has no column besides {', '.join(targets)}: it needs at least one feature")
    titles = next((column.text.tolist() for column in columns if column.kind == "text"), None)
    notes = [f"{c.name}: {n} empty cells filled in" for c in columns if (n := int(c.missing.sum()))] + slipped
    unseen = read_new(new, columns, train) if new else None
    if unseen:
        columns = [column.append(more) for column, more in zip(columns, unseen[0], strict=True)]
    axis = None
    if "vector" in takes:
        x, inputs, constant = to_vectors(columns, train, takes)
        notes += [f"{name}: one value only, left out" for name in constant]
        shape = x.shape[1:]
        if len(columns) == len(inputs) == 1 and columns[0].kind == "number":
            axis = columns[0].numbers[: len(y)]
    else:
        x, inputs, shape = hash_tokens(columns, train, separator, buckets), [c.name for c in columns], (buckets,)
    more = New(x[len(y) :], *unseen[1:]) if unseen else None
    return Dataset(x[: len(y)], y, split, shape, outputs, inputs, axis, titles, notes, new=more)


def check_columns(frame: pd.DataFrame, targets: Sequence[str], dropped: Sequence[str]) -> None:
    """Refuse names that are not columns of the table."""
    for key, names in (("data.target", targets), ("data.drop", dropped)):
        for name in names:
            if name not in frame.columns:
                raise Refused(f"{key}={name} is not a column; {nearest(str(name), map(str, frame.columns))}")


def slip_decimals(y: Array, train: NDArray[np.int64], share: float, seed: int, truth: str, task: str) -> list[str]:
    """Multiply a share of the training targets by ten, in place, and return a note of it."""
    rows = np.random.default_rng(seed).permutation(train)[: round(share * len(train))]
    if not len(rows):
        return []
    if truth != "numbers":
        raise Refused(f"data.outliers={share} is for numbers, and task={task} has {truth}: type data.outliers=0")
    y[rows] *= 10
    return [f"{len(rows)} training targets were multiplied by ten (data.outliers={share})"]


def to_vectors(columns: list[Column], train: NDArray[np.int64], takes: list[str]) -> tuple[Array, list[str], list[str]]:
    """Return vectors `(N, F)` float32, the names of their features, and the columns that are constant.

    Raises:
        Refused: if a column holds text, or none varies over the training rows.
    """
    if words := ",".join(column.name for column in columns if column.kind == "text"):
        raise Refused(
            f"the model takes {' or '.join(takes)}, but these columns hold text: {words}; "
            f"type data.drop=[{words}] or model=bag_of_words"
        )
    encoded = [column.to_features(train) for column in columns]
    features = [feature for found in encoded for feature in found.items()]
    if not features:
        raise Refused("no column varies over the training rows, so there is nothing to learn from: add one that does")
    constant = [column.name for column, found in zip(columns, encoded, strict=True) if not found]
    x = np.stack([values for _, values in features], 1).astype(np.float32)
    return x, [name for name, _ in features], constant


def hash_tokens(columns: list[Column], train: NDArray[np.int64], separator: str | None, buckets: int) -> Array:
    """Return token ids `(N, T)` int64, hashes of column and word from 1 on; 0 fills up the shorter rows."""
    rows: list[list[int]] = [[] for _ in columns[0].text]
    for column in columns:
        for ids, words in zip(rows, column.to_tokens(train, separator), strict=True):
            ids += [zlib.crc32(f"{column.name}={word}".encode()) % (buckets - 1) + 1 for word in words]
    x = np.zeros((len(rows), max(1, max(map(len, rows)))), np.int64)
    for row, ids in enumerate(rows):
        x[row, : len(ids)] = ids
    return x


def read_new(path: str, columns: list[Column], train: NDArray[np.int64]) -> tuple[list[Column], list[str], list[str]]:
    """Read the same columns of another table.

    Returns:
        The columns, a title for each row, and notes on cells that the training rows say nothing of.

    Raises:
        Refused: if there is no such table, it lacks a column, or a cell is no number and all others of its column are.
    """
    frame = read_table(path, "input")
    lacking = [column.name for column in columns if column.name not in frame.columns]
    if lacking:
        raise Refused(
            f"input={path} lacks {', '.join(lacking)}, which the model was trained on, and has "
            f"{', '.join(map(str, frame.columns))}: add or rename columns"
        )
    try:
        found = [Column(frame[column.name], like=column) for column in columns]
    except Refused as error:
        raise Refused(f"input={path}: {error}") from None
    notes = [note for known, more in zip(columns, found, strict=True) if (note := note_unknown(known, more, train))]
    titles = next((column.text.tolist() for column in found if column.kind == "text"), None)
    return found, titles or [str(row) for row in range(len(frame))], notes


def note_unknown(known: Column, more: Column, train: NDArray[np.int64]) -> str:
    """Return a note on new cells that are empty, or of a category that no training row has; empty if there are none."""
    if known.kind == "number" and more.missing.any():
        return f"{more.name}: {int(more.missing.sum())} empty cells filled in as in training"
    odd = more.text[~more.text.isin(set(known.text.iloc[train]))] if known.kind == "category" else more.text[:0]
    if not len(odd):
        return ""
    some = ", ".join(value or "an empty cell" for value in sorted(set(odd))[:3])
    return f"{more.name}: {len(odd)} cells hold a category that no training row has ({some}): encoded as none"
