"""Image files decoded once, into one memory-mapped file that every later start opens as it is.

A cache is a folder. The process that holds its lock builds it under another name and renames it when it is complete.
Nothing here imports torch.
"""

import errno
import hashlib
import json
import os
import shutil
import sys
import uuid
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from losslab.data.notes import count
from losslab.data.pixels import Files, decode, describe
from losslab.errors import Refused
from losslab.files import PART, create, open_regular, read_json, write
from losslab.locks import open_lock, try_lock
from losslab.machine import cores
from losslab.progress import progress_bar

VERSION = 1  # of a cache's content, and of how images become pixels: raise it when either changes
CHUNK = 256  # images that are decoded before they are written

Array = NDArray[Any]


@dataclass
class Decoded:
    """Images as `(N, 3, H, W)` uint8, and what became of each file."""

    x: Array | Files
    files: list[str]  # the file of each image
    sums: Array  # (N, 3, 2): each image's sum over each channel, and the sum of squares
    copies: dict[str, str]  # file -> another file with the same pixels
    broken: dict[str, str]  # file that cannot be read -> why
    folder: Path  # of the cache
    note: str  # where the pixels are


def decode_all(root: Path, files: list[str], size: tuple[int, int], cache: str, limit_gb: float) -> Decoded:
    """Return the images of these files, decoded into a cache unless they already are.

    Args:
        root: the folder that the names start from.
        files: names of image files, each once.
        size: height and width that each is resized to, whatever its own proportions.
        limit_gb: how large a cache may be. Images that would take more, or more than is free on the disk, stay in
            their files. These are read once all the same, to find broken files and copies.

    Raises:
        Refused: if no file can be read, or the cache cannot be written.
    """
    files = sorted(files)
    home = Path(cache).expanduser()
    need = len(files) * 3 * size[0] * size[1]
    keep = need <= limit_gb * 1e9
    why = f"more than data.cache_gb={limit_gb:g}"
    folder = home / cache_name(root, files, size, keep)
    if keep and not folder.is_dir() and need > free_space(home):
        keep, why = False, f"more than is free in data.cache={cache}"
        folder = home / cache_name(root, files, size, keep)
    if not folder.is_dir():
        try:
            home.mkdir(parents=True, exist_ok=True)
            with hold_lock(folder.with_name(f"{folder.name}.lock"), folder):
                if not folder.is_dir():
                    build(folder, root, files, size, keep)
        except OSError as error:
            raise Refused(
                f"data.cache={cache} cannot be written ({describe(error)}): type data.cache=FOLDER"
            ) from error
    index, sums, pixels = read_cache(folder, files, size, keep)
    readable: list[str] = index["files"]
    x = Files(root, readable, size) if pixels is None else pixels
    note = f"{count(len(readable), 'image')} of {size[0]}x{size[1]} pixels, decoded once, in {folder}"
    if not keep:
        note = f"{count(len(readable), 'image')} decoded again in each epoch: they take {need / 1e9:.3g} GB, {why}"
    return Decoded(x, readable, sums, index["copies"], index["broken"], folder, note)


def read_cache(
    folder: Path, files: list[str], size: tuple[int, int], keep: bool
) -> tuple[dict[str, Any], Array, Array | None]:
    """Return the index, the sums and, if it keeps them, the pixels of a cache, mapped into memory.

    Somebody else may have written it: it must name these files alone.

    Raises:
        Refused: if it is a link or incomplete.
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
        images = len(index["files"])
        sums = map_array(folder / "sums.npy", (images, 3, 2), np.int64)
        return index, sums, map_array(folder / "pixels.npy", (images, 3, *size), np.uint8) if keep else None
    except Exception as error:  # NumPy raises errors of many kinds
        raise Refused(
            f"{folder} is not a complete cache ({describe(error)}): remove that folder, or type data.cache=FOLDER"
        ) from None


def map_array(file: Path, shape: tuple[int, ...], dtype: type) -> Array:
    """Map the array in a file into memory, if its header says what is expected."""
    open_regular(file).close()
    array: Array = np.load(file, mmap_mode="c", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.shape != shape or array.dtype != dtype:
        raise ValueError(f"{file.name} holds something else")
    return array


def cache_name(root: Path, files: list[str], size: tuple[int, int], keep: bool) -> str:
    """Name a cache by a hash of the files' folder, names, sizes and times, and of the settings."""
    digest = hashlib.blake2b(repr((VERSION, str(root.resolve()), size, keep)).encode(), digest_size=8)
    for file in files:
        stat = (root / file).stat()
        digest.update(repr((file, stat.st_size, stat.st_mtime_ns)).encode())
    return f"{root.resolve().name or 'root'}-{size[0]}x{size[1]}-{digest.hexdigest()}"


def free_space(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    return shutil.disk_usage(next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())).free


@contextmanager
def hold_lock(lock: Path, folder: Path) -> Iterator[None]:
    """Keep all other processes out, on this machine and others. A process that is killed releases the lock."""
    with os.fdopen(open_lock(lock), "r+b", buffering=0) as file:
        ours = try_lock(file.fileno())
        if ours is False:
            print(f"losslab: another run decodes the images into {folder}; waiting for it", file=sys.stderr, flush=True)
            ours = try_lock(file.fileno(), wait=True)
        if ours is None:
            raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK), str(lock))
        yield


def build(folder: Path, root: Path, files: list[str], size: tuple[int, int], keep: bool) -> None:
    """Decode all files into a new folder, whose lock the caller holds."""
    for left in folder.parent.glob(f".{folder.name}.*{PART}"):
        shutil.rmtree(left, ignore_errors=True)  # left by a process that was killed
    part = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}{PART}")
    part.mkdir()
    try:
        with create(part / "pixels.npy") as out:
            index, sums = write_pixels(out if keep else None, root, files, size)
            out.flush()
            os.fsync(out.fileno())  # on disk before the folder gets its name
        if not keep:
            (part / "pixels.npy").unlink()
        np.save(part / "sums.npy", sums)
        write(part / "index.json", json.dumps(index))
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_pixels(
    out: BinaryIO | None, root: Path, files: list[str], size: tuple[int, int]
) -> tuple[dict[str, Any], Array]:
    """Decode the files, write each different image to `out`, and return the index and the sums of the images."""
    index: dict[str, Any] = {"files": [], "copies": {}, "broken": {}}
    sums: list[Array] = []
    first: dict[bytes, str] = {}  # hash of pixels -> the first file with them
    write_header(out, 0, size)

    def read(file: str) -> tuple[str, Array, Array, bytes] | tuple[str, str]:
        try:
            image = decode(root / file, size)
        except Exception as error:  # each decoder raises errors of its own
            return file, describe(error)
        wide = image.reshape(3, -1).astype(np.int64)
        return file, image, np.stack([wide.sum(1), (wide**2).sum(1)], 1), hashlib.blake2b(image.data).digest()

    bar = progress_bar(len(files), "decoding", "image", leave=False)
    with bar, ThreadPoolExecutor(cores()) as pool, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about odd but readable files; threads share the filter
        for start in range(0, len(files), CHUNK):  # threads suffice: Pillow releases the GIL
            for found in pool.map(read, files[start : start + CHUNK]):
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
    write_header(out, len(sums), size)
    return index, np.stack(sums)


def write_header(out: BinaryIO | None, count: int, size: tuple[int, int]) -> None:
    """Write NumPy's header for so many images; it is equally long for any number of them."""
    if out:
        out.seek(0)
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (count, 3, *size)})
