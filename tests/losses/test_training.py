"""Every loss with every optimizer: a step is finite and moves the weights, and the loss falls within 50 steps."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from losslab.losses import Loss
from losslab.models import MLP
from losslab.tasks import Task
from tests.conftest import some_now
from tests.losses.examples import FITTING, loss_named, prepared
from tests.optim.examples import OPTIMIZERS, closure_of, make

# every loss x task x optimizer: a step is finite and moves the parameters, and the loss falls within 50 steps


@pytest.mark.parametrize(("task_name", "loss_name"), some_now(FITTING, FITTING[::3]))
def test_every_optimizer_lowers_every_loss(task_name: str, loss_name: str) -> None:
    task, _, y = prepared(task_name, loss=loss_name)
    for name in OPTIMIZERS:
        loss = loss_named(loss_name)
        torch.manual_seed(0)
        model, x = MLP((4,), 3 * loss.scores_per_target, hidden=[8, 8]), torch.randn(16, 4)
        optimizer = make(name, model, loss)
        closure = closure_of(optimizer, partial(lowered, task, loss, model, x, y))
        start = [p.detach().clone() for p in model.parameters()]
        before = float(closure())
        for step in range(50):
            optimizer.step(closure)  # type: ignore[arg-type]
            if step == 0:
                assert all(torch.isfinite(p).all() for p in model.parameters()), name
                assert any(not torch.equal(p, old) for p, old in zip(model.parameters(), start, strict=True)), name
            if float(lowered(task, loss, model, x, y).detach()) < before:
                break
        else:
            pytest.fail(f"with {name} the loss never fell below {before}")


def lowered(task: Task, loss: Loss, model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return loss.compute(task, model(x), y)
