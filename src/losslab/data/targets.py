"""Columns of text become canonical targets: numbers, the index of a class, or 0 and 1 for each label."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.config.catalogue import TRUTHS
from losslab.data.columns import MANY, Column
from losslab.data.formats import Told
from losslab.data.notes import count, write_setting
from losslab.data.truth import to_single
from losslab.errors import Refused

LEAVE_OUT = "type data.drop_rows=missing_target to leave those rows out"
CORRECT = "correct them"
LARGEST = 1e15  # a number: single precision does not hold a sum of squares of larger ones
LONGEST = 100_000  # characters of a list of labels
FLAGS = (("1", "0"), ("1", "-1"), ("true", "false"), ("yes", "no"), ("t", "f"), ("y", "n"), ("on", "off"))
MARKS = ("x", "1", "✓", "✔")  # beside cells that are empty
LABEL_SEPARATORS = ("|", ";", ",")
RARE_SEPARATORS = ("//", "::", " & ", "&", " and ", "/", "+", "\t", " ")  # stand in ordinary labels, too
QUOTED = re.compile(r"""'((?:[^'\\]|\\.)*)'|"((?:[^"\\]|\\.)*)\"""")  # an item of a list as Python or JSON writes it

Array = NDArray[Any]


def encode_target(
    frame: pd.DataFrame,
    truth: str,
    task: str,
    separator: str | None,
    formats: Told | None = None,
    missing: Sequence[str] = (),
) -> tuple[Array, list[str]]:
    """Return the canonical target in these columns, and the names of its outputs.

    Args:
        frame: the columns of the target, as text.
        truth: one of `TRUTHS`.
        separator: between the labels in one cell; found by itself if `None`.
        formats: how numbers may be written; `None` for plain ones alone.
        missing: what an empty cell may hold beside `losslab.data.columns.MISSING`.

    Raises:
        Refused: if the columns do not fit the truth.
    """
    names = [str(name) for name in frame.columns]
    if twice := [name for place, name in enumerate(names) if name in names[:place]]:
        raise Refused(f"data.target names {twice[0]} twice: name each column once")
    formats = formats if truth == "numbers" else None
    instead = leave_out(missing)
    columns = [Column(frame[name], missing=missing, formats=formats, instead=instead) for name in frame.columns]
    if truth == "labels" and len(columns) == 1 and separator is None and read_flags(columns[0]) is not None:
        raise Refused(
            f"data.target={names[0]} says yes or no, which is one label: type task=single_label, or name more columns"
        )
    if truth == "labels" and len(columns) == 1:
        return encode_lists(split_labels(columns[0].text.mask(columns[0].text.isin(missing), ""), separator), names[0])
    for column in columns:
        if truth != "labels" or read_flags(column) is None:
            column.check_cells(column.missing, "no value", f"fill them in, or {LEAVE_OUT}")
    if truth == "numbers":
        for column in columns:
            too_large = np.abs(column.numbers) > LARGEST
            column.check_cells(too_large, f"numbers beyond {LARGEST:g}", "write them in a larger unit")
        return encode_numbers(columns, task, instead), names
    if truth == "labels":
        return encode_flags(columns), names
    if len(columns) > 1:
        raise Refused(f"task={task} has one target, not {', '.join(names)}: type data.target={names[0]}")
    return encode_classes(columns[0])


def leave_out(missing: Sequence[str]) -> Callable[[list[str]], str]:
    """Say what to do about cells of a target that are no numbers, where `missing` already count as empty.

    >>> leave_out(["-"])(["old", "n.a."])
    "correct them, or type data.drop_rows=missing_target 'data.missing=[-,old,n.a.]' to leave those rows out"
    """

    def write(cells: list[str]) -> str:
        if len(cells) > MANY:
            return "correct them, or type data.drop_rows=missing_target and empty those cells"
        empty = write_setting("data.missing", [*missing, *cells])
        return f"correct them, or type data.drop_rows=missing_target {empty} to leave those rows out"

    return write


def encode_numbers(columns: list[Column], task: str, instead: str | Callable[[list[str]], str] = CORRECT) -> Array:
    """Return the numbers of several columns as float32 `(N, D)`; `instead` says what to do about other cells."""
    for column in columns:
        column.check_mixture(instead)
        if column.kind != "number":
            some = ", ".join(sorted(set(column.text))[:3])
            raise Refused(
                f"data.target={column.name} holds text ({some}), but task={task} needs numbers: "
                f"type task={TRUTHS['class']}, or name a column of numbers"
            )
        if np.ptp(column.numbers) == 0:
            raise Refused(
                f"data.target={column.name} is {column.numbers[0]:g} in every row, so there is nothing to learn: "
                "name a column that varies"
            )
    return np.hstack([to_single(column.numbers[:, None], f"data.target={column.name}") for column in columns])


def encode_classes(column: Column) -> tuple[Array, list[str]]:
    """Return each row's class as int64 `(N,)`, and the classes: in numeric order, or else in alphabetical order."""
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
        raise Refused(
            f"data.target={column.name} has one class only ({classes[0]}), so there is nothing to tell apart: "
            "name a column of several"
        )
    if len(classes) > len(index) // 2:
        raise Refused(
            f"data.target={column.name} has {len(classes)} classes in {count(len(index), 'row')}, too few of each: "
            "name a column of fewer classes"
        )
    return index.astype(np.int64), classes.tolist()


