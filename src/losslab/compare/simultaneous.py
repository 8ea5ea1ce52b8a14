"""Test a family of contrasts at once: statements that hold together at one level, each with an interval that agrees.

A contrast is a difference of means of cells, such as mae minus mse. Cells share units (seeds, splits or data sets), and
a unit's own level cancels out. The statistic of a contrast is its estimate divided by a moderated standard error. Its
reference is the largest statistic of the whole family where only noise differs, simulated with the same pattern of
units: single-step max-T (Westfall & Young 1993). That is exact for normal noise that is alike in all cells.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

Array = NDArray[Any]
DRAWS = 20_000  # of the noise, at most
LEAST_DRAWS = 2_000
WORK = 10_000_000  # values that are simulated, about
ROUNDING = 1e-6  # metrics come in single precision
CORRECTED, REPORTED = 1.645, 2.807  # skewness, in its standard deviations: one normal sample in 10 and in 200 has more


@dataclass(frozen=True)
class Family:
    """The estimates of a family of contrasts, each array `(m,)`.

    Args:
        estimate, low, high: the differences and their simultaneous interval; NaN where nothing shows the noise.
        p: the smallest level at which the family would call the difference real.
        se: the standard errors.
        n: the units that a difference is over; of unpaired cells, those of the smaller one.
        paired: whether the cells share units.
        skewed: whether the differences are more skewed than one normal sample in 200.
        spreads_differ: whether the cells' spreads differ by more than chance.
        critical: the statistic that would have been enough.
        df: the degrees of freedom of the pooled variance.
    """

    estimate: Array
    low: Array
    high: Array
    p: Array
    se: Array
    n: Array
    paired: Array
    skewed: Array
    spreads_differ: bool
    critical: Array
    df: float


@dataclass(frozen=True)
class Layout:
    """Which cells have which units, and what is contrasted.

    Args:
        present: `(n, k)`, units by cells.
        contrasts: `(m, k)`; each sums to 0.
        tries: `(m,)`: among how many settings the better-tuned side of a contrast was chosen with the units tested.
        overlap: the share of the variance of a difference that no further unit takes away, as a multiple of one unit's:
            the number of test rows by that of training rows, where training rows are shared (Nadeau & Bengio 2003).
        row_noise: `(k, k)`, the covariance of the cells' means that comes from the rows tested; 0 where these do not
            count.
        row_df: its degrees of freedom.
        grain: the smallest step of a value: that of an accuracy is one row's.
    """

    present: Array
    contrasts: Array
    tries: Array
    overlap: float = 0.0
    row_noise: Array | None = None
    row_df: float = 49.0
    grain: float = 0.0

    @property
    def shared(self) -> Array:
        """For each unit and contrast, whether all cells of the contrast have the unit `(n, m)`."""
        missing = (~self.present).astype(float) @ (self.contrasts != 0).T.astype(float)
        shared: Array = missing == 0
        return shared

    @property
    def counts(self) -> Array:
        """The units that each contrast's cells share `(m,)`."""
        counts: Array = self.shared.sum(0)
        return counts

    @property
    def smallest(self) -> Array:
        """The units of each contrast's smallest cell `(m,)`."""
        sizes = self.present.sum(0)
        return np.array([sizes[row != 0].min() for row in self.contrasts])

    @property
    def paired(self) -> Array:
        """Whether a contrast is over shared units: two at least, or all that the smaller cell has `(m,)`."""
        counts = self.counts
        paired: Array = (counts >= 2) | ((counts >= 1) & (counts == self.smallest))
        return paired


