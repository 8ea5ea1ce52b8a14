"""The verdict in sentences: what is better, by how much, how sure that is, and where the runs cannot tell."""

from collections.abc import Sequence

from losslab.compare.claims import Pair, compare_options
from losslab.compare.design import Comparison
from losslab.compare.statistics import MOST, Ranking, least_seeds, ranking, seeds_needed, smallest_p

NAMED = 3  # this many pairs are given with their numbers, the others in one phrase


def write_verdict(comparison: Comparison, pairs: Sequence[Pair], wanted: float = 1.0) -> list[str]:
    """Write the verdict in sentences, the most important first.

    Args:
        comparison: what is compared.
        pairs: the pairs of its cells.
        wanted: the difference worth finding, in the comparison's unit: the verdict says how many seeds it needs.
    """
    if not pairs:
        what = " and ".join(comparison.by)
        return [f"All runs have {what} {comparison.cells[0]}: nothing to compare it with."]
    sentences = describe_family(comparison, pairs, wanted)
    for key, contrasts in compare_options(comparison).items():
        other = next(name for name in comparison.by if name != key)
        options = comparison.used[other].map(str).nunique()
        if len(contrasts) and options > 1:
            head, *rest = describe_family(comparison, contrasts, wanted)
            sentences.append(f"As the mean over the {options} options of {other}: {head}")
            sentences += rest[: 1 if len(contrasts) == 1 else 2]
    if len(comparison.datasets) > 1:
        sentences.append(describe_ranks(comparison))
    return sentences


def describe_family(comparison: Comparison, pairs: Sequence[Pair], wanted: float) -> list[str]:
    """Describe one family of pairs, beginning with those of the leader."""
    leader = pairs[0].first
    own = [pair for pair in pairs if pair.first == leader]
    others = [pair for pair in pairs if pair.first != leader]
    name = f"{leader}, the best on validation," if leader in comparison.cells[1:] else leader
    sure = [pair for pair in own if pair.p <= comparison.alpha]
    behind = sorted((pair for pair in sure if pair.gap.mean > 0), key=lambda pair: pair.gap.mean)
    ahead = [pair for pair in sure if pair.gap.mean < 0]
    ties = [pair for pair in own if not pair.p <= comparison.alpha]
    sentences = []
    if behind:
        sentences.append(f"{name} beats {describe_beaten(comparison, behind)}.")
    if ahead:
        sentences.append(f"{name} is beaten by {join_phrases([pair.second for pair in ahead])} on test.")
    if ties:
        sentences.append(describe_ties(comparison, leader, ties, len(pairs), wanted))
    if others:
        sentences.append(describe_others(comparison, leader, others))
    return sentences


def describe_beaten(comparison: Comparison, behind: Sequence[Pair]) -> str:
    """Describe the pairs that the leader wins, closest first, the first of them with all its evidence."""
    first, *more = behind[:NAMED]
    phrases = [f"{first.second} {describe_evidence(comparison, first)}"]
    phrases += [f"{pair.second} by {describe_gap(comparison, pair)}" for pair in more]
    rest = behind[NAMED:]
    if rest:
        ends = f"{rest[0].gap.mean:.3g} to {rest[-1].gap.mean:.3g}"
        phrases.append(f"{len(rest)} others by {ends if len(rest) > 1 else ends.split()[0]} {comparison.unit}")
    return join_phrases(phrases)


def describe_others(comparison: Comparison, leader: str, others: Sequence[Pair]) -> str:
    """Describe the pairs without the leader in a sentence."""
    differ = [pair for pair in others if pair.p <= comparison.alpha]
    which = join_phrases([f"{p.first} beats {p.second} by {describe_gap(comparison, p)}" for p in differ[:NAMED]])
    more = f", and {len(differ) - NAMED} more" if len(differ) > NAMED else ""
    if differ and len(others) == 1:
        return f"{which}."
    if differ:
        return f"Of the {len(others)} pairs without {leader}, {len(differ)} differ: {which}{more}."
    if len(others) == 1:
        return f"{others[0].first} and {others[0].second} cannot be told apart."
    return f"None of the {len(others)} pairs without {leader} can be told apart."


def describe_gap(comparison: Comparison, pair: Pair) -> str:
    """Write a difference with its interval."""
    amount, gap = f"{abs(pair.gap.mean):.2g}", pair.gap
    unit = "%" if not comparison.points else "point" if amount == "1" else "points"
    return f"{amount} {unit} [{gap.low:.2g}, {gap.high:.2g}]"


def describe_evidence(comparison: Comparison, pair: Pair) -> str:
    """Write a difference with its interval, number of seeds, p and test."""
    gap = pair.gap
    what = f"{gap.n} paired seeds" if gap.paired else f"{gap.n} unpaired seeds"
    if gap.paired and len(comparison.datasets) > 1:
        what = f"{gap.n} pairs of the same data and seed"
    kind = ", by Student's t" if gap.test == "t" else ""
    amount = describe_gap(comparison, pair).replace(" [", f" {comparison.metric} [")
    return f"by {amount} over {what} ({format_p(pair.p)} after Holm{kind})"


