"""The verdict in sentences: what is better, what is the same, and what is undecided and would decide it."""

from collections.abc import Sequence

import numpy as np

from losslab.compare.claims import Findings, Pair
from losslab.compare.design import Comparison, count_failures
from losslab.compare.population import FEW_DATASETS
from losslab.compare.settings import CROSS
from losslab.compare.statistics import MOST, Ranking, ranking, rows_needed, units_needed

NAMED = 3  # this many pairs are given with their numbers, the others in one phrase


def write_verdict(comparison: Comparison, findings: Findings, wanted: float = 1.0) -> list[str]:
    """Write the verdict in sentences, the most important first.

    Args:
        comparison: what is compared.
        findings: its pairs.
        wanted: the difference worth finding, in the comparison's unit: less is the same for practical purposes.
    """
    if not findings.pairs:
        what = " and ".join(comparison.by)
        return [f"All runs have {what} {comparison.cells[0]}: nothing to compare it with.", *describe_lost(comparison)]
    sentences = describe_group(comparison, findings.pairs, findings.leader, wanted)
    for key, pairs in findings.options.items():
        sentences += describe_options(comparison, findings, key, pairs, wanted)
    sentences += describe_lost(comparison)
    if len(comparison.datasets) > 1 and (ranks := describe_ranks(comparison)):
        sentences.append(ranks)
    return [*sentences, comparison.population.sentence]


def describe_options(
    comparison: Comparison, findings: Findings, key: str, pairs: Sequence[Pair], wanted: float
) -> list[str]:
    """Describe the options of a key, as means over the other's, and where a single cell says the opposite."""
    other = next(name for name in comparison.by if name != key)
    names = sorted({name for pair in pairs for name in pair.left_out})
    count = comparison.used[other].map(str).nunique()
    over = f"the {count} options of {other}"
    if names:
        over = f"the options of {other} that both have ({join_phrases(names)} left out of some, for want of runs)"
    firsts = [pair.first for pair in pairs]
    leader = max(dict.fromkeys(firsts), key=firsts.count)
    head, *rest = describe_group(comparison, pairs, leader, wanted)
    opposed = [
        f"{pair.first} beats {pair.second}"
        for claim in pairs
        if is_sure(comparison, claim)
        for pair in findings.pairs
        if is_sure(comparison, pair) and opposes(comparison, claim, pair, key)
    ]
    if opposed:
        rest.append(f"That does not hold for every {other}: {join_phrases(opposed[:NAMED])}.")
    return [f"As the mean over {over}: {head}", *rest]


def opposes(comparison: Comparison, claim: Pair, pair: Pair, key: str) -> bool:
    """Whether a pair of cells, which differ in one key only, says the opposite of a claim about its options."""
    side = comparison.by.index(key)
    first, second = (name.split(CROSS) for name in (pair.first, pair.second))
    if not len(first) == len(second) == 2 or first[1 - side] != second[1 - side]:
        return False
    return (first[side], second[side]) == (claim.second, claim.first)


def is_sure(comparison: Comparison, pair: Pair) -> bool:
    """Whether the first of a pair is better: beyond chance, and not for its failures alone."""
    return pair.p <= comparison.alpha and pair.mean > 0 and pair.failed[0] <= pair.failed[1]


def describe_group(comparison: Comparison, pairs: Sequence[Pair], leader: str, wanted: float) -> list[str]:
    """Describe pairs of cells or of options, beginning with those of the leader."""
    own = [pair if pair.first == leader else turn(pair) for pair in pairs if leader in (pair.first, pair.second)]
    others = [pair for pair in pairs if leader not in (pair.first, pair.second)]
    name = leader
    if not pairs[0].key and leader in comparison.cells[1:]:
        name = f"{leader}, the best on validation,"
    behind = sorted((pair for pair in own if is_sure(comparison, pair)), key=lambda pair: pair.mean)
    ahead = [turn(pair) for pair in own if is_sure(comparison, turn(pair))]
    found = {pair.second for pair in behind} | {pair.first for pair in ahead}
    marred = [pair for pair in own if pair.p <= comparison.alpha and pair.second not in found]
    open_ones = [pair for pair in own if not pair.p <= comparison.alpha]
    same = [pair for pair in open_ones if is_same(pair, wanted)]
    ties = [pair for pair in open_ones if not is_same(pair, wanted)]
    sentences = []
    if behind:
        sentences.append(f"{name} beats {describe_beaten(comparison, behind)}.")
    if ahead:
        beaten = [f"{pair.first} beats {name} by {describe_gap(comparison, pair)}" for pair in ahead[:NAMED]]
        more = f", and {len(ahead) - NAMED} more" if len(ahead) > NAMED else ""
        sentences.append(f"On test, {join_phrases(beaten)}{more}.")
    sentences += [describe_marred(comparison, pair) for pair in marred]
    if same:
        sentences.append(describe_same(comparison, leader, same, wanted))
    if ties:
        sentences.append(describe_ties(comparison, leader, ties, wanted))
    if others:
        sentences.append(describe_others(comparison, leader, others, wanted))
    return sentences


