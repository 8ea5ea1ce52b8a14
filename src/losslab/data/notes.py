"""Wording of the notes on how data was read."""

from collections.abc import Iterable


def count(number: int, noun: str) -> str:
    """Return a number and its noun.

    >>> count(1, "image"), count(1200, "row")
    ('1 image', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def few(names: Iterable[str], most: int = 3) -> str:
    """Return the first few names.

    >>> few(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    names = list(names)
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
