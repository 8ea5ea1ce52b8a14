"""What is undecided, and what would decide it; and what failed."""

from collections.abc import Sequence

import numpy as np

from losslab.compare.claims import Pair
from losslab.compare.design import Comparison, count_failures
from losslab.compare.statistics import MOST, rows_needed, units_needed
from losslab.compare.wording import describe_wanted, join_phrases, shorten

RATHER = 200  # units: from here on another difference is worth asking for


def describe_ties(comparison: Comparison, leader: str, ties: Sequence[Pair], wanted: float) -> str:
    """Say of pairs that neither differ nor are the same what is undecided, and what would decide it."""
    counts = [pair.n for pair in ties]
    most, population = max(counts), comparison.population
    n = f"{most}" if min(counts) == most else f"{min(counts)} to {most}"
    names = [pair.second for pair in ties]
    at = f"at {n} {population.noun}{'' if n == '1' else 's'}"
    said = f"{leader} and {names[0]} cannot be told apart {at}"
    if len(names) > 1:
        said = f"{join_phrases(shorten(names))} cannot be told apart from {leader} {at}"
    known = [pair for pair in ties if np.isfinite(pair.p)]
    if not known:
        return f"{said}: one {population.noun} shows no spread; run at least 3, such as seed=0,1,2."
    return f"{said}. {advise(comparison, known, wanted)}".strip()


def advise(comparison: Comparison, ties: Sequence[Pair], wanted: float) -> str:
    """Say how many new units, or rows, would find the difference worth finding with a power of 80 %."""
    population, gap = comparison.population, describe_wanted(comparison, wanted)
    if population.claim == "data":
        return f"More data sets would decide; {len(comparison.datasets)} say little about a difference of {gap}."
    df = max(2.0, (min(pair.n for pair in ties) - 1) * max(1, len(comparison.cells) - 1))
    rows = comparison.tested_rows
    if not any(pair.sd > 0 for pair in ties):
        need = max((rows_needed(wanted, pair.row_se, rows, pair.critical) for pair in ties), default=0)
        return (
            f"About {round_up(need):,} test rows like these would decide whether they differ by {gap}." if need else ""
        )
    lasting = [float(np.hypot(pair.row_se, pair.sd * population.overlap**0.5)) for pair in ties]
    needs = [
        units_needed(wanted, pair.sd, pair.n, df, pair.critical, se)
        for pair, se in zip(ties, lasting, strict=True)
        if pair.sd > 0
    ]
    if min(needs) >= MOST and max(lasting) > 0:
        few = f"{rows:,} test rows are" if rows else "these rows are"
        return (
            f"{few[0].upper()}{few[1:]} too few for a difference of {gap}, however many {population.noun}s there are."
        )
    if min(needs) > RATHER:
        seen = float(f"{max(abs(pair.mean) for pair in ties):.2g}")
        apart = f"; to ask about one as large as seen here, type difference={seen:g}" if seen > wanted else ""
        return f"It would take more than {RATHER} new {population.noun}s to find a difference of {gap}{apart}."
    low, high = (round_up(need) for need in (min(needs), max(needs)))
    about = f"About {low:,}" if high <= 1.1 * low else f"{low:,} to {high:,}" if high <= RATHER else f"{low:,} or more"
    return f"{about} new {population.noun}s would decide whether they differ by {gap}."


def round_up(need: int) -> int:
    """Round a number up to two digits.

    >>> round_up(7), round_up(41), round_up(417)
    (7, 41, 420)
    """
    step = int(10 ** max(0, len(str(need)) - 2))
    return -(-need // step) * step


def describe_lost(comparison: Comparison) -> list[str]:
    """Say of which cells trainings failed, and which cells have nothing to show."""
    failures = count_failures(comparison)
    sentences = [
        f"{row['failed']} of {row['all']} trainings of {cell} failed: its mean is over those that finished, and a "
        "failure counts as the worst in P(better)."
        for cell, row in failures.iterrows()
        if row["failed"]
    ]
    sentences += [
        f"All trainings of {cell} failed, so it has no row and is in no mean." for cell in list_lost(comparison)
    ]
    covers = comparison.used.groupby("cell")["dataset_key"].agg(lambda keys: len(set(keys)))
    few = [cell for cell in comparison.cells if covers[cell] < len(comparison.datasets)]
    if few:
        names = join_phrases(shorten(few))
        ran = "ran" if len(few) > 1 else f"ran on {covers[few[0]]} of {len(comparison.datasets)} data sets and"
        whose = "are" if len(few) > 1 else "is"
        ran = f"{ran} on some data sets only and" if len(few) > 1 else ran
        sentences.append(
            f"{names} {ran} {whose} last in the table, whatever the mean: the other data sets may be harder."
        )
    return sentences


def list_lost(comparison: Comparison) -> list[str]:
    """List the cells whose trainings all failed."""
    frame = comparison.frame
    return sorted(set(frame["cell"][frame["status"].eq("failed")]) - set(comparison.cells))
