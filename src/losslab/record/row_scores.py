"""`rows.npz`: what a finished run said of each test and validation row, for comparisons and for you.

docs/records.md lists the arrays of each part, `test` and `val`, and those that are needed to read the scores, which are
called `task.NAME`. numpy alone reads them. Where a loss has several scores for each target, those of the first target
come first.

Scores are float32, or float16 where float32 would need more than 4 MB. The rows of both parts never need more than
32 MB: of larger sets only as many are kept as fit, chosen by their numbers alone, so that runs keep the same ones.
Scores that float16 cannot hold stay float32, and fewer rows are kept. A part of which `trainer.limit_test_batches` left
rows out is not in the file.

Comparisons need less, which is quickly read; see `losslab.record.blocks`:

    metrics        the names of the task's M metrics
    test.values    each of them on all test rows (M,)
    test.without   each of them without the rows of one block (G, M)
    test.block     the block of each row that is kept, or -1
    test.count     how many rows were tested
    test.split     the digest of their numbers, as in `status.json`
"""

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from losslab.files import LIMIT, Unreadable, open_regular, write
from losslab.record.blocks import Array, Blocks, assign_blocks, shuffle

Found = TypeVar("Found")
FILE = "rows.npz"
HALF_ABOVE = 4 * 2**20  # bytes of float32 scores
LARGEST = 32 * 2**20  # bytes of all rows that are kept
LEARNED = 2**16  # numbers of one kind that a task may have learned


@dataclass(frozen=True)
class RowScores:
    """What a run said of the rows of one part; the arrays are of equal length."""

    row: Array  # the number of each row in the data set
    target: Array  # its canonical target
    scores: Array  # its raw scores
    weight: Array | None = None  # what it counts; `None` where all count alike


def write_row_scores(
    folder: Path, parts: Mapping[str, RowScores], learned: Mapping[str, Array], blocks: Blocks | None
) -> None:
    """Write `rows.npz` into a run's folder.

    Args:
        parts: all rows of `test` and `val`, in the order of the split.
        blocks: of the test rows; `None` if they are not known.

    Raises:
        OSError: if the disk does not take it.
    """
    arrays = {f"task.{name}": values for name, values in learned.items() if values.size <= LEARNED}
    for part, kept in limit_rows(parts).items():
        arrays |= {f"{part}.{name}": values for name, values in vars(kept).items() if values is not None}
    if blocks is not None:
        row = parts["test"].row
        arrays["test.block"] = assign_blocks(row)[np.isin(row, arrays["test.row"])]
        arrays |= {"metrics": np.array(blocks.metrics), "test.values": blocks.values, "test.without": blocks.without}
        arrays |= {"test.count": np.array(blocks.rows), "test.split": np.array(blocks.digest)}
    packed = io.BytesIO()
    np.savez_compressed(packed, allow_pickle=False, **arrays)
    write(folder / FILE, packed.getvalue())


def limit_rows(parts: Mapping[str, RowScores]) -> dict[str, RowScores]:
    """Keep as many rows as fit, with scores in half precision where they are many and it holds them."""
    if sum(4 * each.scores.size for each in parts.values()) > HALF_ABOVE:
        kept = keep_rows(parts, score_bytes=2)
        with np.errstate(all="ignore"):
            halved = {part: replace(each, scores=each.scores.astype(np.float16)) for part, each in kept.items()}
            if all(is_close(halved[part].scores, each.scores) for part, each in kept.items()):
                return halved
    return keep_rows(parts, score_bytes=4)


def keep_rows(parts: Mapping[str, RowScores], score_bytes: int) -> dict[str, RowScores]:
    """Keep the same share of each part's rows, those that `shuffle` puts first; in their own order, in small types."""
    targets = {part: shrink(each.target) for part, each in parts.items()}
    sizes = [
        (4 + 1 + 4 * (each.weight is not None)) * len(each.row) + targets[part].nbytes + score_bytes * each.scores.size
        for part, each in parts.items()
    ]
    share = min(1.0, LARGEST / max(1, sum(sizes)))
    kept = {}
    for part, each in parts.items():
        chosen = np.sort(shuffle(each.row)[: int(share * len(each.row))])
        scores = each.scores[chosen].astype(np.float32)
        weight = None if each.weight is None else each.weight[chosen].astype(np.float32)
        kept[part] = RowScores(each.row[chosen].astype(np.int32), targets[part][chosen], scores, weight)
    return kept


