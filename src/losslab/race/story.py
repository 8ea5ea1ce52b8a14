"""How a race ended, in sentences, a picture and the page of a comparison."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

from losslab.compare.claims import evaluate
from losslab.compare.lead import find_command
from losslab.compare.request import Request
from losslab.compare.wording import describe_wanted, format_gap, format_size, join_phrases
from losslab.files import write_together
from losslab.page.figures import BLUE, GREY, ORANGE, Plot, make_figure, shorten
from losslab.race.judge import FAILURES, ROWS
from losslab.race.lead import write_lead
from losslab.race.state import State

if TYPE_CHECKING:
    from losslab.compare.design import Comparison
    from losslab.race.driver import Race

NAMED = 4  # candidates are named with their numbers, up to this many of a kind
SAID = ("looked at before", "Unequal seeds", "The cells differ in optimizer.lr")  # cautions that do not hold for a race
WIDE = 20  # the axis is logarithmic where a candidate may be so many times the difference behind
DRAWN, ACROSS = 16, 4  # so many candidates are drawn, those that raced longest, and so many beside each other


def write_story(race: "Race", why: str) -> list[str]:
    """Write the verdict, the page and the files of a race; return what is printed, the page's path last."""
    from losslab.compare.__main__ import render_files
    from losslab.compare.report import format_text, write_report

    state, out = race.state, race.folder / "comparison"
    if not state.leader:
        return [f"No candidate finished: {name}: {reason}." for name, reason in state.never.items()]
    finished = [name for name in race.cells if name in {*state.known, *state.beaten}]
    comparison = race.compare(finished, state.seeds)
    state.said = verdict = write_verdict(race, comparison, why)
    state.write(race.folder)
    if len(comparison.cells) < 2:
        return verdict
    level = state.looks[-1]["level"] or comparison.alpha
    findings = evaluate(replace(comparison, alpha=level))
    report = write_report(comparison, findings, state.difference, out, state.leader)
    method = [
        f"The race looked after {join_phrases([str(look['seeds']) for look in state.looks])} seeds. Each look uses a "
        "part of the 5 % that is fixed in advance (Lan & DeMets 1983), so the sentences above hold together over all "
        "looks.",
        f"The table of pairs is from the last look alone, tested at {100 * level:.2g} %.",
    ]
    use, *rest = write_lead(state, comparison.own_unit, describe_wanted(comparison, state.difference), verdict[-2:])
    lead = [use._replace(evidence=find_command(comparison, state.leader)), *rest]
    report = replace(
        report, lead=lead, verdict=verdict, title=f"race: {report.title}", method=[*method, *report.method],
        cautions=[*warn_of_seeds(comparison), *(each for each in report.cautions if not any(w in each for w in SAID))],
    )  # fmt: skip
    request = Request([str(race.folder)], out, difference=state.difference)
    plots = draw_story(state, comparison.unit)
    write_together(out, render_files(report, request, plots))
    logged = []
    if race.question.log:
        from losslab.page.wandb_report import log_report

        tables = {"cells": report.cells, "pairs": report.pairs} | {plot.name: plot.data for plot in plots}
        logged = [log_report(report.title, report.verdict + report.cautions, tables, out)]
    return [*format_text(report), *logged, str(out / "index.html")]


def warn_of_seeds(comparison: "Comparison") -> list[str]:
    """Say why the means in the table are over different seeds; nothing where they are not."""
    if comparison.used.groupby("cell").size().nunique() < 2:
        return []
    return [
        "The candidates have different numbers of seeds, because a decided one is not trained further. To compare two, "
        "use the seeds that both have, as the verdict does, not their means in the table."
    ]


def write_verdict(race: "Race", comparison: "Comparison", why: str) -> list[str]:
    """Write the verdict of a race in sentences, what to use first."""
    state, unit = race.state, comparison.own_unit
    wanted = describe_wanted(comparison, state.difference)
    if state.undecided:
        used = [f"Not decided; {state.leader} leads so far."]
    elif state.same:
        used = [f"Use {state.leader}, or one that is the same."]
    else:
        sure = all(gap["low"] > 0 for gap in state.beaten.values())
        used = [f"Use {state.leader}. No other candidate is {'as good' if sure else 'better'}."]
    if state.same:
        verb = "is" if len(state.same) == 1 else "are"
        said = f"{join_phrases(sorted(state.same))} {verb} the same as {state.leader} within {wanted}"
        used.append(f"{said}: choose by cost or habit.")
    used += describe_undecided(race, comparison, wanted, why)
    beaten = sorted(state.beaten.items(), key=lambda item: item[1]["mean"])
    used += [describe_beaten(name, gap, unit, state.difference) for name, gap in beaten[:NAMED]]
    if len(beaten) > NAMED:
        used.append(
            f"{len(beaten) - NAMED} more are behind by at least "
            f"{format_size(beaten[NAMED][1]['mean'], unit.replace(' its ', ' their '))}."
        )
    used += [f"{name} is out: {reason}." for name, reason in state.never.items()]
    return [*used, describe_cost(race), describe_claim(comparison, len(state.looks))]


def describe_beaten(name: str, gap: dict[str, Any], unit: str, difference: float) -> str:
    """Say how far a candidate that was dropped is behind the best, and whether it is surely worse."""
    if gap["low"] > 0:
        best = gap["ahead"] if len(gap["rivals"]) == 1 else "the best"
        interval = format_gap(gap["mean"], gap["low"], gap["high"], unit)
        return f"{name} is worse than {best} by {interval}, found at {gap['n']} seeds."
    close = "; whether that matters is not decided" if gap["mean"] < difference else ""
    return (
        f"{name} is out, as another one is at least as good: it was behind {gap['ahead']} by "
        f"{format_size(gap['mean'], unit)} at {gap['n']} seeds{close}."
    )


