"""What a stranger's configuration may not do: name code that the user did not allow, speak to Hydra, or hold a secret.

A configuration is text, but `_target_` names what is imported and called. Options may come from a folder, a record
beside a checkpoint or a command that somebody else wrote, so all of them are read as a stranger's; only what the user
types as `allow` widens what they may name. Nothing here imports torch.
"""

import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from inspect import isclass, isfunction
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from losslab.errors import Refused, listed

# what makes losses, models and their like, and neither reads files nor runs what it is told
ALLOWED = (
    "losslab.data.dataset.arrays",
    "losslab.losses",
    "losslab.models",
    "losslab.optimizers",
    "losslab.schedules",
    "pytorch_lightning.callbacks",
    "pytorch_lightning.loggers",
    "pytorch_optimizer",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "torchvision.ops",
    "torchvision.transforms",
)
SECRET = re.compile(r"(?:.*[._])?(?:api_?key|password|secret)|logger\.(?:.*[._])?(?:key|token)", re.IGNORECASE)
SECRETS = re.compile(r".*_(?:KEY|TOKEN|PASSWORD|SECRET)")  # variables of the environment
SERVER = re.compile(r"logger\.(?:.*\.)?(?:base_url|host)")
INSTEAD = "set WANDB_API_KEY in the environment, or run `wandb login` once"


def within(name: str, packages: Sequence[str]) -> bool:
    """Whether a dotted name is one of these or lies below one.

    >>> within("torch.nn.MSELoss", ["torch.nn"]), within("torch.nnx", ["torch.nn"])
    (True, False)
    """
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@cache
def catalogued() -> frozenset[str]:
    """What the options that come with losslab name."""
    from losslab.door import CONF

    files = (file.read_text() for file in CONF.rglob("*.yaml"))
    return frozenset(name for text in files for name in re.findall(r"\b_target_: *['\"]?([\w.]+)", text))


def targets(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every `_target_` at or below a node, and the key that it stands under.

    >>> list(targets({"a": [{"_target_": "os.system"}]}, "data"))
    [('data.a.0._target_', 'os.system')]
    """
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in below:
        where = f"{path}.{key}" if path else str(key)
        if key == "_target_":
            yield where, str(value)
        else:
            yield from targets(value, where)


def named(key: str, target: str, allow: Sequence[str]) -> None:
    """Refuse what a `_target_` names where it is outside of what is allowed; by its name, before it is imported."""
    if not within(target, [*ALLOWED, *allow]) and target not in catalogued():
        raise Refused(
            f"{key}={target} is code that options may not name unless you allow it: if you trust it, type "
            f"allow={target.partition('.')[0]}"
        )


def vouched(cfg: DictConfig, option: Any, path: str) -> None:
    """Refuse an option that names anything but classes and functions of what is allowed, found out by importing it.

    `torch.nn.functional.torch.hub.load` begins like a name that is allowed, and is another module's function.
    """
    allow = cfg.get("allow", [])  # a drawing of optimizers has no such setting
    for key, target in targets(option, path):
        named(key, target, allow)
        if within(target, allow) or target in catalogued():
            continue
        module, _, name = target.rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise Refused(f"{key}={target} is not there ({error}): type a class or function of a module") from None
        if not (isclass(found) or isfunction(found)) or not within(f"{found.__module__}.{name}", ALLOWED):
            raise Refused(f"{key}={target} is no class or function of {module}'s own: type where it is defined")


def checked(cfg: DictConfig, typed: bool) -> None:
    """Refuse a configuration that names code outside of what is allowed, or holds a secret; `allow` becomes a list.

    Args:
        cfg: all of it.
        typed: whether the user typed `allow`; it counts from nowhere else.
    """
    cfg.allow = ([cfg.allow] if isinstance(cfg.allow, str) else list(cfg.allow or [])) if typed else []
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    plain.pop("run")
    for key, target in targets(plain, ""):
        named(key, target, cfg.allow)
    secrets = held()
    for key, value in leaves(plain, ""):
        if SERVER.fullmatch(key) and value is not None:
            raise Refused(f"{key} would send your key to another server: set WANDB_BASE_URL, or leave it out")
        if SECRET.fullmatch(key) and isinstance(value, str):
            raise Refused(f"{key} would be written into the run's record: {INSTEAD}")
        for name, secret in secrets.items():
            if secret in str(value):
                raise Refused(f"{key} holds what {name} holds, which would be written into the run's record: leave it")


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Every value below a node, and its key."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def held() -> dict[str, str]:
    """The secrets that the environment holds, by the names of their variables."""
    return {name: value for name, value in os.environ.items() if SECRETS.fullmatch(name) and len(value) >= 8}


def public(words: Sequence[str]) -> None:
    """Refuse a secret on the command line, before anything repeats it: the value is not told."""
    secrets = held().values()
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if SECRET.fullmatch(key) or any(secret in word for secret in secrets):
            raise Refused(f"{key} holds a secret, which would be written into the run's record: {INSTEAD}")


def front() -> None:
    """Refuse, before Hydra reads any of it, what the command line has Hydra do that could run a stranger's code."""
    from hydra._internal.utils import get_args_parser

    asked = get_args_parser().parse_args()
    public(asked.overrides)
    allow = [name for text in asked.overrides if text.startswith("allow=") for name in listed(text[6:].strip("'\""))]
    if asked.experimental_rerun:
        raise Refused("--experimental-rerun would run what is pickled in a file: type the settings instead")
    if asked.config_path or asked.config_name or any("hydra.searchpath" in text for text in asked.overrides):
        raise Refused("options of your own come from one folder: type --config-dir FOLDER")
    if asked.config_dir is None or "hydra" in allow:
        return
    found = (Path(below, name) for below, _, names in os.walk(asked.config_dir, followlinks=True) for name in names)
    for file in sorted(file for file in found if file.suffix == ".yaml"):
        if steers_hydra(file, Path(asked.config_dir)):
            raise Refused(
                f"{file} sets more of Hydra than hydra.mode and hydra.sweeper.params, which could run any code: "
                "if you trust it, type allow=hydra"
            )


def steers_hydra(file: Path, folder: Path) -> bool:
    """Whether an option reaches beyond its own keys into Hydra's: its callbacks, logging, launcher, or environment.

    Options may choose a sweep, `hydra.mode` and `hydra.sweeper.params`, but not what it allows.
    """
    text = file.read_text()
    try:
        option = yaml.safe_load(text) or {}
    except yaml.YAMLError:
        return True  # what reads it otherwise than we do
    if not isinstance(option, dict):
        return False
    package = " ".join(re.findall(r"@package.*", text))
    chosen = option.get("defaults") or []
    groups = [str(key) for entry in chosen for key in (entry if isinstance(entry, dict) else [entry])]
    if "hydra" in f"{package} {chosen}" or file.relative_to(folder).parts[0] == "hydra":
        return True
    if ".." in str(chosen) or any("${" in group for group in groups):
        return True  # what it chooses cannot be told from here
    own = option.get("hydra", {})
    if not isinstance(own, dict) or not set(own) <= {"mode", "sweeper"}:
        return True
    sweeper = own.get("sweeper", {})
    if (
        not isinstance(sweeper, dict)
        or not set(sweeper) <= {"params"}
        or not isinstance(sweeper.get("params", {}), dict)
    ):
        return True
    keys = [str(key).lstrip("+~") for key in sweeper.get("params", {})]
    return any(key.partition("=")[0] == "allow" or "hydra" in key for key in keys)
