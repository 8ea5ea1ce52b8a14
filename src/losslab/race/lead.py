"""The lead of a race's page: what to use, what is as good, what is undecided and what to avoid."""

from collections.abc import Sequence
from typing import Any

from losslab.compare.lead import CLEAR, Line, Places, list_places
from losslab.compare.wording import format_gap, format_size, join_phrases, shorten
from losslab.race.state import State


def write_lead(state: State, unit: str, gap: str, closing: Sequence[str]) -> list[Line]:
    """Write the lead of a race.

    Args:
        gap: the difference that does not matter, such as 1 point.
        closing: what the race took, and what its sentences are about.
    """
    cost, about = closing
    return [*write_standing(state, unit, gap), Line("How sure", "", about), Line("What it took", "", cost)]


def write_standing(state: State, unit: str, gap: str) -> list[Line]:
    """Write how the candidates of a race stand after its last look."""
    gaps = {name: gap for look in state.looks for name, gap in look["gaps"].items()}  # the latest of each
    undecided = sorted(state.undecided, key=lambda name: gaps.get(name, {"mean": 0.0})["mean"])

    def describe(name: str) -> str:
        return describe_gap(gaps[name], unit) if name in gaps else ""

    dropped = sorted(state.beaten.items(), key=lambda item: -item[1]["mean"])
    found = {name: f"found after {gap['n']} seeds: {describe_gap(gap, unit)}" for name, gap in dropped}
    worse = dict(state.never) | {name: found[name] for name, gap in dropped if gap["low"] > 0}
    places = Places(
        state.leader,
        {name: describe(name) for name in sorted(state.same)},
        {name: describe(name) for name in undecided},
        worse,
        gap,
    )
    rest = {
        name: f"found after {gap['n']} seeds: behind {gap['ahead']} by {format_size(gap['mean'], unit)}"
        for name, gap in dropped
        if gap["low"] <= 0
    }
    lines = list_places(places, others=len(rest))
    if rest:
        answer = f"{join_phrases(shorten(list(rest)))}: another candidate is at least as good."
        lines.append(Line("No better", CLEAR, answer, [f"{name}: {phrase}" for name, phrase in rest.items()]))
    return lines


def describe_gap(gap: dict[str, Any], unit: str) -> str:
    """Write how far one is behind another, with the interval."""
    way = "behind" if gap["mean"] >= 0 else "ahead of"
    ends = (gap["low"], gap["high"]) if gap["mean"] >= 0 else (-gap["high"], -gap["low"])
    ahead = gap["ahead"] if len(gap.get("rivals", [""])) == 1 else "the best"
    return f"{way} {ahead} by {format_gap(abs(gap['mean']), *ends, unit)}"
