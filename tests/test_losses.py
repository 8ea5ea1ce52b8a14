"""Each loss against somebody else's answer, gradients included; the files of conf/loss are the list."""

import re
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.distance import cosine
from scipy.special import expit, log_softmax, softmax
from scipy.stats import entropy, norm
from sklearn import metrics
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torchvision.ops import sigmoid_focal_loss

from losslab.config.catalogue import CONF, fits, known_as, options
from losslab.config.compose import MARKS
from losslab.data.dataset import Dataset
from losslab.errors import Refused
from losslab.losses import (
    AsymmetricLoss,
    AsymmetricSingleLabelLoss,
    BCEWithLogitsLoss,
    BinaryFocalLoss,
    FocalLoss,
    GeneralizedCrossEntropyLoss,
    KLDivLoss,
    Loss,
    PolyLoss,
    Sum,
    TverskyLoss,
)
from losslab.models import MLP
from losslab.tasks import MultiLabel, Regression, SingleLabel, Task
from losslab.train import objective
from tests.conftest import Typed
from tests.optim.test_optimizers import OPTIMIZERS, closure_of, make

Array = NDArray[Any]
OURS = ("input", "target", "reduction", "domain", *MARKS)
LOSSES = options([str(CONF)], "loss")
TASKS = {
    name: {key: value for key, value in file["task"].items() if key not in MARKS}
    for name, file in options([str(CONF)], "task").items()
}
FITTING = [(task, loss) for task in TASKS for loss in LOSSES if fits(TASKS[task], LOSSES[loss])]


@cache
def loss_named(name: str) -> Loss:
    """The loss of a file, with its defaults."""
    file = LOSSES[name]
    function = instantiate({key: value for key, value in file.items() if key not in OURS}, _convert_="all")
    return Loss(function, file["input"], file["target"], file.get("reduction", "mean"))


def dataset(y: Array) -> Dataset:
    every = np.arange(len(y))
    rows = dict.fromkeys(("train", "val", "test"), every)
    return Dataset(np.zeros((len(y), 1), np.float32), y, rows, (1,), list("abc"))


def prepared(name: str, rows: int = 16, loss: str = "mse") -> tuple[Task, Tensor, Tensor]:
    """A task that is fitted to a small random data set and reads scores as the loss does; such scores, and targets."""
    numbers = torch.Generator().manual_seed(0)
    kinds: dict[str, type[Task]] = {"regression": Regression, "single_label": SingleLabel, "multi_label": MultiLabel}
    keys = {key: value for key, value in TASKS[name].items() if key != "_target_"}
    y = {
        "regression": torch.rand(rows, 3, generator=numbers) * 2 + 0.5,
        "single_label": torch.arange(rows) % 3,
        "multi_label": (torch.rand(rows, 3, generator=numbers) > 0.5).long(),
    }[name]
    task = kinds[name](**keys)
    task.fit(dataset(y.numpy()), loss_named(loss))
    scores = torch.randn(rows, 3 * loss_named(loss).heads, generator=numbers, requires_grad=True)
    return task, scores, y


class Runs(nn.Module):
    """Three runs of a task in double precision: `run` of each one's scores and targets, with buffers of its own.

    Args:
        name, loss: of the task, which reads scores as the loss does.
    """

    def __init__(self, name: str, loss: str = "mse") -> None:
        super().__init__()
        self.task, scores, y = prepared(name, loss=loss)
        numbers = torch.Generator().manual_seed(1)
        self.scores = torch.randn(3, *scores.shape, generator=numbers, dtype=torch.float64)
        self.y = torch.stack([y, y.roll(1, 0), y.flip(0).roll(1, 1) if y.ndim > 1 else y.flip(0)])
        self.y = self.y.double() if self.y.is_floating_point() else self.y
        self.own = {
            name: buffer * (1 + torch.rand(3, *buffer.shape, generator=numbers, dtype=torch.float64))
            for name, buffer in self.named_buffers()
        }
        self.run: Callable[[Tensor, Tensor], Any] = self.task.metrics

    def forward(self, scores: Tensor, y: Tensor) -> Any:
        return self.run(scores, y)

    def call(self, own: dict[str, Tensor], scores: Tensor, y: Tensor) -> Any:
        return torch.func.functional_call(self, own, (scores, y))

    def together(self, scores: Tensor) -> Any:
        """Of all three, in one call."""
        return torch.func.vmap(self.call)(self.own, scores, self.y)

    def alone(self, run: int, scores: Tensor) -> Any:
        """Of one of them, by itself."""
        return self.call({name: buffers[run] for name, buffers in self.own.items()}, scores, self.y[run])


exactly = partial(torch.testing.assert_close, rtol=1e-12, atol=1e-12, equal_nan=True)


def value(task_name: str, loss_name: str) -> float:
    task, scores, y = prepared(task_name, loss=loss_name)
    return float(loss_named(loss_name).of(task, scores, y))


