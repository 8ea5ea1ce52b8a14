"""Losses that are equal in theory, with their gradients, and values worked out in textbooks."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from losslab.losses import (
    AsymmetricLoss,
    AsymmetricSingleLabelLoss,
    BCEWithLogitsLoss,
    BinaryFocalLoss,
    FocalLoss,
    GeneralizedCrossEntropyLoss,
    KLDivLoss,
    PolyLoss,
    TverskyLoss,
)
from tests.losses.examples import loss_named, prepared, same

# identities, with their gradients

logits = st.integers(0, 2**31).map(
    lambda seed: torch.randn(6, 4, generator=torch.Generator().manual_seed(seed)).double()
)


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


def test_the_gradient_through_the_logistic_function_is_that_of_the_stanford_notes() -> None:
    """The slope of 1 / (1 + exp(-x)) at 1 is 0.20 and its value 0.73 (CS231n, backpropagation)."""
    task, _, _ = prepared("multi_label", loss="mae")
    score = torch.ones(1, 1, requires_grad=True)
    loss = loss_named("mae").compute(task, score, torch.zeros(1, 1, dtype=torch.long))
    torch.autograd.backward(loss)
    assert score.grad is not None
    assert [round(float(value), 2) for value in (loss.detach(), score.grad)] == [0.73, 0.20]
