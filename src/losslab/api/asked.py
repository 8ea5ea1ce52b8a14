"""What was asked for in Python, as the words of a command."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from omegaconf import DictConfig

from losslab.api.data import give_data
from losslab.api.results import Comparison, Result, Sweep
from losslab.api.words import to_words, write_value
from losslab.config import check
from losslab.config.arguments import search_path
from losslab.errors import Refused
from losslab.files import check_writable, write
from losslab.sweep.driver import take_folder

if TYPE_CHECKING:
    from losslab.api.objects import Options

OWN = ("n", "stack", "retry", "dry", "test_seeds", "run_cap", "tune", "claim", "budget", "difference", "name", "log")
GROUPS = ("model", "loss", "optimizer")


@dataclass
class Asked:
    """What was asked for."""

    settings: dict[str, Any]  # by their keys; in a sweep, of several values a list
    own: dict[str, Any]  # those of the command itself, such as `n`
    made: "Options | None"  # the options that objects became; `None` if there was no object
    method: str = "grid"  # of a sweep
    places: list[str] = field(default_factory=list)  # folders of the user's own options
    allowed: list[str] = field(default_factory=list)  # packages of the user's own that options may name
    notes: list[str] = field(default_factory=list)  # what the user should know

    @property
    def folders(self) -> list[str]:
        """All folders of options, those that objects became included."""
        return [*self.places, *([str(self.made.root)] if self.made and self.made.allow else [])]

    def allow(self) -> list[str]:
        """Return the word that allows the code of all options."""
        packages = dict.fromkeys([*self.allowed, *(self.made.allow if self.made else ())])
        return [f"allow=[{','.join(packages)}]"] if packages else []

    def words(self) -> list[str]:
        """Return the words of a command that trains one run."""
        return [*to_words(self.settings), *search_path(self.folders), *self.allow()]

    def own_words(self) -> tuple[str, ...]:
        """Return the words by which a command finds the options."""
        return (*(word for folder in self.folders for word in ("--config-dir", folder)), *self.allow())

    def tell(self) -> None:
        """Print what cannot be repeated, and why runs are trained in this process."""
        for note in dict.fromkeys([*self.notes, *(self.made.notes if self.made else ())]):
            print(f"note     {note}", flush=True)
        if self.here:
            print(
                f"note     {', '.join(self.here)}: known to this process alone, which trains the runs, and no "
                "other can repeat them; define it in a module (a .py file) and import it from there",
                flush=True,
            )

    @property
    def here(self) -> list[str]:
        """The options whose objects this process alone knows."""
        return list(dict.fromkeys(self.made.here)) if self.made else []

    def check_processes(self, cfg: DictConfig) -> None:
        """Refuse a run of several processes that would need an object of this one."""
        several = cfg.trainer.devices not in (1, "auto") or cfg.trainer.get("num_nodes", 1) != 1
        if self.here and several:
            raise Refused(
                f"trainer={cfg.run.choices.trainer} starts further processes, which do not know {self.here[0]}: define "
                "it in a module (a .py file) and import it from there"
            )


def ask(
    data: Any,
    target: Any,
    chosen: Mapping[str, Any],
    settings: Mapping[str, Any],
    output: Path,
    several: bool = False,
) -> Asked:
    """Turn what was given into settings; objects become files below OUTPUT/python.

    Args:
        data, target: see `losslab.api`.
        chosen: the task, model, loss, optimizer and seed; `None` if not given.
        settings: all others.
        output: the folder for runs.
        several: whether a list is several values.

    Raises:
        Refused: for what cannot be named, and for what is given twice.
    """
    chosen, settings = ({key: to_plain(value) for key, value in given.items()} for given in (chosen, settings))
    if not several:
        check_one(chosen)
    root = check_writable(output, "output_dir") / "python"
    dotted = {key.replace("__", "."): value for key, value in settings.items()}
    own = {key: dotted.pop(key) for key in OWN if key in dotted and several}
    places, allowed = (list_texts(dotted.pop(key, [])) for key in ("config_dir", "allow"))
    method = str(dotted.pop("method", "grid"))
    found = give_data(data, target, chosen.get("task"), root)
    found |= {key: value for key, value in chosen.items() if key not in GROUPS and value is not None}
    asked = Asked(found, own, None, method, places, allowed)
    for group in GROUPS:
        given = chosen.get(group)
        if given is None:
            continue
        many = several and isinstance(given, list | tuple)
        names = [name_one(asked, group, each, dotted, root) for each in (given if many else [given])]
        asked.settings[group] = names if many else names[0]
        if group == "loss" and not several and isinstance(given, list | tuple) and len(given) > 1:
            asked.notes.append(
                f"loss={list(given)} is the weighted sum of them; losslab.sweep trains a run with each, and "
                "losslab.race finds out which to use"
            )
    if twice := sorted({*dotted} & {*asked.settings} - {"data.gives"}):
        raise Refused(f"{twice[0]} is given twice: leave it out of the settings")
    asked.settings |= {**dotted, "output_dir": str(output)}
    return asked


def to_plain(value: Any) -> Any:
    """Return Python's own number for one of NumPy's, and a list of what a generator gives.

    >>> to_plain(np.int64(3)), to_plain(each for each in "ab"), to_plain("mae")
    (3, ['a', 'b'], 'mae')
    """
    return value.item() if isinstance(value, np.generic) else [*value] if isinstance(value, Iterator) else value


def check_one(chosen: Mapping[str, Any]) -> None:
    """Refuse several values where one run has one; several losses are a weighted sum."""
    for key, value in chosen.items():
        some = [each.strip() for each in value.split(",")] if isinstance(value, str) else value
        listed = isinstance(some, list | tuple | range | set) or getattr(some, "ndim", 0) > 0
        if listed and (key != "loss" or isinstance(value, str)) and len(some) > 1:
            race = f", or losslab.race(..., {key}={some!r}) to find out which to use" if key in GROUPS else ""
            raise Refused(f"{key}={value!r} is several, and a run has one: losslab.sweep(..., {key}={some!r}){race}")


def list_texts(given: Any) -> list[str]:
    """Return one text or several as a list.

    >>> list_texts("mine"), list_texts(["mine", Path("yours")])
    (['mine'], ['mine', 'yours'])
    """
    return [str(each) for each in ([given] if isinstance(given, str | Path) else given)]


def name_one(asked: Asked, group: str, given: Any, settings: Mapping[str, Any], root: Path) -> str:
    """Return the option of one model, loss or optimizer: its name, a weighted sum, or the file of an object."""
    if isinstance(given, str):
        return given
    if isinstance(given, list | tuple) and group == "loss" and all(isinstance(each, str) for each in given):
        return write_value("loss", given)
    from losslab.api import objects

    asked.made = asked.made or objects.Options(root / "options")
    if group == "model":
        return objects.give_model(given, asked.made)
    if group == "optimizer":
        return objects.give_optimizer(given, asked.made)
    known = {key: value for key, value in asked.settings.items() if key not in ("model", "loss", "seed")}
    without = {key: value for key, value in settings.items() if key.partition(".")[0] in ("task", "data", "yardstick")}
    words = [*to_words({**known, **without, "logger": "false"}), *search_path(asked.places), *asked.allow()]
    task = check.configure(words).task
    return objects.give_loss(given, list(task.inputs), list(task.targets), asked.made)


def write_file(asked: Asked, name: str | None, output: Path) -> tuple[Path, str, list[str]]:
    """Write the sweep file that a call asks for; return it, the sweep's name, and the words to type after it."""
    own, fixed = dict(asked.own), {}
    parameters: dict[str, Any] = {}
    for key, value in asked.settings.items():
        if isinstance(value, range | set) or hasattr(value, "tolist"):
            value = list(value)
        if isinstance(value, dict) and {*value} & {"min", "max"}:
            parameters[key] = {"distribution": "uniform" if value.get("min", 1) <= 0 else "log_uniform_values", **value}
        elif isinstance(value, list | tuple) and may_vary(key):
            if not value:
                raise Refused(f"{key} lists nothing: give at least one value")
            parameters[key] = {"values": [plain(key, each) for each in value]}
        else:
            fixed[key] = value
    parameters = parameters or {"seed": {"values": [fixed.pop("seed", 0)]}}
    text = yaml.safe_dump({"method": asked.method, "parameters": parameters}, sort_keys=False)
    words = [*to_words(fixed), *asked.own_words()]
    if name is None:
        digest = hashlib.sha256("\n".join([text, *to_words(fixed)]).encode()).hexdigest()[:6]
        name = f"{fixed.get('data', fixed.get('task', 'sweep'))}-{digest}"
    take_folder({"name": name}, "sweeps", "")
    file = output / "python" / "sweeps" / f"{name}.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    write(file, text)
    return file, name, [*words, f"name={name}", *own_processes(asked, own)]