# the contract


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_every_loss_that_fits_a_task_is_one_finite_number_with_a_gradient(task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name, loss=loss_name)
    loss = loss_named(loss_name).of(task, scores, y)
    torch.autograd.backward(loss)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert scores.grad.abs().sum() > 0


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_a_step_against_the_gradient_lowers_every_loss(task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name, loss=loss_name)
    loss = loss_named(loss_name)
    before = loss.of(task, scores, y)
    torch.autograd.backward(before)
    assert scores.grad is not None
    assert loss.of(task, scores - 1e-3 * scores.grad / scores.grad.norm(), y) < before


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_every_loss_under_vmap_is_the_loss_of_each_batch(task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name, loss=loss_name)
    loss = loss_named(loss_name)

    def of(scores: Tensor, y: Tensor) -> Tensor:
        return loss.of(task, scores, y)

    each, gradients = (
        run(scores.detach().reshape(4, 4, -1), y.reshape(4, 4, *y.shape[1:]))
        for run in (torch.func.vmap(of), torch.func.vmap(torch.func.grad(of)))
    )
    for batch in range(4):
        alone = scores.detach()[4 * batch : 4 * batch + 4].requires_grad_()
        expected = of(alone, y[4 * batch : 4 * batch + 4])
        torch.autograd.backward(expected)
        torch.testing.assert_close(each[batch], expected.detach())
        torch.testing.assert_close(gradients[batch], alone.grad)


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_runs_that_are_trained_as_one_have_the_losses_and_gradients_of_each(task_name: str, loss_name: str) -> None:
    runs = Runs(task_name, loss_name)
    runs.run = partial(loss_named(loss_name).of, runs.task)
    scores = runs.scores.clone().requires_grad_()
    every = runs.together(scores)
    every.sum().backward()
    assert scores.grad is not None
    for run in range(3):
        alone = runs.scores[run].clone().requires_grad_()
        expected = runs.alone(run, alone)
        torch.autograd.backward(expected)
        assert expected.dtype == torch.float64
        exactly(every[run], expected)
        exactly(scores.grad[run], alone.grad)


def test_a_sum_of_losses_is_that_of_each_run() -> None:
    runs = Runs("regression")
    runs.run = partial(Sum({name: loss_named(name) for name in ("mse", "msle", "mae")}, {"msle": 0.5}).of, runs.task)
    exactly(runs.together(runs.scores), torch.stack([runs.alone(run, runs.scores[run]) for run in range(3)]))


@pytest.mark.parametrize(
    ("function", "key"),
    [
        (nn.CrossEntropyLoss(weight=torch.ones(3)), "weight"),
        (nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=0.1), "weight"),
        (nn.NLLLoss(weight=torch.ones(3)), "weight"),
        (FocalLoss(weight=torch.ones(3)), "weight"),
        (BCEWithLogitsLoss(pos_weight=torch.ones(3)), "pos_weight"),
    ],
)
def test_each_run_may_have_weights_of_its_own(function: nn.Module, key: str) -> None:
    numbers = torch.Generator().manual_seed(0)
    x, weights = (torch.rand(3, *shape, generator=numbers, dtype=torch.float64) for shape in ((5, 3), (3,)))
    y = torch.arange(15).reshape(3, 5) % 3 if key == "weight" else (x > 0.5).double()

    def of(weight: Tensor, x: Tensor, y: Tensor) -> Any:
        return torch.func.functional_call(function, {key: weight}, (x, y))

    every, gradients = (run(weights, x, y) for run in (torch.func.vmap(of), torch.func.vmap(torch.func.grad(of, 1))))
    for run in range(3):
        alone = x[run].clone().requires_grad_()
        expected = of(weights[run], alone, y[run])
        expected.backward()
        exactly(every[run], expected)
        exactly(gradients[run], alone.grad)


@pytest.mark.parametrize(
    "function",
    [
        nn.CrossEntropyLoss(weight=torch.tensor([0.5, 1.0, 2.0])),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.NLLLoss(weight=torch.tensor([0.5, 1.0, 2.0])),
        FocalLoss(weight=torch.tensor([0.5, 1.0, 2.0])),
    ],
)
def test_weighted_and_smoothed_losses_hold_under_vmap_too(function: nn.Module) -> None:
    loss, x, y = Loss(function, "logits", "index"), torch.randn(4, 5, 3), torch.arange(20).reshape(4, 5) % 3
    torch.testing.assert_close(
        torch.func.vmap(loss)(x, y), torch.stack([loss(*rows) for rows in zip(x, y, strict=True)])
    )


