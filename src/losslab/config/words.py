"""The words typed after a small command such as `losslab card`, which Hydra does not read."""

import difflib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

import yaml

from losslab.config.arguments import take_folders
from losslab.config.catalogue import CONF
from losslab.errors import Refused, nearest, one_sentence

Number = TypeVar("Number", int, float)


@contextmanager
def command_words(usage: str | None, instead: str = "out=PATH") -> Iterator[list[str]]:
    """Yield the words typed after a command. `--help` prints its usage, and a mistake ends it in one sentence.

    Args:
        instead: what to type to write elsewhere if the disk is full or belongs to others.
    """
    with one_sentence(instead):
        words = sys.argv[1:]
        if {"-h", "--help"} & set(words):
            sys.exit(print(usage))
        own = re.findall(r"--[a-z-]+", usage or "")  # such as --json of a comparison
        check_flags([word for word in words if word not in own])
        yield words


def check_flags(words: Sequence[str]) -> None:
    """Refuse all flags except --config-dir.

    >>> check_flags(["--n", "3"])
    Traceback (most recent call last):
    losslab.errors.Refused: --n is no flag of this command: type n=VALUE, or --help for what there is
    """
    for word in take_folders(words)[0]:
        if word.startswith("-"):
            key, _, value = word.lstrip("-").partition("=")
            instead = f"type {key}={value or 'VALUE'}, or" if key else "type key=value, or"
            raise Refused(f"{word} is no flag of this command: {instead} --help for what there is")


def parse_settings(words: Sequence[str], known: Sequence[str]) -> dict[str, str]:
    """Parse words such as `out=a.png` into values by key.

    Args:
        known: the keys that exist; `loss.*` stands for many, and `*` for all settings of a run.

    Raises:
        Refused: for a word that is no `key=value`, and for an unknown key.

    >>> parse_settings(["loss=focal", "loss.gamma=5"], ["loss", "loss.*"])
    {'loss': 'focal', 'loss.gamma': '5'}
    """
    found: dict[str, str] = {}
    check_flags(words)
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and not any(fnmatch(key, pattern) for pattern in known):
            some = ", ".join(sorted(key for key in known if "*" not in key)[:8])
            raise Refused(f"'{word}' cannot be read: type KEY=VALUE; keys are {some}")
        if not any(fnmatch(key, pattern) for pattern in known):
            raise Refused(f"{key} is not a setting here; {nearest(key, known)}")
        if "*" in known and difflib.get_close_matches(key, known, cutoff=0.75) and key not in (*known, *list_keys()):
            raise Refused(f"{key} is not a setting here; {nearest(key, known)}")
        if not equals:
            raise Refused(f"'{word}' cannot be read: type {key}=VALUE")
        if key in found and found[key] != value:
            raise Refused(f"{key}={found[key]} and {word} are both typed: type one of them")
        found[key] = str(Path(value).expanduser()) if value.startswith("~/") else value
    return found


def list_keys() -> set[str]:
    """List the settings of a run that have no dot: the groups, and the keys of config.yaml."""
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    return groups | set(yaml.safe_load((CONF / "config.yaml").read_text(encoding="utf-8")))


def parse_flag(key: str, value: str) -> bool:
    """Parse true or false that was typed.

    Raises:
        Refused: if it is neither.
    """
    if value.lower() not in ("true", "false"):
        raise Refused(f"{key}={value} does not fit: type {key}=true or {key}=false")
    return value.lower() == "true"


def parse_between(
    typed: Mapping[str, str], key: str, usual: Number, least: float, most: float, example: float | None = None
) -> Number:
    """Parse a number that may have been typed, of the type of the usual one; refuse it outside of its ends."""
    text = typed.get(key, str(usual))
    with suppress(ValueError):
        if least <= (found := type(usual)(text)) <= most:
            return found
    some = usual if example is None else example
    raise Refused(f"{key}={text} does not fit: type a number from {least:g} to {most:g}, such as {key}={some:g}")


def parse_list(value: str) -> list[str]:
    """Split a list such as `[a,b]`; the brackets may be left out.

    >>> parse_list("[mae, mse]"), parse_list("mae"), parse_list("[]")
    (['mae', 'mse'], ['mae'], [])
    """
    return [name.strip() for name in value.strip("[]").split(",") if name.strip()]
