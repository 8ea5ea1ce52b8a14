"""Digits follow the intervals, and a table says nothing twice."""

import numpy as np
import pandas as pd
import pytest

from losslab.compare.digits import MOST, find_decimals, format_decimals, round_figures
from losslab.compare.table import describe_alike


@pytest.mark.parametrize("seed", range(20))
def test_a_column_shows_two_digits_of_its_intervals_and_every_number_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = 10.0 ** rng.uniform(-4, 7)
    means = size * rng.uniform(0.5, 2, 7)
    halves = size * 10.0 ** rng.uniform(-4, -0.5) * rng.uniform(0.7, 1.4, 7)
    decimals = find_decimals(pd.DataFrame({"low": means - halves, "high": means + halves}))
    assert decimals is not None
    median = float(np.median(halves))
    assert decimals == 0 or 10 <= median * 10**decimals < 100.0001
    for mean in means:
        written = format_decimals(mean, decimals)
        assert "e+" not in written
        assert abs(float(written.replace(",", "")) - mean) <= 0.5000001 * 10.0 ** -min(
            decimals, max(0, MOST - len(f"{mean:.0f}") if mean >= 1 else MOST)
        )
    assert len({len(format_decimals(mean, decimals).partition(".")[2]) for mean in means if mean < 1}) <= 1


@pytest.mark.parametrize(
    ("value", "decimals", "written"),
    [(0.968, 4, "0.9680"), (3.7e5, None, "370,000"), (1e9, 2, "1,000,000,000"), (-0.00004, 3, "-4e-05"), (9.6, 0, "10"),
     (12345.678, 3, "12,345.7"), (float("inf"), 2, "inf"), (float("nan"), None, ""), (0.0, None, "0")],
)  # fmt: skip
def test_numbers_are_written_as_people_write_them(value: float, decimals: int | None, written: str) -> None:
    assert format_decimals(value, decimals) == written


def test_columns_that_are_the_same_for_all_become_a_sentence() -> None:
    table = pd.DataFrame(
        {"loss": ["a", "b"], "n": ["5", "5"], "updates": ["320", "320"], "MB": ["1", "2"], "x": ["", ""]}
    )
    kept, said = describe_alike(table, ["loss", "n"])
    assert list(kept) == ["loss", "n", "MB"]
    assert said == "The same for all: updates 320."
    assert describe_alike(table.head(1), ["loss"])[1] == ""


def test_a_column_of_tiny_numbers_keeps_the_digits_that_its_intervals_leave() -> None:
    means = [5.05047e-10, 5.514006e-10, 6.003698e-10]
    decimals = find_decimals(
        pd.DataFrame({"low": [mean - 2e-11 for mean in means], "high": [m + 2e-11 for m in means]})
    )
    assert [format_decimals(mean, decimals) for mean in means] == ["5.05e-10", "5.51e-10", "6.00e-10"]
    assert round_figures(means) == ["5.05e-10", "5.51e-10", "6.00e-10"]
    assert format_decimals(-0.0, 3) == "0.000"