def test_what_the_readme_says_of_vmap_is_so() -> None:
    both = nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=0.1)
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(both)(torch.randn(4, 5, 3), torch.zeros(4, 5, dtype=torch.long))


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_every_loss_of_half_precision_scores_is_computed_in_single(task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name, loss=loss_name)
    half = scores.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_named(loss_name).of(task, half, y)
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_named(loss_name).of(task, half.float(), y), rtol=0.02, atol=1e-3)
    assert half.grad is not None
    assert torch.isfinite(half.grad).all()


FAR = [name for name in LOSSES if LOSSES[name]["input"] != "rate"]  # the exponential of a far score is infinite


@pytest.mark.parametrize(("task_name", "loss_name"), [(task, loss) for task, loss in FITTING if loss in FAR])
@pytest.mark.parametrize("score", [0.0, 1e4, -1e4])
def test_every_loss_and_gradient_stays_finite_at_the_edges(task_name: str, loss_name: str, score: float) -> None:
    task, scores, y = prepared(task_name, loss=loss_name)
    mixed = torch.where(torch.arange(scores.shape[-1]) % 2 == 0, 1.0, -1.0)
    for far in (torch.full_like(scores, score), score * mixed.expand_as(scores), scores.detach() * abs(score)):
        for targets in (y, torch.zeros_like(y)):
            asked = far.clone().requires_grad_()
            domain = LOSSES[loss_name].get("domain")
            if domain and dataset(targets.numpy()).outside(domain):
                continue
            loss = loss_named(loss_name).of(task, asked, targets)
            torch.autograd.backward(loss)
            assert torch.isfinite(loss)
            assert asked.grad is not None
            assert torch.isfinite(asked.grad).all()


@pytest.mark.parametrize(
    ("target_form", "input_shape", "target_shape"),
    [
        ("dense", (4, 1), (4,)),
        ("dense", (4,), (4, 1)),
        ("dense", (4, 3), (3,)),
        ("labels", (4, 3), (4,)),
        ("one_hot", (4, 3), (4, 1)),
        ("index", (4, 3), (4, 1)),
        ("index", (4, 3), (3,)),
    ],
)
def test_shapes_that_torch_would_broadcast_are_refused(
    target_form: str, input_shape: tuple[int, ...], target_shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="fits"):
        Loss(nn.L1Loss(), "prediction", target_form)(torch.zeros(input_shape), torch.zeros(target_shape))
    with pytest.raises(ValueError, match="fits"):
        loss_named("quantile")(torch.zeros(4, 1, 3), torch.zeros(4, 3))


@pytest.mark.parametrize("name", LOSSES)
def test_every_file_says_its_range_and_source_and_keeps_to_the_range(name: str) -> None:
    head = " ".join(line[2:] for line in (CONF / "loss" / f"{name}.yaml").read_text().splitlines() if line[0] == "#")
    found = re.search(r"Range: (\S+) to ([^.]+)\. Source: \S", head)
    assert found, head
    bottom, top = float(found[1]), float(eval(found[2], {"q": 0.7, "inf": np.inf}))
    task_name = next(task for task, loss in FITTING if loss == name)
    task, scores, y = prepared(task_name, loss=name)
    for scale in (0.0, 0.1, 1.0, 10.0):
        assert bottom - 1e-6 <= float(loss_named(name).of(task, scores.detach() * scale, y)) <= top + 1e-6


@pytest.mark.parametrize("name", [name for name in LOSSES if "reduction" in LOSSES[name]])
def test_sum_over_outputs_adds_up_what_each_output_costs(name: str) -> None:
    task, scores, y = prepared(next(task for task, loss in FITTING if loss == name), loss=name)
    loss = loss_named(name)
    input, target = task.view(scores.detach(), loss.input), task.encode(y, loss.target, loss.input)
    each = sum(float(loss.function(input[:, [i]], target[:, [i]])) for i in range(3))
    added = Loss(loss.function, loss.input, loss.target, reduction="sum")
    assert float(added(input, target)) == pytest.approx(each, rel=1e-5)


# each loss against an independent reference: scikit-learn, SciPy, torch, torchvision, or its formula in NumPy


def of_rows(y: Array, classes: int) -> Array:
    return np.eye(classes)[y]


def focal(x: Array, y: Array, gamma: float = 2.0, weight: Any = None) -> float:
    p = softmax(x, 1)[np.arange(len(y)), y]
    return float(np.mean((1.0 if weight is None else np.asarray(weight)[y]) * (1 - p) ** gamma * -np.log(p)))


def asymmetric(x: Array, t: Array, gamma_pos: float = 1.0, gamma_neg: float = 4.0, clip: float = 0.05) -> float:
    p = expit(x)
    shifted = np.where(p > clip, p - clip, 0.0)
    there, absent = (1 - p) ** gamma_pos * np.log(p), shifted**gamma_neg * np.log(1 - shifted)
    return float(-np.where(t == 1, there, absent).mean())


