"""The statistics give published numbers, those of other programs, and what exhaustive enumeration counts."""

from itertools import combinations, product

import numpy as np
import pytest
from scipy import stats

from losslab.compare.statistics import (
    cliques,
    difference,
    expected_best,
    holm,
    interval,
    iqm,
    least_seeds,
    ranking,
    seeds_needed,
    smallest_p,
)

RNG = np.random.default_rng(1)

# Demšar 2006, table 6: ranks by AUC of C4.5 with neither, one or both of two parameters tuned, on 14 data sets
DEMSAR = np.array([
    [4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5], [3, 2, 4, 1],
    [2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5, 2.5, 2.5, 2.5], [4, 2.5, 1, 2.5], [3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2],
])  # fmt: skip


def test_ranks_and_critical_difference_are_those_of_demsars_example() -> None:
    found = ranking(-DEMSAR)
    assert found.ranks == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.critical == pytest.approx(1.25, abs=5e-3)
    assert ranking(-DEMSAR, alpha=0.10).critical == pytest.approx(1.12, abs=5e-3)
    # his 9.28 is without the correction for ties: 12 N / (k (k + 1)) (sum of squared ranks - k (k + 1)^2 / 4)
    uncorrected = 12 * 14 / 20 * (np.sum(found.ranks**2) - 4 * 25 / 4)
    assert uncorrected == pytest.approx(9.28, abs=0.02)
    assert found.statistic > uncorrected
    assert found.p < 0.05
    # his conclusion: at 0.10 the first and the last differ, by 1.179, which at 0.05 they do not
    assert len(cliques(found.ranks, found.critical)) == 1
    assert len(cliques(found.ranks, ranking(-DEMSAR, alpha=0.10).critical)) == 2


def test_holm_is_that_of_r() -> None:
    # R: p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm"), and in another order with a missing value
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.05, 0.01, np.nan, 0.9]) == pytest.approx([0.1, 0.03, np.nan, 0.9], nan_ok=True)
    assert holm([]) == []


@pytest.mark.parametrize("n", [3, 6, 9])
def test_the_permutation_p_is_what_counting_all_signs_gives(n: int) -> None:
    a, b = RNG.normal(0.4, 1, n), RNG.normal(0, 1, n)
    signs = np.array(list(product((-1, 1), repeat=n)))
    means = (signs * (a - b)).mean(1)
    by_hand = np.mean(np.abs(means) >= abs((a - b).mean()) - 1e-12)
    assert difference(a, b, True, "permutation").p == pytest.approx(by_hand)


def test_fisher_and_darwins_maize() -> None:
    # Fisher 1935, The Design of Experiments, section 21: of 2^15 assignments 863 in either direction are as extreme
    darwin = np.array([49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48.0])
    student = difference(darwin, np.zeros(15), True, "t")
    assert (student.mean, student.sd) == pytest.approx((20.933, 37.744), abs=1e-3)
    assert student.p == pytest.approx(0.0497, abs=1e-4)
    drawn = difference(darwin, np.zeros(15), True, "permutation")  # 15 pairs: at random
    assert drawn.p == pytest.approx(2 * 863 / 2**15, abs=0.01)


def test_students_sleep_data_give_what_r_prints() -> None:
    # R 4: t.test(extra ~ group, data = sleep), also with paired = TRUE, and wilcox.test(extra ~ group, data = sleep)
    first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    second = np.array([1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4])
    paired, welch = difference(second, first, True, "t"), difference(second, first, False, "t")
    assert (paired.p, welch.p) == pytest.approx((0.002833, 0.07939), abs=5e-6)
    assert (paired.low, paired.high) == pytest.approx((0.7001142, 2.4598858), abs=1e-7)
    assert (welch.low, welch.high) == pytest.approx((-0.2054832, 3.3654832), abs=1e-7)
    assert paired.effect == pytest.approx(4.0621 / np.sqrt(10), abs=1e-5), "Cohen's d is t / sqrt(n)"
    assert paired.improvement == pytest.approx(1 - 25.5 / 100), "W = 25.5 counts the pairs that the first side wins"
    wide = difference(second, first, True, "t", level=0.99)
    assert (wide.high - wide.low) / 2 == pytest.approx(3.2498 * 1.229995 / np.sqrt(10), abs=1e-4)  # t of 9 degrees


