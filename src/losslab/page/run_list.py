"""The list of all runs on the page: where each is, how it ended, and the command that repeats it."""

import os
from pathlib import Path
from urllib.parse import quote

import pandas as pd

from losslab.compare.design import Comparison
from losslab.compare.digits import format_decimals
from losslab.compare.lead import Line
from losslab.compare.settings import format_value
from losslab.compare.table import describe_alike
from losslab.compare.wording import join_phrases
from losslab.compare.wording import shorten as name_few
from losslab.page.figures import RUNS, shorten
from losslab.page.html_page import Command, Link, Section

REASONS = 5  # why trainings failed: so many are told
LATER = (  # columns of the second table of cells
    *("tried", "best on validation", "IQM", "best epoch", "updates", "samples/s", "MB", "to target", "Pareto"),
)


def list_runs(comparison: Comparison, page: Path, decimals: int | None) -> Section:
    """List the runs, cell by cell, each with its folder, its W&B page and the command that repeats it.

    Args:
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
    if "wandb" in frame and frame["wandb"].notna().any():
        table["W&B"] = [link_wandb(url) for url in frame["wandb"]]
    if "command" in frame and frame["command"].notna().any():
        table["repeat it"] = [Command(typed if isinstance(typed, str) else "") for typed in frame["command"]]
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


def list_failed(comparison: Comparison) -> Line:
    """Write the line of the lead on the trainings that failed, with the reasons; it leads to the first of them."""
    runs = sort_runs(comparison)
    failed = runs[runs["status"] == "failed"]
    if failed.empty:
        return Line("Failed", "", "No training failed.")
    cells = [f"{cell} ({count})" for cell, count in failed["cell"].value_counts(sort=False).items()]
    count = f"{len(failed):,} of {len(runs):,} trainings"
    reasons = failed["reason"].fillna("no reason is recorded").map(str).value_counts().head(REASONS)
    evidence = [f"{number} \N{MULTIPLICATION SIGN} {shorten(str(reason), 300)}" for reason, number in reasons.items()]
    first = failed.index.intersection(runs.head(RUNS).index, sort=False)
    target = f"run-{first[0]}" if len(first) else ""
    return Line("Failed", "", f"{count}: {join_phrases(name_few(cells))}.", evidence, target)


def link_cells(comparison: Comparison, table: pd.DataFrame, target_note: str) -> list[Section]:
    """Return the table of cells, and a second one of what they cost and of their settings, which one click opens.

    The numbers of runs lead to these runs, and other links lead to the rows.
    """
    by, width = comparison.by, len(comparison.by)
    n, metric = table.columns[width : width + 2]
    table, alike = describe_alike(table, [*by, n, metric])
    count = table.pop(n)
    table.insert(width + min(2, len(table.columns) - width), n, count)  # behind the metric and its interval
    later = [name for name in LATER if name in table]
    notes = [
        alike,
        f"A point is 0.01 {comparison.metric}." * comparison.points,
        f"P(best) is how often a cell would be the best if the {comparison.population.noun}s were drawn again at "
        "random, and rank is the range of its places. They only describe these test results and prove nothing."
        * ("P(best)" in table),
    ]
    later_notes = [
        "IQM is the mean of the middle half of the runs." * ("IQM" in table),
        target_note * ("to target" in table),
        "Pareto: no other cell has both a better mean and a lower cost of this kind." * ("Pareto" in table),
    ]
    listed = sort_runs(comparison).head(RUNS)
    first = listed["cell"].drop_duplicates()
    target = dict(zip(first, first.index, strict=True))
    links = [Link(n, f"#run-{target[cell]}" if cell in target else "")
             for cell, n in zip(comparison.cells, table["n"], strict=True)]  # fmt: skip
    table = table.assign(n=pd.Series(links, table.index, dtype=object))
    ids = [f"cell-{place}" for place in range(len(table))]
    cells = Section("Cells", table.drop(columns=later), " ".join(filter(None, notes)), ids=ids)
    if not later:
        return [cells]
    note = " ".join(filter(None, later_notes))
    return [cells, Section("Cells: settings, costs and further figures", table[[*by, *later]], note, closed=True)]
