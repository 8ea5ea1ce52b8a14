"""The loss of each row: its mean is the loss, and no row looks at another."""

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losslab.losses import BCEWithLogitsLoss, FocalLoss, Loss, Sum
from losslab.record.folder import run_name
from losslab.tasks import Task
from losslab.training.objective import build_loss
from tests.conftest import Typed
from tests.losses.examples import FITTING, LOSSES, TASKS, Runs, dataset, exactly, loss_named, prepared

BATCH = [(task, loss) for task, loss in FITTING if LOSSES[loss].get("per") == "batch"]
ROWS = [pair for pair in FITTING if pair not in BATCH]
WEIGHT = torch.tensor([0.5, 1.0, 4.0]).double()
OTHERS = {  # settings that change what a row costs
    **{
        f"{type(function).__name__}-{number}": Loss(function, view, "index")
        for number, (function, view) in enumerate(
            [
                (nn.CrossEntropyLoss(WEIGHT), "logits"),
                (nn.CrossEntropyLoss(WEIGHT, label_smoothing=0.2), "logits"),
                (nn.CrossEntropyLoss(label_smoothing=0.2), "logits"),
                (nn.CrossEntropyLoss(ignore_index=1), "logits"),
                (nn.CrossEntropyLoss(WEIGHT, ignore_index=1), "logits"),
                (nn.NLLLoss(WEIGHT), "log_prediction"),
                (FocalLoss(weight=WEIGHT), "logits"),
            ]
        )
    },
    "CrossEntropyLoss of one-hot targets": Loss(nn.CrossEntropyLoss(WEIGHT), "logits", "one_hot"),
    "BCEWithLogitsLoss": Loss(BCEWithLogitsLoss(0.1, WEIGHT), "logits", "labels"),
}
OTHERS |= {
    f"{name}, the sum over outputs": Loss(loss_named(name).function, file["input"], file["target"], reduction="sum")
    for name, file in LOSSES.items()
    if "reduction" in file
}


class Mine(nn.Module):
    """A loss of one's own that returns the squared error in the shape that is asked for."""

    def __init__(self, returned: str) -> None:
        super().__init__()
        self.returned = returned

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        values = (input - target).square()
        shapes = {"(B, D)": values, "(B,)": values.mean(1), "(B, 1)": values.mean(1, keepdim=True), "()": values.mean()}
        return shapes[self.returned]


def doubled(name: str, loss: str) -> tuple[Task, Tensor, Tensor]:
    """A task, scores and targets in double precision."""
    task, scores, y = prepared(name, loss=loss)
    return task.double(), scores.detach().double(), y.double() if y.is_floating_point() else y


def other(name: str) -> tuple[Loss, Task, Tensor, Tensor]:
    """A loss of `OTHERS`, with a task that it fits."""
    loss = OTHERS[name]
    fitting = next(t for t, task in TASKS.items() if loss.input in task["inputs"] and loss.target in task["targets"])
    return loss, *doubled(fitting, "mse")


@pytest.mark.parametrize(("task_name", "loss_name"), ROWS)
def test_the_mean_over_rows_is_the_loss_with_its_gradient(task_name: str, loss_name: str) -> None:
    check_mean(loss_named(loss_name), *doubled(task_name, loss_name))


@pytest.mark.parametrize("name", OTHERS)
def test_the_mean_over_rows_is_the_loss_with_weights_smoothing_and_sums(name: str) -> None:
    check_mean(*other(name))


def check_mean(loss: Loss | Sum, task: Task, scores: Tensor, y: Tensor) -> None:
    one, many = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    expected, rows = loss.compute(task, one, y), loss.rows(task, many, y)
    assert rows.shape == (len(y),)
    assert rows.dtype == torch.float64
    exactly(rows.mean(), expected)
    torch.autograd.backward([expected, rows.mean()])
    assert one.grad is not None
    assert one.grad.any()
    torch.testing.assert_close(many.grad, one.grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("task_name", "loss_name"), ROWS)
def test_no_row_looks_at_another(task_name: str, loss_name: str) -> None:
    check_parts(loss_named(loss_name), *doubled(task_name, loss_name))