def infer_family(y: Array, layout: Layout, alpha: float = 0.05) -> Family:
    """Estimate and test a family of contrasts of cells.

    Args:
        y: `(n, k)`, the value of each unit in each cell; NaN where it has none.
        layout: the contrasts, and which further noise counts. Its `present` says where `y` is finite.
        alpha: the probability that any statement of the family is false.

    >>> y = np.array([[2.0, 1.0], [3.0, 1.0], [5.0, 2.0]])
    >>> found = infer_family(y, Layout(np.isfinite(y), np.array([[1.0, -1.0]]), np.ones(1)))
    >>> abs(found.p[0] - stats.ttest_rel(y[:, 0], y[:, 1]).pvalue) < 0.005
    True
    """
    filled = np.where(layout.present, y, 0.0)[None]
    floor = max(layout.grain**2 / 12, (ROUNDING * np.abs(filled).max()) ** 2)
    estimate, variance, skew, pooled, bartlett = (part[0] for part in summarize(filled, layout, floor))
    units = np.where(layout.paired, layout.counts, 1)
    spread = np.nan_to_num(variance) * (1 + np.where(layout.paired, layout.overlap * units, 0))
    rows = row_variances(layout)
    se = np.sqrt(spread + rows)
    known = (np.isfinite(variance) | (rows > 0)) & (se > 0)
    statistic = np.divide(estimate, se, out=np.zeros_like(estimate), where=known)
    skewness = skew * np.divide(np.sqrt(spread), se, out=np.zeros_like(se), where=known) ** 3
    statistic = stricter(statistic, np.nan_to_num(skewness))
    p, critical = refer(np.abs(statistic), layout, known, float(pooled), alpha)
    critical = np.where(known, critical, 0.0)
    lower, upper = -critical, critical
    lower, upper = np.minimum(lower, invert(lower, skewness)), np.maximum(upper, invert(upper, skewness))
    nan = np.where(known, 0.0, np.nan)
    df = degrees(layout)
    return Family(
        estimate,
        estimate - se * upper + nan,
        estimate - se * lower + nan,
        p + nan,
        se + nan,
        np.where(layout.paired, layout.counts, layout.smallest),
        layout.paired,
        np.abs(skew) * np.sqrt(units) > REPORTED * usual_skewness(units) * ramp(units),
        bool(bartlett > stats.chi2.isf(0.05, max(1, len(y[0]) - 1))),
        critical,
        df,
    )


def summarize(y: Array, layout: Layout, floor: float = 0.0) -> tuple[Array, Array, Array, Array, Array]:
    """Summarize each contrast of a batch of samples `(b, n, k)`, whose missing values are 0.

    The variance of a difference of one unit is that of the additive model, `y = cell + unit + noise`, pooled over all
    cells. Where a contrast's own variance is larger, it counts as far as the cells' spreads are seen to differ (the
    moderated variance of Smyth 2004).

    Args:
        y: the samples.
        layout: the contrasts.
        floor: the least variance of a single value, as equal values may be rounded ones.

    Returns:
        The estimates, the variances of these and their scaled skewness `g / sqrt(n)`, each `(b, m)`; the pooled
        variance of a single value and Bartlett's statistic of the cells' spreads, each `(b,)`.
    """
    present, weights = layout.present, layout.contrasts
    own_df = np.maximum(layout.counts - 1, 0)
    residual, df = residuals(y, present), degrees(layout)
    squares = (residual**2).sum(1)
    nothing = np.full(len(y), np.nan)
    pooled = np.maximum(squares.sum(1) / df, floor) if df > 0 else nothing
    prior, bartlett = (
        moderation(squares, present.sum(0) * df / present.sum(), pooled) if df > 0 else (np.zeros(len(y)), nothing)
    )
    shared = layout.shared
    differences = y @ weights.T
    estimate = (differences * shared).sum(1) / np.maximum(layout.counts, 1)
    deviation = (differences - estimate[:, None]) * shared
    second = (deviation**2).sum(1)
    own = second / np.maximum(own_df, 1)
    norm = (weights**2).sum(1)
    general = pooled[:, None] * norm
    prior = np.minimum(prior, 1e12)[:, None]
    share = prior / np.maximum(prior + own_df, 1e-300)
    variance = np.fmax(general, np.where(own_df > 0, share * np.nan_to_num(general) + (1 - share) * own, np.nan))
    variance = variance / np.maximum(layout.counts, 1)
    skew = skewness_of(deviation, second, layout.counts)
    apart = ~layout.paired
    if apart.any():
        estimate[:, apart], variance[:, apart] = compare_apart(y, present, weights[apart])
        skew[:, apart] = 0.0
    return estimate, variance, skew, pooled, bartlett


