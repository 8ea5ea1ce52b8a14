"""From what a notebook holds to data that a command reads: each is written once into a file named for its content."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from losslab.config.catalogue import CONF, options
from losslab.data.dataset import Array
from losslab.data.lines import is_row
from losslab.data.notes import count
from losslab.errors import Refused, nearest
from losslab.files import replacing

GIVEN = (
    "a table (pandas), arrays (x, y), a torch Dataset, a Hugging Face Dataset, a path, or an option such as 'digits'"
)


def give_data(data: Any, target: Any, task: str | None, root: Path) -> dict[str, Any]:
    """Return the settings that name these data.

    Args:
        data: see `losslab.api.run`.
        target: the column to predict, or several.
        task: what was asked for; if `None`, a table of classes and whole numbers in arrays choose theirs.
        root: the folder for what has to be written.

    Raises:
        Refused: for what is no data, and where a table comes without a target.
    """
    if data is None or isinstance(data, str | Path):
        return name_data(data, target)
    if isinstance(target, pd.Series | pd.DataFrame) or (isinstance(target, np.ndarray) and target.dtype.kind in "biuf"):
        raise Refused(f"target is {type(target).__name__}, and names a column of data: give its name, or data=(x, y)")
    check_table(data, target is not None)
    table = isinstance(data, pd.DataFrame) or hasattr(data, "to_pandas")
    if target is not None and not table and hasattr(data, "__getitem__") and hasattr(data, "__len__"):
        raise Refused("target names a column of a table, and these data hold their targets: leave it out")
    if isinstance(data, tuple):
        if len(data) != 2:
            raise Refused(f"data is a tuple of {len(data)}: give (x, y)")
        if isinstance(data[0], pd.DataFrame):
            return give_pair(*data, task, root)
        return give_arrays(to_array(data[0]), to_array(data[1]), task, root)
    if hasattr(data, "to_pandas"):  # Hugging Face's Dataset, polars' DataFrame
        return give_columns(data, target, task, root)
    if isinstance(data, pd.DataFrame):
        return give_table(data, target, task, root)
    if hasattr(data, "__getitem__") and hasattr(data, "__len__") and not isinstance(data, list | dict | np.ndarray):
        return give_arrays(*read_rows(data), task, root)
    raise Refused(f"data is {type(data).__name__}: give {GIVEN}")


def check_table(data: Any, has_target: bool) -> None:
    """Refuse columns that are no table: a dictionary, a list, one column, or an array where a target is named."""
    if isinstance(data, dict) and {"data", "target"} <= data.keys() and hasattr(data, "data"):  # scikit-learn's Bunch
        raise Refused(f"data is {type(data).__name__}: give (data.data, data.target)")
    if hasattr(data, "collect") and not hasattr(data, "to_pandas"):  # polars' LazyFrame
        raise Refused(f"data is {type(data).__name__}, which is not computed yet: give data.collect()")
    if hasattr(data, "to_pandas") and not (hasattr(data, "columns") or hasattr(data, "column_names")):
        raise Refused(f"data is {type(data).__name__}, one column: give a table with target, or arrays (x, y)")
    if hasattr(data, "dataset") and hasattr(data, "batch_size"):  # torch's DataLoader
        raise Refused(f"data is {type(data).__name__}, which makes batches: give its data.dataset")
    if isinstance(data, dict | list | pd.Series) or (isinstance(data, np.ndarray) and has_target):
        named = ", columns=[...]" if isinstance(data, list | np.ndarray) else ""
        raise Refused(
            f"data is {type(data).__name__}: give pandas.DataFrame(data{named}) with target, or arrays (x, y)"
        )


def name_data(data: str | Path | None, target: Any) -> dict[str, Any]:
    """Return the settings for an option, a folder of images, or the file of a table or of arrays."""
    settings: dict[str, Any] = {} if target is None else {"data.target": target}
    if data is None:
        return settings
    path, name = Path(data).expanduser(), str(data)
    if name in options([str(CONF)], "data") or not (path.exists() or path.suffix or path.parent != Path()):
        return {"data": name, **settings}
    kind = "images" if path.is_dir() else "arrays" if path.suffix == ".npz" else "csv"
    return {"data": kind, "data.path": str(path), **settings}


def list_names(target: Any) -> list[str]:
    """Return the names of target columns that were handed over beside the table of features.

    >>> list_names(pd.Series([1, 2], name="price")), list_names([1, 2])
    (['price'], ['target'])
    """
    if isinstance(target, pd.DataFrame):
        return [str(name) for name in target.columns]
    name = getattr(target, "name", None)
    return ["target" if name is None else str(name)]


def say_unequal(rows: str, targets: int | str) -> str:
    """Say that there is not one target for each row."""
    return f"data holds {rows} of x and {targets} of y: give as many targets as rows"


def join_columns(x: pd.DataFrame, y: Any) -> pd.DataFrame:
    """Put targets beside a table of features, row by row."""
    if len(y) != len(x):
        raise Refused(say_unequal(count(len(x), "row"), len(y)))
    if isinstance(y, pd.Series | pd.DataFrame) and not y.index.equals(x.index) and {*y.index} == {*x.index}:
        raise Refused("x and y have the same rows in another order: give y.loc[x.index], or y.to_numpy() if they match")
    names, columns = list_names(y), list[Any]()
    if isinstance(y, pd.DataFrame):
        columns = [column.array for _, column in y.items()]
    elif isinstance(y, np.ndarray) or hasattr(y, "detach"):
        columns = [*to_array(y).reshape(len(x), -1).T]
        names = [f"{names[0]}{place}" for place in range(len(columns))] if len(columns) > 1 else names
    else:
        columns = [pd.Series(y).array]
    if twice := [name for name in names if name in x.columns]:
        raise Refused(
            f"x has a column {twice[0]}, as y has: rename one, or give the whole table and target='{twice[0]}'"
        )
    return x.reset_index(drop=True).assign(**dict(zip(names, columns, strict=True)))


def give_pair(x: pd.DataFrame, y: Any, task: str | None, root: Path) -> dict[str, Any]:
    """Write a table of features and the targets beside it; whole numbers are classes, and columns of 0 and 1 labels."""
    frame = join_columns(x, y)
    names = [*frame.columns[x.shape[1] :]]
    targets, settings = frame[names], give_table(frame, names, task, root)
    if task is None and all(pd.api.types.is_integer_dtype(column) for _, column in targets.items()):
        if len(names) == 1:
            settings["task"] = "single_label"
        elif targets.isin([0, 1]).all(axis=None):
            settings["task"] = "multi_label"
    return settings


def give_table(frame: pd.DataFrame, target: Any, task: str | None, root: Path) -> dict[str, Any]:
    """Write a table as CSV, without its index; return the settings that read it."""
    frame = frame.set_axis([str(name) for name in frame.columns], axis=1)
    if not frame.columns.is_unique:
        raise Refused(f"data has several columns {frame.columns[frame.columns.duplicated()][0]}: rename all but one")
    if is_row([*frame.columns]):
        raise Refused(f"data has numbers for names ({', '.join(frame.columns[:3])}): name its columns")
    if target is None:
        some = ", ".join(list(frame.columns)[:8])
        raise Refused(f"data is a table, and target names the column to predict: give target=, one of {some}")
    several = isinstance(target, list | set | np.ndarray | pd.Index)
    several = several or (isinstance(target, tuple) and str(target) not in frame.columns)
    targets = [str(name) for name in (target if several else [target])]
    if not len(frame):
        raise Refused("data holds no rows: give a table of some")
    if lacking := [name for name in targets if name not in frame.columns]:
        raise Refused(f"target={lacking[0]} is not a column; {nearest(lacking[0], frame.columns)}")
    if odd := [name for name in frame.columns if "${" in name]:
        raise Refused(f"column {odd[0]} has ${{ in its name, which settings read as a reference: rename it")
    settings: dict[str, Any] = {"data": "csv", "data.path": str(write_table(frame, root)), "data.target": targets}
    settings |= {"data.target": targets[0]} if len(targets) == 1 else {}
    if kinds := [f"{name}: category" for name in frame if is_category(frame[name]) and name not in targets]:
        settings["data.types"] = kinds
    return settings | ({} if task else {"task": found} if (found := guess_task(frame[targets])) else {})


def is_category(column: "pd.Series[Any]") -> bool:
    """Tell whether a column is one of pandas' categories."""
    return isinstance(column.dtype, pd.CategoricalDtype)


