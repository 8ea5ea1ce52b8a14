"""A study's file: its question, the claim, the protocol, the sweeps that answer it, and what would bear it out."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from losslab.config.catalogue import HERE
from losslab.errors import Refused, nearest
from losslab.files import read_yaml

STUDIES = next((folder for folder in (HERE / "studies", HERE.parents[1] / "studies") if folder.is_dir()), HERE)


@dataclass(frozen=True)
class Study:
    """A published claim, put as a question that runs can answer."""

    name: str  # of its folder
    folder: Path  # that holds study.yaml, its sweep files, results.csv.gz and README.md
    question: str  # this and the next four are sentences
    claim: str
    source: str
    protocol: str  # written before the first run
    not_tried: str = ""
    published: str = ""  # where the figures of published.csv come from, where claims are about published runs
    earlier: str = ""  # what earlier runs found, where these are a second look; each look then gets half of the 5 %
    answer: str = ""  # a paragraph, in which `{1}` stands for the difference that the first claim is about
    advice: str = ""  # a line that says what to do
    data: list[str] = field(default_factory=list)  # the data sets
    folders: Mapping[str, str] = field(default_factory=dict)  # by part, what the user's own folder `data.path` holds
    settings: list[str] = field(default_factory=list)  # of all sweeps
    tiny: list[str] = field(default_factory=list)  # settings that make it small
    # by name, each with its file `sweep`, `settings`, what is compared, `by`, and `claim`. `each` holds the
    # settings of each of several sweeps whose runs are compared together; a file among them replaces `sweep`
    parts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # each `{in: PART, better: A, than: B, by: 10}` or `{in: PART, same: [A, B], within: 10}`, with `metric`. `{in:
    # PART, published: A, metric: M}` says that A's mean is the published one, with `steps: 1` that a search of a
    # grid finds the published learning rate or a neighbour
    claims: list[Mapping[str, Any]] = field(default_factory=list)
    ranks: list[str] = field(default_factory=list)  # parts whose ranks are drawn, with their intervals
    names: Mapping[str, str] = field(default_factory=dict)  # what the page calls cells whose own names say little
    show: str = ""  # a module whose `main(folder)` prints and draws the study, where it has no runs


def simplify(name: str) -> str:
    """Turn the name of a part into one of a folder.

    >>> simplify("5 %"), simplify("k=1, m=5")
    ('5', 'k1m5')
    """
    return re.sub(r"\W+", "", name)


def name_sweeps(study: Study, part: str) -> dict[str, list[str]]:
    """Name the folders of a part's sweeps, with the settings of each."""
    asked = study.parts[part]
    names = [simplify(part) + (f"-{number}" if len(asked["each"]) > 1 else "") for number in range(len(asked["each"]))]
    shared = [*study.settings, *asked["settings"]]
    return {name: [*shared, *own] for name, own in zip(names, asked["each"], strict=True)}


def list_studies() -> list[str]:
    """List the names of all studies."""
    return sorted(file.parent.name for file in STUDIES.glob("*/study.yaml"))


def load_study(name: str) -> Study:
    """Load a study.

    Raises:
        Refused: for a name that none has.
    """
    if name not in list_studies():
        raise Refused(f"{name} is not a study; {nearest(name, list_studies())}")
    content = read_yaml(STUDIES / name / "study.yaml")
    parts = {
        str(part): {"by": ["loss"], "settings": [], "each": [[]], **asked}
        for part, asked in content.pop("parts", {}).items()
    }
    return Study(name=name, folder=STUDIES / name, parts=parts, **content)


def load_sources() -> dict[str, Mapping[str, Any]]:
    """Load what studies/data.yaml says of the data sets that come with packages."""
    sources: dict[str, Mapping[str, Any]] = read_yaml(STUDIES / "data.yaml")
    return sources
