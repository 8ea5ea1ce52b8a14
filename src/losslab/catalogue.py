"""The options of a group: where their files lie, what these say, and what else an option is called."""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
CONF = next(folder for folder in (HERE / "conf", HERE.parents[1] / "conf") if folder.is_dir())  # wheel or clone


def yaml_files(folder: str, seen: frozenset[str] = frozenset()) -> Iterator[str]:
    """Yield every YAML file below a folder, through links to folders too, but not round in circles."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                if (real := os.path.realpath(entry.path)) not in seen:  # a thousand of them at each start
                    yield from yaml_files(entry.path, seen | {real})
            elif entry.name.endswith(".yaml") and entry.is_file():
                yield entry.path


def options(catalogue: Sequence[str], group: str) -> dict[str, dict[str, Any]]:
    """The files of a group, by name, from all folders of the catalogue; the first folder wins."""
    found: dict[str, dict[str, Any]] = {}
    for folder in catalogue:
        for file in sorted(Path(folder, group).glob("*.yaml")):
            found.setdefault(file.stem, yaml.safe_load(file.read_text(encoding="utf-8")) or {})
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