def test_ranks_give_what_hollander_and_wolfe_print() -> None:
    # Hollander & Wolfe 1973, pages 29 and 69, as in R's help of wilcox.test: one-sided p of 0.01953 and 0.1272, exact
    before = np.array([1.83, 0.50, 1.62, 2.48, 1.68, 1.88, 1.55, 3.06, 1.30])
    after = np.array([0.878, 0.647, 0.598, 2.05, 1.06, 1.29, 1.06, 3.14, 1.29])
    assert difference(before, after, True, "wilcoxon").p == pytest.approx(2 * 0.01953, abs=1e-5)
    at_term = np.array([0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46])
    early = np.array([1.15, 0.88, 0.90, 0.74, 1.21])
    found = difference(at_term, early, False, "wilcoxon")
    assert found.p == pytest.approx(2 * 0.1272, abs=1e-4)
    assert found.improvement == pytest.approx(35 / 50), "W = 35"


@pytest.mark.parametrize("sizes", [(3, 3), (4, 5)])
def test_the_unpaired_permutation_p_is_what_counting_all_assignments_gives(sizes: tuple[int, int]) -> None:
    a, b = RNG.normal(1.0, 1, sizes[0]), RNG.normal(0, 1, sizes[1])
    values = np.r_[a, b]
    gaps = []
    for chosen in combinations(range(len(values)), len(a)):
        side = np.isin(np.arange(len(values)), chosen)
        gaps.append(values[side].mean() - values[~side].mean())
    above, below = np.mean(np.array(gaps) >= gaps[0] - 1e-12), np.mean(np.array(gaps) <= gaps[0] + 1e-12)
    assert difference(a, b, False, "permutation").p == pytest.approx(min(1, 2 * min(above, below)))


def test_a_constant_difference_is_tested_by_its_signs() -> None:
    same = difference(np.full(5, 2.0), np.full(5, 2.0), True, "t")
    apart = difference(np.arange(5.0) + 1, np.arange(5.0), True, "t")
    assert (same.p, same.improvement) == (1.0, 0.5)
    assert (apart.p, apart.low, apart.high) == (smallest_p(5), 1.0, 1.0)
    assert np.isnan(difference(np.ones(1), np.zeros(1), True, "t").p)


def test_seeds_needed_are_those_of_gpower() -> None:
    # G*Power 3.1, t tests, difference between two dependent means, two tails, power 0.8, alpha 0.05
    assert [seeds_needed(d, 1.0) for d in (0.2, 0.5, 0.8)] == [199, 34, 15]
    assert seeds_needed(0.5, 1.0, alpha=0.01) == 51
    assert seeds_needed(0.5, 1.0, power=0.95) == 54
    assert seeds_needed(1e-9, 1.0) == 10_000
    assert smallest_p(least_seeds(15, 0.05)) * 15 <= 0.05 < smallest_p(least_seeds(15, 0.05) - 1) * 15


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    # the example of Wikipedia's "Interquartile mean"
    assert iqm(np.array([5, 8, 4, 38, 8, 6, 9, 7, 7, 3, 1, 6.0])) == 6.5
    assert iqm(np.array([-1e9, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e9])) == 3.5
    # 7 values: a quarter is 1.75 of them, and as in rliable only whole values are cut
    assert iqm(np.array([1e9, 1.0, 2.0, 3.0, 4.0, 5.0, -1e9])) == 3.0


def test_the_bootstrap_is_stratified_and_always_the_same() -> None:
    near, far = RNG.normal(0, 1, 40), RNG.normal(1000, 1, 40)
    low, high = interval([near, far])
    assert interval([near, far]) == (low, high)
    normal = 1.96 * np.sqrt(near.var() / 40 + far.var() / 40) / 2  # with strata mixed it would be 100 times as wide
    assert ((low + high) / 2, (high - low) / 2) == pytest.approx(((near.mean() + far.mean()) / 2, normal), rel=0.05)
    single = interval([near])
    theirs = stats.bootstrap((near,), np.mean, method="percentile", rng=0).confidence_interval
    assert single == pytest.approx((theirs.low, theirs.high), abs=0.03)
    assert np.isnan(interval([np.ones(1)])).all()


def test_the_best_of_k_trials_is_what_drawing_them_gives() -> None:
    values = RNG.normal(size=6)
    every = np.array(list(product(values, repeat=3)))
    assert expected_best(values)[2] == pytest.approx(every.max(1).mean())
    assert len(expected_best(values)) == 6
