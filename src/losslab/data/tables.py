"""Tables: a CSV file, or a frame, becomes vectors for most models or tokens for a bag of words.

Nothing here imports torch, so a fault in a table is reported in under a second. All statistics (medians, means,
categories, quantiles) come from the training rows alone; names of classes and labels come from the whole target column.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.config.catalogue import TRUTHS
from losslab.data.columns import KINDS, MISSING, Column, ColumnEncoder, offer_empty, offer_types, type_of
from losslab.data.dataset import Dataset, Split
from losslab.data.encoder import TableEncoder
from losslab.data.formats import Told
from losslab.data.installed import read_scikit_learn
from losslab.data.lines import Format
from losslab.data.noise import slip_decimals
from losslab.data.notes import count, few, write_setting
from losslab.data.numbers import leave_empty
from losslab.data.reading import name_lines, note_doubled, read_table
from losslab.data.rows import drop_without_target, read_weight, split_table, take_rows
from losslab.data.schema import (
    count_equal,
    describe_columns,
    describe_weight,
    find_suspects,
    note_points,
    note_untested,
)
from losslab.data.target_encoding import encode_many
from losslab.data.targets import encode_target
from losslab.data.truth import find_truth, stratify
from losslab.data.typed_files import NUMBERS, SHEETS
from losslab.errors import Refused, nearest

ANY = Told("point", "day_first")  # reads what may be read in two ways in one of them
HEAD = 500  # rows by which a model is chosen
PART = "\0part"  # no column of a file is called so
SHIPPED = Path(__file__).parent / "files"
MEASURED = ("age", "sex", "bmi", "bp", "s1", "s2", "s3", "s4", "s5", "s6")  # of diabetes' patients
HEIGHTS = {
    "height_cm": (152.4, 157.5, 160.0, 165.1, 172.7, 177.8, 185.4, 190.5, 195.6, 203.2),
    "weight_kg": (50.0, 54.4, 56.7, 59.0, 63.5, 68.0, 72.6, 77.1, 81.6, 90.7),
}


def csv(
    path: str,
    target: str | list[str],
    *,
    test_path: str | None = None,
    rows: int | None = None,
    drop_rows: str | None = None,
    missing: list[str] | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    header: bool = True,
    sheet: str | None = None,
    **settings: Any,
) -> Dataset:
    """Read the user's own table. `conf/data/csv.yaml` says what each setting is, also those that `encode` takes.

    Raises:
        Refused: if the file is missing, empty or not a table, and for all that `encode` refuses.
    """
    form = Format(encoding, delimiter, header, sheet)
    check_parts(test_path, settings)
    if sheet is not None and Path(path).suffix.lower() not in SHEETS:
        raise Refused(f"data.sheet={sheet} is for Excel files, and data.path={path} is none: leave it out")
    stays_text = None  # all columns do: a comma may stand before decimals, or the test table hold something else
    if test_path is None and settings.get("decimal") != "comma":
        special = [settings.get(key) for key in ("split", "group", "time", "weight")]
        stays_text = {
            *([target] if isinstance(target, str) else target),
            *filter(None, special),
            *read_types(settings.get("types")),
        }.__contains__
    empty = [*(missing or [])]
    frame, given = read_table(path, "data.path", None, form, stays_text, [*MISSING, *empty]), None
    notes = note_doubled(frame.columns, path, form)
    frame = take_rows(frame, rows)
    if test_path is not None:
        frame, given = append_test(frame, read_table(test_path, "data.test_path", form=form), test_path)
    targets = [target] if isinstance(target, str) else [*target]
    check_columns(frame, targets, settings.get("drop") or [])
    if drop_rows is not None:
        if given is not None:
            frame[PART] = given
        frame, dropped = drop_without_target(frame, targets, empty)
        notes += dropped
        given = None if given is None else frame.pop(PART).to_numpy()
    with name_lines(path, form, test_path):
        data = encode(frame, target, missing=empty, given=given, own=True, **settings)
    data.notes = notes + data.notes
    assert isinstance(data.encoder, TableEncoder)
    data.encoder = replace(data.encoder, form=form)
    return data


def check_parts(test_path: str | None, settings: Mapping[str, Any]) -> None:
    """Refuse two settings that both say which rows are tested, and a group beside one of them."""
    ways = {"test_path": test_path, **{key: settings.get(key) for key in ("split", "time", "folds")}}
    given = [key for key, value in ways.items() if value is not None]
    if given != ["folds"] and given:
        given += ["group"] if settings.get("group") is not None else []
    if len(given) > 1:
        both = f"data.{given[0]} and data.{given[1]}"
        raise Refused(f"{both} both say which rows are tested: leave one of them out")


def append_test(frame: pd.DataFrame, tested: pd.DataFrame, test_path: str) -> tuple[pd.DataFrame, NDArray[Any]]:
    """Put the rows of a test table below those of another; return all, and the part of each.

    Raises:
        Refused: if it lacks a column, or knows numbers from text, and the other table writes them in its own way.
    """
    if lacking := [str(name) for name in frame.columns if name not in tested.columns]:
        raise Refused(
            f"data.test_path={test_path} lacks {few(lacking, 8)}, which data.path has: add or rename columns, "
            f"or take them out of data.path"
        )
    for name in frame.columns.intersection(tested.attrs.get(NUMBERS, ())).difference(frame.attrs.get(NUMBERS, ())):
        cells = leave_empty(frame[name], MISSING)
        if (odd := cells[pd.to_numeric(cells, errors="coerce").isna()]).size:
            raise Refused(
                f"data.test_path={test_path} holds numbers in column {name}, and data.path texts such as "
                f"'{odd.iloc[0]}': save both tables in the same form"
            )
    given = np.repeat(["train", "test"], [len(frame), len(tested)])
    tested = tested[frame.columns].set_axis(-1 - np.arange(len(tested)))  # see `losslab.data.reading.name_lines`
    return pd.concat([frame, tested]), given


def shipped(file: str, target: str, **settings: Any) -> Dataset:
    """Read a table that comes with losslab."""
    return encode(read_table(str(SHIPPED / file), "data.path"), target, **settings)


def diabetes(**settings: Any) -> Dataset:
    """Return scikit-learn's 442 diabetes patients, in their measured units."""
    features, target = (read_scikit_learn(f"diabetes_{part}.csv.gz") for part in ("data_raw", "target"))
    frame = pd.DataFrame(np.column_stack([features, target]), columns=[*MEASURED, "target"])
    return encode(frame, "target", **settings)


