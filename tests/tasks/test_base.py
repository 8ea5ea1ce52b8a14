"""What holds for each task: its file, its views and forms, and many runs evaluated in one call."""

import pytest
import torch

from tests.losses.examples import TASKS, Runs, exactly, prepared


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
