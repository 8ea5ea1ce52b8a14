"""No tensor is made on the CPU beside those on a GPU: torch's fake tensors tell devices apart without having one."""

import copy
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from losslab.build import build_module, plan_steps
from losslab.config.make import make
from losslab.data.batches import Batches
from losslab.losses import Sum
from losslab.models import CNN, MLP, BagOfWords
from losslab.optim.optimizers import SAM
from losslab.problems import Point
from losslab.stacking.module import Stack
from losslab.training.module import Experiment
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
    stack = Stack(runs, ["cross_entropy", "cross_entropy", "mse"])
    fake = FakeTensorMode()
    with fake, torch.no_grad():
        move(stack, fake)
        rows = stack(torch.zeros(3, 5, 1, 8, 8, device="cuda")), torch.zeros(3, 5, dtype=torch.long, device="cuda")
        found = [stack.compute_loss(*rows)]
        found += [value for _, measured in stack.measure(rows, with_loss=True) for value in measured.values()]
        assert {value.device.type for value in found} == {"cuda"}


class OneDevice(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Lets no operation mix devices but those that copy, and no operation run that has no deterministic form on CUDA.

    Numbers without a dimension may be on a CPU: kernels take them as arguments.
    """

    unforeseen = ("nll_loss2d", "adaptive_avg_pool", "adaptive_max_pool", "fractional_max_pool", "upsample", "histc",
                  "bincount", "reflection_pad", "kthvalue", "median.dim", "put_.", "scatter_reduce", "grid_sampler",
                  "ctc_loss", "max_unpool")  # fmt: skip

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        tensors = [each for each in tree_leaves((args, kwargs or {})) if isinstance(each, Tensor)]
        if str(func) not in ("aten._to_copy.default", "aten.copy_.default"):
            assert len({each.device for each in tensors if each.ndim}) <= 1, f"{func} mixes devices"
        name = str(func).removeprefix("aten.")
        assert not name.lstrip("_").startswith(self.unforeseen), f"{func} raises on CUDA with deterministic=true"
        return func(*args, **(kwargs or {}))


def test_the_mode_notices_what_meta_tensors_let_pass() -> None:
    held, others = torch.zeros(2, 3, device="meta"), torch.zeros(3, 4)
    wrongs: list[Callable[[], Tensor]] = [
        lambda: held @ others,
        lambda: held.index_select(0, torch.tensor([1])),
        lambda: torch.histc(others),
    ]
    for wrong in wrongs:
        mode = OneDevice()  # type: ignore[no-untyped-call]
        with mode, pytest.raises(AssertionError, match=r"mixes devices|raises on CUDA"):
            wrong()


STEPS = [
    ("data=diabetes", "loss=huber", "optimizer=nadam", "scheduler=one_cycle"),
    ("data=diabetes", "loss=quantile", "optimizer=schedule_free_sgd"),
    (
        "task=single_label",
        "model=cnn",
        "model.channels=[4]",
        "loss=[cross_entropy,0.5*dice]",
        "augment=mixup",
        "optimizer=momentum",
    ),
    ("task=single_label", "loss.weight=balanced", "optimizer=lion"),
    (
        "task=multi_label",
        "data.buckets=256",
        "model.hidden=4",
        "model.dropout=0.5",
        "loss.pos_weight=balanced",
        "optimizer=rmsprop",
    ),
]


@pytest.mark.parametrize("settings", STEPS)
def test_steps_and_metrics_stay_on_the_device_alone_and_stacked(typed: Typed, settings: tuple[str, ...]) -> None:
    """A step of training, with backward and the optimizer, where `meta` stands for a GPU; then all metrics."""
    cfg = typed(*settings, "trainer.max_epochs=1")
    data = make(cfg, "data")
    runs = [build_module(plan_steps(cfg, data)[0], data) for _ in range(2)]
    x, y = (each.to("meta") for each in next(iter(Batches(data, "train", 8, ahead=False))))
    stack = Stack(runs, ["a", "b"]).to("meta")
    run = runs[0].to("meta")
    stack.clip = 0.1
    for module, rows in ((run, (x, y)), (stack, (torch.stack([x, x]), torch.stack([y, y])))):
        made: Any = module.configure_optimizers()
        losses = take_step(module, made[0], rows)
        with OneDevice():  # type: ignore[no-untyped-call]
            scores = module(rows[0]), rows[1]
            found = [value for _, each in module.measure(scores, True) for value in each.values()]
        assert {each.device.type for each in (*losses, *found, *module.parameters(), *module.buffers())} == {"meta"}


def take_step(module: Experiment | Stack, optimizers: list[torch.optim.Optimizer], rows: tuple[Tensor, Tensor]) -> Any:
    """A step of training, where no operation mixes devices; return its losses."""
    x, y = rows
    trainer: Any = SimpleNamespace(optimizers=optimizers)
    module.trainer = trainer
    with OneDevice():  # type: ignore[no-untyped-call]
        if isinstance(module, Stack):
            return module.update(lambda: [each.step() for each in optimizers], [(x, y)], [])
        return module.update(optimizers[0], optimizers[0].step, [(x, (y,), 8, 8)], [])
