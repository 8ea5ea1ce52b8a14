"""Every optimizer of the catalogue: its formula, its groups, and a run that resumes as if it had never stopped."""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from losslab import models
from losslab.build import build_module, build_optimizer, plan_steps
from losslab.config.check import configure
from losslab.config.flat import flatten
from losslab.config.make import make as make_option
from losslab.errors import Refused
from losslab.optim.groups import find_hidden_matrices, group_parameters
from losslab.optim.optimizers import SAM, Muon
from losslab.optim.schedules import read_rates, warm_up
from losslab.train import train
from losslab.training.module import Experiment
from tests.conftest import Typed, cut_off, folder_of, numbers, some_now
from tests.optim.examples import OPTIMIZERS, TASKS, closure_of, make, module_of, problem, set_mode

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("task", TASKS)
def test_every_optimizer_moves_all_weights_at_once_and_lowers_the_loss_of_every_task(task: str, name: str) -> None:
    model, loss = problem(task)
    optimizer = make(name, model)
    before, start = [p.clone() for p in model.parameters()], loss().item()
    set_mode(optimizer, "train")
    optimizer.step(closure_of(optimizer, loss))  # type: ignore[arg-type]
    for was, now in zip(before, model.parameters(), strict=True):
        assert not torch.equal(was, now)
        assert now.isfinite().all()
    for _ in range(49):
        optimizer.step(closure_of(optimizer, loss))  # type: ignore[arg-type]
    set_mode(optimizer, "eval")
    assert loss().item() < start


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_search_range_holds_the_default(name: str) -> None:
    search = OPTIMIZERS[name]["search"]
    assert "lr" in search
    for key, (low, high) in search.items():
        assert 0 < low <= OPTIMIZERS[name][key] <= high
    assert all(isinstance(other, str) for other in OPTIMIZERS[name].get("also", []))


# ---- published update rules, in NumPy: f is the gradient, and each step's weights are yielded

Array = np.ndarray[Any, np.dtype[np.float64]]
Rule = Callable[[Array, Callable[[Array], Array], dict[str, Any]], Iterator[Array]]


def sgd(w: Array, f: Callable[[Array], Array], o: dict[str, Any]) -> Iterator[Array]:
    v, momentum = np.zeros_like(w), o.get("momentum", 0.0)
    while True:
        g = f(w) + o["weight_decay"] * w
        v = momentum * v + g
        w = w - o["lr"] * (g + momentum * v if o.get("nesterov") else v)
        yield w


def adam(w: Array, f: Callable[[Array], Array], o: dict[str, Any]) -> Iterator[Array]:
    m, v, largest, t = np.zeros_like(w), np.zeros_like(w), np.zeros_like(w), 0
    decoupled = o["_target_"].endswith("AdamW")
    while True:
        t, (b1, b2) = t + 1, o["betas"]
        g = f(w) + (0 if decoupled else o["weight_decay"]) * w
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
        largest = np.maximum(largest, v) if o.get("amsgrad") else v
        w = w * (1 - o["lr"] * o["weight_decay"]) if decoupled else w
        w = w - o["lr"] * m / (1 - b1**t) / (np.sqrt(largest / (1 - b2**t)) + o["eps"])
        yield w


def lion(w: Array, f: Callable[[Array], Array], o: dict[str, Any]) -> Iterator[Array]:
    m = np.zeros_like(w)
    while True:
        g, (b1, b2) = f(w), o["betas"]
        w = w - o["lr"] * (np.sign(b1 * m + (1 - b1) * g) + o["weight_decay"] * w)
        m = b2 * m + (1 - b2) * g
        yield w


def schedule_free(w: Array, f: Callable[[Array], Array], o: dict[str, Any]) -> Iterator[Array]:
    z, x, v, t = w, w, np.zeros_like(w), 0
    beta, b2 = o.get("betas", (o.get("momentum"), None))
    while True:
        t, y = t + 1, (1 - beta) * z + beta * x
        g = f(y)
        if b2 is not None:
            v = b2 * v + (1 - b2) * g**2
            g = g / (np.sqrt(v / (1 - b2**t)) + o["eps"])
        z = z - o["lr"] * (g + o["weight_decay"] * y)
        x = (1 - 1 / t) * x + z / t
        yield x


def sam(w: Array, f: Callable[[Array], Array], o: dict[str, Any]) -> Iterator[Array]:
    def uphill(w: Array) -> Array:
        g = f(w)
        return f(w + o["rho"] * g / np.linalg.norm(g))

    return sgd(w, uphill, {**o["base"], "lr": o["lr"]})


