"""Small statistics of a comparison that scipy lacks. Each function is named for its result."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[Any]
MOST = 10_000  # seeds: nobody runs more
POWER = 0.8
DOUBT = 0.8  # how sure it is that the true spread is not above the one that is reckoned with


def iqm(values: Array) -> float:
    """Compute the interquartile mean, that of the middle half: less noisy than the median, more robust than the mean.

    Source: Agarwal et al. 2021, "Deep reinforcement learning at the edge of the statistical precipice" (rliable).

    >>> iqm(np.array([0.0, 1.0, 2.0, 100.0]))
    1.5
    """
    return float(stats.trim_mean(values, 0.25))


def mean_interval(values: Array, level: float = 0.95, more: float = 0.0, more_df: float = 1.0) -> tuple[float, float]:
    """Compute the ends of Student's t interval of a mean; NaN if a single value shows no spread.

    Args:
        values: of the units.
        more: a variance of the mean that comes from elsewhere, such as the rows tested.
        more_df: its degrees of freedom; the two are joined as by Welch and Satterthwaite.

    >>> bool(np.isclose(mean_interval(np.array([1.0, 2.0, 3.0]))[0], 2 - stats.t.ppf(0.975, 2) / 3**0.5))
    True
    """
    n = len(values)
    own = float(values.var(ddof=1)) / n if n > 1 else 0.0
    total = own + more
    if n < 2 and not more > 0:
        return float("nan"), float("nan")
    shares = own**2 / (n - 1) if n > 1 else 0.0
    df = total**2 / (shares + more**2 / more_df) if total > 0 else n - 1.0
    half = float(stats.t.ppf((1 + level) / 2, df) * np.sqrt(total))
    return float(values.mean()) - half, float(values.mean()) + half


def bound_interval(mean: float, low: float, high: float, most: float) -> tuple[float, float]:
    """Bound the interval of a difference by the largest that is possible for the side that is ahead.

    >>> bound_interval(67.0, 23.0, 102.0, 100.0), bound_interval(-48.0, -332.0, 236.0, 100.0)
    ((23.0, 100.0), (-100.0, 236.0))
    """
    return (low, min(high, most)) if mean >= 0 else (max(low, -most), high)


def power_of(gap: float, se: float, df: float, critical: float) -> float:
    """Compute the probability that a difference is found: that Student's statistic with it exceeds the critical value.

    The noncentral t distribution is taken as normal, as `P(t < c) = Phi((c (1 - 1/(4 df)) - d) / sqrt(1 + c^2/(2 df)))`
    for the noncentrality `d`, which holds to a point for all that matters here.
    Source: Johnson, Kotz & Balakrishnan 1995, chapter 31.
    """
    c, shift = critical * (1 - 1 / (4 * df)), abs(gap) / se
    return float(stats.norm.sf((c - shift) / np.sqrt(1 + critical**2 / (2 * df))))


def units_needed(
    gap: float, sd: float, n: int, df: float, critical: float, row_se: float = 0.0, doubt: float = DOUBT
) -> int:
    """Compute the number of units that find a difference with a power of 80 %, 10,000 at most.

    The spread is one that the true one is not above, at 80 % or what `doubt` says: that is a margin for its error.

    Args:
        sd: the standard deviation of a unit's difference, estimated from n units.
        critical: how many standard errors are enough with these degrees of freedom.
        row_se: a standard error that no further unit takes away.
        doubt: the probability that the true spread is not above the one that is reckoned with.

    >>> units_needed(0.5, 1.0, 1000, 999, 1.962)
    35
    """
    level = stats.t.sf(critical, df)
    margin = sd * np.sqrt(df / stats.chi2.ppf(1 - doubt, df))

    def finds(count: int) -> bool:
        new_df = max(1.0, df * (count - 1) / max(1, n - 1))
        se = float(np.sqrt(margin**2 / count + row_se**2))
        return power_of(gap, se, new_df, float(stats.t.isf(level, new_df))) >= POWER

    low, high = 1, 2
    while high < MOST and not finds(high):
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if finds(middle) else (middle, high)
    return high


def rows_needed(gap: float, row_se: float, rows: int, critical: float) -> int:
    """Compute the number of test rows that find a difference with a power of 80 %, where rows are the only noise.

    >>> rows_needed(1.0, 1.0, 100, 1.96)
    785
    """
    need = rows * (row_se / gap * (critical + float(stats.norm.ppf(POWER)))) ** 2
    return int(np.ceil(need))


@dataclass
class Ranking:
    """Average ranks of methods over data sets (1 is best), Friedman's test, and Nemenyi's critical difference."""

    ranks: Array
    statistic: float
    p: float
    critical: float


def ranking(scores: Array, alpha: float = 0.05) -> Ranking:
    """Rank methods on each data set, `(N, k)`, higher is better; test whether average ranks differ by more than chance.

    Two methods differ if their average ranks are more than `q sqrt(k (k + 1) / (6 N))` apart, where q is the quantile
    of the Studentised range divided by sqrt(2).

    Source: Demšar 2006, "Statistical comparisons of classifiers over multiple data sets".
    """
    count, methods = scores.shape
    ranks = stats.rankdata(-scores, axis=1).mean(0)
    differ = (scores != scores[:, :1]).any()
    statistic, p = stats.friedmanchisquare(*scores.T) if differ else (0.0, 1.0)
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
