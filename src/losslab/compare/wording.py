"""How differences, their evidence and lists are written."""

from collections.abc import Sequence

from losslab.compare.claims import Pair
from losslab.compare.design import Comparison

NOTHING = 1e-9  # per cent or points


def describe_gap(comparison: Comparison, pair: Pair) -> str:
    """Write a difference with its interval; one that is next to nothing beside its interval is 0."""
    amount = 0.0 if abs(pair.mean) < 0.005 * (pair.high - pair.low) else abs(pair.mean)
    return format_gap(amount, pair.low, pair.high, "points" if comparison.points else "%")


def format_gap(mean: float, low: float, high: float, unit: str) -> str:
    """Write a difference with its unit and its interval.

    >>> format_gap(1.04, 0.2, 1.9, "points of accuracy")
    '1 point of accuracy [0.2, 1.9]'
    """
    return f"{format_size(mean, unit)} [{format_amount(low)}, {format_amount(high)}]"


def format_size(amount: float, unit: str) -> str:
    """Write an amount with its unit: 1 point, 2 points, 1 %.

    >>> format_size(1, "points of accuracy"), format_size(3.21, "% rmse")
    ('1 point of accuracy', '3.2 % rmse')
    """
    text = format_amount(amount)
    return f"{text} {unit.replace('points', 'point', 1) if text == '1' else unit}"


def format_amount(amount: float, digits: int = 2) -> str:
    """Write a number with two digits or more, never with an exponent of ten that is positive.

    >>> format_amount(15.96), format_amount(-1234.5), format_amount(0.00012), format_amount(-1e-12)
    ('16', '-1,234', '0.00012', '0')
    """
    amount = 0.0 if abs(amount) < NOTHING else amount
    return f"{amount:,.0f}" if abs(amount) >= 10**digits - 0.5 else f"{amount:.{digits}g}"


def describe_evidence(comparison: Comparison, pair: Pair) -> str:
    """Write a difference with its interval, the number of units, and p."""
    of = "of " * comparison.points
    amount = describe_gap(comparison, pair).replace(" [", f" {of}{comparison.metric} [")
    return f"by {amount} over {describe_units(comparison, pair)} ({format_p(pair.p)})"


def describe_units(comparison: Comparison, pair: Pair) -> str:
    """Say over how many seeds, splits or data sets a difference is, and whether over rows, too."""
    count = comparison.population.count(pair.n)
    count = count if pair.paired else count.replace(" ", " unpaired ", 1)
    rows = comparison.tested_rows if comparison.population.crossed else 0
    return f"{count} and {rows:,} test rows" if rows else count


def format_p(p: float) -> str:
    """Write a p-value.

    >>> format_p(0.0312), format_p(3e-5)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def describe_wanted(comparison: Comparison, wanted: float) -> str:
    """Write the difference worth finding with its unit."""
    unit = "point" if comparison.points else "%"
    return f"{wanted:g} {unit}{'s' if comparison.points and wanted != 1 else ''}"


def shorten(names: Sequence[str]) -> list[str]:
    """Return up to five names; of more, four and the number of the others.

    >>> shorten("abcdef")
    ['a', 'b', 'c', 'd', '2 others']
    """
    return [*names[:4], f"{len(names) - 4} others"] if len(names) > 5 else list(names)


def join_phrases(phrases: Sequence[str]) -> str:
    """Join phrases as a list in a sentence.

    >>> join_phrases(["mae", "mse", "huber"])
    'mae, mse and huber'
    """
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)


def name_plural(key: str) -> str:
    """Name several options of a key.

    >>> name_plural("loss"), name_plural("data.size")
    ('losses', 'options of data.size')
    """
    return {"loss": "losses", "optimizer": "optimizers", "model": "models"}.get(key, f"options of {key}")