def asymmetric_single(
    x: Array, y: Array, gamma_pos: float = 0.0, gamma_neg: float = 4.0, label_smoothing: float = 0.1
) -> float:
    p, total = softmax(x, 1), 0.0
    for row, true in enumerate(y):
        for c in range(x.shape[1]):
            share = (1 - label_smoothing if c == true else 0.0) + label_smoothing / x.shape[1]
            focus = (1 - p[row, c]) ** gamma_pos if c == true else p[row, c] ** gamma_neg
            total -= share * focus * np.log(p[row, c])
    return total / len(y)


def tversky(p: Array, t: Array, alpha: float = 0.3, beta: float = 0.7) -> float:
    hit, said, true = (p * t).sum(), p.sum(), t.sum()
    return float(1 - hit / (hit + alpha * (said - hit) + beta * (true - hit)))


def padded_indices(t: Array) -> Tensor:
    rows = [[*np.flatnonzero(row), *[-1] * int((row == 0).sum())] for row in t]
    return torch.tensor(np.array(rows, dtype=np.int64))


REFERENCES: dict[str, Callable[..., Any]] = {
    "mse": lambda x, t: metrics.mean_squared_error(t, x),
    "sum_of_squares": lambda x, t: 0.5 * np.mean(np.linalg.norm(x - t, axis=1) ** 2),
    "mae": lambda x, t: metrics.mean_absolute_error(t, x),
    "huber": lambda x, t, delta=1.0: np.where(
        abs(x - t) <= delta, 0.5 * (x - t) ** 2, delta * abs(x - t) - 0.5 * delta**2
    ).mean(),
    "smooth_l1": lambda x, t, beta=1.0: np.where(
        abs(x - t) < beta, 0.5 * (x - t) ** 2 / beta, abs(x - t) - 0.5 * beta
    ).mean(),
    "log_cosh": lambda x, t: np.log(np.cosh(x - t)).mean(),
    "msle": lambda x, t: metrics.mean_squared_log_error(t, x),
    "rmsle": lambda x, t: np.sqrt(metrics.mean_squared_log_error(t, x)),
    "mape": lambda x, t: 100 * metrics.mean_absolute_percentage_error(t, x),
    "smape": lambda x, t: 100 * np.mean(abs(x - t) / ((abs(x) + abs(t)) / 2)),
    "poisson": lambda x, t: (
        metrics.mean_poisson_deviance(t.ravel(), x.ravel()) / 2 + np.mean(t - t * np.log(t))
    ),
    "tweedie": lambda x, t, power=1.5: metrics.mean_tweedie_deviance(t.ravel(), x.ravel(), power=power),
    "quantile": lambda x, t, levels=(0.1, 0.5, 0.9): np.mean(
        [metrics.mean_pinball_loss(t, x[..., i], alpha=level) for i, level in enumerate(levels)]
    ),
    "gaussian_nll": lambda x, t: np.mean(
        -norm.logpdf(t, x[..., 0], np.sqrt(np.log1p(np.exp(x[..., 1])) + 1e-6)) - np.log(2 * np.pi) / 2
    ),
    "cosine_similarity": lambda x, t: np.mean([cosine(*rows) for rows in zip(x, t, strict=True)]),
    "cross_entropy": lambda x, y: metrics.log_loss(y, softmax(x, 1), labels=range(x.shape[1])),
    "sparse_categorical_cross_entropy": lambda x, y: -log_softmax(x, 1)[np.arange(len(y)), y].mean(),
    "categorical_cross_entropy": lambda x, t: -(t * log_softmax(x, 1)).sum(1).mean(),
    "nll": lambda x, y: -np.mean([row[c] for row, c in zip(x, y, strict=True)]),
    "kl_div": lambda x, t: np.mean([entropy(row, np.exp(x[i])) for i, row in enumerate(t)])
    - np.mean(np.log(np.exp(x).sum(1))),  # SciPy normalises its second argument
    "focal": focal,
    "poly": lambda x, y, epsilon=2.0: np.mean(
        [-np.log(p[c]) + epsilon * (1 - p[c]) for p, c in zip(softmax(x, 1), y, strict=True)]
    ),
    "generalized_cross_entropy": lambda x, y, q=0.7: np.mean(
        [(1 - np.exp(row[c]) ** q) / q for row, c in zip(x, y, strict=True)]
    ),
    "square": lambda x, t, k=1.0, m=1.0: np.mean(np.where(t == 1, k * (x - m) ** 2, x**2)),
    "multi_margin": lambda x, y, p=1, margin=1.0: nn.MultiMarginLoss(p=p, margin=margin)(
        torch.tensor(x), torch.tensor(y)
    ).item(),
    "categorical_hinge": lambda x, t: np.mean(
        [max(0, 1 + max(0, x[i][t[i] == 0].max()) - x[i][t[i] == 1][0]) for i in range(len(t))]
    ),
    "asymmetric_single_label": asymmetric_single,
    "bce": lambda x, t, label_smoothing=0.0: sum(
        weight * metrics.log_loss(targets.ravel(), expit(x).ravel(), labels=[0, 1])
        for weight, targets in ((1 - label_smoothing / 2, t), (label_smoothing / 2, 1 - t))
    ),
    "bce_probability": lambda x, t: nn.BCELoss()(torch.tensor(x), torch.tensor(t)).item(),
    "binary_focal": lambda x, t, gamma=2.0, alpha=0.25: sigmoid_focal_loss(
        torch.tensor(x), torch.tensor(t), -1 if alpha is None else alpha, gamma, reduction="mean"
    ).item(),
    "asymmetric": asymmetric,
    "soft_f1": lambda p, t: 1 - np.mean([2 * a @ b / (a.sum() + b.sum()) for a, b in zip(p.T, t.T, strict=True)]),
    "dice": lambda p, t: 1 - 2 * (p * t).sum() / (p.sum() + t.sum()),
    "tversky": tversky,
    "soft_margin": lambda x, t: nn.SoftMarginLoss()(torch.tensor(x), torch.tensor(2 * t - 1)).item(),
    "hinge": lambda x, t: metrics.hinge_loss([*t.ravel(), 0, 1], [*x.ravel(), -1, 1]) * (t.size + 2) / t.size,
    # with two cells that cost nothing, so that there are both values
    "squared_hinge": lambda x, t: np.mean(np.where(t == 1, np.maximum(1 - x, 0), np.maximum(1 + x, 0)) ** 2),
    "multi_label_margin": lambda x, t: nn.MultiLabelMarginLoss()(torch.tensor(x), padded_indices(t)).item(),
}  # fmt: skip
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in LOSSES),
    ("huber", {"delta": 0.3}),
    ("smooth_l1", {"beta": 0.2}),
    ("tweedie", {"power": 1.2}),
    ("quantile", {"levels": [0.25, 0.75]}),
    ("focal", {"gamma": 0.5, "weight": [0.5, 1.0, 3.0, 2.0]}),
    ("poly", {"epsilon": -0.5}),
    ("generalized_cross_entropy", {"q": 1.0}),
    ("square", {"k": 3.0, "m": 5.0}),
    ("multi_margin", {"p": 2, "margin": 0.5}),
    ("asymmetric_single_label", {"gamma_pos": 1.5, "gamma_neg": 0.5, "label_smoothing": 0.0}),
    ("bce", {"label_smoothing": 0.2}),
    ("binary_focal", {"gamma": 0.5, "alpha": None}),
    ("asymmetric", {"gamma_pos": 0.0, "gamma_neg": 1.5, "clip": 0.0}),
    ("tversky", {"alpha": 0.9, "beta": 0.1}),
]


