"""The front door: from what the user typed to a configuration that is known to be right.

Nothing here imports torch, so a mistake is answered in under a second and before anything is written.
"""

import copy
import os
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from losslab.config import allowlist, credentials
from losslab.config.arguments import key_of, quoted, shown, spelled_out
from losslab.config.catalogue import CONF, called, fits, options
from losslab.config.compose import allowed, composed, foreign_files, hydra_ready, loss_paths, recorded
from losslab.config.ranges import RULES, number
from losslab.errors import Refused, nearest
from losslab.files import writable_folder
from losslab.internals.hydra import is_group, is_root, loader_for


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
    credentials.check_secrets(overrides)
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
            OmegaConf.set_readonly(cfg, True)
        except (HydraException, OmegaConfBaseException) as error:
            raise Refused(explain(error, overrides)) from error
        except OSError as error:  # such as a name that is too long
            raise Refused(f"{str(error.filename)[:200]} cannot be read: {error.strerror}") from error
    return cfg


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
    with hydra_ready():
        for where, content in foreign_files(loader_for(CONF, folder), asked.overrides):
            allowlist.check_file(where, content, allow, is_group)


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
        if not wanted.get("input") or not wanted.get("target"):
            raise Refused(f"loss={name} does not say what it wants: its file needs input: prediction and target: dense")
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


def check_launch(cfg: DictConfig) -> None:
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
    root = plain if is_root(cfg) else {}

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
