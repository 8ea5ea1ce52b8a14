"""The statistics of a comparison: those of scipy, and the few that it lacks. Each function is named for its result."""

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
EXACT = 14  # up to this many pairs all 2^n assignments of signs are enumerated
RESAMPLES = 9999
MOST = 10_000  # seeds: nobody runs more


def iqm(values: Array) -> float:
    """Compute the interquartile mean, that of the middle half: less noisy than the median, more robust than the mean.

    Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice" (rliable).

    >>> iqm(np.array([0.0, 1.0, 2.0, 100.0]))
    1.5
    """
    return float(stats.trim_mean(values, 0.25))


def interval(strata: Sequence[Array], level: float = 0.95) -> tuple[float, float]:
    """Compute the percentile bootstrap interval of the mean of the strata's means; each stratum is resampled by itself.

    Args:
        strata: the values of each data set; usually there is one.
        level: the confidence level.

    Returns:
        Its ends, the same in every call; NaN if a stratum has a single value.

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
    """How much better one side is than the other.

    Args:
        n: the number of pairs; unpaired, the number of values of the smaller side.
        paired: whether each value has a partner on the other side, with the same seed and data.
        mean, low, high: the mean difference and its t interval.
        sd: the standard deviation of the paired differences; unpaired, that of the differences of independent pairs.
        p: the two-sided p-value of `test`.
        effect: Cohen's d: the mean difference divided by `sd`; unpaired, by the pooled standard deviation.
        improvement: the probability that a run of this side beats a run of the other; ties count half.
        test: permutation, wilcoxon or t.
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
    """Compute how much higher the mean of `a` is than that of `b`, and test whether that is chance.

    Args:
        a: values of one side; higher is better.
        b: values of the other side; if paired, in the order of `a`.
        paired: whether the values are paired.
        test: `permutation` enumerates the signs of the differences (unpaired: the assignments to the two sides), or
            draws 9,999 of them if there are more than 2^14; `wilcoxon` is the signed-rank test (unpaired:
            Mann-Whitney's); `t` is Student's paired test (unpaired: Welch's).
        level: the confidence level of the interval.

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
    if sd <= rounding:  # a constant difference, mostly 0: t would be infinite, so count signs
        p = 1.0 if abs(gap) <= rounding else smallest_p(n)
        return Difference(n, paired, gap, gap, gap, 0.0, p, nan, improvement, test)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about ties and small samples, where the result is still valid
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
    """Compute the two-sided p of the mean difference under exchange of the sides, within pairs or of all values."""
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
    """Correct p-values for their number with Holm's step-down procedure; NaN (no test) stays NaN and does not count.

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
    """Compute the smallest two-sided p that a test of n signs can give: `2^(1 - n)`, if all signs agree.

    >>> smallest_p(5)
    0.0625
    """
    return float(2.0 ** (1 - n))


def least_seeds(tests: int, alpha: float) -> int:
    """Compute the number of pairs from which a test of signs, corrected for this many tests, can be significant.

    >>> least_seeds(1, 0.05), least_seeds(15, 0.05)
    (6, 10)
    """
    return ceil(1 + log2(max(1, tests) / alpha))


def seeds_needed(gap: float, sd: float, alpha: float = 0.05, power: float = 0.8) -> int:
    """Compute the number of pairs that a paired t test needs to find a difference with this power, 10,000 at most.

    With n pairs the test statistic has a noncentral t distribution with `n - 1` degrees of freedom and noncentrality
    `sqrt(n) gap / sd`.
    Source: Cohen 1988, chapter 2.

    >>> seeds_needed(0.5, 1.0)
    34
    """
    if not sd > 0:
        return 2

    def power_of(n: int) -> float:
        edge = stats.t.ppf(1 - alpha / 2, n - 1)
        shift = np.sqrt(n) * gap / sd
        return float(stats.nct.sf(edge, n - 1, shift) + stats.nct.cdf(-edge, n - 1, shift))

    low, high = 1, 2
    while high < MOST and not power_of(high) >= power:
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if power_of(middle) >= power else (middle, high)
    return high


@dataclass
class Ranking:
    """Average ranks of methods over data sets (1 is best), Friedman's test, and Nemenyi's critical difference."""

    ranks: Array
    statistic: float
    p: float
    critical: float


def ranking(scores: Array, alpha: float = 0.05) -> Ranking:
    """Rank the methods on each data set, and test whether their average ranks differ by more than chance.

    Two methods differ if their average ranks are more than `q sqrt(k (k + 1) / (6 N))` apart, where q is the quantile
    of the Studentised range divided by sqrt(2).

    Source: Demšar 2006, "Statistical comparisons of classifiers over multiple data sets".

    Args:
        scores: `(N, k)`, data sets by methods; higher is better; at least 2 by 3.
        alpha: the significance level.
    """
    count, methods = scores.shape
    ranks = stats.rankdata(-scores, axis=1).mean(0)
    statistic, p = stats.friedmanchisquare(*scores.T)
    q = stats.studentized_range.ppf(1 - alpha, methods, np.inf) / np.sqrt(2)
    return Ranking(ranks, float(statistic), float(p), float(q * np.sqrt(methods * (methods + 1) / (6 * count))))


def cliques(ranks: Array, critical: float) -> list[tuple[float, float]]:
    """Find the longest stretches of average ranks within the critical difference: the bars of its diagram.

    >>> cliques(np.array([1.0, 1.5, 3.0]), 1.6)
    [(1.0, 1.5), (1.5, 3.0)]
    """
    ordered = np.sort(ranks)
    reach = [(float(low), float(ordered[ordered <= low + critical].max())) for low in ordered]
    longest = [reach[0], *(later for earlier, later in pairwise(reach) if later[1] > earlier[1])]
    return [(low, high) for low, high in longest if high > low]


def expected_best(values: Array) -> Array:
    """Compute the expected maximum of k values drawn with replacement, for k from 1 to their number n.

    Of the sorted values the i-th is the largest of k with probability `(i^k - (i - 1)^k) / n^k`.

    Source: Dodge et al. 2019, "Show your work: improved reporting of experimental results".

    >>> expected_best(np.array([0.0, 1.0])).tolist()
    [0.5, 0.75]
    """
    ordered = np.sort(values)
    n = len(ordered)
    share = (np.arange(n + 1) / n)[None, :] ** np.arange(1, n + 1)[:, None]
    return np.asarray(np.diff(share, axis=1) @ ordered)
