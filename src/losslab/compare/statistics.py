"""The statistics of a comparison: scipy's, and the little that it lacks."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, log2
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[Any]
EXACT = 14  # up to so many pairs all 2^n assignments of signs are gone through
RESAMPLES = 9999
MOST = 10_000  # seeds: as many as nobody runs


def iqm(values: Array) -> float:
    """Interquartile mean: the mean of the middle half, less noisy than the median and less moved than the mean.

    Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice" (rliable).

    >>> iqm(np.array([0.0, 1.0, 2.0, 100.0]))
    1.5
    """
    return float(stats.trim_mean(values, 0.25))


def interval(strata: Sequence[Array], level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of the strata's means; each is resampled by itself.

    Args:
        strata: the values of each data set; usually there is one.
        level: how often the interval is to hold the truth.

    Returns:
        Its ends, always the same for the same values; NaN where a stratum has a single value.

    Source: Efron & Tibshirani 1993; stratified as in Agarwal et al. 2021.
    """
    if min(map(len, strata)) < 2:
        return float("nan"), float("nan")

    def mean(*parts: Array, axis: int = -1) -> Any:
        return sum(part.mean(axis=axis) for part in parts) / len(parts)

    found = stats.bootstrap(
        list(strata),
        mean,
        n_resamples=RESAMPLES,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(0),
        vectorized=True,
    ).confidence_interval
    return float(found.low), float(found.high)


@dataclass
class Difference:
    """By how much one is better than another.

    Args:
        n: the number of pairs, or of values of the smaller side where nothing pairs.
        paired: whether each value of one has its partner, of the same seed and data, in the other.
        mean, low, high: mean difference and its t interval.
        sd: standard deviation of the paired differences, or what they would have were the pairs independent.
        p: two-sided, of the `test`.
        effect: Cohen's d: the mean difference in units of `sd` (paired), or of the pooled deviation.
        improvement: how probable it is that a run of the one beats a run of the other, ties halved.
    """

    n: int
    paired: bool
    mean: float
    low: float
    high: float
    sd: float
    p: float
    effect: float
    improvement: float
    test: str


