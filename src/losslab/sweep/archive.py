"""Files of the current folder that travel to nodes which do not see it: packed once, unpacked once on each node."""

import hashlib
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

from losslab.config.compose import own_folders, parse_allow
from losslab.errors import Refused
from losslab.files import PART
from losslab.locks import open_lock, try_lock
from losslab.sweep.plan import Plan, to_overrides

CHUNK = 64_000_000  # bytes
MOST = 20_000_000_000  # bytes; more than that belongs on a shared disk
PATHS = ("data.path", "data.test_path", "data.labels")  # settings that name files of the user


@dataclass
class Archive:
    """A tar file in pieces."""

    put: Callable[[bytes], Any]  # keeps a piece and returns what stands for it
    pieces: list[Any] = field(default_factory=list)  # what stands for each
    digest: str = ""  # of all its bytes, by which a node knows that it has it already
    size: int = 0
    buffer: bytearray = field(default_factory=bytearray)
    hash: Any = field(default_factory=hashlib.sha256)

    def write(self, content: bytes) -> int:
        """Take the next bytes; `tarfile` calls this."""
        self.buffer += content
        self.hash.update(content)
        self.size += len(content)
        if self.size > MOST:
            raise Refused(
                f"the data are more than {MOST / 1e9:g} GB, too much to send to each node: put them on a disk that all "
                "nodes share and type data.path=/THAT/DISK/..."
            )
        while len(self.buffer) >= CHUNK:
            self.pieces.append(self.put(bytes(self.buffer[:CHUNK])))
            del self.buffer[:CHUNK]
        return len(content)

    def close(self) -> None:
        """Keep the last piece."""
        self.pieces.append(self.put(bytes(self.buffer)))
        self.buffer.clear()
        self.digest = self.hash.hexdigest()[:16]


def pack(paths: Sequence[str], put: Callable[[bytes], Any]) -> Archive:
    """Pack files and folders of the current folder; `put` keeps a piece and returns what stands for it.

    Raises:
        Refused: where they are too large to travel.
    """
    archive = Archive(put)
    with tarfile.open(fileobj=cast(IO[bytes], archive), mode="w|", dereference=True) as tar:
        for path in paths:
            tar.add(path, filter=lambda entry: None if entry.name.endswith("__pycache__") else entry)
    archive.close()
    return archive


def unpack(digest: str, pieces: Iterator[bytes], store: Path, into: Path) -> None:
    """Unpack an archive once on this node, then link its files into a folder.

    Args:
        pieces: of it; read only where this node does not have it yet.
        store: the folder of this user's archives on this node.
    """
    whole = store / f"data-{digest}"
    lock = open_lock(store / f".{digest}.lock")
    try:
        try_lock(lock, wait=True)  # one of several workers unpacks
        if not whole.exists():
            part = store / f".{digest}{PART}"
            shutil.rmtree(part, ignore_errors=True)
            with tarfile.open(fileobj=cast(IO[bytes], Pieces(pieces)), mode="r|") as tar:
                tar.extractall(part, filter="data")
            part.rename(whole)
        os.utime(whole)  # when it was last used
    finally:
        os.close(lock)
    shutil.copytree(whole, into, copy_function=link, dirs_exist_ok=True)


def link(source: str, target: str) -> None:
    """Give a file a second name, or copy it where the disk has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


class Pieces:
    """The pieces of an archive as one file."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self.pieces, self.buffer = pieces, b""

    def read(self, size: int) -> bytes:
        """Read so many bytes, or fewer at the end; `tarfile` calls this."""
        parts, have = [self.buffer], len(self.buffer)
        while have < size and (piece := next(self.pieces, None)) is not None:
            parts.append(piece)
            have += len(piece)
        content = b"".join(parts)
        self.buffer = content[size:]
        return content[:size]


def find_paths(plan: Plan) -> tuple[list[str], list[str]]:
    """Return the paths that runs read and that travel, those in the current folder, and the others, which do not.

    They are data, folders of options, and packages that `allow` names.
    """
    values = {key: [plan.fixed[key]] if key in plan.fixed else plan.grid.get(key, []) for key in PATHS}
    named = [str(value) for several in values.values() for value in several if value not in (None, "null")]
    words = to_overrides(plan.fixed)
    folders = [os.path.relpath(path) if Path(path).is_relative_to(Path.cwd()) else path for path in own_folders(words)]
    packages = [name for each in parse_allow(words) for name in (each, f"{each}.py")]
    near = [path for path in [*named, *folders, *packages] if is_near(path) and Path(path).exists()]
    far = [path for path in [*named, *folders] if not is_near(path)]
    return sorted({*near}), sorted({*far})


def is_near(path: str) -> bool:
    """Return whether a path is relative and stays in the current folder."""
    return not Path(path).is_absolute() and ".." not in Path(path).parts
