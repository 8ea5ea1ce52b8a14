"""Plots of what a comparison claims: differences with their intervals, which pairs differ, and how sure ranks are."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from losslab.compare.claims import Findings, Pair, improvement, tabulate_wins
from losslab.compare.design import Comparison
from losslab.compare.lead import describe_place
from losslab.compare.standing import find_first, is_same, sort_pairs, turn
from losslab.compare.table import name_chosen, pick_drawn
from losslab.compare.wording import describe_wanted, name_plural
from losslab.page.figures import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    Plot,
    Tip,
    draw_tiles,
    label_cell,
    make_figure,
    shorten,
    use_light_frame,
)

MOST = 50  # cells of a matrix of pairs
LEGIBLE = 20  # cells of a matrix with numbers in it
RANKED = 30  # cells of the plot of ranks
STATES = {  # of a pair: the colour, marker and size of its mark
    "clear": (BLUE, "s", 50),
    "same": (ORANGE, "D", 26),
    "undecided": (GREY, ".", 26),
}


def find_state(pair: Pair, wanted: float) -> str:
    """Return whether a pair differs clearly, is the same within the difference that matters, or is undecided."""
    ahead = pair if pair.low > 0 else turn(pair)
    if ahead.low > 0:
        return "clear" if ahead.failed[0] <= ahead.failed[1] else "undecided"
    return "same" if is_same(pair, wanted) else "undecided"


def draw_differences(comparison: Comparison, numbers: pd.DataFrame, findings: Findings, wanted: float) -> Plot | None:
    """Draw how far each option, or each cell of a single key, is behind the leader, with simultaneous intervals."""
    groups = findings.options or {comparison.by[0]: findings.pairs} if len(comparison.by) < 3 else {}
    panels = {key: list_behind(comparison, pairs, "" if findings.options else findings.leader)
              for key, pairs in groups.items()}  # fmt: skip
    panels = {key: (leader, pairs) for key, (leader, pairs) in panels.items() if 0 < len(pairs) <= MOST}
    if not panels:
        return None
    sizes = [1 + len(pairs) for _, pairs in panels.values()]
    drawn, axes = make_figure(7.5, 0.9 * len(sizes) + 0.27 * sum(sizes), len(sizes), height_ratios=sizes)
    tips, rows, chosen = {}, [], "" if findings.options else name_chosen(numbers)
    for axis, (key, (leader, pairs)) in zip(axes[:, 0], panels.items(), strict=True):
        draw_behind(axis, comparison, pairs, wanted)
        axis.set_yticks(range(len(pairs) + 1), [label_cell(leader, chosen), *(shorten(pair.second) for pair in pairs)])
        axis.set_title(key if findings.options else "", loc="left", fontsize=10)
        for name, collection in zip(("lines", "means"), axis.collections[-2:], strict=True):
            collection.set_gid(f"mark:{key}-{name}")
            tips[f"{key}-{name}"] = [Tip(f"{pair.second}: {describe_place(comparison, pair)}") for pair in pairs]
        rows += [{"key": key, "leader": leader, "option": pair.second, "behind": pair.mean, "low": pair.low,
                  "high": pair.high, "p": pair.p} for pair in pairs]  # fmt: skip
    axes[-1, 0].set_xlabel(f"behind the first, {comparison.unit}")
    others = {key: name_plural(next(name for name in comparison.by if name != key)) for key in findings.options}
    what = " and ".join(f"each {key}, over the {other}," for key, other in others.items()) or "each cell"
    seen = {find_state(pair, wanted) for _, pairs in panels.values() for pair in pairs}
    colours = [f"{colour}: {meaning}" for state, colour, meaning in (
        ("clear", "blue", "clearly worse"),
        ("same", "orange", "the same, as its interval lies within the grey band"),
        ("undecided", "grey", "undecided"),
    ) if state in seen]  # fmt: skip
    caption = (
        f"How far {what} is behind the first of its list, with the interval of all pairs together. Grey band: "
        f"{describe_wanted(comparison, wanted)} either way. {'; '.join(colours).capitalize()}."
    )
    return Plot("differences", caption, drawn, pd.DataFrame(rows), tips)


def list_behind(comparison: Comparison, pairs: Sequence[Pair], leader: str) -> tuple[str, list[Pair]]:
    """Return the leader, if it is not given that of most pairs, and its pairs, the closest first."""
    leader = leader or find_first(pairs)
    _, *groups = sort_pairs(comparison, pairs, leader, 0.0)
    known = [pair for group in groups for pair in group if np.isfinite(pair.low)]
    return leader, sorted(known, key=lambda pair: pair.mean)


def draw_behind(axis: Any, comparison: Comparison, pairs: Sequence[Pair], wanted: float) -> None:
    """Draw a list of differences: the leader at 0, then a line for each pair."""
    means, lows, highs = (np.array([getattr(pair, name) for pair in pairs]) for name in ("mean", "low", "high"))
    states = [STATES[find_state(pair, wanted)] for pair in pairs]
    lines = np.arange(1, len(pairs) + 1)
    axis.axvspan(-wanted, wanted, color=GREY, alpha=0.18, linewidth=0)
    axis.axvline(0, color=GREY, linewidth=0.8)
    axis.scatter([0], [0], color=INK, s=24)
    axis.hlines(lines, lows, highs, color=[colour for colour, _, _ in states], linewidth=1.8)
    axis.scatter(means, lines, color=[colour for colour, _, _ in states], s=30)
    axis.set_ylim(len(pairs) + 0.6, -0.6)
    use_light_frame(axis)


def draw_pairs(comparison: Comparison, numbers: pd.DataFrame, findings: Findings, wanted: float) -> Plot | None:
    """Draw which pairs of cells differ, are the same or are undecided, as a matrix: the row is behind the column."""
    means = {"clear": "clearly worse", "same": f"the same within {describe_wanted(comparison, wanted)}",
             "undecided": "undecided"}  # fmt: skip
    cells = comparison.cells[:MOST]
    place = {cell: number for number, cell in enumerate(cells)}
    pairs = [pair for pair in findings.tested if not pair.key and pair.first in place and pair.second in place]
    if len(cells) < 4 or len(pairs) < len(cells):
        return None
    pairs = [pair if place[pair.first] < place[pair.second] else turn(pair) for pair in pairs]
    pitch = 0.2 if len(cells) <= 30 else 0.155
    drawn, axes = make_figure(3.4 + pitch * len(cells), 1.3 + pitch * len(cells))
    axis, tips = axes[0, 0], {}
    for state, (colour, marker, size) in STATES.items():
        own = [pair for pair in pairs if find_state(pair, wanted) == state]
        if own:
            x, y = ([place[getattr(pair, side)] for pair in own] for side in ("first", "second"))
            axis.scatter(x, y, s=size * (pitch / 0.2) ** 2, color=colour, marker=marker, linewidths=0,
                         label=f"{means[state]} ({len(own)})", gid=f"mark:{state}")  # fmt: skip
            tips[state] = [Tip(f"{pair.second} against {pair.first}: {describe_place(comparison, pair)} ({state})")
                           for pair in own]  # fmt: skip
    names = [f"{label_cell(cell, name_chosen(numbers))}  {number}" for number, cell in enumerate(cells, 1)]
    axis.set_yticks(range(len(cells)), names, fontsize=9)
    axis.set_xticks(range(len(cells)), [str(number) for number in range(1, len(cells) + 1)], fontsize=8.5,
                    rotation=90 if len(cells) > 24 else 0)  # fmt: skip
    axis.set_xlabel("the number of the other cell")
    axis.set_xlim(-0.6, len(cells) - 0.4)
    axis.set_ylim(len(cells) - 0.4, -0.6)
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(loc="upper right", frameon=False)
    which = f" of the {MOST} best of {len(comparison.cells)} cells" if len(comparison.cells) > MOST else ""
    marks = {"clear": "blue square", "same": "orange diamond", "undecided": "grey dot"}
    seen = [f"{mark}: {means[state]}" for state, mark in marks.items() if state in tips]
    caption = (
        f"Which pairs{which} differ: each mark compares the cell of its row with that of its column, which has the "
        f"better mean on test. {'; '.join(seen).capitalize()}."
    )
    data = pd.DataFrame(
        {
            "cell": [pair.second for pair in pairs],
            "against": [pair.first for pair in pairs],
            "state": [find_state(pair, wanted) for pair in pairs],
        }
    )
    return Plot("pairs_matrix", caption, drawn, data, tips)


def draw_ranks(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the interval of each cell's rank, and its probability of being the best."""
    if "rank low" not in numbers:
        return None
    known = numbers[numbers["rank low"].notna()]
    drawn_cells, which = pick_drawn(known, RANKED)
    known = known[known["cell"].isin(drawn_cells)]
    if len(known) < 3:
        return None
    best, lines = known["probability of being best"], np.arange(len(known))
    drawn, axes = make_figure(8.0, 1.0 + 0.22 * len(known), 1, 2, width_ratios=[3, 2], sharey=True)
    left, right = axes[0]
    left.hlines(lines, known["rank low"] - 0.2, known["rank high"] + 0.2, color=BLUE, linewidth=2.2, gid="mark:ranks")
    left.scatter(known.index + 1, lines, color=BLUE, s=22)
    left.set(xlabel="place: 95 % interval, and that of the mean")
    right.hlines(lines, 0, best, color=ORANGE, linewidth=5, gid="mark:best")
    right.set(xlabel="probability of being the best", xlim=(0, max(0.05, float(best.max())) * 1.1))
    left.set_yticks(lines, [label_cell(cell, name_chosen(known)) for cell in known["cell"]])
    left.set_ylim(len(known) - 0.4, -0.6)
    left.xaxis.get_major_locator().set_params(integer=True)
    for axis in (left, right):
        use_light_frame(axis)
    tips = [
        Tip(f"{cell}\nplace {low:.0f} to {high:.0f}, best with a probability of {p:.2f}")
        for cell, low, high, p in zip(known["cell"], known["rank low"], known["rank high"], best, strict=True)
    ]
    caption = (
        f"How sure the order{which} is: the places that a cell has if the runs are drawn again (bootstrap), and how "
        "often it is the best. They only describe the test results of these runs and prove nothing."
    )
    columns = ["cell", "probability of being best", "rank low", "rank high"]
    return Plot("ranks", caption, drawn, numbers[columns], {"ranks": tips, "best": tips})


