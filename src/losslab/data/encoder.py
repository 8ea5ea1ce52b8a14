"""From a file of new rows to what a trained model takes, by what was learned from the training rows.

A checkpoint keeps an encoder as plain values (`state`), so a prediction reads none of the data that was trained on.
Nothing here imports torch.
"""

import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.data.columns import ID, MISSING, Column, ColumnEncoder
from losslab.data.lines import DEFAULT, Format
from losslab.data.notes import count, few
from losslab.data.reading import name_lines, read_table
from losslab.data.typed_files import NUMBERS
from losslab.errors import Refused, nearest

Array = NDArray[Any]


@dataclass
class New:
    """New inputs to predict on, encoded like the training rows."""

    x: Array
    titles: list[str]  # a name for each row
    notes: list[str] = field(default_factory=list)  # what the user should know about how they were read
    named: str = "row"  # what the titles are: the number, the file, or the column that names a row


class Encoder(Protocol):
    """Reads new rows as the training rows were read."""

    def read(self, source: Path, id: str | None = None) -> New:
        """Read a file, or a folder; `id` is the column that names a row, found by itself if `None`.

        Raises:
            Refused: where it does not hold what the model takes.
        """

    def state(self) -> dict[str, Any]:
        """Return what makes it again, in plain values."""


@dataclass(frozen=True)
class TableEncoder:
    """Encodes the columns of a table as vectors, or as tokens."""

    columns: list[ColumnEncoder]  # what was learned from each; they are matched by name
    buckets: int | None = None  # number of token ids; `None` for vectors
    missing: tuple[str, ...] = ()  # what an empty cell may hold beside `MISSING`
    form: Format = DEFAULT  # of the files that are read
    # columns of the training table that are no features: the target, weights, what says how rows are split
    aside: tuple[str, ...] = ()

    def encode(self, columns: Sequence[Column]) -> Array:
        """Return vectors `(N, F)` float32, or token ids `(N, T)` int64; the columns stand in the encoder's order."""
        if self.buckets is not None:
            return self.hash_tokens(columns, self.buckets)
        x = np.empty((len(columns[0].missing), sum(len(known.feature_names()) for known in self.columns)), np.float32)
        place = 0
        for known, column in zip(self.columns, columns, strict=True):
            for values in known.to_features(column):
                x[:, place] = values
                place += 1
        return x

    def hash_tokens(self, columns: Sequence[Column], buckets: int) -> Array:
        """Return hashes of column and word from 1 on; 0 fills up the shorter rows."""
        rows: list[list[int]] = [[] for _ in columns[0].text]
        for known, column in zip(self.columns, columns, strict=True):
            for ids, words in zip(rows, known.to_tokens(column), strict=True):
                ids += [zlib.crc32(f"{known.name}={word}".encode()) % (buckets - 1) + 1 for word in words]
        x = np.zeros((len(rows), max(1, max(map(len, rows)))), np.int64)
        for row, ids in enumerate(rows):
            x[row, : len(ids)] = ids
        return x

    def read(self, source: Path, id: str | None = None, typed: Sequence[str] = ()) -> New:
        """Read the columns of a table by their names; other columns are not used.

        Args:
            source: the file.
            id: the column that names a row, found by itself if `None`.
            typed: columns of numbers that are plain, however the training table wrote numbers; found by itself in files
                that tell numbers from text.

        Raises:
            Refused: if there is no such table, it lacks a column, or a cell is no number and all others are.
        """
        numbers = {known.name for known in self.columns if known.plain}
        missing = [*MISSING, *self.missing]
        frame = read_table(str(source), "input", None, self.form, lambda name: name not in numbers, missing)
        typed = [*typed, *frame.attrs.get(NUMBERS, ())]
        frame.columns = frame.columns.map(str)
        self.check_columns(frame, source)
        as_written = [
            replace(known, style="plain")
            if known.name in typed and known.kind == "number" and not known.dates
            else known
            for known in self.columns
        ]
        try:
            with name_lines(str(source), self.form):
                columns = [Column(frame[known.name], like=known, missing=self.missing) for known in as_written]
        except Refused as error:
            raise Refused(f"input={source}: {error}") from None
        notes = [known.note_unknown(column) for known, column in zip(as_written, columns, strict=True)]
        notes += [
            f"{known.name}: its numbers are per cent, as in the training table: 12 means 12 %"
            for known, written in zip(self.columns, as_written, strict=True)
            if known.style != written.style and known.style.endswith("%")
        ]
        named = find_id(frame, id)
        used = {known.name for known in self.columns}
        if more := [name for name in frame.columns if name not in (*used, *self.aside, named)]:
            notes.append(f"the model was not trained on {few(more, 8)}: not used")
        text = next((column.text.tolist() for column in columns if column.kind == "text"), None)
        titles = frame[named].tolist() if named else text or [str(row) for row in range(len(frame))]
        return New(self.encode(columns), titles, [note for note in notes if note], named or "row")

    def set_aside(self, data: Mapping[str, Any]) -> "TableEncoder":
        """Return an encoder that knows the other columns of the training table, by the settings of its data."""
        named = [data.get(key) for key in ("target", "drop", "weight", "split", "group", "time")]
        names = [str(name) for value in named for name in ([value] if isinstance(value, str) else value or [])]
        return replace(self, aside=tuple(names))

    def check_columns(self, frame: pd.DataFrame, source: Path) -> None:
        """Refuse a table that lacks a column."""
        known = [column.name for column in self.columns]
        lacking = [name for name in known if name not in frame.columns]
        if lacking:
            spare = [name for name in frame.columns if name not in known]
            instead = f", and has {few(spare, 8)} instead: rename or add columns" if spare else ": add them"
            raise Refused(f"input={source} lacks {few(lacking, 8)}, which the model was trained on{instead}")

    def state(self) -> dict[str, Any]:
        """Return what makes it again, in plain values."""
        columns = [asdict(column) for column in self.columns]
        form, missing = asdict(self.form), [*self.missing]
        return {"kind": "table", "buckets": self.buckets, "missing": missing, "form": form, "columns": columns}


