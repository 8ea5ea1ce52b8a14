"""Test a family of contrasts at once: statements that hold together at one level, each with an interval that agrees.

The statistic of a contrast is its estimate divided by a moderated standard error. Its reference is the largest
statistic of the whole family where only noise differs, simulated with the same pattern of units: single-step max-T
(Westfall & Young 1993). That is exact for normal noise that is alike in all cells.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from losslab.compare.contrasts import Layout, degrees, find_scales, looks_skewed, summarize, variances_of

Array = NDArray[Any]
DRAWS = 20_000  # of the noise, at most
LEAST_DRAWS = 2_000
WORK = 10_000_000  # values that are simulated, about
LEVELS = 1500  # at which a family is tested to find a p
ROUNDING = 1e-6  # metrics come in single precision
LEAST = 1e-60  # a variance, where all values are 0


@dataclass(frozen=True)
class Family:
    """The estimates of a family of contrasts, each array `(m,)`."""

    estimate: Array  # the differences; NaN where nothing shows the noise
    low: Array  # the ends of their simultaneous intervals
    high: Array
    p: Array  # the smallest level at which the family would call the difference real
    se: Array  # the standard errors
    unit_se: Array  # the standard errors that come from the units alone
    n: Array  # the units that a difference is over; of unpaired cells, those of the smaller one
    paired: Array  # whether the cells share units
    skewed: Array  # whether the differences are more skewed than one normal sample in 200
    spreads_differ: bool  # whether the cells' spreads differ by more than chance
    critical: Array  # the statistic that would have been enough
    df: float  # the degrees of freedom of the pooled variance


def infer_family(y: Array, layout: Layout, alpha: float = 0.05) -> Family:
    """Estimate and test a family of contrasts of cells.

    Args:
        y: `(n, k)`, the value of each unit in each cell; NaN where it has none.
        layout: the contrasts, and which further noise counts. Its `present` says where `y` is finite.
        alpha: the probability that any statement of the family is false.

    >>> y = np.array([[2.0, 1.0], [3.0, 1.0], [5.0, 2.0]])
    >>> found = infer_family(y, Layout(np.isfinite(y), np.array([[1.0, -1.0]]), np.ones(1)))
    >>> bool(abs(found.p[0] - stats.ttest_rel(y[:, 0], y[:, 1]).pvalue) < 0.005)
    True
    """
    filled = np.where(layout.present, y, 0.0)[None]
    floor = max(layout.grain**2 / 12, (ROUNDING * np.abs(filled).max()) ** 2, LEAST)
    levels = np.ones(y.shape[1]) if layout.levels is None else layout.levels
    layout = replace(layout, scales=find_scales(y / levels, layout.present, floor))
    estimate, variance, skew, bartlett = (part[0] for part in summarize(filled, layout, floor))
    units = np.where(layout.paired, layout.counts, 1)
    spread = np.nan_to_num(variance) * (1 + np.where(layout.paired, layout.overlap * units, 0))
    df, rows, training = degrees(layout), variances_of(layout.row_noise, layout.contrasts), spread
    if layout.row_noise is not None:
        training = leave_rows_out(spread, variances_of(layout.mixed, layout.contrasts), df)
    se = np.sqrt(training + rows)
    known = (np.isfinite(variance) | (rows > 0)) & (se > 0)
    statistic = np.divide(estimate, se, out=np.zeros_like(estimate), where=known)
    skewness = skew * np.divide(np.sqrt(training), se, out=np.zeros_like(se), where=known) ** 3
    statistic = stricter(statistic, np.nan_to_num(skewness))
    p, critical = refer(np.abs(statistic), layout, known, np.maximum(training, spread), rows, alpha)
    lower, upper = -critical, critical
    lower, upper = np.minimum(lower, invert(lower, skewness)), np.maximum(upper, invert(upper, skewness))
    nan = np.where(known, 0.0, np.nan)
    return Family(
        estimate,
        estimate - se * upper + nan,
        estimate - se * lower + nan,
        p + nan,
        se + nan,
        np.sqrt(spread) + nan,
        np.where(layout.paired, layout.counts, layout.smallest),
        layout.paired,
        looks_skewed(filled[0], layout, floor),
        bool((layout.kinds > 1).any() or bartlett > stats.chi2.isf(0.05, max(1, len(y[0]) - 1))),
        critical,
        df,
    )


def leave_rows_out(spread: Array, mixed: Array, df: float) -> Array:
    """Return the variance that comes from training again alone, without the noise of rows in single trainings.

    An estimate with few degrees of freedom is mostly too small: it is scaled so that its median is right.

    Args:
        spread: the variance over units, which holds both.
        mixed: that of rows in single trainings.
        df: the degrees of freedom of the former.
    """
    scale = df / float(stats.chi2.ppf(0.5, df)) if df > 0 else 1.0
    return np.asarray(np.maximum(0.0, scale * spread - mixed))


def stricter(statistic: Array, skew: Array) -> Array:
    """Return the statistic, or where it is smaller Hall's, which takes the skewness of the differences out.

    With `a = g / sqrt(n)` Hall's is `t + a t^2 / 3 + a^2 t^3 / 27 + a / 6`.
    Source: Hall 1992, "On the removal of skewness by transformation".
    """
    a = skew
    turn = a * statistic / 3
    corrected = statistic * (1 + turn + turn * turn / 3) + a / 6
    sign = np.sign(statistic)
    return np.asarray(sign * np.maximum(0.0, np.minimum(np.abs(statistic), sign * corrected)))


def invert(corrected: Array, skew: Array) -> Array:
    """Return the statistic whose correction by `stricter` is `corrected`.

    >>> a = 0.4
    >>> t = invert(np.array([-2.0]), np.array([a]))
    >>> round(float((t + a * t**2 / 3 + a * a * t**3 / 27 + a / 6)[0]), 9)
    -2.0
    """
    a = np.where(skew == 0, 1.0, skew)
    return np.where(skew == 0, corrected, 3 / a * (np.cbrt(1 + a * (corrected - a / 6)) - 1))


@dataclass(frozen=True)
class Reference:
    """The largest statistics of each group of contrasts where nothing differs but noise.

    Contrasts of alike precision form a group. Over groups the smallest p counts, so that a cell with few units does not
    silence the others.
    """

    groups: list[Array]  # the contrasts of each group
    tries: list[float]  # among how many settings more one side of these was chosen
    largest: Array  # `(draws, groups)`, each column sorted
    smallest: Array  # the smallest p of the groups of each draw, sorted

    @classmethod
    def of(cls, drawn: Array, groups: list[Array], layout: Layout) -> "Reference":
        """Sort the largest statistics that were drawn `(draws, groups)`.

        A winner of several tries has a p that is uniform once it is corrected for these, as that of a single draw is.
        """
        largest, tries = np.sort(drawn, axis=0), [float(layout.tries[group[0]]) for group in groups]
        alone = [
            1 - np.searchsorted(each, draw, "left") / len(drawn) for each, draw in zip(largest.T, drawn.T, strict=True)
        ]
        return cls(groups, tries, largest, np.sort(np.min(alone, axis=0)))

    def critical(self, levels: Array, count: int) -> Array:
        """Return the statistic that each of `count` contrasts must exceed `(levels, count)`; 0 for one in no group."""
        draws, found = len(self.largest), np.zeros((len(levels), count))
        alone = self.smallest[np.minimum(levels * draws, draws - 1).astype(int)]
        for group, size, column in zip(self.groups, self.tries, self.largest.T, strict=True):
            ranks = np.ceil(draws * (1 - alone) ** (1 / size)).astype(int)
            found[:, group] = column[np.minimum(ranks, draws - 1)][:, None]
        return found


def refer(
    statistic: Array, layout: Layout, known: Array, units: Array, rows: Array, alpha: float
) -> tuple[Array, Array]:
    """Return the p-value of each statistic within the family, and the critical value of each `(m,)`.

    Where rows are a second source of noise, the critical value lies between those of the two sources, weighed by the
    share of the variance over units, to a power: 2, as `1 / df` is weighed by Satterthwaite (1946), but towards 1 with
    few degrees of freedom, as a share that is too small by chance would look sure.

    Args:
        statistic: `(m,)`, not negative.
        known: which of them can be tested.
        units, rows: the variance of each over units, and that which comes from the rows tested.
        alpha: the level of the critical values.
    """
    count = len(statistic)
    if not known.any():
        return np.ones(count), np.zeros(count)
    groups = group_contrasts(layout, known)
    share = np.divide(units, units + rows, out=np.zeros(count), where=known)
    weight = share ** (2 - 1 / max(degrees(layout), 1.0))
    trained = draw_units(layout, groups) if (units > 0).any() else None
    tested = draw_rows(layout, groups, rows) if rows.any() else None

    levels = np.unique([*np.geomspace(1 / DRAWS, 1, LEVELS), alpha])
    critical = np.where(known, np.ones((len(levels), count)), 0.0)
    for reference, power in ((trained, weight), (tested, 1 - weight)):
        if reference is not None:
            critical *= reference.critical(levels, count) ** power
    enough = (statistic > critical) & known
    p = np.where(enough.any(0), levels[enough.argmax(0)], 1.0)
    return p, critical[np.searchsorted(levels, alpha)]


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


def draw_units(layout: Layout, groups: list[Array]) -> Reference:
    """Simulate the statistics of trainings, once for each layout; widths to a power of two are near enough for that."""
    shape = layout.present.shape
    widths = [2 ** np.round(np.log2(each)) for each in (layout.widths / layout.kinds, layout.kinds)]
    arrays = layout.present, layout.contrasts.astype(float), layout.tries.astype(float), *widths
    return simulate(shape, tuple(each.tobytes() for each in arrays), tuple(group.tobytes() for group in groups))


@lru_cache(maxsize=32)
def simulate(shape: tuple[int, int], arrays: tuple[bytes, ...], groups: tuple[bytes, ...]) -> Reference:
    """Draw standard normal values for a layout, which is given as bytes to be remembered."""
    contrasts = np.frombuffer(arrays[1]).reshape(-1, shape[1])
    tries, levels, scales = (np.frombuffer(each) for each in arrays[2:])
    layout = Layout(np.frombuffer(arrays[0], bool).reshape(shape), contrasts, tries, levels=levels, scales=scales)
    indices = [np.frombuffer(group, np.int64) for group in groups]
    each = shape[0] * (len(contrasts) + shape[1])
    draws = int(np.clip(WORK / each, LEAST_DRAWS, DRAWS))
    chunk = max(1, min(draws, 4_000_000 // each))
    rng, drawn = np.random.default_rng(0), []
    for start in range(0, draws, chunk):
        y = rng.standard_normal((min(chunk, draws - start), *shape), np.float32)
        y = y * (layout.present * layout.widths).astype(np.float32)
        estimate, variance, skew, _ = summarize(y, layout)
        t = np.divide(estimate, np.sqrt(variance), out=np.zeros_like(estimate), where=variance > 0)
        t = np.abs(stricter(t, np.nan_to_num(skew)))
        drawn.append(np.stack([t[:, group].max(1) for group in indices], 1))
    return Reference.of(np.concatenate(drawn), indices, layout)


def draw_rows(layout: Layout, groups: list[Array], rows: Array) -> Reference:
    """Draw what new test rows add to the cells' means: normal, with a variance that is known from some blocks."""
    assert layout.row_noise is not None
    rng = np.random.default_rng(1)
    values, vectors = np.linalg.eigh(layout.row_noise)
    noise = rng.standard_normal((DRAWS, len(values))) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    scale = np.sqrt(rng.chisquare(layout.row_df, (DRAWS, 1)) / layout.row_df)
    drawn = []
    for group in groups:
        z = np.abs(noise @ layout.contrasts[group].T) / np.sqrt(np.maximum(rows[group], 1e-300))
        drawn.append((z / scale).max(1))
    return Reference.of(np.stack(drawn, 1), groups, layout)
