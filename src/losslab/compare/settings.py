"""The settings of runs: which of them matter, which say the same, and how options are named."""

from collections.abc import Sequence
from fnmatch import fnmatch

import pandas as pd

from losslab.config.flat import excluded_from_name

REDUNDANT = (
    *("stage", "experiment", "search.*"),  # the settings that they lead to say the same
    *("callbacks.*.dirpath", "*._*_"),
)
SAME_ROWS = (
    "data.batch_size",
    "data.seed",
    "data.fold",
    "data.folds",
    "data.drop_last",
    "data.reshuffle",
    "data.gives",
    "data.task",
    "data.root",
)
CROSS = " \N{MULTIPLICATION SIGN} "  # joins the options that make a cell


def changes_figures(key: str) -> bool:
    """Whether a setting can change a run's figures and isn't implied by another setting.

    >>> changes_figures("optimizer.lr"), changes_figures("output_dir"), changes_figures("loss._target_")
    (True, False, False)
    """
    return not excluded_from_name(key) and not any(fnmatch(key, pattern) for pattern in REDUNDANT)


def chooses_rows(key: str) -> bool:
    """Whether a setting decides which rows are trained on and tested.

    >>> chooses_rows("data"), chooses_rows("data.shuffle"), chooses_rows("data.batch_size"), chooses_rows("loss")
    (True, True, False, False)
    """
    return (key == "data" or key.startswith("data.")) and key not in SAME_ROWS


def format_value(value: object) -> str:
    """Write a setting's value as it is typed.

    >>> format_value(0.0031622776), format_value(3.0), format_value(None)
    ('0.003162', '3', 'null')
    """
    if value is None or value != value:
        return "null"
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower() if value in (True, False) else str(value)


def name_options(frame: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[str]":
    """Name each run by its options of the keys, such as mae and adam."""
    name, *others = [frame[key].map(format_value) if key in frame else pd.Series("", frame.index) for key in keys]
    for other in others:
        name = name + CROSS + other
    return name


def name_datasets(frame: pd.DataFrame, begun: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[str]":
    """Name each run's data set: the option of `data`, and what differs between data sets of that name.

    Args:
        begun: those with a complete configuration.
        keys: the settings that vary and choose rows.
    """
    name = frame["data"].map(format_value) if "data" in frame else pd.Series("data", frame.index)
    for key in drop_dependent(begun, ["data", *keys] if "data" not in keys else keys):
        if key != "data":
            name = name + " " + key.removeprefix("data.") + "=" + frame[key].map(format_value)
    return name


def drop_dependent(frame: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Of settings that vary together keep one: `scheduler`, not `scheduler.gamma` where the former decides it."""
    codes = {key: pd.factorize(frame[key].map(str))[0] for key in sorted(keys, key=lambda key: (key.count("."), key))}
    kept: list[str] = []
    for key, code in codes.items():
        group = key.split(".")[0]
        candidates = [other for other in kept if other == group or len(set(codes[other])) == len(set(code))]
        if not any(len({*zip(codes[other], code, strict=True)}) == len(set(codes[other])) for other in candidates):
            kept.append(key)
    return kept


def count_values(column: "pd.Series[str]") -> int:
    """Count the different values of a setting."""
    return int(column.map(str).nunique())
