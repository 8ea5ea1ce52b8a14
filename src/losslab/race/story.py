"""How a race ended, in sentences, a picture and the page of a comparison."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from losslab.compare.claims import evaluate
from losslab.compare.population import find_population
from losslab.compare.request import Request
from losslab.compare.wording import join_phrases
from losslab.files import write_together
from losslab.page.figures import BLUE, COLOURS, GREY, STYLES, Plot, make_figure
from losslab.race.judge import FAILURES, ROWS
from losslab.race.state import State

if TYPE_CHECKING:
    from losslab.compare.design import Comparison
    from losslab.race.driver import Race

NAMED = 4  # candidates that are beaten are named with their numbers, up to this many
DRAWN = 12  # gaps are drawn in colours of their own, of so many candidates that raced longest


def write_story(race: "Race", why: str) -> list[str]:
    """Write the verdict, the page and the files of a race; return what is printed, the page's path last."""
    from losslab.compare.__main__ import render_files
    from losslab.compare.report import format_text, write_report

    state, out = race.state, race.folder / "comparison"
    if not state.leader:
        return [f"No candidate finished: {name}: {reason}." for name, reason in state.never.items()]
    finished = [name for name in race.cells if name in {*state.known, *state.beaten}]
    comparison = race.compare(finished, state.seeds)
    verdict = write_verdict(race, comparison, why)
    if len(comparison.cells) < 2:
        return verdict
    comparison.alpha = state.looks[-1]["level"] or comparison.alpha
    report = write_report(comparison, evaluate(comparison), state.difference, out)
    method = (
        f"A race looked after {join_phrases([str(look['seeds']) for look in state.looks])} seeds. Each look spends a "
        "part of the 5 % that was fixed before (Lan & DeMets 1983); the sentences above hold together over all looks. "
        f"The table of pairs is of the last look alone, at {100 * comparison.alpha:.2g} %. "
    )
    report = replace(
        report, verdict=verdict, title=f"race: {report.title}", method=method + report.method,
        cautions=[caution for caution in report.cautions if "looked at before" not in caution],
    )  # fmt: skip
    request = Request([str(race.folder)], out)
    write_together(out, render_files(report, request, draw_story(state)))
    return [*format_text(report), str(out / "index.html")]


def write_verdict(race: "Race", comparison: "Comparison", why: str) -> list[str]:
    """Write the verdict of a race in sentences, what to use first."""
    state, unit = race.state, comparison.unit
    wanted = f"{state.difference:g} {unit}"
    used = [f"Use {state.leader}."]
    if not state.undecided:
        alone = "No other candidate is as good." if not state.same else ""
        used = [f"Use {state.leader}. {alone}".strip()]
    if state.same:
        verb = "is" if len(state.same) == 1 else "are"
        used.append(f"{join_phrases(sorted(state.same))} {verb} the same within {wanted}: choose by cost or habit.")
    used += describe_undecided(race, comparison, wanted, why)
    beaten = sorted(state.beaten.items(), key=lambda item: item[1]["mean"])
    for name, gap in beaten[:NAMED]:
        used.append(
            f"{name} is worse than {gap['ahead']} by {gap['mean']:.2g} {unit} [{gap['low']:.2g}, {gap['high']:.2g}], "
            f"found at {gap['n']} seeds."
        )
    if len(beaten) > NAMED:
        used.append(f"{len(beaten) - NAMED} more are worse by at least {beaten[NAMED][1]['mean']:.2g} {unit}.")
    used += [f"{name} is out: {reason}." for name, reason in state.never.items()]
    return [*used, describe_cost(race), describe_claim(comparison, len(state.looks))]


def describe_undecided(race: "Race", comparison: "Comparison", wanted: str, why: str) -> list[str]:
    """Say what is undecided, why the race ended nevertheless, and what would decide it."""
    state, unit, found = race.state, comparison.unit, []
    gaps = state.looks[-1]["gaps"]
    for name in state.undecided:
        gap = gaps.get(name)
        interval = f" (behind by {gap['mean']:.2g} {unit} [{gap['low']:.2g}, {gap['high']:.2g}])" if gap else ""
        why_not = state.hopeless.get(name)
        if why_not == ROWS:
            found.append(
                f"{name} cannot be told from {state.leader}{interval}, however many seeds there are: "
                f"{comparison.tested_rows:,} test rows are too few for {wanted}. tune=0 tests new splits, or type a "
                "larger difference."
            )
        elif why_not == FAILURES:
            found.append(
                f"{state.leader} is better than {name} where it finishes{interval}, but more of its trainings failed."
            )
        else:
            found.append(f"{name} is undecided after {state.seeds} seeds{interval}.")
    if [name for name in state.undecided if name not in state.hopeless]:
        more = max(state.planned - state.seeds, max(2, state.seeds // 3)) * len(state.racing)
        found.append(f"{why[0].upper()}{why[1:]} is used up; about {more} runs more would decide the rest.")
    return found


def describe_cost(race: "Race") -> str:
    """Say what the race took, and what a full grid would have."""
    state, runs = race.state, race.count_runs()
    tests = sum(len(record["runs"]) for record in race.records.values() if record["setting"].get("stage") == "test")
    tuned = f", {runs - tests} of them to tune" if runs > tests else ""
    grid = len(race.cells) * state.seeds + runs - tests
    return f"That took {runs} runs{tuned}; with {state.seeds} seeds for every candidate it would have been {grid}."


def describe_claim(comparison: "Comparison", looks: int) -> str:
    """Say what the sentences are about, and how sure they are."""
    population = find_population(comparison.used, comparison.population.claim, len(comparison.blocks))
    over = f", over all {looks} looks" if looks > 1 else ""
    return f"{population.sentence} All sentences together are right in 95 % of races{over}; brackets hold intervals."


def draw_story(state: State) -> list[Plot]:
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
    drawn, axes = make_figure(7.0, 4.2)
    axis = axes[0, 0]
    lasted = data.groupby("candidate")["seeds"].max().sort_values(ascending=False, kind="stable")
    for number, name in enumerate(lasted.index):
        own = data[data["candidate"] == name]
        shown = number < DRAWN
        colour = COLOURS[number % len(COLOURS)] if shown else GREY
        style = STYLES[number // len(COLOURS) % len(STYLES)]
        label = (f"{name} (worse)" if name in state.beaten else name) if shown else None
        axis.plot(own["seeds"], own["behind"], color=colour, linestyle=style, marker="o", ms=3, label=label,
                  alpha=1.0 if shown else 0.4)  # fmt: skip
        if shown:
            axis.fill_between(own["seeds"], own["low"], own["high"], color=colour, alpha=0.12, linewidth=0)
        if name in state.beaten:
            axis.plot(own["seeds"].iloc[-1], own["behind"].iloc[-1], marker="x", ms=7, color=colour)
    axis.axhline(0, color=BLUE, linewidth=1)
    axis.axhspan(-state.difference, state.difference, color=GREY, alpha=0.15, linewidth=0)
    axis.set_xlabel("seeds")
    axis.set_ylabel("behind the leader")
    axis.set_yscale("symlog", linthresh=max(2 * state.difference, 1e-6))
    drawn.legend(loc="outside right upper", fontsize=8, frameon=False)
    caption = (
        "The race: how far each candidate was behind the leader of each look, with the interval of that look. A cross "
        "marks where it was found to be worse; the grey band is the difference that does not matter."
    )
    return [Plot("race", caption, drawn, data)]
