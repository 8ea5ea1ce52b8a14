"""The front door: from what the user typed to a configuration that is known to be right.

Nothing here imports torch, so a mistake is answered in under a second and before anything is written.
"""

import copy
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from losslab import allowlist
from losslab.catalogue import CONF as CONF
from losslab.catalogue import called as called
from losslab.catalogue import fits as fits
from losslab.catalogue import known_as as known_as
from losslab.catalogue import options as options
from losslab.catalogue import yaml_files
from losslab.errors import Refused, nearest
from losslab.files import Unreadable, read_json, writable_folder
from losslab.rules import RULES, number, silent

NEEDED = {  # what is a mapping in each configuration, and what is usual there
    **{"task": "regression", "data": "diamonds", "model": "mlp", "loss": "mse", "optimizer": "adam"},
    **{"scheduler": "constant", "trainer": "auto", "callbacks": "default", "search": "{lr: null}"},
    **{"param_groups": "{decay: all, backbone_lr: 1.0}", "run": "{}"},
}
LISTS = {"task.inputs": "[logits]", "task.targets": "[dense]", "model.takes": "[vector]", "data.gives": "[vector]"}
MARKS = ("also", "search", "stacks")  # keys of an option that speak to who looks for it, or makes a sweep of it

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
    allowlist.check_secrets(overrides)
    for text in overrides:
        if not key_of(text):
            raise Refused(f"'{text}' cannot be read: type key=value, such as optimizer.lr=0.01")
        if key_of(text).partition(".")[0] == "run":
            raise Refused(
                f"{key_of(text)} is filled in when the run starts: type output_dir=FOLDER for where it writes"
            )
    allowing = any(key_of(text) == "allow" for text in overrides)  # typed now, by the user
    with hydra_ready():
        try:
            overrides, dropped = recorded(overrides)
            cfg = composed(overrides)
            wanted = cfg.data.get("task") if OmegaConf.is_dict(cfg.data) else None
            if wanted and wanted != cfg.task.name and not any(key_of(text) == "task" for text in overrides):
                overrides = [f"task={wanted}", *overrides]
                cfg = composed(overrides)
            allowlist.check_composed(cfg, allowing)
            cfg.run.dropped = dropped
            places = (*cfg.run.choices, "hydra.searchpath", "allow")
            named = [text for text in overrides if key_of(text) in places or "@" in key_of(text)]
            check(cfg, composed(named) if named != overrides else cfg)
        except (HydraException, OmegaConfBaseException) as error:
            raise Refused(explain(error, overrides)) from error
        except OSError as error:  # such as a name that is too long
            raise Refused(f"{str(error.filename)[:200]} cannot be read: {error.strerror}") from error
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
    for name, (factor, _, _) in zip(names, parts, strict=True):
        if not allowlist.OPTION.fullmatch(name) or not re.fullmatch(r"[\d.e+-]*", factor.strip()):
            raise Refused(f"{override} cannot be read: type losses with factors before them, such as [bce,0.5*dice]")
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
    cfg, choices, folders, foreign = laid_out(overrides)
    allow = allowed(overrides)
    for where, content in foreign:
        allowlist.check_file(where, content, allow, is_group)
    OmegaConf.set_struct(cfg, False)
    check_structure(cfg)
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


def check_structure(cfg: DictConfig) -> None:
    """Refuse a configuration in which a group has become something else, or a list that all its options have."""
    for group, usual in NEEDED.items():
        if not OmegaConf.is_dict(cfg.get(group)):
            raise Refused(f"{group} is not an option any more: leave out what takes it away, or type {group}={usual}")
    for key, usual in LISTS.items():
        names = OmegaConf.select(cfg, key, default=[])
        if not OmegaConf.is_list(names) or not all(isinstance(name, str) for name in names):
            raise Refused(f"{key}={shown(names)} does not fit: it must be a list such as {usual}")
    if "parts" in cfg.loss:
        parts, weights = cfg.loss.parts, OmegaConf.create(cfg.loss.get("weights", {}))
        losses = OmegaConf.is_dict(parts) and all(OmegaConf.is_dict(part) for part in parts.values())
        if not losses or not OmegaConf.is_dict(weights) or not all(map(number, weights.values())):
            raise Refused("loss.parts and loss.weights are no sum of losses: type loss=[bce,0.5*dice]")


