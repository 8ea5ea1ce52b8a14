"""Wording of the notes on how data was read."""

import re
import shlex
from collections.abc import Iterable, Sequence


def count(number: int, noun: str) -> str:
    """Return a number and its noun.

    >>> count(1, "image"), count(1200, "row")
    ('1 image', '1,200 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def write_setting(key: str, names: str | Sequence[str]) -> str:
    """Return what to type to name a column or several, quoted for a shell.

    >>> print(write_setting("data.drop", ["a"]), write_setting("data.target", "price (USD)"))
    'data.drop=[a]' 'data.target=price (USD)'
    >>> print(write_setting("data.drop", ["Unnamed: 0", "a,b"]))
    'data.drop=[Unnamed: 0,"a,b"]'
    """
    each = [names] if isinstance(names, str) else names
    quoted = [f'"{name}"' if re.search(r"[,\[\]{}']", name) and '"' not in name else name for name in each]
    value = quoted[0] if isinstance(names, str) else f"[{','.join(quoted)}]"
    return f"{key}={value}" if re.fullmatch(r"[\w./-]+", value) else shlex.quote(f"{key}={value}")


def few(names: Iterable[str], most: int = 3) -> str:
    """Return the first few names.

    >>> few(["a", "b", "c", "d"])
    'a, b, c, ...'
    """
    names = list(names)
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
