"""Read the log of an offline W&B run; the client has no interface for that."""

import json
import os
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from losslab.files import read_bytes
from losslab.internals.wandb import parse_record

BLOCK = 32768  # the log is cut into blocks, as LevelDB's is; a record that crosses an edge comes in parts
WHOLE, FIRST, LAST = 1, 2, 4
Record = dict[str, Any]


@cache
def offline(path: str) -> Record:
    """Read the log in an `offline-run-…` folder: `config`, `summary`, `history`, `exit`, `job_type`.

    The log's tail, which a killed run leaves half-written, is left out.

    Raises:
        ValueError: where it holds no run.
    """
    found: Record = {"config": {}, "summary": {}, "history": [], "exit": None, "job_type": None}
    (log,) = Path(path).glob("run-*.wandb")
    for record in records(read_bytes(log, limit=2**30)):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found["job_type"] = record.run.job_type
            found["config"] |= items(record.run.config.update)
        elif kind in ("config", "summary"):
            found[kind] |= items(getattr(record, kind).update)
        elif kind == "history":
            found["history"].append(items(record.history.item))
        elif kind == "exit":
            found["exit"] = record.exit.exit_code
    if found["job_type"] is None:
        raise ValueError("its W&B log holds no run yet")
    return found


def items(entries: Any) -> Record:
    """List the keys and values of a record; nested keys are joined by dots."""
    return {".".join(entry.nested_key) or entry.key: json.loads(entry.value_json) for entry in entries}


def records(log: bytes) -> Iterator[Any]:
    """Parse the records of a log."""
    for _, whole in parts(log):
        yield parse_record(whole)


def parts(log: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield where each whole record ends, and its bytes.

    After a header of 7 bytes the log holds parts of `checksum, length, kind, bytes`.

    The log ends where a part is torn or its checksum is wrong.
    """
    if log[:4] != b":W&B":
        raise ValueError("its W&B log is half-written")
    at, whole = 7, b""
    while at + 7 <= len(log):
        left = BLOCK - at % BLOCK
        if left < 7:
            at += left
            continue
        checksum, length, kind = struct.unpack("<IHB", log[at : at + 7])
        part = log[at + 7 : at + 7 + length]
        if len(part) < length or zlib.crc32(part, zlib.crc32(bytes([kind]))) != checksum:
            return
        at += 7 + length
        whole = part if kind in (WHOLE, FIRST) else whole + part
        if kind in (WHOLE, LAST):
            yield at, whole


def mend(path: Path) -> None:
    """Cut off the half-written end of a killed run's log, at which `wandb sync` would stop with an error."""
    (log,) = path.glob("run-*.wandb")
    end = max((end for end, _ in parts(log.read_bytes())), default=None)
    if end is not None and not log.is_symlink():
        os.truncate(log, end)
