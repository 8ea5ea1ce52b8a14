"""How sure the order of the cells is: the probability of being the best, and the interval of each cell's rank."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from losslab.compare.claims import find_row_noise, tabulate_units
from losslab.compare.design import Comparison

Array = NDArray[Any]
DRAWS = 10_000
LEAST = 3  # units


def bootstrap_ranks(y: Array, rows: Array | None = None) -> tuple[Array, Array, Array]:
    """Draw the units again with replacement, and rank the cells by their means each time; seeded.

    The means of the draws deviate `sqrt(n / (n - 1))` times as far from the mean: else few units look too sure.

    Args:
        y: `(n, k)`, the units by the cells; higher is better.
        rows: `(k, k)`, a covariance of the means that comes from the rows tested, as normal noise on top.

    Returns:
        The probability of each cell to be the best, where k that are equal have 1/k each, and the ends of the 95 %
        interval of its rank, each `(k,)`.

    Source: Rao & Wu 1988, the rescaled bootstrap.

    >>> best, low, high = bootstrap_ranks(np.array([[3.0, 1.0, 1.0], [4.0, 2.0, 2.0], [5.0, 0.0, 0.0]]))
    >>> best.tolist(), low.tolist(), high.tolist()
    ([1.0, 0.0, 0.0], [1.0, 2.0, 2.0], [1.0, 3.0, 3.0])
    """
    rng, n = np.random.default_rng(0), len(y)
    y = y - y.mean()
    means: Array = rng.multinomial(n, np.full(n, 1 / n), DRAWS) @ y / n
    means = y.mean(0) + np.sqrt(n / (n - 1)) * (means - y.mean(0))
    if rows is not None:
        values, vectors = np.linalg.eigh(rows)
        means += rng.standard_normal(means.shape) @ (vectors * np.sqrt(np.maximum(values, 0))).T
    means = np.round(means / (np.abs(y).max() or 1), 9)  # equal cells stay equal
    first = means == means.max(1, keepdims=True)
    ranks = stats.rankdata(-means, axis=1)
    low, high = np.quantile(ranks, [0.025, 0.975], axis=0, method="inverted_cdf")
    return (first / first.sum(1, keepdims=True)).mean(0), np.floor(low), np.ceil(high)


def rank_cells(comparison: Comparison) -> pd.DataFrame:
    """Return each cell's `probability of being best`, `rank low` and `rank high`.

    The units are those that all cells have. Cells with fewer than 3 units do not count and are NaN; all are where the
    others share fewer than 3.
    """
    y, cells = tabulate_units(comparison), comparison.cells
    found = np.full((len(cells), 3), np.nan)
    enough = np.flatnonzero(np.isfinite(y).sum(0) >= LEAST)
    complete = y[np.isfinite(y[:, enough]).all(1)][:, enough]
    if len(enough) > 1 and len(complete) >= LEAST:
        noise = find_row_noise(comparison)
        rows = None if noise is None else (noise.covariance - noise.mixed)[np.ix_(enough, enough)]
        found[enough] = np.stack(bootstrap_ranks(complete, rows), 1)
    return pd.DataFrame(found, columns=["probability of being best", "rank low", "rank high"])


def format_rank(low: float, high: float) -> str:
    """Write the interval of a rank.

    >>> format_rank(1.0, 3.0), format_rank(2.0, 2.0), format_rank(float("nan"), float("nan"))
    ('1 to 3', '2', '')
    """
    if low != low:
        return ""
    return f"{low:.0f}" if low == high else f"{low:.0f} to {high:.0f}"
