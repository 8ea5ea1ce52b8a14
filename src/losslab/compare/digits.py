"""How many digits numbers have: as many as their intervals leave meaning to, and all of a column alike."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

MOST = 6  # digits of a number that lies far off the others
TINY = 1e-4  # numbers below it have an exponent, if their first digits would be lost otherwise


def count_decimals(halves: Sequence[float]) -> int | None:
    """Count the decimals that show two digits of the median half-width; `None` if there is none.

    >>> count_decimals([0.0123, 0.02]), count_decimals([45.0]), count_decimals([float("nan")])
    (3, 0, None)
    """
    known = [half for half in halves if np.isfinite(half) and half > 0]
    return max(0, 1 - int(np.floor(np.log10(np.median(known))))) if known else None


def find_decimals(numbers: pd.DataFrame) -> int | None:
    """Count the decimals of the means of cells, whose intervals are `low` to `high`."""
    return count_decimals(((numbers["high"] - numbers["low"]) / 2).tolist())


def round_figures(values: Sequence[float]) -> list[str]:
    """Write figures whose intervals are not known: the middle one has three digits, and all have as many decimals.

    >>> round_figures([0.53, 0.496, 0.6]), round_figures([1391.0, 645.4])
    (['0.530', '0.496', '0.600'], ['1,391', '645'])
    """
    sizes = [abs(value) for value in values if np.isfinite(value) and value]
    decimals = max(0, 2 - int(np.floor(np.log10(np.median(sizes))))) if sizes else 0
    return [format_decimals(value, decimals) for value in values]


def format_decimals(value: float, decimals: int | None) -> str:
    """Write a number with these decimals, or with four digits if these are not known; never with a positive exponent.

    A number that lies far off the others has six digits, a tiny one has an exponent, and NaN is empty.

    >>> format_decimals(0.968, 4), format_decimals(371234.56, 4), format_decimals(3.7e5, None)
    ('0.9680', '371,235', '370,000')
    >>> format_decimals(2e-7, 3), format_decimals(0.0, 3), format_decimals(float("nan"), 3)
    ('2e-07', '0.000', '')
    >>> format_decimals(5.054e-10, 12)
    '5.05e-10'
    """
    if not np.isfinite(value):
        return "" if np.isnan(value) else str(value)
    if decimals is None:
        return f"{value:,.0f}" if abs(value) >= 9999.5 else f"{value:.4g}"
    if value and abs(value) < 0.5 * 10.0**-decimals:
        return f"{value:.1g}"
    if value and abs(value) < TINY and decimals > MOST:
        return f"{value:.{min(MOST, decimals + int(np.floor(np.log10(abs(value)))))}e}"
    before = len(f"{abs(value):.0f}") if abs(value) >= 1 else 0
    return f"{value + 0.0:,.{min(decimals, max(0, MOST - before))}f}"