def drawn(name: str, seed: int, scale: float, heads: int) -> tuple[Array, Array]:
    """Random inputs and targets of the kind that a loss takes, in double precision."""
    random, file, shape = np.random.default_rng(seed), LOSSES[name], (5, 4)
    x = scale * random.normal(size=shape)
    target = {
        "index": random.integers(0, 4, 5),
        "one_hot": of_rows(random.integers(0, 4, 5), 4),
        "labels": random.integers(0, 2, shape).astype(float),
        "dense": random.normal(size=shape),
    }[file["target"]]
    if file["input"] in ("values", "rate"):
        target = np.exp(target)
    views: Mapping[str, Callable[[], Array]] = {
        "logits": lambda: x,
        "prediction": lambda: x if file["target"] == "dense" else 0.01 + 0.98 * expit(x),
        "log_prediction": lambda: log_softmax(x, 1),
        "values": lambda: np.exp(x),
        "rate": lambda: np.exp(x),
        "heads": lambda: scale * random.normal(size=(*shape, heads)),
    }
    return views[file["input"]](), target


@pytest.mark.parametrize(("name", "keys"), SETTINGS, ids=lambda part: part if isinstance(part, str) else "")
@settings(max_examples=15)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.05, 4.0))
def test_every_loss_and_its_gradient_are_those_of_an_independent_reference(
    name: str, keys: dict[str, Any], seed: int, scale: float
) -> None:
    def reference(x: Array) -> float:
        return float(REFERENCES[name](x, target, **keys))

    file = {key: value for key, value in LOSSES[name].items() if key not in OURS}
    tensors = {key: torch.tensor(keys[key], dtype=torch.float64) for key in keys if key == "weight"}
    function = instantiate({**file, **{k: v for k, v in keys.items() if k not in tensors}}, _convert_="all", **tensors)
    x, target = drawn(name, seed, scale, getattr(function, "heads", 1))
    asked = torch.tensor(x, requires_grad=True)
    loss = Loss(function.double(), LOSSES[name]["input"], LOSSES[name]["target"])(asked, torch.tensor(target))
    torch.autograd.backward(loss)
    assert loss.item() == pytest.approx(reference(x), rel=1e-6, abs=1e-7)
    assert asked.grad is not None
    for way in np.random.default_rng(seed).normal(size=(4, *x.shape)):
        step = 1e-6 * way * abs(x)
        slope = (reference(x + step) - reference(x - step)) / 2
        assert (asked.grad.numpy() * step).sum() == pytest.approx(slope, rel=2e-4, abs=1e-12)


