"""Your own images: a folder, with a table of labels or with one subfolder for each class.

Nothing here imports torch: a fault in the table or the folder is told before the heavy imports begin.
"""

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.data.cache import decode_all
from losslab.data.dataset import Array, Dataset, split_rows
from losslab.data.pixels import SUFFIXES
from losslab.data.reading import table
from losslab.data.tables import (
    CELL,
    MISSING,
    SEPARATORS,
    Column,
    class_target,
    label_columns,
    labels_of,
    multi_hot,
    number_target,
    written_as_list,
)
from losslab.data.truth import TRUTHS, find_truth, strata
from losslab.errors import Refused, nearest
from losslab.spreadsheet import write_csv

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARTS = {"train", "training", "val", "valid", "validation", "test", "testing"}
WHAT = {"numbers": "numbers", "class": "the class", "labels": "labels"}
RARE = "other"  # what rare labels are merged into


@dataclass
class Labelled:
    """What is known of the images before any is decoded."""

    cells: dict[str, list[str]]  # file -> its labels, its class, or its numbers
    names: list[str]  # of the targets: columns of numbers, or one name for the labels
    groups: dict[str, str] = field(default_factory=dict)  # file -> what must not lie on both sides of the split
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)  # what was left out, and why


def images(
    path: str,
    *,
    task: str,
    size: list[int],
    val: float,
    test: float,
    seed: int,
    cache: str,
    cache_gb: float = 16.0,
    labels: str | None = None,
    file: str | None = None,
    target: str | list[str] | None = None,
    separator: str | None = None,
    none: list[str] | None = None,
    min_count: int = 0,
    rare: str = "drop",
    group: str | None = None,
    truth: str | None = None,
) -> Dataset:
    """A folder of images with a table of labels, or with one subfolder for each class, decoded once into a cache.

    Args:
        path: the folder; images lie in it or in any subfolder.
        task: the task's name.
        size: height and width that each image is resized to, whatever its own proportions.
        val, test, seed: the split.
        cache, cache_gb: where decoded images are kept, and how much they may take; see `losslab.data.cache`.
        labels: a CSV or TSV file with a header, in the folder or elsewhere; the one in the folder when `None`.
        file: the column that names the images, with or without folder and extension; found by itself when `None`.
        target: the column of labels, class or number, or several columns; found by itself when `None`.
        separator: stands between the labels in one cell; found by itself when `None`.
        none: labels that are no label, such as `N/A`.
        min_count: labels of fewer images are rare, and left out; or merged into `other`, with `rare="merge"`.
        group: a column whose equal values never lie on both sides of the split.
        truth: `numbers`, `class` or `labels`; may be left out for losslab's own tasks.

    Returns:
        Images `(N, 3, H, W)` uint8 in the order of their names. `notes` says what was inferred and left out.

    Raises:
        Refused: where the folder or the table is missing, its columns name no image or no labels, or nothing is left.
    """
    truth = find_truth(task, truth)
    root = Path(path).expanduser()
    if not root.is_dir():
        what = "is a file: type the folder that holds the images" if root.exists() else "is not there: type a folder"
        raise Refused(f"data.path={path} {what}")
    files = list_images(root)
    if not files:
        raise Refused(f"data.path={path} holds no images ({', '.join(sorted(SUFFIXES))}): type another folder")
    source = str(root / labels) if labels and (root / labels).is_file() else labels or only_table(root, path)
    if source is None:
        known = by_subfolder(root, files, truth, task)
    else:
        frame = table(source, "data.labels")
        nothing = [str(label) for label in none or []]
        known = by_table(frame, Path(source).name, files, truth, task, file, target, separator, nothing, group)
    encoded(dict(known.cells), known.names, truth, task, min_count, rare)  # refuse it before the images are decoded
    height, width = size
    found = decode_all(root, list(known.cells), (height, width), cache, cache_gb)
    doubled(known, found.copies, truth)
    known.problems += found.broken.items()
    if found.broken:
        known.notes.append(f"{counted(len(found.broken), 'image')} cannot be read, left out: {few(found.broken)}")
    cells = {name: known.cells[name] for name in found.files}
    y, outputs, kept, notes = encoded(cells, known.names, truth, task, min_count, rare)
    used = np.flatnonzero(kept)
    groups = np.array([known.groups[name] for name in found.files])[used] if known.groups else None
    parts = split_rows(len(used), val=val, test=test, seed=seed, strata=strata(y[used], truth), groups=groups)
    rows = {part: used[places] for part, places in parts.items()}
    where = found.folder / "problems.csv"
    if keep(known.problems, where):
        notes.append(f"what was left out is listed in {where}")
    notes = [found.note, *known.notes, *notes]
    return Dataset(found.x, y, rows, found.x.shape[1:], outputs, [], None, found.files, notes, sums=found.sums)


