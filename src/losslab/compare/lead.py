"""The lead: what to use, what is just as good, what is undecided, what to avoid, and how sure each of these is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from losslab.compare.advice import advise, list_lost
from losslab.compare.claims import MANY, Findings, Pair
from losslab.compare.design import Comparison
from losslab.compare.standing import Standing, find_first, is_sure, sort_pairs, turn
from losslab.compare.wording import (
    describe_gap,
    describe_wanted,
    format_p,
    format_size,
    join_phrases,
    name_plural,
    shorten,
)

CLEAR, SAME, UNDECIDED = "clear", "same", "undecided"


class Line(NamedTuple):
    """A line of the lead."""

    question: str  # what it answers, such as Avoid
    badge: str  # how sure the answer is: clear, same or undecided; empty where it is no claim
    answer: str  # one or two sentences
    evidence: Sequence[str] = ()  # what one click below shows, point by point
    target: str = ""  # the id of the row of the page that it leads to


@dataclass(frozen=True)
class Places:
    """Where candidates stand. Of each but the leader a phrase says how it compares with the leader."""

    leader: str  # its name
    same: Mapping[str, str] = field(default_factory=dict)  # those that are the same within `gap`
    undecided: Mapping[str, str] = field(default_factory=dict)  # those that cannot be told apart from the leader yet
    # those that are clearly worse, or whose trainings all failed
    worse: Mapping[str, str] = field(default_factory=dict)
    gap: str = ""  # the difference that does not matter, such as 1 point

    @property
    def badge(self) -> str:
        """How sure it is that the leader is the one to use."""
        return UNDECIDED if self.undecided else SAME if self.same else CLEAR


def write_headline(places: Places) -> str:
    """Say in a sentence or two what to use.

    >>> write_headline(Places("mae", worse={"mse": ""}))
    'Use mae: mse is clearly worse.'
    >>> write_headline(Places("mae", {"huber": ""}, {"poly": "", "tversky": ""}, {"mse": ""}, "1 %"))
    'Use mae or huber, which are the same within 1 %: 2 others cannot be told apart from mae yet, and mse is clearly \
worse.'
    >>> write_headline(Places("mae", undecided={"huber": ""}))
    'Nothing is decided yet: mae leads, and huber cannot be told apart from it.'
    """
    leader, same, undecided, worse = places.leader, places.same, places.undecided, places.worse
    if undecided and not same and not worse:
        return f"Nothing is decided yet: {leader} leads, and {count_names(undecided)} cannot be told apart from it."
    use = f"{leader}{' for now' if undecided and not same else ''}"
    if same:
        which = f"{count_names(same)}, which are" if len(same) == 1 else f"one of the {len(same)} that are"
        use = f"{leader} or {which} the same within {places.gap}"
    it = leader if same else "it"
    rest = [f"{count_names(undecided)} cannot be told apart from {it} yet"] if undecided else []
    lost = (
        f"{len(worse)} are" if len(worse) > 1 and rest else f"{count_names(worse)} {'is' if len(worse) == 1 else 'are'}"
    )
    rest += [f"{lost} clearly worse"] if worse else []
    if not same and not undecided and len(worse) > 1:
        rest = [f"{count_all(len(worse))} others are clearly worse"]
    return f"Use {use}{': ' if rest else ''}{', and '.join(rest)}."


def count_names(names: Mapping[str, str]) -> str:
    """Name one; count several."""
    return next(iter(names)) if len(names) == 1 else f"{len(names)} others"


def count_all(number: int) -> str:
    """Say that all of several are meant.

    >>> count_all(2), count_all(3)
    ('both', 'all 3')
    """
    return "both" if number == 2 else f"all {number}"


def list_places(places: Places, about: str = "", others: int = 0) -> list[Line]:
    """Write the lines on what to use, what is as good, what is undecided and what to avoid.

    Args:
        about: of the leader, in sentences.
        others: how many there are besides.
    """
    others += len(places.same) + len(places.undecided) + len(places.worse)
    now = " for now" if places.badge == UNDECIDED else ""
    lines = [Line("Use", places.badge, f"{places.leader}{now}. {about}".strip())]
    for question, badge, names, none in (
        ("Just as good", SAME, places.same, ""),
        ("Cannot be told apart yet", UNDECIDED, places.undecided, ""),
        ("Avoid", CLEAR, places.worse, "No other is clearly worse."),
    ):
        if names:
            part = count_all(others).capitalize() if len(names) == others else f"{len(names)} of the {others}"
            number = f"{part} others: " if len(names) > 1 else ""
            within = f" The same within {places.gap}." if badge == SAME else ""
            evidence = [f"{name}: {phrase}" if phrase else name for name, phrase in names.items()]
            lines.append(Line(question, badge, f"{number}{join_phrases(shorten(list(names)))}.{within}", evidence))
        elif none:
            lines.append(Line(question, "", none))
    return lines


def write_lead(comparison: Comparison, findings: Findings, wanted: float) -> list[Line]:
    """Write the lead of a comparison; nothing where there is nothing to compare."""
    if not findings.pairs:
        return []
    standing = find_standing(comparison, findings, wanted)
    places = find_places(comparison, standing, wanted)
    use, *lines = list_places(places, describe_leader(comparison, findings, standing))
    lines.insert(0, use._replace(evidence=find_command(comparison, standing.leader)))
    for key, pairs in findings.options.items():
        lines.append(describe_key(comparison, key, pairs, wanted))
    level = f"{100 * (1 - comparison.alpha):g} %"
    sure = f"In {level} of such comparisons all of these statements are true. {comparison.population.sentence}"
    lines.append(Line("How sure", "", sure))
    if standing.ties:
        noun = comparison.population.noun
        known = [pair for pair in standing.ties if pair.p == pair.p]
        need = advise(comparison, known, wanted) if known else f"One {noun} shows no spread: run at least 3."
        alone = f"Compare new {noun}s by themselves: output_dir=fresh, then losslab compare fresh."
        lines += [Line("To know more", "", f"{need} {alone}")] if need else []
    return lines


def find_command(comparison: Comparison, cell: str) -> list[str]:
    """Return the command that trains a cell once more, with what was chosen for it; nothing where no record has it."""
    used = comparison.used
    known = used["command"][used["cell"] == cell].dropna().tolist() if "command" in used else []
    return [f"To train it again: {known[0]}"] if known else []


def describe_leader(comparison: Comparison, findings: Findings, standing: Standing) -> str:
    """Say why the leader leads, and how much one may lose with it where others may be better."""
    why = [explain_choice(comparison, findings, standing.leader)]
    lost = max((-pair.low for pair in standing.ties), default=0.0)
    row = comparison.used["score"][comparison.used["cell"] == standing.leader]
    most = 100 * (1 - float(row.mean())) if comparison.points else float("inf")  # nothing is better than perfect
    if 0 < lost < most:  # NaN isn't
        unit = "points" if comparison.points else "%"
        why.append(f"None of the undecided is better by more than {format_size(lost, unit)}.")
    return " ".join(why)


def explain_choice(comparison: Comparison, findings: Findings, leader: str) -> str:
    """Say by which rule the leader was chosen and, where it was by validation, why it isn't the best on test."""
    first, tied, count = findings.leader, findings.tied, len(comparison.cells)
    if leader != first:
        where = f"is {findings.picked} on validation" if tied else "has the best mean on test"
        return f"On test it beats {first}, which {where}."
    if not tied:
        rule = f"With up to {MANY} cells this is the rule, as all pairs are tested together."
        return f"It has the best mean on test. {rule}"
    chosen = "It was chosen on the validation rows, where it is the best."
    if len(tied) > 1:
        names = join_phrases(shorten(tied))
        chosen = f"It was chosen on the validation rows, where {len(tied)} tie: {names}; it is the first by name."
    if (place := comparison.cells.index(leader) + 1) == 1:
        return f"{chosen} It has the best mean on test, too."
    return (
        f"{chosen} Its test mean is number {place} of {count}. Test figures choose nothing here, as the best of "
        f"{count} test means is partly luck."
    )


