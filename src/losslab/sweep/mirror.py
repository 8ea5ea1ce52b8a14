"""Folders that are kept alike on two machines: which files changed in one, and how they are put into the other."""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

from losslab.compare.gathered import SUFFIX
from losslab.errors import Refused
from losslab.files import PART, write

LARGEST = 4_000_000_000  # bytes of one file; a larger one stays where it is
ORDER = {"last.ckpt": 0, "status.json": 2}  # what a run resumes from is read first, and how it stands last

Files = dict[str, bytes]  # by their paths below the folder, with slashes


class Mirror:
    """The files in the folders `below` a folder, as they were when they were last read."""

    def __init__(self, folder: Path, below: Sequence[str]) -> None:
        self.folder, self.places = folder, [folder / name for name in below]
        self.known: dict[str, tuple[int, int]] = {}
        self.too_large: set[str] = set()

    def read_changes(self) -> tuple[Files, list[str]]:
        """Read the files that are new or have changed, and list those that are gone.

        `last.ckpt` is read first. What the others hold is then as new or newer, and a run that resumes from that
        checkpoint writes it again. The other way around it could miss a row of the history, or the best weights.
        """
        found: Files = {}
        there = list_files(self.folder, self.places)
        for name in sorted(there, key=lambda name: (ORDER.get(PurePosixPath(name).name, 1), name)):
            if self.known.get(name) == there[name]:
                continue
            if there[name][1] > LARGEST:
                self.too_large.add(name)
                continue
            with suppress(FileNotFoundError):  # it was replaced or deleted just now
                found[name] = (self.folder / name).read_bytes()
                self.known[name] = there[name]
        gone = [name for name in self.known if name not in there]
        for name in gone:
            del self.known[name]
        return found, gone

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write files that the other side has, too."""
        put_files(self.folder, files)
        there = list_files(self.folder, self.places)
        self.known |= {name: there[name] for name in files}

    def forget(self, folder: Path) -> None:
        """Remove a folder below this one, which the other side keeps."""
        below = f"{folder.relative_to(self.folder).as_posix()}/"
        shutil.rmtree(folder, ignore_errors=True)
        self.known = {name: facts for name, facts in self.known.items() if not name.startswith(below)}


def list_files(folder: Path, places: Iterable[Path]) -> dict[str, tuple[int, int]]:
    """Return when each file in places below a folder was written, and its size, by its path; no locks, no halves."""
    found = {}
    for where, _, names in (each for place in places for each in os.walk(place)):
        for name in names:
            if name != ".lock" and not name.endswith((PART, SUFFIX)):  # lines count where runs were written
                with suppress(FileNotFoundError):
                    facts = (file := Path(where, name)).stat()
                    found[file.relative_to(folder).as_posix()] = (facts.st_mtime_ns, facts.st_size)
    return found


def read_files(folder: Path, places: Iterable[Path]) -> Files:
    """Read all files in places below a folder."""
    return {name: (folder / name).read_bytes() for name in list_files(folder, places)}


def put_files(folder: Path, files: Mapping[str, bytes], gone: Iterable[str] = ()) -> None:
    """Write files below a folder, each of them whole, and remove those that are gone.

    Raises:
        Refused: for a path that leads out of the folder.
    """
    for name in gone:
        (folder / check_below(name)).unlink(missing_ok=True)
    for name, content in files.items():
        file = folder / check_below(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        write(file, content)


def check_below(name: str) -> PurePosixPath:
    """Refuse a path that leads out of the folder that it is in."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or not path.parts:
        raise Refused(f"a worker sent a file named {name}, which leads out of the sweep's folder: it was not written")
    return path
