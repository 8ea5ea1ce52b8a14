"""What Hydra and OmegaConf say of a mistyped command, as one sentence."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from losslab.config.arguments import explain_syntax, key_of, quote_word
from losslab.config.catalogue import CONF, DESCRIPTIONS, find_by_alias, find_reason, fits, options
from losslab.config.compose import compose_run, hydra_ready, own_folders
from losslab.config.flat import flatten
from losslab.errors import Refused, nearest

LAUNCHERS = {"slurm": "submitit_slurm", "joblib": "joblib"}  # losslab's extras, and what Hydra calls the launchers
COMPARED = ("loss", "optimizer", "model")  # groups of which a race compares several
SYNONYMS = {  # what others call a setting
    **{"learning_rate": "lr", "epochs": "max_epochs", "n_epochs": "max_epochs", "num_epochs": "max_epochs"},
    "metric": "yardstick",
}
WEIGHT = "data.weight=COLUMN"
FOLDS = ("data.folds", "data.fold")
NO_REFERENCE = re.compile(r"Interpolation key '([^']+)' not found.*?full_key: (\S+)")
NO_DEFAULT = re.compile(r"In '([^']+)': Could not (?:load|find) '([^']+)'")
NO_LIST = re.compile(r"In '([^']+)': .*Cannot merge DictConfig with ListConfig")
UNMERGED = re.compile(r"Error merging override (.*)")
SEVERAL = re.compile(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'(?: 1\. | requires)")
DRAWN = re.compile("does not support sweep type : INTERVAL_SWEEP")
THERE = re.compile(r"An item is already at '([^']+)'")
NOT_THERE = re.compile(
    r"Could not delete from config\. (?:'([^']+)' does not exist|The value of '([^']+)' is (.*?) and not)"
)
UNKNOWN_KEY = re.compile(
    r"[Cc]ould not (?:override|append to config|find override key) '?([^'.\s]+(?:\.[^'\s]+?)*)'?[.\s]"
)


def explain(error: Exception, overrides: Sequence[str] = ()) -> str:
    """Turn an error of Hydra's or OmegaConf's into a sentence that says what fits."""
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException) and (found := explain_missing(error, overrides)):
        return found
    if isinstance(error, OverrideParseException):
        return explain_syntax(str(error.override))
    if missing := NO_REFERENCE.search(text):
        place = re.fullmatch(r"run\.overrides\[(\d+)\]", missing[2])
        if place and int(place[1]) < len(overrides):
            return f"{overrides[int(place[1])]} refers to {missing[1]}, which is not a setting: type another name"
        typed = next(
            (text for text in overrides if key_of(text) == missing[2].partition("[")[0] and "${" in text), None
        )
        if typed:
            return f"{typed} refers to {missing[1]}, which is not a setting: type another name"
        return f"{missing[2]} refers to {missing[1]}, which is not a setting: leave out what refers to it or removes it"
    if absent := NO_DEFAULT.search(text):
        group, _, name = absent[2].rpartition("/")
        known = options([str(CONF), *own_folders(overrides)], group)
        if absent[1] == "config":  # one of several that were typed
            return f"{group}={name} is not an option; {nearest(name, known)}"
        return f"{absent[1]}.yaml has {name} in its defaults, which is no option of {group}; {nearest(name, known)}"
    if mixed := NO_LIST.search(text):
        return (
            f"{mixed[1]}.yaml writes names and values where a list stands, such as types: write types: ['age: number']"
        )
    if unmerged := UNMERGED.fullmatch(text):
        return f"{unmerged[1]} does not fit what it sets: type a value like that of `--cfg job`"
    if DRAWN.search(text):
        key = next((key_of(word) for word in overrides if "interval(" in word), "KEY")
        return (
            f"{key} is a range, and -m needs its values: type some, such as {key}=0.01,0.1, or write a sweep file with "
            f"{key}: {{min: .., max: ..}} for losslab sweep"
        )
    if several := SEVERAL.search(text):
        return explain_several(several[1])
    if there := THERE.search(text):
        typed = next((word.lstrip("+") for word in overrides if key_of(word) == there[1]), f"{there[1]}=VALUE")
        return f"{there[1]} is a setting already: type {typed}"
    if gone := NOT_THERE.search(text):
        why = f"it is {gone[3]}" if gone[3] else "it is not there"
        return f"~{gone[1] or gone[2]} cannot be removed, because {why}: leave it out"
    if unknown := UNKNOWN_KEY.search(text):
        return explain_unknown(unknown[1].rstrip("."), overrides)
    return text


def explain_several(override: str) -> str:
    """Say how several values are typed.

    >>> print(explain_several("seed=range(3)"))
    seed=range(3) is several values, and one run has one: type -m 'seed=range(3)' for a run with each
    """
    key, _, value = override.partition("=")
    each = shlex.quote(override) if "(" in value or "[" in value else override
    more = f", or {shlex.quote(f'{key}=[{value}]')} for a list" if "." in key and "(" not in value else ""
    if key in COMPARED:
        more = f", losslab race {each} to find out which to use"
    if key == "loss" and "(" not in value and "[" not in value:
        more += f", or {shlex.quote(f'{key}=[{value}]')} for their weighted sum"
    return f"{override} is several values, and one run has one: type -m {each} for a run with each{more}"


def explain_missing(error: MissingConfigException, overrides: Sequence[str]) -> str | None:
    """Say which option of a group was meant; `None` where the error names no group."""
    for launcher, option in LAUNCHERS.items():
        if error.missing_cfg_file == f"hydra/launcher/{option}":
            return f"hydra/launcher={launcher} is not installed: type pip install 'losslab[{launcher}]'"
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group or error.options is None:
        return None
    known = options([str(CONF), *own_folders(overrides)], group)
    if group == "data" and Path(name).is_file():
        kind = "arrays" if name.endswith(".npz") else "csv"
        return f"data={name} is a file: type data={kind} {quote_word(f'data.path={name}')}"
    if names := find_by_alias(name, known):
        differs = known[names[0]].get("differs")
        more = f" ({differs})" if isinstance(differs, str) else ""
        return f"{group}={name} is called {' or '.join(names)} here: type {group}={names[0]}{more}"
    if why := find_reason(name, group):
        return f"{group}={name} is not an option here: {why}"
    return f"{group}={name} is not an option; {nearest(name.rpartition('.')[2], error.options)}"


def explain_unknown(name: str, overrides: Sequence[str]) -> str:
    """Say which setting was meant."""
    if name.startswith("hydra.launcher."):
        launcher = next((text.partition("=")[2] for text in overrides if key_of(text) == "hydra/launcher"), "")
        if own := options([str(CONF)], "hydra/launcher").get(launcher):
            near = nearest(name.rpartition(".")[2], [key for key in own if key.isidentifier() and key[0] != "_"])
            return f"{name} is not a setting of hydra/launcher={launcher}; {near}"
    others = [text for text in overrides if key_of(text) not in (name, *(FOLDS if name in FOLDS else ()))]
    try:
        with hydra_ready():
            cfg, _ = compose_run(others)
            known = {key for key in flatten(cfg) if not key.rpartition(".")[2].startswith("_")} | {*cfg.run.choices}
    except (HydraException, OmegaConfBaseException, Refused):
        return f"{name} is not a setting; `--cfg job` prints them all"
    if name in FOLDS:
        return explain_folds(name, cfg)
    if name in cfg.run.choices:  # some keys of several that were set at once
        inner = re.findall(r"([\w.]+):", next(text for text in overrides if key_of(text) == name).partition("=")[2])
        name = next((f"{name}.{key}" for key in inner if f"{name}.{key}" not in known), name)
    group, _, key = name.partition(".")
    if key and group in cfg.run.choices:
        return explain_key(cfg, group, key)
    last = name.split(".")[-1]
    same = sorted(key for key in known if key.split(".")[-1] == SYNONYMS.get(last, last))
    hint = f"nearest: {', '.join(same)}" if same else nearest(name, known)
    return f"{name} is not a setting; {f'{hint}; ' if hint.startswith('nearest') else ''}`--cfg job` prints them all"


def explain_key(cfg: DictConfig, group: str, key: str) -> str:
    """Say which options of a group have a key, or else which of the chosen option's keys was meant.

    Args:
        cfg: what was typed but for this key, composed.
        key: of the option, without the group.
    """
    known = options(cfg.run.catalogue, group)
    keys = {name: list_keys(option) for name, option in known.items() if group != "loss" or fits(cfg.task, option)}
    own = [name.removeprefix(f"{group}.") for name in flatten(cfg) if name.startswith(f"{group}.")]
    own = [name for name in own if not name.rpartition(".")[2].startswith("_")]
    same = [name for name in own if ends_in(name, SYNONYMS.get(key, key))]
    having = {option: found for option, names in keys.items() for found in names if ends_in(found, key)}
    if same:
        hint = f"nearest: {', '.join(f'{group}.{name}' for name in same)}"
    elif having:
        one_of = f"{' one of ' if len(having) > 1 else ''}{', '.join(having)}"
        whole = next(iter(having.values()))
        hint = f"type {group}={one_of}{'' if whole == key else f', and {group}.{whole}=VALUE'}"
    elif key in known:
        hint = f"type {group}={key}"
    elif any(ends_in(name, key) for option in known.values() for name in list_keys(option)):
        hint = f"no {group} of task={cfg.task.name} has it"
    else:
        hint = nearest(key, own)
        others = [name for names in keys.values() for name in names]
        if not hint.startswith("nearest") and (near := nearest(key, others)).startswith("nearest"):
            hint = f"{near} of other options"
        hint = re.sub(r"(?<=: |, )(?=\w)", f"{group}.", hint) + "; `--cfg job` prints them all"
    if (group, key) == ("loss", "weight") and "weight" in cfg.data:
        hint += f"; {WEIGHT} weighs rows"
    return f"{group}.{key} is not a setting of {group}={cfg.run.choices[group]}; {hint}"


def ends_in(name: str, key: str) -> bool:
    """Tell whether a dotted name is a key, or ends in it."""
    return name == key or name.endswith(f".{key}")


def list_keys(option: Mapping[str, Any]) -> list[str]:
    """List the dotted keys of an option that can be typed.

    >>> list_keys({"_target_": "a.B", "lr": 1, "stop": {"patience": 3}, "ranges": {"lr": "> 0"}})
    ['lr', 'stop', 'stop.patience']
    """
    found = []
    for name, value in option.items():
        if not str(name).startswith("_") and name not in DESCRIPTIONS:
            found.append(str(name))
            found += [f"{name}.{each}" for each in list_keys(value)] if isinstance(value, Mapping) else []
    return found


def explain_folds(name: str, cfg: DictConfig) -> str:
    """Say why data have no folds: their test rows are fixed, or a user's own option does not hand them on."""
    datasets = options(cfg.run.catalogue, "data")
    others = ", ".join(option for option, keys in datasets.items() if "folds" in keys)
    if "test" in cfg.data:
        why = "its file says nothing of them: write folds: null and fold: 0 into it, for losslab.data.dataset.arrays,"
    else:
        why = "its test rows are fixed: type -m seed=0,1,2 for repeats,"
    return f"{name} is not a setting of data={cfg.run.choices.data}, as {why} or data= one of {others}"