def guess_task(targets: pd.DataFrame) -> str | None:
    """Guess a task from the targets of a table: text, categories and truth values are classes, lists are labels.

    Numbers are left to the command, whose usual task is regression.

    >>> guess_task(pd.DataFrame({"y": ["cat", "dog"]})), guess_task(pd.DataFrame({"y": [1, 2]}))
    ('single_label', None)
    """
    if targets.shape[1] > 1:
        return "multi_label" if all(column.dtype == bool for _, column in targets.items()) else None
    column = targets.iloc[:, 0]
    if column.map(lambda cell: isinstance(cell, list | tuple | set | np.ndarray)).any():
        return "multi_label"
    return None if pd.api.types.is_numeric_dtype(column) and column.dtype != bool else "single_label"


def write_table(frame: pd.DataFrame, root: Path) -> Path:
    """Write a table as CSV into a file named for its content, once; lists in cells are joined by `|`."""
    shown = frame.copy()
    for name, column in frame.items():
        if column.dtype == object:
            shown[name] = column.map(lambda cell: "|".join(map(str, cell)) if is_several(cell) else cell)
        elif column.dtype == bool:
            shown[name] = column.astype(int)
        elif pd.api.types.is_timedelta64_dtype(column):
            shown[name] = column.dt.total_seconds() / 86_400
        elif isinstance(column.dtype, pd.PeriodDtype):
            shown[name] = column.dt.to_timestamp()
    return keep(shown.to_csv(index=False, lineterminator="\n").encode(), "table", ".csv", root)