def encode_flags(columns: list[Column]) -> Array:
    """Return columns of 0 and 1, or of another pair such as yes and no, as int64 `(N, L)`."""
    found = []
    for column in columns:
        flags = read_flags(column)
        if flags is None:
            some = ", ".join(sorted(set(column.text) - {"0", "1"})[:3])
            raise Refused(
                f"label column {column.name} holds {some}, but with several targets each must hold 0 or 1 (-1 or 1, "
                "true or false, yes or no): name such columns, or one column of lists"
            )
        found.append(flags)
    return np.stack(found, 1).astype(np.int64)


def read_flags(column: Column) -> NDArray[np.bool_] | None:
    """Return whether each cell says that a label is there; `None` if they are no pair of `FLAGS`.

    >>> read_flags(Column(pd.Series(["Yes", "no"]))), read_flags(Column(pd.Series(["-1", "+1.0"])))
    (array([ True, False]), array([False,  True]))
    >>> read_flags(Column(pd.Series(["x", ""]))), read_flags(Column(pd.Series(["", ""])))
    (array([ True, False]), None)
    """
    cells = column.text.str.lower()
    if column.kind == "number" and np.isin(column.numbers, (-1, 0, 1)).all():
        cells = pd.Series([f"{number:g}" for number in column.numbers])
    present = set(cells)
    pairs = [*FLAGS, *((mark, "") for mark in MARKS if present == {mark, ""})]
    return next(((cells == yes).to_numpy() for yes, no in pairs if present <= {yes, no}), None)


def encode_lists(rows: list[list[str]], name: str) -> tuple[Array, list[str]]:
    """Return 0 and 1 for each label of each row as int64 `(N, L)`, and the labels in alphabetical order.

    >>> encode_lists([["b", "a"], [], ["b"]], "genre")
    (array([[1, 1],
           [0, 0],
           [0, 1]]), ['a', 'b'])
    """
    names = sorted({label for row in rows for label in row})
    if not names:
        raise Refused(f"data.target={name} has no label in any row: name another column")
    if len(names) < 2:
        raise Refused(
            f"data.target={name} has one label only ({', '.join(names)}), so there is nothing to tell apart: "
            "name a column of several"
        )
    if len(names) > max(20, len(rows) // 2):
        raise Refused(
            f"data.target={name} has {len(names)} labels in {count(len(rows), 'row')}, such as '{names[0]}': "
            "name a column of labels, or type data.separator=SIGN, which stands between labels"
        )
    position = {label: i for i, label in enumerate(names)}
    y = np.zeros((len(rows), len(names)), np.int64)
    for row, labels in enumerate(rows):
        y[row, [position[label] for label in labels]] = 1
    return y, names


def split_labels(cells: "pd.Series[str]", separator: str | None) -> list[list[str]]:
    """Split cells into labels: with a separator between them, or written as a list, such as `['Comedy', 'Drama']`.

    >>> split_labels(pd.Series(["a | b", "b", ""]), None)
    [['a', 'b'], ['b'], []]
    >>> split_labels(pd.Series(["['a', 'b c']", "[]"]), None)
    [['a', 'b c'], []]

    A space, or another sign that ordinary labels hold, separates them where its parts come again in other cells.

    >>> split_labels(pd.Series(["a b", "b", "a", "b a", ""]), None)
    [['a', 'b'], ['b'], ['a'], ['b', 'a'], []]
    >>> split_labels(pd.Series(["Science Fiction", "Drama/Crime", "Drama"]), None)
    [['Science Fiction'], ['Drama/Crime'], ['Drama']]
    """
    if (longest := cells.str.len().max()) > LONGEST:
        raise Refused(f"a list of labels has {longest:,} letters: type data.target=COLUMN of a column of labels")
    if separator is None and are_lists(cells):
        quoted = [[single or double for single, double in QUOTED.findall(cell)] for cell in cells]
        bare = cells.str.removeprefix("set").str.slice(1, -1)
        items = [found or cell.split(",") for cell, found in zip(bare, quoted, strict=True)]
    else:
        sign = separator or find_separator(cells)
        items = [cell.split(None if sign == " " else sign) for cell in cells]
    return [[label.strip() for label in row if label.strip()] for row in items]


def find_separator(cells: "pd.Series[str]") -> str:
    """Return the sign that stands between labels in most cells; a space stands for any white space."""
    counts = {sign: int(cells.str.contains(sign, regex=False).sum()) for sign in LABEL_SEPARATORS}
    if any(counts.values()):
        return max(LABEL_SEPARATORS, key=lambda each: counts[each])
    known = {cell.strip() for cell in cells} - {""}
    parts = {sign: {part.strip() for cell in known for part in cell.split(sign)} for sign in RARE_SEPARATORS}
    return next((sign for sign in RARE_SEPARATORS if len(parts[sign] - {""}) < len(known)), LABEL_SEPARATORS[0])


def are_lists(cells: "pd.Series[str]") -> bool:
    """Whether each cell that is not empty is written as a list, a tuple or a set of Python.

    >>> [are_lists(pd.Series(cells)) for cells in (["['a']", "[]"], ["{'a'}", "set()"], ["[a", "b]"])]
    [True, True, False]
    """
    filled = cells[cells != ""].str.removeprefix("set")
    pairs = (("[", "]"), ("(", ")"), ("{", "}"))
    ends = [filled.str.startswith(begin) & filled.str.endswith(end) for begin, end in pairs]
    brackets, round_ones, curly = (mask.to_numpy(bool) for mask in ends)
    quoted = filled.str.contains("['\"]").to_numpy(bool) | (filled.str.len() <= 2).to_numpy(bool)
    return bool(len(filled)) and bool((brackets | ((round_ones | curly) & quoted)).all())
