"""What is checked of a command line before Hydra reads any of it."""

import io
import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from contextlib import redirect_stderr
from pathlib import Path

from omegaconf import OmegaConf

from losslab import __version__
from losslab.config import allowlist
from losslab.config.arguments import (
    add_search,
    as_overrides,
    expand_sum,
    hide_sum,
    key_of,
    open_keys,
    quote_names,
    quote_option,
)
from losslab.config.catalogue import CONF, check_size, find_yaml_files
from losslab.config.compose import check_words, hydra_ready, parse_allow, read_foreign_files
from losslab.config.credentials import check_secrets
from losslab.errors import Refused, yaml_fault
from losslab.internals.hydra import Composition, is_group, loader_for, parse_command_line

MULTIRUN = {"-m", "--multirun"}
KEY = re.compile(r"[+~]{0,2}[A-Za-z_][\w-]*(?:[./][\w-]+)*(?:@[\w.:-]+)?(?:=|\Z)")


def rewrite_arguments() -> None:
    """Turn what was typed into overrides that Hydra reads as they were meant."""
    if "--version" in sys.argv[1:]:
        sys.exit(print(f"losslab {__version__}"))
    multirun = bool(MULTIRUN & set(sys.argv))
    typed = sorted(sys.argv[1:], key=lambda word: word not in MULTIRUN)  # Hydra reads no settings after others and it
    words = [quote_names(text, multirun) for text in as_overrides(typed)]
    sys.argv[1:] = open_keys([add_search(quote_option(text)) for text in words])
    check_command_line(sys.argv[1:])
    if multirun:  # each job of a sweep is spelled out when its turn comes
        sys.argv[1:] = [hide_sum(text) for text in sys.argv[1:]]
    else:
        sys.argv[1:] = [spelled for text in sys.argv[1:] for spelled in expand_sum(text)]


def check_command_line(words: Sequence[str]) -> None:
    """Refuse what would have Hydra run a stranger's code.

    Raises:
        Refused: for that, and for options below `--config-dir` that set what a file may not.
    """
    asked = parse_safely(words)
    tell_twice(asked.overrides)
    if asked.config_dir is None:
        with hydra_ready():
            check_words(asked.overrides)
        return
    allow = parse_allow(asked.overrides)
    folder = Path(asked.config_dir).absolute()
    if not folder.is_dir():
        raise Refused(f"--config-dir {asked.config_dir} is not there: type a folder of options, such as loss/mine.yaml")
    check_folder(asked.config_dir, allow)
    check_circles(folder)
    with hydra_ready():
        check_words(asked.overrides)
        for where, content in read_foreign_files(Composition(loader_for(CONF, folder), asked.overrides, {})):
            allowlist.check_file(where, content, allow, is_group)


def check_typed(overrides: Sequence[str]) -> None:
    """Refuse overrides that are no settings, set what a run finds out, or hold a secret."""
    check_secrets(overrides)
    for text in overrides:
        if not KEY.match(text):
            raise Refused(f"'{text}' cannot be read: type key=value, such as optimizer.lr=0.01")
        if "=" not in text and text[0] != "~":
            raise Refused(f"'{text}' cannot be read: type key=value, such as {text.lstrip('+')}=VALUE")
        if key_of(text).partition(".")[0] == "run":
            raise Refused(
                f"{key_of(text)} is filled in when the run starts: type output_dir=FOLDER for where it writes"
            )


def tell_twice(overrides: Sequence[str]) -> None:
    """Say which of two values counts where a setting is typed twice, as Hydra lets the last one win."""
    typed: dict[str, str] = {}
    for text in overrides:
        before = typed.get(key_of(text), text)
        if before != text:
            print(f"losslab: {before} and {text} are both typed: the last one counts", file=sys.stderr, flush=True)
        typed[key_of(text)] = text


