"""The options of a group: where their files are, what they state, and by which other names they are known."""

import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatch
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import yaml

from losslab.errors import Refused, yaml_fault

FOLDERS = 2000  # at most; a catalogue has a dozen
OPTION = re.compile(r"\w[\w.+-]{0,99}")  # the name of an option, which is no path
OWN_KEYS = {  # keys of an option's file that losslab reads itself; the constructor does not get them
    "data": ("gives", "batch_size", "drop_last", "reshuffle", "workers", "label_noise"),
    "model": ("takes",),
    "logger": ("more",),
    "loss": ("input", "target", "reduction", "per", "domain"),
    "optimizer": ("hidden",),
    "scheduler": ("interval", "monitor", "warmup"),
    "trainer": (
        *("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "updates", "channels_last"),
        "cuda_graphs",
    ),
}
DESCRIPTIONS = (
    "also",
    "beside",
    "differs",
    "metrics",
    "ranges",
    "search",
    "stacks",
)  # keys of an option that describe it and set nothing
TRUTHS = {"numbers": "regression", "class": "single_label", "labels": "multi_label"}  # each with losslab's own task
NODES = 100_000  # values of an option at most; a large one has a hundred
LARGE = 2**22  # bytes: a thousand times what an option's file has
HERE = Path(__file__).parents[1]
CONF = next(folder for folder in (HERE / "conf", HERE.parents[1] / "conf") if folder.is_dir())  # wheel or clone


def find_yaml_files(folder: str) -> Iterator[str]:
    """Yield every YAML file below a folder. Links to folders are followed, but not in circles.

    Raises:
        Refused: for a pipe or a device, which would keep a reader waiting; for a very large file; and for thousands of
            folders.
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
    """Refuse a file that its YAML aliases make huge: a kilobyte can stand for terabytes."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = 0  # for a node that holds itself
            below = [*node, *node.values()] if isinstance(node, dict) else node if isinstance(node, list) else ()
            sizes[id(node)] = 1 + sum(map(size, below))
        return sizes[id(node)]

    try:
        whole = yaml.safe_load(Path(file).read_text(encoding="utf-8"))
        large = size(whole) > NODES
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise Refused(f"{file} cannot be read as YAML ({yaml_fault(error)}): correct it") from None
    if large:
        raise Refused(f"{file} stands for more than {NODES:,} values by its YAML aliases: write out what it needs")


@lru_cache(maxsize=512)
def parse_option(text: str) -> bytes:
    """Parse an option's file; pickled, as a copy takes a twentieth of the time and its reader may change it."""
    return pickle.dumps(yaml.safe_load(text))


def options(catalogue: Sequence[str], group: str) -> dict[str, dict[str, Any]]:
    """Read the files of a group, by option. The first folder of the catalogue that has an option wins.

    Raises:
        Refused: for a file that is no YAML.
    """
    found: dict[str, dict[str, Any]] = {}
    for folder in catalogue:
        for file in sorted(Path(folder, group).glob("*.yaml")):
            if file.stem not in found:
                try:
                    option = pickle.loads(parse_option(file.read_text(encoding="utf-8")))
                except (yaml.YAMLError, ValueError, RecursionError) as error:
                    raise Refused(f"{file} cannot be read as YAML ({yaml_fault(error)}): correct it") from None
                found[file.stem] = option if isinstance(option, dict) else {}
    return found


def squeeze(name: str) -> str:
    """Strip a name of what libraries spell in different ways."""
    return name.replace("_", "").lower()


def aliases(option: Mapping[str, Any]) -> set[str]:
    """Collect the other names of an option, squeezed: those under `also` in its file, and its class.

    >>> sorted(aliases({"_target_": "torch.nn.MSELoss", "also": ["mean_squared_error", "l2"]}))
    ['l2', 'meansquarederror', 'mseloss']
    """
    also = option.get("also") or []
    names = also if isinstance(also, list) else [also]
    return {squeeze(str(other)) for other in (*names, str(option.get("_target_")).rpartition(".")[2])}


def find_by_alias(name: str, known: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Find the options that are known by another name; the one that is spelled like it comes first.

    The name may stand below its library's, as in `torch.nn.L1Loss`.

    >>> known = options([str(CONF)], "loss")
    >>> find_by_alias("MultiLabelSoftMarginLoss", known), find_by_alias("BCELoss", known), find_by_alias("BCE", known)
    (['bce'], ['bce_probability'], ['bce'])
    """
    names = {option: {squeeze(option), *aliases(keys)} for option, keys in known.items()}
    plain = squeeze(name.rpartition(".")[2])
    exact = [option for option, spelled in names.items() if plain in spelled]
    short = plain.removesuffix("loss")
    loose = [option for option, spelled in names.items() if short in {each.removesuffix("loss") for each in spelled}]
    return sorted(exact or (loose if short else []), key=lambda option: squeeze(option) not in (plain, short))


@cache
def read_reasons() -> dict[str, dict[str, Any]]:
    """Read `conf/not_here.yaml`: by group, names of other libraries and why they are no options."""
    found: dict[str, dict[str, Any]] = yaml.safe_load((CONF / "not_here.yaml").read_text(encoding="utf-8"))
    return found


def find_reason(name: str, group: str) -> str | None:
    """Say why another library's name is no option, or which option does the same; `None` if it is unknown.

    >>> find_reason("PolyCrossEntropyLoss", "loss"), find_reason("Zzz", "loss")
    ('it is poly, with the same epsilon of 2; type loss=poly', None)
    """
    plain = squeeze(name.rpartition(".")[2])
    short = plain.removesuffix("loss")
    known = options([str(CONF)], group).items()
    for option, table in ((option, keys) for option, keys in known if "rates" in keys):
        if plain in {squeeze(other) for other in table["rates"]}:
            return f"it is one of pytorch_optimizer's; type {group}={option}-{plain}"
        if plain in table["refused"]:
            return str(table["refused"][plain])
    reasons = read_reasons().get(group, {})
    spelled = [(squeeze(other.strip()), str(why)) for others, why in reasons.items() for other in others.split(",")]
    exact = (why for other, why in spelled if other == plain or other.removesuffix("loss") == short)
    return next(iter([*exact, *(why for other, why in spelled if fnmatch(plain, other))]), None)


def fits(task: Mapping[str, Any], loss: Mapping[str, Any]) -> bool:
    """Tell whether a task offers the view of the scores and the form of the target that a loss asks for."""
    return loss.get("input") in task.get("inputs", ()) and loss.get("target") in task.get("targets", ())