RULES: dict[str, Rule] = {"sgd": sgd, "momentum": sgd, "nesterov": sgd, "adam": adam, "adamw": adam, "amsgrad": adam}
RULES |= {"lion": lion, "schedule_free_sgd": schedule_free, "schedule_free_adamw": schedule_free, "sam": sam}


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_update_is_the_published_one(name: str, weight_decay: float) -> None:
    scale, goal = np.array([1.0, 3.0, 0.2, 5.0]), np.array([0.5, -1.0, 2.0, 0.1])
    w = nn.Parameter(torch.tensor([1.0, 1.0, -1.0, 0.3], dtype=torch.float64))
    decay: dict[str, Any] = {"weight_decay": weight_decay}
    if name == "sam":
        decay = {"base": {**OPTIMIZERS[name]["base"], **decay}}
    expected = RULES[name](
        w.detach().numpy().copy(), lambda w: scale * (w - goal) + np.sin(w), {**OPTIMIZERS[name], **decay}
    )
    model = nn.ParameterList([w])
    optimizer = make(name, model, **decay)
    scales, goals = torch.from_numpy(scale), torch.from_numpy(goal)
    for _ in range(40):
        set_mode(optimizer, "train")
        optimizer.step(closure_of(optimizer, lambda: (scales * (w - goals) ** 2 / 2 - w.cos()).sum()))  # type: ignore[arg-type]
        set_mode(optimizer, "eval")
        np.testing.assert_allclose(w.detach().numpy(), next(expected), rtol=1e-9)


def test_muon_is_torchs_muon_and_adamw_side_by_side() -> None:
    (model, loss), (twin, twin_loss) = problem(), problem()
    muon, layers = make("muon", model), [layer for layer in twin.children() if isinstance(layer, nn.Linear)]
    keys = OPTIMIZERS["muon"]
    hidden = layers[1].weight
    others = [p for p in twin.parameters() if p is not hidden]
    parts = [
        torch.optim.Muon([hidden], lr=keys["lr"], momentum=keys["momentum"], weight_decay=keys["weight_decay"]),
        torch.optim.AdamW(others, lr=keys["adamw_lr"], betas=keys["betas"], weight_decay=keys["weight_decay"]),
    ]
    schedules = [torch.optim.lr_scheduler.ExponentialLR(part, gamma=0.9) for part in (muon, *parts)]
    for _ in range(20):
        muon.step(closure_of(muon, loss))  # type: ignore[arg-type]
        twin.zero_grad()
        twin_loss().backward()  # type: ignore[no-untyped-call]
        for part in parts:
            part.step()
        for schedule in schedules:
            schedule.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))
    assert {group["lr"] for group in muon.param_groups} == {part.param_groups[0]["lr"] for part in parts}


def test_a_model_without_hidden_matrices_is_refused() -> None:
    with pytest.raises(Refused, match=r"none between its first and last layer: type model=mlp"):
        make("muon", models.MLP((6,), 3, hidden=8))


HIDDEN = {  # how many matrices each has between its first and last layer
    "model=linear": 0,
    **{"model=mlp model.hidden=[]": 0, "model=mlp model.hidden=8": 0, "model=mlp model.hidden=[8]": 0},
    "model=mlp model.hidden=[8,8]": 1,
    "model=cnn data=digits model.channels=[4,4]": None,  # known when it is made
}


@pytest.mark.parametrize("words", HIDDEN)
def test_what_is_known_of_hidden_matrices_is_told_before_a_model_is_made(typed: Typed, words: str) -> None:
    if HIDDEN[words] == 0:
        with pytest.raises(Refused, match=r"optimizer=muon is for hidden matrices, and model=\w+ has none"):
            typed("optimizer=muon", *words.split())
        return
    cfg = typed("optimizer=muon", *words.split())
    model = make_option(cfg, "model")((10,) if HIDDEN[words] else (1, 8, 8), 3)
    assert len(find_hidden_matrices(model)) == (HIDDEN[words] or 0)


def test_two_passes_need_a_closure() -> None:
    weight = nn.Parameter(torch.zeros(1))
    with pytest.raises(Refused, match=r"type trainer.precision=bf16-mixed"):
        SAM([weight], lr=0.1, rho=0.1, base=torch.optim.SGD).step()


@pytest.mark.parametrize("words", ["optimizer=lbfgs trainer.precision=16-mixed", "optimizer=sam trainer.precision=16"])
def test_a_gradient_scaler_takes_one_gradient_a_step(typed: Typed, words: str) -> None:
    cfg = typed("data=diabetes", *words.split())
    data = make_option(cfg, "data")
    with pytest.raises(
        Refused, match=r"more than once a step, which trainer.precision=16.* type trainer.precision=bf16"
    ):
        build_module(plan_steps(cfg, data)[0], data)