def skewness_of(deviation: Array, second: Array, counts: Array) -> Array:
    """Return `g / sqrt(n)` where the skewness g is one that only one normal sample in ten has, else 0.

    Few units cannot show it; see `ramp`.
    """
    n = np.maximum(counts, 1)
    third = (deviation**3).sum(1)
    g = np.sqrt(n) * np.divide(third, second**1.5, out=np.zeros_like(third), where=second > 0)
    return np.where(np.abs(g) > CORRECTED * usual_skewness(n), g * ramp(n) / np.sqrt(n), 0.0)


def usual_skewness(n: Array) -> Array:
    """Return the standard deviation of the skewness of n normal values.

    Source: Cramer 1946, section 29.3.
    """
    return np.asarray(np.sqrt(6 * np.maximum(n - 2, 1) / ((n + 1) * (n + 3))))


def ramp(n: Array) -> Array:
    """Return how much of the skewness of n values counts: nothing up to 4, all from 10 on."""
    return np.clip((n - 4) / 6, 0.0, 1.0)


def compare_apart(y: Array, present: Array, weights: Array) -> tuple[Array, Array]:
    """Estimate pairs of cells that share no units, and the variance: the larger of Welch's and the pooled one."""
    sizes = present.sum(0)
    means = y.sum(1) / np.maximum(sizes, 1)
    squares = (((y - means[:, None]) * present) ** 2).sum(1)
    df = np.maximum(sizes - 1, 0)
    pooled = squares.sum(1) / df.sum() if df.sum() else np.full(len(y), np.nan)
    each = np.where(df > 0, np.fmax(squares / np.maximum(df, 1), 0.0), pooled[:, None]) / np.maximum(sizes, 1)
    alike = pooled[:, None] * ((weights**2) @ (1 / np.maximum(sizes, 1)))
    return means @ weights.T, np.maximum(alike, each @ (weights**2).T)


def residuals(y: Array, present: Array) -> Array:
    """Return what the additive model of cells and units leaves of `y` `(b, n, k)`; 0 where there is no value."""
    by_unit = np.maximum(present.sum(1), 1)

    def leave_units(values: Array) -> Array:
        left: Array = (values - (values.sum(2) / by_unit)[:, :, None]) * present
        return left

    left = leave_units(y * present)
    normal = np.diag(present.sum(0)) - present.T @ (present / by_unit[:, None])
    cells = left.sum(1) @ np.linalg.pinv(normal, rcond=1e-9, hermitian=True)
    return leave_units((left - cells[:, None]) * present)


def degrees(layout: Layout) -> float:
    """Return the degrees of freedom of the residuals of the additive model.

    >>> degrees(Layout(np.ones((5, 3), bool), np.zeros((1, 3)), np.ones(1)))
    8.0
    """
    n, k = layout.present.shape
    links = [(unit, n + cell) for unit, cell in zip(*np.nonzero(layout.present), strict=True)]
    parents = list(range(n + k))

    def root(node: int) -> int:
        while parents[node] != node:
            parents[node] = parents[parents[node]]
            node = parents[node]
        return node

    for unit, cell in links:
        parents[root(unit)] = root(cell)
    nodes = {node for link in links for node in link}
    parts = len({root(node) for node in nodes})
    return float(len(links) - (len(nodes) - parts))


