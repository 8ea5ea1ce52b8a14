"""The options of a group: where their files lie, what these say, and what else an option is called."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from losslab.errors import Refused

FOLDERS = 2000  # a catalogue has a dozen
OPTION = re.compile(r"\w[\w.+-]{0,99}")  # the name of an option: no path
OWN_KEYS = {  # keys of an option's file that speak to losslab, and not to the constructor that `_target_` names
    "data": ("gives", "batch_size", "drop_last", "workers"),
    "model": ("takes",),
    "loss": ("input", "target", "reduction", "per", "domain"),
    "optimizer": ("hidden",),
    "scheduler": ("interval", "monitor", "warmup"),
    "trainer": ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "updates", "channels_last"),
}
NODES = 100_000  # values of an option; a large one has a hundred
LARGE = 2**22  # bytes: a thousand times what an option's file has
HERE = Path(__file__).parents[1]
CONF = next(folder for folder in (HERE / "conf", HERE.parents[1] / "conf") if folder.is_dir())  # wheel or clone


def yaml_files(folder: str) -> Iterator[str]:
    """Yield every YAML file below a folder, through links to folders too, but not round in circles.

    Raises:
        Refused: for one that is no file, such as a pipe, which would keep a reader waiting; for a very large one; and
            for thousands of folders.
    """
    left = FOLDERS
    waiting = [(folder, frozenset({os.path.realpath(folder)}))]
    while waiting:
        place, above = waiting.pop()
        left -= 1
        if left < 0:
            raise Refused(
                f"{folder} holds more than {FOLDERS:,} folders, links counted: type a folder of options alone"
            )
        with os.scandir(place) as found:
            entries = list(found)
        for entry in entries:
            if entry.is_dir():
                real = os.path.realpath(entry.path)
                waiting += [(entry.path, above | {real})] if real not in above else []
            elif entry.name.endswith(".yaml"):
                if not entry.is_file() or entry.stat().st_size > LARGE:
                    raise Refused(f"{entry.path} is no option's file: take it out of the folder of options")
                yield entry.path


def check_size(file: str) -> None:
    """Refuse a file whose aliases, written out, make it huge: a kilobyte of YAML can stand for terabytes."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0  # for one that holds itself
            below = [*node, *node.values()] if isinstance(node, dict) else node if isinstance(node, list) else ()
            sizes[id(node)] = 1 + sum(map(size, below))
        return sizes[id(node)]

    try:
        whole = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        large = size(whole) > NODES
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise Refused(f"{file} cannot be read as YAML ({' '.join(str(error).split())[:150]}): correct it") from None
    if large:
        raise Refused(f"{file} stands for more than {NODES:,} values by its YAML aliases: write out what it needs")


def options(catalogue: Sequence[str], group: str) -> dict[str, dict[str, Any]]:
    """The files of a group, by name, from all folders of the catalogue; the first folder wins.

    Raises:
        Refused: for a file that is no YAML.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in catalogue:
        for file in sorted(Path(folder, group).glob("*.yaml")):
            if file.stem not in found:
                try:
                    option = yaml.safe_load(file.read_text(encoding="utf-8"))
                except (yaml.YAMLError, ValueError, RecursionError) as error:
                    raise Refused(f"{file} cannot be read as YAML ({' '.join(str(error).split())[:150]})") from None
                found[file.stem] = option if isinstance(option, dict) else {}
    return found


def known_as(name: str, option: Mapping[str, Any]) -> bool:
    """Whether an option's file gives `name` under `also`, or its class is called so; case and `_` do not count.

    >>> known_as("MSELoss", {"_target_": "torch.nn.MSELoss"}), known_as("l2", {"also": ["mean_squared_error", "l2"]})
    (True, True)
    """
    names = [*option.get("also", []), str(option.get("_target_")).rpartition(".")[2]]
    return name.replace("_", "").lower() in {other.replace("_", "").lower() for other in names}


def called(name: str, known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The options that are known as `name` elsewhere, the one that is spelled most like it first.

    >>> called("SGD", options([str(CONF)], "optimizer"))[0]
    'sgd'
    """
    return sorted((n for n, option in known.items() if known_as(name, option)), key=lambda n: n != name.lower())


def fits(task: Mapping[str, Any], loss: Mapping[str, Any]) -> bool:
    """Whether the task offers the view of the scores and the form of the target that the loss wants."""
    return loss.get("input") in task["inputs"] and loss.get("target") in task["targets"]