def list_images(root: Path) -> list[str]:
    """Return the image files below a folder by their paths from there, sorted, without hidden ones.

    Links are followed, but no folder is listed twice: two links to a folder above would make endless paths.
    """
    found: list[str] = []
    seen = set()
    for folder, below, names in os.walk(root, followlinks=True):
        facts = os.stat(folder)  # noqa: PTH116 - a string, and there may be many
        if (facts.st_dev, facts.st_ino) in seen:
            below.clear()
            continue
        seen.add((facts.st_dev, facts.st_ino))
        below[:] = sorted(name for name in below if not name.startswith("."))
        files = [Path(folder, name) for name in names if not name.startswith(".")]
        found += [f.relative_to(root).as_posix() for f in files if f.suffix.lower() in SUFFIXES and f.is_file()]
    return sorted(found)


def only_table(root: Path, path: str) -> str | None:
    """The one table in the folder, or `None` where there is none."""
    found = sorted(file.name for file in root.iterdir() if file.name.lower().endswith(TABLES) and file.is_file())
    if len(found) > 1:
        raise Refused(f"data.path={path} holds {len(found)} tables ({few(found)}): type data.labels={root / found[0]}")
    return str(root / found[0]) if found else None


def by_subfolder(root: Path, files: list[str], truth: str, task: str) -> Labelled:
    """The class of an image is the name of the subfolder that it lies in."""
    classes = sorted({name.split("/")[0] for name in files if "/" in name})
    if truth != "class":
        also = f", or task={TRUTHS['class']}, where each subfolder is a class" if len(classes) > 1 else ""
        raise Refused(f"data.path={root} holds no CSV or TSV, which task={task} needs: type data.labels=FILE{also}")
    if len(classes) < 2:
        raise Refused(
            f"data.path={root} holds neither a CSV or TSV of labels nor a subfolder for each class: "
            "type data.labels=FILE"
        )
    if {name.lower() for name in classes} <= PARTS:
        raise Refused(
            f"data.path={root} holds {' and '.join(classes)}, which are no classes: type data.path={root / classes[0]}"
        )
    known = Labelled({name: [name.split("/")[0]] for name in files if "/" in name}, ["subfolder"])
    known.notes.append(f"the class of an image is its subfolder: {few(classes)}")
    known.problems += [(name, "lies in no subfolder") for name in files if "/" not in name]
    if known.problems:
        known.notes.append(f"{counted(len(known.problems), 'image')} outside of the subfolders, left out")
    return known


def by_table(
    frame: pd.DataFrame,
    source: str,
    files: list[str],
    truth: str,
    task: str,
    file: str | None,
    target: str | list[str] | None,
    separator: str | None,
    none: list[str],
    group: str | None,
) -> Labelled:
    """What a table says of the images."""
    wanted = [str(name) for name in ([target] if isinstance(target, str | int) else target or [])]
    typed = [("data.file", file), ("data.group", group), *(("data.target", name) for name in wanted)]
    for setting, name in typed:
        if name is not None and str(name) not in frame.columns:
            raise Refused(
                f"{setting}={name} is not a column of {source}; {nearest(str(name), map(str, frame.columns))}"
            )
    frame = frame.apply(lambda column: column.str.strip())
    column, places = named(frame, source, files, file)
    targets = wanted or inferred(frame.drop(columns=[column, *([group] if group else [])]), source, truth, separator)
    known = Labelled({}, targets)
    known.notes.append(f"{source}: images by {column}, {WHAT[truth]} from {few(targets)}")
    ignored = [name for name in frame.columns if name not in targets and zero_one(frame[name])]
    if not wanted and len(ignored) > 1:
        known.notes.append(f"{len(ignored)} columns of 0 and 1 are not used: {few(ignored)}")
    cells, unlabelled = meaning(frame, targets, truth, task, separator, set(none))
    if unlabelled:
        known.notes.append(f"{', '.join(none)} is no label: {counted(unlabelled, 'row')}")
    missing: list[str] = []
    many: list[str] = []
    repeated: list[str] = []
    differing = 0
    for row, (name, found) in enumerate(zip(frame[column], places, strict=True)):
        if len(found) != 1:
            (many if found else missing).append(name)
            known.problems.append((name, f"names {' and '.join(found)}" if found else "there is no such image"))
        elif found[0] in known.cells:
            repeated.append(name)
            known.problems.append((name, f"stands in line {row + 2} again"))
            differing += merge(known.cells, found[0], cells[row], truth)
        else:
            known.cells[found[0]] = cells[row]
            if group:
                known.groups[found[0]] = frame[group].iloc[row] or f"\0{found[0]}"  # an empty cell is its own group
    for names, what in (
        (missing, "of the table have no image"),
        (many, "of the table name several images"),
        (repeated, "of the table name an image again" + merged(differing, truth)),
    ):
        if names:
            known.notes.append(f"{counted(len(names), 'row')} {what}, left out: {few(names)}")
    dropped = [name for name, labels in known.cells.items() if not labels and truth != "labels"]
    for name in dropped:
        del known.cells[name]
    if not known.cells:
        raise Refused(f"no row of {source} has both an image in the folder and a target: type data.target=COLUMN")
    more = len(set(files) - set(known.cells) - set(dropped))
    if more:
        known.notes.append(f"{counted(more, 'image')} in no row of {source}, left out")
    return known


