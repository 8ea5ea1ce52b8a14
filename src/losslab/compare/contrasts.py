"""Estimates of contrasts and their variances: what a batch of samples says of each difference of cells.

A contrast is a difference of means of cells, such as mae minus mse. Cells share units (seeds, splits or data sets), and
a unit's own level cancels out.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse, special, stats
from scipy.sparse import csgraph

Array = NDArray[Any]
WIDE = 4.0, 1e-4  # how many times as wide as quieter ones a cell's noise is, and at which level that is sure
SYMMETRIC = 1.5, 1e-3  # the same for a cell whose noise looks symmetric: a long tail often looks like wide noise
SKEWED = 0.3  # the skewness of each cell of a contrast from which on they count


@dataclass(frozen=True)
class Layout:
    """Which cells have which units, and what is contrasted."""

    present: Array  # `(n, k)`, units by cells
    contrasts: Array  # `(m, k)`; each sums to 0
    tries: Array  # `(m,)`: among how many settings the better-tuned side of a contrast was chosen with the units tested
    # the share of the variance of a difference that no further unit takes away, as a multiple of one unit's: the
    # number of test rows by that of training rows, where training rows are shared (Nadeau & Bengio 2003)
    overlap: float = 0.0
    # `(k, k)`, the covariance of the cells' means that comes from the rows tested; 0 where these do not count
    row_noise: Array | None = None
    row_df: float = 49.0  # its degrees of freedom
    # `(k, k)`, the part of it that is noise of rows in single trainings, which the units hold, too
    mixed: Array | None = None
    grain: float = 0.0  # the smallest step of a value: that of an accuracy is one row's
    levels: Array | None = None  # `(k,)`, how large each cell's values are, if noise is taken as a share of them
    # `(k,)`, how many times as wide as the quietest ones each cell's noise is; see `find_scales`
    scales: Array | None = None

    @property
    def widths(self) -> Array:
        """The relative width of each cell's noise `(k,)`."""
        return self.kinds * (1.0 if self.levels is None else self.levels)

    @property
    def kinds(self) -> Array:
        """The scale of each cell `(k,)`: cells of one scale have one variance, as multiples of their levels."""
        return np.ones(self.present.shape[1]) if self.scales is None else self.scales

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


def summarize(y: Array, layout: Layout, floor: float = 0.0) -> tuple[Array, Array, Array, Array]:
    """Summarize each contrast of a batch of samples `(b, n, k)`, whose missing values are 0.

    The variance of a difference of one unit is that of the additive model, `y = cell + unit + noise`, pooled over all
    cells of one scale. Where a contrast's own variance is larger, it counts as far as the cells' spreads are seen to
    differ (the moderated variance of Smyth 2004).

    Args:
        floor: the least variance of a single value, as equal values may be rounded ones.

    Returns:
        The estimates, the variances of these and their scaled skewness `g / sqrt(n)`, each `(b, m)`; Bartlett's
        statistic of the cells' spreads `(b,)`.
    """
    present, weights = layout.present, layout.contrasts
    own_df = np.maximum(layout.counts - 1, 0)
    precision, df = layout.widths**-2, degrees(layout)
    squares = (residuals(y, present, precision) ** 2).sum(1) * precision
    held = present.sum(0) * (1 - precision / precision.sum())
    cell_df = held * df / max(held.sum(), 1e-300)
    pooled, prior = np.full((len(y), len(precision)), np.nan), np.zeros(len(y))
    bartlett = np.full(len(y), np.nan)
    if df > 0:
        for kind in np.unique(layout.kinds):
            alike = layout.kinds == kind
            pooled[:, alike] = (squares[:, alike].sum(1) / cell_df[alike].sum())[:, None]
        pooled = np.maximum(pooled, floor * precision)
        prior, bartlett = moderation(squares / np.maximum(pooled, 1e-300), cell_df)
    shared = layout.shared
    differences = y @ weights.T.astype(y.dtype)
    if not shared.all():
        differences *= shared
    estimate = differences.sum(1) / np.maximum(layout.counts, 1).astype(y.dtype)
    differences -= estimate[:, None]
    if not shared.all():
        differences *= shared
    second = np.einsum("bnm,bnm->bm", differences, differences)
    own = second / np.maximum(own_df, 1)
    general = pooled @ (weights**2 * layout.widths**2).T
    prior = np.minimum(prior, 1e12)[:, None]
    share = prior / np.maximum(prior + own_df, 1e-300)
    variance = np.fmax(general, np.where(own_df > 0, share * np.nan_to_num(general) + (1 - share) * own, np.nan))
    variance = variance / np.maximum(layout.counts, 1)
    seen = np.where(second > floor * layout.counts, second, 0.0)  # that of rounding errors says nothing
    skew = skewness_of(y, layout, seen)
    apart = ~layout.paired
    if apart.any():
        estimate[:, apart], variance[:, apart] = compare_apart(y, present, weights[apart])
        skew[:, apart] = 0.0
    return estimate, variance, skew, bartlett


