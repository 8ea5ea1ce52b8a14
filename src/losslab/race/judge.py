"""What a look at a race decides: which candidates are beaten, and which are the same as the best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from losslab.compare.contrasts import Layout
from losslab.compare.simultaneous import Family, infer_family
from losslab.compare.statistics import units_needed
from losslab.race.levels import share_of_best

Array = NDArray[Any]
ROWS, FAILURES = "rows", "failures"  # why no number of seeds would decide
SURE = 1.15  # times the noise of the rows tested: what is left of the noise, from here on, no seed takes away


@dataclass(frozen=True)
class Gap:
    """By how much one candidate is behind another, in the unit of the values, and its interval."""

    mean: float
    low: float
    high: float
    n: int  # the seeds that both have


@dataclass(frozen=True)
class Look:
    """What a look decides."""

    leader: int  # the number of the candidate with the best mean, among those that are not beaten
    beaten: dict[int, dict[int, Gap]]  # by candidate, how far it is behind each one that is not beaten
    same: set[int]  # the candidates that are the same as the leader within the difference
    gaps: dict[int, Gap]  # by candidate, how far it is behind the leader
    # the candidates that no number of seeds would decide, and why: too few `rows` are tested, or the leader is
    # better but has more `failures`
    hopeless: dict[int, str]


def judge(
    y: Array,
    layout: Layout,
    level: float,
    difference: float,
    racing: Sequence[int],
    failures: Sequence[int],
    before: int | None = None,
    started: int = 0,
) -> Look:
    """Decide what can be decided of these candidates at a level.

    Each candidate is compared with all others as if it were the best. It is beaten if one of them is ahead of it by
    more than noise. These comparisons use `share_of_best` of the level. The rest is for the least that a beaten
    candidate is behind. Those that wait count among the others, as the ones that race on are the extremes of all.

    A candidate is the same as the leader if the interval of their difference lies within `difference` on both sides.
    These intervals hold together for all that are compared with the leader, at twice the level: such a sentence can be
    false on one side only. Whichever candidate is truly best, the leader is then not behind it by more than
    `difference`.

    Args:
        y: `(n, k)`, higher is better; NaN where there is no value.
        layout: of these values, whose contrasts do not matter.
        difference: less is the same for practical purposes, in the unit of `y`.
        racing: the numbers of the candidates that race. The others are in `y` as they were the same as the leader.
        failures: how many trainings of each failed: one that fails more often than another never beats it.
        before: the leader of the look before.
        started: how many candidates the race started with; by default those in `y`.

    Source: Hsu 1984, "Constrained simultaneous confidence intervals for multiple comparisons with the best"; Edwards
    and Hsu 1983, "Multiple comparisons with the best treatment".
    """
    everyone, share = range(y.shape[1]), share_of_best(started or y.shape[1])
    ahead = {}
    for number in racing:
        gaps, _ = compare_with(number, everyone, y, layout, 2 * share * level)
        ahead[number] = [other for other in racing if other != number and gaps[other].high < 0]
    beaten = [n for n in racing if any(failures[other] <= failures[n] for other in ahead[n])]
    left = [number for number in racing if number not in beaten]
    leader = max(left, key=lambda number: float(np.nanmean(y[:, number])))
    waiting = set(everyone) - set(racing)
    others = [*left, *(() if leader == before else sorted(waiting))]
    hopeless = {number: FAILURES for number in left if leader in ahead[number]}
    gaps, family = compare_with(leader, others, y, layout, min(0.5, 2 * level))
    same = {number for number, gap in gaps.items() if -difference <= gap.low and gap.high <= difference}
    rows = np.sqrt(np.maximum(0.0, family.se**2 - family.unit_se**2))
    for (other, gap), noise, se, critical in zip(gaps.items(), rows, family.se, family.critical, strict=True):
        if se < SURE * noise and critical * noise > max(difference, abs(gap.mean)):
            hopeless[other] = ROWS
    hopeless = {number: why for number, why in hopeless.items() if number not in same}
    found = measure_behind(beaten, sorted({*left, *waiting}), y, layout, level, share)
    return Look(leader, found, same | (waiting if leader == before else set()), gaps, hopeless)


def measure_behind(
    beaten: Sequence[int], others: Sequence[int], y: Array, layout: Layout, level: float, share: float
) -> dict[int, dict[int, Gap]]:
    """Measure how far each beaten candidate is behind the others, any of which may be the best.

    Args:
        share: of the level, for how far they are behind at most; the rest is for how far they are behind at least.
    """
    behind: dict[int, dict[int, Gap]] = {number: {} for number in beaten}
    for other in others if beaten else ():
        most, _ = compare_with(other, range(y.shape[1]), y, layout, 2 * share * level)
        least, _ = compare_with(other, range(y.shape[1]), y, layout, 2 * (1 - share) * level)
        for number in beaten:
            behind[number][other] = replace(most[number], low=least[number].low)
    return behind


def compare_with(
    best: int, others: Sequence[int], y: Array, layout: Layout, level: float
) -> tuple[dict[int, Gap], Family]:
    """Compare a candidate with others as one family; return how far each is behind it, and the family.

    The columns are sorted, so that candidates with the same seeds share one simulation.
    """
    rest = sorted(set(others) - {best}, key=lambda number: (layout.present[:, number].tobytes(), number))
    if not rest:
        e = np.zeros(0)
        return {}, Family(e, e, e, e, e, e, e, e, e, False, e, 0.0)
    columns = [best, *rest]
    weights = np.c_[np.ones(len(rest)), -np.eye(len(rest))]
    both = np.ix_(columns, columns)
    some = replace(
        layout,
        present=layout.present[:, columns],
        contrasts=weights,
        tries=np.ones(len(rest)),
        row_noise=None if layout.row_noise is None else layout.row_noise[both],
        mixed=None if layout.mixed is None else layout.mixed[both],
        levels=None if layout.levels is None else layout.levels[columns],
    )
    family = infer_family(y[:, columns], some, level)
    numbers = zip(family.estimate.tolist(), family.low.tolist(), family.high.tolist(), family.n.tolist(), strict=True)
    return {other: Gap(*each) for other, each in zip(rest, numbers, strict=True)}, family


def plan_seeds(y: Array, layout: Layout, difference: float, alpha: float) -> int:
    """Return by how many seeds most is decided, from the spread so far; means play no part in it.

    These are the seeds that one look at one candidate's differences from all others would need.
    """
    _, family = compare_with(0, range(y.shape[1]), y, layout, alpha)
    known = np.isfinite(family.unit_se) & (family.unit_se > 0)
    if not known.any():
        return 2
    n = int(np.median(family.n[known]))
    sd = float(np.median(family.unit_se[known])) * n**0.5
    need = units_needed(difference, sd, n, max(1.0, family.df), float(np.median(family.critical[known])), doubt=0.5)
    return max(2, round(need))
