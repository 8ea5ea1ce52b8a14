"""What quality costs: how soon a cell reaches a target, and which cells no other beats in quality and cost at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.compare.design import Comparison
from losslab.compare.runs import read_history

Array = NDArray[Any]
HISTORIES = 2000  # that are read in all, where there are very many runs


@dataclass(frozen=True)
class Target:
    """How soon each cell reaches a value of the primary metric on the validation rows."""

    over: str  # what is counted: seconds of training, or updates
    # a row for each cell: `to target`, infinite if half of its trainings or more never reach it, and how many `reached`
    table: pd.DataFrame
    sentence: str  # what the target is


def are_stacked(comparison: Comparison) -> bool:
    """Whether any run trained in a stack, whose seconds and memory are those of all runs in it."""
    used = comparison.used
    return "facts.stacked" in used and bool(used["facts.stacked"].notna().any())


def collect_epochs(comparison: Comparison, cells: Sequence[str]) -> pd.DataFrame:
    """Read the history of the cells' runs on the first data set: a row for each run and epoch.

    The columns are `cell`, `run`, `epoch`, `value` (of the primary metric on validation), and what was spent until
    then: `updates`, `samples` and `seconds` of training.
    """
    column = f"val/{comparison.primary}"
    tried, found = sample_ended(comparison), []
    for cell in cells:
        runs = tried[tried["used"] & (tried["cell"] == cell)]
        sizes = runs.get("facts.train_rows", pd.Series(np.nan, runs.index))
        for folder, size in zip(runs["folder"], sizes, strict=True):
            past = read_history(folder)
            if {"epoch", "step", column} <= set(past) and len(past):
                speed = past.get("examples_per_second", pd.Series(np.nan, past.index))
                steps = zip(past["epoch"], past["step"], past[column], (size or np.nan) / speed, strict=True)
                found += [(cell, folder, size or np.nan, *step) for step in steps]
    if not found:
        return pd.DataFrame()
    epochs = pd.DataFrame(found, columns=["cell", "run", "size", "epoch", "updates", "value", "seconds"])
    epochs["samples"] = (epochs["epoch"] + 1) * epochs.pop("size")
    epochs["seconds"] = epochs.groupby("run")["seconds"].cumsum()
    return epochs


def sample_ended(comparison: Comparison) -> pd.DataFrame:
    """Return the runs of the chosen settings on the first data set whose histories are read: of very many, the first.

    Each cell has as many of them, so that 100,000 runs take no longer than thousands.
    """
    ended = comparison.ended[comparison.ended["dataset_key"] == comparison.datasets[0]]
    return ended.groupby("cell", sort=False).head(max(10, HISTORIES // len(comparison.cells)))


def later_median(values: Array) -> float:
    """Return the median, of an even number of values the larger of the middle two: more than half come no later.

    >>> later_median(np.array([3.0, 1.0, np.inf, 2.0]))
    3.0
    """
    return float(np.sort(values)[len(values) // 2])


def time_to_target(comparison: Comparison) -> Target | None:
    """Find how soon the median training of each cell reaches a target; `None` where no history tells.

    The target is what the median training of the median cell reaches. A training that failed never reaches it. Of
    runs on W&B's server no history is read, which would take a request for each.
    """
    if comparison.used["folder"].map(str).str.startswith("wandb:").any():
        return None
    epochs = collect_epochs(comparison, comparison.cells)
    if epochs.empty:
        return None
    sign = 1 if comparison.primary_mode == "min" else -1
    epochs["value"] = sign * epochs["value"]
    best = epochs.groupby(["cell", "run"])["value"].min().dropna()
    middle = [later_median(part.to_numpy()) for _, part in best.groupby("cell")]
    target = later_median(np.array(middle))
    over = "updates" if are_stacked(comparison) or epochs["seconds"].isna().any() else "seconds"
    hits = epochs[epochs["value"] <= target].groupby(["cell", "run"])[over].min()
    trained = sample_ended(comparison).groupby("cell").size()
    rows = []
    for cell in comparison.cells:
        reached = hits[hits.index.get_level_values("cell") == cell].to_numpy(float)
        never = np.full(max(0, int(trained.get(cell, 0)) - len(reached)), np.inf)
        times = np.concatenate([reached, never])
        rows.append((later_median(times) if len(times) else np.nan, len(reached)))
    on = f" on {comparison.datasets[0]}" if len(comparison.datasets) > 1 else ""
    what = "updates, as the seconds of a stack are those of all its runs" if are_stacked(comparison) else over
    sentence = (
        f"The target is a val/{comparison.primary} of {sign * target:.4g}{on}, which the median training of the median "
        f"cell reaches; the time to it is that of a cell's median training, in {what}."
    )
    return Target(over, pd.DataFrame(rows, columns=["to target", "reached"]), sentence)


def name_costs(comparison: Comparison) -> list[str]:
    """Name the columns of the cells' summary that are costs; of runs in stacks only the updates are their own."""
    return ["updates"] if are_stacked(comparison) else ["seconds", "MB"]


def find_front(quality: Array, cost: Array) -> NDArray[np.bool_]:
    """Mark the Pareto front: what no other equals or beats in both quality and cost, and beats in one.

    Args:
        quality: `(k,)`, higher is better.
        cost: `(k,)`, lower is better; NaN is not on the front.

    >>> find_front(np.array([3.0, 2.0, 2.0, 1.0]), np.array([9.0, 5.0, 6.0, 5.0])).tolist()
    [True, True, False, False]
    """
    better, cheaper = quality[:, None] >= quality, cost[:, None] <= cost
    strictly = (quality[:, None] > quality) | (cost[:, None] < cost)
    known = np.isfinite(quality) & np.isfinite(cost)
    return np.asarray(known & ~(better & cheaper & strictly & known[:, None]).any(0))


def name_fronts(comparison: Comparison, numbers: pd.DataFrame) -> list[str]:
    """Name for each cell the costs on whose Pareto front it is, such as `seconds, MB`.

    A cell that lacks a data set is on none: the others may be harder.
    """
    quality = numbers["mean"].to_numpy(float) * (1 if comparison.mode == "max" else -1)
    covers = comparison.used.groupby("cell")["dataset_key"].nunique().reindex(numbers["cell"]).to_numpy()
    quality[covers < len(comparison.datasets)] = np.nan
    fronts = {key: find_front(quality, numbers[key].to_numpy(float)) for key in name_costs(comparison)}
    return [", ".join(key for key, front in fronts.items() if front[cell]) for cell in range(len(numbers))]
