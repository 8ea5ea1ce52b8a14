"""Runs of which only W&B's record is at hand: the log of an offline run, or a project on a server."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pandas as pd

from losslab.errors import Refused
from losslab.record.client import client, is_fault, reason
from losslab.record.offline import Record, offline

KEPT = {"last": "", "first": "first/", "min": None, "max": None}  # of a metric, and what its name begins with here


@cache
def server() -> Any:
    """W&B's interface to what is on its server."""
    return client().Api(timeout=60)


def online(project: str) -> Iterator[tuple[str, Record]]:
    """Each run of `entity/project`, by its path.

    Raises:
        Refused: where it cannot be read.
    """
    try:
        for run in server().runs(project, per_page=100, lazy=False):  # lazy: a request for each run
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


def sorted_out(found: Record) -> tuple[Record, Record]:
    """The settings of a mirrored run, and the rest, by the names that its folder has them under."""
    beyond = ("facts.", "environment.")
    config = {key: value for key, value in found["config"].items() if not key.startswith(("_", *beyond))}
    rest = {key: value for key, value in found["config"].items() if key.startswith(beyond)}
    rest |= plain(found["summary"])
    tested = any(key.startswith("test/") for key in found["summary"])
    ended = {None: "running", 0: "finished" if tested else "interrupted"}.get(found["exit"], "failed")
    norms = (row["gradient_norm"] for row in found["history"] if "gradient_norm" in row)
    norm = next(norms, rest.get("first/gradient_norm", float("nan")))
    rest |= {"status": ended, "reason": None, "started": None, "seconds": found["summary"].get("_runtime")}
    return config, {**rest, "first/gradient_norm": norm}


def plain(summary: Record) -> Record:
    """The numbers of a summary by the names that a run's folder has them under.

    W&B keeps several of a metric: the last, the best, which `_best` names, too, and of the gradient norm the first.

    >>> plain({"val/mae": {"min": 1, "last": 2}, "gradient_norm.first": 3, "val/mae_best": 1, "samples": {"nrows": 9}})
    {'val/mae': 2, 'first/gradient_norm': 3, 'val/mae_best': 1}
    """
    found = {}
    for key, value in summary.items():
        name, _, kind = key.rpartition(".")
        kinds = value if isinstance(value, dict) else {kind: value} if name and kind in KEPT else {"last": value}
        name = name if kind in KEPT and name else key
        for kind, prefix in KEPT.items():
            if prefix is not None and isinstance(kinds.get(kind), int | float):
                found[f"{prefix}{name}"] = kinds[kind]
    return found


def history(folder: str) -> pd.DataFrame:
    """One row for each epoch, as in `history.csv`."""
    if folder.startswith("wandb:"):
        rows = list(server().run(folder.removeprefix("wandb:")).scan_history())
    else:
        rows = offline(folder)["history"]
    frame = pd.DataFrame([row for row in rows if any(key.startswith("val/") and "_best" not in key for key in row)])
    frame = frame.rename(columns={"trainer/global_step": "step"})
    if "epoch" not in frame:
        return frame
    return frame.drop_duplicates("epoch", keep="last", ignore_index=True)  # a run that was killed trains some again