def skewness_of(y: Array, layout: Layout, second: Array) -> Array:
    """Return `g / sqrt(n)` where all cells of a contrast skew it in one direction, else 0.

    The skewness g of a difference is the sum of the cells' third moments, each with its weight's cube, divided by the
    difference's own variance to the power of 1.5. Cells that are skewed alike cancel out and leave long tails on both
    sides, which are harmless. Few units cannot show skewness, and many cells hide it, as a large family asks for large
    statistics: it counts fully from 10 units on and up to 4 cells, not at all up to 4 units or from 6 cells on.

    Args:
        y: `(b, n, k)`, the samples.
        second: `(b, m)`, the sum of squares of each difference's deviations.
    """
    counts = layout.counts
    counting = enough(counts) * np.clip((6 - y.shape[2]) / 2, 0.0, 1.0)
    if not counting.any():
        return np.zeros(second.shape)
    variance, third = moments(y, layout.present)
    each = np.divide(third, variance**1.5, out=np.zeros_like(third), where=variance > 0)
    pull = np.where(layout.contrasts != 0, np.sign(layout.contrasts) * each[:, None], np.nan)
    agree = (np.nanmin(pull, 2) > SKEWED) | (np.nanmax(pull, 2) < -SKEWED)
    size = (second / np.maximum(counts, 1)) ** 1.5
    g = np.divide(third @ layout.contrasts.T**3, size, out=np.zeros(second.shape), where=agree & (size > 0))
    return np.asarray(g * counting / np.sqrt(np.maximum(counts, 1)))


def moments(y: Array, present: Array) -> tuple[Array, Array]:
    """Return the second and the third central moment of each cell of `y` `(b, n, k)`, each `(b, k)`."""
    n = np.maximum(present.sum(0), 1)
    left = (y - (y.sum(1) / n)[:, None]) * present
    square = left * left
    return square.sum(1) / n, (square * left).sum(1) / n


def enough(n: Array) -> Array:
    """Return how far n units can show skewness: not at all up to 4, fully from 10 on."""
    return np.asarray(np.clip((n - 4) / 6, 0.0, 1.0))


def usual_skewness(n: Array) -> Array:
    """Return the standard deviation of the skewness of n normal values, `sqrt(6 (n - 2) / ((n + 1) (n + 3)))`.

    Source: Cramer 1946, section 29.3.
    """
    return np.asarray(np.sqrt(6 * np.maximum(n - 2, 1) / ((n + 1) * (n + 3))))


def looks_skewed(y: Array, layout: Layout, floor: float = 0.0) -> Array:
    """Return for each contrast `(m,)` whether its differences are more skewed than those of one normal sample in 200.

    Four values cannot show any, nor can those whose variance is below `floor`: they are rounding errors.
    """
    found = np.zeros(len(layout.contrasts))
    for place, (has, weights) in enumerate(zip(layout.shared.T, layout.contrasts, strict=True)):
        differences = y[has] @ weights
        if len(differences) > 4 and differences.var() > floor:
            variance, third = moments(differences[None, :, None], np.ones((len(differences), 1)))
            found[place] = abs(third.item()) / variance.item() ** 1.5
    return np.asarray(found > stats.norm.isf(0.0025) * usual_skewness(np.maximum(layout.counts, 5)))


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