def moderation(squares: Array, df: Array, pooled: Array) -> tuple[Array, Array]:
    """Estimate how alike the cells' variances are: the degrees of freedom of a prior that they are drawn from.

    Args:
        squares: `(b, k)`, each cell's sum of squared residuals.
        df: `(k,)`, its degrees of freedom.
        pooled: `(b,)`, the pooled variance.

    Returns:
        The prior's degrees of freedom, infinite where the variances differ by no more than chance, and Bartlett's
        statistic of equal variances, each `(b,)`.

    Source: Smyth 2004, "Linear models and empirical Bayes methods", section 6.2; Bartlett 1937.
    """
    use = df >= 0.5
    prior = np.full(len(squares), np.inf)
    if use.sum() < 3:
        return prior, np.zeros(len(squares))
    df, floor = df[use], np.maximum(pooled, 1e-300)[:, None]
    variances = np.maximum(squares[:, use] / df, 0.01 * floor)
    logs = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    excess = logs.var(1, ddof=1) - special.polygamma(1, df / 2).mean()
    wide = excess > 1e-3
    half = 0.5 + 1 / excess[wide]
    for _ in range(8):  # Newton's steps to the inverse of the trigamma function
        value = special.polygamma(1, half)
        half = half + value * (1 - value / excess[wide]) / special.polygamma(2, half)
    prior[wide] = 2 * half
    total = df.sum()
    even = np.log(np.maximum((variances * df).sum(1) / total, 1e-300))
    scale = 1 + ((1 / df).sum() - 1 / total) / (3 * (len(df) - 1))
    return prior, (total * even - (df * np.log(variances)).sum(1)) / scale


def row_variances(layout: Layout) -> Array:
    """Return the variance of each contrast that comes from the rows tested `(m,)`."""
    if layout.row_noise is None:
        return np.zeros(len(layout.contrasts))
    found: Array = np.einsum("mi,ij,mj->m", layout.contrasts, layout.row_noise, layout.contrasts)
    return np.asarray(np.maximum(found, 0.0))


def stricter(statistic: Array, skew: Array) -> Array:
    """Return the statistic, or where it is smaller Hall's, which takes the skewness of the differences out.

    With `a = g / sqrt(n)` Hall's is `t + a t^2 / 3 + a^2 t^3 / 27 + a / 6`.
    Source: Hall 1992, "On the removal of skewness by transformation".
    """
    a = skew
    corrected = statistic + a * statistic**2 / 3 + a * a * statistic**3 / 27 + a / 6
    sign = np.sign(statistic)
    return np.asarray(sign * np.maximum(0.0, np.minimum(np.abs(statistic), sign * corrected)))


def invert(corrected: Array, skew: Array) -> Array:
    """Return the statistic whose correction by `stricter` is `corrected`.

    >>> a = 0.4
    >>> t = invert(np.array([-2.0]), np.array([a]))
    >>> float((t + a * t**2 / 3 + a * a * t**3 / 27 + a / 6)[0])
    -2.0
    """
    a = np.where(skew == 0, 1.0, skew)
    return np.where(skew == 0, corrected, 3 / a * (np.cbrt(1 + a * (corrected - a / 6)) - 1))


def refer(statistic: Array, layout: Layout, known: Array, pooled: float, alpha: float) -> tuple[Array, Array]:
    """Return the p-value of each statistic within the family, and the critical value of each `(m,)`.

    Contrasts of alike precision form a group, whose reference is the largest of its statistics. Over groups the smallest
    p counts, so that a cell with few units does not silence the others.
    """
    p, critical = np.ones(len(statistic)), np.full(len(statistic), np.inf)
    if not known.any():
        return p, critical
    groups = group_contrasts(layout, known)
    unsorted = reference(layout, groups, pooled)
    largest = np.sort(unsorted, axis=0)
    draws = len(largest)
    sizes = [layout.tries[group][0] for group in groups]
    if len(groups) == 1 and sizes[0] == 1:
        smallest = None
    else:
        above = [1 - np.searchsorted(largest[:, g], unsorted[:, g], "left") / draws for g in range(len(groups))]
        smallest = np.min([1 - (1 - each) ** size for each, size in zip(above, sizes, strict=True)], axis=0)
        smallest.sort()
    level = alpha if smallest is None else smallest[max(0, int(np.ceil(alpha * draws)) - 1)]
    for g, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        alone = 1 - np.searchsorted(largest[:, g], statistic[group], "left") / draws
        alone = 1 - (1 - alone) ** size
        p[group] = alone if smallest is None else np.searchsorted(smallest, alone, "right") / draws
        rank = int(np.floor(draws * (1 - level) ** (1 / size)))
        critical[group] = largest[min(rank, draws - 1), g]
        p[group] = np.where(statistic[group] > critical[group], np.minimum(p[group], alpha), p[group])
        p[group] = np.where(statistic[group] <= critical[group], np.maximum(p[group], np.nextafter(alpha, 1)), p[group])
    return p, critical


