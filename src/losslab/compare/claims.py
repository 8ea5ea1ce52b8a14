"""What a comparison claims: pairs of cells or options, how far apart they are, and whether that is chance.

All pairs of a comparison are one family, whose statements hold together: pairs of cells, and pairs of options as means
over the options of the other key. So the best may be picked, on whatever rows, and compared with the rest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.compare.contrasts import Layout, variances_of
from losslab.compare.design import Comparison, count_failures, count_tries
from losslab.compare.row_noise import RowNoise, estimate_row_noise
from losslab.compare.settings import format_value
from losslab.compare.simultaneous import Family, infer_family
from losslab.compare.statistics import bound_interval

Array = NDArray[Any]
MANY = 8  # up to this many cells all pairs are reported; beyond it, the best on validation against each of the others
MOST_PAIRED = 80  # up to this many cells all pairs are tested one by one


@dataclass
class Pair:
    """Two cells (or options), and by how much the first is better, in the comparison's unit."""

    first: str  # the name of the one with the better mean, or the best on validation
    second: str  # the name of the other
    key: str  # the key whose options they are; empty for cells
    n: int  # the units that the difference is over
    paired: bool  # whether these are shared
    mean: float  # the difference; NaN where nothing shows the noise
    low: float  # the ends of its simultaneous interval
    high: float
    p: float  # the smallest level at which the whole family would call it real
    sd: float  # the standard deviation of a unit's difference
    row_se: float  # the standard error that comes from the rows tested, which no further unit takes away
    critical: float  # how many standard errors are enough
    improvement: float  # the probability that a unit of the first is better than one of the second; a failure loses
    # the settings among which the two were chosen, with the seeds that they are tested with
    tries: tuple[int, int] = (1, 1)
    failed: tuple[int, int] = (0, 0)  # the trainings of each that failed
    # the options of the other key that a mean is not over, as a cell of them has no runs
    left_out: list[str] = field(default_factory=list)
    reported: bool = True  # whether the verdict mentions it

    @property
    def effect(self) -> float:
        """Cohen's d: the difference divided by a unit's standard deviation."""
        return self.mean / self.sd if self.sd > 0 else float("nan")


@dataclass
class Findings:
    """All pairs of a comparison, tested as one family."""

    pairs: list[Pair]  # of cells, those of the leader first
    options: dict[str, list[Pair]]  # of each of two keys, as means over the other's options
    leader: str  # the cell that is compared with all others
    # where there are many cells, those with the best mean on validation; the leader is the first by name
    tied: list[str] = field(default_factory=list)
    tested: list[Pair] = field(default_factory=list)  # all pairs that were tested, reported or not
    spreads_differ: bool = False  # whether the cells' spreads differ by more than chance
    skewed: bool = False  # whether differences of any pair are skewed
    alpha: float = 0.05  # the level of the family

    @property
    def picked(self) -> str:
        """How the leader stands on validation, where it was chosen there."""
        if len(self.tied) < 2:
            return "the best" if self.tied else ""
        return f"one of {len(self.tied)} that tie for the best"

    @property
    def every(self) -> list[Pair]:
        """All pairs that are reported."""
        return [*self.pairs, *(pair for pairs in self.options.values() for pair in pairs)]


@dataclass(frozen=True)
class Contrast:
    """A difference of weighted means of cells: names, the key of options, and the cells of each side."""

    first: str
    second: str
    key: str
    better: tuple[int, ...]
    worse: tuple[int, ...]
    reported: bool
    left_out: tuple[str, ...] = ()

    def weights(self, cells: int) -> Array:
        """Return a weight for each cell."""
        found = np.zeros(cells)
        found[list(self.better)] = 1 / len(self.better)
        found[list(self.worse)] = -1 / len(self.worse)
        return found


def evaluate(comparison: Comparison) -> Findings:
    """Test every pair of a comparison as one family."""
    cells, (leader, tied) = comparison.cells, find_leader(comparison)
    if len(cells) < 2:
        return Findings([], {}, leader, alpha=comparison.alpha)
    y = tabulate_units(comparison)
    contrasts = [*list_cells(comparison, leader), *list_options(comparison, np.isfinite(y))]
    tries = count_tries(comparison).reindex(cells, fill_value=1)
    layout = lay_out(
        comparison,
        y,
        np.stack([contrast.weights(len(cells)) for contrast in contrasts]),
        np.array([spread_tries(contrast, tries, len(cells)) for contrast in contrasts]),
    )
    family = infer_family(y, layout, comparison.alpha)
    tested = describe_pairs(comparison, contrasts, family, y, layout, leader)
    pairs = [pair for pair in tested if pair.reported]
    return Findings(
        [pair for pair in pairs if not pair.key],
        {key: found for key in comparison.by if (found := [pair for pair in pairs if pair.key == key])},
        leader,
        tied,
        tested,
        family.spreads_differ,
        bool(family.skewed.any()),
        comparison.alpha,
    )


