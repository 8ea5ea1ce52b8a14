"""Each loss and its gradient against scikit-learn, SciPy, torch, torchvision, or its formula in NumPy."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cosine
from scipy.special import expit, log_softmax, softmax
from scipy.stats import entropy, norm
from sklearn import metrics
from torch import Tensor, nn
from torchvision.ops import sigmoid_focal_loss

from losslab.losses import Loss
from tests.losses.examples import LOSSES, OURS, Array

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
    "poisson": lambda x, t: (  # torch adds 1e-8 to the rate in the logarithm, which counts where a rate is tiny
        metrics.mean_poisson_deviance(t.ravel(), x.ravel() + 1e-8) / 2 + np.mean(t - t * np.log(t))
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
@example(seed=0, scale=4.0)
@given(seed=st.integers(0, 2**31), scale=st.floats(0.05, 4.0))
def test_every_loss_and_its_gradient_are_those_of_an_independent_reference(
    name: str, keys: dict[str, Any], seed: int, scale: float
) -> None:
    def reference(x: Array) -> float:
        return float(REFERENCES[name](x, target, **keys))

    file = {key: value for key, value in LOSSES[name].items() if key not in OURS}
    tensors = {key: torch.tensor(keys[key], dtype=torch.float64) for key in keys if key == "weight"}
    function = instantiate({**file, **{k: v for k, v in keys.items() if k not in tensors}}, _convert_="all", **tensors)
    x, target = drawn(name, seed, scale, getattr(function, "scores_per_target", 1))
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
