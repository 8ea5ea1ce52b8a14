"""What every loss of the catalogue does in every task that it fits: shapes, gradients, vmap, half precision, sums."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from losslab.errors import Refused
from losslab.losses import BCEWithLogitsLoss, FocalLoss, Loss, Sum, TverskyLoss
from losslab.stacking.stacked import Stacked
from losslab.tasks import Regression
from tests.losses.examples import FITTING, LOSSES, Runs, dataset, exactly, loss_named, prepared, same

WEIGHTS = ([0.5, 1.0, 2.0], [1.0, 1.0, 3.0])


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_every_loss_that_fits_a_task_is_one_finite_number_with_a_gradient(task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name, loss=loss_name)
    loss = loss_named(loss_name).compute(task, scores, y)
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
    before = loss.compute(task, scores, y)
    torch.autograd.backward(before)
    assert scores.grad is not None
    assert loss.compute(task, scores - 1e-3 * scores.grad / scores.grad.norm(), y) < before


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_every_loss_under_vmap_is_the_loss_of_each_batch(task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name, loss=loss_name)
    loss = loss_named(loss_name)

    def of(scores: Tensor, y: Tensor) -> Tensor:
        return loss.compute(task, scores, y)

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
    runs.run = partial(loss_named(loss_name).compute, runs.task)
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
    runs.run = partial(
        Sum({name: loss_named(name) for name in ("mse", "msle", "mae")}, {"msle": 0.5}).compute, runs.task
    )
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


def test_cross_entropy_with_weights_and_smoothing_trains_in_a_stack_though_torch_refuses_it_under_vmap() -> None:
    losses = [Loss(nn.CrossEntropyLoss(torch.tensor(w), label_smoothing=0.1), "logits", "index") for w in WEIGHTS]
    x, y = torch.randn(2, 5, 3), torch.arange(10).reshape(2, 5) % 3
    stacked = Stacked(losses)(x, y)
    torch.testing.assert_close(stacked, torch.stack([loss(*rows) for loss, *rows in zip(losses, x, y, strict=True)]))
    with pytest.raises(RuntimeError, match="vmap"):
        torch.func.vmap(losses[0])(x, y)  # what README says of it: the weights are the same for all


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_every_loss_of_half_precision_scores_is_computed_in_single(task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name, loss=loss_name)
    half = scores.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        loss = loss_named(loss_name).compute(task, half, y)
    torch.autograd.backward(loss)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, loss_named(loss_name).compute(task, half.float(), y), rtol=0.02, atol=1e-3)
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
            loss = loss_named(loss_name).compute(task, asked, targets)
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


@pytest.mark.parametrize("name", [name for name in LOSSES if "reduction" in LOSSES[name]])
def test_sum_over_outputs_adds_up_what_each_output_costs(name: str) -> None:
    task, scores, y = prepared(next(task for task, loss in FITTING if loss == name), loss=name)
    loss = loss_named(name)
    input, target = task.view(scores.detach(), loss.input), task.encode(y, loss.target, loss.input)
    each = sum(float(loss.function(input[:, [i]], target[:, [i]])) for i in range(3))
    added = Loss(loss.function, loss.input, loss.target, reduction="sum")
    assert float(added(input, target)) == pytest.approx(each, rel=1e-5)


def test_a_weighted_sum_is_the_sum_of_its_parts_with_their_gradients() -> None:
    task, scores, y = prepared("multi_label")
    parts = {name: loss_named(name) for name in ("bce", "dice", "mse")}
    both = Sum(parts, {"dice": 0.5, "mse": 2.0})
    same(
        lambda x: both.compute(task, x, y),
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
    assert (median.scores_per_target, median.prediction_index) == (3, 1)


def test_the_heads_of_a_loss_become_the_prediction_that_is_evaluated() -> None:
    task, scores, y = prepared("regression", loss="quantile")
    assert isinstance(task, Regression)
    median = scores.detach().reshape(16, 3, 3)[..., 1]
    torch.testing.assert_close(task.view(scores.detach(), "values"), median * task.std + task.mean)
    task, scores, y = prepared("regression", loss="poisson")
    rates = task.view(scores.detach(), "rate")
    torch.testing.assert_close(rates, scores.detach().exp() * y.mean(0))
    assert float(task.metrics(scores.detach(), y)["mae"]) == pytest.approx(float((rates - y).abs().mean()))