def heights(**settings: Any) -> Dataset:
    """Return a textbook's ten people, all in every part: the least-squares line has a mean squared error of 1.8617."""
    split = dict.fromkeys(("train", "val", "test"), np.arange(10))
    return encode(pd.DataFrame(HEIGHTS), "weight_kg", val=0, test=0, parts=split, **settings)


def encode(  # long: each step of the table's way from cells to features, and all settings documented
    frame: pd.DataFrame,
    target: str | list[str],
    *,
    task: str,
    takes: list[str],
    seed: int,
    drop: list[str] | None = None,
    separator: str | None = None,
    buckets: int = 32768,
    outliers: float = 0.0,
    types: str | list[str] | None = None,
    missing: list[str] | None = None,
    decimal: str | None = None,
    dates: str | None = None,
    max_categories: int = 100,
    parts: Split | None = None,
    truth: str | None = None,
    weight: str | None = None,
    own: bool = False,
    **rows: Any,
) -> Dataset:
    """Infer what each column holds, split the rows, and encode them by the training rows.

    For vectors, numbers and dates (as days) are standardised, empty cells filled with the median and marked, and
    categories become one-hot, or where they are many the mean target of their training rows. For tokens, these are
    hashed: each word and its first four letters, each item of a list and how many there are, each category, and in
    which tenth of its column a number lies.

    Settings that are not listed here are those of `conf/data/csv.yaml`, which says what they are.

    Args:
        frame: the table, its cells text or numbers.
        takes: what the model takes; vectors are preferred over tokens.
        parts: a fixed split instead of one by `rows`.
        truth: `numbers`, `class` or `labels`; may be left out for losslab's own tasks.
        own: whether the table is the user's, to whom its columns are described.
        rows: how the rows are split; see `losslab.data.rows.split_table`. Columns that it names are no features.

    Raises:
        Refused: for columns that are missing, targets that do not fit the truth, NaN, infinity, and text that the
            model cannot take.
    """
    truth = find_truth(task, truth)
    targets = [target] if isinstance(target, str) else list(target)
    special = {f"data.{key}": rows[key] for key in ("split", "group", "time") if rows.get(key) is not None}
    special |= {} if weight is None else {"data.weight": weight}
    formats = Told(decimal, dates)
    told = read_types(types)
    check_columns(frame, targets, drop or [], told, special)
    y, outputs = encode_target(frame[targets], truth, task, separator, formats, missing or [])
    if parts is None:
        parts = split_table(frame, stratify(y, truth), seed=seed, formats=formats, **rows)
    train = parts["train"]
    slipped = slip_decimals(y, train, outliers, seed, truth, task)
    columns = read_columns(frame, [*targets, *(drop or []), *special.values()], told, missing or [], formats)
    if not columns:
        raise Refused(f"the table has no column besides {', '.join(targets)}: it needs at least one feature")
    if "vector" in takes:
        name_categories(columns)
    titles = next((column.text.tolist() for column in columns if column.kind == "text"), None)
    encoders = [ColumnEncoder.fit(column, train, separator) for column in columns]
    used = [c for c, e in zip(columns, encoders, strict=True) if "vector" not in takes or e.feature_names()]
    notes = [f"{c.name}: {count(n, 'empty cell')} filled in" for c in used if (n := int(c.missing.sum()))] + slipped
    axis = None
    if "vector" in takes:
        crossed = {}  # what the training rows of a column hold instead of the means that include their own targets
        for place, column in enumerate(columns):
            if len(encoders[place].categories) > max_categories:
                encoders[place], crossed[place] = encode_many(encoders[place], column, train, y, outputs, seed)
        encoder = TableEncoder(encoders, None, tuple(missing or []))
        inputs, constant = name_features(encoders, takes)
        notes += [f"{name}: one value only, left out" for name in constant]
        if len(columns) == len(inputs) == 1 and columns[0].kind == "number":
            axis = columns[0].numbers
        x = encoder.encode(columns)
        for place, features in crossed.items():
            first = sum(len(known.feature_names()) for known in encoders[:place])
            x[train, first : first + features.shape[1]] = features
    else:
        encoder = TableEncoder(encoders, buckets, tuple(missing or []))
        inputs, x = [column.name for column in columns], encoder.encode(columns)
    shape = x.shape[1:] if encoder.buckets is None else (buckets,)
    counts = None if weight is None else read_weight(frame[weight], formats)
    data = Dataset(x, y, parts, shape, outputs, inputs, axis, titles, notes, encoder=encoder, weight=counts)
    if own:
        if truth == "numbers" and np.isin(y, (0, 1)).all():
            other = TRUTHS["labels" if len(targets) > 1 else "class"]
            data.notes.append(f"{few(targets)}: 0 and 1 are trained as numbers; if they are none, type task={other}")
        data.notes += [
            f"{name} is the target, whose type follows from task={task}: data.types says nothing of it"
            for name in targets
            if name in told
        ]
        if decimal is None:
            data.notes += note_points(columns, {name: frame[name] for name in targets} if truth == "numbers" else {}, y)
        data.notes += [*find_suspects(columns, y, train), *note_untested(y, parts["test"], outputs)]
        if isinstance(x, np.ndarray) and x.dtype == np.float32 and (equal := count_equal(x, y)) > len(y) // 100:
            data.notes.append(
                f"{count(equal, 'row')} are equal to an earlier one, and may be trained on and tested: "
                "data.group=COLUMN keeps rows together"
            )
        data.columns = describe_columns(columns, encoders, encoder.buckets)
        if counts is not None:
            data.columns.append(describe_weight(str(weight), counts))
    return data


