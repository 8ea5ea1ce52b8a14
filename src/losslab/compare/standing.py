"""Where each cell stands against the leader: worse, the same, undecided, or ahead."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from losslab.compare.claims import Pair
from losslab.compare.design import Comparison


class Standing(NamedTuple):
    """The pairs of a leader, sorted by what is known of them; the leader is first in each."""

    leader: str  # its name
    behind: list[Pair]  # those that are surely worse, the closest first
    ahead: list[Pair]  # those that are surely better
    marred: list[Pair]  # those that differ, but the better one has more trainings that failed, which decides nothing
    same: list[Pair]  # those whose whole interval lies within the difference that matters
    ties: list[Pair]  # those that nothing is known of


def sort_pairs(comparison: Comparison, pairs: Sequence[Pair], leader: str, wanted: float) -> Standing:
    """Sort the pairs of a leader by what is known of them.

    Args:
        pairs: of cells or of options, in any direction; those without the leader do not count.
    """
    own = [pair if pair.first == leader else turn(pair) for pair in pairs if leader in (pair.first, pair.second)]
    behind = sorted((pair for pair in own if is_sure(comparison, pair)), key=lambda pair: pair.mean)
    ahead = [pair for pair in own if is_sure(comparison, turn(pair))]
    found = {pair.second for pair in (*behind, *ahead)}
    marred = [pair for pair in own if pair.p <= comparison.alpha and pair.second not in found]
    left = [pair for pair in own if not pair.p <= comparison.alpha]
    same = [pair for pair in left if is_same(pair, wanted)]
    return Standing(leader, behind, ahead, marred, same, [pair for pair in left if not is_same(pair, wanted)])


def find_first(pairs: Sequence[Pair]) -> str:
    """Return the name that is first in most of these pairs."""
    firsts = [pair.first for pair in pairs]
    return max(dict.fromkeys(firsts), key=firsts.count)


def turn(pair: Pair) -> Pair:
    """Return a pair the other way round."""
    return replace(
        pair,
        first=pair.second,
        second=pair.first,
        mean=-pair.mean,
        low=-pair.high,
        high=-pair.low,
        improvement=1 - pair.improvement,
        tries=pair.tries[::-1],
        failed=pair.failed[::-1],
    )


def is_sure(comparison: Comparison, pair: Pair) -> bool:
    """Whether the first of a pair is better: beyond chance, and not for its failures alone."""
    return pair.p <= comparison.alpha and pair.mean > 0 and pair.failed[0] <= pair.failed[1]


def is_same(pair: Pair, wanted: float) -> bool:
    """Whether the whole interval of a difference lies within what is not worth finding."""
    return max(abs(pair.low), abs(pair.high)) < wanted
