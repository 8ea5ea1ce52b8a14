"""The lead of a race's page: what to use, what is as good, what is undecided and what to avoid."""

from collections.abc import Sequence
from typing import Any

from losslab.compare.lead import Line, Places, list_places
from losslab.compare.wording import format_amount
from losslab.race.state import State


def write_lead(state: State, unit: str, gap: str, closing: Sequence[str]) -> list[Line]:
    """Write the lead of a race.

    Args:
        state: what the race knows.
        unit: of a difference.
        gap: the difference that does not matter, such as 1 point.
        closing: what the race took, and what its sentences are about.
    """
    gaps = state.looks[-1]["gaps"]
    undecided = sorted(state.undecided, key=lambda name: gaps.get(name, {"mean": 0.0})["mean"])

    def describe(name: str) -> str:
        return describe_gap(gaps[name], unit) if name in gaps else ""

    worse = sorted(state.beaten, key=lambda name: -state.beaten[name]["mean"])
    places = Places(
        state.leader,
        {name: describe(name) for name in sorted(state.same)},
        {name: describe(name) for name in undecided},
        dict(state.never) | {name: describe_beaten(state.beaten[name], unit) for name in worse},
        gap,
    )  # fmt: skip
    cost, about = closing
    return [*list_places(places), Line("How sure", "", about), Line("What it took", "", cost)]


def describe_beaten(found: dict[str, Any], unit: str) -> str:
    """Write how far one that is out is behind, and whether it is surely worse."""
    if found["low"] > 0:
        return f"worse, found after {found['n']} seeds: {describe_gap(found, unit)}"
    amount = format_amount(found["mean"])
    return f"{found['ahead']} is at least as good: it was ahead by {amount} {unit} after {found['n']} seeds"


def describe_gap(gap: dict[str, Any], unit: str) -> str:
    """Write how far one is behind another, with the interval."""
    way = "behind" if gap["mean"] >= 0 else "ahead of"
    ends = (gap["low"], gap["high"]) if gap["mean"] >= 0 else (-gap["high"], -gap["low"])
    amounts = f"[{format_amount(ends[0])}, {format_amount(ends[1])}]"
    return f"{way} {gap['ahead']} by {format_amount(abs(gap['mean']))} {unit} {amounts}"