def format_p(p: float) -> str:
    """Write a p-value.

    >>> format_p(0.0312), format_p(3e-5)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def describe_ties(comparison: Comparison, leader: str, ties: Sequence[Pair], tests: int, wanted: float) -> str:
    """Say what cannot be told apart, why, and how many seeds could tell.

    Args:
        comparison: what is compared.
        leader: the first of each of the pairs.
        ties: the pairs that do not differ.
        tests: the number of tests in their family.
        wanted: the difference worth finding.
    """
    names = [pair.second for pair in ties]
    counts = [pair.gap.n for pair in ties]
    most = max(counts)
    n = f"{most}" if min(counts) == most else f"{min(counts)} to {most}"
    who = join_phrases([leader, *([*names[:4], f"{len(names) - 4} others"] if len(names) > 5 else names)])
    said = f"{who} cannot be told apart at {n} seed{'' if n == '1' else 's'}"
    if most < 2:
        return f"{said}: one seed shows no spread; run at least {least_seeds(tests, comparison.alpha)}."
    signs = all(pair.gap.test != "t" and pair.gap.paired for pair in ties)
    least = least_seeds(tests, comparison.alpha) if signs else 2
    needs = [seeds_needed(wanted, pair.gap.sd, comparison.alpha / tests) for pair in ties if pair.gap.sd > 0]
    if needs:
        low, high = max(min(needs), least), max(max(needs), least)
        top = f"{high:,}" if high < MOST else f"more than {MOST:,}"
        about = f"about {top}" if high <= 1.1 * low else f"{low:,} to {top}"
        unit = "point" if comparison.points else "%"
        gap = f"{wanted:g} {unit}{'s' if comparison.points and wanted != 1 else ''}"
        said += f"; {about} would be needed for a difference of {gap}"
    corrected = min(1, smallest_p(most) * tests)
    if signs and corrected > comparison.alpha:
        said += (
            f". At {most} seeds no test of signs can establish anything: its smallest p is {smallest_p(most):.2g}"
            + (f" ({corrected:.2g} after Holm)" if tests > 1 else "")
            + f"; run at least {least}, or type test=t, which takes differences to be normal"
        )
    return f"{said}."


def rank_over_datasets(comparison: Comparison) -> tuple[list[str], Ranking] | None:
    """Rank the cells that all data sets have; `None` below 2 data sets or 3 such cells."""
    table = comparison.used.groupby(["dataset_key", "cell"])["score"].mean().unstack().dropna(axis=1)
    if len(table) < 2 or table.shape[1] < 3:
        return None
    scores = table.to_numpy() * (1 if comparison.mode == "max" else -1)
    return list(table.columns), ranking(scores, comparison.alpha)


def describe_ranks(comparison: Comparison) -> str:
    """Describe the ranks over data sets and Friedman's test of them in a sentence."""
    count, ranks = len(comparison.datasets), rank_over_datasets(comparison)
    if ranks is None:
        return f"Over {count} data sets there are too few options that all of them have for Friedman's test."
    names, found = ranks
    order = found.ranks.argsort(kind="stable")[:4]
    best = ", ".join(f"{names[i]} {found.ranks[i]:.2f}" for i in order)
    differ = "differ" if found.p <= comparison.alpha else "cannot be told from chance"
    return (
        f"Over {count} data sets the average ranks {differ} (Friedman {format_p(found.p)}): {best}; two differ "
        f"where their ranks are {found.critical:.2f} apart (Nemenyi)."
    )


def describe_method(comparison: Comparison, pairs: Sequence[Pair]) -> str:
    """Explain in a few sentences how the figures of the page were computed."""
    test = next(iter({pair.gap.test for pair in pairs}), comparison.test)
    tests = {
        "permutation": "permutation of the signs of the paired differences",
        "wilcoxon": "Wilcoxon's signed-rank test",
        "t": "Student's paired t test",
    }
    level = f"{100 * (1 - comparison.alpha):g} %"
    return (
        f"Each run was tested at its best epoch on validation. Intervals of means are {level} percentile bootstrap "
        f"intervals, those of differences are Student's t. Tests: {tests.get(test, test)} where at least two seeds "
        "match, else its unpaired counterpart; p after Holm's correction over the pairs of one family. IQM is the mean "
        "of the middle half; P(better) the probability that a run of the one beats a run of the other. Seeds needed are"
        " for a power of 80 % at the corrected level."
    )


def join_phrases(phrases: Sequence[str]) -> str:
    """Join phrases as a list in a sentence.

    >>> join_phrases(["mae", "mse", "huber"])
    'mae, mse and huber'
    """
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
