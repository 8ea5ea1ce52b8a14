"""Private parts of Hydra 1.3 and OmegaConf 2.3, for what their public functions do not offer."""

from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.defaults_list import create_defaults_list
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf

Loader = ConfigLoaderImpl  # reads options; its private methods are called below


def parse_command_line(words: Sequence[str]) -> Namespace:
    """Parse a command line as `hydra.main` does, before Hydra acts on it.

    The command line is checked before Hydra reads a file. If the parser goes: declare with argparse the flags that
    `losslab --hydra-help` lists.
    """
    return get_args_parser().parse_args(list(words))


def hydra_flags() -> list[str]:
    """List the flags that Hydra knows, such as `--multirun` and `-m`.

    `--key=value` of a W&B agent is a setting unless it is one of these. If the parser goes: write the flags down.
    """
    return [*get_args_parser()._option_string_actions]


def current_loader() -> Loader:
    """Return the loader that Hydra was initialized with, whose private methods are used below."""
    loader = GlobalHydra.instance().config_loader()
    assert isinstance(loader, Loader)
    return loader


def loader_for(catalogue: Path, own: Path) -> Loader:
    """Make a loader of the options in `catalogue` and, before these, in the folder of `--config-dir`.

    The user's options are checked before `hydra.main` reads them. If this goes: `hydra.initialize_config_dir` with
    `hydra.searchpath` as an override.
    """
    path = create_config_search_path(str(catalogue))
    path.prepend("command-line", f"file://{own}", anchor="schema")
    return Loader(path)


def is_group(key: str) -> bool:
    """Tell whether a key is a group of options.

    If the repository goes: `ConfigLoader.get_group_options(key)` is not empty, which lists the folder each time.
    """
    return current_loader().repository.group_exists(key)


def set_values(cfg: DictConfig, overrides: list[Override]) -> None:
    """Apply overrides of values to what Hydra has composed of the chosen options, in place.

    Composing the options takes a tenth of a second, and a sweep's runs choose the same ones. If this goes: compose
    each run whole by `hydra.compose`, which gives the same configuration.
    """
    current_loader()._apply_overrides_to_config(overrides, cfg)


def folders_of(loader: Loader) -> list[str]:
    """List the folders that a loader reads options from."""
    return [source.path.removeprefix("file://") for source in loader.get_sources() if source.scheme() == "file"]


class Files:
    """The files that take part in a composition.

    They are checked one by one: the composed configuration no longer tells which file set what. If one of the three
    calls goes: follow the `defaults` lists of the files by hand, as https://hydra.cc/docs/advanced/defaults_list/
    defines them.

    Args:
        loader: what reads the options.
        overrides: what chooses them.
    """

    def __init__(self, loader: Loader, overrides: Sequence[str]) -> None:
        self.loader = loader
        self.overrides, self.repo = loader._parse_overrides_and_create_caching_repo("config", list(overrides))
        self.folders = [s.path.removeprefix("file://") for s in self.repo.get_sources() if s.scheme() == "file"]

    def __iter__(self) -> Iterator[tuple[Path, str, Any]]:
        """Yield each file's folder, its option such as `loss/mae`, and what it sets in the whole configuration."""
        chosen = create_defaults_list(self.repo, "config", self.overrides, prepend_hydra=True, skip_missing=False)
        for default in chosen.defaults:
            if default.config_path is None:
                continue
            loaded = self.loader._load_single_config(default, self.repo)
            if loaded.path.startswith("file://"):
                content = OmegaConf.to_container(loaded.config, resolve=False)
                yield Path(loaded.path.removeprefix("file://")), default.config_path, content


def is_root(cfg: DictConfig) -> bool:
    """Tell whether a configuration is a whole one and not a part of another.

    References such as `${seed}` start at the root. If this goes: resolve them by OmegaConf, which is slow.
    """
    return cfg._get_parent() is None


def value_of(done: JobReturn) -> Any:
    """Return what a job of a multirun returned or raised.

    The public `return_value` raises the exception of a job that failed. If this goes: catch that exception.
    """
    return done._return_value


@contextmanager
def jobs_checked(check: Callable[[list[list[str]]], None]) -> Iterator[None]:
    """Hand the overrides of all jobs of a multirun to `check`, before Hydra writes a file or launches any of them.

    It wraps a method of the sweeper that Hydra makes. If that goes, a mistake is told when its job's turn comes.
    """
    plugins = Plugins.instance()
    instantiate = plugins.instantiate_sweeper

    def checking(*args: Any, **kwargs: Any) -> Any:
        sweeper: Any = instantiate(*args, **kwargs)
        if not hasattr(sweeper, "split_arguments"):
            return sweeper  # a search, which draws its jobs one after the other
        split = sweeper.split_arguments

        def split_and_check(*args: Any) -> list[list[list[str]]]:
            batches: list[list[list[str]]] = split(*args)
            check([job for batch in batches for job in batch])
            return batches

        sweeper.split_arguments = split_and_check
        return sweeper

    plugins.instantiate_sweeper = checking  # type: ignore[method-assign]
    try:
        yield
    finally:
        plugins.instantiate_sweeper = instantiate  # type: ignore[method-assign]


@contextmanager
def collect_returns() -> Iterator[list[Any]]:
    """Collect what the jobs of a multirun return: `hydra.main` drops it.

    It wraps `launch` of each launcher that Hydra makes. If that goes away, read the runs' folders from `output_dir`.
    """
    plugins, found = Plugins.instance(), []  # type: Plugins, list[Any]
    instantiate = plugins.instantiate_launcher

    def collecting(*args: Any, **kwargs: Any) -> Any:
        launcher = instantiate(*args, **kwargs)
        launch = launcher.launch

        def launch_and_collect(*args: Any, **kwargs: Any) -> Any:
            returns = launch(*args, **kwargs)
            found.extend(each._return_value for each in returns if each.status == JobStatus.COMPLETED)
            return returns

        launcher.launch = launch_and_collect  # type: ignore[method-assign]
        return launcher

    plugins.instantiate_launcher = collecting  # type: ignore[method-assign]
    try:
        yield found
    finally:
        plugins.instantiate_launcher = instantiate  # type: ignore[method-assign]
