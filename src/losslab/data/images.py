"""Images with one class each: scikit-learn's digits, and torchvision's MNIST, Fashion-MNIST and CIFAR-10."""

from pathlib import Path

import numpy as np

from losslab.data.dataset import Dataset, split_rows
from losslab.errors import Refused

DATASETS = ("MNIST", "FashionMNIST", "KMNIST", "CIFAR10", "CIFAR100")  # pixels in `data`, classes in `targets`


def digits(*, task: str, val: float, test: float, seed: int, folds: int | None = None, fold: int = 0) -> Dataset:
    """Return scikit-learn's 1,797 handwritten digits, 8x8 pixels of 17 levels of grey."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    x = (pixels.reshape(-1, 1, 8, 8) * (255 / 16)).round().astype(np.uint8)
    y = classes.astype(np.int64)
    split = split_rows(len(y), val=val, test=test, seed=seed, strata=y, folds=folds, fold=fold)
    return Dataset(x, y, split, (1, 8, 8), [str(i) for i in range(10)])


def torchvision_images(dataset: str, root: str, *, task: str, val: float, seed: int) -> Dataset:
    """Read a dataset of torchvision with a test set of its own; `val` is a share of its training set.

    Args:
        dataset: one of `DATASETS`, torchvision's names.
        root: the folder that torchvision keeps it in; downloaded there if missing.

    Raises:
        Refused: if it is not one of them, is missing and cannot be downloaded, or is damaged.
    """
    import torchvision.datasets

    if dataset not in DATASETS:
        raise Refused(f"data.dataset={dataset} is not one of {', '.join(DATASETS)}: type one of them")
    folder = Path(root).expanduser()
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
    y = np.concatenate([np.asarray(part.targets, np.int64) for part in parts])
    own = len(parts[0])
    split = split_rows(own, val=val, test=0, seed=seed, strata=y[:own])
    return Dataset(
        x, y, split | {"test": np.arange(own, len(y))}, x.shape[1:], [str(name) for name in parts[0].classes]
    )
