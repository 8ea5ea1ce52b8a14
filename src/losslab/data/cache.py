"""Image files decoded once, into one memory-mapped file that every later start opens as it is.

A cache is a folder of its own, made under another name by whoever holds its lock and then renamed: it is there whole,
or not at all. Nothing here imports torch.
"""

import fcntl
import hashlib
import json
import os
import shutil
import sys
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from losslab.data.dataset import Array
from losslab.errors import Refused
from losslab.files import PART, create, open_lock, open_regular, read_json, write

VERSION = 1  # of what a cache holds and how images become pixels: raise it when either changes
RESAMPLING = Image.Resampling.BILINEAR  # Pillow's takes in all pixels when it shrinks: there is no aliasing
SHALLOW = 2  # a JPEG is decoded at a half, a quarter or an eighth where that is still so many times what is wanted
FORMATS = ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM", "AVIF")
LARGE = 4096**2  # pixels: decoding that many takes a hundred megabytes and more
ONE_LARGE = Lock()
TOGETHER = 256  # images that are decoded before they are written


@dataclass
class Decoded:
    """Images as `(N, 3, H, W)` uint8, and what became of each file."""

    x: "Array | Files"
    files: list[str]  # of each image
    sums: Array  # (N, 3, 2): the sum of each channel of each image, and of its squares
    copies: dict[str, str]  # files whose pixels equal those of another, and that other
    broken: dict[str, str]  # files that cannot be read, and why
    folder: Path  # where this is kept
    note: str  # where the pixels are


