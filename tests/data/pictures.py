"""Small image files, each with pixels of its own, for the tests of folders and caches."""

import gzip
from pathlib import Path

import numpy as np
from PIL import Image

from losslab.data.images import PACKED


def picture(seed: int, height: int = 12, width: int = 8) -> Image.Image:
    """An image in colour that no other seed gives."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def pictures(folder: Path, count: int, suffix: str = ".png") -> list[str]:
    """Files `p0.png`, `p1.png` and so on, and their names without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(i).save(folder / f"p{i}{suffix}")
    return [f"p{i}" for i in range(count)]


def pack(folder: Path) -> list["np.ndarray[tuple[int, ...], np.dtype[np.uint8]]"]:
    """Write four files as LeCun's, gzipped, and return what they hold."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    shapes = ((40, 4, 6), (40,), (10, 4, 6), (10,))
    arrays = [random.integers(0, 10, shape, np.uint8) for shape in shapes]
    for name, array in zip(PACKED, arrays, strict=True):
        header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        (folder / f"{name}-ubyte.gz").write_bytes(gzip.compress(header + array.tobytes()))
    return arrays
