"""Small image files, each with pixels of its own, for the tests of folders and caches."""

from pathlib import Path

import numpy as np
from PIL import Image


def picture(seed: int, height: int = 12, width: int = 8) -> Image.Image:
    """An image in colour that no other seed gives."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def pictures(folder: Path, count: int, suffix: str = ".png") -> list[str]:
    """Files `p0.png`, `p1.png` and so on, and their names without suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(i).save(folder / f"p{i}{suffix}")
    return [f"p{i}" for i in range(count)]
