"""Arrays in a file of NumPy's: `x`, `y`, and the names of the outputs if there are any."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from losslab.data.dataset import Array, Dataset, arrays
from losslab.data.lines import BadCell
from losslab.data.tables import encode
from losslab.data.truth import find_truth
from losslab.errors import Refused, why_missing
from losslab.files import open_regular

HOW = "type the path of a file that numpy.savez(FILE, x=x, y=y) has written"


def npz(path: str, *, task: str, takes: list[str], truth: str | None = None, **settings: Any) -> Dataset:
    """Read arrays. Numbers `(N, F)` become a table with the columns x0, x1, ..., which are standardised.

    Raises:
        Refused: if the file is none of NumPy's, lacks an array, or the arrays do not fit the task.
    """
    found = read_npz(path)
    x, y, truth = found["x"], found["y"], find_truth(task, truth)
    names = [str(name) for name in found["outputs"]] if "outputs" in found else None
    if len(x) != len(y):
        raise Refused(f"data.path={path} holds {len(x)} rows of x and {len(y)} of y: {HOW}")
    if x.ndim == 4:
        return arrays(lambda: (x, y), task, outputs=names, gives="image", truth=truth, **settings)
    if x.ndim != 2:
        raise Refused(f"data.path={path} holds x of the shape {x.shape}: give numbers (N, F) or images (N, C, H, W)")
    if "vector" not in takes:
        raise Refused(f"the model takes {' or '.join(takes)}, but data.path={path} holds vectors: type model=mlp")
    if truth == "class" and names:
        y = np.asarray(names)[y]
    several = names if names and y.ndim == 2 else [f"y{i}" for i in range(y.shape[1])] if y.ndim == 2 else ["y"]
    table = pd.DataFrame(x, columns=[f"x{i}" for i in range(x.shape[1])])
    table = pd.concat([table, pd.DataFrame(y.reshape(len(y), -1), columns=several)], axis=1)
    try:
        return encode(table, several if y.ndim == 2 else "y", task=task, takes=["vector"], truth=truth, **settings)
    except BadCell as error:
        cell = error.after.partition("): ")[0]
        raise Refused(f"{error.before}row {error.row}{cell}): correct them, or leave those rows out") from None


def read_npz(path: str) -> dict[str, Array]:
    """Read the arrays in a file by their names; nothing in it is run.

    Raises:
        Refused: if it is none of NumPy's, or lacks `x` or `y`.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise Refused(f"data.path={path} {why_missing(file, '.npz')}")
    try:
        with open_regular(file) as opened, np.load(opened, allow_pickle=False) as held:
            found = {name: held[name] for name in held.files if name in ("x", "y", "outputs")}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        why = (
            "pickled objects, or another kind of file" if "pickle" in str(error) else " ".join(str(error).split())[:100]
        )
        raise Refused(f"data.path={path} is no file of arrays ({why}): {HOW}") from None
    if lacking := [name for name in ("x", "y") if name not in found]:
        raise Refused(f"data.path={path} lacks {lacking[0]}: {HOW}")
    return found
