"""Load large packages when they are first used, not when torch and Lightning import them.

Lightning takes two classes from torchmetrics, whose package imports torchvision and SciPy, and these two matplotlib.
Each optimizer of torch asks torch's compiler to keep out of functions that nobody compiles. Together they are two
fifths of a run's imports. Here they are imported as packages that have a few names so far; any other name loads the
rest.

If one of these names goes, its package is loaded at once, and a start takes as long as without this file.
"""

import sys
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder
from threading import RLock
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.abc import Loader

COMPILER, METRICS, PLOTS = "torch._dynamo", "torchmetrics", "torchmetrics.utilities.plot"
# parts that do not need their package: torch itself sets `torch._inductor.config.deterministic`
ALONE = {COMPILER: (), "torch._inductor": ("torch._inductor.config", "torch._inductor.custom_graph_pass")}
KNOWN = "1.9."  # the torchmetrics that needs no more of itself than is offered here
WITHIN = {"Metric": "torchmetrics.metric", "MetricCollection": "torchmetrics.collections"}

LATE = "__late__"  # in a package whose own code has not begun

loading = RLock()


class LatePackage(ModuleType):
    """A package of which only some names exist until another one is asked for."""

    def __getattr__(self, name: str) -> Any:
        if self.__name__ == METRICS and name in WITHIN:
            import_module("torchmetrics.utilities")  # or the two would import each other
            return getattr(import_module(WITHIN[name]), name)
        if name.startswith("__") and name != "__all__":  # Python's own, which modules need not have
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        load(self)
        return ModuleType.__getattribute__(self, name)


def load(package: ModuleType) -> None:
    """Run a late package's own `__init__.py`, once; other threads wait, and its own code sees what it has so far."""
    with loading:
        if vars(package).pop(LATE, False):
            assert package.__spec__
            assert package.__spec__.loader
            try:
                package.__spec__.loader.exec_module(package)
            except BaseException:
                vars(package)[LATE] = True  # the next one to ask tries again
                raise
            package.__class__ = ModuleType


class LateLoader:
    """Makes a package and leaves its code for later."""

    def __init__(self, own: "Loader") -> None:
        self.own = own

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Make the package, which Python then gives its path."""
        return LatePackage(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Give the package its own loader back, and the names that it has until it is loaded."""
        assert module.__spec__
        module.__spec__.loader = module.__loader__ = self.own
        if module.__name__ == COMPILER:
            vars(module).update(disable=disable, graph_break=graph_break, OptimizedModule=OptimizedModule)
        elif module.__name__ == METRICS:
            from logging import getLogger

            vars(module).update(_logger=getLogger(METRICS), __version__=metrics_version())
        elif module.__name__ == PLOTS:
            vars(module).update(_AX_TYPE=Any, _PLOT_OUT_TYPE=Any, plot_single_or_multi_val=plot)
        vars(module)[LATE] = True


class Loaded:
    """Hands out a module that its package has imported by itself."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """Return the module."""
        self.module = sys.modules[spec.name]
        self.spec = self.module.__spec__
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        """Undo what Python has set; the module's code has run."""
        module.__spec__ = self.spec


class LateFinder:
    """Finds the packages before Python does, and loads the compiler when a part of it is imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """Return how to import a late package; `None` leaves it to Python."""
        if name in ALONE or (name in (METRICS, PLOTS) and metrics_version().startswith(KNOWN)):
            spec = PathFinder.find_spec(name, path)
            if spec is not None and spec.loader is not None:
                spec.loader = LateLoader(spec.loader)  # type: ignore[assignment]  # it has what Python calls
            return spec
        parent = ".".join(name.split(".")[:2])
        package = sys.modules.get(parent)
        if type(package) is LatePackage and name not in ALONE.get(parent, (name,)):
            load(package)
            return ModuleSpec(name, Loaded()) if name in sys.modules else None  # type: ignore[arg-type]
        return None


def plot(*args: Any, **kwargs: Any) -> Any:
    """Draw a metric by matplotlib, which is loaded for it: `plot_single_or_multi_val` until something else loads it."""
    plots = sys.modules[PLOTS]
    load(plots)
    return plots.plot_single_or_multi_val(*args, **kwargs)


def metrics_version() -> str:
    """Return torchmetrics' version, read from its metadata."""
    from importlib.metadata import version

    return version(METRICS)


def compiler() -> Any:
    """Return torch's compiler if something has loaded it; a function that it compiles runs only then."""
    package = sys.modules.get(COMPILER)
    return None if package is None or type(package) is LatePackage else package


def disable(fn: Callable[..., Any] | None = None, recursive: bool = True, **options: Any) -> Callable[..., Any]:
    """Keep the compiler out of a function, once there is a compiler: `torch._dynamo.disable` until it is loaded."""
    if fn is None:
        return lambda fn: disable(fn, recursive, **options)
    own: list[Callable[..., Any]] = []

    @wraps(fn)
    def outside(*args: Any, **kwargs: Any) -> Any:
        if not own and (loaded := compiler()):
            own.append(loaded.disable(fn, recursive, **options))
        return (own or [fn])[0](*args, **kwargs)

    return outside


def graph_break() -> None:
    """Do nothing, as `torch._dynamo.graph_break` where nothing is compiled."""


class CompiledType(type):
    """Asks the compiler, where it is loaded, for what `isinstance` asks."""

    def __instancecheck__(cls, instance: object) -> bool:
        loaded = compiler()
        return loaded is not None and isinstance(instance, loaded.OptimizedModule)


class OptimizedModule(metaclass=CompiledType):
    """Stands for the class of compiled modules, of which there are none before the compiler is loaded."""


def install() -> None:
    """Import these packages late from now on, unless they are imported already."""
    if not any(isinstance(finder, LateFinder) for finder in sys.meta_path):
        sys.meta_path.insert(0, LateFinder())
