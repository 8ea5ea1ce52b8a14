"""The verdict in sentences: what is better, what is the same, and what is undecided and would decide it."""

from collections.abc import Sequence

from losslab.compare.advice import describe_lost, describe_ties
from losslab.compare.claims import Findings, Pair
from losslab.compare.design import Comparison
from losslab.compare.lead import explain_choice, find_places, find_standing, write_headline
from losslab.compare.settings import CROSS
from losslab.compare.standing import find_first, is_same, is_sure, sort_pairs, turn
from losslab.compare.statistics import Ranking, ranking
from losslab.compare.wording import (
    describe_evidence,
    describe_gap,
    describe_wanted,
    format_amount,
    join_phrases,
    name_plural,
)

NAMED = 3  # this many pairs are given with their numbers, the others in one phrase


def write_verdict(comparison: Comparison, findings: Findings, wanted: float = 1.0) -> list[str]:
    """Write the verdict in sentences, the most important first; what is less than `wanted` counts as the same."""
    if not findings.pairs:
        what = " and ".join(comparison.by)
        only = f"Only {what} {comparison.cells[0]} has finished runs: nothing to compare it with."
        return [only, *describe_lost(comparison)]
    standing = find_standing(comparison, findings, wanted)
    leader, pairs, why = standing.leader, findings.pairs, []
    if leader != findings.leader:  # on test, it is surely better than the best on validation
        pairs = [pair for pair in findings.tested if not pair.key and leader in (pair.first, pair.second)]
    elif findings.tied:
        why = [explain_choice(comparison, findings, leader).replace("It", leader, 1)]
    headline = write_headline(find_places(comparison, standing, wanted))
    sentences = [headline, *why, *describe_group(comparison, pairs, leader, wanted)]
    for key, pairs in findings.options.items():
        sentences += describe_options(comparison, findings, key, pairs, wanted)
    sentences += describe_lost(comparison)
    if len(comparison.datasets) > 1 and (ranks := describe_ranks(comparison)):
        sentences.append(ranks)
    if any("would decide" in sentence for sentence in sentences):
        noun = comparison.population.noun
        sentences.append(
            f"Compare new {noun}s by themselves (output_dir=fresh, then losslab compare fresh): adding runs "
            "and testing again until something differs finds differences that are not there."
        )
    brackets = f"Brackets hold {100 * (1 - comparison.alpha):g} % intervals, of all pairs together."
    return [*sentences, f"{comparison.population.sentence} {brackets}"]


def describe_options(
    comparison: Comparison, findings: Findings, key: str, pairs: Sequence[Pair], wanted: float
) -> list[str]:
    """Describe the options of a key, as means over the other's, and where a single cell says the opposite."""
    other = next(name for name in comparison.by if name != key)
    names = sorted({name for pair in pairs for name in pair.left_out})
    count = comparison.used[other].map(str).nunique()
    plural = name_plural(other)
    over = f"the {count} {plural}"
    if names:
        over = f"the {plural} that both have ({join_phrases(names)} left out of some, for want of runs)"
    head, *rest = describe_group(comparison, pairs, find_first(pairs), wanted)
    opposed = [
        f"{pair.first} beats {pair.second}"
        for claim in pairs
        if is_sure(comparison, claim)
        for pair in findings.pairs
        if is_sure(comparison, pair) and opposes(comparison, claim, pair, key)
    ]
    if opposed:
        rest.append(f"That does not hold for every {other}: {join_phrases(opposed[:NAMED])}.")
    return [f"Averaged over {over}: {head}", *rest]


def opposes(comparison: Comparison, claim: Pair, pair: Pair, key: str) -> bool:
    """Whether a pair of cells, which differ in one key only, says the opposite of a claim about its options."""
    side = comparison.by.index(key)
    first, second = (name.split(CROSS) for name in (pair.first, pair.second))
    if not len(first) == len(second) == 2 or first[1 - side] != second[1 - side]:
        return False
    return (first[side], second[side]) == (claim.second, claim.first)


