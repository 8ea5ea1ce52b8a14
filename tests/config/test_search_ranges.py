"""Places in ranges: what `search.KEY` sets, and that each range of the catalogue is one that can be trained at."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from losslab.config.catalogue import CONF, options
from losslab.config.check import configure
from losslab.config.make import make
from losslab.config.ranges import read_range
from losslab.config.search_ranges import value_at
from losslab.errors import Refused
from losslab.losses import Loss
from tests.conftest import some_now
from tests.losses.examples import FITTING, prepared

SEARCHED = [
    (group, name)
    for group in ("optimizer", "loss")
    for name, option in options([str(CONF)], group).items()
    if "search" in option
]
TASK = {loss: task for task, loss in FITTING}


@pytest.mark.parametrize(("group", "name"), some_now(SEARCHED, SEARCHED[::3]))
def test_the_ends_of_each_range_fit_the_option_and_can_be_trained_at(group: str, name: str) -> None:
    option = options([str(CONF)], group)[name]
    for place in (0, 1):
        places = [f"search.{key}={place}" for key in option["search"]]
        cfg = configure([f"task={TASK.get(name, 'regression')}", f"{group}={name}", *places])
        for key, spread in option["search"].items():
            value = OmegaConf.select(cfg, f"{group}.{key}")
            assert value == spread[place]
            assert read_range(option["ranges"][key]).fits(value)
            assert spread[0] <= option[key] <= spread[1], "the default"
        if group == "loss":
            task, scores, y = prepared(TASK[name], loss=name)
            loss = Loss(make(cfg, "loss"), cfg.loss.input, cfg.loss.target, cfg.loss.get("reduction", "mean"))
            torch.autograd.backward(loss.compute(task, scores, y))
            assert scores.grad is not None
            assert scores.grad.isfinite().all()
            assert scores.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("spread", "inside"),
    [([1e-4, 1e-2, "log"], np.geomspace), ([0.3, 2.7, "log"], np.geomspace), ([-1, 5, "linear"], np.linspace)],
)
def test_places_are_evenly_spaced_on_the_scale_of_the_range(spread: list[Any], inside: Callable[..., Any]) -> None:
    found = [value_at(spread, place) for place in np.linspace(0, 1, 9)]
    np.testing.assert_allclose(found, inside(*spread[:2], 9), rtol=1e-5)


@pytest.mark.parametrize(
    ("typed", "set_to"),
    [
        ("task=single_label loss=focal search.loss=0.4", {"loss.gamma": 2.0}),
        ("task=single_label loss=focal search.loss=null", {"loss.gamma": 2.0}),
        ("loss=huber search.loss=0.5 search.lr=1", {"loss.delta": 0.3, "optimizer.lr": 0.01}),
        ("loss=mse search.loss=0.3", {}),
        ("optimizer=sam search.rho=1", {"optimizer.rho": 0.2}),
        ("loss=huber loss.search.delta=[1,3,linear] search.delta=0.5", {"loss.delta": 2.0}),
        ("task=single_label loss=asymmetric search.loss=0 search.clip=1", {"loss.gamma_neg": 1.0, "loss.clip": 0.2}),
        (
            "task=multi_label loss=[bce,0.5*binary_focal,dice] search.loss=1",
            {"loss.parts.bce.label_smoothing": 0.2, "loss.parts.binary_focal.gamma": 5.0, "loss.weights.dice": 1.0},
        ),
        ("task=multi_label loss=[bce,binary_focal] search.gamma=0", {"loss.parts.binary_focal.gamma": 0.0}),
    ],
)
def test_a_place_sets_what_its_name_says(typed: str, set_to: dict[str, float]) -> None:
    cfg = configure(typed.split())
    for key, value in set_to.items():
        assert OmegaConf.select(cfg, key) == pytest.approx(value), key


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        (
            "loss=mse search.gamma=0.5",
            "none of optimizer=adam, loss=mse has a range for search.gamma: type search.lr, ",
        ),
        ("loss=huber search.gamma=0.5", "type search.lr, search.delta, search.loss, the first range of whichever"),
        ("loss=huber search.delta=1.5", "search.delta=1.5 does not fit: it must be a number from 0 to 1, or null"),
        ("loss=huber search.loss=high", "search.loss=high does not fit: it must be a number from 0 to 1, or null"),
        ("loss=huber search.loss.delta=0.5", "search.loss is one place and not several: type search.delta=0.5"),
        ("loss=huber search.loss=0 search.delta=1", "search.delta and search.loss both set loss.delta: type one"),
        ("loss=huber search.loss=0 loss.delta=1", "search.loss and loss.delta both set loss.delta: type one"),
        ("loss=huber loss.search.delta=[3,1] search.loss=0", "loss=huber: search.delta: [3, 1] is no range: write"),
        ("loss=huber loss.search.delta=[0,1]", "search.delta: [0, 1] is no range: write [0.001, 0.1] for a log scale"),
        ("loss=huber loss.search.delta=[1,2,cubic]", "[1, 2, 'cubic'] is no range: write"),
        ("loss=huber loss.search.delta=5", "search.delta: 5 is no range: write"),
        (
            "loss=huber +loss.search.gama=[1,2]",
            "search.gama is the range of a key that its file does not set: write gama",
        ),
        (
            "loss=huber +loss.weight_decay=1 +loss.search.weight_decay=[1,2] optimizer=adamw search.weight_decay=0",
            "search.weight_decay could set optimizer.weight_decay or loss.weight_decay: type a value of one of them",
        ),
    ],
)
def test_a_place_that_leads_nowhere_or_to_two_values_is_a_sentence(typed: str, said: str) -> None:
    with pytest.raises(Refused) as refused:
        configure(typed.split())
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_loss_of_ones_own_may_have_a_range_and_whole_numbers_stay_whole(tmp_path: Path) -> None:
    file = tmp_path / "loss" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(
        "_target_: my_losses.Quartic\ninput: prediction\ntarget: dense\npower: 4\nscale: 1.0\n"
        "search: {power: [2, 6, linear], scale: [0.01, 100.0]}\n"
    )
    typed = [f"hydra.searchpath=['{tmp_path}']", "loss=mine", "allow=my_losses"]
    assert [configure([*typed, f"search.loss={place}"]).loss.power for place in (0, 0.3, 1)] == [2, 3, 6]
    assert configure([*typed, "search.scale=0.5"]).loss.scale == 1.0
