"""losslab: which loss and which optimizer are better for my task, and is the difference real?

    import losslab
    result = losslab.run(data=frame, target="price", loss="mae")
    found = losslab.sweep(data=frame, target="price", loss=["mae", "mse"], seed=range(5))
    losslab.compare(found)

`losslab.run`, `sweep`, `race`, `compare` and `predict` do what the commands of these names do; see `losslab.api`.
"""

import os
import sys
from inspect import Signature, signature
from types import ModuleType
from typing import TYPE_CHECKING, Any

from losslab.internals import late

if TYPE_CHECKING:
    from losslab.api import Comparison, Result, Sweep, compare, race, run, sweep  # predict is typed as its module
    from losslab.errors import Refused

# Set before torch is imported. Its threads would spin for milliseconds, and take the cores that other processes need.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")

__version__ = "0.1.0"
__all__ = ["Comparison", "Refused", "Result", "Sweep", "compare", "predict", "race", "run", "sweep"]


class Command(ModuleType):
    """A module of a command's name, which may be called: `losslab.sweep` holds the code, and `losslab.sweep()` runs it.

    Python sets `losslab.sweep` to the module whenever something of it is imported, so a function could not stay there.
    """

    def __call__(self, *args: Any, **settings: Any) -> Any:
        from losslab import api

        return getattr(api, self.__name__.rpartition(".")[2])(*args, **settings)

    @property
    def __signature__(self) -> Signature:
        from losslab import api

        return signature(getattr(api, self.__name__.rpartition(".")[2]))


class Package(ModuleType):
    """losslab itself: imports what is asked for when it is asked for, so that `import losslab` takes no time."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and type(value) is ModuleType:
            value.__class__ = Command
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        if name not in __all__:
            raise AttributeError(f"module 'losslab' has no attribute '{name}'")
        from importlib import import_module

        if name in ("sweep", "race", "compare", "predict"):
            return import_module(f"losslab.{name}")
        return getattr(import_module("losslab.errors" if name == "Refused" else "losslab.api"), name)


sys.modules[__name__].__class__ = Package
late.install()
