"""What Hydra makes of the words that are typed, and which other people's files take part in it."""

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, OmegaConf, open_dict

from losslab.config import allowlist
from losslab.config.arguments import hydra_value, key_of, shown, typed_value
from losslab.config.catalogue import CONF, check_size, options, yaml_files
from losslab.config.ranges import number, silent
from losslab.errors import Refused, nearest
from losslab.files import Unreadable, read_json
from losslab.internals.hydra import Files, Loader, current_loader, folders_of, is_group, set_values

NEEDED = {  # what is a mapping in each configuration, and what is usual there
    **{"task": "regression", "data": "diamonds", "model": "mlp", "loss": "mse", "optimizer": "adam"},
    **{"scheduler": "constant", "trainer": "auto", "callbacks": "default", "search": "{lr: null}"},
    **{"param_groups": "{decay: all, backbone_lr: 1.0}", "run": "{}"},
}
LISTS = {"task.inputs": "[logits]", "task.targets": "[dense]", "model.takes": "[vector]", "data.gives": "[vector]"}
TRUTHS = ("numbers", "class", "labels")  # the canonical forms of targets
SETTING_TYPED = re.compile(r"~[\w@/.]+(=.*)?|\+{0,2}[\w@/.]+=.*", re.DOTALL)
MARKS = ("also", "beside", "search", "stacks")  # keys of an option that serve a search for it, a card or a sweep

Foreign = list[tuple[str, dict[str, Any]]]  # files outside of our own catalogue, and what each sets
Chosen = tuple[DictConfig, dict[str, str], list[str], Foreign]


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Hydra as `hydra.main` has set it up, or else set up here, on our own catalogue."""
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="losslab"):
            yield


def loss_paths(cfg: DictConfig) -> dict[str, str]:
    """Where the settings of the loss lie, or of each part of a sum of losses, by its name."""
    if "parts" in cfg.loss:
        return {str(name): f"loss.parts.{name}" for name in cfg.loss.parts}
    return {str(cfg.run.choices.loss): "loss"}


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration of these overrides, with the choices and the overrides noted in it."""
    cfg, choices, folders, foreign = laid_out(overrides)
    allow = allowed(overrides)
    for where, content in foreign:
        allowlist.check_file(where, content, allow, is_group, cfg)
    OmegaConf.set_struct(cfg, False)
    check_structure(cfg)
    if "parts" in cfg.loss:
        weights = cfg.loss.get("weights", {})
        cfg.loss = {"parts": cfg.loss.parts, "weights": {name: weights.get(name, 1.0) for name in cfg.loss.parts}}
        factors = [(name, f"{factor:g}*") for name, factor in cfg.loss.weights.items()]
        choices["loss"] = "+".join(f"{'' if factor == '1*' else factor}{name}" for name, factor in factors)
    placed(cfg, choices, overrides)
    for option in (cfg.task, cfg.optimizer, cfg.loss, *cfg.loss.get("parts", {}).values()):
        for key in MARKS:
            option.pop(key, None)
    cfg.run.update(choices=choices, overrides=list(overrides), catalogue=folders)
    return cfg


def check_structure(cfg: DictConfig) -> None:
    """Refuse a configuration in which a group has become something else, or a list that all its options have."""
    for group, usual in NEEDED.items():
        if not OmegaConf.is_dict(cfg.get(group)):
            raise Refused(f"{group} is not an option any more: leave out what takes it away, or type {group}={usual}")
    if not isinstance(cfg.task.get("truth"), str):
        raise Refused(
            f"task={cfg.task.get('name')} does not say what its targets are: "
            "write truth: numbers, class or labels into its YAML"
        )
    for key, usual in LISTS.items():
        if key == "data.gives" and "gives" not in cfg.data:
            continue  # whatever the model takes
        names = OmegaConf.select(cfg, key)
        if not OmegaConf.is_list(names) or not all(isinstance(name, str) for name in names):
            raise Refused(f"{key}={shown(names)} does not fit: it must be a list such as {usual}")
    if cfg.task.get("truth") not in TRUTHS:
        raise Refused(
            f"task.truth={shown(cfg.task.get('truth'))} does not fit: the task's file must say {' or '.join(TRUTHS)}"
        )
    if "parts" in cfg.loss:
        parts, weights = cfg.loss.parts, OmegaConf.create(cfg.loss.get("weights", {}))
        losses = OmegaConf.is_dict(parts) and all(OmegaConf.is_dict(part) for part in parts.values())
        if not losses or not OmegaConf.is_dict(weights) or not all(map(number, weights.values())):
            raise Refused("loss.parts and loss.weights are no sum of losses: type loss=[bce,0.5*dice]")


