"""At which levels the looks of a race test, so that all its sentences together are false in at most 5 % of races.

A race looks after every few seeds. Each look may spend a part of the 5 %: a growing share up to the number of seeds
that the noise asks for, the rest later, over any number of looks (Lan & DeMets 1983). Looks share their seeds, so a
look may test at a higher level than what it spends; how much higher is simulated.
"""

from functools import lru_cache

import numpy as np

LOOKS = (2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 17, 20, 24, 29, 35, 42, 50, 60, 72, 86, 100)  # after so many seeds
LATE = 0.1  # of the level is kept for looks after the number of seeds that was planned
FREE = 4  # degrees of freedom of the noise at the first look
LEAST = 20  # seeds are planned: a plan from few seeds is often far too small, just where the noise looks too small
PACE = 1.5  # the power of the share of the planned seeds that is spent: early looks drop what is much worse
WORK = 20_000_000  # values that are simulated, about
PATHS = 4_000, 20_000  # at least and at most so many races are simulated


def share_of_best(candidates: int) -> float:
    """Return the share of the level that is for the best candidate to be out, or one that is the same not to be.

    The rest is for how far those that are out are behind at least. With two candidates both are the same sentence.

    >>> share_of_best(2), share_of_best(5), share_of_best(40)
    (0.5, 0.8, 0.8)
    """
    return 1 - 1 / min(max(candidates, 2), 5)


def spend(n: int, planned: int) -> float:
    """Return the share of the level that is spent up to n seeds; 20 to 100 are planned, whatever is asked for.

    >>> round(spend(5, 20), 4), spend(20, 20), round(spend(80, 20), 3)
    (0.1125, 0.9, 0.975)
    """
    planned = min(max(planned, LEAST), LOOKS[-1])
    return float((1 - LATE) * min(1.0, n / planned) ** PACE + LATE * max(0.0, 1 - planned / n))


def first_look(candidates: int) -> int:
    """Return after how many seeds a race looks first: the noise, from which it plans, then has 4 degrees of freedom.

    >>> first_look(2), first_look(3), first_look(40)
    (5, 3, 2)
    """
    return next(n for n in LOOKS if max(1, candidates - 1) * (n - 1) >= FREE)


@lru_cache(maxsize=1024)
def find_level(candidates: int, looks: tuple[tuple[int, float], ...], alpha: float = 0.05) -> float:
    """Return the level of the last of some looks: of each the seeds, and the share of the level spent with it.

    All candidates are simulated to be equal, with normal noise. How far one is behind the best mean, in standard errors
    with a pooled variance, crosses its bound for the first time at a look with a fixed probability: what this look may
    spend, times `share_of_best`.

    >>> looks = tuple((n, spend(n, 20)) for n in (3, 6, 10, 20))
    >>> 0.05 * 0.11 < find_level(2, looks[:1]) + find_level(2, looks[:2]) < 0.05 * 0.25
    True
    """
    rng, k, paths = np.random.default_rng(0), candidates, int(np.clip(WORK / candidates / looks[-1][0], *PATHS))
    total, squares, best = np.zeros((paths, k), np.float32), np.zeros(paths), alpha * share_of_best(k)
    racing, spent, seen, level = np.ones((paths, k), bool), 0.0, 0, 0.0
    for n, share in looks:
        for _ in range(n - seen):
            y = rng.standard_normal((paths, k), np.float32)
            y -= y.mean(1, keepdims=True)
            total += y
            squares += np.square(y).sum(1)
        variance = (squares - np.square(total).sum(1) / n) / ((n - 1) * (k - 1))
        behind = (total.max(1, keepdims=True) - total) / (n * np.sqrt(2 * variance / n))[:, None]
        count = round(best * (share - spent) * racing.size)
        bound = np.inf if count < 1 else np.partition(np.where(racing, behind, -1.0), -count, None)[-count]
        crossed = behind >= bound
        level = max(alpha * (share - spent), float(crossed.mean()) * alpha / best)
        racing &= ~crossed
        spent, seen = share, n
    return level