def laid_out(overrides: Sequence[str]) -> Chosen:
    """What Hydra composes: values change nothing of what is chosen and are set last, so here on a copy of that."""
    loader = config_loader()
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(list(overrides))
    found: dict[bool, list[Override]] = {True: [], False: []}
    for override in parsed:
        group = is_group(override.key_or_group) and not isinstance(override.value(), dict)
        found[group].append(override)
    check_options(found[True])
    if any(override.is_hydra_override() or override.is_sweep_override() for override in parsed):
        return chosen.__wrapped__(tuple(overrides), ())
    sources = (source.path.removeprefix("file://") for source in loader.get_sources() if source.scheme() == "file")
    files = tuple(file for folder in sources for file in ((folder, 0, 0), *scanned(folder)))
    names = tuple(str(override.input_line) for override in found[True])
    cfg, choices, folders, foreign = copy.deepcopy(chosen(names, files))
    try:
        loader._apply_overrides_to_config(found[False], cfg)
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


def config_loader() -> ConfigLoaderImpl:
    """Hydra's loader of configurations, while `hydra_ready`."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, ConfigLoaderImpl)
    return loader


def is_group(key: str) -> bool:
    """Whether a key is a group of options."""
    return config_loader().repository.group_exists(key)


def allowed(overrides: Sequence[str]) -> list[str]:
    """What the user typed as `allow`.

    >>> allowed(["loss=mae", "allow=[my_losses,logger]"]), allowed(["allow=my_losses"]), allowed([])
    (['my_losses', 'logger'], ['my_losses'], [])
    """
    typed = [text for text in overrides if key_of(text) == "allow"]
    parsed = OverridesParser.create().parse_overrides(typed) if typed else []
    values = [override.value() for override in parsed]
    return [str(name) for value in values for name in (value if isinstance(value, list) else [value])]


@lru_cache(maxsize=64)
def chosen(overrides: tuple[str, ...], files: tuple[tuple[str, int, int], ...]) -> Chosen:
    """What Hydra composes, what is chosen in each group, and the catalogue's folders: once, while `files` stay."""
    foreign = foreign_files(config_loader(), overrides)
    cfg = compose("config", list(overrides), return_hydra_config=True)
    groups = {str(group): option for group, option in cfg.hydra.runtime.choices.items()}
    choices = {g: str(o) for g, o in groups.items() if not g.startswith("hydra/") and "@" not in g and o is not None}
    folders = [s.path.removeprefix("file://") for s in cfg.hydra.runtime.config_sources if s.schema == "file"]
    with open_dict(cfg):
        del cfg["hydra"]
    return cfg, choices, folders, foreign


def foreign_files(loader: ConfigLoaderImpl, overrides: Sequence[str]) -> Foreign:
    """Each file outside of our own catalogue that takes part in a composition, and what it sets, as Hydra reads it.

    Raises:
        Refused: where an option of those is chosen by a path, or its file is a link that leaves its group.
    """
    known = [source.path.removeprefix("file://") for source in loader.get_sources() if source.scheme() == "file"]
    if all(Path(root) == CONF for root in known) and not any("hydra.searchpath" in text for text in overrides):
        return []
    parsed, repo = loader._parse_overrides_and_create_caching_repo("config", list(overrides))
    roots = [source.path.removeprefix("file://") for source in repo.get_sources() if source.scheme() == "file"]
    for root in roots:
        list(yaml_files(root))  # each of them can be read
    chosen = create_defaults_list(repo, "config", parsed, prepend_hydra=True, skip_missing=False)
    found: Foreign = []
    for default in chosen.defaults:
        if default.config_path is None:
            continue
        loaded = loader._load_single_config(default, repo)
        place = Path(loaded.path.removeprefix("file://"))
        if loaded.path.startswith("file://") and place != CONF:
            allowlist.check_place(place, default.config_path)
            content: Any = OmegaConf.to_container(loaded.config, resolve=False)
            found.append((str(place / f"{default.config_path}.yaml"), content))
    return found