def laid_out(overrides: Sequence[str]) -> Chosen:
    """What Hydra composes: values change nothing of what is chosen and are set last, so here on a copy of that."""
    loader = current_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    found: dict[bool, list[Override]] = {True: [], False: []}
    for override in parsed:
        group = is_group(override.key_or_group) and not isinstance(override.value(), dict)
        found[group].append(override)
    check_options(found[True])
    if any(override.is_hydra_override() or override.is_sweep_override() for override in parsed):
        return chosen.__wrapped__(tuple(overrides), ())
    files = tuple(file for folder in folders_of(loader) for file in ((folder, 0, 0), *scanned(folder)))
    names = tuple(str(override.input_line) for override in found[True])
    cfg, choices, folders, foreign = copy.deepcopy(chosen(names, files))
    try:
        set_values(cfg, found[False])
    except (AssertionError, IndexError, TypeError, ValueError) as error:  # such as a name below a list
        words = " ".join(str(override.input_line) for override in found[False])
        raise Refused(f"{words} does not fit what it sets ({' '.join(str(error).split())})") from error
    return cfg, choices, folders, foreign


def check_options(overrides: Sequence[Override]) -> None:
    """Refuse a group's override that names no option, such as a number, or a path out of the group."""
    for override in overrides:
        if override.is_sweep_override():
            continue
        group, value = override.key_or_group, override.value()
        taken_away = override.is_delete() and group not in NEEDED
        if (value is None and not taken_away) or (isinstance(value, list) and override.is_delete()):
            raise Refused(f"{override.input_line} names no option of {group}: leave it out")
        for name in value if isinstance(value, list) else [] if value is None else [value]:
            allowlist.check_option(group, shown(name))
            if not isinstance(name, str) or group == "hydra":
                raise Refused(
                    f"{group}={shown(name)} is not an option; {nearest(shown(name), options([str(CONF)], group))}"
                )


def allowed(overrides: Sequence[str]) -> list[str]:
    """What the user typed as `allow`.

    >>> allowed(["loss=mae", "allow=[my_losses,logger]"]), allowed(["allow=my_losses"]), allowed([])
    (['my_losses', 'logger'], ['my_losses'], [])
    """
    return names_of("allow", overrides)


def own_folders(overrides: Sequence[str]) -> list[str]:
    """Return the folders of the user's own options that `hydra.searchpath` names.

    >>> own_folders(["loss=mae", "hydra.searchpath=['/my_conf']"])
    ['/my_conf']
    """
    return names_of("hydra.searchpath", overrides)


def names_of(key: str, overrides: Sequence[str]) -> list[str]:
    """Return the names that were typed for a key, one or a list of them."""
    typed = [text for text in overrides if key_of(text) == key]
    parsed = OverridesParser.create().parse_overrides(typed) if typed else []
    values = [override.value() for override in parsed]
    return [str(name) for value in values for name in (value if isinstance(value, list) else [value])]


@lru_cache(maxsize=64)
def chosen(overrides: tuple[str, ...], files: tuple[tuple[str, int, int], ...]) -> Chosen:
    """What Hydra composes, what is chosen in each group, and the catalogue's folders: once, while `files` stay."""
    foreign = foreign_files(current_loader(), overrides)
    cfg = compose("config", list(overrides), return_hydra_config=True)
    groups = {str(group): option for group, option in cfg.hydra.runtime.choices.items()}
    choices = {g: str(o) for g, o in groups.items() if not g.startswith("hydra/") and "@" not in g and o is not None}
    folders = [s.path.removeprefix("file://") for s in cfg.hydra.runtime.config_sources if s.schema == "file"]
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices, folders, foreign


