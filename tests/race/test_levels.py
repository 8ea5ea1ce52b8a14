"""The looks of a race spend 5 % together: checked with Student's t, and by races among equals."""

import numpy as np
import pytest
from scipy import stats

from losslab.race.levels import LATE, LOOKS, first_look, set_levels, spend


@pytest.mark.parametrize("planned", [6, 20, 100])
def test_the_looks_together_spend_no_more_than_the_level(planned: int) -> None:
    spent = [spend(n, planned) for n in LOOKS]
    assert spent == sorted(spent)
    assert spend(planned, planned) == pytest.approx(1 - LATE)
    assert spent[-1] <= 1
    assert spend(10**9, planned) == pytest.approx(1)


@pytest.mark.parametrize(("candidates", "planned"), [(2, 12), (6, 20)])
def test_equals_are_told_apart_in_no_more_than_one_race_of_twenty(candidates: int, planned: int) -> None:
    """With other noise than that of the simulation, and the t and range distributions of scipy."""
    levels = set_levels(candidates, planned)
    rng, races, seen = np.random.default_rng(1), 4000, np.zeros(4000, bool)
    y = rng.standard_normal((races, 35, candidates))
    for n in (look for look in LOOKS if first_look(candidates) <= look <= 35):
        means, df = y[:, :n].mean(1), (n - 1) * (candidates - 1)
        left = y[:, :n] - means[:, None] - y[:, :n].mean(2, keepdims=True) + means.mean(1)[:, None, None]
        se = np.sqrt((left**2).sum((1, 2)) / df / n)
        bound = stats.studentized_range.isf(levels[n], candidates, df)
        seen |= (means.max(1) - means.min(1)) / se > bound
    allowed = 0.05 * spend(35, planned)
    assert seen.mean() <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / races)
    assert seen.mean() == pytest.approx(allowed, abs=4 * np.sqrt(allowed / races) + 0.1 * allowed)


def test_a_look_tests_at_more_than_it_spends_and_at_less_than_the_whole() -> None:
    for candidates in (2, 6, 40):
        levels = set_levels(candidates, 20)
        before = 0.0
        for n, level in levels.items():
            assert 0.05 * (spend(n, 20) - before) - 1e-12 <= level < 0.05
            before = spend(n, 20)
    assert min(set_levels(2, 20)) == 3
    assert min(set_levels(4, 20)) == 2
