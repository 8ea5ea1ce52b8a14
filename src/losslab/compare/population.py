"""What a comparison applies to, which follows from what varied between the runs.

The topmost level that varies is the unit of analysis: data sets, splits of the rows, or trainings on one split. Where
all runs tested the same rows and recorded what they said of them, the rows are a second source of noise beside the
trainings.
"""

from dataclasses import dataclass

import pandas as pd

from losslab.errors import Refused

CLAIMS = ("rows", "seeds", "splits", "data")
FEW_DATASETS = 6  # below it, data sets say nothing about others like them


@dataclass(frozen=True)
class Population:
    """What a claim is about."""

    claim: str  # rows, seeds, splits or data
    unit: str  # the column of the runs whose values are the units of analysis
    noun: str  # a word for one unit
    sentence: str  # what the claim is about, in words
    # the number of test rows by that of training rows, where units share training rows and the claim is about other
    # rows; else 0
    overlap: float = 0.0
    crossed: bool = False  # whether the rows tested count as a source of noise of their own

    def count(self, n: int) -> str:
        """Write a number of units, such as 5 seeds."""
        return f"{n} {self.noun}{'' if n == 1 else 's'}"


def find_splits(frame: pd.DataFrame) -> "pd.Series[str]":
    """Name each run's split: by the seed of the split and the fold, the same for runs that are paired."""
    parts = [
        frame[key].map(lambda value: "" if value is None or value != value else str(value)).add(" ")
        if key in frame
        else pd.Series("", frame.index)
        for key in ("data.seed", "data.fold")
    ]
    return parts[0] + parts[1]


def splits_vary(frame: pd.DataFrame) -> bool:
    """Whether runs on one data set tested different rows: the records say it, or else the seeds of their splits."""
    known = frame["facts.test_split"] if "facts.test_split" in frame else pd.Series(float("nan"), frame.index)
    all_known = known.notna().groupby(frame["dataset_key"]).transform("all")
    rows = known.map(str).where(all_known, frame["split"])
    return bool((rows.groupby(frame["dataset_key"]).nunique() > 1).any())


def find_population(used: pd.DataFrame, claim: str, recorded: int) -> Population:
    """Find what the runs can speak of.

    Args:
        claim: what was asked for; empty for what the records suggest.
        recorded: of how many of them it is known what they said of each test row.

    Raises:
        Refused: where the runs cannot speak of what was asked for.
    """
    datasets = sorted(used["dataset_key"].unique())
    if len(datasets) > 1:
        return find_data_population(datasets, claim)
    if claim == "data":
        raise Refused(
            f"claim=data applies to new data sets, and these runs are on {datasets[0]} alone: "
            "run the same on other data of this task, or leave claim= out"
        )
    if splits_vary(used):
        return find_split_population(used, claim)
    if claim == "splits":
        raise Refused(
            "claim=splits applies to new splits, and these runs tested the same rows: "
            "run several, such as data.seed=0,1,2,3,4, or leave claim= out"
        )
    complete = recorded == len(used)
    if claim == "rows" and not complete:
        raise Refused(
            f"claim=rows needs what each run said of its test rows, and {len(used) - recorded} of {len(used)} runs "
            "have no rows.npz: train them again, or type claim=seeds"
        )
    if claim == "seeds" or not complete:
        more = "" if complete or claim else "; the runs did not record what they said of each row"
        about = (
            "This applies to retraining on these very training and test rows. Other rows may say otherwise, however "
            f"many seeds there are{more}."
        )
        return Population("seeds", "repeat", "seed", about)
    if (used.groupby("cell")["repeat"].nunique() == 1).all():
        about = "This applies to these very models on new rows like those tested; retrained models may differ."
    else:
        about = "This applies to new test rows like these and to retrained models: both kinds of noise count."
    return Population("rows", "repeat", "seed", about, crossed=True)


def find_data_population(datasets: list[str], claim: str) -> Population:
    """Return the population of runs on several data sets.

    Raises:
        Refused: for a claim about one data set.
    """
    count = len(datasets)
    if claim not in ("", "data"):
        raise Refused(
            f"claim={claim} applies to one data set, and these runs are on {count}: type data={datasets[0].split()[0]}"
        )
    about = f"This applies to these {count} data sets only; from {FEW_DATASETS} on it would apply to others like them."
    if count >= FEW_DATASETS:
        about = f"This applies to new data sets like these {count}: each counts once, however many runs it has."
    return Population("data", "dataset_key", "data set", about)


def find_split_population(used: pd.DataFrame, claim: str) -> Population:
    """Return the population of runs on several splits of one data set.

    Raises:
        Refused: for a claim about one split.
    """
    folds = "data.folds" in used and pd.to_numeric(used["data.folds"], errors="coerce").notna().all()
    count = used["split"].nunique()
    if claim == "seeds":
        raise Refused(
            f"claim=seeds applies to one split, and these runs have {count}: run several seeds on one, "
            "such as data.seed=0 seed=0,1,2,3,4, or leave claim= out"
        )
    noun = "fold" if folds else "split"
    if not folds and claim != "rows":
        about = "This applies to new splits of these rows, with each model retrained. For new rows, type claim=rows."
        return Population("splits", "split", noun, about)
    about = (
        f"This applies to new rows like these: {noun}s share training rows, so the interval is wider (Nadeau & Bengio)."
    )
    return Population("rows" if claim == "rows" else "splits", "split", noun, about, find_overlap(used))


def find_overlap(used: pd.DataFrame) -> float:
    """Return the number of test rows by that of training rows, as the runs recorded it or as they were set."""
    test, train = (
        pd.to_numeric(used[key], errors="coerce").mean() if key in used else float("nan")
        for key in ("facts.test_rows", "facts.train_rows")
    )
    if test > 0 and train > 0:
        return float(test / train)
    folds, share, val = (
        pd.to_numeric(used[key], errors="coerce").mean() if key in used else float("nan")
        for key in ("data.folds", "data.test", "data.val")
    )
    share = 1 / folds if folds >= 2 else share if 0 < share < 1 else 0.2
    return float(share / max(1e-3, 1 - share - (val if 0 < val < 1 else 0.1)))
