"""Predictions for rows that a notebook holds."""

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from losslab.api.data import image_columns, read_rows, to_array, to_pixels, write_table
from losslab.api.objects import OBJECTS, digest_of
from losslab.api.results import Result
from losslab.api.words import write_value
from losslab.data.encoder import New, TableEncoder
from losslab.data.lines import DEFAULT
from losslab.data.typed_files import holds_numbers
from losslab.errors import Refused
from losslab.predict import KEYS, compose_checkpoint, parse_threshold, predict_rows
from losslab.restore import load_predictor

if TYPE_CHECKING:
    from losslab.restore import Predictor


RUN = "give a result of losslab.run, a run's folder, or its checkpoint"


def predict_given(
    run: Result | str | Path,
    data: Any,
    threshold: float | str | None,
    id: str | None,
    objects: Sequence[Any],
    allow: str | Sequence[str] | None,
) -> pd.DataFrame:
    """Return what a run says of new rows; see `losslab.predict`.

    Raises:
        Refused: where the rows are not what the model takes.
    """
    for given in objects:
        OBJECTS[digest_of(given)] = given
    if not isinstance(run, Result | str | Path):
        raise Refused(f"run is {type(run).__name__}: {RUN}")
    folder = run.folder if isinstance(run, Result) else Path(run).expanduser()
    if not folder.exists():
        raise Refused(f"run={str(run)!r} is not there: {RUN}")
    words = [
        *(run.own if isinstance(run, Result) else ()),
        f"ckpt={folder / 'best.ckpt' if folder.is_dir() else folder}",
    ]
    if allow is not None:
        words.append(f"allow={write_value('allow', allow)}")
    cfg, _ = compose_checkpoint(words, [key for key in KEYS if key != "input"], "a prediction")
    predictor = load_predictor(cfg)
    new = read_new(predictor, data, id)
    found = predict_rows(predictor, new, parse_threshold(None if threshold is None else str(threshold)))
    for note in found.notes:
        print(f"note  {note}", file=sys.stderr)
    numbers = {name: column.double().numpy() for name, column in found.columns.items()}
    frame = pd.DataFrame({"predicted": found.words, **numbers} if found.marked is not None else numbers)
    if isinstance(data, pd.DataFrame):
        return frame.set_axis(data.index)
    return frame.set_axis(pd.Index(found.titles, name=found.named)) if found.named != "row" else frame


def read_new(run: "Predictor", data: Any, id: str | None) -> New:
    """Encode rows as the training rows were: a table, an array, torch's dataset, or a path.

    Raises:
        Refused: where they are not what the model takes.
    """
    encoder, shape = run.encoder, run.data.shape
    if encoder is None:
        raise Refused("the run's data are neither a table nor arrays nor images: there is nothing to read")
    if isinstance(data, str | Path):
        if not Path(data).expanduser().exists():
            raise Refused(f"{data} is not there: give a table, an array, or the path of a table or of images")
        return encoder.read(Path(data).expanduser(), id)
    if isinstance(data, dict | pd.Series) or not (hasattr(data, "__len__") or hasattr(data, "to_pandas")):
        raise Refused(f"data is {type(data).__name__}: give a table (pandas), an array, or a path")
    if images := image_columns(data):
        data = np.stack([to_array(data[place][images[0]]) for place in range(len(data))])
    if hasattr(data, "to_pandas"):
        data = data.to_pandas()
    if not isinstance(data, pd.DataFrame):
        rows = isinstance(data, np.ndarray | list | tuple) or hasattr(data, "detach")
        x = to_array(data) if rows else read_rows(data)[0]
        if not isinstance(encoder, TableEncoder):
            return encode_images(x, shape)
        names = [column.name for column in encoder.columns]
        if x.ndim != 2 or x.shape[1] != len(names):
            raise Refused(f"the rows have the shape {x.shape}, and the model takes (N, {len(names)})")
        data = pd.DataFrame(x, columns=names)
    if not isinstance(encoder, TableEncoder):
        raise Refused("data is a table, and the model takes images: give an array of them, or a folder")
    data = data.set_axis([str(name) for name in data.columns], axis=1)
    numbers = [str(name) for name, column in data.items() if holds_numbers(column)]
    with tempfile.TemporaryDirectory() as place:  # read as any file is
        return replace(encoder, form=DEFAULT).read(write_table(data, Path(place)), id, numbers)


def encode_images(x: Any, shape: Sequence[int]) -> New:
    """Return images as the model takes them.

    Raises:
        Refused: if they are of another size.
    """
    if x.ndim == len(shape) == 3 and x.shape == tuple(shape):
        x = x[None]
    images = to_pixels(x) if x.ndim in (3, 4) else x
    if images.shape[1:] != tuple(shape):
        raise Refused(f"the images have the shape {images.shape[1:]}, and the model takes {tuple(shape)}")
    return New(images, [str(row) for row in range(len(images))], [])