def read_columns(
    frame: pd.DataFrame, without: Sequence[str], types: Mapping[str, str], missing: Sequence[str], formats: Told
) -> list[Column]:
    """Read the columns of the features.

    Raises:
        Refused: if one holds mostly numbers and some text, or nothing at all.
    """
    columns = [
        Column(frame[name], None, types.get(str(name)), missing, formats, partial(offer_empty, missing))
        for name in frame.columns
        if name not in without
    ]
    for column in columns:
        if column.told and column.kind == "number" and column.missing.all() and column.taken:
            raise Refused(
                f"{type_of(column.name, types[column.name])} does not fit: none of its cells is one, such as "
                f"'{column.text.iloc[0]}'; type {type_of(column.name, 'category')}, or leave it out"
            )
        column.check_mixture(partial(offer_types, column.name, missing))
    return columns


def read_types(types: str | list[str] | None) -> dict[str, str]:
    """Return the type of each column that a user has told."""
    pairs = [read_type(text) for text in ([types] if isinstance(types, str) else types or [])]
    names = [name for name, _ in pairs]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise Refused(f"data.types names {twice[0]} twice: say once what it holds")
    return dict(pairs)


def read_type(text: str) -> tuple[str, str]:
    """Return the name and the type in a text such as `age: number`.

    Raises:
        Refused: if it holds one of them alone.

    >>> read_type("a: b: number")
    ('a: b', 'number')
    """
    name, _, kind = text.rpartition(":")
    if not name.strip() or not kind.strip():
        alone = text.strip(": ")
        pair = ("COLUMN", alone) if alone in KINDS else (alone, "number")
        raise Refused(f"data.types={text} needs a column and its type: type {type_of(*pair)}")
    return name.strip().strip("'\""), kind.strip()