def draw_win_rates(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw in which share of pairs of runs the cell of a row beats that of a column."""
    cells = comparison.cells[:LEGIBLE]
    if len(cells) < 3 or comparison.used["repeat"].nunique() < 2:
        return None
    wins = tabulate_wins(comparison)
    places = range(len(cells))
    rates = np.array([[improvement(wins, [row], [column]) if row != column else np.nan for column in places]
                      for row in places])  # fmt: skip
    names = [f"{label_cell(cell, name_chosen(numbers))}  {number}" for number, cell in enumerate(cells, 1)]
    drawn, axes = make_figure(3.5 + 0.45 * len(cells), 1.0 + 0.3 * len(cells))
    axis = axes[0, 0]
    draw_tiles(axis, rates, np.vectorize("{:.2f}".format)(rates))
    axis.set_xticks(np.arange(len(cells)) + 0.5, [str(number + 1) for number in places])
    axis.set_yticks(np.arange(len(cells)) + 0.5, names)
    axis.set_xlabel("against")
    which = f" of the {LEGIBLE} best of {len(comparison.cells)} cells" if len(comparison.cells) > LEGIBLE else ""
    lost = ", a failed training loses" * bool(comparison.ended["status"].eq("failed").any())
    caption = (
        f"Win rates{which}: the share of runs with the same data and seed in which the row beats the column; darker is "
        f"more. Ties count half{lost}. If two cells share no seed, each run of one meets each run of the other."
    )
    return Plot("win_rates", caption, drawn, pd.DataFrame(rates, cells, cells).rename_axis("cell").reset_index())
