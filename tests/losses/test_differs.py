"""What a loss or an optimizer does otherwise than the library it is known from: its `differs` line is true."""

from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import get_class, instantiate
from scipy.special import expit, softmax
from torch.nn.modules import loss as torch_losses

from losslab.config.catalogue import CONF, find_by_alias, options
from losslab.config.explain import explain_missing
from tests.losses.examples import Array

LOSSES, OPTIMIZERS = (options([str(CONF)], group) for group in ("loss", "optimizer"))
CHANCE = np.random.default_rng(0)
X, T = CHANCE.normal(size=(6, 4)), np.eye(4)[[0, 1, 2, 3, 0, 1]]
P, Y = softmax(X, 1), T.argmax(1)


def made(name: str, **typed: Any) -> torch.nn.Module:
    """The loss as its file has it, with what is typed."""
    keys = {
        k: v
        for k, v in LOSSES[name].items()
        if k not in ("input", "target", "reduction", "per", "domain", "also", "differs")
    }
    keys = {k: v for k, v in keys.items() if k not in ("ranges", "search", "beside", "weight", "pos_weight")}
    function: torch.nn.Module = instantiate({**keys, **typed})
    return function


def value(name: str, scores: Array, targets: Array, **typed: Any) -> float:
    return float(made(name, **typed)(torch.tensor(scores), torch.tensor(targets)))


def keras_tversky(p: Array, t: Array, alpha: float = 0.5, beta: float = 0.5) -> float:
    inputs, targets = t, p  # named so there, which swaps the two kinds of errors
    hit, fp, fn = (inputs * targets).sum(), ((1 - targets) * inputs).sum(), (targets * (1 - inputs)).sum()
    return float(1 - hit / (hit + alpha * fp + beta * fn + 1e-7))


def keras_binary_focal(logits: Array, t: Array, gamma: float = 2.0) -> float:
    p = expit(logits)
    q = np.where(t == 1, p, 1 - p)
    return float(np.mean(-((1 - q) ** gamma) * np.log(q)))


def clipped(p: Array) -> Array:
    return np.clip(p, 1e-7, 1 - 1e-7)


def test_tversky_swaps_the_two_costs_of_keras() -> None:
    p = expit(X)
    assert value("tversky", p, T) != pytest.approx(keras_tversky(p, T), rel=1e-3)
    assert value("tversky", p, T, alpha=0.5, beta=0.5) == pytest.approx(keras_tversky(p, T))
    assert value("tversky", p, T, alpha=0.2, beta=0.8) == pytest.approx(keras_tversky(p, T, alpha=0.8, beta=0.2))


def test_focal_is_four_times_that_of_keras_and_binary_focal_is_weighed() -> None:
    q = clipped(P)[np.arange(6), Y]
    assert value("focal", X, Y) == pytest.approx(np.mean(0.25 * (1 - q) ** 2 * -np.log(q)) / 0.25)
    assert value("binary_focal", X, T) != pytest.approx(keras_binary_focal(X, T), rel=1e-2)
    assert value("binary_focal", X, T, alpha=None) == pytest.approx(keras_binary_focal(X, T))


@pytest.mark.parametrize("name", ["nll", "kl_div", "bce_probability", "focal"])
def test_keras_clips_probabilities_and_ours_do_not(name: str) -> None:
    sure = np.array([[60.0, 0.0]])
    p, wrong = softmax(sure, 1), np.array([[0.0, 1.0]])
    log_p = torch.log_softmax(torch.tensor(sure), 1).numpy()
    scores = {"nll": log_p, "kl_div": log_p, "bce_probability": p.astype(np.float32), "focal": sure}[name]
    targets = {"nll": np.array([1]), "focal": np.array([1])}.get(name, wrong.astype(scores.dtype))
    assert -np.log(clipped(p)[0, 1]) < 17 < 40 < value(name, scores, targets)
    assert "clips probabilities at 1e-7" in LOSSES[name]["differs"]


def test_dice_of_no_labels_costs_nothing_and_keras_one() -> None:
    nothing = np.zeros((2, 3))
    assert value("dice", nothing, nothing) == 0 != keras_tversky(nothing, nothing) == 1


