"""The verdict: what is better, by how much, how sure, and where the runs cannot tell."""

from collections.abc import Sequence

from losslab.compare.design import Comparison, Pair, factors
from losslab.compare.statistics import MOST, Ranking, least_seeds, ranking, seeds_needed, smallest_p

NAMED = 3  # so many are told with their numbers, the others in one phrase


def verdict(comparison: Comparison, found: Sequence[Pair], wanted: float = 1.0) -> list[str]:
    """Sentences, the most important first.

    Args:
        comparison: what is compared.
        found: its `pairs`.
        wanted: the difference worth finding, in the comparison's unit, for which the seeds needed are told.
    """
    if not found:
        what = " and ".join(comparison.by)
        return [f"All runs have {what} {comparison.cells[0]}: nothing to compare it with."]
    said = told(comparison, found, wanted)
    for key, contrasts in factors(comparison).items():
        other = next(name for name in comparison.by if name != key)
        options = comparison.used[other].map(str).nunique()
        if len(contrasts) and options > 1:
            head, *rest = told(comparison, contrasts, wanted)
            said.append(f"As the mean over the {options} options of {other}: {head}")
            said += rest[: 1 if len(contrasts) == 1 else 2]
    if len(comparison.sets) > 1:
        said.append(ranked(comparison))
    return said


def told(comparison: Comparison, found: Sequence[Pair], wanted: float) -> list[str]:
    """One family of pairs, whose first sentence is about the one that leads."""
    leader = found[0].first
    own = [pair for pair in found if pair.first == leader]
    sure = [pair for pair in own if pair.p <= comparison.alpha]
    behind = sorted((pair for pair in sure if pair.gap.mean > 0), key=lambda pair: pair.gap.mean)
    ahead = [pair for pair in sure if pair.gap.mean < 0]
    open_ = [pair for pair in own if not pair.p <= comparison.alpha]
    chosen = ", the best on validation," if leader in comparison.cells[1:] else ""
    said = []
    if behind:
        phrases = [
            f"{pair.second} by {by(comparison, pair)}" if number else f"{pair.second} {exactly(comparison, pair)}"
            for number, pair in enumerate(behind[:NAMED])
        ]
        more = behind[NAMED:]
        if more:
            ends = f"{more[0].gap.mean:.3g} to {more[-1].gap.mean:.3g}"
            phrases.append(f"{len(more)} others by {ends if len(more) > 1 else ends.split()[0]} {comparison.unit}")
        said.append(f"{leader}{chosen} beats {listing(phrases)}.")
    if ahead:
        said.append(f"{leader}{chosen} is beaten by {listing([pair.second for pair in ahead])} on test.")
    if open_:
        said.append(untold(comparison, leader, open_, found, wanted))
    others = [pair for pair in found if pair.first != leader]
    if others:
        differ = [pair for pair in others if pair.p <= comparison.alpha]
        which = listing([f"{p.first} beats {p.second} by {by(comparison, p)}" for p in differ[:NAMED]])
        more_ = f", and {len(differ) - NAMED} more" if len(differ) > NAMED else ""
        if differ and len(others) == 1:
            said.append(f"{which}.")
        elif differ:
            said.append(f"Of the {len(others)} pairs without {leader}, {len(differ)} differ: {which}{more_}.")
        elif len(others) == 1:
            said.append(f"Nor can {others[0].first} and {others[0].second} be told apart.")
        else:
            said.append(f"Nor can any of the {len(others)} pairs without {leader} be told apart.")
    return said


def by(comparison: Comparison, pair: Pair) -> str:
    """A difference with its interval."""
    amount, gap = f"{abs(pair.gap.mean):.2g}", pair.gap
    unit = "%" if not comparison.points else "point" if amount == "1" else "points"
    return f"{amount} {unit} [{gap.low:.2g}, {gap.high:.2g}]"


