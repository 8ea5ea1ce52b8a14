"""The moving average of the weights: updated after every step, and used in what is validated, kept and tested."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from losslab.train import train
from losslab.training.module import Experiment
from tests.conftest import Typed, cut_off, folder_of, numbers

pytestmark = pytest.mark.usefixtures("undrawn")

RUN = ("data=diabetes", "model.hidden=[8]", "model.dropout=0.2", "trainer.precision=64-true", "trainer.max_epochs=4")


def saved(cfg: Any, file: str = "last.ckpt") -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(folder_of(cfg) / file, weights_only=True)
    return checkpoint


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("optimizer", ["adam", "sam", "lbfgs"])
def test_it_is_the_average_of_a_loop_by_hand_and_training_does_not_notice(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    trail: list[dict[str, Tensor]] = []
    update = Experiment.update

    def watched(self: Experiment, *args: Any) -> list[Tensor]:
        losses = update(self, *args)
        trail.append({name: weight.clone() for name, weight in self.state_dict().items()})
        return losses

    monkeypatch.setattr(Experiment, "update", watched)
    plain = typed(*RUN, f"optimizer={optimizer}")
    train(plain)
    average = trail[0]
    for weights in trail[1:]:
        average = {name: 0.9 * average[name] + 0.1 * weight for name, weight in weights.items()}
    steps, trail[:] = list(trail), []

    averaged = typed(*RUN, f"optimizer={optimizer}", "callbacks=ema", "callbacks.ema.decay=0.9")
    train(averaged)
    assert all(same(mine, other) for mine, other in zip(trail, steps, strict=True)), "training does not notice"
    last = saved(averaged)
    assert same(last["current_model_state"], steps[-1])
    for name, weight in last["state_dict"].items():
        torch.testing.assert_close(weight, average[name], rtol=1e-12, atol=1e-12)


def test_the_average_is_what_is_validated_kept_and_tested(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    validated: list[dict[str, Tensor]] = []

    def watched(step: Callable[..., None]) -> Callable[..., None]:
        def watching(self: Experiment, *args: Any) -> None:
            validated.append({name: weight.clone() for name, weight in self.state_dict().items()})
            step(self, *args)

        return watching

    for name in ("validation_step", "test_step"):
        monkeypatch.setattr(Experiment, name, watched(getattr(Experiment, name)))
    cfg = typed(*RUN, "callbacks=ema", "callbacks.ema.decay=0.9")
    summary = train(cfg)
    best = saved(cfg, "best.ckpt")
    assert same(validated[int(summary["best_epoch"])], best["state_dict"])
    assert same(validated[-1], best["state_dict"])
    assert not same(validated[-1], best["current_model_state"])


def test_a_run_that_was_cut_off_goes_on_bit_for_bit(typed: Typed) -> None:
    whole = [*RUN, "callbacks=ema", "callbacks.last.seconds=0", "optimizer=schedule_free_adamw"]
    expected, cut = typed(*whole), typed(*whole)
    uninterrupted = train(expected)

    resumed = train(typed(f"ckpt={cut_off(cut, epoch=2)}"))
    assert numbers(resumed) == numbers(uninterrupted)
    mine, wanted = saved(cut), saved(expected)
    assert same(mine["state_dict"], wanted["state_dict"])
    assert same(mine["current_model_state"], wanted["current_model_state"])
    assert mine["averaging_state"] == wanted["averaging_state"]