def find_id(frame: pd.DataFrame, wanted: str | None) -> str | None:
    """Return the column that names the rows: the one that is wanted, or one that is called so and differs in each row.

    Raises:
        Refused: if the one that is wanted is not there.

    >>> find_id(pd.DataFrame({"n": ["3", "4"], "PassengerId": ["7", "9"]}), None)
    'PassengerId'
    """
    if wanted is not None and wanted not in frame.columns:
        raise Refused(f"id={wanted} is not a column of the input; {nearest(wanted, frame.columns)}")
    called = (name for name in frame.columns if ID.search(name) and frame[name].is_unique and (frame[name] != "").all())
    return wanted or next(called, None)


@dataclass(frozen=True)
class ImageEncoder:
    """Reads image files as `(N, C, H, W)` uint8."""

    shape: tuple[int, ...]  # channels, height and width
    resize: bool  # whether the training images were resized to that shape; if not, other images must have it

    def read(self, source: Path, id: str | None = None) -> New:
        """Read an image file, or all in a folder; a row is named by its file.

        Raises:
            Refused: where there is no image, or none of that size, and for an `id`.
        """
        from losslab.data.folder import list_images
        from losslab.data.pixels import describe

        if id is not None:
            raise Refused(f"id={id} is for tables, and images are named by their files: leave it out")
        names = [source.name] if source.is_file() else list_images(source)
        if not names:
            raise Refused(f"input={source} holds no images: type the path of an image, or of a folder of images")
        root, x, titles, problems = source.parent if source.is_file() else source, [], [], {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's, of odd but readable files
            for name in names:
                try:
                    x.append(self.decode(root / name))
                except Exception as error:  # what a broken file raises is up to its decoder
                    problems[name] = describe(error)
                    continue
                titles.append(name)
        if not x:
            name, why = next(iter(problems.items()))
            raise Refused(f"input={source} is no image that the model takes ({name}: {why}): type another file")
        notes = [
            f"{count(len(problems), 'file')} left out: {few([f'{name} ({why})' for name, why in problems.items()])}"
        ]
        return New(np.stack(x), titles, notes if problems else [])

    def decode(self, file: Path) -> NDArray[np.uint8]:
        """Return one image; an image of another size is an error unless images are resized."""
        from PIL import Image

        from losslab.data.pixels import decode, open_image

        channels, height, width = self.shape
        with open_image(file) as opened:
            size = opened.size
        if not self.resize and size != (width, height):
            raise ValueError(f"{size[0]}x{size[1]} pixels, where the model takes {width}x{height}")
        image = decode(file, (height, width))
        return image if channels > 1 else np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))[None]

    def state(self) -> dict[str, Any]:
        """Return what makes it again, in plain values."""
        return {"kind": "images", "shape": list(self.shape), "resize": self.resize}


def make_encoder(state: Mapping[str, Any]) -> Encoder:
    """Make an encoder from its state.

    Raises:
        KeyError, TypeError: if the state is none.

    >>> make_encoder({"kind": "images", "shape": [1, 8, 8], "resize": False})
    ImageEncoder(shape=(1, 8, 8), resize=False)
    """
    if state["kind"] == "images":
        return ImageEncoder(tuple(state["shape"]), state["resize"])
    columns = [ColumnEncoder(**column) for column in state["columns"]]
    return TableEncoder(columns, state["buckets"], tuple(state["missing"]), Format(**state["form"]))
