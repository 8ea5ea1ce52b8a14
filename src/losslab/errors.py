"""What a user's mistake becomes: one sentence; and the words of the small commands, read that way."""

import difflib
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch


class Refused(ValueError):
    """A user's mistake, in one sentence: what was given, what fits, what to type instead.

    Control characters in it, which may come from a file and would move a terminal's cursor, become spaces.
    """

    def __init__(self, sentence: str) -> None:
        super().__init__(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", sentence))


class Diverged(Refused):
    """The loss is no longer a finite number, so training stopped."""


class Pruned(Exception):
    """A run that its sweep stopped, because others of the sweep do better."""


@contextmanager
def command(says: str | None) -> Iterator[list[str]]:
    """A small command and the words typed after it: help ends it, and so does a mistake, in one sentence."""
    words = sys.argv[1:]
    if {"-h", "--help"} & set(words):
        sys.exit(print(says))
    try:
        yield words
    except Refused as error:
        sys.exit(f"losslab: {error}")


def nearest(name: str, names: Iterable[str]) -> str:
    """Names like `name`, or all of them where none is like it and they are few enough to read.

    >>> nearest("maee", ["bce", "mae", "mse"])
    'nearest: mae, mse'
    >>> nearest("zzz", ["bce", "mae"])
    'type one of: bce, mae'
    """
    options = sorted(names)
    if not options:
        return "there is nothing to choose from"
    close = difflib.get_close_matches(name, options, n=3, cutoff=0.5)
    if close:
        return f"nearest: {', '.join(close)}"
    return f"type one of: {', '.join(options[:30])}{', ...' if len(options) > 30 else ''}"


def keyed(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Words such as `out=a.png` by their key; `known` are the keys that there are, `loss.*` for many.

    Raises:
        Refused: for a word that is no `key=value`, and for an unknown key.

    >>> keyed(["loss=focal", "loss.gamma=5"], ["loss", "loss.*"])
    {'loss': 'focal', 'loss.gamma': '5'}
    """
    found = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not any(fnmatch(key, pattern) for pattern in known):
            raise Refused(f"{key} is not a setting here; {nearest(key, known)}")
        if not equals:
            raise Refused(f"'{word}' cannot be read: type {key}=VALUE")
        found[key] = value
    return found


def listed(value: str) -> list[str]:
    """What stands in `[a,b]`, brackets or not.

    >>> listed("[mae, mse]"), listed("mae"), listed("[]")
    (['mae', 'mse'], ['mae'], [])
    """
    return [name.strip() for name in value.strip("[]").split(",") if name.strip()]
