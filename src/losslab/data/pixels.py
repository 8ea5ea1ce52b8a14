"""Image files as pixels: decoded one at a time, or read from their files whenever a batch asks."""

import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from losslab.errors import Refused

SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".avif"}
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
RESAMPLING = Image.Resampling.BILINEAR  # Pillow averages over all pixels when it shrinks: no aliasing
DRAFT = 2  # a JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is at least so many times the size wanted
LARGE = 4096**2  # pixels: decoding so many takes more than a hundred megabytes
ONE_LARGE = Lock()

Pixels = NDArray[np.uint8]


class Files:
    """Images that stay in their files: `x[rows]` decodes them into an array.

    Args:
        size: height and width that each is resized to.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, root: Path, files: list[str], size: tuple[int, int]) -> None:
        self.root, self.files, self.shape = root, files, (len(files), 3, *size)

    @property
    def size(self) -> int:
        """The number of pixels, as of an array."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Any) -> Pixels:
        """Return one image `(3, H, W)` for a number; images `(B, 3, H, W)` for a slice, a mask or an array.

        Raises:
            Refused: if a file was an image when the folder was read, and no longer is.
        """
        chosen = np.arange(len(self))[rows]
        images = np.empty((chosen.size, *self.shape[1:]), np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as when the folder was read
            for place, row in enumerate(np.atleast_1d(chosen)):
                file = self.root / self.files[row]
                try:
                    images[place] = decode(file, self.shape[2:])
                except Exception as error:
                    raise Refused(
                        f"{file} can no longer be read ({describe(error)}): put it back, or start again without it"
                    ) from error
        return images if chosen.ndim else images[0]


def decode(file: Path, size: tuple[int, int]) -> Pixels:
    """Return an image as `(3, H, W)` uint8: upright, in colour, on white where it is transparent, resized.

    Raises:
        Exception: whatever Pillow raises if the file is broken or no image.
    """
    with open_image(file) as source, limit_large(source.size):
        source.draft(None, (DRAFT * max(size),) * 2)
        image: Image.Image = ImageOps.exif_transpose(source)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode in ("I", "F"):
            raise ValueError("its pixels have 32 bits, and nothing says which value is white")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB").resize(size[::-1], RESAMPLING)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def open_image(file: Path) -> Image.Image:
    """Open an image file, whatever its suffix. Only pixel formats: Pillow would hand PostScript to an interpreter."""
    return Image.open(file, formats=FORMATS)


def limit_large(size: tuple[int, int]) -> AbstractContextManager[object]:
    """Let only one large image be decoded at a time: a few at once could fill the memory."""
    return ONE_LARGE if size[0] * size[1] > LARGE else nullcontext()


def describe(error: BaseException) -> str:
    """Return an error's message in one line, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__
