"""The settings in a run's record: which of them count when the run is continued, and which are typed again."""

import re
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig

from losslab.config import allowlist
from losslab.config.arguments import as_typed, expand_sum, key_of, quote_names, quote_option, quote_value, read_value
from losslab.config.compose import hydra_ready, parse_allow
from losslab.config.explain import explain
from losslab.config.flat import excluded_from_name, flatten
from losslab.errors import Refused
from losslab.files import Unreadable, read_json
from losslab.internals.hydra import is_group

OVERRIDE = re.compile(r"~[\w@/.]+(=.*)?|\+{0,2}[\w@/.]+=.*", re.DOTALL)


def recall_overrides(overrides: list[str]) -> tuple[list[str], list[str]]:
    """With `ckpt=`, put what was typed when that run began before what is typed now.

    Returns:
        The overrides, and those of the record that do not count: they say where that run wrote and logged, and only
        the user may say that.

    Raises:
        Refused: if the record cannot be read, or sets what a file may not.
    """
    path = next((text.partition("=")[2] for text in overrides if key_of(text) == "ckpt"), "")
    status = None if path in ("", "null") else Path(read_value(f"ckpt={path}")).parent / "status.json"
    if status is None or not status.is_file():
        return overrides, []
    typed = {key_of(text) for text in overrides}
    kept, dropped = [], []
    for text in read_overrides(status):
        key = key_of(text)
        if key in typed or key == "allow" or "hydra" in key:
            continue
        try:
            override = OverridesParser.create().parse_override(text)
            allowlist.check_overrides(str(status), [override], parse_allow(overrides), is_group)
            kept.append(text)
        except Refused:
            if not excluded_from_name(key):
                raise
            dropped.append(text)
            if key == "output_dir":  # the record's own place says that
                kept.append(f"output_dir={quote_value(str(status.parents[1]))}")
    return kept + overrides, dropped


def read_overrides(status: Path) -> list[str]:
    """Read what was typed when a run began from its `status.json`.

    Raises:
        Refused: if the file is no record of a run.
    """
    try:
        overrides = [str(text) for text in read_json(status)["overrides"]]
    except (ValueError, KeyError, TypeError) as error:
        why = f" ({error.why})" if isinstance(error, Unreadable) else ""
        raise Refused(
            f"{status} is no record of a run{why}: type the path of a checkpoint in its run's folder"
        ) from None
    if not all(OVERRIDE.fullmatch(text) for text in overrides):
        raise Refused(f"{status} holds overrides that are no settings: type the path of a checkpoint of another run")
    return overrides


def check_overrides_in(where: str, overrides: Sequence[str], allow: Sequence[str]) -> None:
    """Refuse overrides in a file that do what a file may not unless the user typed it as `allow`."""
    with hydra_ready():
        try:
            expanded = [each for text in overrides for each in expand_sum(quote_option(quote_names(text)))]
            parsed = OverridesParser.create().parse_overrides(expanded)
            allowlist.check_overrides(where, parsed, allow, is_group)
        except HydraException as error:
            raise Refused(f"{where}: {explain(error, overrides)}") from None


def find_unrecordable(words: Sequence[str]) -> list[str]:
    """List the words of a command that do not count in a record, so that they are typed again to continue the run.

    >>> find_unrecordable(["loss=mae", "logger.project=mine", "-m", "output_dir=runs"])
    ['logger.project=mine']
    """
    found = []
    for word in words:
        key = key_of(word)
        if "=" not in word or word.startswith("-") or key in ("allow", "ckpt", "output_dir") or "hydra" in key:
            continue
        try:
            check_overrides_in("", [word], [])
        except Refused:
            found.append(word)
    return found


def check_dropped(cfg: DictConfig) -> None:
    """Refuse to continue a run that would log elsewhere than it began, because its record may not say where."""
    flat = {**flatten(cfg), **cfg.run.choices}
    again = [
        text
        for text in cfg.run.dropped
        if key_of(text).startswith("logger.")
        and key_of(text) in flat
        and as_typed(flat[key_of(text)]) != text.partition("=")[2]
    ]
    if again:
        words = " ".join(again)
        raise Refused(
            f"ckpt={cfg.ckpt} was begun with {words}, which for safety is not read from its record: type {words} too"
        )
