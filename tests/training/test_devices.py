"""No tensor is made on the CPU beside those on a GPU: torch's fake tensors tell devices apart without having one."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from losslab.build import build_module, plan_steps
from losslab.config.make import make
from losslab.data.batches import Batches
from losslab.losses import Sum
from losslab.models import CNN, MLP, BagOfWords
from losslab.optim.optimizers import SAM
from losslab.problems import Point
from losslab.stacking.module import Stack
from tests.conftest import Typed
from tests.losses.examples import FITTING, loss_named, prepared


def move(module: nn.Module, fake: FakeTensorMode) -> None:
    """Put the weights and buffers of a module on a GPU, as if there were one."""
    for each in module.modules():
        for name, value in [*each.named_parameters(recurse=False), *each.named_buffers(recurse=False)]:
            held = fake.from_tensor(value).to("cuda")
            setattr(each, name, nn.Parameter(held) if isinstance(value, nn.Parameter) else held)


def test_a_tensor_on_another_device_is_noticed() -> None:
    with FakeTensorMode(), pytest.raises(RuntimeError, match="at least two devices"):
        torch.zeros(3, device="cuda") + torch.zeros(3)


def test_losses_and_metrics_stay_on_the_device() -> None:
    measured = set()
    for name, loss in FITTING:
        task, scores, y = prepared(name, loss=loss)
        of_task, of_loss, fake = copy.deepcopy(task), copy.deepcopy(loss_named(loss)), FakeTensorMode()
        given = scores.detach(), y, torch.ones(len(y))
        with fake, torch.no_grad():
            *plain, weight = (fake.from_tensor(each).to("cuda") for each in given)
            move(of_task, fake)
            move(of_loss, fake)
            total = Sum({"a": of_loss, "b": of_loss}, {"a": 1.0, "b": 0.5})
            for rows in (plain, [*plain, weight]) if of_loss.per == "row" else (plain,):
                found = {"loss": total.compute(of_task, *rows)}
                if of_loss.per == "row":
                    found["each"] = total.rows(of_task, *rows)
                if (name, len(rows)) not in measured:
                    measured.add((name, len(rows)))
                    found |= of_task.metrics(*rows) | of_task.tune(*rows)
                assert {value.device.type for value in found.values()} == {"cuda"}, (name, loss)
    assert len(measured) == 6


def test_models_and_steps_stay_on_the_device() -> None:
    fake = FakeTensorMode()
    models = [
        MLP((4,), 3, [5], dropout=0.5),
        CNN((1, 8, 8), 3, [4]),
        BagOfWords((9,), 3, 5),
        Point((1,), 2, [3.0, 4.0]),
    ]
    inputs = [torch.zeros(2, 4), torch.zeros(2, 1, 8, 8), torch.ones(2, 6, dtype=torch.long), torch.zeros(1, 1)]
    with fake, torch.no_grad():
        for model, x in zip(models, inputs, strict=True):
            move(model, fake)
            assert model(fake.from_tensor(x).to("cuda")).device.type == "cuda"

        def closure() -> Tensor:
            for weight in models[0].parameters():
                weight.grad = torch.ones_like(weight)
            return torch.zeros((), device="cuda")

        SAM(models[0].parameters(), lr=0.1, rho=0.05, base=torch.optim.SGD).step(closure)


def test_rows_are_kept_on_the_device_where_they_fit(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """`meta` stands for a GPU: tensors there have shapes alone, and are told apart."""
    data = make(typed("task=single_label"), "data")
    for ahead in (True, False):
        held = Batches(data, "train", 32, at_once=4, seed=0, ahead=ahead)
        before = [[tuple(each.shape) for each in batch] for batch in held]
        held.keep_on(torch.device("meta"))
        assert [[tuple(each.shape) for each in batch] for batch in held] == before
        assert {each.device.type for batch in held for each in batch} == {"meta"}
        same = Batches(data, "train", 32, at_once=4, seed=0, ahead=ahead)
        same.keep_on(torch.device("cpu"))
        for mine, yours in zip(same, Batches(data, "train", 32, at_once=4, seed=0, ahead=ahead), strict=True):
            assert all(map(torch.equal, mine, yours))
    monkeypatch.setattr("losslab.data.batches.KEPT", 1000)
    large = Batches(data, "train", 32, seed=0)
    large.keep_on(torch.device("meta"))
    assert {each.device.type for batch in large for each in batch} == {"cpu"}


def test_a_stack_stays_on_the_device(typed: Typed) -> None:
    runs = []
    for seed, loss in enumerate(("cross_entropy", "cross_entropy", "mse")):
        cfg = typed("task=single_label", "model.hidden=[8]", f"loss={loss}", f"seed={seed}", "trainer.max_epochs=1")
        data = make(cfg, "data")
        runs.append(build_module(plan_steps(cfg, data)[0], data))
    stack = Stack(runs, ["cross_entropy", "cross_entropy", "mse"], torch.optim.Adam)
    fake = FakeTensorMode()
    with fake, torch.no_grad():
        move(stack, fake)
        rows = stack(torch.zeros(3, 5, 1, 8, 8, device="cuda")), torch.zeros(3, 5, dtype=torch.long, device="cuda")
        found = [stack.compute_loss(*rows)]
        found += [value for _, measured in stack.measure(rows, with_loss=True) for value in measured.values()]
        assert {value.device.type for value in found} == {"cuda"}
