"""Every schedule of the catalogue, with and without warm-up, against its formula, and against torch in a real run."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from losslab.config.catalogue import CONF, options
from losslab.config.check import configure
from losslab.config.make import fill_in
from losslab.config.make import make as make_option
from losslab.errors import Refused
from losslab.optim.schedules import OneCycle, cyclic, read_rates, warm_up
from losslab.train import train
from tests.conftest import Typed, cut_off, folder_of, some_now
from tests.optim.examples import OPTIMIZERS, closure_of, make, problem, set_mode

pytestmark = pytest.mark.usefixtures("undrawn")

SCHEDULES = options([str(CONF)], "scheduler")
EPOCHS, PER_EPOCH = 12, 10
STEPS = EPOCHS * PER_EPOCH


def cosine(part: float, high: float = 1.0, low: float = 0.0) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * part)) / 2


# the learning rate of step t (from 0) as a multiple of optimizer.lr, with the catalogue's own settings
FORMULAS: dict[str, Callable[[int], float]] = {
    "constant": lambda t: 1.0,
    "step": lambda t: 0.1 ** (t // PER_EPOCH // 10),
    "multi_step": lambda t: 1.0 if t // PER_EPOCH < 10 else 0.1,
    "exponential": lambda t: 0.9 ** (t // PER_EPOCH),
    "cosine": lambda t: cosine(t / STEPS),
    "warmup_cosine": lambda t: cosine(t / STEPS),
    "cosine_restarts": lambda t: cosine(e / 10 if (e := t // PER_EPOCH) < 10 else (e - 10) / 20),
    "polynomial": lambda t: 1 - t / STEPS,
    # torch counts the last step as the end, and the peak one step before pct_start
    "one_cycle": lambda t: (
        cosine(t / (0.3 * STEPS - 1), 1 / 25, 1.0)
        if t <= 0.3 * STEPS - 1
        else cosine((t - 0.3 * STEPS + 1) / (0.7 * STEPS), 1.0, 1 / 25 / 1e4)
    ),
    "cyclic": lambda t: 0.1 + 0.9 * (1 - abs(t % (STEPS / 4) / (STEPS / 8) - 1)),
    "plateau": lambda t: 1.0 if t // PER_EPOCH < 7 else 0.5 if t // PER_EPOCH < 11 else 0.25,
}
SCORES = [5.0, 4.0, 3.0, *[3.5] * 9]  # the yardstick of each epoch: best in epoch 2, then four worse ones, then again


def rates(cfg: Any, optimizer: Optimizer, warmup: int, scores: list[float]) -> list[float]:
    """The learning rate of every step of a run by hand."""
    schedule = make_option(cfg, "scheduler")(optimizer)
    warm_up(optimizer, warmup)
    used = []
    for score in scores:
        for _ in range(PER_EPOCH):
            optimizer.step()
            used.append(read_rates(optimizer)[0])
            if cfg.scheduler.interval == "step":
                schedule.step()
        if cfg.scheduler.interval == "epoch":
            schedule.step(*([score] if isinstance(schedule, ReduceLROnPlateau) else []))
    return used


@pytest.mark.parametrize("warmup", [0, 1, 25])
@pytest.mark.parametrize("name", SCHEDULES)
def test_every_step_of_every_schedule_follows_its_formula_times_the_warm_up(
    typed: Typed, name: str, warmup: int
) -> None:
    cfg = typed(f"scheduler={name}", f"trainer.max_epochs={EPOCHS}")
    cfg = fill_in(cfg, steps=STEPS)
    groups = [{"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.4, 0.02)]
    optimizer = torch.optim.SGD(groups, momentum=0.9)
    used = rates(cfg, optimizer, warmup, SCORES)
    formula = FORMULAS[name]
    assert used == pytest.approx([0.4 * formula(t) * min(1, (t + 1) / (warmup + 1)) for t in range(STEPS)], rel=1e-6)
    last, other = optimizer.param_groups
    assert other["lr_used"] == pytest.approx(last["lr_used"] / 20), "each group by its own rate"
    assert last["momentum"] == 0.9
    assert other["lr"] == pytest.approx(last["lr"] / 20), "restored after the step"


@pytest.mark.parametrize("name", some_now(SCHEDULES, ["constant", "one_cycle", "plateau"]))
def test_a_run_records_the_rate_of_the_last_step_of_each_epoch_and_goes_on_bit_for_bit(typed: Typed, name: str) -> None:
    whole = ["data=diabetes", "model=linear", "optimizer=sgd", f"scheduler={name}", f"trainer.max_epochs={EPOCHS}"]
    whole += ["scheduler.warmup=0.5", "callbacks.last.seconds=0"]
    cfg = typed(*whole)
    train(cfg)
    history = np.genfromtxt(folder_of(cfg) / "history.csv", delimiter=",", names=True)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=cfg.optimizer.lr)
    used = rates(fill_in(cfg, steps=STEPS), optimizer, STEPS // 2, history["valrmse"].tolist())
    assert history["lr"].tolist() == pytest.approx(used[PER_EPOCH - 1 :: PER_EPOCH])

    cut = typed(*whole)
    train(typed(f"ckpt={cut_off(cut, epoch=5)}"))
    saved, wanted = (torch.load(folder_of(c) / "last.ckpt", weights_only=True) for c in (cut, cfg))
    assert all(torch.equal(saved["state_dict"][key], weight) for key, weight in wanted["state_dict"].items())
    assert saved["optimizer_states"] == wanted["optimizer_states"]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_warm_up_is_the_rate_set_by_hand_before_each_step_for_every_optimizer(name: str) -> None:
    (model, loss), (twin, twin_loss) = problem(), problem()
    optimizer, by_hand = make(name, model), make(name, twin)
    own = [group["lr"] for group in by_hand.param_groups]
    warm_up(optimizer, 4)
    set_mode(optimizer, "train")
    set_mode(by_hand, "train")
    for t in range(1, 8):
        optimizer.step(closure_of(optimizer, loss))  # type: ignore[arg-type]
        for group, lr in zip(by_hand.param_groups, own, strict=True):
            group["lr"] = lr * min(1.0, t / 5)
        by_hand.step(closure_of(by_hand, twin_loss))  # type: ignore[arg-type]
        assert [group["lr"] for group in optimizer.param_groups] == own
        assert read_rates(optimizer)[0] == by_hand.param_groups[0]["lr"]
        assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize("schedule", [lambda o: OneCycle(o, steps=10), lambda o: cyclic(o, steps=10)])
def test_a_run_that_goes_on_for_longer_than_its_schedule_keeps_a_rate(schedule: Callable[[Optimizer], Any]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    made = schedule(optimizer)
    for _ in range(25):
        optimizer.step()
        made.step()
        assert 0 < optimizer.param_groups[0]["lr"] <= 1


@pytest.mark.parametrize(
    ("typed_now", "sentence"),
    [
        ("scheduler=step trainer.max_epochs=5", r"step_size=10 epochs is not reached in trainer.max_epochs=5: "
                                                 r"type scheduler.step_size=2, or trainer.max_epochs=11 or more"),
        ("scheduler=multi_step trainer.max_epochs=8", r"scheduler.milestones=\[10, 20\] epochs is not reached in "
                                                      r"trainer.max_epochs=8: type 'scheduler.milestones=\[4\]', or"),
        ("scheduler=cosine_restarts trainer.max_epochs=10", r"scheduler.T_0=10 epochs is not reached"),
        ("scheduler=step trainer.max_epochs=1", r"trainer.max_epochs=1: type trainer.max_epochs=11 or more"),
        ("scheduler.warmup=1", "scheduler.warmup=1 does not fit: it must be a number from 0 up to"),
        ("scheduler=multi_step scheduler.milestones=[20,10]", "rising list of whole numbers of at least 1, the epochs"),
        ("scheduler=one_cycle scheduler.pct_start=1", "scheduler.pct_start=1 does not fit"),
        ("scheduler=cyclic scheduler.div_factor=0.5", "scheduler.div_factor=0.5 does not fit"),
    ],
)  # fmt: skip
def test_a_schedule_that_does_not_fit_the_run_is_refused_at_once(typed_now: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        configure(typed_now.split())


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_begins_at_its_own_rate_but_warmup_cosine_rises_for_a_tenth_of_the_run(
    typed: Typed, name: str
) -> None:
    cfg = fill_in(typed(f"scheduler={name}", f"trainer.max_epochs={EPOCHS}"), steps=STEPS)
    used, without = (
        rates(cfg, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.4), round(warmup * STEPS), SCORES)
        for warmup in (cfg.scheduler.warmup, 0)
    )
    rise = [t / 13 for t in range(1, 13)] if name == "warmup_cosine" else [1.0] * 12
    assert [rate / full for rate, full in zip(used, without, strict=True)] == pytest.approx([*rise, *[1.0] * 108])
