"""What every dataset is: arrays, a split by seed, and the facts that models and tasks are built from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from losslab.data.domain import within
from losslab.data.truth import canonical, find_truth, strata
from losslab.errors import Refused

if TYPE_CHECKING:
    from losslab.data.pixels import Files

Array = NDArray[Any]
Split = dict[str, NDArray[np.int64]]


@dataclass
class New:
    """Inputs that are to be predicted on, as the training rows would have them, and what to call them."""

    x: Array
    titles: list[str]
    notes: list[str] = field(default_factory=list)  # what the user should know about how they were read


@dataclass
class Dataset:
    """Rows of inputs `x` and targets `y`, split into `train`, `val` and `test`.

    `x` holds vectors `(N, F)` float32, images `(N, C, H, W)` uint8, or tokens `(N, T)` int64, 0 where there is none.
    Images may lie in a memory-mapped file, or stay in their files (`losslab.data.pixels.Files`) until a batch asks.
    `y` is canonical: regression float32 `(N, D)`; single-label int64 `(N,)`; multi-label int64 0/1 `(N, L)`.

    Raises:
        Refused: where a value is not a finite number, a label not 0 or 1, or a class not one of the outputs.
    """

    x: "Array | Files"
    y: Array
    split: Split  # "train", "val", "test" -> row numbers
    shape: tuple[int, ...]  # of one input: (F,), (C, H, W), or (number of token ids,)
    outputs: list[str]  # names of the targets, classes or labels
    inputs: list[str] = field(default_factory=list)  # names of the features, where they have any
    axis: Array | None = None  # the one feature in its own units, where there is just one
    titles: list[str] | None = None  # a name for each row, to show samples by
    notes: list[str] = field(default_factory=list)  # what the user should know about how it was read
    standardise: bool = True  # whether regression targets are trained on in standard deviations
    sums: Array | None = None  # (N, C, 2): of each image's channels, and of their squares, where they are known
    new: New | None = None  # rows of another table, for losslab.predict

    def __post_init__(self) -> None:
        for what, values in (("features", self.x), ("targets", self.y)):
            if not isinstance(values, np.ndarray):
                continue  # images that are still in their files
            bad = ~np.isfinite(values.reshape(len(values), -1)) if values.dtype.kind == "f" else np.zeros((1, 1), bool)
            if bad.any():
                column = int(bad.any(0).argmax())
                raise Refused(
                    f"column {column} of the {what} holds NaN or infinity in {int(bad[:, column].sum())} rows "
                    f"(first: row {int(bad[:, column].argmax())}): every value must be a finite number"
                )
        if self.y.dtype.kind == "i":
            last = 1 if self.y.ndim == 2 else len(self.outputs) - 1
            if len(self.y) and (self.y.min() < 0 or self.y.max() > last):
                what = "labels" if self.y.ndim == 2 else f"the index of one of {last + 1} classes"
                some = self.y.min() if self.y.min() < 0 else self.y.max()
                raise Refused(f"the targets hold {some}: {what} must be {'0 or 1' if last == 1 else f'0 to {last}'}")

    def targets(self, part: str) -> Array:
        """The targets of the `train`, `val` or `test` rows."""
        targets: Array = self.y[self.split[part]]
        return targets

    def outside(self, domain: str) -> int:
        """Count the targets that are not in a domain, such as `>= 0`; see `losslab.data.domain`."""
        return int((~within(self.y, domain)).sum())

    @cached_property
    def scale(self) -> tuple[Array, Array] | None:
        """Mean and standard deviation of each channel over the training images; `None` for what is not an image."""
        if self.x.ndim != 4:
            return None
        train, levels = self.split["train"], np.arange(256)
        if self.sums is None:
            counts = np.zeros((self.x.shape[1], 256), np.int64)
            for images in (self.x[rows] for rows in np.array_split(train, len(train) // 1024 + 1)):
                counts += [np.bincount(images[:, c].reshape(-1), minlength=256) for c in range(images.shape[1])]
            sums = np.stack([counts @ levels, counts @ levels**2])
        else:
            sums = self.sums[train].sum(0).T
        mean, square = sums / (len(train) * self.x.shape[2] * self.x.shape[3])
        std = np.sqrt(np.maximum(square - mean**2, 0))
        return mean.astype(np.float32), np.maximum(std, 1e-6).astype(np.float32)


def arrays(
    read: Callable[[], tuple[Any, Any]],
    task: str,
    val: float,
    test: float,
    seed: int,
    outputs: list[str] | None = None,
    gives: str = "vector",
    truth: str | None = None,
) -> Dataset:
    """Make a dataset of arrays: `read()` returns `x` and `y`, shaped as `Dataset` says.

    Args:
        read: called without arguments.
        task: the task's name.
        val, test, seed: the split; see `split_rows`.
        outputs: names of the targets, classes or labels; their numbers if `None`.
        gives: what the rows are: `vector`, `image` or `tokens`.
        truth: `numbers`, `class` or `labels`; may be left out for losslab's own tasks.

    Raises:
        Refused: if the targets do not fit the truth.

    >>> data = arrays(lambda: (np.eye(20), np.arange(20.0)), "regression", val=0.2, test=0.2, seed=0)
    >>> data.shape, data.y.shape, len(data.split["train"])
    ((20,), (20, 1), 12)
    """
    truth = find_truth(task, truth)
    x, y = (np.asarray(values) for values in read())
    y, count = canonical(y, truth)
    x = x.astype(np.float32) if x.dtype.kind == "f" else x
    split = split_rows(len(y), val=val, test=test, seed=seed, strata=strata(y, truth))
    shape = (int(x.max()) + 1,) if gives == "tokens" else x.shape[1:]
    inputs = [f"x{i}" for i in range(x.shape[1])] if gives == "vector" else []
    return Dataset(x, y, split, shape, outputs or [str(i) for i in range(count)], inputs)


def split_rows(
    count: int,
    *,
    val: float,
    test: float,
    seed: int,
    strata: NDArray[np.int64] | None = None,
    groups: Array | None = None,
) -> Split:
    """Row numbers of the parts: shuffled by `seed`, each stratum spread over the parts in proportion.

    Args:
        count: number of rows.
        val, test: parts of all rows, such as 0.1; each gets at least two rows.
        strata: a class for each row. Those of fewer than three rows stay in the training part.
        groups: a value for each row; rows of equal value stay together. `val` and `test` are then parts of the groups,
            and a group is of the rarest class among its rows.

    Raises:
        Refused: where there are too few rows.

    >>> {part: rows.tolist() for part, rows in split_rows(8, val=0.25, test=0.25, seed=0).items()}
    {'train': [2, 5, 6, 7], 'val': [0, 4], 'test': [1, 3]}
    """
    if groups is not None:
        first, of = np.unique(groups, return_index=True, return_inverse=True)[1:]
        if strata is not None:
            rarest = np.lexsort((np.bincount(strata)[strata], of))  # group by group, its rarest class first
            strata = strata[rarest[np.unique(of[rarest], return_index=True)[1]]]
        together = split_rows(len(first), val=val, test=test, seed=seed, strata=strata)
        return {part: np.flatnonzero(np.isin(of, chosen)) for part, chosen in together.items()}
    order = np.random.default_rng(seed).permutation(count)
    kept = order[:0]
    if strata is not None:
        order = order[np.argsort(strata[order], kind="stable")]
        rare = np.bincount(strata)[strata[order]] < 3
        kept, order = order[rare], order[~rare]
    parts: Split = {}
    for name, share in (("test", test), ("val", val)):
        size = max(2, round(share * count)) if share else 0
        if size > len(order) - 2:
            raise Refused(f"{count} rows (or groups) are too few to split: train, val and test need two each")
        picked = np.zeros(len(order), bool)
        if size:
            picked[((np.arange(size) + 0.5) * len(order) / size).astype(int)] = True
        parts[name], order = np.sort(order[picked]), order[~picked]
    return {"train": np.sort(np.concatenate([order, kept])), "val": parts["val"], "test": parts["test"]}
