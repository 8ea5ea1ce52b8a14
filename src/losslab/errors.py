"""What a user's mistake becomes: one sentence."""

import difflib
from collections.abc import Iterable


class Refused(ValueError):
    """A user's mistake, told in one sentence: what was given, what fits, what to type instead."""


def nearest(name: str, names: Iterable[str]) -> str:
    """Names like `name`, or all of them where none is like it and they are few enough to read.

    >>> nearest("maee", ["bce", "mae", "mse"])
    'nearest: mae, mse'
    >>> nearest("zzz", ["bce", "mae"])
    'type one of: bce, mae'
    """
    options = sorted(names)
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if close:
        return f"nearest: {', '.join(close)}"
    return f"type one of: {', '.join(options[:30])}{', ...' if len(options) > 30 else ''}"