def name_categories(columns: Sequence[Column]) -> None:
    """Let columns whose texts come again, on average twice or more, be categories, unless they were told to be text."""
    for column in columns:
        if column.kind == "text" and not column.told:
            present = column.text[~column.missing]
            if present.nunique() <= len(present) / 2:
                column.kind = "category"


def has_text(path: str, without: Sequence[str], form: Format) -> bool:
    """Return whether the first rows of a table hold text, neither a category nor a number, in columns of features.

    Raises:
        Refused: if it cannot be read.
    """
    frame = read_table(path, "data.path", rows=HEAD, form=form)
    columns = [Column(frame[name], formats=ANY) for name in frame.columns if str(name) not in without]
    name_categories(columns)
    return any(column.kind == "text" for column in columns)


def check_columns(
    frame: pd.DataFrame,
    targets: Sequence[str],
    dropped: Sequence[str],
    types: Mapping[str, str] | None = None,
    special: Mapping[str, str | None] | None = None,
) -> None:
    """Refuse names that are not columns of the table, and types that there are not."""
    named = [("data.target", name) for name in targets] + [("data.drop", name) for name in dropped]
    named += [(key, name) for key, name in (special or {}).items() if name is not None]
    named += [("data.types", name) for name in types or {}]
    for key, name in named:
        if name not in frame.columns:
            if len(frame.columns) == 1:
                raise Refused(
                    f"{key}={name} is not a column, and the table has one alone, '{frame.columns[0]}': type "
                    "data.delimiter=SIGN, which stands between columns"
                )
            parts = [part.strip() for part in str(name).split(",")]
            listed = f"type {write_setting(key, parts)} for these {len(parts)}" if {*parts} <= {*frame.columns} else ""
            raise Refused(f"{key}={name} is not a column; {listed or nearest(str(name), map(str, frame.columns))}")
    for key, column in (special or {}).items():
        if column in targets:
            raise Refused(f"{key}={column} is the target, too: name another column, or leave {key} out")
    for name, kind in (types or {}).items():
        if kind not in KINDS:
            raise Refused(
                f"{type_of(name, kind)} does not fit: type {type_of(name, 'number')}, or {', '.join(KINDS[1:])}"
            )


def name_features(encoders: list[ColumnEncoder], takes: list[str]) -> tuple[list[str], list[str]]:
    """Return the names of the features, and the columns that are constant over the training rows.

    Raises:
        Refused: if a column holds text, or none varies over the training rows.
    """
    if words := [known.name for known in encoders if known.kind == "text"]:
        raise Refused(
            f"this model reads no text, but these columns hold text: {','.join(words)}; "
            f"type {write_setting('data.drop', words)} or model=bag_of_words"
        )
    names = [known.feature_names() for known in encoders]
    features = [name for of_column in names for name in of_column]
    if not features:
        raise Refused("no column varies over the training rows, so there is nothing to learn from: add one that does")
    return features, [known.name for known, found in zip(encoders, names, strict=True) if not found]
