"""What a comparison claims: pairs of cells or options, how far apart they are, and whether that is chance."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import pandas as pd

from losslab.compare.design import Comparison
from losslab.compare.settings import format_value
from losslab.compare.statistics import Difference, difference, holm, least_seeds

MANY = 8  # up to this many cells all pairs are tested; beyond it, the best on validation against each of the others


@dataclass
class Pair:
    """Two cells (or options), by how much the first is better in the comparison's unit, and `p` after Holm."""

    first: str
    second: str
    gap: Difference
    p: float


def collect_scores(comparison: Comparison) -> dict[str, "pd.Series[float]"]:
    """Collect each cell's scores by data set and seed, with the sign that makes higher better."""
    sign = 1 if comparison.mode == "max" else -1
    used = comparison.used.set_index(["dataset_key", "repeat"])
    return {cell: sign * used["score"][used["cell"] == cell] for cell in comparison.cells}


def compare_cells(comparison: Comparison) -> list[Pair]:
    """Test each cell against each one behind it; of many cells, the best on validation against all others."""
    scores = collect_scores(comparison)
    if len(scores) <= MANY:
        return evaluate_pairs(comparison, scores, list(combinations(scores, 2)))
    used = comparison.used
    scaled = used.assign(v=used["validation"] / used.groupby("dataset_key")["validation"].transform("mean"))
    means = scaled.groupby("cell")["v"].mean()
    best = means.sort_values(ascending=comparison.primary_mode == "min", kind="stable").index[0]
    return evaluate_pairs(comparison, scores, [(best, cell) for cell in scores if cell != best])


def compare_options(comparison: Comparison) -> dict[str, list[Pair]]:
    """Test the options of each of two keys, averaged over the options of the other key, by seed.

    Only seeds that every cell has are used: a mean over fewer cells would compare other things.

    Returns:
        The pairs by key; empty unless two keys are compared and at least two seeds are complete.
    """
    if len(comparison.by) != 2:
        return {}
    used, sign = comparison.used, 1 if comparison.mode == "max" else -1
    options = [used[key].map(format_value) for key in comparison.by]
    counts = used.groupby(["dataset_key", "repeat"])["cell"].nunique()
    complete = counts[counts == options[0].nunique() * options[1].nunique()].index
    if len(complete) < 2:
        return {}
    kept = used[used.set_index(["dataset_key", "repeat"]).index.isin(complete)]
    found = {}
    for key, option in zip(comparison.by, options, strict=True):
        means = kept.groupby([option, "dataset_key", "repeat"])["score"].mean() * sign
        sides = {str(name): side.droplevel(0) for name, side in means.groupby(level=0)}
        sides = dict(sorted(sides.items(), key=lambda side: -side[1].mean()))
        found[key] = evaluate_pairs(comparison, sides, list(combinations(sides, 2)))
    return found


def evaluate_pairs(
    comparison: Comparison, scores: dict[str, "pd.Series[float]"], asked: Sequence[tuple[str, str]]
) -> list[Pair]:
    """Evaluate pairs as one family, corrected by Holm; seed by seed where at least two seeds match, else unpaired.

    Args:
        comparison: its unit, test and level.
        scores: by name; higher is better.
        asked: the names of each pair.
    """
    sides = []
    for first, second in asked:
        a, b = scores[first], scores[second]
        common = a.index.intersection(b.index).sort_values()
        paired = len(common) >= 2
        x, y = (side.loc[common].to_numpy() if paired else side.to_numpy() for side in (a, b))
        scale: Any = 100 / (1 if comparison.points else abs(y.mean()) or 1)
        sides.append((x * scale, y * scale, paired))
    test = comparison.test
    if test == "auto":
        least = min((min(len(x), len(y)) for x, y, _ in sides), default=0)
        test = "t" if 3 <= least < least_seeds(len(asked), comparison.alpha) else "permutation"
    gaps = [difference(*side, test, 1 - comparison.alpha) for side in sides]
    corrected = holm([gap.p for gap in gaps])
    return [Pair(*names, gap, p) for names, gap, p in zip(asked, gaps, corrected, strict=True)]
