"""The list of all runs on the page: where each is, how it ended, and the command that repeats it."""

import os
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from losslab.compare.design import Comparison
from losslab.compare.digits import format_decimals
from losslab.compare.settings import format_value
from losslab.compare.table import describe_alike
from losslab.page.figures import RUNS
from losslab.page.html_page import Command, Link, Section


def list_runs(comparison: Comparison, page: Path, decimals: int | None) -> Section:
    """List the runs, cell by cell, each with its folder, its W&B page and the command that repeats it.

    Args:
        comparison: what is compared.
        page: the folder of the page, which links to folders start from.
        decimals: of a figure.
    """
    frame = sort_runs(comparison).head(RUNS)
    table = frame[comparison.by].map(format_value)
    if len(comparison.datasets) > 1:
        table["data"] = frame["dataset_key"]
    table["seed"] = frame["repeat"]
    if comparison.tuned:
        table["setting"] = frame["setting"]
    table[comparison.metric] = [format_decimals(value, decimals) for value in frame["value"]]
    table["ended"] = [
        f"{status}: {reason}" if reason and status == "failed" else str(status)
        for status, reason in zip(frame["status"], frame["reason"], strict=True)
    ]
    table["folder"] = [link_folder(str(folder), page) for folder in frame["folder"]]
    for column, make in (("wandb", link_wandb), ("command", to_command)):
        if column in frame and frame[column].notna().any():
            table["W&B" if column == "wandb" else "repeat it"] = list(map(make, frame[column]))
    ids = [f"run-{index}" for index in frame.index]
    more = f" The first {RUNS:,} of {len(comparison.frame):,}: all are in runs.csv." * (len(comparison.frame) > RUNS)
    note = f"Folders open where the page lies beside its runs. Each command repeats its run.{more}"
    return Section(f"All {len(comparison.frame):,} runs", table, note, closed=True, ids=ids)


def sort_runs(comparison: Comparison) -> pd.DataFrame:
    """Sort all runs by cell, data set, seed and setting; those of cells without a finished run come last."""
    places = {cell: number for number, cell in enumerate(comparison.cells)}
    frame = comparison.frame.assign(place=comparison.frame["cell"].map(places).fillna(len(places)).astype(int))
    return frame.sort_values(["place", "dataset_key", "repeat", "setting"], kind="stable")


def link_folder(folder: str, page: Path) -> Link:
    """Link to a run's folder by a path that starts at the page; no link where there is none."""
    name = Path(folder).name
    if folder.startswith("wandb:"):
        return Link(folder, "")
    try:
        path = os.path.relpath(folder, page)
    except ValueError:  # on another drive of Windows
        return Link(name, "")
    return Link(name, f"./{quote(Path(path).as_posix(), errors='replace')}/")


def link_wandb(url: object) -> Link:
    """Link to a run's page in W&B; what is no address of a web page is no link."""
    return Link("run", str(url)) if str(url).startswith(("https://", "http://")) else Link("", "")


def to_command(command: object) -> Command:
    """Return the command, or an empty one."""
    return Command(command if isinstance(command, str) else "")


def link_cells(comparison: Comparison, table: pd.DataFrame) -> Section:
    """Return the table of cells, whose numbers of runs lead to these runs, and whose rows other links lead to."""
    table, alike = describe_alike(table, [*comparison.by, *table.columns[len(comparison.by) :][:2]])
    failed = "" if "failed" in table else "No training failed."
    points = f"A point is 0.01 {comparison.metric}." if comparison.points else ""
    listed = sort_runs(comparison).head(RUNS)
    first = listed["cell"].drop_duplicates()
    target = dict(zip(first, first.index, strict=True))
    links = [Link(n, f"#run-{target[cell]}" if cell in target else "")
             for cell, n in zip(comparison.cells, table["n"], strict=True)]  # fmt: skip
    table = table.assign(n=pd.Series(links, table.index, dtype=object))
    ids = [f"cell-{place}" for place in range(len(table))]
    return Section("Cells", table, " ".join(filter(None, [alike, failed, points])), ids=ids)