def exactly(comparison: Comparison, pair: Pair) -> str:
    """A difference with all that it rests on."""
    gap = pair.gap
    what = f"{gap.n} paired seeds" if gap.paired else f"{gap.n} unpaired seeds"
    if gap.paired and len(comparison.sets) > 1:
        what = f"{gap.n} pairs of the same data and seed"
    kind = ", by Student's t" if gap.test == "t" else ""
    amount = by(comparison, pair).replace(" [", f" {comparison.metric} [")
    return f"by {amount} over {what} ({p_value(pair.p)} after Holm{kind})"


def p_value(p: float) -> str:
    """A p-value in words.

    >>> p_value(0.0312), p_value(3e-5)
    ('p = 0.031', 'p < 0.001')
    """
    return "p < 0.001" if p < 0.001 else f"p = {p:.2g}"


def untold(comparison: Comparison, leader: str, open_: Sequence[Pair], found: Sequence[Pair], wanted: float) -> str:
    """Which cannot be told apart, why, and how many seeds could."""
    names = [pair.second for pair in open_]
    many = [pair.gap.n for pair in open_]
    n = f"{min(many)}" if min(many) == max(many) else f"{min(many)} to {max(many)}"
    who = listing([leader, *([*names[:4], f"{len(names) - 4} others"] if len(names) > 5 else names)])
    said = f"{who} cannot be told apart at {n} seed{'' if n == '1' else 's'}"
    if max(many) < 2:
        return f"{said}: one seed shows no spread; run at least {least_seeds(len(found), comparison.alpha)}."
    strict = comparison.alpha / len(found)
    unit = "point" if comparison.points else "%"
    gap = f"{wanted:g} {unit}{'s' if comparison.points and wanted != 1 else ''}"
    needs = [seeds_needed(wanted, pair.gap.sd, strict) for pair in open_ if pair.gap.sd > 0]
    signs = all(pair.gap.test != "t" and pair.gap.paired for pair in open_)
    least = least_seeds(len(found), comparison.alpha) if signs else 2
    if needs:
        low, high = max(min(needs), least), max(max(needs), least)
        top = f"{high:,}" if high < MOST else f"more than {MOST:,}"
        about = f"about {top}" if high <= 1.1 * low else f"{low:,} to {top}"
        said += f"; {about} would be needed for a difference of {gap}"
    if signs and min(1, smallest_p(max(many)) * len(found)) > comparison.alpha:
        corrected = f" ({min(1, smallest_p(max(many)) * len(found)):.2g} after Holm)" if len(found) > 1 else ""
        said += (
            f". At {max(many)} seeds no test of signs can establish anything: its smallest p is "
            f"{smallest_p(max(many)):.2g}{corrected}; run at least {least}"
            + ", or type test=t, which takes differences to be normal"
        )
    return f"{said}."


def over_sets(comparison: Comparison) -> tuple[list[str], Ranking] | None:
    """The cells that all data sets have and how they rank; `None` below 2 data sets or 3 such cells."""
    table = comparison.used.groupby(["rows", "cell"])["score"].mean().unstack().dropna(axis=1)
    if len(table) < 2 or table.shape[1] < 3:
        return None
    scores = table.to_numpy() * (1 if comparison.better == "max" else -1)
    return list(table.columns), ranking(scores, comparison.alpha)


def ranked(comparison: Comparison) -> str:
    """Friedman's test over data sets."""
    sets, rank = len(comparison.sets), over_sets(comparison)
    if rank is None:
        return f"Over {sets} data sets there are too few options that all of them have for Friedman's test."
    names, found = rank
    order = found.ranks.argsort(kind="stable")[:4]
    ranks = ", ".join(f"{names[i]} {found.ranks[i]:.2f}" for i in order)
    differ = "differ" if found.p <= comparison.alpha else "cannot be told from chance"
    return (
        f"Over {sets} data sets the average ranks {differ} (Friedman {p_value(found.p)}): {ranks}; two differ "
        f"where their ranks are {found.critical:.2f} apart (Nemenyi)."
    )


def listing(phrases: Sequence[str]) -> str:
    """Phrases as a list in a sentence.

    >>> listing(["mae", "mse", "huber"])
    'mae, mse and huber'
    """
    return " and ".join([", ".join(phrases[:-1]), phrases[-1]] if len(phrases) > 1 else phrases)
