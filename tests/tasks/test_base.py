"""What holds for each task: its file, its views and forms, and many runs evaluated in one call."""

from typing import ClassVar

import pytest
import torch
import yaml
from torch import Tensor

from losslab.config.catalogue import CONF
from losslab.tasks import Task
from tests.losses.examples import TASKS, Runs, dataset, exactly, loss_named, prepared


@pytest.mark.parametrize("what", ["metrics", "tune"])
@pytest.mark.parametrize(
    ("name", "loss"),
    [(name, "mse") for name in TASKS] + [("regression", loss) for loss in ("poisson", "quantile")],
)
def test_many_runs_are_judged_in_one_call_as_each_by_itself(name: str, loss: str, what: str) -> None:
    runs = Runs(name, loss)
    runs.run = getattr(runs.task, what)
    runs.scores = (4 * runs.scores).round() / 4  # ties
    if name == "multi_label":
        runs.y[1, :, 2] = 0
    elif name == "single_label":
        runs.y[1, runs.y[1] == 2] = 0
    every = runs.together(runs.scores)
    assert set(every) == (
        set(runs.task.better) if what == "metrics" else set(runs.task.tune(runs.scores[0], runs.y[0]))
    )
    for run in range(3):
        alone = runs.alone(run, runs.scores[run])
        assert list(every) == list(alone)
        for key, number in alone.items():
            assert number.isfinite().all()
            exactly(every[key][run], number)
    assert all(len(set(map(tuple, numbers.reshape(3, -1).tolist()))) == 3 for numbers in every.values())


@pytest.mark.parametrize("name", TASKS)
def test_a_run_whose_scores_are_no_numbers_leaves_the_others_alone(name: str) -> None:
    runs = Runs(name)
    lost = runs.scores.clone()
    lost[1] = torch.nan
    every, with_lost = runs.together(runs.scores), runs.together(lost)
    for key, numbers in every.items():
        assert torch.equal(numbers[::2], with_lost[key][::2])
    error = {"regression": "rmse", "single_label": "ece", "multi_label": "ece"}[name]
    assert with_lost[error].isnan().tolist() == [False, True, False]
    assert runs.task.metrics(lost[1], runs.y[1])[error].isnan()


@pytest.mark.parametrize("name", TASKS)
def test_the_yaml_names_a_yardstick_and_the_way_it_is_better(name: str) -> None:
    task, scores, y = prepared(name)
    assert task.better[task.yardstick] == task.mode
    listed = yaml.safe_load((CONF / "task" / f"{name}.yaml").read_text())["task"]["metrics"]
    assert listed == task.better
    assert set(task.metrics(scores.detach(), y)) == set(task.better)


@pytest.mark.parametrize("name", TASKS)
def test_every_view_and_form_in_the_yaml_is_a_different_tensor(name: str) -> None:
    task, scores, y = prepared(name)
    views = {view: task.view(scores.detach(), view) for view in task.inputs}
    heads = views.pop("heads", None)
    assert heads is None or heads.shape == (*scores.shape, 1)
    assert all(view.shape == scores.shape for view in views.values())
    assert len({tuple(view.flatten().tolist()) for view in views.values()}) == len(views)
    for form in task.targets:
        target = task.encode(y, form, task.inputs[0])
        assert (
            torch.equal(target, y) if form == "index" else target.is_floating_point() and target.shape == scores.shape
        )


class Bare(Task):
    """A task with no more than it needs."""

    better: ClassVar = {"error": "min"}

    def view(self, scores: Tensor, input: str) -> Tensor:
        return scores

    def encode(self, y: Tensor, target: str, input: str) -> Tensor:
        return y

    def metrics(self, scores: Tensor, y: Tensor) -> dict[str, Tensor]:  # type: ignore[override]  # knows no weights
        return {"error": (self.decide(scores) != y).float().mean()}


@pytest.mark.parametrize(
    ("truth", "y", "words", "marks"),
    [
        ("numbers", torch.tensor([[2.0, -1.0], [0.5, 3.0]]), ["2, -1", "0.5, 3"], None),
        ("class", torch.tensor([0, 1]), ["a", "b"], [[True, False], [False, True]]),
        ("labels", torch.tensor([[1, 0], [0, 1]]), ["{a}", "{b}"], [[True, False], [False, True]]),
    ],
)
def test_what_a_task_does_not_say_follows_from_its_truth(
    truth: str, y: Tensor, words: list[str], marks: list[list[bool]] | None
) -> None:
    task, loss = Bare("bare", truth, ["logits"], ["dense"], "error", "min"), loss_named("mse")
    scores = torch.tensor([[2.0, -1.0], [0.5, 3.0]])
    data = dataset(y.numpy())
    data.outputs = ["a", "b"]
    task.fit(data, loss)
    assert task.describe(data, y) == words == task.describe(data, task.decide(scores)[:2])
    found = task.mark(task.decide(scores), 2)
    assert marks == (None if found is None else found.tolist())
    assert {name: column.tolist() for name, column in task.columns(data, loss, scores).items()} == {
        "a": [2.0, 0.5],
        "b": [-1.0, 3.0],
    }
    assert [row["predicted"] for row in task.tables(data, scores)["samples"]] == words
    assert (task.pictures(data, scores), task.balance(data), task.tune(scores, y)) == ({}, {}, {})
    assert list(task.try_metrics(data, loss)) == ["error"]
    assert (task.perfect(loss, data) is None) == (truth == "numbers")
    assert len(task.sides(data)) == (1 if truth == "numbers" else 2)
    assert all(len(side) == 1 for side in task.sides(data).values())
    side, *_ = task.sides(data).values()
    assert task.trace(loss, side, 0, torch.linspace(*task.span(loss), 5))[0].shape == (1, 2)