def is_several(cell: Any) -> bool:
    """Tell whether a cell holds several values."""
    return isinstance(cell, list | tuple | set | frozenset | np.ndarray)


def keep(content: bytes, what: str, suffix: str, root: Path) -> Path:
    """Write bytes into a file named for them, unless it is there; return its path."""
    file = root / "data" / f"{what}-{hashlib.sha256(content).hexdigest()[:12]}{suffix}"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as out:
            out.write(content)
    return file


def to_array(values: Any) -> Array:
    """Return an array of NumPy's, also of a tensor on any device."""
    values = values.detach().cpu() if hasattr(values, "detach") else values
    values = values.toarray() if type(values).__module__.startswith("scipy.sparse") else values
    values = values.astype(float).filled(np.nan) if np.ma.is_masked(values) else values
    values = values.float() if str(getattr(values, "dtype", "")) == "torch.bfloat16" else values  # NumPy has none
    array: Array = np.asarray(values)
    return array


def give_arrays(x: Array, y: Array, task: str | None, root: Path, names: Sequence[str] | None = None) -> dict[str, Any]:
    """Write arrays into a file of NumPy's; return the settings that read it."""
    if not x.ndim or not y.ndim or len(x) != len(y):
        rows = count(len(x), "row") if x.ndim else "one object"
        targets = len(y) if y.ndim else "one object"
        raise Refused(say_unequal(rows, targets))
    if not len(x):
        raise Refused("data holds no rows: give some")
    if y.ndim not in (1, 2) or x.dtype.kind == "c":
        what = f"y has the shape {y.shape}" if x.dtype.kind != "c" else "x holds complex numbers"
        raise Refused(f"{what}: give real numbers x, and y (N,) or (N, D)")
    if x.dtype == object or x.ndim not in (2, 3, 4):
        shape = f"the shape {x.shape}" if x.dtype != object else "rows of different lengths, or objects"
        raise Refused(f"x has {shape}: give numbers (N, F), or images (N, H, W) or (N, C, H, W)")
    if y.dtype.kind in "OSU":
        texts, y = np.unique(y.astype(str).ravel(), return_inverse=True)
        names = [str(text) for text in texts]
    usual = None if y.dtype.kind == "f" else "single_label" if y.ndim == 1 or y.shape[1] == 1 else "multi_label"
    x = to_pixels(x) if x.ndim > 2 else x
    y = y.astype(np.int64).reshape(len(y), -1).squeeze(1) if usual == "single_label" else y
    content = io.BytesIO()
    held = {"x": x, "y": y.astype(np.int64) if y.dtype == bool else y}
    held |= {"outputs": np.asarray(names, dtype=str)} if names is not None else {}
    np.savez(content, allow_pickle=False, **held)
    file = keep(content.getvalue(), "arrays", ".npz", root)
    gives = "image" if x.ndim > 2 else "vector"
    found: dict[str, Any] = {"data": "arrays", "data.path": str(file), "data.gives": [gives]}
    return found | ({"task": usual} if usual and not task else {})


