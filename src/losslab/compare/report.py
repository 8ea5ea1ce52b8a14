"""All that a comparison says, in one place: for the terminal, the page, and as JSON for programs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from losslab.compare.cautions import find_cautions
from losslab.compare.claims import Findings
from losslab.compare.costs import Target, name_fronts, time_to_target
from losslab.compare.design import Comparison
from losslab.compare.lead import Line, find_standing, write_lead
from losslab.compare.looks import doubt_looks, list_looks, name_runs
from losslab.compare.method import describe_method
from losslab.compare.ranks import rank_cells
from losslab.compare.settings import CROSS
from losslab.compare.table import format_cells, pick_drawn, summarize_cells, tabulate_pairs
from losslab.compare.variance import Components, estimate_components
from losslab.compare.verdict import write_verdict
from losslab.spreadsheet import text_table

SHOWN = 20  # rows of the table of cells in a terminal


@dataclass(frozen=True)
class Report:
    """What a comparison says."""

    comparison: Comparison  # what is compared
    findings: Findings  # what was found
    title: str  # what is compared, in a line
    lead: list[Line]  # what to use, what is as good, what to avoid, and how sure that is
    verdict: list[str]  # in sentences
    cautions: list[str]  # in sentences
    cells: pd.DataFrame  # in numbers
    pairs: pd.DataFrame  # in numbers
    components: Components | None  # where the noise comes from, if it is known
    target: Target | None  # how soon each cell reaches a target, if histories tell
    method: list[str]  # how all of that was computed, point by point
    looks: list[int]  # how many runs each look at these cells was at


def write_report(comparison: Comparison, findings: Findings, wanted: float, folder: Path, chosen: str = "") -> Report:
    """Write the sentences and tables of a comparison.

    Args:
        folder: of the page, where an earlier comparison may be.
        chosen: the cell to use, where a race has decided it.
    """
    looks = list_looks(comparison, folder)
    target, cells = time_to_target(comparison), summarize_cells(comparison)
    chosen = chosen or (find_standing(comparison, findings, wanted).leader if findings.pairs else "")
    cells["chosen"] = cells["cell"] == chosen
    cells = cells.join(rank_cells(comparison)).assign(pareto=name_fronts(comparison, cells))
    if target:
        cells = cells.join(target.table.rename(columns={"to target": f"{target.over} to target"}))
    count = len(comparison.datasets)
    data = comparison.datasets[0][:60] if count == 1 else f"{count} data sets"
    return Report(
        comparison,
        findings,
        f"{CROSS.join(comparison.by)}: test {comparison.metric} of {len(comparison.used):,} runs on {data}",
        write_lead(comparison, findings, wanted),
        write_verdict(comparison, findings, wanted),
        [*doubt_looks(looks, comparison.alpha), *find_cautions(comparison, findings)],
        cells,
        tabulate_pairs(findings.tested),
        estimate_components(comparison, findings),
        target,
        describe_method(comparison, target, findings.alpha),
        looks,
    )


def format_text(report: Report) -> list[str]:
    """Write what the terminal shows."""
    shown = report.cells["cell"].isin(pick_drawn(report.cells, SHOWN)[0])
    table = text_table(format_cells(report.comparison, report.cells, whole=False)[shown])
    if len(report.cells) > SHOWN:
        table += f"\nand {len(report.cells) - SHOWN} more: all are in cells.csv and on the page"
    cautions = [f"caution: {caution}" for caution in report.cautions]
    blocks = [report.verdict, [table], cautions]
    return [line for block in blocks if block for line in [*block, ""]]


def format_json(report: Report, page: Path, unread: list[str]) -> str:
    """Write one JSON object, in strict JSON; `unread` has a phrase for each record that could not be read."""
    comparison, components = report.comparison, report.components
    population = comparison.population
    found = {
        "title": report.title,
        "lead": [line._asdict() for line in report.lead],
        "verdict": report.verdict,
        "population": {"claim": population.claim, "unit": population.noun, "sentence": population.sentence},
        "metric": comparison.metric,
        "mode": comparison.mode,
        "unit": comparison.unit,
        "alpha": comparison.alpha,
        "by": comparison.by,
        "leader": report.findings.leader,
        "cells": report.cells.to_dict("records"),
        "pairs": report.pairs.to_dict("records"),
        "cautions": report.cautions,
        "variance": components and {"sources": components.table.to_dict("records"), "sentence": components.sentence},
        "method": report.method,
        "looks": report.looks,
        "runs": name_runs(comparison),
        "unread": unread,
        "page": str(page),
    }
    return json.dumps(to_json(found), indent=2, allow_nan=False)


def to_json(value: Any) -> Any:
    """Turn numpy's values into Python's, and what is not finite into `None`.

    >>> to_json({"p": np.float64("nan"), "n": [np.int64(3), float("inf")]})
    {'p': None, 'n': [3, None]}
    """
    if isinstance(value, dict):
        return {str(key): to_json(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