@pytest.mark.parametrize(("precision", "fused"), [("32-true", True), ("16-mixed", False), ("16", False)])
def test_a_gradient_scaler_gets_an_optimizer_whose_gradients_can_be_clipped(
    typed: Typed, precision: str, fused: bool
) -> None:
    assert bool(build_optimizer(typed(f"trainer.precision={precision}")).keywords.get("fused")) is fused


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_state_read_back_without_running_code_goes_on_bit_for_bit(name: str) -> None:
    def steps(optimizer: Optimizer, loss: Callable[[], Tensor], count: int) -> None:
        set_mode(optimizer, "train")
        for _ in range(count):
            optimizer.step(closure_of(optimizer, loss))  # type: ignore[arg-type]
        set_mode(optimizer, "eval")

    model, loss = problem()
    optimizer = make(name, model)
    warm_up(optimizer, 6)
    steps(optimizer, loss, 4)
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    steps(optimizer, loss, 4)

    again, again_loss = problem()
    resumed = make(name, again)
    warm_up(resumed, 6)
    file.seek(0)
    weights, state = torch.load(file, weights_only=True)
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    steps(resumed, again_loss, 4)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True))
    assert read_rates(resumed)[0] == read_rates(optimizer)[0] == pytest.approx(OPTIMIZERS[name]["lr"])


@pytest.mark.parametrize("name", some_now(OPTIMIZERS, ["adam", "lbfgs", "muon", "sam", "schedule_free_adamw"]))
def test_a_run_goes_on_bit_for_bit_in_the_middle_of_its_warm_up(typed: Typed, name: str) -> None:
    whole = [
        "data=diabetes", f"optimizer={name}", "model.hidden=[8,8]", "model.dropout=0.1", "trainer.max_epochs=4",
        "scheduler=cosine", "scheduler.warmup=0.7", "callbacks.last.seconds=0",
    ]  # fmt: skip
    expected = typed(*whole)
    uninterrupted = train(expected)
    losses = np.genfromtxt(folder_of(expected) / "history.csv", delimiter=",", names=True)["trainloss"]
    assert losses[-1] < losses[0]

    cut = typed(*whole)
    resumed = train(typed(f"ckpt={cut_off(cut, epoch=2)}"))
    assert numbers(resumed) == numbers(uninterrupted)
    saved, wanted = (torch.load(folder_of(c) / "last.ckpt", weights_only=True) for c in (cut, expected))
    assert all(torch.equal(saved["state_dict"][key], weight) for key, weight in wanted["state_dict"].items())


MODELS = [
    models.MLP((6,), 3, hidden=[8, 8]),
    models.CNN((1, 8, 8), 3, channels=[4, 8]),
    models.BagOfWords((20,), 3),
    models.BagOfWords((20,), 3, hidden=4),
    models.backbone((3, 32, 32), 3, "resnet18"),
]


@pytest.mark.parametrize("name", some_now(OPTIMIZERS, ["muon", "schedule_free_adamw", "sgd"]))
def test_a_step_that_overflows_is_a_sentence(typed: Typed, name: str) -> None:
    keys = [key for key in flatten(configure([f"optimizer={name}"])) if re.fullmatch(r"optimizer.*(lr|decay)", key)]
    for key in keys:
        with suppress(Refused):  # or it trains, as Adafactor does; any other exception would be a traceback
            train(typed("data=diabetes", "trainer.max_epochs=2", f"optimizer={name}", f"{key}=1e200"))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
@pytest.mark.parametrize(
    ("decay", "backbone_lr", "hidden"), list(product(["all", "weights"], [1.0, 0.1], [False, True]))
)
def test_no_parameter_is_lost_or_taken_twice(model: nn.Module, decay: Any, backbone_lr: float, hidden: bool) -> None:
    module = module_of(model, nn.PReLU())
    groups = group_parameters(module, 0.5, decay, backbone_lr, hidden)
    if (decay, backbone_lr, hidden) == ("all", 1.0, False):
        assert all(p is q for p, q in zip(groups, module.parameters(), strict=True))
        return
    group_of = {p: group for group in groups if isinstance(group, dict) for p in group["params"]}
    assert sum(len(group["params"]) for group in groups if isinstance(group, dict)) == len(group_of)
    assert set(group_of) == set(module.parameters())
    last = [layer for layer in model.modules() if list(layer.parameters(recurse=False))][-1]
    for name, p in module.named_parameters():
        of_loss, head = name.startswith("loss."), any(p is q for q in last.parameters(recurse=False))
        assert group_of[p]["lr"] == (0.5 if of_loss or head else 0.5 * backbone_lr)
        assert ("weight_decay" in group_of[p]) == (of_loss or (decay == "weights" and p.ndim < 2))
    assert group_of[next(last.parameters(recurse=False))] is groups[0]
    without = group_parameters(module, None, "weights")
    assert all("lr" not in group for group in without if isinstance(group, dict))


