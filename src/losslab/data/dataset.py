"""What every dataset is: arrays, a split by seed, and the facts that models and tasks are built from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from losslab.data.domain import within
from losslab.data.notes import count as counted
from losslab.data.truth import find_truth, stratify, to_canonical
from losslab.errors import Refused

if TYPE_CHECKING:
    from losslab.data.encoder import Encoder
    from losslab.data.pixels import Files

Array = NDArray[Any]
Split = dict[str, NDArray[np.int64]]


@dataclass
class Dataset:
    """Rows of inputs `x` and targets `y`, split into `train`, `val` and `test`.

    `x` holds vectors `(N, F)` float32, images `(N, C, H, W)` uint8, or tokens `(N, T)` int64, filled up with 0. Images
    may be mapped from a file, or stay in their files (`losslab.data.pixels.Files`) until a batch asks for them.
    `y` is canonical: numbers float32 `(N, D)`, classes int64 `(N,)`, or labels int64 0/1 `(N, L)`.

    Raises:
        Refused: if a value is not a finite number, a label not 0 or 1, or a class not one of the outputs.
    """

    x: "Array | Files"
    y: Array
    split: Split  # "train", "val", "test" -> row numbers
    shape: tuple[int, ...]  # of one input: (F,), (C, H, W), or (number of token ids,)
    outputs: list[str]  # names of the targets, classes or labels
    inputs: list[str] = field(default_factory=list)  # names of the features, if they have any
    axis: Array | None = None  # the feature in its own units, if there is one only
    titles: list[str] | None = None  # a name for each row, to show samples by
    notes: list[str] = field(default_factory=list)  # what the user should know about how it was read
    standardise: bool = True  # whether to train on numbers in standard deviations
    sums: Array | None = None  # (N, C, 2): each image's sum over each channel, and the sum of squares, if known
    encoder: "Encoder | None" = None  # reads new rows as these were read
    columns: list[tuple[str, ...]] = field(default_factory=list)  # what was made of each; see `losslab.data.schema`
    weight: Array | None = None  # (N,) how much each row counts in the loss and in all metrics, from 0 up

    def __post_init__(self) -> None:
        if isinstance(self.x, np.ndarray):
            check_finite(self.x, "features")
        check_finite(self.y, "targets")
        if self.y.dtype.kind == "i" and len(self.y):
            check_range(self.y, len(self.outputs))
        if self.weight is not None:
            check_weight(self.weight, self.split)

    def targets(self, part: str) -> Array:
        """Return the targets of the `train`, `val` or `test` rows."""
        targets: Array = self.y[self.split[part]]
        return targets

    def weights(self, part: str) -> Array | None:
        """Return the scaled weights of the `train`, `val` or `test` rows; `None` where all count alike."""
        return None if self.scaled_weight is None else self.scaled_weight[self.split[part]]

    def given_weights(self, part: str) -> Array | None:
        """Return the weights of the `train`, `val` or `test` rows as they were given."""
        return None if self.weight is None else self.weight[self.split[part]]

    @cached_property
    def scaled_weight(self) -> Array | None:
        """The weights as float32 `(N,)`, with a mean of 1 over the training rows."""
        if self.weight is None:
            return None
        wide = self.weight / np.max(self.weight)  # a sum of huge ones would be infinite
        scaled: Array = (wide / wide[self.split["train"]].mean()).astype(np.float32)
        return scaled

    def state(self) -> dict[str, Any]:
        """Return all of the data that a prediction needs, in plain values, which a checkpoint keeps."""
        images = {"kind": "images", "shape": [*self.shape], "resize": False} if len(self.shape) == 3 else None
        return {
            "shape": [*map(int, self.shape)],
            "outputs": [*map(str, self.outputs)],
            "priors": self.priors(),
            "encoder": self.encoder.state() if self.encoder else images,
        }

    def priors(self) -> list[float]:
        """Return the share of each class or label in the training rows; nothing for numbers."""
        y = self.targets("train")
        if y.dtype.kind == "f":
            return []
        weight = self.weights("train")
        if weight is None:
            counts = y.sum(0) if y.ndim > 1 else np.bincount(y, minlength=len(self.outputs))
            whole = float(max(1, len(y)))
        else:
            counts = weight @ y if y.ndim > 1 else np.bincount(y, weight, minlength=len(self.outputs))
            whole = float(weight.sum(dtype=np.float64))
        shares: list[float] = (counts / whole).tolist()
        return shares

    def outside(self, domain: str) -> int:
        """Count the targets that are not in a domain, such as `>= 0`; see `losslab.data.domain`."""
        return int((~within(self.y, domain)).sum())

    @cached_property
    def scale(self) -> tuple[Array, Array] | None:
        """Mean and standard deviation of each channel over the training images; `None` if the rows are no images."""
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


def check_finite(values: Array, what: str) -> None:
    """Refuse NaN and infinity."""
    if values.dtype.kind != "f":
        return
    bad = ~np.isfinite(values.reshape(len(values), -1))
    if bad.any():
        column = int(bad.any(0).argmax())
        raise Refused(
            f"column {column} of the {what} holds NaN or infinity in {counted(int(bad[:, column].sum()), 'row')} "
            f"(first: row {int(bad[:, column].argmax())}): replace them by finite numbers, or leave those rows out"
        )


def check_weight(weight: Array, split: Split) -> None:
    """Refuse weights that are no finite numbers of at least 0, and parts whose rows all have 0."""
    if (bad := ~(np.isfinite(weight) & (weight >= 0))).any():
        raise Refused(f"the weight of row {int(bad.argmax())} is {weight[bad][0]:g}: each must be a number from 0 up")
    if empty := [part for part, rows in split.items() if len(rows) and not weight[rows].any()]:
        raise Refused(f"all {empty[0]} rows have the weight 0, so none of them counts: give some of them more")


def check_range(y: NDArray[np.int64], outputs: int) -> None:
    """Refuse labels that are not 0 or 1, and classes that are not below the number of outputs."""
    last = 1 if y.ndim == 2 else outputs - 1
    if y.min() < 0 or y.max() > last:
        what = "labels" if y.ndim == 2 else f"the index of one of {outputs} classes"
        wrong = y.min() if y.min() < 0 else y.max()
        raise Refused(f"the targets hold {wrong}: {what} must be {'0 or 1' if last == 1 else f'0 to {last}'}")


def arrays(
    read: Callable[[], tuple[Any, Any]],
    task: str,
    val: float,
    test: float,
    seed: int,
    outputs: list[str] | None = None,
    gives: str = "vector",
    truth: str | None = None,
    folds: int | None = None,
    fold: int = 0,
) -> Dataset:
    """Make a dataset of arrays: `read()` returns `x` and `y`, shaped as `Dataset` says.

    Args:
        read: called without arguments.
        val, test, seed, folds, fold: the split; see `split_rows`.
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
    y, count = to_canonical(y, truth)
    x = x.astype(np.float32) if x.dtype.kind == "f" else x
    strata = stratify(y, truth)
    split = split_rows(len(y), val=val, test=test, seed=seed, strata=strata, folds=folds, fold=fold)
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
    folds: int | None = None,
    fold: int = 0,
) -> Split:
    """Shuffle rows by `seed` and split them into parts, each with its share of every stratum.

    Args:
        val, test: share of all rows, such as 0.1; each part gets at least two rows.
        strata: a class for each row. Classes of fewer than three rows stay in the training part, but see `folds`.
        groups: a value for each row; rows of equal value stay together. `val` and `test` are then shares of the
            groups, folds are dealt groups, and a group counts for the rarest class among its rows.
        folds: of k-fold cross-validation; `None` for one split. The rows are dealt to so many folds, and `test` does
            not count: the test part is fold number `fold`, and `val` is drawn from the rest by `seed` and `fold`. Each
            row, also one of a rare class, is tested in exactly one fold.
        fold: from 0 to `folds - 1`.

    Raises:
        Refused: if there are too few rows.

    >>> {part: rows.tolist() for part, rows in split_rows(8, val=0.25, test=0.25, seed=0).items()}
    {'train': [2, 5, 6, 7], 'val': [0, 4], 'test': [1, 3]}
    >>> [split_rows(7, val=0.2, test=0.2, seed=0, folds=3, fold=fold)["test"].tolist() for fold in range(3)]
    [[1, 2, 6], [4, 5], [0, 3]]
    """
    if groups is not None:
        first, group = np.unique(groups, return_index=True, return_inverse=True)[1:]
        if strata is not None:
            by_rarity = np.lexsort((np.bincount(strata)[strata], group))  # group by group, rarest class first
            strata = strata[by_rarity[np.unique(group[by_rarity], return_index=True)[1]]]
        parts = split_rows(len(first), val=val, test=test, seed=seed, strata=strata, folds=folds, fold=fold)
        return {part: np.flatnonzero(np.isin(group, chosen)) for part, chosen in parts.items()}
    sizes = {part: max(2, round(share * count)) if share else 0 for part, share in (("test", test), ("val", val))}
    rows = np.arange(count)
    if folds is None:
        return draw_parts(rows, sizes, seed, strata)
    tested = take_fold(count, folds, fold, seed, strata)
    rest = np.delete(rows, tested)
    return draw_parts(rest, {"val": sizes["val"]}, [seed, fold + 1], strata) | {"test": tested}


