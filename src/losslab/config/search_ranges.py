"""A place in a range: what `search.lr=0.5` and `search.loss=0.5` stand for.

An option's file says under `search` which numbers are worth tuning, and from where to where:

    search: {lr: [1.0e-4, 1.0e-2]}                         # on a log scale
    search: {gamma: [0, 5, linear], delta: [0.1, 10]}      # the first on a linear one

`search.KEY` is a place in the range of that key of the optimizer or the loss: 0 is its low end, 1 its high end.
`search.loss` is a place in the range that a loss's file names first, so that one sweep tunes each loss's own number.
A loss without a range ignores it. In a weighted sum each loss takes the same place in its own range.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from losslab.config.arguments import as_typed, key_of
from losslab.config.ranges import number
from losslab.errors import Refused

LOSS = "loss"  # search.loss: the first range of each loss


def apply_search(cfg: DictConfig, names: Mapping[str, str], overrides: Sequence[str]) -> dict[str, list[str]]:
    """Set what the places under `search` stand for; return the keys that each sets, `{"search.loss": ["loss.gamma"]}`.

    Args:
        cfg: the whole configuration, changed in place.
        names: by the key of the optimizer and of each loss, its option: `{"optimizer": "adam", "loss": "focal"}`.
        overrides: what was typed; it may not set the same keys.

    Raises:
        Refused: for a key without a range, for two settings of one key, and for a range that cannot be read.
    """
    ranges = {path: read_ranges(cfg, path, name) for path, name in names.items()}
    found: dict[str, list[str]] = {}
    by = {key_of(text): key_of(text) for text in overrides}
    for key, place in cfg.search.items():
        if OmegaConf.is_config(place):
            by_name = next(iter(place), key) if OmegaConf.is_dict(place) else key
            raise Refused(f"search.{key} is one place and not several: type search.{by_name}=0.5")
        if not number(place) or not 0 <= place <= 1:
            continue  # unset, or outside of its range and refused later
        found[f"search.{key}"] = targets = find_targets(key, ranges, names)
        for target in targets:
            if target in by:
                raise Refused(f"search.{key} and {by[target]} both set {target}: type one of them")
            by[target] = f"search.{key}"
            path, _, own = target.rpartition(".")
            value, usual = value_at(ranges[path][own], place), OmegaConf.select(cfg, target)
            whole = isinstance(usual, int) and not isinstance(usual, bool)
            OmegaConf.update(cfg, target, round(value) if whole else value)
    return found


def read_ranges(cfg: DictConfig, path: str, name: str) -> dict[str, list[Any]]:
    """Read the ranges of an option: by key a low end, a high end, and `log` or `linear`.

    Raises:
        Refused: for a key that the option lacks, and for what is no range.
    """
    option = OmegaConf.select(cfg, path)
    stated: Any = option.get("search") or {}
    stated = OmegaConf.to_container(stated) if OmegaConf.is_config(stated) else stated
    where = f"{path.partition('.')[0]}={name}"
    found = {}
    for key, spread in stated.items() if isinstance(stated, dict) else [("", stated)]:
        parts = spread if isinstance(spread, list) and spread else [None]
        *ends, scale = [*parts, "log"] if len(parts) == 2 else parts
        if not fits_range(ends, scale):
            raise Refused(
                f"{where}: search.{key}: {as_typed(spread)[:60]} is no range: write [0.001, 0.1] for a log scale, or "
                "[0, 5, linear]"
            )
        if key not in option:
            raise Refused(f"{where}: search.{key} is the range of a key that its file does not set: write {key} too")
        found[str(key)] = [*ends, scale]
    return found


def fits_range(ends: Sequence[Any], scale: Any) -> bool:
    """Tell whether these are the two ends of a range, the lower one first and, on a log scale, above 0."""
    if scale not in ("log", "linear") or len(ends) != 2 or not all(map(number, ends)):
        return False
    return bool(0 < ends[0] < ends[1] if scale == "log" else ends[0] < ends[1])


def find_targets(key: str, ranges: Mapping[str, Mapping[str, Any]], names: Mapping[str, str]) -> list[str]:
    """Find the keys that `search.KEY` sets, by the ranges of the optimizer and of each loss.

    Raises:
        Refused: if no range belongs to it, or one of the optimizer and one of the loss.
    """
    if key == LOSS:
        return [f"{path}.{next(iter(own))}" for path, own in ranges.items() if own and path != "optimizer"]
    targets = [f"{path}.{key}" for path, own in ranges.items() if key in own]
    if len(targets) > 1 and f"optimizer.{key}" in targets:
        raise Refused(f"search.{key} could set {' or '.join(targets)}: type a value of one of them")
    if not targets:
        asked = ", ".join(f"{path.partition('.')[0]}={name}" for path, name in names.items())
        others = dict.fromkeys(f"search.{other}" for own in ranges.values() for other in own)
        raise Refused(
            f"none of {asked} has a range for search.{key}: type {', '.join([*others, 'search.loss'])}, "
            "the first range of whichever loss has one, or a value such as optimizer.lr=0.01"
        )
    return targets


def value_at(spread: Sequence[Any], place: float) -> float:
    """Return the value at a place of a range.

    >>> value_at([0.0001, 0.01, "log"], 0.5), value_at([0, 5, "linear"], 0.5)
    (0.001, 2.5)
    """
    low, high, scale = spread
    value = low * (high / low) ** place if scale == "log" else low + (high - low) * place
    return float(f"{value:.6g}")
