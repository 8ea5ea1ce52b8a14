"""The front door: from what the user typed to a configuration that is known to be right.

Nothing here imports torch, so a mistake is answered in under a second and before anything is written.
"""

import copy
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from losslab import trust
from losslab.errors import Refused, nearest
from losslab.files import writable_folder
from losslab.rules import RULES, number

HERE = Path(__file__).parent
MARKS = ("also", "search", "stacks")  # keys of an option that speak to who looks for it, or makes a sweep of it
CONF = next(folder for folder in (HERE / "conf", HERE.parents[1] / "conf") if folder.is_dir())  # wheel or clone

Chosen = tuple[DictConfig, dict[str, str], list[str]]


@contextmanager
def hydra_ready() -> Iterator[None]:
    """Hydra as `hydra.main` has set it up, or else set up here, on our own catalogue."""
    if GlobalHydra.instance().is_initialized():
        yield
    else:
        with initialize_config_dir(str(CONF), version_base="1.3", job_name="losslab"):
            yield


def configure(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose what was typed, let the task follow the data, and refuse what does not fit.

    Args:
        overrides: what would stand on the command line, such as `["loss=mae", "seed=1"]`.

    Returns:
        The configuration that `losslab.train.train` takes.

    Raises:
        Refused: for anything that a user could have mistyped.

    >>> configure(["data=digits", "model=linear"]).run.choices["task"]
    'single_label'
    """
    overrides = [text for typed in overrides for text in spelled_out(quoted(typed))]
    trust.public(overrides)
    allowing = any(key_of(text) == "allow" for text in overrides)  # typed now, by the user
    with hydra_ready():
        try:
            overrides = recorded(overrides)
            cfg = composed(overrides)
            wanted = cfg.data.get("task") if OmegaConf.is_dict(cfg.data) else None
            if wanted and wanted != cfg.task.name and not any(key_of(text) == "task" for text in overrides):
                overrides = [f"task={wanted}", *overrides]
                cfg = composed(overrides)
            trust.checked(cfg, allowing)
            places = (*cfg.run.choices, "hydra.searchpath")
            named = [text for text in overrides if key_of(text) in places or "@" in key_of(text)]
            check(cfg, composed(named) if named != overrides else cfg)
        except (HydraException, OmegaConfBaseException) as error:
            raise Refused(explain(error, overrides)) from error
    return cfg


def key_of(override: str) -> str:
    """The key of `key=value`, without Hydra's + and ~."""
    return override.split("=", 1)[0].lstrip("+~")


def quoted(override: str) -> str:
    """`logger=false` names the option `false`, which Hydra would read as a boolean and refuse.

    >>> quoted("logger=false"), quoted("trainer.deterministic=false")
    ("logger='false'", 'trainer.deterministic=false')
    """
    group, _, value = override.partition("=")
    return f"{group}='{value}'" if value in ("true", "false") and (CONF / group).is_dir() else override


def hydra_value(text: str) -> str:
    """A text as it stands in an override, for Hydra and OmegaConf to read the same text in it.

    Between quotes a backslash means something only before a quote and before what would be an interpolation.

    >>> hydra_value("runs/last.ckpt"), hydra_value("my runs/a=b.ckpt")
    ('runs/last.ckpt', "'my runs/a=b.ckpt'")
    """
    if re.fullmatch(r"[A-Za-z_./][\w./-]*/[\w./-]*", text, re.ASCII):
        return text
    for special, escaped in ((r"(\\*)'", r"\1\1\\'"), (r"(\\*)\$\{", r"\1\1\\${"), (r"(\\+)\Z", r"\1\1")):
        text = re.sub(special, escaped, text)
    return f"'{text}'"


def typed_value(override: str) -> str:
    """What Hydra reads in an override, as text: `hydra_value` the other way round.

    >>> typed_value("ckpt='my runs/a=b.ckpt'")
    'my runs/a=b.ckpt'
    """
    value = OverridesParser.create().parse_override(override).value()
    return str(OmegaConf.create({"value": value})["value"])


def spelled_out(override: str) -> list[str]:
    """`loss=[bce,0.5*dice]`, a weighted sum of losses, as what Hydra composes it of.

    >>> spelled_out("loss=[bce,0.5*dice]")
    ['loss=bce', '+loss@loss.parts.bce=bce', '+loss@loss.parts.dice=dice', '++loss.weights.dice=0.5']
    >>> spelled_out("loss=mae")
    ['loss=mae']
    """
    found = re.fullmatch(r"loss=\[(.*)\]", override)
    if not found:
        return [override]
    parts = [part.strip().rpartition("*") for part in found[1].split(",")]
    names = [name.strip() for _, _, name in parts]
    if len(set(names)) < len(names):
        raise Refused(f"{override} names a loss twice: type each once, with a factor, such as loss=[bce,0.5*dice]")
    factors = [f"++loss.weights.{name}={factor}" for name, (factor, _, _) in zip(names, parts, strict=True) if factor]
    return [f"loss={names[0]}", *(f"+loss@loss.parts.{name}={name}" for name in names), *factors]


def loss_paths(cfg: DictConfig) -> dict[str, str]:
    """Where the settings of the loss lie, or of each part of a sum of losses, by its name."""
    if "parts" in cfg.loss:
        return {str(name): f"loss.parts.{name}" for name in cfg.loss.parts}
    return {str(cfg.run.choices.loss): "loss"}


def composed(overrides: Sequence[str]) -> DictConfig:
    """The configuration of these overrides, with the choices and the overrides noted in it."""
    cfg, choices, folders = laid_out(overrides)
    OmegaConf.set_struct(cfg, False)
    if "parts" in cfg.loss:
        weights = cfg.loss.get("weights", {})
        cfg.loss = {"parts": cfg.loss.parts, "weights": {name: weights.get(name, 1.0) for name in cfg.loss.parts}}
        factors = [(name, f"{factor:g}*") for name, factor in cfg.loss.weights.items()]
        choices["loss"] = "+".join(f"{'' if factor == '1*' else factor}{name}" for name, factor in factors)
    placed(cfg, choices, overrides)
    for option in (cfg.optimizer, cfg.loss, *cfg.loss.get("parts", {}).values()):
        for key in MARKS:
            option.pop(key, None)
    cfg.run.update(choices=choices, overrides=list(overrides), catalogue=folders)
    return cfg


def laid_out(overrides: Sequence[str]) -> Chosen:
    """What Hydra composes: values change nothing of what is chosen and are set last, so here on a copy of that."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    if any(override.is_hydra_override() or override.is_sweep_override() for override in parsed):
        return chosen.__wrapped__(tuple(overrides), ())
    found: dict[bool, list[Override]] = {True: [], False: []}
    for override in parsed:
        group = loader.repository.group_exists(override.key_or_group) and not isinstance(override.value(), dict)
        found[group].append(override)
    sources = (source.path.removeprefix("file://") for source in loader.get_sources() if source.scheme() == "file")
    files = tuple(file for folder in sources for file in ((folder, 0, 0), *scanned(folder)))
    cfg, choices, folders = copy.deepcopy(chosen(tuple(str(override.input_line) for override in found[True]), files))
    loader._apply_overrides_to_config(found[False], cfg)
    return cfg, choices, folders


@lru_cache(maxsize=64)
def chosen(overrides: tuple[str, ...], files: tuple[tuple[str, int, int], ...]) -> Chosen:
    """What Hydra composes, what is chosen in each group, and the catalogue's folders: once, while `files` stay."""
    cfg = compose("config", list(overrides), return_hydra_config=True)
    groups = {str(group): option for group, option in cfg.hydra.runtime.choices.items()}
    choices = {g: str(o) for g, o in groups.items() if not g.startswith("hydra/") and "@" not in g and o is not None}
    folders = [s.path.removeprefix("file://") for s in cfg.hydra.runtime.config_sources if s.schema == "file"]
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices, folders


def scanned(folder: str) -> Iterator[tuple[str, int, int]]:
    """Every option below a folder, when it was written and how long it is."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith("."):
                yield from scanned(entry.path)
            elif entry.name.endswith(".yaml") and entry.is_file():
                facts = entry.stat()
                yield entry.path, facts.st_mtime_ns, facts.st_size


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


def recorded(overrides: list[str]) -> list[str]:
    """With `ckpt=`, what was typed when that run began, except what is typed now; nothing there can allow anything."""
    path = next((text.split("=", 1)[1] for text in overrides if key_of(text) == "ckpt"), None)
    if path in (None, "", "null"):
        return overrides
    try:
        status = Path(typed_value(f"ckpt={path}")).parent / "status.json"
    except (HydraException, OmegaConfBaseException):
        return overrides  # which is told when they are composed
    if not status.is_file():
        return overrides
    typed = {key_of(text) for text in overrides}
    try:
        before = [str(text) for text in json.loads(status.read_text())["overrides"]]
    except (ValueError, KeyError, TypeError):
        raise Refused(f"{status} is no record of a run: type the path of a checkpoint in its run's folder") from None
    theirs = (key_of(text) for text in before)
    kept = [not (key in typed or key == "allow" or "hydra" in key) for key in theirs]
    return [text for text, keep in zip(before, kept, strict=True) if keep] + overrides


def options(catalogue: Sequence[str], group: str) -> dict[str, dict[str, Any]]:
    """The files of a group, by name, from all folders of the catalogue; the first folder wins."""
    found: dict[str, dict[str, Any]] = {}
    for folder in catalogue:
        for file in sorted(Path(folder, group).glob("*.yaml")):
            found.setdefault(file.stem, yaml.safe_load(file.read_text()) or {})
    return found


def known_as(name: str, option: Mapping[str, Any]) -> bool:
    """Whether an option's file gives `name` under `also`, or its class is called so; case and `_` do not count.

    >>> known_as("MSELoss", {"_target_": "torch.nn.MSELoss"}), known_as("l2", {"also": ["mean_squared_error", "l2"]})
    (True, True)
    """
    names = [*option.get("also", []), str(option.get("_target_")).rpartition(".")[2]]
    return name.replace("_", "").lower() in {other.replace("_", "").lower() for other in names}


def called(name: str, known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The options that are known as `name` elsewhere, the one that is spelled most like it first.

    >>> called("SGD", options([str(CONF)], "optimizer"))[0]
    'sgd'
    """
    return sorted((n for n, option in known.items() if known_as(name, option)), key=lambda n: n != name.lower())


def fits(task: Mapping[str, Any], loss: Mapping[str, Any]) -> bool:
    """Whether the task offers the view of the scores and the form of the target that the loss wants."""
    return loss.get("input") in task["inputs"] and loss.get("target") in task["targets"]


@cache
def rule_of(key: str) -> tuple[Callable[[Any], bool], str] | None:
    """What a value of this key has to fulfil, and that in words."""
    ruled = re.sub(r"^loss\.parts\.\w+", "loss", key)
    return next((rule for pattern, rule in RULES.items() if fnmatch(ruled, pattern)), None)


def check(cfg: DictConfig, defaults: DictConfig) -> None:
    """Refuse what can be known to be wrong before data is read: gaps, types, ranges, misfits, files.

    Args:
        cfg: what was typed, composed.
        defaults: the same options with no value changed: their types are the types that fit.
    """
    choice = cfg.run.choices
    values, usual = flatten(cfg), flatten(defaults)
    for key in sorted(key for key, value in values.items() if value == "???"):
        group = key.split(".")[0]
        raise Refused(f"{group}={choice.get(group)} needs {key}: type {key}=VALUE")
    for key, value in values.items():
        if rule := rule_of(key):
            if not rule[0](value):
                raise Refused(f"{key}={shown(value)} does not fit: it must be {rule[1]}")
        elif key in usual and not same_type(value, usual[key]):
            raise Refused(f"{key}={shown(value)} does not fit: it must be {TYPES[type(usual[key])]}")
    if cfg.data.get("val", 0) + cfg.data.get("test", 0) >= 1:
        raise Refused(f"data.val={cfg.data.val} and data.test={cfg.data.get('test', 0)} leave no rows to train on")

    if cfg.data.get("task", cfg.task.name) != cfg.task.name:
        datasets = options(cfg.run.catalogue, "data")
        other = [name for name, data in datasets.items() if data.get("task") in (cfg.task.name, "${task.name}")]
        raise Refused(
            f"data={choice.data} is for task={cfg.data.task}, not task={choice.task}: "
            f"type task={cfg.data.task}, or data= one of {', '.join(other)}"
        )
    for name, path in loss_paths(cfg).items():
        wanted = OmegaConf.select(cfg, path)
        if fits(cfg.task, wanted):
            continue
        losses, tasks = options(cfg.run.catalogue, "loss"), options(cfg.run.catalogue, "task")
        fitting = [name for name, loss in losses.items() if fits(cfg.task, loss)]
        others = [name for name, task in tasks.items() if fits(task["task"], wanted)]
        raise Refused(
            f"loss={name} wants {wanted.get('input')} and {wanted.get('target')} targets, which "
            f"task={choice.task} does not offer: type loss= one of {', '.join(fitting)}"
            + (f", or task= one of {', '.join(others)}" if others else "")
        )
    takes, gives = list(cfg.model.takes), list(cfg.data.get("gives", cfg.model.takes))
    if not set(takes) & set(gives):
        models = options(cfg.run.catalogue, "model").items()
        fitting = [name for name, model in models if set(model.get("takes", [])) & set(gives)]
        raise Refused(
            f"model={choice.model} takes {' or '.join(takes)}, but data={choice.data} gives {' or '.join(gives)}: "
            f"type model= one of {', '.join(fitting)}"
        )
    if cfg.get("augment") and "image" not in gives:
        raise Refused(f"augment={choice.augment} is for images, but data={choice.data} gives {' or '.join(gives)}: "
                      "type augment=none")  # fmt: skip
    lasting(cfg)
    groupable(cfg)
    if cfg.ckpt is not None and not Path(cfg.ckpt).is_file():
        raise Refused(f"ckpt={cfg.ckpt} is not there: type the path of a last.ckpt in a run's folder")
    writable_folder(Path(cfg.output_dir), "output_dir")


def launched(cfg: DictConfig) -> None:
    """Refuse to train in other processes than were started: one would wait for the others, or all run the same.

    Raises:
        Refused: where their number, or that of their nodes, is another than the trainer's.
    """
    env, trainer = os.environ, cfg.trainer
    if trainer.get("num_nodes", 1) != 1 and not {"RANK", "SLURM_NTASKS"} & set(env):
        raise Refused(
            f"trainer.num_nodes={trainer.num_nodes} needs a process for each device on each machine: "
            "start it by `torchrun` or by `srun`"
        )
    if "RANK" in env or "SLURM_NTASKS" not in env or env.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return  # torchrun starts them, or a person who may type anything: Lightning has the same two names
    devices = len(trainer.devices) if OmegaConf.is_list(trainer.devices) else trainer.devices
    wanted = (trainer.get("num_nodes", 1), devices)
    nodes, tasks = (int(env.get(f"SLURM_STEP_NUM_{what}", 1)) for what in ("NODES", "TASKS"))
    if isinstance(devices, int) and devices > 0 and (nodes, tasks) != (wanted[0], wanted[0] * devices):
        raise Refused(
            f"SLURM has started {tasks} processes on {nodes} nodes, but trainer.num_nodes={wanted[0]} and "
            f"trainer.devices={devices} need others: type srun --nodes={wanted[0]} --ntasks-per-node={devices}, or "
            f"trainer=ddp trainer.num_nodes={nodes} trainer.devices={tasks // nodes}"
        )


def lasting(cfg: DictConfig) -> None:
    """Refuse a schedule by epochs whose first change comes when the run is over."""
    epochs = cfg.trainer.max_epochs
    known = cfg.scheduler.get("interval") == "epoch" and not cfg.trainer.get("updates")
    for key in ("step_size", "milestones", "T_0") if known else ():
        value = cfg.scheduler.get(key)
        first = value[0] if OmegaConf.is_list(value) else value
        if first is not None and first >= epochs:
            shorter = f"scheduler.{key}={f'[{epochs // 2}]' if value is not first else epochs // 2}, or "
            raise Refused(
                f"scheduler.{key}={shown(value)} epochs is not reached in trainer.max_epochs={epochs}: "
                f"type {shorter if epochs > 1 else ''}trainer.max_epochs={first + 1} or more"
            )


def groupable(cfg: DictConfig) -> None:
    """Refuse groups of parameters that differ in what the optimizer does not know, or cannot have differ."""
    optimizer, groups = f"optimizer={cfg.run.choices.optimizer}", cfg.get("param_groups", {})
    if groups.get("decay", "all") != "all" and not any(key.endswith("weight_decay") for key in flatten(cfg.optimizer)):
        raise Refused(
            f"param_groups.decay={groups.decay} chooses what decays, but {optimizer} has no weight_decay: "
            "type optimizer=adamw, or param_groups.decay=all"
        )
    if groups.get("backbone_lr", 1) != 1 and ("lr" not in cfg.optimizer or cfg.optimizer._target_.endswith("LBFGS")):
        has = "one learning rate for all parameters" if "lr" in cfg.optimizer else "no lr"
        raise Refused(
            f"param_groups.backbone_lr={groups.backbone_lr:g} needs a learning rate for each group, but {optimizer} "
            f"has {has}: type optimizer=adamw, or param_groups.backbone_lr=1.0"
        )


def flatten(cfg: DictConfig) -> dict[str, Any]:
    """Every setting under its dotted name, as it is typed; lists stay whole, and what a run fills in stays out.

    >>> flatten(OmegaConf.create({"optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}}))
    {'optimizer.lr': 0.1, 'optimizer.betas': [0.9, 0.99]}
    """
    flat: dict[str, Any] = {}
    plain = OmegaConf.to_container(cfg)  # OmegaConf would parse each `${seed}` anew: most of the time this would take
    assert isinstance(plain, dict)
    root = plain if cfg._get_parent() is None else {}

    def walk(nodes: dict[Any, Any], path: tuple[Any, ...], refers: bool = True) -> None:
        for key, value in nodes.items():
            if reference := refers and isinstance(value, str | list) and "${" in str(value):
                value = resolved(value, (*path, key))
            if isinstance(value, dict):
                walk(value, (*path, key), refers and not reference)
            else:
                flat[".".join(map(str, (*path, key)))] = value

    def resolved(value: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(value, list):
            return [resolved(each, (*path, number)) for number, each in enumerate(value)]
        if "${" not in str(value):
            return value
        if FILLED_IN.search(value):
            return None
        one = ELSEWHERE.fullmatch(value)
        found = looked_up(one) if one else ELSEWHERE.sub(lambda match: str(looked_up(match)), value)
        if "${" not in str(found) and "\\" not in value:
            return copy.deepcopy(found)  # an alias in YAML otherwise
        node: Any = cfg  # OmegaConf knows more: escapes, environment variables, what stands above `cfg`
        for key in path:
            node = node[key]
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node

    def looked_up(match: re.Match[str]) -> Any:
        node: Any = root
        for key in match[1].split("."):
            node = node.get(key, "${") if isinstance(node, dict) else "${"
        return node

    walk({key: value for key, value in plain.items() if key != "run"}, ())
    return flat


FILLED_IN = re.compile(r"\$\{run\.(?!choices)")
ELSEWHERE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")
LAUNCHERS = {"slurm": "submitit_slurm", "joblib": "joblib"}  # what plugins of Hydra's call them
TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list, such as [a,b]"}


def same_type(value: object, usual: object) -> bool:
    """Whether `value` may stand where `usual` stood; anything may stand where there was nothing."""
    if usual is None or value is None or type(usual) not in TYPES:
        return True
    if isinstance(usual, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(usual, bool)
    return number(value) if isinstance(usual, float) else isinstance(value, type(usual))


def shown(value: object) -> str:
    """A value as it is typed."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def explain(error: Exception, overrides: Sequence[str] = ()) -> str:
    """What Hydra and OmegaConf say of a mistyped command, as one sentence that names what fits."""
    text = " ".join(str(error).split())
    for launcher, option in LAUNCHERS.items():
        if isinstance(error, MissingConfigException) and error.missing_cfg_file == f"hydra/launcher/{option}":
            return f"hydra/launcher={launcher} is not installed: type pip install 'losslab[{launcher}]'"
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        if group:
            if names := called(name, options([str(CONF)], group)):
                return f"{group}={name} is called {' or '.join(names)} here: type {group}={names[0]}"
            return f"{group}={name} is not an option; {nearest(name, error.options)}"
    if isinstance(error, OverrideParseException):
        quotes = "; a value with signs such as = ( , or spaces needs quotes: \"key='value'\""
        return f"'{error.override}' cannot be read: type key=value, such as optimizer.lr=0.01{quotes}"
    key = re.search(
        r"[Cc]ould not (?:override|append to config|find override key) '?([^'.\s]+(?:\.[^'\s]+?)*)'?[.\s]", text
    )
    if key:
        name = key[1].rstrip(".")
        others = [text for text in overrides if key_of(text) != name]
        try:
            with hydra_ready():
                cfg = composed(others)
        except (HydraException, OmegaConfBaseException):
            return f"{name} is not a setting; `--cfg job` prints them all"
        known = {*flatten(cfg), *cfg.run.choices}
        same = sorted(key for key in known if key.split(".")[-1] == name.split(".")[-1])
        hint = f"nearest: {', '.join(same)}" if same else nearest(name, known)
        return f"{name} is not a setting; {hint}; `--cfg job` prints them all"
    return text