class Files:
    """Images that stay in their files, decoded when a batch asks for them: `x[rows]` is an array.

    Args:
        root: the folder that the names start from.
        files: one for each row.
        size: height and width that each is resized to.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, root: Path, files: list[str], size: tuple[int, int]) -> None:
        self.root, self.files, self.shape = root, files, (len(files), 3, *size)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, rows: Any) -> Array:
        """One image `(3, H, W)` for a number; images `(B, 3, H, W)` for a slice, a mask or an array of numbers.

        Raises:
            Refused: for a file that was an image when the folder was read, and no longer is.
        """
        chosen = np.arange(len(self))[rows]
        images = np.empty((chosen.size, *self.shape[1:]), np.uint8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as when the folder was read
            for place, row in enumerate(np.atleast_1d(chosen)):
                try:
                    images[place] = pixels(self.root / self.files[row], self.shape[2:])
                except Exception as error:
                    raise Refused(f"{self.root / self.files[row]} can no longer be read: {said(error)}") from error
        return images if chosen.ndim else images[0]


def decoded(root: Path, files: list[str], size: tuple[int, int], cache: str, limit_gb: float) -> Decoded:
    """The images of these files, from the cache where they were decoded before.

    Args:
        root: the folder that the names start from.
        files: names of image files, no two alike.
        size: height and width that each is resized to, whatever its own proportions.
        cache: the folder that caches are kept in.
        limit_gb: what a cache may take; images that would take more, or more than is free, stay in their files, and
            are read through once, to find those that are broken or doubled.

    Raises:
        Refused: where no file can be read, or the cache cannot be written.
    """
    files = sorted(files)
    home = Path(cache).expanduser()
    need = len(files) * 3 * size[0] * size[1]
    keep = need <= limit_gb * 1e9
    why = f"more than data.cache_gb={limit_gb:g}"
    folder = home / key(root, files, size, keep)
    if keep and not folder.is_dir() and need > free(home):
        keep, why = False, f"more than is free in data.cache={cache}"
        folder = home / key(root, files, size, keep)
    if not folder.is_dir():
        try:
            home.mkdir(parents=True, exist_ok=True)
            with alone(folder.with_name(f"{folder.name}.lock"), folder):
                if not folder.is_dir():
                    build(folder, root, files, size, keep)
        except OSError as error:
            raise Refused(f"data.cache={cache} cannot be written ({said(error)}): type data.cache=FOLDER") from error
    index, sums = kept(folder, files)
    readable: list[str] = index["files"]
    x = pixels_of(folder, (len(readable), 3, *size)) if keep else Files(root, readable, size)
    note = f"{len(readable):,} images of {size[0]}x{size[1]} pixels, decoded once, in {folder}"
    if not keep:
        note = f"{len(readable):,} images are decoded anew each epoch: decoded, they take {need / 1e9:.3g} GB, {why}"
    return Decoded(x, readable, sums, index["copies"], index["broken"], folder, note)


def kept(folder: Path, files: list[str]) -> tuple[dict[str, Any], Array]:
    """The index and the sums of a cache, which others may have written: it names none but these files.

    Raises:
        Refused: where it is a link or no whole cache.
    """
    try:
        if folder.is_symlink():
            raise ValueError("it is a link")
        index: dict[str, Any] = read_json(folder / "index.json")
        named = [*index["files"], *index["copies"], *index["copies"].values(), *index["broken"]]
        if not {*named} <= {*files} or len({*index["files"]}) < len(index["files"]):
            raise ValueError("it names other files than the images")
        if not all(isinstance(why, str) for why in index["broken"].values()):
            raise ValueError("index.json is another's")
        sums = whole_array(folder / "sums.npy", (len(index["files"]), 3, 2), np.int64)
    except Exception as error:  # whatever a damaged file makes NumPy raise
        raise Refused(
            f"{folder} is no whole cache ({said(error)}): remove that folder, or type data.cache=FOLDER"
        ) from None
    return index, sums


def pixels_of(folder: Path, shape: tuple[int, ...]) -> Array:
    """The images of a cache.

    Raises:
        Refused: where they are not all there.
    """
    try:
        return whole_array(folder / "pixels.npy", shape, np.uint8)
    except Exception as error:
        raise Refused(
            f"{folder} is no whole cache ({said(error)}): remove that folder, or type data.cache=FOLDER"
        ) from None


def whole_array(file: Path, shape: tuple[int, ...], dtype: type) -> Array:
    """The array in a file, mapped into memory; its header is only believed where it says what is expected."""
    open_regular(file).close()
    array: Array = np.load(file, mmap_mode="c", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{file.name} holds something else")
    return array


def key(root: Path, files: list[str], size: tuple[int, int], keep: bool) -> str:
    """The name of a cache: it follows from where the files lie, their names, sizes and times, and from the settings."""
    digest = hashlib.blake2b(repr((VERSION, str(root.resolve()), size, keep)).encode(), digest_size=8)
    for file in files:
        stat = (root / file).stat()
        digest.update(repr((file, stat.st_size, stat.st_mtime_ns)).encode())
    return f"{root.resolve().name or 'root'}-{size[0]}x{size[1]}-{digest.hexdigest()}"


def free(folder: Path) -> int:
    """Bytes that are free where the folder lies, or will lie."""
    return shutil.disk_usage(next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())).free


@contextmanager
def alone(lock: Path, folder: Path) -> Iterator[None]:
    """One process at a time, on this machine or another; the lock goes with the process, also when that is killed."""
    with os.fdopen(open_lock(lock), "r+b", buffering=0) as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"losslab: another run decodes the images into {folder}; waiting for it", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build(folder: Path, root: Path, files: list[str], size: tuple[int, int], keep: bool) -> None:
    """Decode all files into a new folder; the caller holds its lock."""
    for left in folder.parent.glob(f".{folder.name}.*{PART}"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{PART}")
    part.mkdir()
    try:
        with create(part / "pixels.npy") as out:
            index, sums = fill(out if keep else None, root, files, size)
            out.flush()
            os.fsync(out.fileno())  # on disk before its name is
        if not keep:
            (part / "pixels.npy").unlink()
        np.save(part / "sums.npy", sums)
        write(part / "index.json", json.dumps(index))
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def fill(out: BinaryIO | None, root: Path, files: list[str], size: tuple[int, int]) -> tuple[dict[str, Any], Array]:
    """Write each different image to `out` as it comes, and return the index and the sums of those written."""
    index: dict[str, Any] = {"files": [], "copies": {}, "broken": {}}
    sums: list[Array] = []
    first: dict[bytes, str] = {}  # the first file of these pixels
    header(out, 0, size)
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

    def read(file: str) -> tuple[str, Array, Array, bytes] | tuple[str, str]:
        try:
            image = pixels(root / file, size)
        except Exception as error:  # what a broken file raises is up to its decoder
            return file, said(error)
        wide = image.reshape(3, -1).astype(np.int64)
        return file, image, np.stack([wide.sum(1), (wide**2).sum(1)], 1), hashlib.blake2b(image.data).digest()

    bar = tqdm(total=len(files), desc="decoding images", unit="image", disable=None, leave=False)
    with bar, ThreadPoolExecutor(threads) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd but readable files; threads share the filter
        for start in range(0, len(files), TOGETHER):  # Pillow decodes outside of Python's lock: threads are enough
            for found in pool.map(read, files[start : start + TOGETHER]):
                bar.update()
                if len(found) == 2:
                    index["broken"][found[0]] = found[1]
                    continue
                file, image, of_image, digest = found
                if digest in first:
                    index["copies"][file] = first[digest]
                    continue
                first[digest] = file
                index["files"].append(file)
                sums.append(of_image)
                if out:
                    out.write(image.data)
    if not sums:
        file, why = next(iter(index["broken"].items()))
        raise Refused(f"none of the {len(files)} images in data.path={root} can be read (first: {file}: {why})")
    header(out, len(sums), size)
    return index, np.stack(sums)


def header(out: BinaryIO | None, count: int, size: tuple[int, int]) -> None:
    """NumPy's header for so many images; it takes the same room for any number of them."""
    if out:
        out.seek(0)
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (count, 3, *size)})


def pixels(file: Path, size: tuple[int, int]) -> Array:
    """One image file as `(3, H, W)` uint8: upright, in colour, on white where it is transparent, resized.

    Raises:
        Exception: whatever Pillow raises for a file that is no image, or a broken one.
    """
    with opened(file) as source, large(source.size):
        source.draft(None, (SHALLOW * max(size),) * 2)
        image: Image.Image = ImageOps.exif_transpose(source)
        if image.mode.startswith("I;16"):
            image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
        if image.mode in ("I", "F"):
            raise ValueError("its pixels have 32 bits, of which nothing says what is white")
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        image = image.convert("RGB").resize(size[::-1], RESAMPLING)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))


def opened(file: Path) -> Image.Image:
    """An image file, whatever its suffix says, of the formats that are images of pixels and nothing else.

    Pillow would hand a PostScript file to a program that runs it.
    """
    return Image.open(file, formats=FORMATS)


def large(size: tuple[int, int]) -> AbstractContextManager[object]:
    """Hold the only place for a large image: a few of them at once could take all memory."""
    return ONE_LARGE if size[0] * size[1] > LARGE else nullcontext()


def said(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__
