"""The tables of a comparison, of cells and of pairs: in numbers for CSV files, in words for terminal and page."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from losslab.compare.claims import Pair, find_row_noise
from losslab.compare.design import Comparison, count_failures, count_settings
from losslab.compare.digits import find_decimals, format_decimals
from losslab.compare.ranks import format_rank
from losslab.compare.statistics import iqm, mean_interval

COSTS = {"seconds": "seconds", "updates": "updates", "samples/s": "examples_per_second", "MB": "peak_memory_mb"}
CHOSEN = " (leads)"  # stands behind the name of the cell that leads, whether that is decided or not
MOST_PAIRS = 100  # pairs that the page shows


def summarize_cells(comparison: Comparison) -> pd.DataFrame:
    """Summarize each cell, best first: the runs of its chosen setting, and how all of its runs ended.

    `mean`, `low`, `high`, `median` and `iqm` are of the test metric. Over several data sets `mean` is the mean of the
    data sets' means; where lower is better, these are multiples of each data set's mean over all cells.
    """
    rows, tries = [], count_settings(comparison)
    failures, noise, df = count_failures(comparison), np.zeros(len(comparison.cells)), 1.0
    if (found := find_row_noise(comparison)) is not None:
        noise, df = np.maximum(0.0, np.diag(found.covariance - found.mixed)), found.df
    for number, cell in enumerate(comparison.cells):
        every = comparison.frame[comparison.frame["cell"] == cell]
        runs = every[every["used"]]
        strata = [scores.to_numpy() for _, scores in runs.groupby("dataset_key")["score"]]
        values = np.concatenate(strata)
        units = runs.groupby(comparison.population.unit)["score"].mean().to_numpy()
        low, high = mean_interval(units, 1 - comparison.alpha, float(noise[number]), df)
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
                "trained": int(failures["all"][cell]),
                "failed": int(ends.get("failed", 0)),
                "pruned": int(ends.get("pruned", 0)),
                "unfinished": int(ends.get("running", 0) + ends.get("interrupted", 0)),
                "tried": int(tries[cell]),
                "setting": "; ".join(settings),
                "best epoch": average(runs, "best_epoch"),
                "epochs": average(runs, "epochs"),
                **{name: average(runs, key) for name, key in COSTS.items()},
            }
        )
    return pd.DataFrame(rows)


def average(runs: pd.DataFrame, key: str) -> float:
    """Average what the runs recorded under a name; NaN if none did."""
    values = pd.to_numeric(runs[key], errors="coerce") if key in runs else pd.Series(dtype=float)
    return float(values.mean()) if len(values) else float("nan")


def cut_intervals(comparison: Comparison, numbers: pd.DataFrame) -> pd.DataFrame:
    """Cut the cells' intervals where their metric ends: no accuracy is above 1, and no error below 0.

    Half of a cut interval is no half-width, so tables of numbers keep the whole one.
    """
    shares = comparison.mode == "max" and any(word in comparison.metric for word in ("accuracy", "precision", "f1"))
    lowest = 0.0 if comparison.most < np.inf or shares else -np.inf
    highest = 1.0 if comparison.points else np.inf
    return numbers.assign(**{end: numbers[end].clip(lowest, highest) for end in ("low", "high")})


def format_cells(comparison: Comparison, numbers: pd.DataFrame, whole: bool = True) -> pd.DataFrame:
    """Write the table of cells as texts, without columns that say nothing of any cell.

    Args:
        whole: with IQM, ranks, best epochs, updates, speed, memory and Pareto fronts, for which a terminal has no room.
    """
    level = f"{100 * (1 - comparison.alpha):g} %"
    relative = ", of the mean" if comparison.mode == "min" and len(comparison.datasets) > 1 else ""
    table, decimals = numbers[comparison.by].map(str), find_decimals(numbers)
    numbers = cut_intervals(comparison, numbers)
    if "chosen" in numbers:
        table[comparison.by[-1]] += np.where(numbers["chosen"], CHOSEN, "")

    def write(column: str) -> list[str]:
        return [format_decimals(value, decimals) for value in numbers[column]]

    table["n"] = numbers["n"].map(str)
    table[f"{comparison.metric}{relative}"] = write("mean")
    table[f"{level} interval"] = [
        f"{low} to {high}" if low else "" for low, high in zip(write("low"), write("high"), strict=True)
    ]
    table["median"] = write("median")
    if whole and write("iqm") != write("median"):
        table["IQM"] = write("iqm")
    for key in ("failed", "pruned", "unfinished"):
        if numbers[key].any():
            table[key] = numbers[key].map(str)
    if whole and "rank low" in numbers and numbers["rank low"].notna().any():
        table["P(best)"] = ["" if np.isnan(p) else f"{p:.2f}" for p in numbers["probability of being best"]]
        table["rank"] = [format_rank(*ends) for ends in numbers[["rank low", "rank high"]].to_numpy()]
    if comparison.tuned:
        table["tried"] = numbers["tried"].map(str)
        table["best on validation"] = numbers["setting"]
    if not whole:
        table["seconds"] = list(map(format_cost, numbers["seconds"]))
        return table
    table["best epoch"] = [
        f"{best + 1:.1f} of {epochs:.3g}" if best == best else ""  # counted from 1
        for best, epochs in zip(numbers["best epoch"], numbers["epochs"], strict=True)
    ]
    for key in [*COSTS, *map(str, numbers.filter(like=" to target"))]:
        table["to target" if key.endswith(" to target") else key] = list(map(format_cost, numbers[key]))
    if "pareto" in numbers:
        table["Pareto"] = numbers["pareto"]
    return table


def name_chosen(numbers: pd.DataFrame) -> str:
    """Name the cell that the comparison says to use; empty where it says none.

    >>> name_chosen(pd.DataFrame({"cell": ["mae", "mse"], "chosen": [False, True]}))
    'mse'
    """
    return str(numbers["cell"][numbers["chosen"]].iloc[0]) if "chosen" in numbers and numbers["chosen"].any() else ""


def pick_drawn(numbers: pd.DataFrame, most: int) -> tuple[list[str], str]:
    """Pick the cells that a plot has room for, the one that leads among them, and say in a phrase which they are.

    >>> cells = pd.DataFrame({"cell": ["mae", "mse", "huber"], "chosen": [False, False, True]})
    >>> pick_drawn(cells, 2), pick_drawn(cells, 3)[1]
    ((['mae', 'huber'], ' of the best of 3 cells by test mean and the one that leads'), '')
    """
    cells, chosen = list(numbers["cell"]), name_chosen(numbers)
    if len(cells) <= most:
        return cells, ""
    if chosen in cells[most:]:
        best = f"{most - 1} best" if most > 2 else "best"
        return [*cells[: most - 1], chosen], f" of the {best} of {len(cells)} cells by test mean and the one that leads"
    return cells[:most], f" of the {most} best of {len(cells)} cells by test mean"


def describe_alike(table: pd.DataFrame, keys: Sequence[str]) -> tuple[pd.DataFrame, str]:
    """Take out the columns that are the same for all cells, and say in a sentence what they hold."""
    alike = [str(key) for key in table if key not in keys and len(table) > 1 and table[key].nunique() == 1]
    said = [f"{key} {table[key].iloc[0]}" for key in alike if table[key].iloc[0]]
    return table.drop(columns=alike), f"The same for all: {', '.join(said)}." if said else ""


def format_cost(cost: float) -> str:
    """Write seconds, updates or memory.

    >>> format_cost(12345.6), format_cost(1.2345), format_cost(float("inf")), format_cost(float("nan"))
    ('12,346', '1.23', 'never', '')
    """
    if not np.isfinite(cost):
        return "never" if cost == np.inf else ""
    return f"{cost:,.0f}" if cost >= 100 else f"{cost:.3g}"


def tabulate_pairs(pairs: Sequence[Pair]) -> pd.DataFrame:
    """Tabulate pairs in numbers."""
    return pd.DataFrame(
        [
            {
                "of": f"options of {pair.key}" if pair.key else "cells",
                "first": pair.first,
                "second": pair.second,
                "n": pair.n,
                "paired": pair.paired,
                "difference": pair.mean,
                "low": pair.low,
                "high": pair.high,
                "p": pair.p,
                "Cohen's d": pair.effect,
                "probability of improvement": pair.improvement,
            }
            for pair in pairs
        ]
    )


def format_pairs(pairs: pd.DataFrame, unit: str, alpha: float) -> pd.DataFrame:
    """Write the table of pairs as texts, tested at a level, smallest p first, at most 100 of them."""
    if pairs.empty:
        return pairs
    pairs = pairs.sort_values("p", kind="stable").head(MOST_PAIRS)
    table = pairs[["of", "first", "second"]].map(str)
    table["n"] = pairs["n"].map(str) + np.where(pairs["paired"], "", " unpaired")
    decimals = find_decimals(pairs)
    table[f"first is better by, {unit}"] = [
        format_decimals(value, decimals) for value in pairs["difference"].round(6).add(0.0)
    ]
    table[f"{100 * (1 - alpha):.4g} % interval"] = [
        "" if np.isnan(low) else f"{format_decimals(low, decimals)} to {format_decimals(high, decimals)}"
        for low, high in zip(pairs["low"], pairs["high"], strict=True)
    ]
    for key, name, form in (
        ("p", "p", ".2g"),
        ("Cohen's d", "Cohen's d", ".2g"),
        ("probability of improvement", "P(better)", ".2f"),
    ):
        table[name] = ["" if np.isnan(value) else f"{value:{form}}" for value in pairs[key]]
    table["p"] = table["p"].where(~(pairs["p"] < 0.0005), "< 0.0005")
    return table
