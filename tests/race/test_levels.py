"""The looks of a race spend 5 % together: checked with Student's t, and by races among equals."""

import numpy as np
import pytest
from scipy import optimize, stats

from losslab.race.levels import LATE, LOOKS, find_level, first_look, share_of_best, spend
from tests.conftest import some_now


def levels_of(candidates: int, planned: int, most: int = 35) -> dict[int, float]:
    """The level of each look of a race whose planned seeds stay."""
    looks = [(n, spend(n, planned)) for n in LOOKS if first_look(candidates) <= n <= most]
    return {n: find_level(candidates, tuple(looks[: number + 1])) for number, (n, _) in enumerate(looks)}


@pytest.mark.parametrize("planned", [20, 35, 100])
def test_the_looks_together_spend_no_more_than_the_level(planned: int) -> None:
    spent = [spend(n, planned) for n in LOOKS]
    assert spent == sorted(spent)
    assert spend(planned, planned) == pytest.approx(1 - LATE)
    assert spent[-1] <= 1
    assert spend(10**9, planned) == pytest.approx(1)


def find_bound(others: int, df: int, level: float) -> float:
    """The critical value of Dunnett's test, one-sided."""
    together = stats.multivariate_t(shape=0.5 + 0.5 * np.eye(others), df=df, seed=0)
    return float(optimize.brentq(lambda c: together.cdf(np.full(others, c)) - 1 + level, 0, 40, xtol=1e-3))


@pytest.mark.parametrize(("candidates", "planned"), some_now([(2, 12), (6, 20)], [(2, 12)]))
def test_each_of_equals_is_beaten_in_its_part_of_one_race_of_twenty(candidates: int, planned: int) -> None:
    """With other noise than that of the simulation, and the t distributions of scipy."""
    levels, others, share = levels_of(candidates, planned), candidates - 1, share_of_best(candidates)
    rng, races, beaten = np.random.default_rng(1), 4000, np.zeros((4000, candidates), bool)
    y = rng.standard_normal((races, 35, candidates))
    for n in (look for look in LOOKS if first_look(candidates) <= look <= 35):
        means, df = y[:, :n].mean(1), (n - 1) * others
        left = y[:, :n] - means[:, None] - y[:, :n].mean(2, keepdims=True) + means.mean(1)[:, None, None]
        se = np.sqrt((left**2).sum((1, 2)) / df * 2 / n)
        bound = find_bound(others, df, share * levels[n])
        beaten |= (means.max(1, keepdims=True) - means) / se[:, None] > bound
    allowed = 0.05 * share * spend(35, planned)
    assert beaten.mean() <= 0.05 * share + 3 * np.sqrt(0.05 * 0.95 / races)
    assert beaten.mean() == pytest.approx(allowed, abs=4 * np.sqrt(allowed / races) + 0.1 * allowed)


def test_a_look_tests_at_more_than_it_spends_and_at_less_than_the_whole() -> None:
    for candidates in (2, 6, 40):
        levels = levels_of(candidates, 20, 10)
        before = 0.0
        for n, level in levels.items():
            assert 0.05 * (spend(n, 20) - before) - 1e-12 <= level < 0.05
            before = spend(n, 20)
    assert [first_look(k) for k in (2, 3, 4, 5, 40)] == [5, 3, 3, 2, 2]


def test_a_look_that_is_left_out_leaves_its_part_to_the_next() -> None:
    all_looks = [(n, spend(n, 10)) for n in (3, 4, 5, 6)]
    some = [all_looks[0], all_looks[3]]
    assert find_level(3, tuple(some)) > find_level(3, tuple(all_looks))


def test_a_look_that_may_spend_nothing_decides_nothing() -> None:
    looks = ((5, spend(5, 10)), (6, spend(5, 10)))
    assert find_level(2, looks) == 0.0
