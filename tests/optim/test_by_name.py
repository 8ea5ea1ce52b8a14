"""pytorch_optimizer by name: every optimizer of the library trains here, or is refused in a sentence that says why."""

import inspect
import io
import warnings
from typing import Any

import pytest
import torch
import yaml
from pytorch_optimizer import get_supported_optimizers, load_optimizer
from torch import nn

from losslab.config.catalogue import CONF
from losslab.config.check import configure
from losslab.errors import Refused
from losslab.models import MLP
from losslab.optim.by_name import load
from losslab.optim.groups import group_parameters
from tests.optim.examples import closure_of, module_of, set_mode

TABLE: dict[str, Any] = yaml.safe_load((CONF / "optimizer" / "any.yaml").read_text())
NEEDS = {"ranger21": {"num_iterations": 50}}


def test_the_table_is_the_librarys() -> None:
    library = {*get_supported_optimizers()}
    assert library <= TABLE["rates"].keys() | TABLE["refused"].keys(), "say of new ones whether they train here"
    assert not TABLE["rates"].keys() & TABLE["refused"].keys()
    for name, rate in TABLE["rates"].items():
        assert rate == inspect.signature(load_optimizer(name)).parameters["lr"].default, name


def start(name: str, wider: float) -> tuple[nn.Module, Any, Any]:
    """A model, its optimizer at the class's own learning rate over `wider`, and the loss, least squares."""
    torch.manual_seed(0)
    model, x = MLP((4,), 2, hidden=[4, 4]), torch.randn(16, 4)
    groups = group_parameters(module_of(model), None, hidden=name in TABLE["marked"])
    optimizer = load(groups, name, lr=TABLE["rates"][name] / wider, **NEEDS.get(name, {}))
    return model, optimizer, closure_of(optimizer, lambda: ((model(x) - x[:, :2]) ** 2).mean())


@pytest.mark.parametrize("name", TABLE["rates"])
def test_every_name_lowers_the_loss_within_its_range_and_goes_on_from_a_checkpoint(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of single optimizers, on their settings
        for wider in (1, TABLE["wider"]):
            model, optimizer, closure = start(name, wider)
            first = lowest = closure().item()
            for step in range(40):
                set_mode(optimizer, "train")
                optimizer.step(closure)
                set_mode(optimizer, "eval")
                lowest = min(lowest, closure().item())
                if step and lowest < first:
                    break
            if lowest < first:
                break
        assert lowest < first
        kept = io.BytesIO()
        torch.save({"optimizer": optimizer.state_dict(), "model": model.state_dict()}, kept)
        kept.seek(0)
        again, resumed, theirs = start(name, wider)
        held = torch.load(kept, weights_only=True)  # as data alone
        again.load_state_dict(held["model"])
        resumed.load_state_dict(held["optimizer"])
        for one, calls in ((optimizer, closure), (resumed, theirs)):
            torch.manual_seed(1)
            set_mode(one, "train")
            one.step(calls)
        for one, other in zip(model.parameters(), again.parameters(), strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("name", TABLE["refused"])
def test_the_others_are_refused_with_the_reason(name: str) -> None:
    with pytest.raises(Refused, match=f"optimizer.name={name} cannot train here: "):
        configure(["optimizer=any", f"optimizer.name={name}"])


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        (["optimizer=any"], "optimizer=any needs optimizer.name"),
        (["optimizer=any-adopp"], "optimizer.name=adopp is no optimizer of pytorch_optimizer's; nearest: adopt"),
        (["optimizer=any-momentum"], "is no optimizer of pytorch_optimizer's; type optimizer=momentum"),
        (["optimizer=any", "optimizer.name=lamb", "optimizer.lr=-1"], "optimizer.lr=-1 does not fit"),
    ],
)
def test_a_wrong_name_is_told_before_torch_is_imported(typed: list[str], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        configure(typed)


def test_a_name_brings_its_rate_and_its_range_and_is_recorded() -> None:
    for name, typed in (("AdaBelief", ["optimizer=any", "optimizer.name=AdaBelief"]), ("yogi", ["optimizer=any-yogi"])):
        cfg = configure([*typed, "optimizer.eps=1e-6"])
        rate = TABLE["rates"][name.lower()]
        assert cfg.optimizer.lr == rate
        assert cfg.optimizer.eps == 1e-6
        assert cfg.run.choices.optimizer == f"any-{name.lower()}"
        for place, factor in ((0, 1 / 30), (0.5, 1), (1, 30)):
            searched = configure([*typed, f"search.lr={place}"]).optimizer.lr
            assert searched == pytest.approx(rate * factor, rel=1e-3)
    assert "losslab's own defaults" in configure(["optimizer=any-adam"]).run.notes[0]
    assert not configure(["optimizer=any-lamb"]).run.notes


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        ("lamb", {"betaz": [0.9, 0.99]}, "optimizer.betaz is no setting of Lamb; nearest: betas"),
        ("ranger21", {}, "optimizer.name=ranger21 needs optimizer.num_iterations"),
        ("normuon", {}, "is for hidden matrices, and this model has none"),
    ],
)
def test_a_setting_is_checked_against_the_class(name: str, settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        load(nn.Linear(2, 1).parameters(), name, lr=0.1, **settings)
