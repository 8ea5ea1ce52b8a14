"""Runs that are trained as one: each has the numbers, the folder and the end that it has alone."""

import inspect
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest
from pytorch_lightning import LightningModule, Trainer

from losslab.config.catalogue import CONF, options
from losslab.stacking.callbacks import StackCallbacks
from losslab.stacking.group import Planned, plan_runs, split_stacks
from losslab.stacking.module import Stack
from losslab.stacking.train import train_together
from losslab.train import Summary, train
from losslab.training.epochs import EpochModule
from losslab.training.module import Experiment
from losslab.training.preemption import Preempted
from tests.conftest import Typed, numbers
from tests.stacking.alike import same

pytestmark = pytest.mark.usefixtures("undrawn")

Captured = pytest.CaptureFixture[str]
SHORT = ("trainer.max_epochs=2", "trainer.precision=64-true", "resume=never")
SMALL = ("data=diabetes", "model.hidden=[8]", *SHORT)


def both(typed: Typed, *jobs: Sequence[str], stop: int | None = None) -> list[tuple[Path, Path]]:
    """Train these together, and then each alone; return their folders.

    Args:
        stop: the machine is taken away from the stack when this epoch is over, and it is started again.
    """
    resume = [] if stop is None else ["resume=auto"]
    together, apart = ([typed(*job, *more) for job in jobs] for more in (resume, []))
    typed_for = [list(cfg.run.overrides) for cfg in together]
    (stack,) = split_stacks(runs := plan_runs(typed_for), width=64)
    assert stack == runs
    if stop is not None:
        taken_away(stack, stop)
        (stack,) = split_stacks(plan_runs(typed_for), width=64)
    outcomes = train_together(stack)
    folders = []
    for outcome, cfg in zip(outcomes, apart, strict=True):
        summary = train(cfg)
        assert isinstance(outcome, Summary), outcome
        folders.append((outcome.folder, summary.folder))
        assert numbers(outcome) == pytest.approx(numbers(summary), rel=1e-9, abs=1e-12)
        assert list(outcome) == list(summary)
    return folders


def taken_away(stack: list[Planned], epoch: int) -> None:
    """Train a stack until the machine is taken away when this epoch is over."""
    go_on = StackCallbacks.on_train_epoch_end

    def end(self: StackCallbacks, trainer: Trainer, module: LightningModule) -> None:
        go_on(self, trainer, module)
        if trainer.current_epoch == epoch:
            raise Preempted(signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StackCallbacks, "on_train_epoch_end", end)
        with pytest.raises(SystemExit, match="143"):
            train_together(stack)


@pytest.mark.parametrize("optimizer", ["adam", "schedule_free_sgd"])  # the others: test_optimizers.py
def test_every_run_of_a_stack_is_as_it_is_alone(typed: Typed, optimizer: str) -> None:
    rate = options([str(CONF)], "optimizer")[optimizer]["lr"]
    jobs = [
        (*SMALL, f"optimizer={optimizer}", f"seed={seed}", f"optimizer.lr={times * rate}", f"loss={loss}")
        for seed, times, loss in [(0, 1, "mae"), (1, 0.5, "huber"), (2, 1, "huber")]
    ]
    for pair in both(typed, *jobs):
        same(pair)


@pytest.mark.parametrize("optimizer", ["adam", "schedule_free_sgd"])  # the others: test_optimizers.py
def test_a_stack_that_is_taken_away_goes_on_one_by_one(typed: Typed, optimizer: str, capsys: Captured) -> None:
    rate = options([str(CONF)], "optimizer")[optimizer]["lr"]
    settings = ("trainer.max_epochs=3", "callbacks.last.seconds=0", "model.dropout=0.3", "data.batch_size=64")
    jobs = [
        (*SMALL, *settings, "scheduler=one_cycle", "param_groups.backbone_lr=0.5", f"seed={seed}", f"loss={loss}",
         f"optimizer={optimizer}", f"optimizer.lr={times * rate}")
        for seed, times, loss in [(0, 1, "mae"), (1, 0.5, "huber"), (2, 1, "huber")]
    ]  # fmt: skip
    for pair in both(typed, *jobs, stop=1):
        same(pair, stacked=False)
    assert "3 of the runs go on from their checkpoints, one by one" in capsys.readouterr().out


@pytest.mark.parametrize(
    "settings",
    [
        ("scheduler=warmup_cosine",),
        ("scheduler=one_cycle", "param_groups.decay=weights", "optimizer=adamw", "optimizer.weight_decay=0.1"),
        ("scheduler=step", "scheduler.step_size=1", "trainer.accumulate_grad_batches=3"),
        ("trainer.gradient_clip_val=0.01", "model.dropout=0.5"),
        ("trainer.gradient_clip_val=0.01", "trainer.gradient_clip_algorithm=value", "data.batch_size=all"),
        ("param_groups.backbone_lr=0.1", "scheduler=cyclic"),
    ],
)
def test_with_schedules_clipping_accumulation_and_groups(typed: Typed, settings: tuple[str, ...]) -> None:
    for pair in both(typed, *[(*SMALL, *settings, f"seed={seed}", f"optimizer.lr=0.0{seed + 1}") for seed in range(2)]):
        same(pair)


@pytest.mark.parametrize(
    "settings",
    [
        ("task=single_label", "model=cnn", "model.channels=[4]", "data.batch_size=256", "trainer.max_epochs=1"),
        ("task=single_label", "model=linear", "data.batch_size=256"),
        ("task=multi_label", "data.batch_size=512", "data.buckets=256", "trainer.max_epochs=1", "model.hidden=4"),
        ("data=heights", "model=linear"),
    ],
)
def test_in_every_task_and_with_batch_norm(typed: Typed, settings: tuple[str, ...]) -> None:
    for pair in both(typed, *[(*SHORT, *settings, f"seed={seed}") for seed in range(2)]):
        same(pair)


def test_losses_of_many_kinds_side_by_side(typed: Typed) -> None:
    losses = ("cross_entropy", "mae", "focal", "multi_margin", "[cross_entropy,0.5*dice]", "poly")
    jobs = [(*SHORT, "task=single_label", "model=linear", "data.batch_size=256", f"loss={loss}") for loss in losses]
    for pair in both(typed, *jobs):
        same(pair)


def test_a_run_and_a_stack_share_all_but_the_step() -> None:
    """What happens once an epoch, the row of the record among it, is written once."""
    of_each = {"__init__", "forward", "training_step", "update", "on_train_start"}
    hooks = {name for name, method in vars(EpochModule).items() if "raise NotImplementedError" in source(method)}
    both = {name for name in vars(Experiment).keys() & vars(Stack).keys() if callable(vars(Stack)[name])}
    assert hooks == {"build_optimizers", "optimizer_index", "measure", "tune", "take_steps"}
    assert both == of_each | hooks


def source(method: object) -> str:
    return inspect.getsource(method) if inspect.isfunction(method) else ""
