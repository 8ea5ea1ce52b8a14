"""What a table, or the subfolders, say of images: which image a row names, and its labels, class or numbers."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.config.catalogue import TRUTHS
from losslab.data.columns import MISSING, Column
from losslab.data.formats import Told
from losslab.data.notes import count, few, write_setting
from losslab.data.pixels import SUFFIXES
from losslab.data.rows import drop_without_target, read_weight
from losslab.data.targets import (
    LABEL_SEPARATORS,
    LEAVE_OUT,
    LONGEST,
    are_lists,
    encode_classes,
    encode_flags,
    encode_lists,
    encode_numbers,
    read_flags,
    split_labels,
)
from losslab.errors import Refused, nearest

HELD = {"numbers": "numbers", "class": "the class", "labels": "labels"}  # what a column of each truth holds
RARE = "other"  # what rare labels are merged into

Array = NDArray[Any]


@dataclass
class Labels:
    """What is known of images before any is decoded."""

    truth: str
    task: str  # its name, for messages
    cells: dict[str, list[str]]  # file -> its labels, its class, or its numbers
    names: list[str]  # of the targets: columns of numbers, or one name for the labels
    groups: dict[str, str] = field(default_factory=dict)  # file -> what must not lie on both sides of the split
    weights: dict[str, float] = field(default_factory=dict)  # file -> how much it counts, if the table says so
    parts: dict[str, str] = field(default_factory=dict)  # file -> train, val or test, if folders or the table say so
    rows: dict[str, int] = field(default_factory=dict)  # file -> its row in the table
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)  # what was left out, and why

    def merge(self, file: str, others: list[str]) -> int:
        """Add the labels of a second copy to a file; return 1 if the copy has another class or other numbers."""
        if self.truth == "labels":
            self.cells[file] = list(dict.fromkeys([*self.cells[file], *others]))
            return 0
        return int(self.cells[file] != others)

    def note_merged(self, differing: int) -> str:
        """Return what became of the targets of second copies."""
        if self.truth == "labels":
            return " (their labels are added to the first)"
        return f" ({differing} with another target than the first)" if differing else ""

    def leave_out_copies(self, copies: dict[str, str]) -> None:
        """Keep the first of files with equal pixels, so that no image is on both sides of the split."""
        differing = sum(self.merge(first, self.cells[file]) for file, first in copies.items())
        self.problems += [(file, f"has the pixels of {first}") for file, first in copies.items()]
        if copies:
            what = f"{count(len(copies), 'image')} with the pixels of another{self.note_merged(differing)}"
            self.notes.append(f"{what}, left out: {few(copies)}")

    def leave_out_broken(self, broken: dict[str, str]) -> None:
        """Note the files that cannot be read, and how many there are of each class."""
        self.problems += broken.items()
        if not broken:
            return
        known = Counter(cells[0] for cells in self.cells.values()) if self.truth == "class" else Counter()
        of_class = Counter(self.cells[file][0] for file in broken) if self.truth == "class" else Counter()
        shares = few([f"{name} {number} of {known[name]}" for name, number in of_class.most_common()], 5)
        by_class = f" ({shares})" if shares else ""
        self.notes.append(f"{count(len(broken), 'image')} cannot be read, left out{by_class}: {few(broken)}")


def read_label_table(
    frame: pd.DataFrame,
    source: str,
    files: list[str],
    truth: str,
    task: str,
    *,
    file: str | None,
    target: str | list[str] | None,
    separator: str | None,
    none: list[str],
    group: str | None,
    weight: str | None,
    split: str | None,
    drop_rows: str | None,
    formats: Told,
) -> Labels:
    """Read what a table says of images; `source` is its name, and `files` are the images.

    Raises:
        Refused: if a column is missing, or no row has both an image and a target.
    """
    wanted = [str(name) for name in ([target] if isinstance(target, str | int) else target or [])]
    special = {"data.file": file, "data.group": group, "data.weight": weight, "data.split": split}
    check_columns(frame, source, wanted, special)
    frame = frame.apply(lambda column: column.str.strip())
    column, places = match_files(frame, source, files, file)
    others = frame.drop(columns={column, group, weight, split} - {None})
    targets = wanted or infer_targets(others, source, truth, separator, formats)
    labels = Labels(truth, task, {}, targets)
    labels.notes.append(f"{source}: images by {column}, {HELD[truth]} from {few(targets)}")
    unused = [name for name in frame.columns if name not in (*targets, group, weight) and is_flag(frame[name])]
    if not wanted and len(unused) > 1:
        labels.notes.append(f"{len(unused)} columns of 0 and 1 are not used: {few(unused)}")
    if drop_rows is not None:
        frame, labels.notes[len(labels.notes) :] = drop_without_target(frame, targets, none)
        places = [places[row] for row in frame.index]
    cells, without = read_cells(frame[targets], truth, task, separator, set(none), formats)
    if without:
        labels.notes.append(f"{', '.join(none)} is no label: {count(without, 'row')}")
    assign(labels, list(frame[column]), places, cells, list(frame[group]) if group else None)
    if weight is not None:
        counts = read_weight(frame[weight], formats)
        labels.weights = {name: float(counts[row]) for name, row in labels.rows.items()}
    if split is not None:
        labels.parts = {name: str(frame[split].iloc[row]) for name, row in labels.rows.items()}
    labels.rows = {name: int(frame.index[row]) for name, row in labels.rows.items()}
    dropped = [name for name, found in labels.cells.items() if not found and truth != "labels"]
    for name in dropped:
        del labels.cells[name]
    if not labels.cells:
        raise Refused(f"no row of {source} has both an image in the folder and a target: type data.target=COLUMN")
    if more := len(set(files) - set(labels.cells) - set(dropped)):
        labels.notes.append(f"{count(more, 'image')} in no row of {source}, left out")
    return labels


def check_columns(frame: pd.DataFrame, source: str, wanted: list[str], special: dict[str, str | None]) -> None:
    """Refuse names that are no columns, or two roles of one column, and a header that is a row."""
    check_header(frame, source)
    for setting, name in (*special.items(), *(("data.target", name) for name in wanted)):
        if name is not None and str(name) not in frame.columns:
            raise Refused(
                f"{setting}={name} is not a column of {source}; {nearest(str(name), map(str, frame.columns))}"
            )
        if name is not None and setting in special and str(name) in wanted:
            raise Refused(f"{setting}={name} is the target, too: name another column, or leave {setting} out")


def check_header(frame: pd.DataFrame, source: str) -> None:
    """Refuse a table whose first row names an image, where names of columns should stand."""
    if named := [name for name in map(str, frame.columns) if PurePosixPath(name).suffix.lower() in SUFFIXES]:
        names = ",".join(["file", *(f"column{place}" for place in range(2, 1 + frame.shape[1]))])
        raise Refused(f"{source} begins with a row ({named[0]}, ...): write a line of names above it, such as {names}")


def match_files(frame: pd.DataFrame, source: str, files: list[str], file: str | None) -> tuple[str, list[list[str]]]:
    """Find the column that names images, and the files that each of its cells may mean.

    Raises:
        Refused: if no column names an image.
    """
    known = set(files)
    meant: dict[str, list[str]] = {}
    for name in files:
        path = PurePosixPath(name)
        number = {str(int(path.stem))} if path.stem.isdecimal() else set()  # 00007.png may be 7 in a table
        for called in {name, path.name, str(path.with_suffix("")), path.stem, *number}:
            meant.setdefault(called, []).append(name)

    def match(cell: str) -> list[str]:
        whole = cell.replace("\\", "/").removeprefix("./")
        if whole in known:
            return [whole]
        bare = whole.rpartition(".")[0] if PurePosixPath(whole).suffix.lower() in SUFFIXES else whole
        names = (whole, whole.rpartition("/")[2], bare, bare.rpartition("/")[2])  # the file may have another suffix
        return next((meant[name] for name in names if name in meant), [])

    columns = [str(file)] if file is not None else [str(name) for name in frame.columns]
    hits = {name: len({place for cell in frame[name].unique() for place in match(cell)}) for name in columns}
    best = max(hits, key=lambda name: hits[name])
    if not hits[best]:
        what = f"data.file={file} holds" if file is not None else f"the columns of {source} ({few(columns)}) hold"
        some = f"'{frame[best].iloc[0]}'" if file is not None else "none of the names"
        raise Refused(f"{what} {some}, and the images are called {few(files)}: type data.file=COLUMN")
    return best, [match(cell) for cell in frame[best]]


def infer_targets(frame: pd.DataFrame, source: str, truth: str, separator: str | None, formats: Told) -> list[str]:
    """Return the columns that hold the target, if the table can be read in one way only.

    Raises:
        Refused: if there are several, or none.
    """
    filled = {str(name): frame[name][~frame[name].isin(MISSING)] for name in frame.columns}
    columns = [name for name, cells in filled.items() if cells.nunique() > 1]
    flags = [name for name in columns if is_flag(frame[name])]
    numbers = [n for n in columns if n not in flags and Column(filled[n], formats=formats).kind == "number"]
    texts = [name for name in columns if name not in (*flags, *numbers)]
    words = [name for name in texts if filled[name].nunique() <= max(20, len(frame) // 10)]
    readings = [numbers]  # the most likely first
    if truth == "labels":
        lists = [name for name in texts if holds_lists(filled[name], separator)]
        bracketed = [name for name in lists if are_lists(filled[name])]
        varied = [name for name in filled if frame[name].nunique() > 1]  # an empty cell may be no mark
        flags = [name for name in varied if read_flags(Column(frame[name])) is not None]
        readings = [bracketed, lists, flags if len(flags) > 1 else [], words]
    elif truth == "class":
        one_hot = len(flags) > 1 and bool((frame[flags].astype(float).sum(axis=1) == 1).all())
        few_numbers = [name for name in numbers if filled[name].nunique() <= 20]
        readings = [words, flags if one_hot or len(flags) == 1 else [], few_numbers]
    found = next((reading for reading in readings if reading), [])
    if len(found) == 1 or (found and found == flags and truth != "numbers"):
        return found
    if found:
        raise Refused(
            f"{source} has several columns ({few(found)}) that could hold {HELD[truth]}: type "
            f"{write_setting('data.target', found[0])}, or another of these"
        )
    other = f", or task={TRUTHS['class']} if {words[0]} holds classes" if truth == "numbers" and words else ""
    raise Refused(
        f"{source} has no column that could hold {HELD[truth]} (it has {few(filled, 8) or 'none besides the images'}): "
        f"type data.target=COLUMN{other}"
    )


def is_flag(cells: "pd.Series[str]") -> bool:
    """Whether a column holds 0 and 1 and nothing else."""
    return set(cells.unique()) <= {"0", "1", "0.0", "1.0"}


def holds_lists(cells: "pd.Series[str]", separator: str | None) -> bool:
    """Whether a column holds several labels in a cell, of few labels altogether."""
    signs = [separator] if separator else LABEL_SEPARATORS
    if cells.str.len().max() > LONGEST:
        return False
    several = are_lists(cells) or any(sign in cell for cell in cells for sign in signs)
    return several and len({x for row in split_labels(cells, separator) for x in row}) <= max(20, len(cells) // 4)


def read_cells(
    frame: pd.DataFrame, truth: str, task: str, separator: str | None, none: set[str], formats: Told
) -> tuple[list[list[str]], int]:
    """Return the labels, the class or the numbers of each row, and in how many rows a label of `none` was taken out.

    Raises:
        Refused: if a row has no value, or a class is wanted and a row has none or several.
    """
    told = formats if truth == "numbers" else None
    columns = [Column(frame[name], formats=told) for name in frame.columns]
    names, instead = [column.name for column in columns], f"fill them in, or {LEAVE_OUT}"
    if truth == "numbers":
        without = np.any([column.text.isin(none) for column in columns], 0)
        for column in columns:
            column.check_cells(column.missing & ~without, "no value", instead)
        rows = [list(row) for row in zip(*map(write_plain, columns), strict=True)]
        return [[] if gone else row for row, gone in zip(rows, without, strict=True)], int(without.sum())
    if len(columns) > 1:
        rows = [[names[place] for place in np.flatnonzero(row)] for row in encode_flags(columns)]
    elif truth == "class":
        columns[0].check_cells(columns[0].missing & ~columns[0].text.isin(none), "no value", instead)
        rows = [[cell] for cell in columns[0].text]
    else:
        rows = [list(dict.fromkeys(row)) for row in split_labels(columns[0].text, separator)]
    if truth == "class" and any(len(row) != 1 for row in rows):
        raise Refused(
            f"data.target=[{few(names)}] has rows with no 1 or several: task={task} needs one in each; "
            f"type task={TRUTHS['labels']}"
        )
    return [[label for label in row if label not in none] for row in rows], sum(bool(none & set(row)) for row in rows)


def write_plain(column: Column) -> list[str]:
    """Return the cells as Python writes numbers, however the table does; text as it is."""
    if column.kind != "number":
        return column.text.tolist()
    return [
        text if number != number else repr(float(number))
        for text, number in zip(column.text, column.numbers, strict=True)
    ]


def assign(
    labels: Labels, names: list[str], places: list[list[str]], cells: list[list[str]], groups: list[str] | None
) -> None:
    """Give each image the cells and the group of its row, and note the rows that name none, several, or one again.

    Args:
        labels: filled in place.
        names: what each row calls its image.
        places: the files that may be meant.
        cells: the labels, the class or the numbers of each row.
        groups: the group of each row, if there are groups; an empty one is a group of its own.
    """
    missing: list[str] = []
    many: list[str] = []
    repeated: list[str] = []
    differing = 0
    for row, (name, found) in enumerate(zip(names, places, strict=True)):
        if len(found) != 1:
            (many if found else missing).append(name)
            labels.problems.append((name, f"names {' and '.join(found)}" if found else "there is no such image"))
        elif found[0] in labels.cells:
            repeated.append(name)
            labels.problems.append((name, f"stands in row {row + 1} again"))
            differing += labels.merge(found[0], cells[row])
        else:
            labels.cells[found[0]], labels.rows[found[0]] = cells[row], row
            if groups:
                labels.groups[found[0]] = groups[row] or f"\0{found[0]}"
    for rows, what in (
        (missing, "of the table have no image"),
        (many, "of the table name several images"),
        (repeated, "of the table name an image again" + labels.note_merged(differing)),
    ):
        if rows:
            labels.notes.append(f"{count(len(rows), 'row')} {what}, left out: {few(rows)}")


def encode_labels(
    labels: Labels, files: list[str], min_count: int, rare: str
) -> tuple[Array, list[str], NDArray[np.bool_], list[str]]:
    """Return the canonical targets of these files, the names of the outputs, which files can be used, and notes.

    Raises:
        Refused: if the cells do not fit the truth, or no label is frequent enough.
    """
    rows = [labels.cells[file] for file in files]
    name = labels.names[0] if len(labels.names) == 1 else "labels"
    used = np.ones(len(rows), bool)
    if labels.truth == "numbers":
        index = [labels.rows[file] for file in files]
        columns = [Column(pd.Series([row[i] for row in rows], index, name=name)) for i, name in enumerate(labels.names)]
        return encode_numbers(columns, labels.task), labels.names, used, []
    rows, notes = reduce_rare(rows, min_count, rare)
    if labels.names == ["subfolder"] and len(kinds := {row[0] for row in rows if row}) == 1:
        raise Refused(f"all images that can be used are of class {kinds.pop()}: add different images of another class")
    empty = np.array([not row for row in rows])
    if empty.any():
        what = "with no label at all" if labels.truth == "labels" else "of those classes left out"
        notes.append(f"{count(int(empty.sum()), 'image')} {what}")
    if labels.truth == "labels":
        return *encode_lists(rows, name), used, notes
    y = np.zeros(len(rows), np.int64)
    y[~empty], outputs = encode_classes(Column(pd.Series([row[0] for row in rows if row], name=name)))
    return y, outputs, ~empty, notes


def reduce_rare(rows: list[list[str]], min_count: int, rare: str) -> tuple[list[list[str]], list[str]]:
    """Leave out labels of fewer than `min_count` rows, or merge them into one; return the rows and a note of it.

    Raises:
        Refused: if no label is left.

    >>> reduce_rare([["a", "b"], ["a"]], 2, "merge")
    ([['a', 'other'], ['a']], ['1 label of fewer than 2 images merged into other: b 1'])
    """
    counts = Counter(label for row in rows for label in row)
    scarce = {label: counts[label] for label in sorted(counts) if counts[label] < min_count}
    notes = []
    if scarce:
        what = f"merged into {RARE}" if rare == "merge" else "left out"
        shown = few([f"{label} {number}" for label, number in scarce.items()])
        notes.append(f"{count(len(scarce), 'label')} of fewer than {min_count} images {what}: {shown}")
        instead = [RARE] if rare == "merge" else []
        rows = [
            list(dict.fromkeys(x for label in row for x in (instead if label in scarce else [label]))) for row in rows
        ]
    if not any(rows):
        raise Refused(f"no label has data.min_count={min_count} images: type a smaller number")
    return rows, notes