def find_scales(y: Array, present: Array, floor: float = 0.0) -> Array:
    """Find how many times as wide as the quietest ones each cell's noise is `(k,)`; mostly 1.

    Cells are sorted by their variance over units, each unit without its median. The quietest third belongs together.
    Each further cell joins those before it, unless its noise is four times as wide and the F test says at 0.01 % that
    it is wider: then it opens another group. Where its values look symmetric, 1.5 times and 0.1 % are enough; this
    comes in between 4 and 10 units. A group's scale is the square root of the ratio of the variances.

    >>> y = np.random.default_rng(0).standard_normal((20, 6)) * [1, 1, 1, 1, 30, 30]
    >>> find_scales(y, np.isfinite(y))[:4], find_scales(y, np.isfinite(y))[4:] > 20
    (array([1., 1., 1., 1.]), array([ True,  True]))
    """
    scales, df = np.ones(y.shape[1]), present.sum(0) - 1
    use = np.flatnonzero(df > 0)
    if len(use) < 3:
        return scales
    values = np.where(present, y, np.nan)[:, use]
    some = present[:, use].any(1)
    left = values[some] - np.nanmedian(values[some], axis=1, keepdims=True)
    variances = np.maximum(np.nanvar(left, axis=0, ddof=1), floor)
    variance, third = (part[0, use] for part in moments(np.where(present, y, 0.0)[None], present))
    symmetric = np.abs(third) < usual_skewness(df[use] + 1) * variance**1.5
    trusted = np.where(symmetric, enough(df[use] + 1), 0.0)
    order = np.argsort(variances, kind="stable")
    variances, freedom, cells, trusted = variances[order], df[use][order], use[order], trusted[order]
    starts = [0]
    for place in range(max(2, -(-len(use) // 3)), len(use)):
        before = slice(starts[-1], place)
        mean = np.average(variances[before], weights=freedom[before])
        strict, mild = (
            max(times**2, stats.f.isf(level, freedom[place], freedom[before].sum()))
            for times, level in (WIDE, SYMMETRIC)
        )
        if variances[place] > mean * strict ** (1 - trusted[place]) * mild ** trusted[place]:
            starts.append(place)
    ends = [*starts[1:], len(use)]
    means = [np.average(variances[a:b], weights=freedom[a:b]) for a, b in zip(starts, ends, strict=True)]
    for (a, b), mean in zip(zip(starts, ends, strict=True), means, strict=True):
        if mean > 0 and means[0] > 0:
            scales[cells[a:b]] = float(f"{np.sqrt(mean / means[0]):.2g}")
    return scales


def residuals(y: Array, present: Array, precision: Array | None = None) -> Array:
    """Return what the additive model of cells and units leaves of `y` `(b, n, k)`; 0 where there is no value.

    Args:
        present: `(n, k)`, which values there are.
        precision: `(k,)`, the weight of each cell where a unit's level is estimated.
    """
    weights = present * (np.ones(present.shape[1]) if precision is None else precision)
    by_unit = np.maximum(weights.sum(1), 1e-300)

    def leave_units(values: Array) -> Array:
        left: Array = (values - ((values * weights).sum(2) / by_unit)[:, :, None]) * present
        return left

    left = leave_units(y * present)
    size = np.sqrt(np.maximum(weights.sum(0), 1e-300))
    normal = (np.diag(weights.sum(0)) - weights.T @ (weights / by_unit[:, None])) / np.outer(size, size)
    cells = (left * weights).sum(1) / size @ np.linalg.pinv(normal, rcond=1e-9, hermitian=True) / size
    return leave_units((left - cells[:, None]) * present)


def degrees(layout: Layout) -> float:
    """Return the degrees of freedom of the residuals of the additive model.

    >>> degrees(Layout(np.ones((5, 3), bool), np.zeros((1, 3)), np.ones(1)))
    8.0
    """
    present = layout.present.astype(float)
    links = sparse.block_array([[None, present], [present.T, None]])  # of units with cells
    parts, _ = csgraph.connected_components(links, directed=False)
    return float(present.sum() - (sum(present.shape) - parts))


def moderation(squares: Array, df: Array) -> tuple[Array, Array]:
    """Estimate how alike the cells' variances are, from their sums of squares as multiples of the pooled variance.

    Returns:
        The prior's degrees of freedom, infinite where the variances differ by no more than chance, and Bartlett's
        statistic of equal variances, each `(b,)`.

    Source: Smyth 2004, "Linear models and empirical Bayes methods", section 6.2; Bartlett 1937.
    """
    use = df >= 0.5
    prior = np.full(len(squares), np.inf)
    if use.sum() < 3:
        return prior, np.zeros(len(squares))
    df = df[use]
    variances = np.maximum(squares[:, use] / df, 0.01)
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


def variances_of(covariance: Array | None, contrasts: Array) -> Array:
    """Return the variance of each contrast of cells whose means have a covariance; 0 where there is none."""
    if covariance is None:
        return np.zeros(len(contrasts))
    found: Array = np.einsum("mi,ij,mj->m", contrasts, covariance, contrasts)
    return np.asarray(np.maximum(found, 0.0))