def turn(pair: Pair) -> Pair:
    """Return a pair the other way round."""
    return Pair(
        pair.second, pair.first, pair.key, pair.n, pair.paired, -pair.mean, -pair.high, -pair.low, pair.p, pair.sd,
        pair.row_se, pair.critical, 1 - pair.improvement, pair.tries[::-1], pair.failed[::-1], pair.left_out,
    )  # fmt: skip


def is_same(pair: Pair, wanted: float) -> bool:
    """Whether the whole interval of a difference lies within what is not worth finding."""
    return max(abs(pair.low), abs(pair.high)) < wanted


def describe_beaten(comparison: Comparison, behind: Sequence[Pair]) -> str:
    """Describe the pairs that the leader wins, closest first, the first of them with all its evidence."""
    first, *more = behind[:NAMED]
    phrases = [f"{first.second}{describe_tries(first)} {describe_evidence(comparison, first)}"]
    phrases += [f"{pair.second}{describe_tries(pair)} by {describe_gap(comparison, pair)}" for pair in more]
    rest = behind[NAMED:]
    if rest:
        ends = f"{rest[0].mean:.3g} to {rest[-1].mean:.3g}"
        phrases.append(f"{len(rest)} others by {ends if len(rest) > 1 else ends.split()[0]} {comparison.unit}")
    return join_phrases(phrases)


def describe_tries(pair: Pair) -> str:
    """Say among how many settings each side was chosen, if that is unequal."""
    one, other = pair.tries
    return f" ({one} setting{'s' * (one > 1)} tried against {other})" if one != other else ""


def describe_marred(comparison: Comparison, pair: Pair) -> str:
    """Describe a difference between means of the trainings that finished, where the better side failed more often."""
    pair = pair if pair.mean > 0 else turn(pair)
    return (
        f"Of the trainings that finished, {pair.first} is ahead of {pair.second} by {describe_gap(comparison, pair)}, but "
        f"{pair.failed[0]} of its trainings failed and {pair.failed[1]} of the other's: that decides nothing."
    )


def describe_same(comparison: Comparison, leader: str, same: Sequence[Pair], wanted: float) -> str:
    """Describe the pairs whose difference is too small to matter."""
    names = join_phrases([leader, *shorten([other_of(pair, leader) for pair in same])])
    widest = max(same, key=lambda pair: max(abs(pair.low), abs(pair.high)))
    return f"{names} are the same within {describe_wanted(comparison, wanted)} [{widest.low:.2g}, {widest.high:.2g}]."


def other_of(pair: Pair, name: str) -> str:
    """Return the other one of a pair."""
    return pair.second if pair.first == name else pair.first


def shorten(names: Sequence[str]) -> list[str]:
    """Return up to five names; of more, four and the number of the others.

    >>> shorten("abcdef")
    ['a', 'b', 'c', 'd', '2 others']
    """
    return [*names[:4], f"{len(names) - 4} others"] if len(names) > 5 else list(names)


def describe_others(comparison: Comparison, leader: str, others: Sequence[Pair], wanted: float) -> str:
    """Describe the pairs without the leader in a sentence."""
    differ = [pair for pair in others if is_sure(comparison, pair)]
    which = join_phrases([f"{p.first} beats {p.second} by {describe_gap(comparison, p)}" for p in differ[:NAMED]])
    more = f", and {len(differ) - NAMED} more" if len(differ) > NAMED else ""
    if len(others) == 1:
        (pair,) = others
        if is_same(pair, wanted) and not differ:
            return f"{pair.first} and {pair.second} are the same within {describe_wanted(comparison, wanted)}."
        return f"{which}." if differ else f"{pair.first} and {pair.second} cannot be told apart."
    if differ:
        return f"Of the {len(others)} pairs without {leader}, {len(differ)} differ: {which}{more}."
    return f"None of the {len(others)} pairs without {leader} can be told apart."


def describe_gap(comparison: Comparison, pair: Pair) -> str:
    """Write a difference with its interval."""
    amount = f"{abs(pair.mean):.2g}"
    unit = "%" if not comparison.points else "point" if amount == "1" else "points"
    return f"{amount} {unit} [{pair.low:.2g}, {pair.high:.2g}]"