def describe_group(comparison: Comparison, pairs: Sequence[Pair], leader: str, wanted: float) -> list[str]:
    """Describe pairs of cells or of options, beginning with those of the leader."""
    _, behind, better, marred, same, ties = sort_pairs(comparison, pairs, leader, wanted)
    ahead = [turn(pair) for pair in better]
    others = [pair for pair in pairs if leader not in (pair.first, pair.second)]
    sentences = []
    if ahead:
        beaten = [f"{pair.first} beats {leader} by {describe_gap(comparison, pair)}" for pair in ahead[:NAMED]]
        more = f", and {len(ahead) - NAMED} more" if len(ahead) > NAMED else ""
        sentences.append(f"On test, {join_phrases(beaten)}{more}.")
    if same:
        sentences.append(describe_same(comparison, same, wanted))
    if ties:
        sentences.append(describe_ties(comparison, leader, ties, wanted))
    if behind:
        alone = comparison.population.crossed and max(pair.n for pair in behind) == 1
        single = " These are single models: with one seed each, nothing is known about training again." if alone else ""
        sentences.append(f"{leader} beats {describe_beaten(comparison, behind)}.{single}")
    sentences += [describe_marred(comparison, pair) for pair in marred]
    if others:
        sentences.append(describe_others(comparison, leader, others, wanted))
    return sentences


def describe_beaten(comparison: Comparison, behind: Sequence[Pair]) -> str:
    """Describe the pairs that the leader wins, closest first, the first of them with all its evidence."""
    first, *more = behind[:NAMED]
    phrases = [f"{first.second}{describe_tries(first)} {describe_evidence(comparison, first)}"]
    phrases += [f"{pair.second}{describe_tries(pair)} by {describe_gap(comparison, pair)}" for pair in more]
    rest = behind[NAMED:]
    if rest:
        ends = f"{format_amount(rest[0].mean, 3)} to {format_amount(rest[-1].mean, 3)}"
        others = f"{len(rest)} others by {ends}" if len(rest) > 1 else f"{rest[0].second} by {ends.split()[0]}"
        phrases.append(f"{others} {comparison.unit}")
    return join_phrases(phrases)


def describe_tries(pair: Pair) -> str:
    """Say among how many settings each side was chosen, if that is unequal."""
    one, other = pair.tries
    return f" ({one} setting{'s' * (one > 1)} tried against {other})" if one != other else ""


def describe_marred(comparison: Comparison, pair: Pair) -> str:
    """Describe a difference between means of the trainings that finished, where the better side failed more often."""
    pair = pair if pair.mean > 0 else turn(pair)
    return (
        f"Of the trainings that finished, {pair.first} is ahead of {pair.second} by {describe_gap(comparison, pair)}, "
        f"but {pair.failed[0]} of its trainings failed and {pair.failed[1]} of the other's, so nothing is decided."
    )


def describe_same(comparison: Comparison, same: Sequence[Pair], wanted: float) -> str:
    """Describe the pairs of a leader whose difference is too small to matter."""
    gap, leader = describe_wanted(comparison, wanted), same[0].first
    ends = [f"[{format_amount(pair.low)}, {format_amount(pair.high)}]" for pair in same[:NAMED]]
    if len(same) == 1:
        return f"{leader} and {same[0].second} are the same within {gap} {ends[0]}."
    names = [f"{pair.second} {end}" for pair, end in zip(same, ends, strict=False)]
    more = [f"{len(same) - NAMED} more"] if len(same) > NAMED else []
    return f"{leader} is the same within {gap} as {join_phrases([*names, *more])}."


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


def rank_over_datasets(comparison: Comparison) -> tuple[list[str], Ranking] | None:
    """Rank the cells that all data sets have; `None` below 2 data sets or 3 such cells."""
    table = comparison.used.groupby(["dataset_key", "cell"])["score"].mean().unstack().dropna(axis=1)
    if len(table) < 2 or table.shape[1] < 3:
        return None
    scores = table.to_numpy().round(9) * (1 if comparison.mode == "max" else -1)  # equal means are ties
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
