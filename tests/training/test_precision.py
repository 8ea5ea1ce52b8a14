"""In double precision nothing is rounded to single on the way to a loss, a gradient or a metric."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from losslab.build import build_module, plan_steps
from losslab.config.make import make
from losslab.data.batches import Batches
from losslab.losses import Sum
from tests.conftest import Typed
from tests.losses.examples import FITTING, loss_named, prepared

STEPS = [
    ("task=single_label", "model=cnn", "model.channels=[4]", "loss=[cross_entropy,0.5*dice]", "loss.weight=balanced"),
    ("task=multi_label", "data.buckets=256", "model.hidden=4", "model.dropout=0.5", "loss.pos_weight=balanced"),
]
SHORTER = (torch.float32, torch.float16, torch.bfloat16)


class Double(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets no operation return shorter numbers than double ones, but those that only write down whole numbers."""

    exact = ("_to_copy", "zeros", "ones", "full", "scalar_tensor", "detach", "lift_fresh", "ones_like", "zeros_like")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if any(isinstance(each, Tensor) and each.dtype in SHORTER for each in tree_leaves(found)):
            given = [each.dtype for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
            name = str(func).removeprefix("aten.").partition(".")[0]
            exact = name in self.exact and torch.float64 not in given
            assert exact, f"{func} rounds to single precision"
        return found


def test_the_mode_notices_counts_that_are_divided_and_numbers_that_are_cut() -> None:
    counts = torch.tensor([1, 2])
    wrongs: list[Callable[[], Tensor]] = [
        lambda: counts / 3,
        lambda: counts.double().float(),
        lambda: counts.float().mean(),
    ]
    for wrong in wrongs:
        mode = Double()  # type: ignore[no-untyped-call]
        with mode, pytest.raises(AssertionError, match="rounds to single"):
            wrong()


def test_losses_and_metrics_compute_in_double_precision() -> None:
    for name, loss in FITTING:
        task, scores, y = prepared(name, loss=loss)
        task, of_loss = copy.deepcopy(task).double(), copy.deepcopy(loss_named(loss)).double()
        y = y.double() if y.is_floating_point() else y
        total, weight = Sum({"a": of_loss, "b": of_loss}, {"a": 1.0, "b": 0.5}), torch.ones(len(y)).double()
        for rows in ((y,), (y, weight)) if of_loss.per == "row" else ((y,),):
            given = scores.detach().double().requires_grad_()
            with Double():  # type: ignore[no-untyped-call]
                total.compute(task, given, *rows).backward()  # type: ignore[no-untyped-call]
                found = task.metrics(given.detach(), *rows) | task.tune(given.detach(), *rows)
            assert {value.dtype for value in (*found.values(), given.grad)} == {torch.float64}, (name, loss)  # type: ignore[union-attr]


@pytest.mark.parametrize("settings", STEPS)
def test_steps_and_metrics_compute_in_double_precision(typed: Typed, settings: tuple[str, ...]) -> None:
    cfg = typed(*settings, "trainer.max_epochs=1")
    data = make(cfg, "data")
    module = build_module(plan_steps(cfg, data)[0], data).double()
    x, y = (each.double() if each.is_floating_point() else each for each in next(iter(Batches(data, "train", 8))))
    made: Any = module.configure_optimizers()
    module.state.gradient_norm = 0.0  # it needs a trainer
    with Double():  # type: ignore[no-untyped-call]
        losses = module.update(made[0][0], lambda closure: closure(), [(x, (y,), 8, 8)], [])  # all but the optimizer
        found = [value for _, each in module.measure((module(x).detach(), y), True) for value in each.values()]
    assert {each.dtype for each in (*losses, *found, *module.parameters())} == {torch.float64}