def describe_evidence(comparison: Comparison, pair: Pair) -> str:
    """Write a difference with its interval, the number of units, and p."""
    amount = describe_gap(comparison, pair).replace(" [", f" {comparison.metric} [")
    return f"by {amount} over {describe_units(comparison, pair)} ({format_p(pair.p)})"


def describe_units(comparison: Comparison, pair: Pair) -> str:
    """Say over how many seeds, splits or data sets a difference is, and whether over rows, too."""
    count = comparison.population.count(pair.n)
    count = count if pair.paired else count.replace(" ", " unpaired ", 1)
    rows = next(iter(comparison.blocks.values())).rows if comparison.population.crossed else 0
    return f"{count} and {rows:,} test rows" if rows else count


def format_p(p: float) -> str:
    """Write a p-value.

    >>> format_p(0.0312), format_p(3e-5)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def describe_wanted(comparison: Comparison, wanted: float) -> str:
    """Write the difference worth finding with its unit."""
    unit = "point" if comparison.points else "%"
    return f"{wanted:g} {unit}{'s' if comparison.points and wanted != 1 else ''}"


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
    about = f"about {top}" if high <= 1.1 * low else f"{low:,} to {top}"
    return (
        f". {about[0].upper()}{about[1:]} new {noun}s would decide whether they differ by {wanted_words}: compare these by "
        "themselves, as runs that are tested twice are called different too often"
    )


def describe_lost(comparison: Comparison) -> list[str]:
    """Say of which cells trainings failed, and which cells have nothing to show."""
    failures = count_failures(comparison)
    sentences = [
        f"{row.failed} of {row.all} trainings of {cell} failed: its mean is over those that finished, and a failure "
        "counts as the worst in P(better)."
        for cell, row in failures.iterrows()
        if row.failed
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


def rank_over_datasets(comparison: Comparison) -> tuple[list[str], Ranking] | None:
    """Rank the cells that all data sets have; `None` below 2 data sets or 3 such cells."""
    table = comparison.used.groupby(["dataset_key", "cell"])["score"].mean().unstack().dropna(axis=1)
    if len(table) < 2 or table.shape[1] < 3:
        return None
    scores = table.to_numpy() * (1 if comparison.mode == "max" else -1)
    return list(table.columns), ranking(scores, comparison.alpha)


def describe_ranks(comparison: Comparison) -> str:
    """Describe the average ranks over data sets in a sentence."""
    ranks = rank_over_datasets(comparison)
    if ranks is None:
        return ""
    names, found = ranks
    order = found.ranks.argsort(kind="stable")[:4]
    best = ", ".join(f"{names[i]} {found.ranks[i]:.2f}" for i in order)
    return f"Average ranks over the {len(comparison.datasets)} data sets: {best}."


def describe_method(comparison: Comparison, findings: Findings) -> str:
    """Explain in a few sentences how the figures of the page were computed."""
    level = f"{100 * (1 - comparison.alpha):g} %"
    population = comparison.population
    rows = (
        " The variance of a difference adds what comes from the trainings and what comes from the test rows (jackknife "
        "over blocks of rows, without their interaction, which both hold)."
        if population.crossed
        else ""
    )
    overlap = (
        f" The variance is multiplied by 1 + n x {population.overlap:.3g}, as {population.noun}s share training rows "
        "(Nadeau & Bengio 2003)."
        if population.overlap
        else ""
    )
    data = "" if len(comparison.datasets) < 2 or len(comparison.datasets) >= FEW_DATASETS else " " + population.sentence
    return (
        f"Each run was tested at its best epoch on validation. The unit of analysis is the {population.noun}; a unit's "
        "value is the mean of its runs, and the model is cell + unit + noise. All pairs of cells and of options are one "
        f"family: the intervals hold together at {level}, and p is the smallest level at which the family calls a "
        "difference real (single-step max-T, Westfall & Young 1993, simulated with normal noise in the same pattern of "
        "units). The standard error is the pooled one, or a pair's own where that is larger, as far as the cells' "
        "spreads are seen to differ (Smyth 2004); where a pair's differences are skewed, Hall's correction (1992) counts "
        f"if it is stricter.{rows}{overlap}{data} Intervals of means are Student's t, each by itself. IQM is the mean of "
        "the middle half; P(better) the share of pairs of runs with the same data and seed in which the one beats the "
        "other, ties counting half. Units needed are for a power of 80 %, with a margin for the error of the spread."
    )


def join_phrases(phrases: Sequence[str]) -> str:
    """Join phrases as a list in a sentence.

    >>> join_phrases(["mae", "mse", "huber"])
    'mae, mse and huber'
    """
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
