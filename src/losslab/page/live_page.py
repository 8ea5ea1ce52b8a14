"""The page of runs that go on: how far they are, and what their comparison would show, without a verdict."""

import time
from dataclasses import replace
from pathlib import Path

import pandas as pd

from losslab.compare.__main__ import build_page, check_finished, to_files
from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.gathered import Gathered
from losslab.compare.lead import Line
from losslab.compare.report import write_report
from losslab.compare.runs import read_runs
from losslab.compare.wording import describe_wanted
from losslab.errors import Refused
from losslab.page.cost_plots import draw_pareto
from losslab.page.html_page import Page, Section, render_page
from losslab.page.result_plots import draw_means
from losslab.page.run_list import link_folder
from losslab.page.training_plots import draw_training
from losslab.race.lead import write_standing
from losslab.race.state import load_state
from losslab.sweep.standing import Standing

NO_VERDICT = (
    "No verdict yet. Means change while runs go on, and a test at each look would call differences real by chance in "
    "more than 5 % of cases."
)
DRAWN = draw_means, draw_pareto, draw_training
SHOWN = 200  # runs that go on are listed


def draw_live(folder: Path, standing: Standing, refresh: int, known: Gathered | None = None) -> str:
    """Draw the page.

    Args:
        refresh: after how many seconds a browser reads it again; 0 for a page that stays.
        known: runs that have ended and were read before.
    """
    out, clock = folder / "live", time.strftime("%H:%M:%S")
    again = f"; again every {refresh} seconds, as soon as something has changed" if refresh else ""
    lead = [Line("Looked at", "", f"{clock}{again}.")]
    verdict = f"`losslab compare {folder}` has the verdict"
    caution = f"{NO_VERDICT} {verdict} when all have ended."
    if standing.over:
        caution = f"All runs have ended: {verdict}."
    elif not refresh:
        caution = f"This page is no longer renewed: type `losslab watch {folder}` again. {caution}"
    headline = f"{standing.sentence}."
    running = [Section("Running", tabulate_running(standing, out))] if standing.running else []
    try:
        runs = read_runs([str(folder)], known)
        check_finished(runs)
        comparison = arrange(runs)
        report = write_report(comparison, evaluate(comparison), 1.0, out)
        state = load_state(folder)
        if state is not None and state.looks:  # what a race says holds at any look
            lead += write_standing(state, comparison.own_unit, describe_wanted(comparison, state.difference))
        cells = report.cells.assign(chosen=False)  # there is no verdict yet
        report = replace(
            report, lead=lead, verdict=[headline], cautions=[caution], pairs=report.pairs.head(0), cells=cells
        )
        plots = [plot for draw in DRAWN if (plot := draw(comparison, report.cells))]
        page = build_page(report, out, list(map(to_files, plots)), "")
        page = replace(page, sections=[*running, *page.sections])
    except Refused as error:  # there is nothing to compare yet
        nothing = Section("Cells", pd.DataFrame({"so far": [str(error)]}))
        page = Page(folder.name, "", lead, [headline], [caution], nothing, "", (), (), running, ())
    page = replace(page, title=f"{folder.name}, live", date=time.strftime("%Y-%m-%d %H:%M:%S"), refresh=refresh)
    return render_page(page)


def tabulate_running(standing: Standing, out: Path) -> pd.DataFrame:
    """Tabulate the runs that go on: how far each is, and its primary metric on the validation rows."""
    rows = sorted(standing.running, key=lambda run: str(run["run"]))[:SHOWN]
    return pd.DataFrame(
        {
            "run": [link_folder(run["folder"], out) for run in rows],
            "epoch": [f"{run['epoch']} of {run['epochs']}" for run in rows],
            "metric": [run["metric"] for run in rows],
            "last": [shorten_number(run["value"]) for run in rows],
        }
    )


def shorten_number(text: str) -> str:
    """Write a number with four digits; anything else as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text
