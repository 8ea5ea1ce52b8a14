"""At which levels the looks of a race test, so that all its sentences together are false in at most 5 % of races.

A race looks after every few seeds. Each look may spend a part of the 5 %, which is fixed before the race: a growing
share up to the number of seeds that is planned, the rest later, over any number of looks (Lan & DeMets 1983). Looks
share their seeds, so a look may test at a higher level than what it spends; how much higher is simulated.
"""

from functools import lru_cache

import numpy as np

LOOKS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 100)  # after so many seeds
LATE = 0.1  # of the level is kept for looks after the number of seeds that was planned
PACE = 1.5  # the power of the share of the planned seeds that is spent: early looks drop what is much worse
PATHS = 40_000


def spend(n: int, planned: int) -> float:
    """Return the share of the level that is spent up to n seeds; no more are planned than the last look has.

    >>> round(spend(5, 20), 4), spend(20, 20), round(spend(80, 20), 3)
    (0.1125, 0.9, 0.975)
    """
    planned = min(planned, LOOKS[-1])
    return float((1 - LATE) * min(1.0, n / planned) ** PACE + LATE * max(0.0, 1 - planned / n))


def first_look(candidates: int) -> int:
    """Return after how many seeds a race looks first: two say nothing of three candidates."""
    return 2 if candidates > 3 else 3


@lru_cache(maxsize=64)
def set_levels(candidates: int, planned: int, alpha: float = 0.05) -> dict[int, float]:
    """Return the level of each look, by its number of seeds.

    All candidates are simulated to be equal, with normal noise. The largest difference of two, in standard errors with
    a pooled variance, crosses its bound for the first time at a look with the probability that this look may spend.

    Args:
        candidates: at the start.
        planned: the number of seeds by which most of the level is spent.
        alpha: the level of the race.

    >>> levels = set_levels(2, 20)
    >>> all(level <= 0.05 for level in levels.values()), 0.02 < levels[20] < 0.05, min(levels)
    (True, True, 3)
    """
    rng, k = np.random.default_rng(0), candidates
    total, squares = np.zeros((PATHS, k), np.float32), np.zeros(PATHS)
    racing, found, spent, seen = np.ones(PATHS, bool), {}, 0.0, 0
    for n in (look for look in LOOKS if look >= first_look(k)):
        for _ in range(n - seen):
            y = rng.standard_normal((PATHS, k), np.float32)
            y -= y.mean(1, keepdims=True)
            total += y
            squares += np.square(y).sum(1)
        seen = n
        variance = (squares - np.square(total).sum(1) / n) / ((n - 1) * (k - 1))
        largest = (total.max(1) - total.min(1)) / n / np.sqrt(2 * variance / n)
        share = alpha * spend(n, planned) - spent
        spent += share
        count = round(share * PATHS)
        bound = np.inf if count < 1 else np.partition(np.where(racing, largest, -1.0), -count)[-count]
        crossed = largest >= bound
        found[n] = max(share, float(crossed.mean()))
        racing &= ~crossed
    return found