def test_every_file_has_a_reference() -> None:
    assert set(REFERENCES) == set(LOSSES)


# identities, with their gradients

logits = st.integers(0, 2**31).map(
    lambda seed: torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)).double()
)


def same(one: Callable[[Tensor], Tensor], other: Callable[[Tensor], Tensor], x: Tensor) -> None:
    """Both functions have the same value and gradient at x."""
    results = []
    for function in (one, other):
        at = x.clone().requires_grad_()
        found = function(at)
        torch.autograd.backward(found)
        results.append((found.detach(), at.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-9)


@given(logits, st.floats(0.01, 0.99))
def test_smoothed_binary_cross_entropy_is_torchs_of_smoothed_targets_and_unsmoothed_it_is_torchs_bit_for_bit(
    x: Tensor, e: float
) -> None:
    t, weight = (torch.arange(24) % 3 == 0).double().reshape(6, 4), torch.tensor([0.5, 1.0, 2.0, 7.0]).double()
    for weights in (None, weight):
        plain, unsmoothed = nn.BCEWithLogitsLoss(pos_weight=weights), BCEWithLogitsLoss(pos_weight=weights)
        smoothed = BCEWithLogitsLoss(e, pos_weight=weights)
        same(partial(smoothed, target=t), partial(plain, target=t * (1 - e) + e / 2), x)
        assert torch.equal(unsmoothed(x.float(), t.float()), plain(x.float(), t.float()))


@given(logits)
def test_the_losses_that_are_cross_entropy_in_disguise(x: Tensor) -> None:
    y = torch.arange(6) % 4
    hot = F.one_hot(y).double()

    def expected(x: Tensor) -> Tensor:
        return F.cross_entropy(x, y)

    for disguised in (
        lambda x: FocalLoss(gamma=0.0)(x, y),
        lambda x: PolyLoss(epsilon=0.0)(x, y),
        lambda x: AsymmetricSingleLabelLoss(0.0, 0.0, 0.0)(x, y),
        lambda x: nn.CrossEntropyLoss(label_smoothing=0.0)(x, y),
        lambda x: loss_named("sparse_categorical_cross_entropy")(x, y),
        lambda x: loss_named("categorical_cross_entropy")(x, hot),
        lambda x: loss_named("nll")(x.log_softmax(1), y),
        lambda x: KLDivLoss()(x.log_softmax(1), hot),
        lambda x: F.kl_div(x.log_softmax(1), hot, reduction="batchmean"),
    ):
        same(disguised, expected, x)
    nearly = GeneralizedCrossEntropyLoss(q=1e-6)(x.log_softmax(1), y)
    torch.testing.assert_close(nearly, expected(x), rtol=1e-4, atol=1e-4)


@given(logits)
def test_the_losses_that_are_binary_cross_entropy_in_disguise(x: Tensor) -> None:
    t = (torch.arange(24).reshape(6, 4) % 3 == 0).double()

    def expected(x: Tensor) -> Tensor:
        return F.binary_cross_entropy_with_logits(x, t)

    for disguised in (
        lambda x: AsymmetricLoss(gamma_pos=0.0, gamma_neg=0.0, clip=0.0)(x, t),
        lambda x: BinaryFocalLoss(gamma=0.0, alpha=None)(x, t),
        lambda x: 2 * BinaryFocalLoss(gamma=0.0, alpha=0.5)(x, t),
        lambda x: loss_named("soft_margin")(x, t),
        lambda x: loss_named("bce_probability")(x.sigmoid(), t),
        # two-class softmax with the scores 0 and x
        lambda x: F.cross_entropy(torch.stack([torch.zeros_like(x), x], 1), t.long()),
    ):
        same(disguised, expected, x)


@given(logits)
def test_other_identities(x: Tensor) -> None:
    y, t = torch.arange(6) % 4, torch.linspace(-2, 2, 24).reshape(6, 4).double()
    hot = F.one_hot(y).double()
    half_mse = nn.MSELoss()
    same(lambda x: nn.HuberLoss(delta=1e9)(x, t), lambda x: half_mse(x, t) / 2, x)
    same(lambda x: loss_named("sum_of_squares")(x, t), lambda x: 4 * half_mse(x, t) / 2, x)
    same(lambda x: nn.HuberLoss(delta=0.3)(x, t), lambda x: 0.3 * nn.SmoothL1Loss(beta=0.3)(x, t), x)
    same(lambda x: TverskyLoss(0.5, 0.5)(x.sigmoid(), hot), lambda x: loss_named("dice")(x.sigmoid(), hot), x)
    same(lambda x: loss_named("multi_label_margin")(x, hot), lambda x: nn.MultiMarginLoss()(x, y), x)
    same(lambda x: loss_named("cosine_similarity")(x, t), lambda x: nn.CosineEmbeddingLoss()(x, t, torch.ones(6)), x)
    same(lambda x: loss_named("quantile")(x[..., None].expand(6, 4, 3), t), lambda x: loss_named("mae")(x, t) / 2, x)
    same(
        lambda x: GeneralizedCrossEntropyLoss(q=1.0)(x.log_softmax(1), y),
        lambda x: nn.L1Loss(reduction="sum")(x.softmax(1), hot) / 12,
        x,
    )


# textbook values


def test_textbook_values_of_mae_and_mse() -> None:
    guess = torch.tensor([[0.8, 0.2]])
    right, wrong = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    found = [round(float(loss_named(name)(guess, y)), 6) for name in ("mae", "mse") for y in (right, wrong)]
    assert found == [0.2, 0.8, 0.04, 0.64]


@pytest.mark.parametrize("p", [0.9, 0.1])
def test_textbook_values_of_cross_entropy(p: float) -> None:
    scores = torch.tensor([[p, 1 - p]]).log()
    for name in ("cross_entropy", "nll", "focal"):
        loss = FocalLoss(0.0) if name == "focal" else loss_named(name).function
        assert float(loss(scores, torch.tensor([0]))) == pytest.approx(-np.log(p), rel=1e-6)
    assert float(loss_named("bce_probability")(torch.tensor([[p]]), torch.ones(1, 1))) == pytest.approx(-np.log(p))


def test_the_worked_chain_of_the_stanford_notes() -> None:
    """1/x after +1 after exp after -x, the logistic function at 1 piece by piece (CS231n, backpropagation)."""
    x = torch.tensor(1.0, requires_grad=True)
    chain = [-x]
    for step in (torch.exp, lambda value: value + 1, lambda value: 1 / value):
        chain.append(step(chain[-1]))
    for node in chain[:-1]:
        node.retain_grad()
    torch.autograd.backward(chain[-1])
    slopes = [node.grad for node in (chain[2], chain[1], chain[0], x)]
    assert [round(float(slope), 2) for slope in slopes if slope is not None] == [-0.53, -0.53, -0.20, 0.20]
    assert chain[-1].item() == pytest.approx(float(torch.sigmoid(torch.tensor(1.0))))


# sums, weights, domains, names


def test_a_weighted_sum_is_the_sum_of_its_parts_with_their_gradients() -> None:
    task, scores, y = prepared("multi_label")
    parts = {name: loss_named(name) for name in ("bce", "dice", "mse")}
    both = Sum(parts, {"dice": 0.5, "mse": 2.0})
    same(
        lambda x: both.of(task, x, y),
        lambda x: (
            F.binary_cross_entropy_with_logits(x, y.double())
            + 0.5 * TverskyLoss()(x.sigmoid(), y.double())
            + 2 * F.mse_loss(x.sigmoid(), y.double())
        ),
        scores.detach().double(),
    )


def test_losses_that_read_the_scores_differently_are_not_added() -> None:
    with pytest.raises(Refused, match="a loss of rates cannot be added"):
        Sum({name: loss_named(name) for name in ("mse", "poisson")}, {})
    with pytest.raises(Refused, match="quantile 3, gaussian_nll 2"):
        Sum({name: loss_named(name) for name in ("quantile", "gaussian_nll")}, {})
    median = Sum({name: loss_named(name) for name in ("mse", "quantile")}, {})
    assert (median.heads, median.point) == (3, 1)


@pytest.mark.parametrize(
    ("typed_now", "weights"),
    [
        ("task=single_label loss.weight=balanced", [1 / 1.5, 1 / 0.9, 1 / 0.6]),
        ("task=single_label loss=nll loss.weight=[1,2,3]", [1, 2, 3]),
        ("task=single_label loss=focal loss.weight=balanced", [1 / 1.5, 1 / 0.9, 1 / 0.6]),
        ("task=single_label loss=bce loss.pos_weight=balanced", [1.0, 7 / 3, 4.0]),
        ("task=single_label loss=bce loss.pos_weight=[1,1,5]", [1, 1, 5]),
    ],
)
def test_weights_come_from_the_training_rows_or_from_a_list(typed: Typed, typed_now: str, weights: list[float]) -> None:
    y = np.repeat([0, 1, 2, 2], [5, 3, 2, 7])
    rows = {"train": np.arange(10), "val": np.arange(10, 14), "test": np.arange(14, 17)}  # only the first ten count
    data = Dataset(np.zeros((17, 1), np.float32), y, rows, (1,), list("abc"))
    cfg = typed(*typed_now.split())
    loss = objective(cfg, SingleLabel(**{k: v for k, v in TASKS["single_label"].items() if k != "_target_"}), data)
    assert isinstance(loss, Loss)
    key = "pos_weight" if "pos_weight" in typed_now else "weight"
    assert getattr(loss.function, key).tolist() == pytest.approx(weights)


@pytest.mark.parametrize(
    ("typed_now", "targets", "sentence"),
    [
        ("loss=msle", [-1.0, 2, 3], "loss=msle is for targets >= 0, which 1 of the 3 targets"),
        ("loss=poisson", [-1.0, -2, 3], "loss=poisson is for targets >= 0, which 2 of the 3 targets"),
        ("loss=tweedie", [-1.0, 2, 3], "loss=tweedie is for targets >= 0"),
        ("loss=mape", [0.0, 2, 3], "loss=mape is for targets != 0, which 1 of the 3 targets"),
        ("loss=[mse,msle]", [-1.0, 2, 3], "loss=msle is for targets >= 0"),
        ("loss=cosine_similarity", [1.0, 2, 3], "needs at least two outputs"),
        ("task=single_label loss.weight=[1,2]", [0, 1, 2], "loss.weight has 2 numbers, but .* has 3 outputs"),
        ("task=multi_label loss.pos_weight=[1,2]", [[0, 1, 1]] * 3, "loss.pos_weight has 2 numbers"),
    ],
)
def test_targets_and_weights_that_do_not_fit_are_refused(
    typed: Typed, typed_now: str, targets: list[Any], sentence: str
) -> None:
    cfg = typed(*typed_now.split())
    y = np.array(targets)
    y = y[:, None].astype(np.float32) if y.dtype.kind == "f" else y
    task = instantiate(cfg.task)
    data = dataset(y)
    data.outputs = data.outputs[: y.shape[1]] if cfg.task.name == "regression" else data.outputs
    with pytest.raises(Refused, match=sentence):
        objective(cfg, task, data)


@pytest.mark.parametrize(("y", "what"), [([[0, 2]], "labels must be 0 or 1"), ([0, 3], "must be 0 to 2")])
def test_targets_that_are_no_labels_or_classes_are_refused(y: list[Any], what: str) -> None:
    with pytest.raises(Refused, match=what):
        dataset(np.array(y))


KERAS = """mean_squared_error mse mean_absolute_error mae mean_absolute_percentage_error mape
    mean_squared_logarithmic_error msle binary_crossentropy categorical_crossentropy sparse_categorical_crossentropy
    kl_divergence kld poisson cosine_similarity log_cosh logcosh huber hinge squared_hinge categorical_hinge
    binary_focal_crossentropy categorical_focal_crossentropy dice tversky categorical_generalized_cross_entropy"""


@pytest.mark.parametrize("name", KERAS.split())
def test_every_name_of_keras_is_ours_or_is_answered_by_ours(name: str) -> None:
    called = [option for option, file in LOSSES.items() if known_as(name, file)]
    assert name in LOSSES or len(called) == 1, called


def test_a_class_of_torchs_is_answered_by_the_file_that_makes_more_of_it() -> None:
    assert [option for option, file in LOSSES.items() if known_as("BCEWithLogitsLoss", file)] == ["bce"]


def test_no_other_name_stands_for_two_losses_or_for_another_files_own_name() -> None:
    others = [other for file in LOSSES.values() for other in file.get("also", [])]
    assert len(set(others)) == len(others)
    assert not set(others) & set(LOSSES)


def test_the_heads_of_a_loss_become_the_prediction_that_is_judged() -> None:
    task, scores, y = prepared("regression", loss="quantile")
    assert isinstance(task, Regression)
    median = scores.detach().reshape(16, 3, 3)[..., 1]
    torch.testing.assert_close(task.view(scores.detach(), "values"), median * task.std + task.mean)
    task, scores, y = prepared("regression", loss="poisson")
    rates = task.view(scores.detach(), "rate")
    torch.testing.assert_close(rates, scores.detach().exp() * y.mean(0))
    assert float(task.metrics(scores.detach(), y)["mae"]) == pytest.approx(float((rates - y).abs().mean()))


# every loss x task x optimizer: a step is finite and moves the parameters, and the loss falls within 50 steps


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_every_optimizer_lowers_every_loss(task_name: str, loss_name: str) -> None:
    task, _, y = prepared(task_name, loss=loss_name)
    for name in OPTIMIZERS:
        loss = loss_named(loss_name)
        torch.manual_seed(0)
        model, x = MLP((4,), 3 * loss.heads, hidden=[8, 8]), torch.randn(16, 4)
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
    return loss.of(task, model(x), y)
