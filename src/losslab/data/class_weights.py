"""Weights of classes or labels by their names, such as `{cat: 1, dog: 3.5}`; read without torch."""

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import OmegaConf

from losslab.config.ranges import number
from losslab.data.notes import count, few
from losslab.errors import Refused

CLASS_WEIGHTS = ("weight", "pos_weight")  # keys of a loss
SIGNS = set(",:'\"[]{}#")  # a name that holds one of these is written between quotes
SHOWN = 20  # names in a refusal


def are_class_weights(given: Any) -> bool:
    """Tell whether a setting holds a number for each class, in order or by name.

    >>> are_class_weights([1, 3.5]), are_class_weights(["cat: 1", "dog: 3.5"]), are_class_weights({"cat": 1})
    (True, True, True)
    >>> are_class_weights("balanced"), are_class_weights(0.5), are_class_weights(["a"])
    (False, False, False)
    """
    if isinstance(given, Mapping) or OmegaConf.is_dict(given):
        return bool(given) and all(map(number, given.values()))
    if not isinstance(given, list) and not OmegaConf.is_list(given):
        return False
    return bool(given) and (all(map(number, given)) or all(isinstance(each, str) and ":" in each for each in given))


def read_class_weights(given: Any, names: Sequence[str], key: str, data: str) -> list[float]:
    """Return a weight for each class or label, in the order of the names.

    Args:
        given: numbers in that order, or by name: a mapping, or texts such as `cat: 1`.
        names: of the classes or labels.
        key: of the setting, for messages.
        data: the name of the data set, for messages.

    Raises:
        Refused: for names that are unknown or missing, and for another number of weights.

    >>> read_class_weights(["dog: 3.5", "cat: 1"], ["cat", "dog"], "loss.weight", "csv")
    [1.0, 3.5]
    """
    pairs = [*given.items()] if hasattr(given, "items") else [split_pair(each) for each in given]
    if all(name is None for name, _ in pairs):
        if len(pairs) != len(names):
            raise Refused(
                f"{key} has {count(len(pairs), 'number')}, but data={data} has {count(len(names), 'output')} "
                f"({few(names, 5)}): type one for each, balanced, or by "
                f"name: {to_paste(key, dict.fromkeys(names, 1.0))}"
            )
        return [float(weight) for _, weight in pairs]
    known = {str(name): weight for name, weight in pairs}
    unknown = [name for name in known if name not in names]
    missing = [name for name in names if name not in known]
    meant = {**known, missing[0]: known[unknown[0]]} if len(unknown) == len(missing) == 1 else known
    typed = to_paste(key, {name: meant[name] if number(meant.get(name)) else 1.0 for name in names})
    if unknown:
        raise Refused(f"{key} names {few(unknown)}, which data={data} does not have: type {typed}")
    if missing:
        raise Refused(f"{key} lacks {few(missing, 5)}: type {typed}")
    if wrong := [name for name in names if not number(known[name]) or known[name] <= 0]:
        raise Refused(f"{key} of {wrong[0]} is {known[wrong[0]]}, which is no number above 0: type {typed}")
    return [float(known[name]) for name in names]


def split_pair(text: Any) -> tuple[str | None, Any]:
    """Return the name and the weight in a text such as `cat: 1`; a number has no name.

    >>> split_pair("'a: b': 2"), split_pair(2), split_pair("cat: x")
    (('a: b', 2.0), (None, 2), ('cat', 'x'))
    """
    if not isinstance(text, str):
        return None, text
    name, _, weight = (part.strip() for part in text.rpartition(":"))
    name = name[1:-1] if len(name) > 1 and name[0] == name[-1] and name[0] in "'\"" else name
    try:
        return name, float(weight)
    except ValueError:
        return name, weight


def to_paste(key: str, weights: Mapping[str, float]) -> str:
    """Return what to type, quoted for a shell.

    >>> print(to_paste("loss.weight", {"cat": 1.0, "big owl": 2.5}))
    'loss.weight={cat: 1, big owl: 2.5}'
    """
    shown = [*weights.items()][:SHOWN]
    pairs = [f"{quote(name)}: {weight:g}" for name, weight in shown]
    return shlex.quote(f"{key}={{{', '.join([*pairs, *(['...'] if len(shown) < len(weights) else [])])}}}")


def quote(name: str) -> str:
    """Write a name between quotes if it holds a sign that would end it."""
    if not SIGNS & set(name) and name == name.strip():
        return name
    return f'"{name}"' if '"' not in name else f"'{name}'"