def describe_undecided(race: "Race", comparison: "Comparison", wanted: str, why: str) -> list[str]:
    """Say what is undecided, why the race ended nevertheless, and what would decide it."""
    state, unit, found = race.state, comparison.own_unit, []
    gaps = state.looks[-1]["gaps"]
    left = sorted(state.undecided, key=lambda name: gaps[name]["mean"] if name in gaps else 0.0)
    for name in left[:NAMED]:
        gap = gaps.get(name)
        interval = f" (behind by {format_gap(gap['mean'], gap['low'], gap['high'], unit)})" if gap else ""
        why_not = state.hopeless.get(name)
        if why_not == ROWS:
            found.append(
                f"{name} cannot be told from {state.leader}{interval}, however many seeds there are: "
                f"{comparison.tested_rows:,} test rows are too few for {wanted}. Type "
                f"{'tune=0, which tests new splits, or ' if race.question.tuning else ''}a larger difference."
            )
        elif why_not == FAILURES:
            found.append(
                f"{state.leader} is better than {name} where it finishes{interval}, but more of its trainings failed."
            )
        elif name not in comparison.cells:
            found.append(f"{name} is not trained yet.")
        else:
            found.append(f"{name} is undecided after {state.seeds} seeds{interval}.")
    if len(left) > NAMED:
        found.append(f"{len(left) - NAMED} more are undecided: race.csv has all gaps.")
    if [name for name in state.undecided if name not in state.hopeless]:
        more = max(state.planned - state.seeds, max(2, state.seeds // 3)) * len(state.racing)
        found.append(f"It ended because {why}; about {more} more runs would decide the rest.")
    return found


def describe_cost(race: "Race") -> str:
    """Say what the race took, and what a full grid would have."""
    state, runs = race.state, race.count_runs()
    tests = sum(len(record["runs"]) for record in race.records.values() if record["setting"].get("stage") == "test")
    tuned = f", {runs - tests} of them to tune" if runs > tests else ""
    grid = len(race.cells) * state.seeds + runs - tests
    failed = sum(record["state"] == "failed" for record in race.records.values())
    lost = f" {failed} of them failed." if failed else ""
    full = f"; a full grid with {state.seeds} seeds for every candidate would have taken {grid}" if grid > runs else ""
    return f"That took {runs} runs{tuned}{full}.{lost}"


def describe_claim(comparison: "Comparison", looks: int) -> str:
    """Say what the sentences are about, and how sure they are."""
    over = f", over all {looks} looks" if looks > 1 else ""
    return f"{comparison.population.sentence} In 95 % of races every sentence is right{over}; brackets hold intervals."


def draw_story(state: State, unit: str) -> list[Plot]:
    """Draw how far each candidate was behind the leader of each look, and its interval, until it was dropped."""
    rows = [
        {"seeds": look["seeds"], "candidate": name, "leader": look["leader"], "behind": gap["mean"]}
        | {"low": gap["low"], "high": gap["high"], "beaten": name in state.beaten}
        for look in state.looks
        for name, gap in look["gaps"].items()
    ]
    if not rows:
        return []
    data = pd.DataFrame(rows)
    lasted = data.groupby("candidate")["seeds"].max().sort_values(ascending=False, kind="stable")
    names = list(lasted.index[:DRAWN])
    ends = min(0.0, data["low"].clip(lower=-10 * state.difference).min()), data["high"].max()
    wide = ends[1] > WIDE * state.difference
    columns = min(ACROSS, len(names))
    down = -(-len(names) // columns)
    drawn, axes = make_figure(1.0 + 2.1 * columns, 0.6 + 1.6 * down, down, columns)
    for axis, name in zip(axes.flat, names, strict=False):
        own, worse = data[data["candidate"] == name], name in state.beaten
        colour = ORANGE if worse else BLUE
        axis.axhspan(-state.difference, state.difference, color=GREY, alpha=0.2, linewidth=0)
        axis.axhline(0, color=GREY, linewidth=0.8)
        axis.fill_between(own["seeds"], own["low"], own["high"], color=colour, alpha=0.2, linewidth=0)
        axis.plot(own["seeds"], own["behind"], color=colour, marker="o", ms=3)
        last = own.iloc[-1]
        axis.vlines(last["seeds"], last["low"], last["high"], color=colour)  # one look alone has no band
        axis.plot(last["seeds"], last["behind"], marker="X" if worse else "o", ms=7, color=colour)
        axis.set_title(shorten(name, 26), fontsize=9, parse_math=False)
        if wide:
            axis.set_yscale("symlog", linthresh=state.difference)
            axis.yaxis.set_major_formatter("{x:g}")
        axis.set_ylim(*(end * 1.1 for end in ends))
        axis.set_xlim(0, state.seeds + 1)
        axis.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    drawn.supxlabel("seeds", fontsize=10)
    drawn.supylabel(f"behind the leader,\n{unit}", fontsize=10)
    crossed = " Orange, with a cross: dropped." if any(data["beaten"]) else ""
    which = f" The {DRAWN} of {len(lasted)} that raced longest." if len(lasted) > DRAWN else ""
    caption = (
        "The race: how far each candidate was behind the leader of each look, with the interval of that look. A "
        f"line ends where its candidate was decided.{crossed} Grey band: the difference that does not matter"
        f"{'; the axis is logarithmic beyond it' if wide else ''}.{which}"
    )
    return [Plot("race", caption, drawn, data)]
