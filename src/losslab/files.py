"""Write files whole, and read them with care, as if others could write to the same folder. All of it without torch.

A reader takes only a regular file of a bounded size: a pipe would keep it waiting, and a device has no end. A writer
makes a new file under a random name and renames it. So a planted link is replaced and never followed, and a reader
never sees half a file.
"""

import errno
import json
import os
import shlex
import shutil
import stat
import struct
import time
import uuid
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from losslab.errors import Refused, yaml_fault

LIMIT = 64 * 2**20  # bytes of a record: a thousand times what a run writes
WINDOWS = os.name == "nt"
DEPTH = 100  # levels of a YAML file; C code that reads more would run out of stack
NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)  # Windows has neither
NO_WAIT = getattr(os, "O_NONBLOCK", 0)
READ = os.O_RDONLY | NO_WAIT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)
PART = ".part"  # ends the name of a file that is not whole yet
SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Unreadable(Refused):
    """A file that cannot be read.

    Args:
        why: continues the sentence after its name, such as `is missing`.
    """

    def __init__(self, file: str | Path, why: str) -> None:
        super().__init__(f"{file} {why}")
        self.file, self.why = Path(file), why


def open_descriptor(file: str | Path) -> tuple[int, int]:
    """Open a regular file to read it; return its descriptor and its size. Links are followed.

    Raises:
        Unreadable: if it is missing, may not be read, or is a pipe, a device or a folder.
    """
    try:
        number = os.open(file, READ)
    except FileNotFoundError:
        raise Unreadable(file, "is missing") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise Unreadable(file, f"cannot be read ({getattr(error, 'strerror', None) or error})") from None
    facts = os.fstat(number)
    if not stat.S_ISREG(facts.st_mode):
        os.close(number)
        raise Unreadable(file, "is no regular file")
    return number, facts.st_size


def open_regular(file: str | Path) -> BinaryIO:
    """Open a regular file to read bytes."""
    return os.fdopen(open_descriptor(file)[0], "rb")


def read_bytes(file: str | Path, limit: int = LIMIT) -> bytes:
    """Read all bytes of a regular file.

    Raises:
        Unreadable: for what `open_descriptor` refuses, and for more bytes than `limit`.
    """
    number, size = open_descriptor(file)
    try:
        if size > limit:
            raise Unreadable(file, f"is larger than {limit / 2**20:g} MB")
        content = os.read(number, size)
        while len(content) < size and (more := os.read(number, size - len(content))):
            content += more
        return content
    except (OSError, MemoryError) as error:
        why = getattr(error, "strerror", None) or "there is not enough memory"
        raise Unreadable(file, f"cannot be read ({why})") from None
    finally:
        os.close(number)


def read_text(file: str | Path, limit: int = LIMIT) -> str:
    """Read all of a regular file as UTF-8 text.

    Raises:
        Unreadable: for what `read_bytes` refuses, and for other bytes than UTF-8.
    """
    try:
        return read_bytes(file, limit).decode().replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise Unreadable(file, "is not UTF-8 text") from None


def read_json(file: str | Path, kind: type = dict) -> Any:
    """Read the JSON value in a file, which must be an object, or with `kind=list` an array.

    Raises:
        Unreadable: for what `read_text` refuses, for half a file, for nesting without end, and for another kind.
    """
    text = read_text(file)
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        raise Unreadable(file, "is half-written or not JSON") from None
    except (ValueError, RecursionError, MemoryError) as error:
        deep = isinstance(error, RecursionError)
        raise Unreadable(file, "is nested too deep" if deep else f"cannot be read ({error})") from None
    if not isinstance(value, kind):
        raise Unreadable(file, f"holds no JSON {'object' if kind is dict else 'array'}")
    return value


def known_json(file: str | Path) -> dict[str, Any]:
    """Read the JSON object in a file; return an empty one where it cannot be read."""
    try:
        found: dict[str, Any] = read_json(file)
    except Unreadable:
        return {}
    return found


def read_yaml(file: str | Path) -> Any:
    """Read the YAML value in a file; raise `Unreadable` for what `read_text` and `parse_yaml` refuse."""
    try:
        return parse_yaml(read_text(file))
    except Unreadable:
        raise
    except (ValueError, yaml.YAMLError) as error:
        raise Unreadable(file, f"cannot be read as YAML ({yaml_fault(error)})") from None