def test_the_authors_asymmetric_loss_sums_and_stops_gradients() -> None:
    def theirs(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # gamma_neg 4, gamma_pos 1, clip 0.05
        yes = x.sigmoid()
        no = (1 - yes + 0.05).clamp(max=1)
        log = y * yes.clamp(min=1e-8).log() + (1 - y) * no.clamp(min=1e-8).log()
        with torch.no_grad():
            weight = (1 - yes * y - no * (1 - y)) ** (y + 4 * (1 - y))
        return -(log * weight).sum()

    grads, values = [], []
    ours = made("asymmetric", stop_gradient=True), made("asymmetric")
    for loss in (theirs, lambda x, y: ours[0](x, y) * X.size, lambda x, y: ours[1](x, y) * X.size):
        x = torch.tensor(X, requires_grad=True)
        values.append(loss(x, torch.tensor(T)))
        (grad,) = torch.autograd.grad(values[-1], x)
        grads.append(grad)
    torch.testing.assert_close(values[1:], [values[0].detach()] * 2, check_dtype=False)
    torch.testing.assert_close(grads[1], grads[0])
    assert (grads[2] - grads[0]).abs().max() > 0.1 * grads[0].abs().max()


def steps(optimizer: str, grads: Array, rates: Array | None = None, **typed: Any) -> Array:
    """A weight after each gradient, as our option moves it at these learning rates."""
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    keys = {k: v for k, v in OPTIMIZERS[optimizer].items() if k in ("_target_", "lr", "betas", "eps", "momentum_decay")}
    made = get_class(keys.pop("_target_"))([weight], **{**keys, **typed})
    found = []
    for number, grad in enumerate(grads):
        if rates is not None:
            made.param_groups[0]["lr"] = rates[number]
        weight.grad = torch.tensor([grad], dtype=torch.float64)
        made.step()
        found.append(weight.item())
    return np.array(found)


def test_nadam_is_that_of_keras_with_a_schedule_250_times_as_fast() -> None:
    grads, found = CHANCE.normal(size=30), []
    w = m = v = 0.0
    product = 1.0
    for t, g in enumerate(grads, 1):
        now, after = (0.9 * (1 - 0.5 * 0.96**step) for step in (t, t + 1))
        product *= now
        m, v = m + (g - m) * 0.1, v + (g**2 - v) * 0.001
        m_hat = after * m / (1 - product * after) + (1 - now) * g / (1 - product)
        w -= 0.001 * m_hat / (np.sqrt(v / (1 - 0.999**t)) + 1e-7)
        found.append(w)
    np.testing.assert_allclose(steps("nadam", grads, lr=0.001, eps=1e-7, momentum_decay=1.0), found, rtol=1e-6)
    assert abs(steps("nadam", grads, lr=0.001, eps=1e-7) / found - 1).max() > 1e-3


def test_schedule_free_adamw_weighs_the_steps_of_a_warmup_less_than_keras() -> None:
    grads = CHANCE.normal(size=30)

    def reference(rates: Array, power: int) -> Array:
        z = x = v = total = 0.0
        found = []
        for t, (g, rate) in enumerate(zip(grads, rates, strict=True), 1):
            v += (g**2 - v) * 0.001
            z -= rate * g / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
            total += rate**power
            x += (z - x) * rate**power / total
            found.append(0.1 * z + 0.9 * x)
        return np.array(found)

    flat, warm = np.full(30, 0.0025), 0.0025 * np.minimum(1, np.arange(1, 31) / 10)
    np.testing.assert_allclose(steps("schedule_free_adamw", grads), reference(flat, 0), rtol=1e-5)
    np.testing.assert_allclose(steps("schedule_free_adamw", grads, rates=warm), reference(warm, 2), rtol=1e-5)
    assert abs(reference(warm, 2) / reference(warm, 0) - 1).max() > 1e-2


@pytest.mark.parametrize("name", sorted(OPTIMIZERS.keys() - {"any"}))
def test_a_learning_rate_that_is_not_its_classs_own_is_told(name: str) -> None:
    import inspect

    target = {"muon": "torch.optim.Muon"}.get(name, OPTIMIZERS[name]["_target_"])
    known = inspect.signature(get_class(target)).parameters
    for key in ("lr", "weight_decay"):
        usual = getattr(known.get(key), "default", OPTIMIZERS[name].get(key))
        if key in OPTIMIZERS[name] and usual is not inspect.Parameter.empty and usual != OPTIMIZERS[name][key]:
            assert f"{key} {usual:g}" in OPTIMIZERS[name]["differs"]


@pytest.mark.parametrize("name", [*torch_losses.__all__, "AdaptiveLogSoftmaxWithLoss"])
def test_every_loss_of_torch_is_an_option_or_is_answered(name: str) -> None:
    from hydra.errors import MissingConfigException

    said = explain_missing(MissingConfigException("", f"loss/{name}", sorted(LOSSES)), [])
    assert said
    assert "is called" in said or "is not an option here: " in said


@pytest.mark.parametrize("name", [name for name in torch.optim.__all__ if name[0].isupper() and name != "Optimizer"])
def test_every_optimizer_of_torch_is_an_option_or_is_answered(name: str) -> None:
    from hydra.errors import MissingConfigException

    said = explain_missing(MissingConfigException("", f"optimizer/{name}", sorted(OPTIMIZERS)), [])
    assert said
    assert "is called" in said or "is not an option here: " in said


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("MultiLabelSoftMarginLoss", "bce"),
        ("sigmoid_cross_entropy_with_logits", "bce"),
        ("BCELoss", "bce_probability"),
        ("crossentropy", "cross_entropy"),
    ],
)
def test_a_name_is_answered_by_the_loss_that_it_is(name: str, ours: str) -> None:
    assert find_by_alias(name, LOSSES)[0] == ours


def test_a_row_of_zeros_has_a_direction_to_go() -> None:
    x = torch.tensor([[0.0, 0.0], [0.3, 0.4]], requires_grad=True)
    loss = made("cosine_similarity")(x, torch.tensor([[3.0, 4.0], [4.0, 3.0]]))
    (grad,) = torch.autograd.grad(loss, x)
    assert loss.item() == pytest.approx((1 + 1 - 0.96) / 2)
    torch.testing.assert_close(grad[0], torch.tensor([-0.3, -0.4]))


def test_smoothing_is_as_exact_as_the_scores() -> None:
    found = value("asymmetric_single_label", X, Y, label_smoothing=0.1)
    share = T * 0.9 + 0.1 / 4
    focus = np.where(T == 1, 1.0, P**4)
    assert found == pytest.approx(-(share * focus * np.log(P)).sum(1).mean(), rel=1e-12)