def difference(a: Array, b: Array, paired: bool, test: str = "permutation", level: float = 0.95) -> Difference:
    """By how much the mean of `a` is above that of `b`, and whether that is chance.

    Args:
        a: values of the one, better where higher.
        b: values of the other, in the order of `a` where they are paired.
        paired: whether they are.
        test: `permutation` goes through all signs of the differences (all assignments to the two sides where nothing
            pairs), or 9,999 random ones where they are too many; `wilcoxon` is the signed-rank test, or Mann-Whitney's
            where nothing pairs; `t` is Student's paired test, or Welch's.
        level: of the interval.

    Source: Fisher 1935 (permutation); Agarwal et al. 2021 (probability of improvement).

    >>> found = difference(np.array([2.0, 3.0, 5.0]), np.array([1.0, 1.0, 2.0]), paired=True)
    >>> found.mean, found.p  # three differences of one sign: 2 of 8 assignments are as extreme
    (2.0, 0.25)
    """
    n, gap, nan = min(len(a), len(b)), float(a.mean() - b.mean()), float("nan")
    improvement = float(np.mean(np.sign(a[:, None] - b[None, :])) / 2 + 0.5)
    if n < 2:
        return Difference(n, paired, gap, nan, nan, nan, nan, nan, improvement, test)
    variances = a.var(ddof=1), b.var(ddof=1)
    sd = float((a - b).std(ddof=1) if paired else np.sqrt(sum(variances)))
    rounding = 1e-6 * max(np.abs(a).max(), np.abs(b).max())  # metrics come in single precision
    if sd <= rounding:  # the same difference each time, mostly 0; t would be infinite, so the signs are counted
        p = 1.0 if abs(gap) <= rounding else smallest_p(n)
        return Difference(n, paired, gap, gap, gap, 0.0, p, nan, improvement, test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of ties and small samples: the answer stands all the same
        student = stats.ttest_rel(a, b) if paired else stats.ttest_ind(a, b, equal_var=False)
        bounds = student.confidence_interval(level)
        if test == "t":
            p = student.pvalue
        elif test == "wilcoxon":
            p = stats.wilcoxon(a, b).pvalue if paired else stats.mannwhitneyu(a, b).pvalue
        else:
            p = permutation(a, b, paired)
    effect = gap / (sd if paired else float(np.sqrt(sum(variances) / 2)))
    return Difference(n, paired, gap, float(bounds.low), float(bounds.high), sd, float(p), effect, improvement, test)


def permutation(a: Array, b: Array, paired: bool) -> float:
    """Two-sided p of the mean difference under exchange of the two sides: within pairs, or altogether."""
    many = 2**EXACT if paired and len(a) <= EXACT else RESAMPLES
    rng = np.random.default_rng(0)
    if paired:
        return float(
            stats.permutation_test((a - b,), np.mean, permutation_type="samples", n_resamples=many, rng=rng).pvalue
        )

    def gap(x: Array, y: Array, axis: int = -1) -> Any:
        return x.mean(axis=axis) - y.mean(axis=axis)

    return float(stats.permutation_test((a, b), gap, vectorized=True, n_resamples=many, rng=rng).pvalue)


def holm(p: Sequence[float]) -> list[float]:
    """Holm's step-down correction: all of them hold together at the level asked for. NaN, no test, stays NaN.

    `p_(i)` becomes the largest of `(m - j + 1) p_(j)` over `j <= i`, at most 1. Source: Holm 1979.

    >>> [round(each, 3) for each in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p, float)
    tests = np.flatnonzero(~np.isnan(values))
    order = tests[np.argsort(values[tests], kind="stable")]
    corrected = values.copy()
    corrected[order] = np.minimum(1, np.maximum.accumulate(values[order] * np.arange(len(order), 0, -1)))
    return [float(each) for each in corrected]


def smallest_p(n: int) -> float:
    """The least that a two-sided test of n signs can give: all of them agree.

    >>> smallest_p(5)
    0.0625
    """
    return float(2.0 ** (1 - n))


def least_seeds(tests: int, alpha: float) -> int:
    """The number of pairs below which a test of signs, corrected for so many tests, can establish nothing.

    >>> least_seeds(1, 0.05), least_seeds(15, 0.05)
    (6, 10)
    """
    return ceil(1 + log2(max(1, tests) / alpha))


def seeds_needed(gap: float, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """The pairs that a paired test needs to find a true difference with this power; 10,000 stands for more.

    The power of Student's test at n pairs is that of a noncentral t with `n - 1` degrees and shift `sqrt(n) gap / sd`.
    Source: Cohen 1988, chapter 2.

    >>> seeds_needed(0.5, 1.0)
    34
    """
    if not sd > 0:
        return 2

    def found(n: int) -> float:
        edge = stats.t.ppf(1 - alpha / 2, n - 1)
        shift = np.sqrt(n) * gap / sd
        return float(stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift))

    low, high = 1, 2
    while high < MOST and not found(high) >= power:
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if found(middle) >= power else (middle, high)
    return high


@dataclass
class Ranking:
    """Methods over data sets: average ranks (1 is best), Friedman's test, Nemenyi's critical difference."""

    ranks: Array
    statistic: float
    p: float
    critical: float


def ranking(scores: Array, alpha: float = 0.05) -> Ranking:
    """Rank the methods on each data set, and ask whether the ranks differ by more than chance.

    Two methods differ where their average ranks are further apart than `q sqrt(k (k + 1) / (6 N))`, with q the
    Studentised range over sqrt(2). Source: Demšar 2006, "Statistical comparisons of classifiers over multiple data
    sets".

    Args:
        scores: `(N data sets, k methods)`, higher is better, at least 2 by 3.
        alpha: the level.
    """
    count, methods = scores.shape
    ranks = stats.rankdata(-scores, axis=1).mean(0)
    statistic, p = stats.friedmanchisquare(*scores.T)
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    return Ranking(ranks, float(statistic), float(p), float(q * np.sqrt(methods * (methods + 1) / (6 * count))))


def cliques(ranks: Array, critical: float) -> list[tuple[float, float]]:
    """The longest stretches of average ranks within the critical difference: the bars of its diagram.

    >>> cliques(np.array([1.0, 1.5, 3.0]), 1.6)
    [(1.0, 1.5), (1.5, 3.0)]
    """
    ordered = np.sort(ranks)
    reach = [(float(low), float(ordered[ordered <= low + critical].max())) for low in ordered]
    longest = [reach[0], *(later for earlier, later in pairwise(reach) if later[1] > earlier[1])]
    return [(low, high) for low, high in longest if high > low]


def expected_best(values: Array) -> Array:
    """The best of k trials drawn at random, on average, for k from 1 to the number tried; higher is better.

    Of n sorted values the i-th is the best of k with probability `(i^k - (i - 1)^k) / n^k`. Source: Dodge et al. 2019,
    "Show your work: improved reporting of experimental results".

    >>> expected_best(np.array([0.0, 1.0])).tolist()
    [0.5, 0.75]
    """
    ordered = np.sort(values)
    n = len(ordered)
    share = (np.arange(n + 1) / n)[None, :] ** np.arange(1, n + 1)[:, None]
    return np.asarray(np.diff(share, axis=1) @ ordered)
