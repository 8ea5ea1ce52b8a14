"""Tables: a CSV file, or a frame, becomes vectors for most models or tokens for a bag of words.

Nothing here imports torch, so a fault in a table is reported in under a second. All statistics (medians, means,
categories, quantiles) come from the training rows alone; names of classes and labels come from the whole target column.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.data.columns import Column, ColumnEncoder
from losslab.data.dataset import Array, Dataset, Split, split_rows
from losslab.data.encoder import TableEncoder
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
    encoders = [ColumnEncoder.fit(column, train, separator) for column in columns]
    axis = None
    if "vector" in takes:
        encoder = TableEncoder(encoders)
        inputs, constant = name_features(encoders, takes)
        notes += [f"{name}: one value only, left out" for name in constant]
        if len(columns) == len(inputs) == 1 and columns[0].kind == "number":
            axis = columns[0].numbers
    else:
        encoder, inputs = TableEncoder(encoders, buckets), [column.name for column in columns]
    x = encoder.encode(columns)
    shape = x.shape[1:] if encoder.buckets is None else (buckets,)
    return Dataset(x, y, split, shape, outputs, inputs, axis, titles, notes, encoder=encoder)


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


def name_features(encoders: list[ColumnEncoder], takes: list[str]) -> tuple[list[str], list[str]]:
    """Return the names of the features, and the columns that are constant over the training rows.

    Raises:
        Refused: if a column holds text, or none varies over the training rows.
    """
    if words := ",".join(known.name for known in encoders if known.kind == "text"):
        raise Refused(
            f"the model takes {' or '.join(takes)}, but these columns hold text: {words}; "
            f"type data.drop=[{words}] or model=bag_of_words"
        )
    names = [known.feature_names() for known in encoders]
    features = [name for of_column in names for name in of_column]
    if not features:
        raise Refused("no column varies over the training rows, so there is nothing to learn from: add one that does")
    return features, [known.name for known, found in zip(encoders, names, strict=True) if not found]
