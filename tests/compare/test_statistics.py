"""The statistics give published numbers, and those of other programs."""

from itertools import pairwise, product

import numpy as np
import pytest
from scipy import stats

from losslab.compare.claims import improvement
from losslab.compare.statistics import (
    MOST,
    cliques,
    expected_best,
    iqm,
    mean_interval,
    power_of,
    ranking,
    rows_needed,
    units_needed,
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


def test_the_interquartile_mean_is_that_of_the_middle_half() -> None:
    # the example of Wikipedia's "Interquartile mean"
    assert iqm(np.array([5, 8, 4, 38, 8, 6, 9, 7, 7, 3, 1, 6.0])) == 6.5
    assert iqm(np.array([-1e9, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1e9])) == 3.5
    # 7 values: a quarter is 1.75 of them, and as in rliable only whole values are cut
    assert iqm(np.array([1e9, 1.0, 2.0, 3.0, 4.0, 5.0, -1e9])) == 3.0


def test_the_best_of_k_trials_is_what_drawing_them_gives() -> None:
    values = RNG.normal(size=6)
    every = np.array(list(product(values, repeat=3)))
    assert expected_best(values)[2] == pytest.approx(every.max(1).mean())
    assert len(expected_best(values)) == 6


def test_the_interval_of_a_mean_is_students() -> None:
    # R 4: t.test(extra, data = sleep, group = 1)
    first = np.array([0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0])
    assert mean_interval(first) == pytest.approx((-0.5297804, 2.0297804), abs=1e-7)
    theirs = stats.ttest_1samp(first, 0).confidence_interval(0.99)
    assert mean_interval(first, 0.99) == pytest.approx((theirs.low, theirs.high))
    assert np.isnan(mean_interval(np.ones(1))).all()


def test_noise_from_elsewhere_widens_the_interval_as_welch_and_satterthwaite_do() -> None:
    a, b = RNG.normal(0, 1, 7), RNG.normal(0, 3, 5)
    theirs = stats.ttest_ind(a, b - b.mean(), equal_var=False).confidence_interval()
    assert mean_interval(a, more=b.var(ddof=1) / 5, more_df=4) == pytest.approx((theirs.low, theirs.high))
    alone = mean_interval(np.ones(1), more=4.0, more_df=49)
    assert alone == pytest.approx((1 - 2 * stats.t.ppf(0.975, 49), 1 + 2 * stats.t.ppf(0.975, 49)))


@pytest.mark.parametrize("first", [[0], [0, 1]])
def test_the_probability_of_improvement_counts_pairs(first: list[int]) -> None:
    # Hollander & Wolfe 1973, page 69, as in R's help of wilcox.test: W = 35 of 50 pairs
    at_term = np.array([0.80, 0.83, 1.89, 1.04, 1.45, 1.38, 1.91, 1.64, 0.73, 1.46])
    early = np.array([1.15, 0.88, 0.90, 0.74, 1.21])
    apart = np.full((15, 2), np.nan)
    apart[:10, 0], apart[10:, 1] = at_term, early
    assert improvement(apart, [0], [1]) == pytest.approx(35 / 50)
    paired = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 3.0], [-np.inf, 9.0], [5.0, np.nan]])
    assert improvement(paired, [0], [1]) == pytest.approx(2.5 / 4), "a tie is half, a failure loses"
    wide = np.c_[paired[:, :1], paired]
    assert improvement(wide, first, [2]) == pytest.approx(2.5 / 4)


def test_the_power_is_that_of_the_noncentral_t() -> None:
    for df, level, times in product((2, 3, 5, 9, 30), (0.05, 0.01), (1.2, 1.3, 1.4)):
        critical = stats.t.isf(level / 2, df)
        exact = stats.nct.sf(critical, df, times * critical)  # 0.63 to 0.92
        assert power_of(times * critical, 1.0, df, critical) == pytest.approx(exact, abs=0.025), (df, level, times)


def test_units_needed_are_those_of_gpower_and_a_margin() -> None:
    # G*Power 3.1, t tests, difference between two dependent means, two tails, power 0.8, alpha 0.05: 199, 34 and 15
    many = 10**6  # units that show the spread: no margin
    found = [units_needed(d, 1.0, many, many - 1, stats.norm.ppf(0.975)) for d in (0.2, 0.5, 0.8)]
    assert found == pytest.approx([199, 34, 15], abs=3)
    assert units_needed(0.5, 1.0, many, many - 1, stats.norm.ppf(0.995)) == pytest.approx(51, abs=4)
    few = units_needed(0.5, 1.0, 10, 9, stats.t.ppf(0.975, 9))
    assert few == pytest.approx(34 * 9 / stats.chi2.ppf(0.2, 9), rel=0.05), "the spread may be larger than it looks"
    assert units_needed(1e-9, 1.0, 10, 9, 2.3) == MOST


def test_more_spread_or_a_smaller_gap_or_fewer_rows_need_more_units() -> None:
    rng = np.random.default_rng(5)
    for _ in range(30):
        n = int(rng.integers(2, 30))
        df = float(rng.integers(n - 1, 8 * n))
        critical = float(stats.t.isf(10 ** -rng.uniform(1.3, 4), df))
        gap, sd = 10 ** rng.uniform(-3, 3, 2)
        by_spread = [units_needed(gap, sd * factor, n, df, critical) for factor in (0.01, 0.3, 1, 2, 5, 100)]
        by_gap = [units_needed(gap / factor, sd, n, df, critical) for factor in (0.01, 0.3, 1, 2, 5, 100)]
        by_rows = [units_needed(gap, sd, n, df, critical, gap * share) for share in (0, 0.1, 0.2, 0.5, 2)]
        for counts in (by_spread, by_gap, by_rows):
            assert all(2 <= one <= other <= MOST for one, other in pairwise(counts)), counts


def test_rows_needed_fall_with_the_square_of_the_gap() -> None:
    need = rows_needed(1.0, 2.0, 100, 1.96)
    assert need == pytest.approx(100 * 4 * (1.96 + 0.8416) ** 2, abs=1)
    assert rows_needed(0.5, 2.0, 100, 1.96) == pytest.approx(4 * need, abs=4)
