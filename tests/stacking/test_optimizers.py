"""For every optimizer that stacks: a step of the stack is a step of each run, and its packed state is theirs."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim import Optimizer

from losslab.build import build_module, build_optimizer, plan_steps
from losslab.config.catalogue import CONF, options
from losslab.config.make import call, make
from losslab.data.dataset import Dataset
from losslab.stacking.module import Stack
from losslab.training.epochs import set_mode
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
        self.alone, self.runs = self.made(), self.made()
        self.optimizers = [configured(run) for run in self.alone]
        self.draws = [run.draws for run in self.alone]
        self.begin()

    def made(self) -> list[Experiment]:
        """The runs as they begin, in double precision."""
        found = []
        for cfg in self.cfgs:
            self.data: Dataset = make(cfg, "data")
            cfg, _ = plan_steps(cfg, self.data)
            found.append(build_module(cfg, self.data).double())
        return found

    def begin(self) -> None:
        """Stack the runs."""
        waiting = build_optimizer(self.cfgs[0])
        losses = [loss for _, _, loss in RUNS]
        self.stack = Stack(self.runs, losses, lambda groups: call(self.cfgs[0], "optimizer", waiting, groups))
        self.optimizer = configured(self.stack)
        trainer: Any = SimpleNamespace(optimizers=[self.optimizer])
        self.stack.trainer = trainer

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
        (stacked,) = self.stack.update(self.optimizer, self.optimizer.step, [(x, y)])
        close(stacked, torch.stack(losses))

    def checkpoints(self) -> list[dict[str, Any]]:
        """What each run of the stack would keep, when that is what it keeps alone."""
        shared: dict[str, Any] = {"epoch": 0, "global_step": 3, "pytorch-lightning_version": "", "loops": {}}
        shared["lr_schedulers"] = [self.stack.scheduler.state_dict()]
        saved = [self.stack.checkpoint(number, shared) for number in range(len(self.alone))]
        for number, (kept, run) in enumerate(zip(saved, self.alone, strict=True)):
            assert torch.equal(kept["processes"][0]["rng"], self.draws[number])
            close(kept["state_dict"], run.state_dict())
            close(kept["optimizer_states"], [self.optimizers[number].state_dict()])
            close(kept["lr_schedulers"], [run.scheduler.state_dict()])
            close(kept["epoch_so_far"], vars(run.state))
        return saved


def configured(module: Experiment | Stack) -> Optimizer:
    """Its optimizer, with its schedule begun."""
    made: Any = module.configure_optimizers()
    optimizer: Optimizer = made[0][0]
    set_mode(optimizer, "train")
    return optimizer


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
        for optimizer in (twins.optimizer, *twins.optimizers):
            set_mode(optimizer, mode)
        saved = twins.checkpoints()
    twins.runs = twins.made()  # as in another process
    for run, kept in zip(twins.runs, saved, strict=True):
        run.load_state_dict(kept["state_dict"])
        run.draws = kept["processes"][0]["rng"]
    twins.begin()
    joined = twins.stack.join_checkpoints(saved)
    twins.stack.load_state_dict(joined["state_dict"])
    twins.optimizer.load_state_dict(joined["optimizer_states"][0])
    twins.stack.scheduler.load_state_dict(joined["lr_schedulers"][0])
    for state, run in zip(twins.stack.states, twins.alone, strict=True):
        state.restore(vars(run.state))
    for seed in range(3, 5):
        twins.step(seed)
    twins.checkpoints()
    for each in (twins.alone, twins.optimizers, twins.draws):
        del each[1]
    twins.stack.keep([0, 2])  # the run in the middle is over
    for seed in range(5, 7):
        twins.step(seed)
    twins.checkpoints()