@pytest.mark.parametrize("name", [name for name in OTHERS if "CrossEntropy" not in name and "NLL" not in name])
def test_no_row_looks_at_another_with_weights_smoothing_and_sums(name: str) -> None:
    check_parts(*other(name))


def check_parts(loss: Loss, task: Task, scores: Tensor, y: Tensor) -> None:
    whole = loss.rows(task, scores, y)
    exactly(torch.cat([loss.rows(task, scores[:1], y[:1]), loss.rows(task, scores[1:], y[1:])]), whole)
    assert whole.std() > 0, "the rows differ"


@pytest.mark.parametrize(("task_name", "loss_name"), BATCH)
def test_a_property_of_the_batch_is_no_mean_over_its_rows_and_has_none(task_name: str, loss_name: str) -> None:
    task, scores, y = doubled(task_name, loss_name)
    loss = loss_named(loss_name)
    each = torch.stack([loss.compute(task, scores[[row]], y[[row]]) for row in range(len(y))])
    one_class = task_name == "single_label" and loss_name in ("dice", "tversky")  # the sums of each row are 1 there
    assert one_class or abs(each.mean() - loss.compute(task, scores, y)) > 1e-4
    with pytest.raises(ValueError, match="is a property of the whole batch and has no value for a row"):
        loss.rows(task, scores, y)
    with pytest.raises(ValueError, match="has no value for a row"):
        Sum({loss_name: loss, "mae": loss_named("mae")}, {}).rows(task, scores, y)


@pytest.mark.parametrize(("task_name", "loss_name"), ROWS)
def test_the_rows_of_runs_that_are_trained_as_one_are_those_of_each(task_name: str, loss_name: str) -> None:
    runs = Runs(task_name, loss_name)
    runs.run = partial(loss_named(loss_name).rows, runs.task)
    every = runs.together(runs.scores)
    assert every.shape == (3, 16)
    exactly(every, torch.stack([runs.alone(run, runs.scores[run]) for run in range(3)]))


@pytest.mark.parametrize("loss", [Loss(nn.CrossEntropyLoss(WEIGHT), "logits", "index"), loss_named("nll")])
def test_weighted_rows_hold_under_vmap_too(loss: Loss) -> None:
    task, scores, y = doubled("single_label", "cross_entropy")
    parts = scores.reshape(4, 4, 3), y.reshape(4, 4)
    every = torch.func.vmap(partial(loss.rows, task))(*parts)
    exactly(every, torch.stack([loss.rows(task, *part) for part in zip(*parts, strict=True)]))


@pytest.mark.parametrize(("task_name", "loss_name"), ROWS)
def test_rows_of_half_precision_scores_are_computed_in_single(task_name: str, loss_name: str) -> None:
    task, scores, y = prepared(task_name, loss=loss_name)
    half = scores.detach().bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        rows = loss_named(loss_name).rows(task, half, y)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, loss_named(loss_name).rows(task, half.float(), y), rtol=0.02, atol=1e-3)


def test_a_weighted_sum_has_the_rows_of_its_parts() -> None:
    task, scores, y = doubled("multi_label", "bce")
    both = Sum({name: loss_named(name) for name in ("bce", "mae")}, {"mae": 0.5})
    check_mean(both, task, scores, y)
    exactly(both.rows(task, scores, y)[:3], both.rows(task, scores[:3], y[:3]))


# rows with weights


def check_repeated(loss: Loss | Sum, task: Task, scores: Tensor, y: Tensor) -> None:
    """Weights with a mean of 1 cost what their rows cost as often, and have its gradient."""
    times = torch.arange(len(y)) % 4
    weight = times / times.double().mean()
    one, many = scores.clone().requires_grad_(), scores.clone().requires_grad_()
    ours = loss.compute(task, one, y, weight)
    theirs = loss.compute(task, many.repeat_interleave(times, 0), y.repeat_interleave(times, 0))
    exactly(ours, theirs)
    torch.autograd.backward([ours, theirs])
    torch.testing.assert_close(one.grad, many.grad, rtol=1e-9, atol=1e-12)
    exactly(loss.compute(task, scores, y, torch.ones_like(weight)), loss.compute(task, scores, y))
    nothing = loss.compute(task, scores, y, torch.zeros_like(weight))
    assert float(nothing) == 0, "a batch whose rows all have the weight 0"


