"""What a look decides: Student's t for two, and what must hold for any values."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from losslab.compare.contrasts import Layout
from losslab.race.judge import FAILURES, ROWS, Look, compare_with, judge, measure_behind, plan_seeds
from losslab.race.levels import share_of_best
from tests.conftest import some_now

Array = NDArray[np.float64]


def layout_of(y: Array, **more: object) -> Layout:
    return Layout(np.isfinite(y), np.zeros((0, y.shape[1])), np.ones(0), **more)  # type: ignore[arg-type]


def look_at(y: Array, level: float = 0.05, difference: float = 1.0, failures: list[int] | None = None) -> Look:
    k = y.shape[1]
    return judge(y, layout_of(y), level, difference, range(k), failures or [0] * k)


@pytest.mark.parametrize("seed", range(12))
def test_two_candidates_are_judged_by_students_t(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = np.round(rng.normal([rng.choice([0.0, 1.5]), 0], size=(8, 2)), 2)
    one, other = stats.skew(y) * [1, -1]
    if min(one, other) > 0.3 or max(one, other) < -0.3:  # skewed both ways: judged more strictly
        y = np.r_[y, 2 * y.mean(0) - y]
    theirs = stats.ttest_rel(y[:, 0], y[:, 1])
    if abs(theirs.pvalue - 0.05) < 0.01:
        pytest.skip("on the border")
    found = look_at(y)
    assert bool(found.beaten) == (theirs.pvalue < 0.05)
    if not found.beaten:
        low, high = stats.ttest_rel(y[:, found.leader], y[:, 1 - found.leader]).confidence_interval(0.9)
        gap = found.gaps[1 - found.leader]
        assert (gap.low, gap.high) == pytest.approx((low, high), abs=0.03 * (high - low))
        assert (1 - found.leader in found.same) == (gap.low >= -1 and gap.high <= 1)


@pytest.mark.parametrize("seed", range(20))
def test_what_holds_for_any_race(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, k = int(rng.integers(2, 12)), int(rng.integers(2, 9))
    y = rng.standard_normal((n, k)) * rng.choice([0.1, 1, 5]) - rng.choice([0, 3], k) + 50
    failures = [int(x) for x in rng.choice([0, 0, 2], k)]
    found = look_at(y, float(rng.choice([0.001, 0.02, 0.05])), float(rng.choice([0.5, 2])), failures)
    assert found.leader not in {*found.beaten, *found.same, *found.gaps}
    assert not found.beaten.keys() & (found.same | found.hopeless.keys())
    assert not found.same & found.hopeless.keys()
    assert found.gaps.keys() == set(range(k)) - found.beaten.keys() - {found.leader}
    for loser, behind in found.beaten.items():
        assert behind.keys() == set(range(k)) - found.beaten.keys()
        assert any(y[:, other].mean() > y[:, loser].mean() for other in range(k) if failures[other] <= failures[loser])
        for rival, gap in behind.items():
            assert gap.low <= gap.mean <= gap.high
            assert gap.mean == pytest.approx(y[:, rival].mean() - y[:, loser].mean())


@pytest.mark.parametrize("k", some_now([7, 3], [7]))
def test_each_of_equals_is_beaten_and_each_bound_is_false_at_its_share(k: int) -> None:
    """Of the level, a share is for the best one to be beaten, and the rest for bounds that are too high."""
    level, share, races = 0.3, share_of_best(k), 250
    rng, beaten, too_far = np.random.default_rng(k), 0, 0
    for _ in range(races):
        y = rng.standard_normal((6, k))
        gaps = measure_behind(range(1, k), [0], y, layout_of(y), level, share)
        beaten += min(gaps[number][0].high for number in range(1, k)) < 0
        too_far += max(gaps[number][0].low for number in range(1, k)) > 0
    for found, allowed in ((beaten, share * level), (too_far, (1 - share) * level)):
        assert found / races == pytest.approx(allowed, abs=3 * np.sqrt(allowed * (1 - allowed) / races))


def test_dunnetts_test_says_the_same() -> None:
    """Without units that are shared, by scipy's Dunnett test: the same decisions for most of many samples."""
    agree = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        y = rng.standard_normal((8, 6)) + rng.choice([0.0, -1.0, -2.0], 6)
        gaps, _ = compare_with(0, range(6), y, layout_of(y), 0.05)
        theirs = stats.dunnett(*y[:, 1:].T, control=y[:, 0], rng=seed).pvalue
        agree += [(gaps[i].low > 0 or gaps[i].high < 0) == (p <= 0.05) for i, p in enumerate(theirs, 1)]
    assert np.mean(agree) > 0.9