def lay_out(comparison: Comparison, y: Array, contrasts: Array, tries: Array) -> Layout:
    """Say how the values of a comparison are tested: which noise counts, and what is contrasted.

    Args:
        y: `(n, k)`, the values of its units.
        contrasts: `(m, k)`, the weights of the cells.
        tries: `(m,)`, among how many settings more one side of each was chosen.
    """
    noise = find_row_noise(comparison)
    return Layout(
        np.isfinite(y),
        contrasts,
        tries,
        comparison.population.overlap,
        None if noise is None else noise.covariance,
        49.0 if noise is None else noise.df,
        None if noise is None else noise.mixed,
        find_grain(comparison),
        levels=find_levels(comparison, y),
    )


def find_leader(comparison: Comparison) -> tuple[str, list[str]]:
    """Return the cell with the best mean on test; of many, the first by name of those with the best on validation."""
    cells = comparison.cells
    if len(cells) <= MANY:
        return cells[0], []
    used = comparison.used
    scaled = used.assign(v=used["validation"] / used.groupby("dataset_key")["validation"].transform("mean"))
    covers = used.groupby("cell")["dataset_key"].nunique()
    means = scaled.groupby("cell")["v"].mean()[covers == covers.max()]
    top = means.min() if comparison.primary_mode == "min" else means.max()
    best = means[(means - top).abs() <= 1e-6 * abs(top)]  # accuracies come in single precision
    tied = sorted(map(str, best.index))
    return tied[0], tied


def tabulate_units(comparison: Comparison) -> Array:
    """Tabulate the mean score of each unit in each cell `(n, k)`, higher is better; NaN where there is none."""
    unit, used = comparison.population.unit, comparison.used
    sign = 1 if comparison.mode == "max" else -1
    table = used.groupby([unit, "cell"])["score"].mean().unstack().reindex(columns=comparison.cells)
    values: Array = sign * table.to_numpy(float)
    return values


def find_levels(comparison: Comparison, y: Array) -> Array:
    """Return how large each cell's values are, as a multiple of the smallest `(k,)`; 1 where differences are in points.

    Differences in per cent have noise that is mostly a share of what it is the noise of.
    """
    levels = np.abs(np.nanmean(y, axis=0))
    if comparison.points or not (levels > 0).all():
        return np.ones(y.shape[1])
    return np.array([float(f"{level / levels.min():.2g}") for level in levels])


def list_cells(comparison: Comparison, leader: str) -> list[Contrast]:
    """List the pairs of cells: all of them, so that any may be picked; of very many, the leader against the rest."""
    cells = comparison.cells
    order = [leader, *(cell for cell in cells if cell != leader)] if len(cells) > MANY else cells
    pairs = combinations(order, 2) if len(cells) <= MOST_PAIRED else ((leader, cell) for cell in order[1:])
    place = {cell: number for number, cell in enumerate(cells)}
    return [Contrast(a, b, "", (place[a],), (place[b],), reported=len(cells) <= MANY or a == leader) for a, b in pairs]


def list_options(comparison: Comparison, present: Array) -> list[Contrast]:
    """List the pairs of options of each of two keys, as means over those options of the other that both have."""
    if len(comparison.by) != 2 or len(comparison.cells) > MOST_PAIRED:
        return []
    used = comparison.used.drop_duplicates("cell").set_index("cell").loc[comparison.cells]
    names = [[format_value(value) for value in used[key]] for key in comparison.by]
    every = [sorted(set(comparison.frame[key].dropna().map(format_value))) for key in comparison.by]
    found = []
    for side, key in enumerate(comparison.by):
        own, other = names[side], names[1 - side]
        cell = {pair: number for number, pair in enumerate(zip(own, other, strict=True))}
        for a, b in combinations(dict.fromkeys(own), 2):
            both = [name for name in dict.fromkeys(other) if (a, name) in cell and (b, name) in cell]
            better, worse = (tuple(cell[option, name] for name in both) for option in (a, b))
            if len(both) > 1 and present[:, [*better, *worse]].all(1).sum() >= 2:
                left_out = tuple(name for name in every[1 - side] if name not in both)
                found.append(Contrast(a, b, key, better, worse, True, left_out))
    return found