def to_pixels(x: Array) -> Array:
    """Return images as bytes `(N, C, H, W)`, from bytes or from numbers from 0 to 1; channels may come last.

    >>> to_pixels(np.ones((2, 5, 4, 3))).shape, to_pixels(np.full((1, 2, 2), 0.5)).max()
    ((2, 3, 5, 4), np.uint8(128))
    """
    if x.ndim == 3:
        x = x[:, None]
    if x.shape[1] not in (1, 3) and x.shape[3] in (1, 3):
        x = x.transpose(0, 3, 1, 2)
    low, high = x.min(), x.max()
    whole = x.dtype.kind in "biu" or (high > 1 and bool((x == np.round(x)).all()))
    if low < 0 or high > (255 if whole else 1):
        raise Refused(
            f"the images hold numbers from {low:g} to {high:g}: give bytes from 0 to 255, or numbers from 0 to 1; "
            "losslab normalises them by the training rows"
        )
    return np.ascontiguousarray(x if x.dtype == np.uint8 else (x if whole else np.round(x * 255.0)).astype(np.uint8))


def read_rows(data: Any) -> tuple[Array, Array]:
    """Return the rows of a dataset of pairs, such as torch's, as arrays.

    Raises:
        Refused: if its rows are no pairs, or of different shapes.
    """
    x, y = [], []
    for place in range(len(data)):
        row = data[place]
        if not isinstance(row, tuple | list) or len(row) != 2:
            raise Refused(f"row {place} of data is {type(row).__name__}: give a dataset of pairs (x, y)")
        x.append(to_array(row[0]))
        y.append(to_array(row[1]))
    if not x:
        raise Refused("data holds no rows: give a dataset of pairs (x, y)")
    for name, arrays in (("x", x), ("y", y)):
        if len(shapes := {array.shape for array in arrays}) > 1:
            some = " and ".join(map(str, sorted(shapes)[:2]))
            raise Refused(f"the rows of data have {name} of different shapes, {some}: resize them in the dataset")
    flat = [array.reshape(1) if array.ndim == 0 else array for array in x]
    return np.stack(flat), np.stack(y)


def image_columns(data: Any) -> list[str]:
    """Return the columns of images of Hugging Face's `Dataset`."""
    return [name for name, kind in (getattr(data, "features", None) or {}).items() if type(kind).__name__ == "Image"]


def give_columns(data: Any, target: Any, task: str | None, root: Path) -> dict[str, Any]:
    """Write the columns of Hugging Face's `Dataset`, or of another table that becomes one of pandas'.

    Its column of images, if it has one, is what is trained on; otherwise all columns but the target are.
    """
    features = getattr(data, "features", None) or {}
    names = list(getattr(data, "column_names", None) or data.columns)
    if target is None:
        target = next((name for name in ("label", "labels", "target") if name in names), None)
    classes = getattr(features.get(target) if isinstance(target, str) else None, "names", None)
    images = image_columns(data)
    if images:
        if target is None:
            raise Refused(f"data holds images, and target names their column: give target=, one of {', '.join(names)}")
        x, y = read_rows([(row[images[0]], row[target]) for row in (data[i] for i in range(len(data)))])
        return give_arrays(x, y, task, root, classes)
    frame = data.to_pandas()
    if classes and target in frame:
        frame[target] = frame[target].map(dict(enumerate(classes)))
    return give_table(frame, target, task, root)
