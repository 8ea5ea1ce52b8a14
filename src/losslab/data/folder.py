"""Your own images: a folder, with a table of labels or with one subfolder for each class.

Nothing here imports torch, so a fault in the table or the folder is reported before the heavy imports begin.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np

from losslab.data.cache import Decoded, decode_all
from losslab.data.dataset import Dataset, split_rows
from losslab.data.encoder import ImageEncoder
from losslab.data.formats import Told
from losslab.data.labels import Labels, encode_labels, read_label_table
from losslab.data.lines import Format
from losslab.data.notes import few
from losslab.data.pixels import SUFFIXES
from losslab.data.reading import name_lines, read_table
from losslab.data.rows import take_given
from losslab.data.schema import note_untested
from losslab.data.subfolders import read_subfolders
from losslab.data.truth import find_truth, stratify
from losslab.errors import Refused
from losslab.spreadsheet import write_csv

TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def images(  # long: a parameter for each setting of a folder
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
    weight: str | None = None,
    split: str | None = None,
    drop_rows: str | None = None,
    encoding: str | None = None,
    decimal: str | None = None,
    truth: str | None = None,
    folds: int | None = None,
    fold: int = 0,
) -> Dataset:
    """Read a folder of images with a table of labels, or with one subfolder for each class.

    `conf/data/images.yaml` says what each setting is. Images lie in the folder or in any subfolder of it. `truth` is
    `numbers`, `class` or `labels`, and may be left out for losslab's own tasks.

    Returns:
        Images `(N, 3, H, W)` uint8 in the order of their names. `notes` says what was inferred and left out.

    Raises:
        Refused: if the folder or the table is missing, its columns name no image or no labels, or nothing is left.
    """
    truth, root = find_truth(task, truth), Path(path).expanduser()
    files = find_images(root, path)
    source = str(root / labels) if labels and (root / labels).is_file() else labels or only_table(root, path)
    asked: dict[str, Any] = {"file": file, "target": target, "group": group, "weight": weight, "split": split}
    if split is not None and (group is not None or folds is not None):
        other = "group" if group is not None else "folds"
        raise Refused(f"data.split and data.{other} both say which rows are tested: leave one of them out")
    if source is None:
        if given := [f"data.{key}={asked[key]}" for key in ("weight", "split") if asked[key] is not None]:
            raise Refused(f"{given[0]} is a column of a table of labels, and data.path={path} holds none")
        known = read_subfolders(root, files, truth, task)
        encode_labels(known, list(known.cells), min_count, rare)
    else:
        form = Format(encoding)
        frame = read_table(source, "data.labels", form=form)
        asked |= {"separator": separator, "none": [str(label) for label in none or []], "drop_rows": drop_rows}
        with name_lines(source, form):  # refuse before any image is decoded
            known = read_label_table(
                frame, Path(source).name, files, truth, task, formats=Told(decimal, "day_first"), **asked
            )
            encode_labels(known, list(known.cells), min_count, rare)
    found = decode_all(root, list(known.cells), (size[0], size[1]), cache, cache_gb)
    known.leave_out_copies(found.copies)
    known.leave_out_broken(found.broken)
    y, outputs, kept, notes = encode_labels(known, found.files, min_count, rare)
    used = np.flatnonzero(kept)
    groups = np.array([known.groups[name] for name in found.files])[used] if known.groups else None
    strata = stratify(y[used], truth)
    if known.parts and folds is None:
        parts = take_given(np.array([known.parts[name] for name in found.files])[used], strata, val, seed)
    else:
        parts = split_rows(
            len(used), val=val, test=test, seed=seed, strata=strata, groups=groups, folds=folds, fold=fold
        )
    rows = {part: used[places] for part, places in parts.items()}
    notes = [found.note, *known.notes, *notes, *list_problems(known, found), *note_untested(y, rows["test"], outputs)]
    shape = found.x.shape[1:]
    encoder = ImageEncoder(shape, resize=True)
    counts = np.array([known.weights[name] for name in found.files]) if known.weights else None
    data = Dataset(found.x, y, rows, shape, outputs, titles=found.files, notes=notes, encoder=encoder, weight=counts)
    data.sums = found.sums
    return data


def find_images(root: Path, path: str) -> list[str]:
    """Return the images below a folder; `path` is what was typed.

    Raises:
        Refused: if there are none.
    """
    if not root.is_dir():
        what = "is a file: type the folder that holds the images" if root.exists() else "is not there: type a folder"
        raise Refused(f"data.path={path} {what}")
    files = list_images(root)
    if not files:
        raise Refused(f"data.path={path} holds no images ({', '.join(sorted(SUFFIXES))}): type another folder")
    return files


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
        below[:] = sorted(name for name in below if not name.startswith((".", "__MACOSX")))
        files = [Path(folder, name) for name in names if not name.startswith(".")]
        found += [f.relative_to(root).as_posix() for f in files if f.suffix.lower() in SUFFIXES and f.is_file()]
    return sorted(found)


def only_table(root: Path, path: str) -> str | None:
    """Return the one table in the folder, or `None` if there is none."""
    found = sorted(file.name for file in root.iterdir() if file.name.lower().endswith(TABLES) and file.is_file())
    if len(found) > 1:
        raise Refused(f"data.path={path} holds {len(found)} tables ({few(found)}): type data.labels={root / found[0]}")
    return str(root / found[0]) if found else None


def list_problems(labels: Labels, found: Decoded) -> list[str]:
    """Write what was left out into a table beside the cache; return a note of it, if that could be done."""
    file = found.folder / "problems.csv"
    try:
        if not labels.problems:
            file.unlink(missing_ok=True)
            return []
        write_csv(file, [("file", "problem"), *labels.problems])
    except OSError:  # the cache may be read-only
        return []
    return [f"what was left out is listed in {file}"]