def spread_tries(contrast: Contrast, tries: "pd.Series[int]", cells: int) -> int:
    """Return among how many settings more the better-tuned side was chosen, and how many pairs stand for one."""
    sides = [max(int(tries.iloc[cell]) for cell in side) for side in (contrast.better, contrast.worse)]
    unequal = max(sides) if sides[0] != sides[1] else 1
    return unequal * (1 if cells <= MOST_PAIRED else (cells + 1) // 2)


def find_row_noise(comparison: Comparison) -> RowNoise | None:
    """Estimate the noise that comes from the rows tested, where it counts."""
    if not comparison.population.crossed:
        return None
    return estimate_row_noise(comparison.used, comparison.cells, comparison.blocks, comparison.metric)


def find_grain(comparison: Comparison) -> float:
    """Return the smallest step between two values, such as one row's share of an accuracy, as an average of a unit."""
    values = np.sort(comparison.used["score"].unique())
    steps = np.diff(values)
    runs = comparison.used.groupby(["cell", comparison.population.unit]).size().max()
    return float(steps.min() / np.sqrt(runs)) if len(steps) else 0.0


def describe_pairs(
    comparison: Comparison, contrasts: Sequence[Contrast], family: Family, y: Array, layout: Layout, leader: str
) -> list[Pair]:
    """Return what was found of each contrast, in the comparison's unit, the better side or the leader first."""
    wins = tabulate_wins(comparison)
    failures = count_failures(comparison)["failed"].tolist()
    tries = count_tries(comparison).reindex(comparison.cells, fill_value=1).tolist()
    found = []
    for number, contrast in enumerate(contrasts):
        sides, mean = [contrast.better, contrast.worse], family.estimate[number]
        turned = mean < 0 and contrast.first != leader
        if turned:
            sides, mean = sides[::-1], -mean
        low, high = family.low[number], family.high[number]
        low, high = (-high, -low) if turned else (low, high)
        shared = np.isfinite(y[:, [*sides[0], *sides[1]]]).all(1) if family.paired[number] else slice(None)
        base = np.nanmean(y[shared][:, list(sides[1] if mean >= 0 else sides[0])])  # of the one that is worse
        scale = 100 / (1 if comparison.points else abs(base) or 1)
        low, high = bound_interval(mean * scale, low * scale, high * scale, comparison.most)
        n = int(family.n[number])
        own = layout.contrasts[number : number + 1]
        rows = variances_of(layout.row_noise, own) - variances_of(layout.mixed, own)
        names = (contrast.second, contrast.first) if turned else (contrast.first, contrast.second)
        found.append(
            Pair(
                *names,
                contrast.key,
                n,
                bool(family.paired[number]),
                float(mean * scale),
                float(low),
                float(high),
                float(family.p[number]),
                float(family.unit_se[number] * np.sqrt(n / (1 + layout.overlap * n)) * scale),
                float(np.sqrt(max(0.0, rows[0])) * scale),
                float(family.critical[number]),
                improvement(wins, *sides),
                (max(tries[cell] for cell in sides[0]), max(tries[cell] for cell in sides[1])),
                (sum(failures[cell] for cell in sides[0]), sum(failures[cell] for cell in sides[1])),
                list(contrast.left_out),
                contrast.reported,
            )
        )
    return found


def tabulate_wins(comparison: Comparison) -> Array:
    """Tabulate the score of each run by data set and repeat `(runs, k)`; a failed training has minus infinity."""
    runs = comparison.ended
    sign = 1 if comparison.mode == "max" else -1
    scores = (sign * runs["score"]).where(runs["status"] == "finished", -np.inf)
    table = scores.groupby([runs["dataset_key"], runs["repeat"], runs["cell"]]).mean().unstack()
    values: Array = table.reindex(columns=comparison.cells).to_numpy(float)
    return values


def improvement(wins: Array, first: Sequence[int], second: Sequence[int]) -> float:
    """Return the share of runs of the first that beat those of the second with the same data and seed.

    Ties count half. Where no two have the same seed, each run of the one meets each of the other.
    Source: Agarwal et al. 2021 (rliable), by pairs.
    """
    a, b = wins[:, list(first)].mean(1), wins[:, list(second)].mean(1)
    both = ~np.isnan(a) & ~np.isnan(b)
    if both.any():
        return float(np.mean((a[both] > b[both]) + (a[both] == b[both]) / 2))
    a, b = a[~np.isnan(a)], b[~np.isnan(b)]
    if not len(a) or not len(b):
        return float("nan")
    return float(np.mean((a[:, None] > b[None]) + (a[:, None] == b[None]) / 2))
