"""No setting is chosen by rows that are tested: where each seed, split or fold tests other rows, tuning is refused."""

import re
from typing import Any

import pytest

from losslab.config.catalogue import CONF, options
from losslab.config.check import configure
from losslab.config.make import make
from losslab.errors import Refused
from losslab.sweep.choice import check_selection
from losslab.sweep.plan import Plan

LOSSES, PLACES, FOLDS = {"loss": ["mse", "mae"]}, {"search.lr": [0, 1]}, {"data.fold": [0, 1, 2]}
OF_TABLE, OF_IMAGES = {"data": "diabetes"}, {"data": "mnist", "loss": "cross_entropy"}


def planned(fixed: dict[str, Any], grid: dict[str, Any], repeats: dict[str, Any], trials: int = 0) -> Plan:
    ranges = {"search.lr": {"min": 0.0, "max": 1.0}} if trials else {}
    return Plan("short", "random" if trials else "grid", fixed, grid, ranges, {"seed": [0, 1]} | repeats, trials)


@pytest.mark.parametrize(
    ("plan", "test_seeds", "said"),
    [
        (planned(OF_TABLE, LOSSES, {}), [9], ""),  # one setting a cell: nothing is chosen
        (planned(OF_TABLE, LOSSES | PLACES, {}), [], "each seed tests other rows, .* type data.seed=0, one split"),
        (planned(OF_TABLE, PLACES, {}), [], ""),  # these settings are compared, and none of them is chosen
        (planned(OF_TABLE, PLACES, {}), [9], "each seed tests other rows, .* type data.seed=0, one split"),
        (planned(OF_TABLE, PLACES, {"seed": [3]}), [9], "type data.seed=3, one split"),
        (planned(OF_TABLE, LOSSES | PLACES, {"seed": [3]}), [], ""),
        (planned(OF_TABLE | {"data.seed": 7}, LOSSES | PLACES, {}), [9], ""),
        (planned(OF_TABLE, LOSSES | PLACES, {"data.seed": [7, 8]}), [], "each split tests .* type data.seed=7, one"),
        (planned(OF_TABLE | {"data.folds": 3}, LOSSES | PLACES, FOLDS), [], "type data.seed=0 data.fold=0, one"),
        (planned(OF_TABLE | {"data.folds": 3, "data.seed": 7}, LOSSES | PLACES, FOLDS), [], "each fold tests"),
        (planned(OF_TABLE | {"data.seed": 7}, LOSSES | {"data.test": [0.1, 0.2]}, {}), [], "type data.test=0.1, one"),
        (planned(OF_TABLE, LOSSES, {}, 4), [], "each seed tests other rows, .* type data.seed=0, one split"),
        (planned(OF_TABLE | {"data.seed": 0}, LOSSES, {}, 4), [9], ""),
        (planned(OF_IMAGES, PLACES, {}), [9], ""),  # the test rows never move
        (planned({"loss": "mse"}, PLACES | {"data": ["mnist", "digits"]}, {}), [], "each seed tests other rows"),
    ],
)
def test_nothing_is_tuned_on_rows_that_another_repeat_tests(plan: Plan, test_seeds: list[int], said: str) -> None:
    if not said:
        check_selection(plan, "short.yaml", test_seeds)
        return
    with pytest.raises(Refused, match=said) as refused:
        check_selection(plan, "short.yaml", test_seeds)
    typed = dict(re.findall(r"(data\.\w+)=([\d.]+)(?= data|, one split)", str(refused.value)))
    grid, repeats = (
        {key: values for key, values in each.items() if key not in typed} for each in (plan.grid, plan.repeats)
    )
    check_selection(planned(plan.fixed | typed, grid, repeats, plan.trials), "short.yaml", test_seeds)


def test_data_say_that_their_test_rows_are_fixed_where_they_are() -> None:
    known = options([str(CONF)], "data")
    own_test_set = {name for name, option in known.items() if option["_target_"].endswith("torchvision_images")}
    assert {name for name, option in known.items() if option.get("fixed_test")} == {*own_test_set, "quadratic"}
    for name in ("quadratic", "digits", "diabetes", "heights"):
        model = "point" if name == "quadratic" else "linear"
        first, second = (make(configure([f"data={name}", f"model={model}", f"seed={seed}"]), "data") for seed in (0, 1))
        same = first.split["test"].tolist() == second.split["test"].tolist()
        seen = {row for part in ("train", "val") for row in second.split[part].tolist()}
        assert bool(known[name].get("fixed_test")) == (same and not seen & {*first.split["test"].tolist()})
