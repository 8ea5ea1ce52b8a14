"""A configuration as rows of dotted keys: what is recorded, compared, and typed."""

import copy
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf

from losslab.internals.hydra import is_root

FILLED_IN = re.compile(r"\$\{run\.(?!choices)")  # refers to what is known when the run has started
REFERENCE = re.compile(r"\$\{(\w+(?:\.\w+)*)\}")
EXCLUDED = (  # settings that change no number of a run: where it writes, what it says, how it is kept and read
    *("output_dir", "ckpt", "resume", "allow", "logger", "trainer.enable_progress_bar", "callbacks.last"),
    "trainer.cuda_graphs",
    *("hydra.searchpath", "data.cache", "data.cache_gb", "data.workers", "threads"),
    *("loss.per", "task.truth", "data.truth"),  # they follow from the option
)


def excluded_from_name(key: str) -> bool:
    """Tell whether a setting changes no number of a run, and so is no part of its name.

    >>> excluded_from_name("logger.mode"), excluded_from_name("optimizer.lr")
    (True, False)
    """
    key = re.sub(r"^loss\.parts\.[^.]+", "loss", key)
    return any(key == name or key.startswith((f"{name}=", f"{name}.")) for name in EXCLUDED)


def flatten(cfg: DictConfig) -> dict[str, Any]:
    """List every setting by its dotted key, as it is typed. Lists stay whole, and `run` is left out.

    >>> flatten(OmegaConf.create({"optimizer": {"lr": 0.1, "betas": [0.9, 0.99]}, "same": "${optimizer.lr}"}))
    {'optimizer.lr': 0.1, 'optimizer.betas': [0.9, 0.99], 'same': 0.1}
    """
    flat: dict[str, Any] = {}

    def walk(nodes: dict[Any, Any], path: tuple[Any, ...]) -> None:
        for key, value in nodes.items():
            if isinstance(value, dict):
                walk(value, (*path, key))
            else:
                flat[".".join(map(str, (*path, key)))] = value

    walk(resolve(cfg), ())
    return flat


def resolve(cfg: DictConfig, whole: bool = False) -> dict[str, Any]:
    """Copy a configuration without `run`, with what its references refer to.

    OmegaConf would parse each reference such as `${seed}` anew, which took most of a start. So simple references are
    looked up in a plain copy, and OmegaConf resolves the others.

    Args:
        cfg: the configuration.
        whole: whether to keep the rest of a text that refers to what a run fills in when it starts; else it is `None`.
    """
    plain: Any = OmegaConf.to_container(cfg)
    resolver = Resolver(cfg, plain if is_root(cfg) else {}, whole)
    return {key: resolver.resolve(value, (key,)) for key, value in plain.items() if key != "run"}


class Resolver:
    """Resolves the references in a configuration's values.

    Args:
        root: a plain copy of it; empty where it is a part of another, as references start at the root.
        whole: whether to keep the rest of a text that refers to what a run fills in later.
    """

    def __init__(self, cfg: DictConfig, root: dict[Any, Any], whole: bool) -> None:
        self.cfg, self.root, self.whole = cfg, root, whole

    def resolve(self, value: Any, path: tuple[Any, ...]) -> Any:
        """Resolve a value that stands at `path`."""
        if isinstance(value, dict):
            return {key: self.resolve(each, (*path, key)) for key, each in value.items()}
        if isinstance(value, list):
            return [self.resolve(each, (*path, number)) for number, each in enumerate(value)]
        if not isinstance(value, str) or "${" not in value:
            return value
        if not self.whole and FILLED_IN.search(value):
            return None
        alone = REFERENCE.fullmatch(value)
        found = self.look_up(alone) if alone else REFERENCE.sub(lambda match: str(self.look_up(match)), value)
        if "${" not in str(found) and "\\" not in value:
            return copy.deepcopy(found)  # shared lists would become aliases in YAML
        node: Any = self.cfg  # OmegaConf knows escapes, environment variables, and what stands above `cfg`
        for key in path:
            node = node[key]
        return OmegaConf.to_container(node, resolve=True) if OmegaConf.is_config(node) else node

    def look_up(self, match: re.Match[str]) -> Any:
        """Look a reference up in the plain copy; `${` where it is not there."""
        node: Any = self.root
        for key in match[1].split("."):
            node = node.get(key, "${") if isinstance(node, dict) else "${"
        return node
