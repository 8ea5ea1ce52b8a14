"""What a look at a race decides: which candidates are beaten, and which are the same as the best."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from losslab.compare.contrasts import Layout
from losslab.compare.simultaneous import Family, infer_family
from losslab.compare.statistics import units_needed

Array = NDArray[Any]
ROWS, FAILURES = "rows", "failures"  # why no number of seeds would decide
SURE = 1.15  # times the noise of the rows tested: what is left of the noise, from here on, no seed takes away


@dataclass(frozen=True)
class Gap:
    """By how much one candidate is behind another, in the unit of the values, and its interval.

    Args:
        ahead: the number of the candidate that is ahead.
        mean, low, high: of the difference.
        n: the seeds that both have.
    """

    ahead: int
    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Look:
    """What a look decides.

    Args:
        leader: the number of the candidate with the best mean, among those that are not beaten.
        beaten: by candidate, how far it is behind the one that beats it by most.
        same: the candidates that are the same as the leader within the difference.
        gaps: by candidate, how far it is behind the leader.
        hopeless: the candidates that no number of seeds would decide, and why: too few `rows` are tested, or the leader
            is better but has more `failures`.
    """

    leader: int
    beaten: dict[int, Gap]
    same: set[int]
    gaps: dict[int, Gap]
    hopeless: dict[int, str]


def judge(
    y: Array,
    layout: Layout,
    level: float,
    difference: float,
    racing: Sequence[int],
    failures: Sequence[int],
    before: int | None = None,
) -> Look:
    """Decide what can be decided of these candidates at a level.

    A candidate is beaten if another one is better by any amount: the interval of their difference excludes 0. These
    intervals hold together for all pairs that are not beaten yet: those that race when others were found to be the same
    are the extremes of all, so those others still count. A candidate is the same as the leader if the interval of their
    difference lies within `difference` on both sides. These intervals hold together for all that are compared with the
    leader, at twice the level: such a sentence can be false on one side only. Whichever candidate is truly best, the
    leader is then not behind it by more than `difference` (Hsu 1984, multiple comparisons with the best).

    Args:
        y: `(n, k)`, higher is better; NaN where there is no value.
        layout: of these values, whose contrasts do not matter.
        level: of this look.
        difference: less is the same for practical purposes, in the unit of `y`.
        racing: the numbers of the candidates that race. The others are in `y` as they were the same as the leader.
        failures: how many trainings of each failed: one that fails more often than another never beats it.
        before: the leader of the look before.
    """
    beaten: dict[int, Gap] = {}
    family, pairs = test(y, layout, list(combinations(range(y.shape[1]), 2)), level)
    found = zip(pairs, list_gaps(pairs, family), family.p, strict=True)
    surely = [(pair, gap) for pair, gap, p in found if p <= level and {*pair} <= {*racing}]
    for pair, gap in surely:
        loser = sum(pair) - gap.ahead
        if failures[gap.ahead] <= failures[loser] and (loser not in beaten or beaten[loser].mean < gap.mean):
            beaten[loser] = gap
    left = [number for number in racing if number not in beaten]
    leader = max(left, key=lambda number: float(np.nanmean(y[:, number])))
    waiting = set(range(y.shape[1])) - set(racing)
    others = [*left, *(() if leader == before else sorted(waiting))]
    hopeless = {sum(pair) - leader: FAILURES for pair, gap in surely if gap.ahead == leader and {*pair} <= {*left}}
    family, pairs = test(y, layout, [(leader, other) for other in others if other != leader], min(0.5, 2 * level))
    gaps = {sum(pair) - leader: gap for pair, gap in zip(pairs, list_gaps(pairs, family, turn=False), strict=True)}
    same = {number for number, gap in gaps.items() if -difference <= gap.low and gap.high <= difference}
    rows = np.sqrt(np.maximum(0.0, family.se**2 - family.unit_se**2))
    for pair, noise, se, critical in zip(pairs, rows, family.se, family.critical, strict=True):
        other = sum(pair) - leader
        if se < SURE * noise and critical * noise > max(difference, abs(gaps[other].mean)):
            hopeless[other] = ROWS
    hopeless = {number: why for number, why in hopeless.items() if number not in same}
    return Look(leader, beaten, same | (waiting if leader == before else set()), gaps, hopeless)


def test(y: Array, layout: Layout, pairs: list[tuple[int, int]], level: float) -> tuple[Family, list[tuple[int, int]]]:
    """Test pairs of candidates as one family, by the values of these candidates alone; return it and the pairs."""
    if not pairs:
        e = np.zeros(0)
        return Family(e, e, e, e, e, e, e, e, e, False, e, 0.0), []
    columns = sorted({number for pair in pairs for number in pair})
    weights = np.zeros((len(pairs), len(columns)))
    for row, (first, second) in enumerate(pairs):
        weights[row, columns.index(first)], weights[row, columns.index(second)] = 1.0, -1.0
    both = np.ix_(columns, columns)
    some = replace(
        layout,
        present=layout.present[:, columns],
        contrasts=weights,
        tries=np.ones(len(pairs)),
        row_noise=None if layout.row_noise is None else layout.row_noise[both],
        mixed=None if layout.mixed is None else layout.mixed[both],
        levels=None if layout.levels is None else layout.levels[columns],
    )
    return infer_family(y[:, columns], some, level), pairs


def list_gaps(pairs: Sequence[tuple[int, int]], family: Family, *, turn: bool = True) -> list[Gap]:
    """List how far each pair is apart: the better one ahead, or without `turn` the first one."""
    found = []
    for number, pair in enumerate(pairs):
        sign = -1.0 if turn and family.estimate[number] < 0 else 1.0
        low, high = sorted((sign * float(family.low[number]), sign * float(family.high[number])))
        ahead = pair[0] if sign > 0 else pair[1]
        found.append(Gap(ahead, sign * float(family.estimate[number]), low, high, int(family.n[number])))
    return found


def plan_seeds(y: Array, layout: Layout, difference: float, alpha: float) -> int:
    """Return by how many seeds most pairs will be decided, from the spread so far; means play no part in it.

    These are the seeds that one look at all pairs would need.
    """
    family, _ = test(y, layout, list(combinations(range(y.shape[1]), 2)), alpha)
    known = np.isfinite(family.unit_se) & (family.unit_se > 0)
    if not known.any():
        return 2
    n = int(np.median(family.n[known]))
    sd = float(np.median(family.unit_se[known])) * n**0.5
    need = units_needed(difference, sd, n, max(1.0, family.df), float(np.median(family.critical[known])), doubt=0.5)
    return max(2, round(need))
