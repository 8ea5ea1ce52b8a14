"""For every optimizer that stacks: a step of the stack is a step of each run, and its packed state is theirs."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from losslab.build import build_module, plan_steps
from losslab.config.catalogue import CONF, options
from losslab.config.make import make
from losslab.data.dataset import Dataset
from losslab.stacking.module import Stack
from losslab.stacking.snapshots import Snapshots
from losslab.training.module import Experiment
from tests.conftest import Typed, some_now
from tests.stacking.alike import STACKED, close

ROWS = 48
RUNS = ((0, 1, "mae"), (2, 1, "huber"), (1, 0.5, "huber"))  # seed, times the usual learning rate, loss
SETTINGS = (
    *("data=diabetes", "model.hidden=[8]", "model.dropout=0.3", "trainer.max_epochs=3"),
    *("scheduler=one_cycle", "param_groups.backbone_lr=0.5"),
)


class Twins:
    """The same runs alone and as a stack.

    Args:
        typed: settings as on the command line.
        name: the optimizer.
    """

    def __init__(self, typed: Typed, name: str) -> None:
        rate = options([str(CONF)], "optimizer")[name]["lr"]
        self.typed = [
            (*SETTINGS, f"optimizer={name}", f"optimizer.lr={times * rate}", f"seed={seed}", f"loss={loss}")
            for seed, times, loss in RUNS
        ]
        self.cfgs = [typed(*each) for each in self.typed]
        self.alone = self.made()
        self.optimizers = [configured(run)[0] for run in self.alone]
        self.draws = [run.draws for run in self.alone]
        losses = [loss for _, _, loss in RUNS]
        self.stack = Stack(self.made(), losses)
        trainer: Any = SimpleNamespace(optimizers=configured(self.stack))
        self.stack.trainer = trainer

    def made(self) -> list[Experiment]:
        """The runs as they begin, in double precision."""
        found = []
        for cfg in self.cfgs:
            self.data: Dataset = make(cfg, "data")
            cfg, _ = plan_steps(cfg, self.data)
            found.append(build_module(cfg, self.data).double())
        return found

    def batch(self, seed: int) -> tuple[Tensor, Tensor]:
        """Other rows for each run."""
        drawn = torch.Generator().manual_seed(seed)
        rows = torch.stack([torch.randperm(len(self.data.y), generator=drawn)[:ROWS] for _ in self.alone])
        return torch.from_numpy(self.data.x)[rows].double(), torch.from_numpy(self.data.y)[rows].double()

    def step(self, seed: int) -> None:
        """A step of each run, alone and in the stack."""
        x, y = self.batch(seed)
        losses = []
        for number, (run, optimizer) in enumerate(zip(self.alone, self.optimizers, strict=True)):
            torch.set_rng_state(self.draws[number])
            losses += run.update(optimizer, optimizer.step, [(x[number], (y[number],), ROWS, ROWS)], [])
            self.draws[number] = torch.get_rng_state()
        (stacked,) = self.stack.update(self.step_all, [(x, y)], [])
        close(stacked, torch.stack(losses))

    def step_all(self) -> None:
        for optimizer in self.stack.trainer.optimizers:
            optimizer.step()

    def check_checkpoints(self) -> None:
        """What each run of the stack would keep is what it keeps alone."""
        shared: dict[str, Any] = {"epoch": 0, "global_step": 3, "pytorch-lightning_version": "", "loops": {}}
        shared["state_dict"] = self.stack.state_dict()
        shared["optimizer_states"] = [optimizer.state_dict() for optimizer in self.stack.trainer.optimizers]
        shared["lr_schedulers"] = [scheduler.state_dict() for scheduler in self.stack.schedulers]
        snapshots = Snapshots(self.stack)
        snapshots.take(shared, {0: {}})  # some of the runs, and the others later
        snapshots.take(shared, {run: {} for run in range(1, len(self.alone))})
        for number, run in enumerate(self.alone):
            kept = snapshots.checkpoint(number)
            assert torch.equal(kept["processes"][0]["rng"], self.draws[number])
            close(kept["state_dict"], run.state_dict())
            close(kept["optimizer_states"], [self.optimizers[number].state_dict()])
            close(kept["lr_schedulers"], [run.schedulers[0].state_dict()])
            close(kept["epoch_so_far"], vars(run.state))


def configured(module: Experiment | Stack) -> list[Optimizer]:
    """Its optimizers, with their schedules begun."""
    made: Any = module.configure_optimizers()
    optimizers: list[Optimizer] = made[0]
    for optimizer in optimizers:
        getattr(optimizer, "train", lambda: None)()
    return optimizers


@pytest.fixture
def double() -> Iterator[None]:
    """New tensors in double precision, as in a run with trainer.precision=64-true."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", some_now(STACKED, ["adam", "rprop", "schedule_free_sgd", "sgd"]))
@pytest.mark.usefixtures("double")
def test_a_step_of_a_stack_is_a_step_of_each_run(typed: Typed, name: str) -> None:
    twins = Twins(typed, name)
    for seed in range(3):
        twins.step(seed)
    for mode in ("eval", "train"):  # schedule-free optimizers are evaluated at other weights
        for optimizer in (*twins.stack.trainer.optimizers, *twins.optimizers):
            getattr(optimizer, mode, lambda: None)()
        twins.check_checkpoints()
    twins.step(3)
    twins.check_checkpoints()
