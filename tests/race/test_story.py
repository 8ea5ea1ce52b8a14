"""What a race draws: seeds are whole numbers."""

from types import SimpleNamespace

import pytest

from losslab.race.levels import LOOKS
from losslab.race.state import State
from losslab.race.story import describe_cost, draw_story


@pytest.mark.parametrize(
    ("seeds", "runs", "said"),
    [
        (3, 9, "That took 9 runs."),  # as many as the grid
        (5, 9, "That took 9 runs; a full grid with 5 seeds for every candidate would have taken 15."),
    ],
)
def test_a_full_grid_is_told_where_it_takes_more(seeds: int, runs: int, said: str) -> None:
    records = {str(number): {"runs": [1], "setting": {"stage": "test"}, "state": "finished"} for number in range(runs)}
    race = SimpleNamespace(
        state=SimpleNamespace(seeds=seeds), records=records, cells=["mae", "mse", "huber"], count_runs=lambda: runs
    )
    assert describe_cost(race) == said  # type: ignore[arg-type]


@pytest.mark.parametrize("looks", [1, 2, 4, 9, len(LOOKS)])
def test_seeds_are_whole_numbers(looks: int) -> None:
    state = State(5.0, "", ["mae", "mse"], leader="mae")
    for seeds in LOOKS[:looks]:
        gaps = {"mse": {"mean": 1.0, "low": -20.0 / seeds, "high": 2.0 + 20.0 / seeds}}
        state.looks.append({"seeds": seeds, "leader": "mae", "gaps": gaps})
    (plot,) = draw_story(state, "% rmse")
    (axis,) = plot.figure.axes
    ticks = [tick for tick in axis.get_xticks() if tick <= axis.get_xlim()[1]]
    assert len(ticks) >= 2
    assert all(tick == round(tick) for tick in ticks)
    assert axis.get_xlim()[1] > LOOKS[looks - 1]
