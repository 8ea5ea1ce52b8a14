"""What fits a setting. An option's file says so under `ranges`, beside the `_target_` whose keys it speaks of.

    _target_: my_losses.Capped
    cap: 2.0
    levels: [0.1, 0.9]
    ranges:
      cap: "> 0"
      levels: list of numbers (0, 1)

| a range | what fits |
|---|---|
| `> 0`, `>= 0`, `< 1`, `<= 1`, `[0, 1)` | a number; the last of these with 0 and without 1 |
| `integer >= 1`, `integer`, `number` | a whole number, or any number |
| `text`, `file` | a text that is not empty, the path of a file that exists |
| `list of numbers > 0`, `list of 2 numbers`, `rising list of integers` | a list that is not empty, of so many values |
| `mean`, `1`, `null`, `[]` | this value |
| `balanced \\| null \\| list of numbers > 0` | any of these |
| `mean \\| sum, over outputs` | the same; the words after the comma end the refusal |
| `["(0, 1)", "> 1"]`, a list of ranges | a list with a value for each of them |

A key without a range takes values of the type that it has in the file. `conf/ranges.yaml` holds the ranges of the
settings that losslab reads itself, whatever the option.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from losslab.config.catalogue import CONF
from losslab.errors import Refused

NUMBER = r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?"
NUMBERS = re.compile(
    rf"(?P<kind>integers?|numbers?)?\s*"
    rf"(?:(?P<sign>[<>]=?)\s*(?P<bound>{NUMBER})"
    rf"|(?P<left>[\[(])\s*(?P<low>{NUMBER})\s*,\s*(?P<high>{NUMBER})\s*(?P<right>[\])]))?"
)
LIST = re.compile(r"(?P<rising>rising )?list of (?:(?P<count>\d+) )?(?P<each>.+)")
VALUE = re.compile(r"[\w.+-]+|\[\]")
NOTE = re.compile(r",\s*(?![^\[(]*[\])])")  # a comma outside of brackets
SIGNS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    ">": (lambda value, bound: value > bound, "above"),
    ">=": (lambda value, bound: value >= bound, "of at least"),
    "<": (lambda value, bound: value < bound, "below"),
    "<=": (lambda value, bound: value <= bound, "of at most"),
}
KINDS: dict[str, tuple[Callable[[Any], bool], str, str]] = {
    "text": (lambda value: isinstance(value, str) and value != "", "text", "texts"),
    "file": (
        lambda value: isinstance(value, str) and Path(value).expanduser().is_file(),
        "a file that exists",
        "files",
    ),
}


@dataclass(frozen=True)
class Range:
    """What fits a key."""

    fits: Callable[[Any], bool]  # tells whether a value fits
    words: str  # what fits, as it ends the sentence "it must be ..."
    plural: str  # the same of the values of a list


def number(value: object) -> bool:
    """Tell whether a value is a finite number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(value: object, least: int) -> bool:
    """Tell whether a value is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def read_range(text: Any) -> Range:
    """Read a range as it stands in an option's file.

    Raises:
        ValueError: if it is none.

    >>> share = read_range("[0, 1) | null, the part of the rows")
    >>> share.fits(0), share.fits(1), share.fits(None), share.words
    (True, False, True, 'a number from 0 up to, but not including, 1, or null, the part of the rows')
    """
    if isinstance(text, list) and text:
        return of_each([read_range(each) for each in text])
    if isinstance(text, bool | int | float | None):
        return exactly("null" if text is None else str(text).lower())
    if not isinstance(text, str):
        raise ValueError(text)
    return read_text(text)


@cache
def read_text(text: str) -> Range:
    """Read a range that is a text: alternatives between bars, then a note after a comma."""
    ranges, *note = NOTE.split(text, maxsplit=1)
    choices = [read_one(one.strip()) for one in ranges.split("|")]
    *before, last = (one.words for one in choices)
    plain = all(VALUE.fullmatch(one.words) for one in choices)
    words = f"{', '.join(before)}{' or ' if plain else ', or '}{last}" if before else last
    words = ", ".join([words, *note])
    return Range(lambda value: any(one.fits(value) for one in choices), words, f"values, each {words}")


def read_one(text: str) -> Range:
    """Read one alternative: a list, a kind of text, numbers between bounds, or one value."""
    if found := LIST.fullmatch(text):
        return list_of(read_one(found["each"]), int(found["count"] or 0), bool(found["rising"]))
    if found := re.fullmatch("(text|file)s?", text):
        return Range(*KINDS[found[1]])
    if text and (found := NUMBERS.fullmatch(text)):
        return numbers(found)
    if VALUE.fullmatch(text):
        return exactly(text)
    raise ValueError(text)


def numbers(found: re.Match[str]) -> Range:
    """Make the range of the numbers that `NUMBERS` has read."""
    integer = (found["kind"] or "").startswith("integer")
    bounds: list[tuple[str, str]] = []
    if found["sign"]:
        bounds = [(found["sign"], found["bound"])]
    elif found["left"]:
        bounds = [
            (">=" if found["left"] == "[" else ">", found["low"]),
            ("<=" if found["right"] == "]" else "<", found["high"]),
        ]
    limits = [(SIGNS[sign][0], float(bound)) for sign, bound in bounds]
    words = between(bounds)

    def fits(value: Any) -> bool:
        right = isinstance(value, int) and not isinstance(value, bool) if integer else number(value)
        return right and all(holds(value, bound) for holds, bound in limits)

    noun = "whole number" if integer else "number"
    return Range(fits, f"a {noun}{words}", f"{noun}s{words}")


def between(bounds: list[tuple[str, str]]) -> str:
    """Say bounds in words.

    >>> between([(">=", "0"), ("<=", "1")]), between([(">", "0")])
    (' from 0 to 1', ' above 0')
    """
    if not bounds:
        return ""
    (sign, bound), *upper = bounds
    if not upper:
        return f" {SIGNS[sign][1]} {bound}"
    until, high = upper[0]
    if sign == ">=":
        return f" from {bound} {'to' if until == '<=' else 'up to, but not including,'} {high}"
    return f" above {bound} and {'at most' if until == '<=' else 'below'} {high}"


def exactly(text: str) -> Range:
    """Make the range of one value, written as in YAML."""
    wanted = yaml.safe_load(text)

    def fits(value: Any) -> bool:
        return bool(value == wanted) and (type(value) is type(wanted) or (number(value) and number(wanted)))

    return Range(fits, text, f"values {text}")


def list_of(each: Range, count: int, rising: bool) -> Range:
    """Make the range of lists of values: of any number but none, or of `count`."""

    def fits(value: Any) -> bool:
        right = isinstance(value, list) and (len(value) == count if count else value != [])
        return right and all(map(each.fits, value)) and (not rising or value == sorted(set(value)))

    what = f"list of {f'{count} ' if count else ''}{each.plural}"
    return Range(fits, f"a {'rising ' if rising else ''}{what}", f"{'rising ' if rising else ''}lists")


def of_each(ranges: list[Range]) -> Range:
    """Make the range of lists with a value for each of these ranges."""

    def fits(value: Any) -> bool:
        right = isinstance(value, list) and len(value) == len(ranges)
        return right and all(one.fits(each) for one, each in zip(ranges, value, strict=True))

    return Range(fits, f"a list: {', then '.join(one.words for one in ranges)}", "lists")


@lru_cache(maxsize=1)
def common_ranges() -> dict[str, Range]:
    """Read `conf/ranges.yaml`: the settings that losslab reads itself, by patterns of keys."""
    stated = yaml.safe_load((CONF / "ranges.yaml").read_text(encoding="utf-8"))
    return {key: read_range(text) for key, text in stated.items()}


def stated_ranges(node: dict[Any, Any], path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every `ranges` at or below a node, and the keys that lead to what it stands in."""
    for key, value in node.items():
        if key == "ranges":
            yield path, value
        elif isinstance(value, dict):
            yield from stated_ranges(value, (*path, key))


