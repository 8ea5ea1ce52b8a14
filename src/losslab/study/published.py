"""Published runs beside one's own: whether the means agree within their spread, and a search finds the same setting."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.errors import Refused

Values = NDArray[np.float64]
SPREADS = 2  # standard deviations of the published runs that a mean may differ by


def pick(frame: pd.DataFrame, **wanted: Any) -> pd.DataFrame:
    """Return the rows that have these values in these columns.

    Raises:
        Refused: if there are none.
    """
    found = frame
    for column, value in wanted.items():
        found = found[found[column].map(str) == str(value)]
    if found.empty:
        said = ", ".join(f"{column}={value}" for column, value in wanted.items())
        raise Refused(
            f"there is no run of {said}, which a claim is about: train it, or take the claim out of study.yaml"
        )
    return found


def compare_means(ours: Values, theirs: Values, alpha: float) -> tuple[float, float, float]:
    """Return the difference of two means, ours less theirs, with Welch's interval of the level `1 - alpha`.

    A run that diverged counts as infinite, and so do then the difference and its interval.

    >>> compare_means(np.array([2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0]), 0.05)[0]
    1.0
    """
    from scipy import stats

    if not np.isfinite(ours).all():
        return np.inf, np.inf, np.inf
    interval = stats.ttest_ind(ours, theirs, equal_var=False).confidence_interval(1 - alpha)
    return float(ours.mean() - theirs.mean()), float(interval.low), float(interval.high)


def measure_spread(theirs: Values) -> float:
    """Return how far a mean may be from the published one: two standard deviations of the published runs.

    >>> measure_spread(np.array([1.0, 2.0, 3.0]))
    2.0
    """
    return float(SPREADS * theirs.std(ddof=1))


def count_steps(grid: Sequence[float], found: float, published: float) -> int:
    """Count the steps on a grid from one value to another; each is rounded to the nearest of the grid, as a ratio.

    >>> count_steps([0.001, 0.01, 0.1, 1.0], 0.01, 0.999)
    2
    """
    places = np.log(np.sort(np.asarray(grid, float)))
    ends = [int(np.abs(places - np.log(value)).argmin()) for value in (found, published)]
    return abs(ends[0] - ends[1])


def find_best(runs: pd.DataFrame, metric: str) -> float:
    """Return the learning rate of the best run by a metric that is to be small; runs that diverged do not count."""
    return float(runs[runs["status"] == "finished"].sort_values(metric, kind="stable")["optimizer.lr"].iloc[0])
