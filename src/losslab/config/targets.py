"""The code that options name by `_target_`: which of it is on the list, and where packages that the user allows lie.

Nothing here imports torch before a target has been checked by its name.
"""

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from inspect import isclass, isfunction
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig

from losslab.config.catalogue import CONF
from losslab.errors import Refused

# Code that makes losses, models and their like, and neither reads nor writes files nor runs what it is told.
PURE = (
    "losslab.data.dataset.arrays",
    "losslab.losses",
    "losslab.models",
    "losslab.optim.optimizers",
    "losslab.optim.schedules",
    "pytorch_optimizer",
    "torch.nn",
    "torch.optim",
    "torchvision.models",
    "torchvision.ops",
    "torchvision.transforms",
)
CODE = {"callbacks": (*PURE, "pytorch_lightning.callbacks"), "logger": (*PURE, "pytorch_lightning.loggers")}
SETTING = "setting:"  # what `allow` begins with to name a setting instead of a package


class AllowedHere(MetaPathFinder):
    """Finds the packages that the user allows in the folder where the command was typed, and nothing else there.

    It is asked last, so nothing there takes the place of what is installed. While such a package is imported, the other
    modules of the folder count too.

    Args:
        folder: that folder; the current one when `None`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.given = folder
        self.folder = ""
        self.allow: set[str] = set()
        self.importing = 0

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """What Python calls for a module that no other finder has found."""
        if path is not None or not (self.importing or name in self.allow):
            return None
        return PathFinder.find_spec(name, [self.folder])

    def load(self, packages: Sequence[str]) -> None:
        """Import packages that the user allows, as far as they are in the folder.

        Raises:
            Refused: where one of them cannot be imported.
        """
        self.folder = str(self.given or Path.cwd())
        sys.meta_path[:] = [*(finder for finder in sys.meta_path if finder is not self), self]
        self.allow |= set(packages)
        self.importing += 1
        try:
            for name in packages:
                if name not in sys.modules and PathFinder.find_spec(name, [self.folder]):
                    import_module(name)
        except Exception as error:  # whatever the user's own code raises
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise Refused(f"allow={name}: {name} in {self.folder} cannot be imported ({why}): correct it") from error
        finally:
            self.importing -= 1


here = AllowedHere()


def within(name: str, names: Iterable[str]) -> bool:
    """Whether a dotted name is one of these or lies below one.

    >>> within("torch.nn.MSELoss", ["torch.nn"]), within("torch.nnx", ["torch.nn"])
    (True, False)
    """
    return any(name == other or name.startswith(f"{other}.") for other in names)


def packages(allow: Iterable[str]) -> list[str]:
    """The packages that the user allows, without the settings."""
    return [name for name in allow if not name.startswith(SETTING)]


@cache
def catalogued(group: str) -> frozenset[str]:
    """The code that the options of one group, and experiments, name in the catalogue that comes with losslab."""
    files = [file for folder in (group, "experiment") for file in (CONF / folder).rglob("*.yaml")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return frozenset(name for text in texts for name in re.findall(r"\b_target_: *['\"]?([\w.]+)", text))


def targets(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield every `_target_` at or below a node, and the key that it stands under.

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


def leaves(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every value below a node, and its key."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from leaves(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def check_name(key: str, target: str, allow: Sequence[str]) -> None:
    """Refuse code that is not on the list, by its name, before anything is imported."""
    if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", target):
        raise Refused(f"{key}={target} names no code: type a class or function, such as torch.nn.L1Loss")
    group = key.partition(".")[0]
    ours = target in catalogued(group) and (group != "data" or key == "data._target_")  # data sets write where they lie
    if not within(target, [*CODE.get(group, PURE), *packages(allow)]) and not ours:
        raise Refused(
            f"{key}={target} is code that options may not name unless you allow it: if you trust it, type "
            f"allow={target.partition('.')[0]}"
        )


def check_targets(cfg: DictConfig, option: Any, path: str) -> None:
    """Refuse an option that names anything but classes and functions of the modules on the list, by importing them.

    Packages that the user allows are imported from the folder where the command was typed, if they are there.

    `torch.nn.functional.torch.hub.load` begins like a name that is allowed, and is another module's function.
    """
    allow = cfg.get("allow", [])  # a drawing of optimizers has no such setting
    for key, target in targets(option, path):
        check_name(key, target, allow)
        group = key.partition(".")[0]
        if within(target, packages(allow)):
            here.load([target.partition(".")[0]])
            continue
        if target in catalogued(group):
            continue
        module, _, name = target.rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise Refused(f"{key}={target} is not there ({error}): type a class or function of a module") from None
        defined = CODE.get(group, PURE)
        if not (isclass(found) or isfunction(found)) or not within(f"{found.__module__}.{name}", defined):
            raise Refused(f"{key}={target} is no class or function of {module}'s own: type where it is defined")