def check_readable(where: str, content: dict[str, Any]) -> None:
    """Refuse a range that cannot be read."""
    for path, ranges in stated_ranges(content):
        for key, text in ranges.items() if isinstance(ranges, dict) else [("", ranges)]:
            try:
                read_range(text if key else {})
            except ValueError:
                name = ".".join(map(str, (*path, "ranges", key))).strip(".")
                raise Refused(
                    f'{where}: {name}={str(text)[:60]} is no range: type one such as "> 0", "[0, 1)", "integer >= 1", '
                    '"mean | sum" or "list of numbers > 0"'
                ) from None


def take_ranges(cfg: DictConfig) -> dict[str, Range]:
    """Take the ranges that options state out of a configuration; return that of each key, such as `loss.delta`."""
    plain: Any = OmegaConf.to_container(cfg)
    check_readable("what you typed", plain)  # files have been checked
    found: dict[str, Range] = {}
    for path, ranges in stated_ranges(plain):
        node: Any = cfg
        for key in path:
            node = node[key]
        del node["ranges"]
        found |= {".".join(map(str, (*path, key))): read_range(text) for key, text in ranges.items()}
    return found


def find_ranges(key: str, ranges: Mapping[str, Range]) -> list[Range]:
    """Find what a value of a key must fit: what its option states, or else what losslab asks of it in every option.

    A trainer's must fit both, as losslab relies on what it asks there.

    >>> [found.words for found in find_ranges("loss.parts.bce.reduction", {})]
    ['mean or sum, over outputs']
    """
    own, common = ranges.get(key), common_range(re.sub(r"^loss\.parts\.[^.]+", "loss", key))
    every = (common, own) if key.startswith("trainer.") else (own or common,)
    return [stated for stated in every if stated]


@cache
def common_range(key: str) -> Range | None:
    """Find what losslab itself asks of a key."""
    return next((found for pattern, found in common_ranges().items() if fnmatch(key, pattern)), None)