class OneValueLoader(SafeLoader):  # type: ignore[misc]
    """Load YAML values, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse a key that occurs twice, of which PyYAML drops the first."""
        found = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if found and (most := found.most_common(1)[0])[1] > 1:
            raise ValueError(f"{most[0]} stands there {most[1]} times: leave one of them")
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


def parse_yaml(text: str) -> Any:
    """Parse a YAML text. Aliases are refused, because they let a kilobyte stand for terabytes.

    Raises:
        ValueError: for aliases, for keys that occur twice, and for nesting without end.
        yaml.YAMLError: for text that is no YAML.

    >>> parse_yaml("a: [1, 2]")
    {'a': [1, 2]}
    """
    depth = 0
    for event in yaml.parse(text, Loader=SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            raise ValueError("it has YAML aliases (*name): write the values out")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEPTH:
            raise ValueError("it is nested too deep")
    try:
        return yaml.load(text, Loader=OneValueLoader)
    except (TypeError, AttributeError, RecursionError, OverflowError) as error:  # as for a list that is a key
        raise ValueError(f"it is not YAML of values ({error})") from None


def check_archive(file: str | Path) -> bool:
    """Return whether a file is a zip archive. Torch writes archives without compression.

    Raises:
        Unreadable: for what is no regular file, and for entries that would unpack to more bytes than the file has.
    """
    with open_regular(file) as opened:
        try:
            entries = zipfile.ZipFile(opened).infolist()
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
            return False
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise Unreadable(file, "is compressed, which a checkpoint never is")
        if sum(entry.file_size for entry in entries) > os.fstat(opened.fileno()).st_size:
            raise Unreadable(file, "would unpack to more than it is")
    return True


def create(file: Path) -> BinaryIO:
    """Create a file to write bytes to. What has that name already, also a link, is neither followed nor overwritten.

    Raises:
        FileExistsError: if something has that name.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | NO_FOLLOW | getattr(os, "O_BINARY", 0)
    return os.fdopen(os.open(file, flags, 0o666), "wb")


@contextmanager
def replacing(file: Path, durable: bool = False) -> Iterator[BinaryIO]:
    """Yield a new file that replaces `file` once it is whole. If writing fails, the old one stays.

    Args:
        file: the path; a link there is replaced, not followed.
        durable: whether to wait until the bytes are on the disk, so that they outlive a power failure.

    Raises:
        OSError: if the disk does not take it; its `filename` is `file`.
    """
    part = file.with_name(f".{file.name[:100]}.{uuid.uuid4().hex}{PART}")
    try:
        with create(part) as out:
            yield out
            out.flush()
            if durable:
                os.fsync(out.fileno())
        replace(part, file)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in (None, str(part)):
            error.filename, error.filename2 = str(file), None
        raise


def write(file: Path, content: str | bytes) -> None:
    """Replace a file whole, so that no reader on any host ever sees half of it."""
    with replacing(file) as out:
        out.write(content.encode() if isinstance(content, str) else content)


def write_together(folder: Path, contents: Mapping[str, str | bytes]) -> None:
    """Put files into a folder, all of them or none. The old ones stay until the disk has taken every new one.

    Args:
        folder: made if it is missing; refused if it is a link or belongs to another user.
        contents: by the names of the files; the last one is put into place last.
    """
    new = not folder.exists()
    make_folder(folder, "out=FOLDER")
    staged = folder / f".{uuid.uuid4().hex}{PART}"
    try:
        if taken := [name for name in contents if (folder / name).is_dir()]:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(folder / taken[0]))
        staged.mkdir()
        for name, content in contents.items():
            write(staged / name, content)
        for name in contents:
            replace(staged / name, folder / name)
    except OSError as error:
        error.filename, error.filename2 = error.filename if error.errno == errno.EISDIR else str(folder), None
        raise
    finally:
        shutil.rmtree(staged, ignore_errors=True)
        if new:
            with suppress(OSError):
                folder.rmdir()  # if nothing was put into it


def write_json(file: Path, content: Any) -> None:
    """Replace a file whole by the content as JSON."""
    write(file, json.dumps(content, indent=2) + "\n")


def append(file: Path, text: str) -> bool:
    """Append text to a regular file; return `False` if there is none, or it is a link or has a second name.

    A link would lead elsewhere, and a second name of the same file may be someone else's.
    """
    try:
        number = os.open(file, os.O_WRONLY | os.O_APPEND | NO_FOLLOW | NO_WAIT)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EMLINK, errno.ENXIO, errno.EISDIR):
            return False
        raise
    with os.fdopen(number, "wb", buffering=0) as out:
        facts = os.fstat(number)
        if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
            return False
        written = out.write(text.encode())
    if written != len(text.encode()):  # the disk took a part
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
    return True


def check_no_link(folder: Path, instead: str = "output_dir=FOLDER") -> None:
    """Refuse a link in place of a folder that losslab makes."""
    if folder.is_symlink():
        raise Refused(f"{folder} is a link, which could lead anywhere: remove it, or type {instead}")


def make_folder(folder: Path, instead: str = "output_dir=FOLDER") -> Path:
    """Make a folder, or take one that belongs to the user; return it.

    Args:
        folder: its path; folders above it may be links and anyone's.
        instead: what to type to have it elsewhere.

    Raises:
        Refused: for a link, and for a folder of another user, who could have planted links in it.
        OSError: if it cannot be made.
    """
    try:
        folder.mkdir(parents=True)
        return folder
    except FileExistsError:
        facts = folder.lstat()
    check_no_link(folder, instead)
    if not stat.S_ISDIR(facts.st_mode):
        raise Refused(f"{folder} is a file where a folder has to be: remove it, or type {instead}")
    if hasattr(os, "geteuid") and facts.st_uid != os.geteuid() and facts.st_uid != find_owner(folder):
        raise Refused(
            f"{folder} belongs to another user (number {facts.st_uid}), who could have planted links in it: "
            f"type {instead} of your own"
        )
    return folder


def find_owner(folder: Path) -> int | None:
    """Return the owner that the disk gives to new files, not always the user on NFS and in containers; or `None`."""
    probe = folder / f".{uuid.uuid4().hex}{PART}"
    try:
        with create(probe) as out:
            return os.fstat(out.fileno()).st_uid
    except OSError:
        return None
    finally:
        probe.unlink(missing_ok=True)


def clear_parts(folder: Path) -> None:
    """Remove files that killed processes left half-written; the caller holds the folder's lock."""
    for part in folder.glob(f".*{PART}"):
        part.unlink(missing_ok=True)


def publish(part: Path, file: Path) -> bool:
    """Give a whole file its name, unless the name is taken; return whether it was free.

    A hard link does both at once. A disk without hard links gets an empty file of that name first, which is replaced at
    once; a process that dies in between leaves the empty file.
    """
    try:
        os.link(part, file)
    except FileExistsError:
        return False
    except (OSError, AttributeError):
        try:
            create(file).close()
        except FileExistsError:
            return False
        replace(part, file)
    return True


def replace(part: Path, file: Path) -> None:
    """Rename a file over another. On Windows, wait up to a second while another process has the other open."""
    deadline = time.monotonic() + 1
    while True:
        try:
            part.replace(file)
            return
        except PermissionError:
            if not WINDOWS or time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def check_writable(folder: Path, key: str) -> Path:
    """Return a folder that was typed as `key` and can be made or written to."""
    there = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise Refused(f"{key}={folder} cannot be written: type {key}=FOLDER ({there} refuses it)")
    return folder


def check_out(out: str, suffix: str) -> Path:
    """Return the path that was typed as `out`, if such a file can be written.

    Raises:
        Refused: if its suffix is another one, or its folder is missing or not writable.
    """
    path = Path(out)
    if path.is_dir():
        raise Refused(f"out={out} is a folder: type {shlex.quote(f'out={path}/FILE{suffix}')}")
    if path.suffix != suffix:
        raise Refused(f"out={out} must end in {suffix}: type {shlex.quote(f'out={path.with_suffix(suffix)}')}")
    if not path.parent.is_dir():
        instead = shlex.quote(f"out={path.name}")
        raise Refused(f"out={out} cannot be written, as there is no folder {path.parent}: make it, or type {instead}")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise Refused(f"out={out} cannot be written: type out=FILE{suffix} in a folder that is yours")
    return path
