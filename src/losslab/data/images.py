"""Images with one class each: scikit-learn's digits, and torchvision's MNIST, Fashion-MNIST and CIFAR-10."""

import gzip
import re
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from losslab.data.dataset import Array, Dataset, split_rows
from losslab.data.installed import read_scikit_learn
from losslab.errors import Refused
from losslab.files import open_regular

DATASETS = ("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100")  # pixels in `data`, classes in `targets`

PACKED = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")  # LeCun's names
LARGEST = 2**28  # bytes of one of these files, unpacked: MNIST's have 47 million


def digits(*, task: str, val: float, test: float, seed: int, folds: int | None = None, fold: int = 0) -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits, 8x8 pixels of 17 levels of grey."""
    table = read_scikit_learn("digits.csv.gz", delimiter=",")
    x = (table[:, :-1].reshape(-1, 1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    y = table[:, -1].astype(np.int64)
    split = split_rows(len(y), val=val, test=test, seed=seed, strata=y, folds=folds, fold=fold)
    return Dataset(x, y, split, (1, 8, 8), [str(i) for i in range(10)])


def torchvision_images(
    dataset: str, root: str, *, task: str, val: float, seed: int, rows: int | None = None
) -> Dataset:
    """Read a dataset of torchvision with a test set of its own; `val` is a share of its training set.

    Args:
        dataset: one of `DATASETS`, torchvision's names.
        root: the folder that torchvision keeps it in; downloaded there if missing.
        rows: how many rows of its training set are trained and validated on, if not all.

    Raises:
        Refused: if it is not one of them, is missing and cannot be downloaded, or is damaged.
    """
    import torchvision.datasets

    if dataset not in DATASETS:
        raise Refused(f"data.dataset={dataset} is not one of {', '.join(DATASETS)}: type one of them")
    folder = Path(root).expanduser()
    if packed := find_packed(folder, dataset):
        return read_packed(packed, getattr(torchvision.datasets, dataset).classes, val, seed, rows)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        parts = [getattr(torchvision.datasets, dataset)(folder, train=train, download=True) for train in (True, False)]
    except (RuntimeError, OSError, EOFError, ValueError) as error:
        raise Refused(
            f"{dataset} is not in data.root={root} and cannot be downloaded there ({' '.join(str(error).split())}): "
            "type data.root=FOLDER, where torchvision has put it before"
        ) from error
    pixels = np.concatenate([np.asarray(part.data) for part in parts])
    x = pixels[:, None] if pixels.ndim == 3 else np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))
    return split_own(x, [np.asarray(part.targets, np.int64) for part in parts], parts[0].classes, val, seed, rows)


def split_own(
    x: Array, targets: Sequence[Array], classes: Sequence[str], val: float, seed: int, rows: int | None
) -> Dataset:
    """Make a dataset of images whose test rows are given: their classes are the second of the targets.

    Of the others at most `rows` are kept, chosen at random but the same whatever the seed.
    """
    own, y = len(targets[0]), np.concatenate(targets)
    if rows is not None and rows < own:
        kept = np.r_[np.sort(np.random.default_rng(0).permutation(own)[:rows]), own : len(y)]
        x, y, own = x[kept], y[kept], rows
    split = split_rows(own, val=val, test=0, seed=seed, strata=y[:own])
    return Dataset(x, y, split | {"test": np.arange(own, len(y))}, x.shape[1:], [str(name) for name in classes])


def find_packed(root: Path, dataset: str) -> Path | None:
    """Return the folder of the gzipped files of MNIST or one like it, where they are not unpacked.

    They lie where torchvision has put them, or in a folder named for the data set, such as Debian's `fashion-mnist`.
    """
    below = sorted(root.iterdir()) if root.is_dir() else []
    named = [each for each in (root, *below) if re.sub(r"[^a-z\d]", "", each.name.lower()) == dataset.lower()]
    for folder in [place for each in named for place in (each, each / "raw")]:
        whole = [folder / f"{name}-ubyte" for name in PACKED]
        if all(file.with_name(f"{file.name}.gz").is_file() and not file.exists() for file in whole):
            return folder
    return None


def read_packed(folder: Path, classes: Sequence[str], val: float, seed: int, rows: int | None) -> Dataset:
    """Read images and classes from the four gzipped files in a folder."""
    x, y, tested, y_tested = (read_idx(folder / f"{name}-ubyte.gz") for name in PACKED)
    if x.shape[1:] != tested.shape[1:] or (len(x), len(tested)) != (len(y), len(y_tested)) or y.max() >= len(classes):
        raise Refused(f"data.root={folder} holds files that do not belong together: type data.root=FOLDER of others")
    targets = [each.astype(np.int64) for each in (y, y_tested)]
    return split_own(np.concatenate([x, tested])[:, None], targets, classes, val, seed, rows)


def read_idx(file: Path) -> NDArray[np.uint8]:
    """Read an array of bytes in LeCun's IDX format: two zeros, 8 for bytes, the dimensions, the size of each, bytes.

    Raises:
        Refused: if it is none.
    """
    try:
        with open_regular(file) as source, gzip.GzipFile(fileobj=source) as opened:
            content = opened.read(LARGEST)
        if len(content) < 4 or content[:3] != b"\0\0\x08":
            raise ValueError("it holds no bytes in IDX format")
        start = 4 + 4 * content[3]
        shape = np.frombuffer(content[4:start], ">i4")
        return np.frombuffer(content, np.uint8, offset=start).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        why = " ".join(str(error).split())
        raise Refused(f"{file} cannot be read ({why}): type data.root=FOLDER of whole files") from None