def may_vary(key: str) -> bool:
    """Tell whether a list is several values of a setting: those of data, such as `data.target`, are one."""
    return not key.startswith("data.") or key in ("data.seed", "data.fold")


def plain(key: str, value: Any) -> Any:
    """Return one of several values as YAML has it; a text that is no plain word as it is typed."""
    value = value.item() if hasattr(value, "item") else value
    return [plain(key, each) for each in value] if isinstance(value, list | tuple) else value


def own_processes(asked: Asked, own: dict[str, Any]) -> list[str]:
    """Return the words of the command itself; objects that this process alone knows have it train the runs itself.

    Raises:
        Refused: where other processes were asked for.
    """
    if asked.here:
        if own.get("n", 0) != 0:
            raise Refused(
                f"n={own['n']} starts other processes, which do not know {asked.here[0]}: leave n out, or define it in "
                "a module (a .py file) and import it from there"
            )
        own["n"] = 0
    return to_words(own)


def write_candidates(asked: Asked) -> list[str]:
    """Return the words of a race: several losses, optimizers or models are separated by commas."""
    words = []
    for key, value in asked.settings.items():
        if key in GROUPS and isinstance(value, list):
            words.append(f"{key}={','.join(value)}")
        else:
            words += to_words({key: value})
    return [*words, *asked.own_words(), *own_processes(asked, dict(asked.own))]


def list_folders(runs: Iterable[Any]) -> list[str]:
    """Return the folders of results, sweeps, races, paths, and lists of them.

    >>> list_folders(["outputs", [Path("a"), ["b"]]])
    ['outputs', 'a', 'b']
    """
    found: list[str] = []
    for each in runs:
        if isinstance(each, Result | Sweep):
            found.append(str(each.folder))
        elif isinstance(each, Comparison):
            found.append(str(each.folder.parent))
        elif isinstance(each, str | os.PathLike):
            found.append(os.fspath(each))
        elif isinstance(each, Iterable):
            found += list_folders(each)
        else:
            raise Refused(f"{type(each).__name__} cannot be compared: give results, a sweep, or folders of runs")
    return found