def test_one_that_fails_more_often_beats_nobody() -> None:
    y = np.random.default_rng(0).normal(size=(10, 2)) * 0.1 + [1, 0]
    assert set(look_at(y).beaten) == {1}
    found = look_at(y, failures=[2, 0])
    assert not found.beaten
    assert found.hopeless == {1: FAILURES}


def test_too_few_rows_are_seen_to_be_hopeless() -> None:
    """The rows' noise is large and the seeds' is small: more seeds change nothing."""
    y = np.random.default_rng(0).normal(size=(10, 2)) * 0.01 + [0.3, 0]
    many = layout_of(y, row_noise=np.eye(2), mixed=np.zeros((2, 2)))
    assert judge(y, many, 0.05, 1.0, [0, 1], [0, 0]).hopeless == {1: ROWS}
    few = layout_of(y, row_noise=np.eye(2) * 1e-6, mixed=np.zeros((2, 2)))
    assert not judge(y, few, 0.05, 1.0, [0, 1], [0, 0]).hopeless


def test_the_extremes_are_judged_as_the_extremes_of_all() -> None:
    """Equals: those in the middle wait as the same, and the few that still race are judged no more easily for it."""
    found, alone = set[tuple[int, int]](), set[tuple[int, int]]()
    y = np.random.default_rng(0).normal(size=(10, 6))
    for shift in np.linspace(0, 1.2, 40):
        shifted = y + shift * np.array([-1, 0, 0, 0, 0, 1])
        order = np.argsort(shifted.mean(0))
        ends = sorted([int(order[0]), int(order[-1])])
        racing = judge(shifted, layout_of(shifted), 0.05, 1.0, ends, [0] * 6).beaten
        everyone = judge(shifted, layout_of(shifted), 0.05, 1.0, range(6), [0] * 6).beaten
        assert racing.keys() == everyone.keys() & {*ends}
        found |= {(int(100 * shift), loser) for loser in racing}
        alone |= {(int(100 * shift), ends[loser]) for loser in look_at(shifted[:, ends]).beaten}
    assert len(alone) > len(found) > 0, "as if there had been no others, more are called worse"


def test_those_that_wait_are_judged_again_if_the_leader_changes() -> None:
    rng = np.random.default_rng(1)
    y = rng.normal(size=(12, 3)) * 0.2 + [0, 0.1, 5]
    y[6:, 0] = np.nan  # it waits: it was the same as candidate 1
    same_leader = judge(y[:, :2], layout_of(y[:, :2]), 0.05, 1.0, [1], [0, 0], before=1)
    assert same_leader.same == {0}
    new = judge(y, layout_of(y), 0.05, 1.0, [1, 2], [0, 0, 0], before=1)
    assert new.leader == 2
    assert 0 not in new.same
    assert new.gaps[0].low > 1


def test_the_planned_seeds_are_those_that_find_the_difference() -> None:
    y = np.random.default_rng(2).normal(size=(500, 2))
    planned = plan_seeds(y, layout_of(y), 1.0, 0.05)
    power = np.mean(
        [
            look_at(np.random.default_rng(seed).normal(size=(planned, 2)), difference=1.0).same != set()
            for seed in range(60)
        ]
    )
    assert 10 <= planned <= 26
    assert power >= 0.7
    assert plan_seeds(y, layout_of(y), 0.5, 0.05) == pytest.approx(4 * planned, rel=0.15)
