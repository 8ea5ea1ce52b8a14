"""Files that are written whole, and the refusal of places that cannot be written; all without torch."""

import json
import os
import uuid
from pathlib import Path
from typing import Any

from losslab.errors import Refused


def write(file: Path, text: str) -> None:
    """Replace the file whole, so that a reader never sees half of it, whichever hosts share the disk."""
    part = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    part.write_text(text)
    part.replace(file)


def write_json(file: Path, content: Any) -> None:
    """Replace the file whole by the content as JSON."""
    write(file, json.dumps(content, indent=2) + "\n")


def writable_folder(folder: Path, key: str) -> Path:
    """The folder that was typed as `key`, where something can be written in it or it can be made.

    Raises:
        Refused: where it cannot.
    """
    there = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise Refused(f"{key}={folder} cannot be written: type {key}=FOLDER ({there} refuses it)")
    return folder


def writable_file(out: str, suffix: str) -> Path:
    """The path that was typed as `out`, of a file that can be written, such as a picture, `.png`.

    Raises:
        Refused: where it ends otherwise, or its folder is not there or not the user's.
    """
    path = Path(out)
    there = path if path.is_file() else path.parent
    if path.suffix != suffix or path.is_dir() or not os.access(there, os.W_OK):
        raise Refused(f"out={out} cannot be written: type out=FILE{suffix} in a folder that is there and yours")
    return path