def named(frame: pd.DataFrame, source: str, files: list[str], file: str | None) -> tuple[str, list[list[str]]]:
    """The column that names images, and the files that each of its cells may mean."""
    meant: dict[str, list[str]] = {}
    for name in files:
        pure = PurePosixPath(name)
        for called in {name, pure.name, str(pure.with_suffix("")), pure.stem}:
            meant.setdefault(called, []).append(name)

    def means(cell: str) -> list[str]:
        whole = cell.replace("\\", "/").removeprefix("./")
        bare = whole.rpartition(".")[0] if PurePosixPath(whole).suffix.lower() in SUFFIXES else whole
        names = (whole, whole.rpartition("/")[2], bare, bare.rpartition("/")[2])  # the file may have another suffix
        return [whole] if whole in exact else next((meant[name] for name in names if name in meant), [])

    exact = set(files)
    columns = [str(file)] if file is not None else [str(name) for name in frame.columns]
    hits = {name: len({place for cell in frame[name].unique() for place in means(cell)}) for name in columns}
    best = max(hits, key=lambda name: hits[name])
    if not hits[best]:
        what = f"data.file={file} holds" if file is not None else f"the columns of {source} ({few(columns)}) hold"
        some = f"'{frame[best].iloc[0]}'" if file is not None else "none of the names"
        raise Refused(f"{what} {some}, and the images are called {few(files)}: type data.file=COLUMN")
    return best, [means(cell) for cell in frame[best]]


def zero_one(cells: "pd.Series[str]") -> bool:
    """Whether a column holds 0 and 1 and nothing else."""
    return set(cells.unique()) <= {"0", "1", "0.0", "1.0"}


