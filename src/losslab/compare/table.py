"""The table: a line for each cell, in numbers for the CSV and in words for terminal and page."""

import numpy as np
import pandas as pd

from losslab.compare.design import Comparison, Pair, tried
from losslab.compare.statistics import interval, iqm

EXTRAS = {"seconds": "seconds", "updates": "updates", "samples/s": "examples_per_second", "MB": "peak_memory_mb"}


def figures(comparison: Comparison) -> pd.DataFrame:
    """All that is known of each cell, best first: the runs of its chosen setting, and how all of its runs ended.

    `mean`, `low`, `high`, `median` and `iqm` are of the test metric; over several data sets `mean` is the mean of the
    data sets' means, where lower is better in multiples of each data set's mean over all cells.
    """
    rows, tries = [], tried(comparison)
    for cell in comparison.cells:
        every = comparison.frame[comparison.frame["cell"] == cell]
        runs = every[every["used"]]
        strata = [runs["score"][runs["rows"] == rows].to_numpy() for rows in sorted(runs["rows"].unique())]
        values = np.concatenate(strata)
        low, high = interval(strata, 1 - comparison.alpha)
        ends = every["status"].value_counts()
        settings = list(dict.fromkeys(runs["setting"])) if comparison.tuned else []
        rows.append(
            {
                **dict(zip(comparison.by, runs[comparison.by].iloc[0], strict=True)),
                "cell": cell,
                "n": len(runs),
                "mean": float(np.mean([part.mean() for part in strata])),
                "low": low,
                "high": high,
                "median": float(np.median(values)),
                "iqm": iqm(values),
                "failed": int(ends.get("failed", 0)),
                "pruned": int(ends.get("pruned", 0)),
                "unfinished": int(ends.get("running", 0) + ends.get("interrupted", 0)),
                "tried": int(tries[cell]),
                "setting": "; ".join(settings),
                "best epoch": mean(runs, "best_epoch"),
                "epochs": mean(runs, "epochs"),
                **{name: mean(runs, key) for name, key in EXTRAS.items()},
            }
        )
    return pd.DataFrame(rows)


def mean(runs: pd.DataFrame, key: str) -> float:
    """The mean of what the runs recorded under a name; NaN where none did."""
    values = pd.to_numeric(runs[key], errors="coerce") if key in runs else pd.Series(dtype=float)
    return float(values.mean()) if len(values) else float("nan")


def words(comparison: Comparison, numbers: pd.DataFrame, whole: bool = True) -> list[list[str]]:
    """The table as it is read: a heading, then a line for each cell. What says nothing of any cell is left out.

    Args:
        comparison: what is compared.
        numbers: its `figures`.
        whole: with time, updates, speed and memory, for which a terminal has no room.
    """
    level = f"{100 * (1 - comparison.alpha):g} %"
    columns: dict[str, list[str]] = {key: [str(option) for option in numbers[key]] for key in comparison.by}
    columns["n"] = [str(n) for n in numbers["n"]]
    relative = comparison.better == "min" and len(comparison.sets) > 1
    columns[f"{comparison.metric}{', of the mean' if relative else ''}"] = [f"{x:.4g}" for x in numbers["mean"]]
    columns[f"{level} interval"] = [
        "" if np.isnan(low) else f"{low:.4g} to {high:.4g}"
        for low, high in zip(numbers["low"], numbers["high"], strict=True)
    ]
    columns["median"] = [f"{x:.4g}" for x in numbers["median"]]
    columns["IQM"] = [f"{x:.4g}" for x in numbers["iqm"]]
    for key in ("failed", "pruned", "unfinished"):
        if key == "failed" or numbers[key].any():
            columns[key] = [str(x) for x in numbers[key]]
    if comparison.tuned:
        columns["tried"] = [str(x) for x in numbers["tried"]]
        columns["best on validation"] = list(numbers["setting"])
    columns["best epoch"] = [
        f"{best:.3g} of 0-{epochs - 1:.3g}" if best == best else ""
        for best, epochs in zip(numbers["best epoch"], numbers["epochs"], strict=True)
    ]
    for key in EXTRAS if whole else ("seconds",):
        columns[key] = [f"{x:,.0f}" if x >= 100 else f"{x:.3g}" if x == x else "" for x in numbers[key]]
    return [list(columns), *(list(line) for line in zip(*columns.values(), strict=True))]


def contrasts(found: list[Pair]) -> pd.DataFrame:
    """The pairs in numbers."""
    return pd.DataFrame(
        [
            {
                "better": pair.first,
                "than": pair.second,
                "n": pair.gap.n,
                "paired": pair.gap.paired,
                "difference": pair.gap.mean,
                "low": pair.gap.low,
                "high": pair.gap.high,
                "p": pair.gap.p,
                "p after Holm": pair.p,
                "Cohen's d": pair.gap.effect,
                "probability of improvement": pair.gap.improvement,
            }
            for pair in found
        ]
    )


def lined_up(lines: list[list[str]]) -> str:
    """Columns side by side, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(cell == "" or cell[0] in "-0123456789" for cell in column[1:]) for column in zip(*lines, strict=True)]
    rows = [
        "  ".join(
            cell.rjust(width) if turned else cell.ljust(width)
            for cell, width, turned in zip(line, widths, right, strict=True)
        ).rstrip()
        for line in lines
    ]
    return "\n".join(rows)