def take_fold(
    count: int, folds: int, fold: int, seed: int, strata: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Deal shuffled rows to folds, one stratum after the other, and return the rows of one fold.

    Folds differ by at most one row, and by at most one row of each stratum.

    Source: how scikit-learn's `StratifiedKFold` allots classes.
    """
    assert 0 <= fold < folds
    if count < 2 * folds:
        fits = f"type data.folds={count // 2} or less" if count >= 4 else "add rows"
        raise Refused(
            f"{counted(count, 'row')} or groups are too few for data.folds={folds}, as each fold tests two: {fits}"
        )
    return np.sort(shuffle(np.arange(count), seed, strata)[fold::folds])


def draw_parts(
    rows: NDArray[np.int64], sizes: dict[str, int], seed: int | list[int], strata: NDArray[np.int64] | None = None
) -> Split:
    """Draw parts of these sizes from the rows, evenly over the strata; what is left is `train`."""
    order = shuffle(rows, seed, strata)
    kept = order[:0]  # rows that stay in the training part
    if strata is not None:
        rare = np.bincount(strata[rows])[strata[order]] < 3
        kept, order = order[rare], order[~rare]
    parts = {}
    for name, size in sizes.items():
        if size > len(order) - 2:
            raise Refused(describe_few(len(rows), len(kept), sizes))
        picked = np.zeros(len(order), bool)
        if size:
            picked[((np.arange(size) + 0.5) * len(order) / size).astype(int)] = True
        parts[name], order = np.sort(order[picked]), order[~picked]
    return {"train": np.sort(np.concatenate([order, kept])), **dict(sorted(parts.items(), reverse=True))}


def describe_few(count: int, rare: int, sizes: dict[str, int]) -> str:
    """Say why rows cannot be split, and what to do.

    >>> describe_few(5, 0, {"test": 2, "val": 2})
    '5 rows or groups are too few to split, as each of train, test, val needs two: add rows'
    """
    if count - rare < 2 + sum(2 for size in sizes.values() if size) <= count:
        return (
            f"{rare} of {counted(count, 'row')} or groups are of classes that have fewer than three, which are only "
            "trained on, so too few are left to test: leave rare classes out, or make one class of them"
        )
    larger = " or ".join(f"data.{part}" for part, size in sizes.items() if size > 2)
    return (
        f"{counted(count, 'row')} or groups are too few to split, as each of train, {', '.join(sizes)} needs two: "
        f"add rows{f', or type a smaller {larger}' if larger else ''}"
    )


def shuffle(
    rows: NDArray[np.int64], seed: int | list[int], strata: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """Shuffle rows by a seed, and sort them by their strata."""
    order = np.random.default_rng(seed).permutation(rows)
    return order if strata is None else order[np.argsort(strata[order], kind="stable")]