def test_hidden_matrices_are_neither_first_nor_last_nor_embeddings_nor_kernels() -> None:
    def hidden(model: nn.Module) -> list[str]:
        names = {p: name for name, p in model.named_parameters()}
        groups = group_parameters(module_of(model), 1.0, hidden=True)
        return [
            names[p] for group in groups if isinstance(group, dict) and group.get("hidden") for p in group["params"]
        ]

    assert hidden(models.MLP((6,), 3, hidden=[8, 8, 8])) == ["3.weight", "5.weight"]
    assert hidden(nn.Sequential(nn.Linear(2, 3), nn.Embedding(4, 3), nn.Linear(3, 3), nn.Linear(3, 2))) == ["2.weight"]
    for model in MODELS[1:]:
        assert hidden(model) == []


def test_a_spared_parameter_does_not_decay() -> None:
    model = models.MLP((6,), 3, hidden=4)
    nn.init.ones_(list(model.parameters())[1])
    groups = group_parameters(module_of(model), 0.1, decay="weights")
    optimizer = torch.optim.AdamW(groups, lr=0.1, weight_decay=0.5)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        torch.testing.assert_close(p, before[name] * (1 if name.endswith("bias") else 1 - 0.1 * 0.5))


def test_a_backbone_needs_more_than_a_head() -> None:
    with pytest.raises(Refused, match=r"param_groups.backbone_lr=0.1 needs a model with more than its last layer"):
        group_parameters(module_of(models.Linear((6,), 3)), 0.1, backbone_lr=0.1)


def test_groups_follow_a_schedule_each_at_its_own_rate() -> None:
    model, loss = problem()
    groups = group_parameters(module_of(model), 0.02, backbone_lr=0.5, hidden=True)
    assert isinstance(groups[0], dict)
    muon = Muon(groups, lr=0.02, adamw_lr=0.001)
    assert sorted(group["lr"] for group in muon.param_groups) == pytest.approx([0.0005, 0.001, 0.01])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(muon, T_max=10)
    for _ in range(5):
        muon.step(closure_of(muon, loss))
        schedule.step()
    assert sorted(group["lr"] for group in muon.param_groups) == pytest.approx([0.00025, 0.0005, 0.005])


def test_gradients_are_clipped_one_by_one_or_all_together(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    update = Experiment.update

    def watched(self: Experiment, *args: Any) -> list[Tensor]:
        losses = update(self, *args)
        seen.append(torch.cat([p.grad.flatten() for p in self.parameters() if p.grad is not None]))
        return losses

    monkeypatch.setattr(Experiment, "update", watched)
    for algorithm, size in (("norm", torch.linalg.vector_norm), ("value", lambda g: g.abs().max())):
        clip = ("trainer.gradient_clip_val=0.01", f"trainer.gradient_clip_algorithm={algorithm}")
        train(typed("data=diabetes", "trainer.max_epochs=1", *clip))
        assert [float(size(g)) for g in seen] == pytest.approx([0.01] * len(seen), rel=1e-3)
        seen.clear()


@pytest.mark.parametrize(
    ("typed_now", "sentence"),
    [
        ("optimizer=lion param_groups.decay=some", "param_groups.decay=some does not fit: it must be all or weights"),
        ("optimizer=lbfgs param_groups.decay=weights", "optimizer=lbfgs has no weight_decay: type optimizer=adamw, or"),
        ("optimizer=rprop param_groups.decay=weights", "optimizer=rprop has no weight_decay"),
        ("optimizer=lbfgs param_groups.backbone_lr=0.1", "optimizer=lbfgs has one learning rate for all parameters"),
        ("param_groups.backbone_lr=-1", "param_groups.backbone_lr=-1 does not fit"),
        ("optimizer=sam optimizer.rho=2", "optimizer.rho=2 does not fit"),
        ("optimizer=sam optimizer.base.momentum=1", "optimizer.base.momentum=1 does not fit"),
        ("optimizer=muon optimizer.adamw_lr=0", "optimizer.adamw_lr=0 does not fit: it must be a number above 0"),
        (
            "optimizer=rprop optimizer.etas=[1.2,0.5]",
            "it must be a list: a number above 0 and below 1, then a number above 1",
        ),
    ],
)
def test_what_an_optimizer_cannot_do_is_refused_at_once(typed_now: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        configure(typed_now.split())