def check_typed_in(where: str, overrides: Sequence[str], allow: Sequence[str]) -> None:
    """Refuse overrides that stand in a file and do what a file may not.

    Args:
        where: the file.
        overrides: as they would be typed.
        allow: what the user typed as `allow`.

    Raises:
        Refused: for those, and for what cannot be read.
    """
    with hydra_ready():
        try:
            spelled = [each for text in overrides for each in spelled_out(quoted(text))]
            parsed = OverridesParser.create().parse_overrides(spelled)
            allowlist.check_overrides(where, parsed, allow, is_group)
        except HydraException as error:
            raise Refused(f"{where}: {explain(error, overrides)}") from None


def check_front(words: Sequence[str]) -> None:
    """Refuse, before Hydra reads any of it, what the command line has Hydra do that could run a stranger's code.

    Args:
        words: the command line, without the program's name.

    Raises:
        Refused: for that, and for options below `--config-dir` that set what a file may not.
    """
    asked = allowlist.check_command_line(words)
    if asked.config_dir is None:
        return
    allow = allowed(asked.overrides)
    folder = Path(asked.config_dir).absolute()
    if not folder.is_dir():
        raise Refused(f"--config-dir {asked.config_dir} is not there: type a folder of options, such as loss/mine.yaml")
    allowlist.check_folder(asked.config_dir, allow)
    path = create_config_search_path(str(CONF))
    path.prepend("command-line", f"file://{folder}", anchor="schema")
    with hydra_ready():
        for where, content in foreign_files(ConfigLoaderImpl(path), asked.overrides):
            allowlist.check_file(where, content, allow, is_group)


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


def only_typed(words: Sequence[str]) -> list[str]:
    """Those of a command's words that a record may not hold, so that who goes on with a run types them again.

    >>> only_typed(["loss=mae", "logger.project=mine", "-m", "output_dir=runs"])
    ['logger.project=mine']
    """
    found = []
    for word in words:
        key = key_of(word)
        if "=" not in word or word.startswith("-") or key in ("allow", "ckpt", "output_dir") or "hydra" in key:
            continue
        try:
            check_typed_in("", [word], [])
        except Refused:
            found.append(word)
    return found


def check_dropped(cfg: DictConfig) -> None:
    """Refuse to go on with a run that would log elsewhere than it began, because its record may not say where.

    Raises:
        Refused: with what is to be typed again.
    """
    flat = {**flatten(cfg), **cfg.run.choices}
    again = [
        text
        for text in cfg.run.dropped
        if key_of(text).startswith("logger.")
        and key_of(text) in flat
        and shown(flat[key_of(text)]) != text.partition("=")[2]
    ]
    if again:
        words = " ".join(again)
        raise Refused(f"ckpt={cfg.ckpt} was begun with {words}, which counts only where you type it: type {words} too")


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
    for key in usual:
        rule = rule_of(key)
        if rule and key not in values and OmegaConf.is_dict(OmegaConf.select(cfg, key)):
            raise Refused(f"{key} takes one value and not several by name: it must be {rule[1]}")
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
                known = {*flatten(cfg), *cfg.run.choices}
        except (HydraException, OmegaConfBaseException, Refused):
            return f"{name} is not a setting; `--cfg job` prints them all"
        same = sorted(key for key in known if key.split(".")[-1] == name.split(".")[-1])
        hint = f"nearest: {', '.join(same)}" if same else nearest(name, known)
        return f"{name} is not a setting; {hint}; `--cfg job` prints them all"
    return text
