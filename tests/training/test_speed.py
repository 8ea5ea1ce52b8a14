"""Speed, by counts that no busy machine changes: Python calls, operators and waits for the device of a step."""

import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from losslab.build import build_loaders, build_module, build_optimizer, build_trainer, plan_steps
from losslab.config.make import make
from losslab.data.dataset import Dataset
from losslab.stacking.batches import StackedBatches
from losslab.stacking.module import Stack
from losslab.terminal import quieten
from losslab.train import train
from losslab.training.module import Experiment, hook_listener
from tests.conftest import Typed

pytestmark = pytest.mark.usefixtures("undrawn")

SMALL = ("data=diabetes", "model=linear", "trainer.max_epochs=3", "trainer.enable_progress_bar=true")
SIZES = {8: 39, 16: 20, 62: 5}  # steps of an epoch of 310 rows: batch size; 32 batches are handed out together
WAIT = {"_local_scalar_dense", "equal", "nonzero"}  # operators that wait for the device: .item(), float(), if tensor
WAIT_TOO = {"cpu", "numpy", "tolist"}  # methods that do, and are no operators on a CPU


class Calls:
    """How many Python functions are called."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> None:
        sys.setprofile(self.note)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def note(self, frame: FrameType, event: str, arg: Any) -> None:
        self.count += event == "call"


class Operators(TorchDispatchMode):
    """How often each of torch's operators runs, forward and backward, and what of it waits for the device."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.each, self.waits = Counter[str](), Counter[str]()

    def __enter__(self) -> "Operators":
        super().__enter__()  # type: ignore[no-untyped-call]
        sys.setprofile(self.note)
        return self

    def __exit__(self, *_: Any) -> None:
        sys.setprofile(None)
        super().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def note(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "c_call" and arg.__name__ in WAIT_TOO and isinstance(getattr(arg, "__self__", None), Tensor):
            self.waits[arg.__name__] += 1

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.each[name] += 1
        if name in WAIT:
            self.waits[name] += 1
        return func(*args, **(kwargs or {}))


@dataclass
class Counts:
    """Of the training of an epoch."""

    calls: int
    operators: int
    waits: Counter[str]


def counted(kind: type[pl.LightningModule], fit: Callable[[], object]) -> Counts:
    """Calls of the second epoch, and operators of the third: of training alone, without the validation."""
    calls, operators = Calls(), Operators()
    counters: dict[int, Calls | Operators] = {1: calls, 2: operators}
    start, end = kind.on_train_epoch_start, kind.on_validation_start

    def starts(self: pl.LightningModule) -> None:
        start(self)
        if counter := counters.get(self.current_epoch):
            counter.__enter__()

    def ends(self: pl.LightningModule) -> None:
        if counter := counters.pop(self.current_epoch, None):
            counter.__exit__(None, None, None)
        end(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "on_train_epoch_start", starts)
        patch.setattr(kind, "on_validation_start", ends)
        fit()
    assert not counters
    return Counts(calls.count, operators.each.total(), operators.waits)


def lone(typed: Typed, steps: int, *more: str) -> Counts:
    """A run by itself, with everything that is on by default."""
    return counted(Experiment, lambda: train(typed(*SMALL, f"data.batch_size={SIZES[steps]}", *more)))


def stack(typed: Typed, runs: int, steps: int, *more: str, rates: int = 1) -> Counts:
    """Runs of as many seeds as one; `rates` of them differ in their learning rate."""
    quieten()
    words = [*SMALL, f"data.batch_size={SIZES[steps]}", *more]
    data: Dataset = make(typed(*words), "data")
    made, loaders = [], []
    for seed in range(runs):
        rate = 0.001 * (1 + seed * rates // runs)
        cfg, _ = plan_steps(typed(*words, f"seed={seed}", f"optimizer.lr={rate}"), data)
        made.append(build_module(cfg, data))
        loaders.append(build_loaders(cfg, data))
    training, val, _ = (StackedBatches(parts) for parts in zip(*loaders, strict=True))
    module = Stack(made, ["mse"] * runs)
    return counted(Stack, lambda: build_trainer(cfg, data).fit(module, training, val))


def bare(typed: Typed, steps: int, *more: str) -> Counts:
    """The same arithmetic by hand: index, forward, backward and step."""
    cfg = typed(*SMALL, *more)
    x, y = torch.randn(310, 10), torch.randn(310, 1)
    model, loss_of = nn.Linear(10, 1), nn.MSELoss()
    optimizer = build_optimizer(cfg)(model.parameters())
    calls, operators = Calls(), Operators()
    for counter in (calls, operators):
        order = torch.split(torch.randperm(310), SIZES[steps])
        with counter:
            for rows in order:
                optimizer.zero_grad()
                loss_of(model(x[rows]), y[rows]).backward()
                optimizer.step()
    return Counts(calls.count, operators.each.total(), operators.waits)


@pytest.mark.parametrize(("optimizer", "most", "beyond"), [("sgd", 97, 24), ("adam", 134, 24)])
def test_a_step_calls_few_python_functions(typed: Typed, optimizer: str, most: int, beyond: int) -> None:
    """Lightning's share is in it, which comes once for 32 steps. `self.log` in a step would make ten times as many."""
    few, many = (lone(typed, steps, f"optimizer={optimizer}").calls for steps in (16, 62))
    by_hand = [bare(typed, steps, f"optimizer={optimizer}").calls for steps in (16, 62)]
    calls, arithmetic = (many - few) / 46, (by_hand[1] - by_hand[0]) / 46
    assert calls < most
    assert calls - arithmetic < beyond


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_a_step_runs_no_more_operators_than_a_bare_loop(typed: Typed, optimizer: str) -> None:
    """It keeps scores and losses for the metrics, but picks its rows for many steps at once."""
    ours, by_hand = ([of(typed, steps, f"optimizer={optimizer}").operators for steps in (8, 16)] for of in (lone, bare))
    assert ours[1] - ours[0] <= by_hand[1] - by_hand[0]


def test_no_step_waits_for_the_device(typed: Typed) -> None:
    """One wait an epoch for the norm of its first gradient, and one for the losses of 32 steps."""
    assert lone(typed, 8).waits == lone(typed, 16).waits == {"tolist": 2}
    assert lone(typed, 62).waits.total() <= 1 + 2
    assert stack(typed, 4, 8).waits == stack(typed, 4, 16).waits
    assert stack(typed, 4, 62).waits.total() <= 3 * 2


@pytest.mark.system
def test_a_step_of_many_runs_costs_the_calls_of_a_step_of_few(typed: Typed) -> None:
    """And the very same operators: only what is handed out 32 steps at a time is picked run by run."""
    few, more, many = ([stack(typed, runs, steps, "optimizer=adam") for steps in (8, 16)] for runs in (4, 16, 64))
    calls = [(second.calls - first.calls) / 8 for first, second in (few, more, many)]
    operators = {(second.operators - first.operators) / 8 for first, second in (few, more, many)}
    assert max(calls) < 740
    assert max(calls) < 1.1 * min(calls)
    assert len(operators) == 1
    assert many[1].calls / 16 < 1.3 * few[1].calls / 16


def test_each_further_setting_of_an_optimizer_costs_a_step_little(typed: Typed) -> None:
    same, other = ([stack(typed, 8, steps, "optimizer=adam", rates=rates) for steps in (8, 16)] for rates in (1, 4))
    (calls, operators), (calls_of_4, operators_of_4) = (
        ((second.calls - first.calls) / 8, (second.operators - first.operators) / 8) for first, second in (same, other)
    )
    assert calls_of_4 - calls < 3 * 60  # an optimizer each
    assert operators_of_4 - operators <= 3 * 4


@pytest.mark.parametrize("callbacks", ["default", "early_stopping"])
def test_no_step_goes_through_hooks_that_nobody_listens_to(typed: Typed, callbacks: str) -> None:
    """A callback that does listen is heard."""
    detours: list[str | None] = []

    class Look(pl.Callback):
        def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            assert isinstance(pl_module, Experiment)
            detours.append(hook_listener(trainer))

    class Listen(Look):
        def on_after_backward(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            detours.append("called")

    short = (*SMALL, f"callbacks={callbacks}", "trainer.max_epochs=1", "data.batch_size=155", "resume=never")
    train(typed(*short), Look())
    train(typed(*short), Listen())
    assert detours == [None, "Listen listens to each", "called", "called"]


def test_hooks_of_an_optimizer_are_called(typed: Typed) -> None:
    """A step goes round torch's search for them only where there are none."""
    called: list[str] = []

    class Hook(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                (optimizer,) = trainer.optimizers
                optimizer.register_step_pre_hook(lambda *_: called.append("before"))
                optimizer.register_step_post_hook(lambda *_: called.append("after"))

    train(typed(*SMALL, "trainer.max_epochs=2", "data.batch_size=155", "optimizer=adam", "scheduler=cosine"), Hook())
    assert called == 2 * ["before", "after"]