def find_standing(comparison: Comparison, findings: Findings, wanted: float) -> Standing:
    """Sort the pairs of the leader or, where another cell is surely better, those of the best of these.

    A cell that lacks a data set is never the one to use: the others may be harder.
    """
    covers = comparison.used.groupby("cell")["dataset_key"].nunique()
    complete = [cell for cell in comparison.cells if covers[cell] == len(comparison.datasets)]
    pairs = [pair for pair in findings.tested if not pair.key]
    standing = sort_pairs(comparison, pairs, findings.leader, wanted)
    while better := {pair.second for pair in standing.ahead} & set(complete):  # ends, as means get better
        standing = sort_pairs(comparison, pairs, next(cell for cell in complete if cell in better), wanted)
    return standing


def find_places(comparison: Comparison, standing: Standing, wanted: float, lost: bool = True) -> Places:
    """Say of each cell or option how it compares with the leader; `lost`: those without a finished run, too."""
    ties = sorted(standing.ties, key=lambda pair: pair.mean)
    undecided = {pair.second: describe_place(comparison, pair) for pair in (*standing.ahead, *ties, *standing.marred)}
    worse = {pair.second: describe_place(comparison, pair) for pair in reversed(standing.behind)}
    if lost:
        worse = dict.fromkeys(list_lost(comparison), "all of its trainings failed") | worse
        known = {standing.leader, *undecided, *worse, *(pair.second for pair in standing.same)}
        undecided |= dict.fromkeys((cell for cell in comparison.cells if cell not in known), "")
    same = {pair.second: describe_place(comparison, pair) for pair in standing.same}
    return Places(standing.leader, same, undecided, worse, describe_wanted(comparison, wanted))


def describe_place(comparison: Comparison, pair: Pair) -> str:
    """Say how far the second of a pair is behind the first, with the interval and p."""
    if pair.low != pair.low:
        return f"one {comparison.population.noun} shows no spread"
    way = "behind" if pair.mean >= 0 else "ahead"
    marred = pair.p <= comparison.alpha and not (is_sure(comparison, pair) or is_sure(comparison, turn(pair)))
    failed = f"; {max(pair.failed)} of the trainings of the better one failed" if marred else ""
    return f"{way} by {describe_gap(comparison, pair if pair.mean >= 0 else turn(pair))}, {format_p(pair.p)}{failed}"


def describe_key(comparison: Comparison, key: str, pairs: Sequence[Pair], wanted: float) -> Line:
    """Write the line on the options of a key, as means over those of the other."""
    places = find_places(comparison, sort_pairs(comparison, pairs, find_first(pairs), wanted), wanted, lost=False)
    said = [f"{places.leader} leads"]
    said += [f"the same within {places.gap}: {join_phrases(list(places.same))}"] if places.same else []
    said += [f"undecided: {join_phrases(shorten(list(places.undecided)))}"] if places.undecided else []
    said += [f"clearly worse: {join_phrases(shorten(list(places.worse)))}"] if places.worse else []
    other = next(name for name in comparison.by if name != key)
    over = f"{comparison.used[other].map(str).nunique()} {name_plural(other)}"
    evidence = [
        f"{name}: {phrase}" for group in (places.same, places.undecided, places.worse) for name, phrase in group.items()
    ]
    return Line(f"By {key}, over {over}", places.badge, f"{'; '.join(said)}.", evidence)
