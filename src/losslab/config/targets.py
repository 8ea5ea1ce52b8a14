"""The code that options name by `_target_`: which of it is allowed, and where the user's own packages are found.

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

# Modules that make losses, models and the like. They read and write no files and run no code that is handed to them.
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
CODE = {
    "callbacks": (*PURE, "pytorch_lightning.callbacks", "losslab.training.callbacks.SameBatch"),
    "logger": (*PURE, "pytorch_lightning.loggers"),
    "trainer": (*PURE, "losslab.training.callbacks.Profile"),
}
SETTING = "setting:"  # in `allow`, it precedes a setting; all else there is a package


class AllowedPackages(MetaPathFinder):
    """Finds allowed packages in the folder where the command was typed, and nothing else there.

    Python asks it last, so that nothing in the folder shadows an installed module. While an allowed package is
    imported, the other modules of the folder are found too.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.given = folder
        self.folder = ""
        self.allow: set[str] = set()
        self.importing = 0

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Find a module; Python calls this if no other finder has found it."""
        if path is not None or not (self.importing or name in self.allow):
            return None
        return PathFinder.find_spec(name, [self.folder])

    def load(self, packages: Sequence[str]) -> None:
        """Import those of the packages that are in the folder.

        Raises:
            Refused: if one of them cannot be imported.
        """
        self.folder = str(self.given or Path.cwd())
        sys.meta_path[:] = [*(finder for finder in sys.meta_path if finder is not self), self]
        self.allow |= set(packages)
        self.importing += 1
        try:
            for name in packages:
                if name not in sys.modules and PathFinder.find_spec(name, [self.folder]):
                    import_module(name)
        except Exception as error:  # the user's own code may raise anything
            why = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise Refused(f"allow={name}: {name} in {self.folder} cannot be imported ({why}): correct it") from error
        finally:
            self.importing -= 1


package_finder = AllowedPackages()


def is_within(name: str, names: Iterable[str]) -> bool:
    """Tell whether a dotted name is one of these or below one.

    >>> is_within("torch.nn.MSELoss", ["torch.nn"]), is_within("torch.nnx", ["torch.nn"])
    (True, False)
    """
    return any(name == other or name.startswith(f"{other}.") for other in names)


def allowed_packages(allow: Iterable[str]) -> list[str]:
    """List the packages in `allow`, without the settings."""
    return [name for name in allow if not name.startswith(SETTING)]


@cache
def catalogue_targets(group: str) -> frozenset[str]:
    """List the code that losslab's own options of a group, and its experiments, name."""
    files = [file for folder in (group, "experiment") for file in (CONF / folder).rglob("*.yaml")]
    texts = [file.read_text(encoding="utf-8") for file in files]
    return frozenset(name for text in texts for name in re.findall(r"\b_target_: *['\"]?([\w.]+)", text))


def find_targets(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Yield every `_target_` at or below a node, and its key.

    >>> list(find_targets({"a": [{"_target_": "os.system"}]}, "data"))
    [('data.a.0._target_', 'os.system')]
    """
    below = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in below:
        where = f"{path}.{key}" if path else str(key)
        if key == "_target_":
            yield where, str(value)
        else:
            yield from find_targets(value, where)


def find_values(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every value below a node, and its key."""
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from find_values(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, node


def check_target_name(key: str, target: str, allow: Sequence[str]) -> None:
    """Refuse code that is not allowed, by its name, before anything is imported."""
    if not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", target):
        raise Refused(f"{key}={target} names no code: type a class or function, such as torch.nn.L1Loss")
    group = key.partition(".")[0]
    # data sets write into their cache, so code of theirs may stand at `data._target_` alone
    ours = target in catalogue_targets(group) and (group != "data" or key == "data._target_")
    if not is_within(target, [*CODE.get(group, PURE), *allowed_packages(allow)]) and not ours:
        raise Refused(
            f"{key}={target} is code that options may not name unless you allow it: if you trust it, type "
            f"allow={target.partition('.')[0]}"
        )


def check_targets(cfg: DictConfig, option: Any, path: str) -> None:
    """Refuse an option that names anything but classes and functions defined in allowed modules, by importing them.

    `torch.nn.functional.torch.hub.load` begins like an allowed name and is another module's function. Packages of the
    user's own are imported from the folder where the command was typed, if they are there.
    """
    allow = cfg.get("allow", [])  # `losslab paths` has no such setting
    for key, target in find_targets(option, path):
        check_target_name(key, target, allow)
        group = key.partition(".")[0]
        if is_within(target, allowed_packages(allow)):
            package_finder.load([target.partition(".")[0]])
            continue
        if target in catalogue_targets(group):
            continue
        module, _, name = target.rpartition(".")
        try:
            found = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise Refused(f"{key}={target} is not there ({error}): type a class or function of a module") from None
        defined = CODE.get(group, PURE)
        if not (isclass(found) or isfunction(found)) or not is_within(f"{found.__module__}.{name}", defined):
            raise Refused(f"{key}={target} is no class or function of {module}'s own: type where it is defined")