def shrink(target: Array) -> Array:
    """Return canonical targets in a small type: labels as bytes, classes as 32 bits."""
    return target.astype(np.float32 if target.dtype.kind == "f" else np.int8 if target.ndim > 1 else np.int32)


def is_close(rounded: Array, scores: Array) -> bool:
    """Return whether no score was rounded by more than a thousandth of the largest."""
    return not scores.size or bool(abs(rounded - scores).max() <= abs(scores).max() / 1000)


def read_row_scores(folder: str | Path) -> dict[str, RowScores]:
    """Read what a run said of its rows, by part: `test` and `val`, or what there is of them.

    Raises:
        Unreadable: where the file is missing, damaged, or not what a run writes.
    """

    def read(member: Member) -> dict[str, RowScores]:
        parts = {name.split(".")[0] for name in member.names if name.endswith(".scores")}
        names = ("row", "target", "scores", "weight")
        found = {
            part: RowScores(*(member(f"{part}.{name}") for name in names if f"{part}.{name}" in member.names))
            for part in parts
        }
        for part, each in found.items():
            if each.row.ndim != 1 or each.row.dtype.kind != "i":
                raise ValueError(f"{part}.row holds no row numbers")
            if (
                not len(each.row)
                == len(each.target)
                == len(each.scores)
                == len(each.row if each.weight is None else each.weight)
            ):
                raise ValueError(f"its arrays of {part} are not of equal length")
        return found

    return read_members(Path(folder, FILE), read)


def read_blocks(folder: str | Path) -> Blocks | None:
    """Read a run's metrics without each block of its test rows; `None` if it has none, as older runs.

    Raises:
        Unreadable: where the file is damaged, or not what a run writes.
    """

    def read(member: Member) -> Blocks | None:
        if "test.without" not in member.names:
            return None
        names, values, without = (member(name) for name in ("metrics", "test.values", "test.without"))
        rows, digest = (int(member(f"test.{name}").item()) for name in ("count", "split"))
        if (
            names.dtype.kind != "U"
            or names.ndim != 1
            or values.shape != names.shape
            or without.shape[1:] != names.shape
        ):
            raise ValueError("its metrics and their values are not of equal length")
        if not 2 <= len(without) <= rows:
            raise ValueError(f"it has {len(without)} blocks of {rows} rows")
        return Blocks(names.tolist(), values.astype(np.float64), without.astype(np.float64), rows, digest)

    file = Path(folder, FILE)
    return read_members(file, read) if file.exists() else None


class Member:
    """Read one array at a time from an archive, never more bytes than the archive says, and no code."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.names = {name.removesuffix(".npy") for name in archive.namelist()}

    def __call__(self, name: str) -> Array:
        content = io.BytesIO(self.archive.read(f"{name}.npy"))
        if np.lib.format.read_magic(content) != (1, 0):
            raise ValueError(f"{name} is of another format")
        begin = content.tell()
        length = int.from_bytes(content.read(2), "little")
        shape, fortran, kind = parse_header(content.getvalue()[begin : begin + 2 + length])
        content.seek(begin + 2 + length)
        if kind.kind not in "iufU":
            raise ValueError(f"{name} is of type {kind}")
        values = np.frombuffer(content.getbuffer(), kind, offset=content.tell())
        return values.reshape(shape, order="F" if fortran else "C")


@lru_cache(1000)
def parse_header(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return an array's shape, whether it is in Fortran's order, and its type; runs of a sweep share their headers."""
    return np.lib.format.read_array_header_1_0(io.BytesIO(header))


def read_members(file: Path, read: Callable[[Member], Found]) -> Found:
    """Read arrays from a file that anyone may have written.

    Raises:
        Unreadable: if it is missing, damaged, larger than a run writes, or not what `read` wants.
    """
    with open_regular(file) as opened:
        if os.fstat(opened.fileno()).st_size > LIMIT:
            raise Unreadable(file, f"is larger than {LIMIT / 2**20:g} MB")
        try:
            with zipfile.ZipFile(opened) as archive:
                entries = archive.infolist()
                if sum(entry.file_size for entry in entries) > LIMIT:
                    raise ValueError(f"it would unpack to more than {LIMIT / 2**20:g} MB")
                if any(entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for entry in entries):
                    raise ValueError("it is compressed in another way")
                return read(Member(archive))
        except Exception as error:  # zipfile, zlib and numpy raise many kinds for what is no such file
            why = " ".join(str(error).split())[:120] or type(error).__name__
            raise Unreadable(file, f"is not what a run writes ({why})") from None