def group_contrasts(layout: Layout, known: Array) -> list[Array]:
    """Group the contrasts that are known alike well: many shared units, few, or none, and as many settings tried."""
    most = layout.counts.max(initial=1)
    kind = np.where(~layout.paired, 2, np.where(2 * layout.counts < most, 1, 0))
    keys = list(zip(kind.tolist(), layout.tries.tolist(), strict=True))
    return [
        np.array([i for i, other in enumerate(keys) if other == key and known[i]])
        for key in sorted(set(keys))
        if any(other == key and known[i] for i, other in enumerate(keys))
    ]


def reference(layout: Layout, groups: list[Array], pooled: float) -> Array:
    """Simulate the statistics of noise, once for each layout where that alone decides them."""
    if layout.row_noise is not None:
        return simulate(layout, groups, pooled)
    shape = layout.present.shape
    key = tuple(group.tobytes() for group in groups)
    return simulate_cached(shape, layout.present.tobytes(), layout.contrasts.astype(float).tobytes(), key)


@lru_cache(maxsize=32)
def simulate_cached(shape: tuple[int, int], present: bytes, contrasts: bytes, groups: tuple[bytes, ...]) -> Array:
    """Simulate for a layout that is given as bytes."""
    weights = np.frombuffer(contrasts).reshape(-1, shape[1])
    layout = Layout(np.frombuffer(present, bool).reshape(shape), weights, np.ones(len(weights)))
    return simulate(layout, [np.frombuffer(group, np.int64) for group in groups], 1.0)


def simulate(layout: Layout, groups: list[Array], pooled: float) -> Array:
    """Draw the largest statistic of each group where nothing differs but noise `(draws, groups)`."""
    n, k = layout.present.shape
    each = n * (len(layout.contrasts) + k)
    draws = int(np.clip(WORK / each, LEAST_DRAWS, DRAWS))
    chunk = max(1, min(draws, 4_000_000 // each))
    rng, parts = np.random.default_rng(0), []
    single = not pooled > 0
    rows = row_variances(layout) / (1.0 if single else pooled)
    root = None
    if rows.any() and layout.row_noise is not None:
        values, vectors = np.linalg.eigh(layout.row_noise / (1.0 if single else pooled))
        root = vectors * np.sqrt(np.maximum(values, 0))
    for start in range(0, draws, chunk):
        size = min(chunk, draws - start)
        y = rng.standard_normal((size, n, k)) * layout.present
        estimate, variance, skew, _, _ = summarize(y, layout)
        if single:
            estimate, variance, skew = np.zeros_like(estimate), np.zeros_like(variance), np.zeros_like(skew)
        if root is not None:
            estimate = estimate + rng.standard_normal((size, k)) @ root.T @ layout.contrasts.T
            noise = rng.chisquare(layout.row_df, (size, 1)) / layout.row_df
            skew = skew * (variance / np.maximum(variance + rows, 1e-300)) ** 1.5
            variance = variance + rows * noise
        t = np.divide(estimate, np.sqrt(variance), out=np.zeros_like(estimate), where=variance > 0)
        t = np.abs(stricter(t, np.nan_to_num(skew)))
        parts.append(np.stack([t[:, group].max(1) for group in groups], 1))
    return np.concatenate(parts)
