"""What the runs of a study say of its claims: from kept runs to answers, in the statistics of `losslab compare`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from losslab.compare.cautions import doubt_budgets, doubt_edges, doubt_seeds, doubt_unfinished
from losslab.compare.claims import Findings, Pair, evaluate
from losslab.compare.design import Comparison, arrange
from losslab.compare.runs import Runs, read_runs
from losslab.compare.settings import changes_figures
from losslab.compare.table import summarize_cells
from losslab.compare.wording import format_gap
from losslab.errors import Refused, nearest
from losslab.study import published
from losslab.study.file import Study, name_sweeps
from losslab.study.published import Values

RECORD = ("part", "status", "reason", "seconds", "started", "folder", "epochs", "best_epoch", "stage")
CODE = ("environment.losslab", "environment.git_commit")
FACTS = ("facts.test_rows", "facts.train_rows", "facts.test_split", "facts.stacked", "facts.updates")
DOUBTS = (doubt_seeds, doubt_unfinished, doubt_budgets, doubt_edges)  # the protocol says what others would
PLACES = ("data.path", "data.root", "data.cache")  # settings that name folders of one machine
CONFIRMED, REFUTED, UNDECIDED = "confirmed", "not confirmed", "undecided"


@dataclass(frozen=True)
class Answer:
    """What the runs say of a claim: a difference with its interval in `unit`, and whether it bears the claim out."""

    claim: Mapping[str, Any]
    says: str
    unit: str
    mean: float
    low: float
    high: float
    found: str

    @property
    def size(self) -> str:
        """The difference and its interval, such as `12 % [8, 16]`; of a search, the value that it found."""
        if "steps" in self.claim:
            return f"{self.mean:.4g}"
        return format_gap(self.mean, self.low, self.high, "%" if self.unit.startswith("%") else "points")


class Results:
    """The runs of a study, one row each with the column `part`, and what they say."""

    def __init__(self, study: Study, frame: pd.DataFrame) -> None:
        self.study, self.frame = study, frame
        self._compared: dict[tuple[str, str], tuple[Comparison, Findings]] = {}

    @property
    def alpha(self) -> float:
        """The level of each comparison: all sentences of the study, of an earlier look too, hold together at 5 %."""
        return 0.05 / (2 if self.study.earlier else 1) / len(self.families)

    @property
    def families(self) -> set[tuple[str, ...]]:
        """What shares a level: all pairs of a part by one metric, or each comparison with published runs."""
        claims = [claim for claim in self.study.claims if "steps" not in claim]
        return {(str(claim["in"]), claim.get("metric", ""), claim.get("published", "")) for claim in claims}

    def runs(self, part: str) -> Runs:
        """Return the runs of a part, as `losslab compare` reads them."""
        frame = self.frame[self.frame["part"].map(str) == part].drop(columns="part").dropna(axis=1, how="all")
        frame = frame.reset_index(drop=True)
        for key in ("reason", "started"):
            frame[key] = frame.get(key, None)
        known = (*RECORD, *CODE, *FACTS)
        settings = [key for key in map(str, frame) if key not in known and "/" not in key]
        return Runs(frame, [*settings, *(["stage"] if "stage" in frame else [])])

    def compare(self, part: str, metric: str = "") -> tuple[Comparison, Findings]:
        """Compare the runs of a part by a metric; by default the primary one."""
        if (part, metric) not in self._compared:
            asked = self.study.parts[part]
            comparison = arrange(self.runs(part), asked["by"], metric, alpha=self.alpha, claim=asked.get("claim", ""))
            self._compared[part, metric] = comparison, evaluate(comparison)
        return self._compared[part, metric]

    @cached_property
    def answers(self) -> list[Answer]:
        """What the runs say of each claim about the parts that were run."""
        return [self.answer(claim) for claim in self.claims]

    @property
    def claims(self) -> list[Mapping[str, Any]]:
        """The claims about the parts that were run."""
        return [claim for claim in self.study.claims if str(claim["in"]) in self.study.parts]

    def answer(self, claim: Mapping[str, Any]) -> Answer:
        """Say whether the runs of a part bear out a claim."""
        if "published" in claim:
            return self.answer_steps(claim) if "steps" in claim else self.answer_published(claim)
        part, metric = str(claim["in"]), claim.get("metric", "")
        comparison, findings = self.compare(part, metric)
        first, second = claim["same"] if "same" in claim else (claim["better"], claim["than"])
        mean, low, high = find_difference(findings.tested, str(first), str(second))
        one, other = (self.study.names.get(str(cell), str(cell)) for cell in (first, second))
        unit = "%" if not comparison.points else "point" if claim.get("within", claim.get("by")) == 1 else "points"
        if "same" in claim:
            limit = float(claim["within"])
            says = f"{one} and {other} are the same within {limit:g} {unit}"
            inside, outside = -limit < low and high < limit, low > limit or high < -limit
        else:
            limit = float(claim.get("by", 0))
            says = f"{one} beats {other}" + (f" by at least {limit:g} {unit}" if limit else "")
            inside, outside = low > 0 and low >= limit, high <= 0 or high < limit
        return Answer(claim, says, comparison.unit, mean, low, high, decide(inside, outside))

    @cached_property
    def cautions(self) -> dict[str, list[str]]:
        """What `losslab compare` doubts in the runs of parts, by its sentence."""
        said: dict[str, list[str]] = {}
        for part in dict.fromkeys(str(c["in"]) for c in self.claims if "published" not in c):
            for doubt in DOUBTS:
                for sentence in doubt(self.compare(part)[0]):
                    for cell in sorted(self.study.names, key=len, reverse=True):  # one may begin with another
                        sentence = sentence.replace(cell, self.study.names[cell])
                    said.setdefault(sentence, []).append(part)
        return said

    @cached_property
    def published_runs(self) -> pd.DataFrame:
        """The figures that the published runs reached: a row for each run and metric."""
        return pd.read_csv(self.study.folder / "published.csv", dtype={"part": str})

    def figures(self, claim: Mapping[str, Any]) -> tuple[Values, Values]:
        """Return our figures and the published ones that a claim is about; those of runs that diverged are infinite."""
        runs, metric = self.pick(self.frame, claim, part=claim["in"]), claim["metric"]
        theirs = self.pick(self.published_runs, claim, part=claim["in"], metric=metric)
        ours = runs[metric].where(runs["status"] == "finished", np.inf)
        return ours.to_numpy(float), theirs["value"].to_numpy(float)

    def pick(self, frame: pd.DataFrame, claim: Mapping[str, Any], **wanted: str) -> pd.DataFrame:
        """Return the runs that a claim about published runs is about, such as those of one optimizer."""
        return published.pick(frame, **wanted, **{self.study.parts[str(claim["in"])]["by"][0]: claim["published"]})

    def answer_published(self, claim: Mapping[str, Any]) -> Answer:
        """Say whether our mean is that of the published runs, within two of their standard deviations."""
        ours, theirs = self.figures(claim)
        percent = 100 / theirs.mean()
        limit = percent * published.measure_spread(theirs)
        mean, low, high = (percent * value for value in published.compare_means(ours, theirs, self.alpha))
        says = f"{claim['published']} is as published, within two standard deviations ({limit:.2g} %)"
        found = decide(-limit < low and high < limit, low > limit or high < -limit)
        return Answer(claim, says, f"% {claim['metric']}", mean, low, high, found)

    def answer_steps(self, claim: Mapping[str, Any]) -> Answer:
        """Say whether a search of a grid finds the published learning rate, or one so few steps away."""
        runs, most = self.pick(self.frame, claim, part=claim["in"]), int(claim["steps"])
        theirs = float(self.pick(self.published_runs, claim)["optimizer.lr"].iloc[0])
        ours = published.find_best(runs, claim["metric"])
        within = published.count_steps(runs["optimizer.lr"].tolist(), ours, theirs) <= most
        away = f"at most {most} step{'s' * (most != 1)} from {theirs:.4g}"
        says = f"the best learning rate of {claim['published']} is {away}"
        return Answer(claim, says, "learning rate", ours, ours, ours, decide(within, not within))

    def means(self) -> dict[str, pd.DataFrame]:
        """Tabulate the mean of each cell (rows) in each part (columns), for each metric that a claim is about."""
        tables: dict[str, dict[str, pd.Series[float]]] = {}
        pairs = [claim for claim in self.claims if "published" not in claim]
        for part, metric in dict.fromkeys((str(c["in"]), c.get("metric", "")) for c in pairs):
            comparison = self.compare(part, metric)[0]
            cells = summarize_cells(comparison).set_index("cell")["mean"].rename(index=dict(self.study.names))
            relative = len(comparison.datasets) > 1 and comparison.mode == "min"
            within = "; compare within a column, as each has a mean of its own" if len(self.study.parts) > 1 else ""
            multiple = f", as a multiple of the mean on each data set{within}" if relative else ""
            name = f"test {comparison.metric}{multiple}"
            tables.setdefault(name, {})[part] = cells
        return {name: pd.DataFrame(columns) for name, columns in tables.items()}

    @property
    def minutes(self) -> float:
        """Minutes of training: the runs of a stack share its time."""
        stacked = pd.to_numeric(self.frame.get("facts.stacked", 1), errors="coerce")
        shared = self.frame["seconds"] / (stacked.fillna(1) if isinstance(stacked, pd.Series) else stacked)
        return float(shared.sum() / 60)


def decide(inside: bool, outside: bool) -> str:
    """Say what an interval finds that lies wholly inside what a claim allows, wholly outside, or neither."""
    return CONFIRMED if inside else REFUTED if outside else UNDECIDED


def find_difference(pairs: Sequence[Pair], first: str, second: str) -> tuple[float, float, float]:
    """Return by how much the first is better than the second, with its interval.

    Raises:
        Refused: if they were not compared.
    """
    for pair in pairs:
        if (pair.first, pair.second) == (first, second):
            return pair.mean, pair.low, pair.high
        if (pair.first, pair.second) == (second, first):
            return -pair.mean, -pair.high, -pair.low
    names = {name for pair in pairs for name in (pair.first, pair.second)}
    raise Refused(f"{first} and {second} were not compared; {nearest(first, names)}")


def gather(study: Study, folder: Path) -> pd.DataFrame:
    """Gather all runs of a study from its sweeps.

    Returns:
        One row for each run: its part, the settings that vary or that a comparison needs, metrics and costs.
    """
    frames = []
    for part in study.parts:
        runs = read_runs([str(folder / "sweeps" / name) for name in name_sweeps(study, part)])
        frame = runs.frame.assign(part=part)
        frame["folder"] = [Path(name).name for name in frame["folder"]]
        kept = [key for key in runs.settings if changes_figures(key) and key not in PLACES]
        asked = [claim.get("metric") for claim in study.claims if claim["in"] == part]
        numbers = [key for key in map(str, frame) if re.match(r"(test|val)/(?!loss)", key) or key in asked]
        columns = dict.fromkeys([*RECORD, *CODE, *kept, "task.yardstick", "task.mode", *FACTS, *numbers])
        frames.append(frame[[key for key in columns if key in frame]])
    whole = pd.concat(frames, ignore_index=True)
    settings = [key for key in map(str, whole) if key not in (*RECORD, *CODE, *FACTS) and "/" not in key]
    needed = ("task", "data", "model", "loss", "optimizer", "seed", "data.seed", "data.fold", "data.folds")
    same = [key for key in settings if whole[key].map(str).nunique() < 2]
    return whole.drop(columns=[key for key in same if key not in (*needed, "task.yardstick", "task.mode")])


def save_runs(frame: pd.DataFrame, file: Path) -> None:
    """Write runs as packed CSV: six digits a number, the same bytes for the same runs."""
    rounded = frame.map(lambda value: float(f"{value:.6g}") if isinstance(value, float | np.floating) else value)
    rounded.to_csv(file, index=False, compression={"method": "gzip", "mtime": 0}, lineterminator="\n")


def load_runs(file: Path) -> pd.DataFrame:
    """Read the runs that `save_runs` wrote."""
    return pd.read_csv(file, dtype={"part": str}, low_memory=False)
