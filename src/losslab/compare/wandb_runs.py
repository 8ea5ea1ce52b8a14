"""Read runs from W&B's records: the log of an offline run, or a project on the server."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pandas as pd

from losslab.errors import Refused
from losslab.record.client import client, is_fault, reason
from losslab.record.offline import Record, offline
from losslab.record.rows import FIRST_NORM, GRADIENT_NORM

PREFIXES = {"last": "", "first": "first/", "min": None, "max": None}  # how W&B aggregates a metric; None: not read


@cache
def connect() -> Any:
    """Connect to W&B's server."""
    return client().Api(timeout=60)


def read_project(project: str) -> Iterator[tuple[str, Record]]:
    """Read each run of `entity/project` from the server, with its path.

    Raises:
        Refused: if the project cannot be read.
    """
    try:
        for run in connect().runs(project, per_page=100, lazy=False):  # lazy would send a request for each run
            ended = {"finished": 0, "running": None}.get(run.state, 1)
            yield (
                f"wandb:{'/'.join(run.path)}",
                {"config": dict(run.config), "summary": dict(run.summary_metrics), "exit": ended, "history": [],
                 "job_type": run.job_type},
            )  # fmt: skip
    except Exception as error:
        if not is_fault(error) and not isinstance(error, ValueError):
            raise
        raise Refused(
            f"wandb:{project} cannot be read ({reason(error)}): type wandb:ENTITY/PROJECT, after `wandb login`"
        ) from None


def split_record(found: Record) -> tuple[Record, Record]:
    """Split W&B's record of a run into its settings and the rest, under the names in its run folder."""
    others = ("facts.", "environment.")
    config = {key: value for key, value in found["config"].items() if not key.startswith(("_", *others))}
    rest = {key: value for key, value in found["config"].items() if key.startswith(others)}
    rest |= flatten_summary(found["summary"])
    tested = any(key.startswith("test/") for key in found["summary"])
    ended = {None: "running", 0: "finished" if tested else "interrupted"}.get(found["exit"], "failed")
    norms = (row[GRADIENT_NORM] for row in found["history"] if GRADIENT_NORM in row)
    norm = next(norms, rest.get(FIRST_NORM, float("nan")))
    rest |= {"status": ended, "reason": None, "started": None, "seconds": found["summary"].get("_runtime")}
    return config, {**rest, FIRST_NORM: norm}


def flatten_summary(summary: Record) -> Record:
    """Return the numbers of a summary under the names in a run folder.

    W&B keeps several values of a metric: the last, the best (also logged as `_best`), and the first gradient norm.

    >>> flatten_summary({"val/mae": {"min": 1, "last": 2}, "val/mae_best": 1, "samples": {"nrows": 9}})
    {'val/mae': 2, 'val/mae_best': 1}
    >>> flatten_summary({"gradient_norm.first": 3})
    {'first/gradient_norm': 3}
    """
    found = {}
    for key, value in summary.items():
        name, _, kind = key.rpartition(".")
        kinds = value if isinstance(value, dict) else {kind: value} if name and kind in PREFIXES else {"last": value}
        name = name if kind in PREFIXES and name else key
        for kind, prefix in PREFIXES.items():
            if prefix is not None and isinstance(kinds.get(kind), int | float):
                found[f"{prefix}{name}"] = kinds[kind]
    return found


def read_history(folder: str) -> pd.DataFrame:
    """Read one row per epoch, as in `history.csv`."""
    if folder.startswith("wandb:"):
        rows = list(connect().run(folder.removeprefix("wandb:")).scan_history())
    else:
        rows = offline(folder)["history"]
    frame = pd.DataFrame([row for row in rows if any(key.startswith("val/") and "_best" not in key for key in row)])
    frame = frame.rename(columns={"trainer/global_step": "step"})
    if "epoch" not in frame:
        return frame
    return frame.drop_duplicates("epoch", keep="last", ignore_index=True)  # a resumed run repeats epochs
