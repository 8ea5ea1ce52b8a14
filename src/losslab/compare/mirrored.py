"""Runs of which only W&B's record is at hand: the log of an offline run, or a project on a server."""

import json
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from losslab.errors import Refused
from losslab.files import read_bytes

BLOCK = 32768  # the log is cut into blocks, as LevelDB's is; a record that crosses an edge comes in parts
WHOLE, FIRST, LAST = 1, 2, 4
Record = dict[str, Any]


@cache
def offline(path: str) -> Record:
    """What the log in an `offline-run-…` folder says: `config`, `summary`, `history`, `exit`, `job_type`.

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
    """Keys and values of a record; nested keys are joined by points."""
    return {".".join(entry.nested_key) or entry.key: json.loads(entry.value_json) for entry in entries}


def records(log: bytes) -> Iterator[Any]:
    """The records of a log: after a header of 7 bytes, parts of `checksum, length, kind, bytes`."""
    from wandb.proto import wandb_internal_pb2

    protocol: Any = wandb_internal_pb2
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
            record = protocol.Record()
            record.ParseFromString(whole)
            yield record


@cache
def server() -> Any:
    """W&B's interface to what is on its server."""
    import wandb

    return wandb.Api(timeout=60)


def online(project: str) -> Iterator[tuple[str, Record]]:
    """Each run of `entity/project`, by its path.

    Raises:
        Refused: where it cannot be read.
    """
    try:
        for run in server().runs(project, per_page=500):
            ended = {"finished": 0, "running": None}.get(run.state, 1)
            yield (
                f"wandb:{'/'.join(run.path)}",
                {"config": dict(run.config), "summary": dict(run.summary), "exit": ended, "history": [],
                 "job_type": run.job_type},
            )  # fmt: skip
    except Exception as error:
        if not type(error).__module__.startswith(("wandb", "requests")) and not isinstance(error, ValueError):
            raise
        why = " ".join(str(error).split())[:150]
        raise Refused(
            f"wandb:{project} cannot be read ({why}): type wandb:ENTITY/PROJECT, after `wandb login`"
        ) from None


def sorted_out(found: Record) -> tuple[Record, Record]:
    """The settings of a mirrored run, and the rest, by the names that its folder has them under."""
    beyond = ("facts.", "environment.")
    config = {key: value for key, value in found["config"].items() if not key.startswith(("_", *beyond))}
    rest = {key: value for key, value in found["config"].items() if key.startswith(beyond)}
    rest |= {key: value for key, value in found["summary"].items() if isinstance(value, int | float)}
    tested = any(key.startswith("test/") for key in found["summary"])
    ended = {None: "running", 0: "finished" if tested else "interrupted"}.get(found["exit"], "failed")
    norms = (row["gradient_norm"] for row in found["history"] if "gradient_norm" in row)
    rest |= {"status": ended, "reason": None, "started": None, "seconds": found["summary"].get("_runtime")}
    return config, {**rest, "first/gradient_norm": next(norms, float("nan"))}


def history(folder: str) -> pd.DataFrame:
    """One row for each epoch, as in `history.csv`."""
    if folder.startswith("wandb:"):
        rows = list(server().run(folder.removeprefix("wandb:")).scan_history())
    else:
        rows = offline(folder)["history"]
    frame = pd.DataFrame([row for row in rows if any(key.startswith("val/") and "_best" not in key for key in row)])
    return frame.rename(columns={"trainer/global_step": "step"})