def foreign_files(loader: Loader, overrides: Sequence[str]) -> Foreign:
    """Each file outside of our own catalogue that takes part in a composition, and what it sets, as Hydra reads it.

    Raises:
        Refused: where an option of those is chosen by a path, or its file is a link that leaves its group.
    """
    searching = any("hydra.searchpath" in text for text in overrides)
    if not searching and all(Path(folder) == CONF for folder in folders_of(loader)):
        return []
    files = Files(loader, overrides)
    for root in files.folders:
        for file in yaml_files(root) if Path(root) != CONF else ():
            check_size(file)
    found: Foreign = []
    for folder, option, content in files:
        if folder != CONF:
            allowlist.check_place(folder, option)
            found.append((str(folder / f"{option}.yaml"), content))
    return found


def scanned(folder: str) -> Iterator[tuple[str, int, int]]:
    """Every option below a folder, when it was written and how long it is."""
    for file in yaml_files(folder):
        facts = os.stat(file)  # noqa: PTH116 - a thousand of them at each start
        yield file, facts.st_mtime_ns, facts.st_size


def placed(cfg: DictConfig, choices: Mapping[str, str], overrides: Sequence[str]) -> None:
    """Set what `search.lr=0.5` and its like mean: a place in the range that the optimizer's file gives."""
    ranges = cfg.optimizer.get("search", {})
    for key, place in cfg.search.items():
        if not number(place) or not 0 <= place <= 1:
            continue  # unset, or refused later by its rule
        if key not in ranges:
            raise Refused(f"optimizer={choices['optimizer']} has no range for search.{key}: type optimizer.{key}=VALUE")
        if any(key_of(text) == f"optimizer.{key}" for text in overrides):
            raise Refused(f"search.{key} and optimizer.{key} both set optimizer.{key}: type one of them")
        low, high = ranges[key]
        cfg.optimizer[key] = float(f"{low * (high / low) ** place:.6g}")


def recorded(overrides: list[str]) -> tuple[list[str], list[str]]:
    """With `ckpt=`, what was typed when that run began, except what is typed now.

    Returns:
        The overrides, and those of the record that do not count: they say where that run wrote and logged, which is
        for the user alone to say.

    Raises:
        Refused: where there is no record, or it sets what a file may not.
    """
    path = next((text.partition("=")[2] for text in overrides if key_of(text) == "ckpt"), "")
    if path in ("", "null"):
        return overrides, []
    status = Path(typed_value(f"ckpt={path}")).parent / "status.json"
    if not status.is_file():
        return overrides, []
    typed = {key_of(text) for text in overrides}
    try:
        before = [str(text) for text in read_json(status)["overrides"]]
    except (ValueError, KeyError, TypeError) as error:
        why = f" ({error.why})" if isinstance(error, Unreadable) else ""
        raise Refused(
            f"{status} is no record of a run{why}: type the path of a checkpoint in its run's folder"
        ) from None
    if not all(SETTING_TYPED.fullmatch(text) for text in before):
        raise Refused(f"{status} holds overrides that are no settings: type the path of a checkpoint of another run")
    kept, dropped = [], []
    for text in before:
        key = key_of(text)
        if key in typed or key == "allow" or "hydra" in key:
            continue
        try:
            override = OverridesParser.create().parse_override(text)
            allowlist.check_overrides(str(status), [override], allowed(overrides), is_group)
            kept.append(text)
        except Refused:
            if not silent(key):
                raise
            dropped.append(text)
            if key == "output_dir":  # the folder tells where that was
                kept.append(f"output_dir={hydra_value(str(status.parents[1]))}")
    return kept + overrides, dropped