def inferred(frame: pd.DataFrame, source: str, truth: str, separator: str | None) -> list[str]:
    """The columns that hold the target, where just one reading of the table is possible.

    Raises:
        Refused: where there are several or none.
    """
    columns = [str(name) for name in frame.columns]
    filled = {name: frame[name][~frame[name].isin(MISSING)] for name in columns}
    columns = [name for name in columns if filled[name].nunique() > 1]
    flags = [name for name in columns if zero_one(frame[name])]
    numbers = [n for n in columns if n not in flags and pd.to_numeric(filled[n], errors="coerce").notna().all()]
    texts = [name for name in columns if name not in [*flags, *numbers]]
    words = [name for name in texts if filled[name].nunique() <= max(20, len(frame) // 10)]
    if truth == "labels":
        lists = [name for name in texts if lists_labels(filled[name], separator)]
        bracketed = [name for name in lists if written_as_list(filled[name])]
        readings = [bracketed, lists, flags if len(flags) > 1 else [], words]
    elif truth == "class":
        hot = len(flags) > 1 and bool((frame[flags].astype(float).sum(axis=1) == 1).all())
        readings = [words, flags if hot or len(flags) == 1 else [], [n for n in numbers if filled[n].nunique() <= 20]]
    else:
        readings = [numbers]
    found = next((reading for reading in readings if reading), [])
    one = len(found) == 1 or (found == flags and truth != "numbers")
    if not one:
        which = f"several columns ({few(found)})" if found else "no column"
        some = few(found or [str(name) for name in frame.columns], 8)
        raise Refused(f"{source} has {which} that could hold {WHAT[truth]}: type data.target= one of {some}")
    return found


def lists_labels(cells: "pd.Series[str]", separator: str | None) -> bool:
    """Whether a column holds several labels in a cell, of few labels altogether."""
    signs = [separator] if separator else SEPARATORS
    if cells.str.len().max() > CELL:
        return False
    several = written_as_list(cells) or any(sign in cell for cell in cells for sign in signs)
    return several and len({x for row in labels_of(cells, separator) for x in row}) <= max(20, len(cells) // 4)


def meaning(
    frame: pd.DataFrame, targets: list[str], truth: str, task: str, separator: str | None, none: set[str]
) -> tuple[list[list[str]], int]:
    """The labels, the class or the numbers of each row, and in how many rows `none` was taken out."""
    columns = [Column(frame[name]) for name in targets]
    if truth == "numbers":
        without = np.any([column.text.isin(none) for column in columns], 0)
        for column in columns:
            column.refuse(column.missing & ~without, "no value")
        rows = [list(row) for row in zip(*(column.text for column in columns), strict=True)]
        return [[] if gone else row for row, gone in zip(rows, without, strict=True)], int(without.sum())
    if len(targets) > 1:
        hot = label_columns(columns)
        rows = [[targets[place] for place in np.flatnonzero(row)] for row in hot]
    elif truth == "class":
        columns[0].refuse(columns[0].missing & ~columns[0].text.isin(none), "no value")
        rows = [[cell] for cell in columns[0].text]
    else:
        rows = [list(dict.fromkeys(row)) for row in labels_of(columns[0].text, separator)]
    if truth == "class" and any(len(row) != 1 for row in rows):
        raise Refused(
            f"data.target=[{few(targets)}] has rows with no 1 or several: task={task} needs one in each; "
            f"type task={TRUTHS['labels']}"
        )
    return [[label for label in row if label not in none] for row in rows], sum(bool(none & set(row)) for row in rows)


def merge(cells: dict[str, list[str]], name: str, others: list[str], truth: str) -> int:
    """Add the labels of a second copy to an image; without `labels`, 1 where it has another target."""
    if truth == "labels":
        cells[name] = list(dict.fromkeys([*cells[name], *others]))
        return 0
    return int(cells[name] != others)


def merged(differing: int, truth: str) -> str:
    """What became of the labels of a second copy."""
    if truth == "labels":
        return " (their labels are added to the first)"
    return f" ({differing} with another target than the first)" if differing else ""


def doubled(known: Labelled, copies: dict[str, str], truth: str) -> None:
    """Leave out all but the first of files with equal pixels, so that no image is on both sides of the split."""
    differing = sum(merge(known.cells, first, known.cells[name], truth) for name, first in copies.items())
    known.problems += [(name, f"has the pixels of {first}") for name, first in copies.items()]
    if copies:
        what = f"{counted(len(copies), 'image')} with the pixels of another{merged(differing, truth)}"
        known.notes.append(f"{what}, left out: {few(copies)}")


def encoded(
    cells: dict[str, list[str]], names: list[str], truth: str, task: str, min_count: int, rare: str
) -> tuple[Array, list[str], NDArray[np.bool_], list[str]]:
    """The canonical target, the names of its outputs, which rows can be used, and what the user should know."""
    rows = list(cells.values())
    name = names[0] if len(names) == 1 else "labels"
    notes: list[str] = []
    kept = np.ones(len(rows), bool)
    if truth == "numbers":
        columns = [Column(pd.Series([row[i] for row in rows], name=name)) for i, name in enumerate(names)]
        return number_target(columns, task), names, kept, notes
    counts = Counter(label for row in rows for label in row)
    scarce = {label: counts[label] for label in sorted(counts) if counts[label] < min_count}
    if scarce:
        what = f"merged into {RARE}" if rare == "merge" else "left out"
        shown = few([f"{label} {count}" for label, count in scarce.items()])
        notes.append(f"{counted(len(scarce), 'label')} of fewer than {min_count} images {what}: {shown}")
        stays = [RARE] if rare == "merge" else []
        rows = [
            list(dict.fromkeys(x for label in row for x in (stays if label in scarce else [label]))) for row in rows
        ]
    if not any(rows):
        raise Refused(f"no label has data.min_count={min_count} images: type a smaller number")
    empty = np.array([not row for row in rows])
    if truth == "labels":
        if empty.any():
            notes.append(f"{counted(int(empty.sum()), 'image')} with no label at all")
        return *multi_hot(rows, name), kept, notes
    if empty.any():
        notes.append(f"{counted(int(empty.sum()), 'image')} of those classes left out")
    y, outputs = class_target(Column(pd.Series([row[0] for row in rows if row], name=name)))
    whole = np.zeros(len(rows), np.int64)
    whole[~empty] = y
    return whole, outputs, ~empty, notes


def keep(problems: list[tuple[str, str]], file: Path) -> bool:
    """List what was left out beside the cache; whether that could be done."""
    try:
        if not problems:
            file.unlink(missing_ok=True)
            return False
        write_csv(file, [("file", "problem"), *problems])
    except OSError:  # a cache that can only be read
        return False
    return True


def counted(count: int, what: str) -> str:
    """A number and its noun.

    >>> counted(1, "image"), counted(1200, "row")
    ('1 image', '1,200 rows')
    """
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def few(names: Iterable[str], most: int = 3) -> str:
    """The first few names.

    >>> few(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    names = list(names)
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
