"""What is undecided, and what would decide it; and what failed."""

from collections.abc import Sequence

import numpy as np

from losslab.compare.claims import Pair
from losslab.compare.design import Comparison, count_failures
from losslab.compare.statistics import MOST, rows_needed, units_needed
from losslab.compare.wording import describe_wanted, join_phrases, other_of, shorten


def describe_ties(comparison: Comparison, leader: str, ties: Sequence[Pair], wanted: float) -> str:
    """Say what is undecided, and what would decide it.

    Args:
        comparison: what is compared.
        leader: one of each of the pairs.
        ties: the pairs that neither differ nor are the same.
        wanted: the difference worth finding.
    """
    counts = [pair.n for pair in ties]
    most, noun = max(counts), comparison.population.noun
    n = f"{most}" if min(counts) == most else f"{min(counts)} to {most}"
    who = join_phrases([leader, *shorten([other_of(pair, leader) for pair in ties])])
    said = f"{who} cannot be told apart at {n} {noun}{'' if n == '1' else 's'}"
    known = [pair for pair in ties if np.isfinite(pair.p)]
    if not known:
        return f"{said}: one {noun} shows no spread; run at least 3, such as seed=0,1,2."
    return f"{said}{advise(comparison, known, wanted)}."


def advise(comparison: Comparison, ties: Sequence[Pair], wanted: float) -> str:
    """Say how many new units, or rows, would find the difference worth finding with a power of 80 %."""
    noun, wanted_words = comparison.population.noun, describe_wanted(comparison, wanted)
    df = max(2.0, (min(pair.n for pair in ties) - 1) * max(1, len(comparison.cells) - 1))
    needs = [units_needed(wanted, pair.sd, pair.n, df, pair.critical, pair.row_se) for pair in ties if pair.sd > 0]
    if not needs:
        rows = next(iter(comparison.blocks.values())).rows if comparison.blocks else 0
        need = max((rows_needed(wanted, pair.row_se, rows, pair.critical) for pair in ties), default=0)
        return (
            f"; about {need:,} test rows like these would be needed for a difference of {wanted_words}" if need else ""
        )
    low, high = min(needs), max(needs)
    if high >= MOST and any(pair.row_se > 0 for pair in ties):
        return f"; no number of seeds finds a difference of {wanted_words} on so few test rows: test more"
    top = f"{high:,}" if high < MOST else f"more than {MOST:,}"
    about = f"{low:,} to {top}" if high > 1.1 * low else top.capitalize() if high >= MOST else f"About {top}"
    return f". {about} new {noun}s would decide whether they differ by {wanted_words}"


def describe_lost(comparison: Comparison) -> list[str]:
    """Say of which cells trainings failed, and which cells have nothing to show."""
    failures = count_failures(comparison)
    sentences = [
        f"{row['failed']} of {row['all']} trainings of {cell} failed: its mean is over those that finished, and a "
        "failure counts as the worst in P(better)."
        for cell, row in failures.iterrows()
        if row["failed"]
    ]
    frame = comparison.frame
    lost = sorted(set(frame["cell"][frame["status"].eq("failed")]) - set(comparison.cells))
    sentences += [f"All trainings of {cell} failed: it is in no mean." for cell in lost]
    covers = comparison.used.groupby("cell")["dataset_key"].agg(lambda keys: len(set(keys)))
    few = [cell for cell in comparison.cells if covers[cell] < len(comparison.datasets)]
    if few:
        names = join_phrases(shorten(few))
        ran = "ran" if len(few) > 1 else f"ran on {covers[few[0]]} of {len(comparison.datasets)} data sets and"
        whose = "are" if len(few) > 1 else "is"
        ran = f"{ran} on some data sets only and" if len(few) > 1 else ran
        sentences.append(f"{names} {ran} {whose} last in the table, whatever the mean: the others may be harder.")
    return sentences
