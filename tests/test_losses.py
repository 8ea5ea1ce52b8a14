"""Each loss against somebody else's answer, gradients included."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import log_loss, mean_absolute_error, mean_squared_error, mean_squared_log_error
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from losslab.data.dataset import Dataset
from losslab.door import CONF, fits, options
from losslab.losses import FocalLoss, Loss, MSLELoss
from losslab.tasks import MultiLabel, Regression, SingleLabel, Task
from losslab.train import build

from .conftest import Typed

LOSSES = options([str(CONF)], "loss")
TASKS = {name: file["task"] for name, file in options([str(CONF)], "task").items()}
FITTING = [(task, loss) for task in TASKS for loss in LOSSES if fits(TASKS[task], LOSSES[loss])]

positive = arrays(np.float64, (7, 2), elements=st.floats(0, 1e6))


def prepared(name: str, rows: int = 16) -> tuple[Task, Tensor, Tensor]:
    """A fitted task with scores and canonical targets of a small random data set."""
    numbers = torch.Generator().manual_seed(0)
    kinds: dict[str, type[Task]] = {"regression": Regression, "single_label": SingleLabel, "multi_label": MultiLabel}
    keys = {key: value for key, value in TASKS[name].items() if key != "_target_"}
    y = {
        "regression": torch.rand(rows, 3, generator=numbers) * 50 + 1,
        "single_label": torch.arange(rows) % 3,
        "multi_label": (torch.rand(rows, 3, generator=numbers) > 0.5).long(),
    }[name]
    every = np.arange(rows)
    data = Dataset(
        np.zeros((rows, 1), np.float32), y.numpy(), dict.fromkeys(("train", "val", "test"), every), (1,), list("abc")
    )
    task = kinds[name](**keys)
    task.fit(data)
    return task, torch.randn(rows, 3, generator=numbers, requires_grad=True), y


def loss_of(cfg_typed: Typed, task: str, loss: str) -> Loss:
    cfg = cfg_typed(f"task={task}", f"loss={loss}")
    return Loss(build(cfg, "loss", "input", "target"), cfg.loss.input, cfg.loss.target)


def value(task: Task, loss: Loss, scores: Tensor, y: Tensor) -> Tensor:
    result: Tensor = loss(task.view(scores, loss.input), task.encode(y, loss.target, loss.input))
    return result


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_every_loss_that_fits_a_task_is_one_finite_number_with_a_gradient(
    typed: Typed, task_name: str, loss_name: str
) -> None:
    task, scores, y = prepared(task_name)
    loss = value(task, loss_of(typed, task_name, loss_name), scores, y)
    torch.autograd.backward(loss)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert scores.grad is not None
    assert torch.isfinite(scores.grad).all()
    assert scores.grad.abs().sum() > 0


@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_a_step_against_the_gradient_lowers_every_loss(typed: Typed, task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name)
    loss = loss_of(typed, task_name, loss_name)
    before = value(task, loss, scores, y)
    torch.autograd.backward(before)
    assert scores.grad is not None
    step = 1e-3 * scores.grad / scores.grad.norm()
    assert value(task, loss, scores - step, y) < before


@pytest.mark.filterwarnings("ignore:There is a performance drop")  # torch has no batching rule for kl_div: slow, right
@pytest.mark.parametrize(("task_name", "loss_name"), FITTING)
def test_every_loss_is_the_mean_over_samples_under_vmap(typed: Typed, task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name)
    loss = loss_of(typed, task_name, loss_name)
    input, target = task.view(scores.detach(), loss.input), task.encode(y, loss.target, loss.input)
    each = torch.func.vmap(loss)(input[:, None], target[:, None])
    torch.testing.assert_close(each.mean(), loss(input, target))


@pytest.mark.parametrize("name", ["mse", "mae", "huber", "cross_entropy", "nll", "kl_div", "bce", "focal"])
def test_scores_far_from_the_target_stay_finite(typed: Typed, name: str) -> None:
    task_name = next(task for task, loss in FITTING if loss == name)
    task, scores, y = prepared(task_name)
    far = (scores.detach() * 1e4).requires_grad_()
    loss = value(task, loss_of(typed, task_name, name), far, y)
    torch.autograd.backward(loss)
    assert far.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(far.grad).all()


@given(positive, positive)
def test_msle_is_scikit_learns(predicted: np.ndarray, true: np.ndarray) -> None:
    ours = MSLELoss()(torch.tensor(predicted), torch.tensor(true))
    assert float(ours) == pytest.approx(mean_squared_log_error(true, predicted), rel=1e-9, abs=1e-12)


def test_msle_has_the_gradient_of_its_formula_and_none_below_zero() -> None:
    predicted = torch.tensor([[0.5, 3.0, -2.0]], dtype=torch.float64, requires_grad=True)
    true = torch.tensor([[1.0, 2.0, 4.0]], dtype=torch.float64)
    torch.autograd.backward(MSLELoss()(predicted, true))
    p, t = predicted.detach().numpy()[0, :2], true.numpy()[0, :2]
    expected = 2 / 3 * (np.log(1 + p) - np.log(1 + t)) / (1 + p)
    assert predicted.grad is not None
    np.testing.assert_allclose(predicted.grad[0].numpy(), [*expected, 0.0], rtol=1e-12)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0, 5.0])
def test_focal_loss_and_its_gradient_are_those_of_the_paper(gamma: float) -> None:
    logits = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    y = torch.tensor([0, 1, 2, 3, 0])
    p = np.exp(logits.detach().numpy())
    p /= p.sum(1, keepdims=True)
    pt = p[np.arange(5), y]
    loss = FocalLoss(gamma)(logits, y)
    assert loss.item() == pytest.approx(np.mean(-((1 - pt) ** gamma) * np.log(pt)), rel=1e-12)
    torch.autograd.backward(loss)
    slope = gamma * (1 - pt) ** (gamma - 1) * np.log(pt) - (1 - pt) ** gamma / pt if gamma else -1 / pt
    expected = (slope * pt)[:, None] * (np.eye(4)[y] - p) / 5
    assert logits.grad is not None
    np.testing.assert_allclose(logits.grad.numpy(), expected, rtol=1e-9, atol=1e-14)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    logits, y = torch.randn(9, 4), torch.arange(9) % 4
    torch.testing.assert_close(FocalLoss(0.0)(logits, y), F.cross_entropy(logits, y))


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_focal_loss_has_no_nan_where_the_prediction_is_certain(gamma: float) -> None:
    logits = torch.tensor([[1e4, -1e4]], requires_grad=True)
    torch.autograd.backward(FocalLoss(gamma)(logits, torch.tensor([0])))
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


def test_identities_of_the_single_label_losses(typed: Typed) -> None:
    task, scores, y = prepared("single_label")
    cross_entropy = value(task, loss_of(typed, "single_label", "cross_entropy"), scores, y)
    for name in ("nll", "kl_div"):
        torch.testing.assert_close(value(task, loss_of(typed, "single_label", name), scores, y), cross_entropy)
    p = scores.detach().softmax(1).numpy()
    assert cross_entropy.item() == pytest.approx(log_loss(y.numpy(), p), rel=1e-5)


def test_means_go_over_samples_and_outputs(typed: Typed) -> None:
    task, scores, y = prepared("multi_label")
    p, t = scores.detach().sigmoid().numpy(), y.numpy()
    bce = value(task, loss_of(typed, "multi_label", "bce"), scores, y).item()
    assert bce == pytest.approx(np.mean([log_loss(t[:, i], p[:, i]) for i in range(3)]), rel=1e-5)
    assert value(task, loss_of(typed, "multi_label", "mse"), scores, y).item() == pytest.approx(
        mean_squared_error(t, p), rel=1e-5
    )
    assert value(task, loss_of(typed, "multi_label", "mae"), scores, y).item() == pytest.approx(
        mean_absolute_error(t, p), rel=1e-5
    )


def test_textbook_values() -> None:
    guess = torch.tensor([0.8, 0.2])
    mae, mse = Loss(nn.L1Loss(), "prediction", "dense"), Loss(nn.MSELoss(), "prediction", "dense")
    right, wrong = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    assert [round(float(loss(guess, y)), 6) for loss in (mae, mse) for y in (right, wrong)] == [0.2, 0.8, 0.04, 0.64]


@pytest.mark.parametrize(
    ("target_form", "input_shape", "target_shape"),
    [
        ("dense", (4, 1), (4,)),
        ("dense", (4,), (4, 1)),
        ("dense", (4, 3), (3,)),
        ("index", (4, 3), (4, 1)),
        ("index", (4, 3), (3,)),
    ],
)
def test_shapes_that_torch_would_broadcast_are_refused(
    target_form: str, input_shape: tuple[int, ...], target_shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match="fits"):
        Loss(nn.L1Loss(), "prediction", target_form)(torch.zeros(input_shape), torch.zeros(target_shape))
