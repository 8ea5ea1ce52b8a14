"""What was typed after `losslab compare`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from losslab.compare.population import CLAIMS
from losslab.config.arguments import search_path, take_folders
from losslab.config.words import parse_between, parse_flag, parse_list, parse_settings
from losslab.errors import Refused
from losslab.files import check_writable

KEYS = ("by", "metric", "task", "data", "out", "alpha", "claim", "difference", "log", "cross", "json", "allow")


@dataclass
class Request:
    """What to compare and how, checked as far as that is possible without the runs."""

    folders: list[str]
    out: Path
    by: list[str] = field(default_factory=list)
    metric: str = ""
    only: dict[str, str] = field(default_factory=dict)
    alpha: float = 0.05
    claim: str = ""
    difference: float = 1.0
    log: bool = False
    cross: bool = False
    json: bool = False
    typed: frozenset[str] = frozenset()  # the keys that were typed
    own: list[str] = field(default_factory=list)  # overrides that find and allow the user's own options, for `cross`


def parse_request(words: Sequence[str]) -> Request:
    """Parse the words of the command: folders, and settings such as `by=[loss]`.

    Raises:
        Refused: for a mistake that shows without the runs.

    >>> parse_request(["outputs", "by=[loss]", "alpha=0.01"]).by
    ['loss']
    """
    words, places = take_folders(["json=true" if word == "--json" else word for word in words])
    folders = [word for word in words if ("=" not in word and word[:1] != "-") or Path(word).is_dir()]
    typed = parse_settings([word for word in words if word not in folders], KEYS)
    if not folders:
        raise Refused("a comparison needs runs: type a folder that holds them, such as outputs")
    if typed.get("claim", "rows") not in CLAIMS:
        raise Refused(f"claim={typed['claim']} is not an option: type one of {', '.join(CLAIMS)}")
    flags = {key: parse_flag(key, typed.get(key, "false")) for key in ("log", "cross", "json")}
    alpha = parse_between(typed, "alpha", 0.05, 0.001, 0.5)
    difference = parse_between(typed, "difference", 1.0, 1e-6, 1000.0)
    parent = Path(folders[0] if len(folders) == 1 and Path(folders[0]).is_dir() else "outputs")
    if (parent / "race.json").is_file():
        parent /= "runs"  # the folder `comparison` of a race holds its own page
    return Request(
        folders,
        check_writable(Path(typed.get("out") or parent / "comparison"), "out"),
        parse_list(typed.get("by", "")),
        typed.get("metric", ""),
        {key: typed[key] for key in ("task", "data") if key in typed},
        alpha=alpha,
        difference=difference,
        claim=typed.get("claim", ""),
        log=flags["log"],
        cross=flags["cross"],
        json=flags["json"],
        typed=frozenset(typed),
        own=[*search_path(places), *([f"allow={typed['allow']}"] if "allow" in typed else [])],
    )
