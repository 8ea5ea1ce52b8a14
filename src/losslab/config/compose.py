"""From overrides to a configuration: what Hydra composes, and which files of other people take part in it."""

import os
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override, QuotedString
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

from losslab.config import allowlist
from losslab.config.arguments import LISTED, as_typed, explain_syntax, key_of, parse_overrides
from losslab.config.by_name import fill_by_name
from losslab.config.catalogue import CONF, DESCRIPTIONS, TRUTHS, check_size, find_yaml_files, options
from losslab.config.ranges import Range, check_readable, number, take_ranges
from losslab.config.search_ranges import apply_search
from losslab.errors import Refused, nearest
from losslab.internals.hydra import Composition, current_loader, folders_of, is_group, set_values

NEEDED = {  # the groups that every configuration has, and what is usual there
    **{"task": "regression", "data": "diamonds", "model": "mlp", "loss": "mse", "optimizer": "adam"},
    **{"scheduler": "constant", "trainer": "auto", "callbacks": "default", "search": "{lr: null}"},
    **{"param_groups": "{decay: all, backbone_lr: 1.0}", "run": "{}"},
}
SEARCHPATH = "hydra.searchpath"  # names the folders of the user's own options
UNSET = {"augment": "none", "logger": "false", "experiment": "NAME"}  # groups that a run may do without
SEVERAL = ("callbacks", "experiment", "debug")  # groups of which a run may have several options
LISTS = {"task.inputs": "[logits]", "task.targets": "[dense]", "model.takes": "[vector]", "data.gives": "[vector]"}

Foreign = list[tuple[str, dict[str, Any]]]  # files outside of losslab's own catalogue, and what each sets
Loaded = tuple[DictConfig, dict[str, str], list[str], Foreign]
FileFacts = tuple[str, int, int]  # path, time of change in nanoseconds, bytes


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Use Hydra as `hydra.main` has initialized it, or initialize it with losslab's catalogue."""
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="losslab"):
            yield


def loss_paths(cfg: DictConfig) -> dict[str, str]:
    """List the keys under which the loss is configured, or each loss of a weighted sum, by its name."""
    if "parts" in cfg.loss:
        return {str(name): f"loss.parts.{name}" for name in cfg.loss.parts}
    return {str(cfg.run.choices.loss): "loss"}


def compose_run(
    overrides: Sequence[str], files: "tuple[FileFacts, ...] | None" = None
) -> tuple[DictConfig, dict[str, Range]]:
    """Compose a run's configuration, write into it what was chosen and typed, and return it with what fits its keys.

    Args:
        files: what `stat_options` says of these overrides' folders, if it was asked already.

    Raises:
        Refused: if a file sets what it may not, or a group is no option any more.
    """
    cfg, choices, folders, foreign = load_config(overrides, files)
    allow = parse_allow(overrides)
    for where, content in foreign:
        allowlist.check_file(where, content, allow, is_group, cfg)
        check_readable(where, content)
    OmegaConf.set_struct(cfg, False)
    cfg.pop("expect", None)  # losslab.experiment reads it
    ranges = take_ranges(cfg)
    check_structure(cfg)
    if "parts" in cfg.loss:
        choices["loss"] = arrange_sum(cfg)
    cfg.run.update(choices=choices, overrides=list(overrides), catalogue=folders)
    cfg.run.notes = fill_by_name(cfg)
    losses = {path: name for name, path in loss_paths(cfg).items()}
    cfg.run.searched = apply_search(cfg, {"optimizer": choices["optimizer"], **losses}, overrides)
    follow_metric(cfg, overrides)
    given = any(cfg.data.get(key) for key in ("test_path", "split", "time"))
    cfg.run.fixed_test = cfg.data.pop("fixed_test", False) is True or given
    for option in (cfg.task, cfg.optimizer, cfg.loss, *cfg.loss.get("parts", {}).values()):
        for key in DESCRIPTIONS:
            option.pop(key, None)
    return cfg, ranges


def check_structure(cfg: DictConfig) -> None:
    """Refuse a configuration without a group that all runs have, or with something else in its place."""
    for group, usual in NEEDED.items():
        if not OmegaConf.is_dict(cfg.get(group)):
            raise Refused(
                f"every run needs {group}, and something here removes or replaces it: leave that out, or type "
                f"{group}={usual}"
            )
    if cfg.task.get("truth") not in TRUTHS:
        raise Refused(
            f"task={cfg.task.get('name')} does not say what its targets are: "
            "write truth: numbers, class or labels into its YAML"
        )
    for key, usual in LISTS.items():
        if key == "data.gives" and "gives" not in cfg.data:
            continue  # whatever the model takes
        names = OmegaConf.select(cfg, key)
        if not OmegaConf.is_list(names) or not all(isinstance(name, str) for name in names):
            raise Refused(f"{key}={as_typed(names)} does not fit: it must be a list such as {usual}")
    if "parts" in cfg.loss:
        parts, weights = cfg.loss.parts, OmegaConf.create(cfg.loss.get("weights", {}))
        losses = OmegaConf.is_dict(parts) and all(OmegaConf.is_dict(part) for part in parts.values())
        if not losses or not OmegaConf.is_dict(weights) or not all(map(number, weights.values())):
            raise Refused("loss.parts and loss.weights are no sum of losses: type 'loss=[bce,0.5*dice]'")