@pytest.mark.parametrize(("task_name", "loss_name"), ROWS)
def test_a_weight_is_so_many_equal_rows_for_each_loss(task_name: str, loss_name: str) -> None:
    check_repeated(loss_named(loss_name), *doubled(task_name, loss_name))


@pytest.mark.parametrize("name", OTHERS)
def test_a_weight_is_so_many_equal_rows_with_class_weights_smoothing_and_sums(name: str) -> None:
    check_repeated(*other(name))


def test_a_weight_is_so_many_equal_rows_for_a_weighted_sum_of_losses() -> None:
    both = Sum({name: loss_named(name) for name in ("bce", "mae")}, {"mae": 0.5})
    check_repeated(both, *doubled("multi_label", "bce"))


def test_small_batches_have_on_average_the_gradient_of_all_rows() -> None:
    task, scores, y = doubled("regression", "mse")
    weight = torch.arange(len(y)).double()
    weight /= weight.mean()
    loss = loss_named("mse")
    parts = [loss.compute(task, *(each[rows : rows + 4] for each in (scores, y, weight))) for rows in range(0, 16, 4)]
    exactly(torch.stack(parts).mean(), loss.compute(task, scores, y, weight))


@pytest.mark.parametrize("returned", ["(B, D)", "(B,)", "(B, 1)"])
def test_a_loss_of_ones_own_may_return_values_whose_mean_is_taken(returned: str) -> None:
    task, scores, y = doubled("regression", "mse")
    mine = Loss(Mine(returned), "prediction", "dense")
    exactly(mine.compute(task, scores, y), loss_named("mse").compute(task, scores, y))
    exactly(mine.rows(task, scores, y), loss_named("mse").rows(task, scores, y))


def test_a_loss_of_ones_own_that_returns_one_number_has_no_rows_unless_it_is_asked_to() -> None:
    task, scores, y = doubled("regression", "mse")
    mine = Loss(Mine("()"), "prediction", "dense")
    exactly(mine.compute(task, scores, y), loss_named("mse").compute(task, scores, y))
    with pytest.raises(ValueError, match=r"Mine returned the shape \(\) for 16 rows: return a value for each row, or"):
        mine.rows(task, scores, y)


def test_rows_of_shapes_that_torch_would_broadcast_are_refused() -> None:
    task, scores, y = doubled("regression", "mse")
    with pytest.raises(ValueError, match="fits"):
        loss_named("mae").rows(task, scores[:, :1], y)


def test_rows_leave_the_loss_as_it_is() -> None:
    task, scores, y = doubled("regression", "mse")
    loss = loss_named("mse")
    loss.rows(task, scores, y)
    assert loss.compute(task, scores, y).shape == ()


def test_the_sum_over_outputs_of_a_loss_with_several_scores_per_target_is_that_of_its_outputs() -> None:
    function = loss_named("quantile").function
    input, target = torch.randn(5, 2, 3), torch.randn(5, 2)
    each = sum(float(function(input[:, [output]], target[:, [output]])) for output in range(2))
    assert float(Loss(function, "heads", "dense", reduction="sum")(input, target)) == pytest.approx(each, rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_a_run_reads_from_the_file_whether_a_loss_has_rows(typed: Typed, name: str) -> None:
    task_name = next(task for task, loss in FITTING if loss == name)
    cfg = typed(f"task={task_name}", f"loss={name}")
    task, _, y = prepared(task_name, loss=name)
    assert build_loss(cfg, task, dataset(y.numpy())).per == LOSSES[name].get("per", "row")


def test_it_is_no_part_of_a_runs_name_and_has_two_values(typed: Typed) -> None:
    names: list[Any] = [run_name(typed("loss=rmsle", *more)) for more in ((), ("loss.per=row",))]
    assert names[0] == names[1]
    with pytest.raises(ValueError, match=r"loss.per=rows does not fit: it must be row or batch"):
        typed("loss=rmsle", "loss.per=rows")
