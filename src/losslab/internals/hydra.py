"""Private parts of Hydra 1.3 and OmegaConf 2.3, for what their public functions do not offer."""

import pickle
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Any

from hydra._internal import defaults_list
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, IConfigRepository
from hydra._internal.defaults_list import DefaultsList, create_defaults_list
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.default_element import InputDefault
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.config_source import ConfigResult
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

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


class ParsedOnce(CachingConfigRepository):
    """Options' files as a loader reads them, each parsed once for all compositions that share `parsed`.

    Hydra parses all of them anew for each composition, in pure Python. If this goes: use the repository that
    `_parse_overrides_and_create_caching_repo` returns.

    Args:
        repository: what reads the files; it stays as it is.
        parsed: what has been read, by option; pickled, as compositions change it.
    """

    def __init__(self, repository: IConfigRepository, parsed: dict[str, bytes]) -> None:
        self.delegate, self.parsed = copy(repository), parsed
        self.cache: dict[str, ConfigResult | None] = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Read an option such as `loss/mae`; `None` if it is not there."""
        if config_path not in self.cache:
            if config_path not in self.parsed:
                self.parsed[config_path] = pickle.dumps(self.delegate.load_config(config_path))
            self.cache[config_path] = pickle.loads(self.parsed[config_path])
        return self.cache[config_path]


class Composition:
    """What Hydra composes of the options that are chosen: which files take part, and what they give together.

    The files are checked one by one: the composed configuration no longer tells which file set what. And Hydra's own
    `compose` takes five times as long. If one of these calls goes: use `hydra.compose`, and follow the `defaults` lists
    of the files by hand, as https://hydra.cc/docs/advanced/defaults_list/ defines them.

    Args:
        parsed: what has been read of the same files already.
    """

    def __init__(self, loader: Loader, overrides: Sequence[str], parsed: dict[str, bytes]) -> None:
        self.loader = loader
        self.overrides = OverridesParser.create().parse_overrides(list(overrides))
        self.repo = ParsedOnce(loader.repository, parsed)
        loader._process_config_searchpath("config", self.overrides, self.repo)
        self.folders = [s.path.removeprefix("file://") for s in self.repo.get_sources() if s.scheme() == "file"]

    @cached_property
    def chosen(self) -> DefaultsList:
        """The files that take part, in their order."""
        return create_defaults_list(self.repo, "config", self.overrides, prepend_hydra=True, skip_missing=False)

    def read_files(self) -> Iterator[tuple[Path, str, Any]]:
        """Yield each file's folder, its option such as `loss/mae`, and what it sets in the whole configuration."""
        for default in self.chosen.defaults:
            if default.config_path is None:
                continue
            loaded = self.loader._load_single_config(default, self.repo)
            if loaded.path.startswith("file://"):
                content = OmegaConf.to_container(loaded.config, resolve=False)
                yield Path(loaded.path.removeprefix("file://")), default.config_path, content

    def compose(self) -> tuple[DictConfig, dict[str, str | None]]:
        """Compose the configuration, without Hydra's own part; return it and the option chosen in each group."""
        self.loader.validate_sweep_overrides_legal(self.overrides, RunMode.RUN, from_shell=False)
        whole = len(self.folders) > 1 or any(each.is_hydra_override() for each in self.overrides)
        files = [each for each in self.chosen.defaults if whole or not str(each.config_path).startswith("hydra/")]
        cfg = self.loader._compose_config_from_defaults_list(files, self.repo)
        OmegaConf.set_struct(cfg, True)
        self.loader._apply_overrides_to_config(self.chosen.config_overrides, cfg)
        with open_dict(cfg):
            cfg.pop("hydra", None)
        return cfg, self.chosen.overrides.known_choices


def map_choices(overrides: Any, defaults: list[InputDefault], self_added: bool) -> DictConfig:
    """Map the choices for the references in one `defaults` list, if it has any.

    Hydra makes such a map for every file, which took a third of a composition. If it no longer does: delete this.
    """
    refers = any(each.is_interpolation() for each in defaults)
    return map_all_choices(overrides, defaults, self_added) if refers else OmegaConf.create()


map_all_choices = defaults_list._create_interpolation_map
defaults_list._create_interpolation_map = map_choices  # type: ignore[assignment]


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


def compose_nothing(loader: ConfigLoader) -> None:
    """Keep a sweeper from composing each run to see whether that works, where the launcher composes all of them first.

    That takes a tenth of a second a run, more than all else that a run of a stack costs. If the method goes, they are
    composed twice.
    """
    vars(loader)["load_sweep_config"] = lambda master_config, sweep_overrides: master_config


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