def follow_metric(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Let `task.mode` follow a primary metric that was typed, by the `metrics` that the task's file lists.

    So does the `mode` of each callback that was told to look at another metric.
    """
    task, typed = cfg.task, {key_of(text) for text in overrides}
    cfg.run.metrics = OmegaConf.to_container(task.get("metrics") or OmegaConf.create({}))
    if "task.yardstick" in typed and "task.mode" not in typed:
        task.mode = cfg.run.metrics.get(str(task.yardstick), task.mode)
    raw: Any = OmegaConf.to_container(cfg.callbacks)
    for name, callback in raw.items():  # one that looks at another metric goes the way in which that one is better
        watched = OmegaConf.select(cfg, f"callbacks.{name}.monitor") if isinstance(callback, dict) else None
        if watched is not None and watched != f"val/{task.yardstick}" and callback.get("mode") == "${task.mode}":
            metric = str(watched).removeprefix("val/")
            better = "min" if metric.split("_")[0] == "loss" else cfg.run.metrics.get(metric, task.mode)
            cfg.callbacks[name].mode = better


def arrange_sum(cfg: DictConfig) -> str:
    """Reduce `loss` to the parts of a weighted sum and their weights; return the sum's name, such as `bce+0.5*dice`."""
    weights = cfg.loss.get("weights", {})
    cfg.loss = {"parts": cfg.loss.parts, "weights": {name: weights.get(name, 1.0) for name in cfg.loss.parts}}
    factors = [(name, f"{factor:g}*") for name, factor in cfg.loss.weights.items()]
    return "+".join(f"{'' if factor == '1*' else factor}{name}" for name, factor in factors)


def load_config(overrides: Sequence[str], files: "tuple[FileFacts, ...] | None" = None) -> Loaded:
    """Compose what Hydra would.

    Hydra composes the chosen options first and sets values last. The options are composed once for all runs that
    choose the same ones, and the values are set on a copy.
    """
    parsed = parse_overrides(overrides, current_loader())
    own = own_folders(overrides)
    files = stat_options(own) if files is None else files
    options_typed: list[Override] = []
    values_typed: list[Override] = []
    for override in (each for each in parsed if each.key_or_group != SEARCHPATH):
        group = is_group(override.key_or_group) or any(Path(folder, override.key_or_group).is_dir() for folder in own)
        (options_typed if group and not isinstance(override.value(), dict) else values_typed).append(override)
    check_options(options_typed)
    if any(
        (each.is_hydra_override() and each.key_or_group != SEARCHPATH) or each.is_sweep_override() for each in parsed
    ):
        return load_options(overrides, parsed_files(files))
    places = [text for text in overrides if key_of(text) == SEARCHPATH]
    names = (*places, *(str(override.input_line) for override in options_typed))
    cfg, choices, folders, foreign = pickle.loads(pickle_options(names, files))
    try:
        set_values(cfg, values_typed)
    except (AssertionError, IndexError, TypeError, ValueError) as error:  # such as a name below a list
        words = " ".join(str(override.input_line) for override in values_typed)
        raise Refused(f"{words} does not fit what it sets ({' '.join(str(error).split())})") from error
    return cfg, choices, folders, foreign


def check_words(overrides: Sequence[str]) -> None:
    """Refuse a group's override that names no option of it, before Hydra composes anything."""
    plain = [text for text in overrides if not (f"{key_of(text)}=" in LISTED and "[" in text)]  # a sum
    try:
        parsed = parse_overrides(plain, current_loader())
    except OverrideParseException as error:
        raise Refused(explain_syntax(str(error.override))) from None
    try:
        chosen = [each for each in parsed if is_group(each.key_or_group)]
    except OSError as error:  # such as a name that is too long
        raise Refused(f"{max(plain, key=len)[:100]} cannot be read: {error.strerror}") from None
    check_options(chosen)


def check_options(overrides: Sequence[Override]) -> None:
    """Refuse a group's override that names no option, several, a number, or a path out of the group."""
    for override in overrides:
        group, typed = override.key_or_group, str(override.input_line)
        if (override.is_add() or override.is_force_add()) and not override.package and (CONF / group).is_dir():
            raise Refused(f"{typed} adds to {group}, and one option of it is chosen already: type {typed.lstrip('+')}")
        if not override.is_sweep_override():
            check_chosen(override, override.value())
        elif not isinstance(override.value(), Glob):
            for value in override.sweep_iterator():
                check_chosen(override, value)


def check_chosen(override: Override, value: Any) -> None:
    """Refuse a value of a group's override that is no option's name."""
    group = override.key_or_group
    if isinstance(value, QuotedString):
        value = value.text
    if isinstance(value, dict):
        return  # sets keys of the chosen option
    if override.is_delete() and group in NEEDED:
        raise Refused(f"{override.input_line} removes {group}, which every run needs: leave {override.input_line} out")
    if value is None and not override.is_delete():
        usual = f"leave it out, or type {group}={NEEDED.get(group, UNSET.get(group, 'NAME'))}"
        raise Refused(f"{override.input_line} names no option of {group}: {usual}")
    if isinstance(value, list) and (group not in SEVERAL or override.is_delete() or not value):
        names = ",".join(map(as_typed, value)) or NEEDED.get(group, "NAME")
        each = f", or for a run with each -m {group}={names}" if len(value) > 1 else ""
        raise Refused(
            f"{override.input_line} is a list, and a run has one {group}: type {group}={names.split(',')[0]}{each}"
        )
    for name in value if isinstance(value, list) else [] if value is None else [value]:
        if group == "loss" and set(as_typed(name)) & set("+*"):
            listed = f"loss=[{as_typed(name).replace('+', ',')}]"
            raise Refused(f"{override.input_line} is a weighted sum: type '{listed}'")
        allowlist.check_option(group, as_typed(name))
        if not isinstance(name, str) or group == "hydra":
            known = options([str(CONF)], group)
            raise Refused(f"{group}={as_typed(name)} is not an option; {nearest(as_typed(name), known)}")


def parse_allow(overrides: Sequence[str]) -> list[str]:
    """List what the user typed as `allow`.

    >>> parse_allow(["loss=mae", "allow=[my_losses,logger]"]), parse_allow(["allow=my_losses"]), parse_allow([])
    (['my_losses', 'logger'], ['my_losses'], [])
    """
    return names_of("allow", overrides)


def own_folders(overrides: Sequence[str]) -> list[str]:
    """Return the folders of the user's own options that `hydra.searchpath` names.

    >>> own_folders(["loss=mae", "hydra.searchpath=['/my_conf']"])
    ['/my_conf']
    """
    return names_of(SEARCHPATH, overrides)


def names_of(key: str, overrides: Sequence[str]) -> list[str]:
    """Return the names that were typed for a key, one or a list of them."""
    typed = [text for text in overrides if key_of(text) == key]
    parsed = OverridesParser.create().parse_overrides(typed) if typed else []
    values = [override.value() for override in parsed]
    return [str(name) for value in values for name in (value if isinstance(value, list) else [value])]


@lru_cache(maxsize=256)
def pickle_options(names: tuple[str, ...], files: tuple[FileFacts, ...]) -> bytes:
    """Compose options, once as long as `files` stay the same; pickled, as a copy takes seven times as long."""
    return pickle.dumps(load_options(names, parsed_files(files)))


@lru_cache(maxsize=4)
def parsed_files(files: tuple[FileFacts, ...]) -> dict[str, bytes]:
    """Return what has been read of options' files, as long as `files` stay the same."""
    return {}


def load_options(overrides: Sequence[str], parsed: dict[str, bytes]) -> Loaded:
    """Compose options.

    Args:
        parsed: what has been read of the same files already.

    Returns:
        The configuration, the option chosen in each group, the catalogue's folders, and the files of other people.
    """
    composition = Composition(current_loader(), overrides, parsed)
    foreign = read_foreign_files(composition)
    cfg, groups = composition.compose()
    choices = {g: str(o) for g, o in groups.items() if not g.startswith("hydra/") and "@" not in g and o is not None}
    return cfg, choices, composition.folders, foreign


def read_foreign_files(composition: Composition) -> Foreign:
    """Read each file outside of losslab's own catalogue that takes part in a composition.

    Raises:
        Refused: if such an option is chosen by a path, or its file is a link that leaves its group.
    """
    others = [folder for folder in composition.folders if Path(folder) != CONF]
    for folder in others:
        for file in find_yaml_files(folder):
            check_size(file)
    found: Foreign = []
    for root, option, content in composition.read_files() if others else ():
        if root != CONF:
            allowlist.check_option_file(root, option)
            found.append((str(root / f"{option}.yaml"), content))
    return found


def stat_options(own: Sequence[str] = ()) -> tuple[FileFacts, ...]:
    """List the folders of options, and `own` ones, and every option's file, when it was written and how long it is."""
    found: list[FileFacts] = []
    for folder in (*folders_of(current_loader()), *own):
        found.append((folder, 0, 0))
        for file in find_yaml_files(folder):
            facts = os.stat(file)  # noqa: PTH116 - a thousand of them at each start
            found.append((file, facts.st_mtime_ns, facts.st_size))
    return tuple(found)