def parse_safely(words: Sequence[str]) -> Namespace:
    """Parse a command line as Hydra does; refuse flags that unpickle a file, read other folders, or change nothing."""
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            asked = parse_command_line(words)
    except SystemExit as ended:
        if ended.code == 0:
            raise
        why = said.getvalue().rpartition("error: ")[2].strip()
        raise Refused(f"{why}: --help says more") from None
    check_typed(asked.overrides)
    if asked.experimental_rerun:
        raise Refused("--experimental-rerun would run what is pickled in a file: type the settings instead")
    if asked.config_path or asked.config_name or any("hydra.searchpath" in text for text in asked.overrides):
        raise Refused("options of your own come from one folder: type --config-dir FOLDER")
    for text in asked.overrides:
        key = text.partition("=")[0].lstrip("+~")
        if key in ("hydra.run.dir", "hydra.sweep.subdir") and "LOCAL_RANK" not in os.environ:  # Lightning types it then
            raise Refused(f"{key} changes nothing here, as each run has a folder of its own: type output_dir=FOLDER")
    return asked


def find_fault(file: Path, folder: Path) -> str | None:
    """Say why an option's file is refused, if it is: it configures Hydra, or chooses files outside of its folder.

    Hydra configures logging for each run of a sweep before losslab composes that run, and logging can name code. So
    every file below `--config-dir` is checked first, chosen or not.

    Raises:
        Refused: if the file cannot be read as YAML.
    """
    try:
        text = file.read_text(encoding="utf-8")
        option = OmegaConf.to_container(OmegaConf.load(file)) or {}
    except Exception as error:  # from PyYAML or OmegaConf, or the file is not text
        why = yaml_fault(error)
        raise Refused(f"{file} cannot be read as YAML ({why}): correct it, or take it out of the folder") from None
    if not isinstance(option, dict):
        return None
    package = " ".join(re.findall(r"@package.*", text))
    chosen = option.get("defaults", [])
    entries = chosen if isinstance(chosen, list) else [chosen]
    if not isinstance(chosen, list) or not all(isinstance(entry, str | dict) and entry for entry in entries):
        return "has defaults that are no list of options: write defaults: [OPTION]"
    groups = [str(key) for entry in entries for key in (entry if isinstance(entry, dict) else [entry])]
    if ".." in str(chosen) or any("${" in group for group in groups):
        return "chooses an option by a path or a reference, where a name must stand: type the option's name there"
    parts = file.relative_to(folder).with_suffix("").parts
    if "hydra" in f"{package} {chosen}" or "_name_" in package or "hydra" in parts:
        return allowlist.STEERS
    return allowlist.find_hydra_fault(option.get("hydra", {}))


def check_circles(folder: Path) -> None:
    """Refuse options whose `defaults` name each other in a circle, which Hydra would follow for ever."""
    chosen: dict[str, list[str]] = {}
    for file in find_yaml_files(str(folder)):
        option = OmegaConf.to_container(OmegaConf.load(file))
        name = Path(file).relative_to(folder).with_suffix("").as_posix()
        entries = (option.get("defaults") or []) if isinstance(option, dict) else []
        pairs = [pair for each in entries for pair in (each.items() if isinstance(each, dict) else [("", each)])]
        group = name.rpartition("/")[0]
        chosen[name] = [
            str(value).removeprefix("/") if str(value).startswith("/") else f"{below(group, str(key))}{value}"
            for key, value in pairs
            if not str(key).startswith("override ")
        ]
    for start in chosen:
        seen, names = {start}, list(chosen[start])
        while names:
            name = names.pop()
            if name == start:
                raise Refused(
                    f"{folder / start}.yaml names itself in its defaults, or names a file that does: remove that line"
                )
            if name in chosen and name not in seen:
                seen.add(name)
                names += chosen[name]


def below(group: str, key: str) -> str:
    """Return the group that a key of a `defaults` list in `group` speaks of, and a slash.

    >>> below("loss", ""), below("loss", "parts"), below("loss", "/optimizer@base")
    ('loss/', 'loss/parts/', 'optimizer/')
    """
    at = key.partition("@")[0].removeprefix("optional ")
    return f"{at.strip('/')}/" if at.startswith("/") else "".join(f"{part}/" for part in (group, at) if part)


def check_folder(folder: str, allow: Sequence[str]) -> None:
    """Refuse a folder of options in which a file configures Hydra, or chooses files outside of the folder."""
    if "hydra" in allow:
        return
    for file in sorted(find_yaml_files(folder)):
        check_size(file)
        if why := find_fault(Path(file), Path(folder)):
            raise Refused(f"{file} {why}")
