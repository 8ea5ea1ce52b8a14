"""Which loss and which optimizer were better, by how much, and how sure it is.

    losslab compare outputs/sweeps/tune            # all runs below a folder
    losslab compare outputs                        # one page per race and sweep
    losslab compare outputs 'by=[loss,model]'      # default: loss and optimizer
    losslab compare outputs metric=mae alpha=0.01  # another metric and level
    losslab compare outputs task=regression data=diamonds    # some of the runs
    losslab compare wandb:ENTITY/PROJECT           # runs on W&B's server

It prints the verdict, whose first sentence says what to use, then the table,
cautions and the path of the page. Settings and best epochs are chosen by the
task's primary metric on the validation rows, never by test results. With up to
8 cells, the one with the best test mean is compared with the others; with more,
the one that is best on validation. The folder of the page also holds each plot
as PNG with its numbers as CSV, the table, the pairs, the noise by source and
the runs as CSV, and a table for a paper, table.tex.

    out=FOLDER          where to write; default: the folder `comparison` in the
                        folder given, or in outputs
    claim=splits        what the verdict applies to: rows (new rows like these),
                        seeds (training again on this split), splits or data
                        (new data sets); default: what the records suggest,
                        which the verdict says
    difference=1        differences below this do not matter to you, in per cent
                        or points; the verdict says how many seeds would decide;
                        default: 1, and for a race what the race was asked
    cross=true          also load the best models and evaluate each under every
                        loss that fits its task; slow
    --json              print one JSON object instead of text: sentences, cells
                        and pairs; null: unknown, or never
    log=true            log table and plots to W&B as a run of type report,
                        offline unless WANDB_MODE says otherwise
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before any other import

import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.questions import are_several, ask_like_race, list_questions, split_questions
from losslab.compare.request import Request, parse_request
from losslab.compare.runs import Runs, read_runs
from losslab.compare.settings import name_options
from losslab.config.words import command_words
from losslab.data.notes import count
from losslab.errors import Refused
from losslab.files import write_together
from losslab.pipes import clean
from losslab.record.rows import FIRST_NORM
from losslab.spreadsheet import frame_csv, text_table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from losslab.compare.questions import Question
    from losslab.compare.report import Report
    from losslab.page.figures import Plot
    from losslab.page.html_page import DrawnPlot, Page


SENTENCES = 2  # of a verdict that a terminal shows where there are several


def compare(request: Request, runs: Runs) -> str:
    """Write the page and the files beside it; return what is printed, the page's path last, or one JSON object.

    Raises:
        Refused: if the runs cannot be compared as asked.
    """
    from losslab.compare.report import format_text

    if are_several(request, questions := split_questions(runs)):
        return answer_each(request, questions)
    report, found = write_files(request, runs)
    page, logged = request.out / "index.html", []
    if request.log:
        from losslab.page.wandb_report import log_report

        tables = {"cells": report.cells, "pairs": report.pairs}
        logged = [log_report(report.title, report.verdict + report.cautions, tables, request.out)]
    if request.json:
        return found
    return "\n".join([*format_text(report), *logged, str(page)])


def write_files(request: Request, runs: Runs) -> "tuple[Report, str]":
    """Write the page and the files beside it; return what they say, also as JSON."""
    from losslab.compare.cautions import doubt_race
    from losslab.compare.looks import FILE as LOOKS
    from losslab.compare.report import format_json, write_report

    check_finished(runs)
    request, raced = ask_like_race(request, runs)
    comparison = arrange(runs, request.by, request.metric, request.only, request.alpha, request.claim)
    report = write_report(comparison, evaluate(comparison), request.difference, request.out)
    report = replace(report, cautions=[*doubt_race(comparison), *raced, *report.cautions])
    found = format_json(report, request.out / "index.html", runs.broken)
    unread = [f"{describe_broken(runs)}."] if runs.broken else []  # a terminal says it by itself
    shown = replace(report, cautions=[*unread, *report.cautions])
    write_together(request.out, {LOOKS: found, **render_files(shown, request)})
    return report, found


def answer_each(request: Request, questions: "list[Question]") -> str:
    """Answer each question by itself, in a paragraph that ends with the path of its page.

    Raises:
        Refused: if none can be answered.
    """
    paragraphs, answered = [], 0
    for question, asked in list_questions(request, questions):
        own = Path(question.folder, "comparison", "index.html")
        try:
            if said := question.verdict:
                title, page, cautions = f"race of {question.finished} runs", own, 0
            else:
                report, _ = write_files(asked, question.runs)
                title, said, cautions = report.title, report.verdict, len(report.cautions)
                page = asked.out / "index.html"
            more = [f"{count(cautions, 'caution')} on the page"] if cautions else []
            lines, answered = [*said[:SENTENCES], *more, str(page)], answered + 1
        except Refused as error:
            title, lines = count(question.finished, "finished run"), [f"not compared: {error}"]
        paragraphs.append("\n".join([f"{question.folder}: {title}", *(f"  {line}" for line in lines)]))
    if not answered:
        raise Refused(
            f"none of these {len(questions)} questions can be answered yet: type the folder of one to see why"
        )
    head = (
        f"{len(questions)} questions. For more of one type `losslab compare FOLDER`; 'by=[loss]' compares all as one."
    )
    return "\n\n".join([head, *paragraphs])


def render_files(report: "Report", request: Request, first: "Sequence[Plot]" = ()) -> dict[str, str | bytes]:
    """Render the files of a comparison by their names, the page last; `first` are plots before its own."""
    from losslab.compare.latex import format_latex
    from losslab.page.html_page import render_page

    comparison, components = report.comparison, report.components
    plots = save_plots(report, request, first)
    files: dict[str, str | bytes] = {f"{plot.name}.png": plot.png for plot in plots}
    files |= {f"{plot.name}.csv": plot.csv for plot in plots}
    files |= {"cells.csv": frame_csv(report.cells), "pairs.csv": frame_csv(report.pairs)}
    files["runs.csv"] = frame_csv(comparison.frame.drop(columns=[FIRST_NORM]))
    if components:
        files["variance.csv"] = frame_csv(components.table.assign(unit=comparison.unit))
    files["table.tex"] = latex = format_latex(comparison, report.findings, report.cells)
    files["index.html"] = render_page(build_page(report, request.out, plots, latex))
    return files


def build_page(report: "Report", out: "Path", plots: "Sequence[DrawnPlot]", latex: str) -> "Page":
    """Say what the page of a comparison shows; `out` is its folder, which links to runs start from."""
    from losslab.compare.digits import find_decimals
    from losslab.compare.table import format_cells, format_pairs
    from losslab.compare.variance import format_components
    from losslab.page.html_page import Page, Section
    from losslab.page.plots import LATER
    from losslab.page.run_list import link_cells, list_failed, list_runs

    comparison, components = report.comparison, report.components
    table = format_pairs(report.pairs, comparison.unit, report.findings.alpha)
    pairs = [Section("Pairs", table, closed=True)] if len(table) else []
    target = report.target.sentence if report.target else ""
    cells, *sections = link_cells(comparison, format_cells(comparison, report.cells), target)
    sections += pairs
    if components:
        sections.append(Section("Noise by source", format_components(components, comparison.unit), components.sentence))
    sections.append(list_runs(comparison, out, find_decimals(report.cells)))
    shown = [plot for plot in plots if plot.name not in LATER]
    lead = [*report.lead, list_failed(comparison)]
    return Page(
        report.title, time.strftime("%Y-%m-%d"), lead, report.verdict, report.cautions, cells, latex, shown,
        [plot for plot in plots if plot.name in LATER], sections, report.method,
    )  # fmt: skip


def check_finished(runs: Runs) -> None:
    """Check that at least two runs are finished."""
    finished = int(runs.frame["status"].eq("finished").sum()) if len(runs.frame) else 0
    if finished < 2:
        some = "no run is" if finished == 0 else "one run is no comparison: only one is"
        unread = f" ({describe_broken(runs)})" if runs.broken else ""
        if why := describe_failed(runs):
            raise Refused(f"{some} finished{unread}, and {why}; fix that, run it again, then compare again")
        raise Refused(f"{some} finished{unread}: run it with another loss, optimizer or seed, then compare again")


def describe_failed(runs: Runs) -> str:
    """Say how many runs failed, the most common reason, and of which cell a run has it; empty if none failed."""
    frame = runs.frame
    failed = frame[frame["status"].eq("failed")] if len(frame) else frame
    if failed.empty or failed["reason"].isna().all():
        return ""
    reasons = failed["reason"].dropna().map(str).value_counts()
    reason = str(reasons.index[0])
    first = failed[failed["reason"].map(str) == reason].head(1)
    names = name_options(failed, [key for key in ("loss", "optimizer") if key in failed])
    cell, often = names[first.index[0]], f"{len(failed)} failed, most often"
    if len(failed) == reasons.iloc[0]:
        cell, often = f"{'such as ' * (names.nunique() > 1)}{cell}", f"{len(failed)} failed"
    text = textwrap.shorten(reason, 200, placeholder="\u2026").rstrip(".")
    return f"{often} ({cell}): {text}"


def save_plots(report: "Report", request: Request, first: "Sequence[Plot]") -> "list[DrawnPlot]":
    """Draw all plots as PNG, SVG and CSV, in memory; `cross=true` adds trained models under every loss."""
    from losslab.page.plots import draw_plots

    comparison = report.comparison
    plots = [*first, *draw_plots(comparison, report.cells, report.findings, request.difference)]
    if request.cross:
        from losslab.compare.cross import tabulate
        from losslab.page.result_plots import draw_cross

        plots.append(draw_cross(tabulate(comparison, request.own)))
    return list(map(to_files, plots))


def to_files(plot: "Plot") -> "DrawnPlot":
    """Save a plot as PNG, SVG and CSV, in memory."""
    from losslab.page.html_page import DrawnPlot
    from losslab.page.plots import save_plot

    return DrawnPlot(plot.name, plot.caption, *save_plot(plot), frame_csv(plot.data))


def count_runs(runs: Runs) -> str:
    """Count the runs of each task, data set, model, loss, optimizer and status, in a table."""
    frame = runs.frame
    if frame.empty:
        return "no run could be read"
    keys = [key for key in ("task", "data", "model", "loss", "optimizer", "status") if key in frame]
    counts = frame[keys].fillna("").astype(str).groupby(keys, sort=True).size().rename("runs").reset_index()
    shown = counts.head(30).astype(str)
    if len(counts) > len(shown):
        shown.loc[len(shown)] = [f"and {len(counts) - len(shown)} more", *[""] * len(keys)]
    return text_table(shown)


def describe_broken(runs: Runs) -> str:
    """Say which records could not be read."""
    found = len(runs.broken)
    more = f" and {found - 3} more" if found > 3 else ""
    return f"{count(found, 'record')} could not be read: {', '.join(runs.broken[:3])}{more}"


def main() -> None:
    """Run the command; on a mistake print what could be read, then one sentence, and exit with code 1."""
    with command_words(__doc__, "out=FOLDER") as words:
        request = parse_request(words)
        runs = read_runs(request.folders)
        try:
            print(clean(compare(request, runs)), flush=True)
        except Refused:
            if not request.json:
                print(clean(count_runs(runs)), flush=True)
            raise
        if runs.broken:
            sys.exit(f"losslab: {describe_broken(runs)}; all else was compared")


if __name__ == "__main__":
    main()
