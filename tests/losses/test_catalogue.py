"""What the files of conf/loss say of a loss: its range, its other names, its weights and the domain of its targets."""

import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import DictConfig

from losslab.config.catalogue import CONF, aliases, squeeze
from losslab.data.class_weights import read_class_weights, to_paste
from losslab.data.dataset import Dataset
from losslab.data.make import check_losses
from losslab.errors import Refused
from losslab.losses import Loss
from losslab.tasks import SingleLabel, Task
from losslab.training.objective import build_loss
from tests.conftest import Typed
from tests.losses.examples import FITTING, LOSSES, TASKS, dataset, loss_named, prepared


@pytest.mark.parametrize("name", LOSSES)
def test_every_file_says_its_range_and_source_and_keeps_to_the_range(name: str) -> None:
    head = " ".join(line[2:] for line in (CONF / "loss" / f"{name}.yaml").read_text().splitlines() if line[0] == "#")
    found = re.search(r"Range: (\S+) to ([^.]+)\. Source: \S", head)
    assert found, head
    bottom, top = float(found[1]), float(eval(found[2], {"q": 0.7, "inf": np.inf}))
    task_name = next(task for task, loss in FITTING if loss == name)
    task, scores, y = prepared(task_name, loss=name)
    for scale in (0.0, 0.1, 1.0, 10.0):
        assert bottom - 1e-6 <= float(loss_named(name).compute(task, scores.detach() * scale, y)) <= top + 1e-6


@pytest.mark.parametrize(
    ("typed_now", "weights"),
    [
        ("task=single_label loss.weight=balanced", [1 / 1.5, 1 / 0.9, 1 / 0.6]),
        ("task=single_label loss=nll loss.weight=[1,2,3]", [1, 2, 3]),
        ("task=single_label loss=focal loss.weight=balanced", [1 / 1.5, 1 / 0.9, 1 / 0.6]),
        ("task=single_label loss=bce loss.pos_weight=balanced", [1.0, 7 / 3, 4.0]),
        ("task=single_label loss=bce loss.pos_weight=[1,1,5]", [1, 1, 5]),
        ("task=single_label loss.weight={c:3.5,a:1,b:2}", [1, 2, 3.5]),
        ("task=single_label loss=bce loss.pos_weight={b:2,'a':1e-3,c:5}", [0.001, 2, 5]),
    ],
)
def test_weights_come_from_the_training_rows_or_from_a_list(typed: Typed, typed_now: str, weights: list[float]) -> None:
    y = np.repeat([0, 1, 2, 2], [5, 3, 2, 7])
    rows = {"train": np.arange(10), "val": np.arange(10, 14), "test": np.arange(14, 17)}  # only the first ten count
    data = Dataset(np.zeros((17, 1), np.float32), y, rows, (1,), list("abc"))
    cfg = typed(*typed_now.split())
    loss = build_loss(cfg, SingleLabel(**{k: v for k, v in TASKS["single_label"].items() if k != "_target_"}), data)
    assert isinstance(loss, Loss)
    key = "pos_weight" if "pos_weight" in typed_now else "weight"
    assert getattr(loss.function, key).tolist() == pytest.approx(weights)


def test_weights_by_name_stand_in_a_file_as_well_and_what_is_shown_can_be_typed(typed: Typed, tmp_path: Path) -> None:
    names = ["a: b", "it's", 'say "x"', "ja, nein", "größe (m)", "yes"]
    weights = {name: 0.5 + number for number, name in enumerate(names)}
    (word,) = shlex.split(to_paste("loss.weight", weights))
    cfg = typed("task=single_label", word)
    assert read_class_weights(cfg.loss.weight, names, "loss.weight", "csv") == [*weights.values()]
    (tmp_path / "experiment").mkdir()
    content = yaml.safe_dump({"loss": {"weight": weights}})
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}", encoding="utf-8")
    cfg = typed(f"hydra.searchpath=['{tmp_path}']", "task=single_label", "experiment=mine")
    assert read_class_weights(cfg.loss.weight, names, "loss.weight", "csv") == [*weights.values()]


def fit_loss(cfg: DictConfig, task: Task, data: Dataset) -> None:
    """Check a loss against data as a run does."""
    check_losses(cfg, data)
    build_loss(cfg, task, data)


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
        ("task=single_label loss.weight={a:1,b:2}", [0, 1, 2], r"lacks c: type 'loss.weight=\{a: 1, b: 2, c: 1\}'"),
        (
            "task=single_label loss.weight={a:1,b:2,c:3,d:4}",
            [0, 1, 2],
            "names d, which data=digits does not have",
        ),
        (
            "task=single_label loss.weight={a:1,b:2,C:5}",
            [0, 1, 2],
            r"names C, .*: type 'loss.weight=\{a: 1, b: 2, c: 5\}'",
        ),
        ("task=single_label loss.weight={a:1,b:x,c:3}", [0, 1, 2], "loss.weight of b is x, which is no number above 0"),
        ("task=single_label loss.weight={a:1,b:-2,c:3}", [0, 1, 2], "loss.weight of b is -2.0, which is no number"),
        (
            "task=multi_label loss=[bce,mae] loss.parts.bce.pos_weight={a:1,c:2}",
            [[0, 1, 1]] * 3,
            r"lacks b: type 'loss.parts.bce.pos_weight=\{a: 1, b: 1, c: 2\}'",
        ),
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
        fit_loss(cfg, task, data)


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
    called = [option for option, file in LOSSES.items() if squeeze(name) in aliases(file)]
    assert name in LOSSES or len(called) == 1, called


def test_a_class_of_torchs_is_answered_by_the_file_that_makes_more_of_it() -> None:
    assert [option for option, file in LOSSES.items() if "bcewithlogitsloss" in aliases(file)] == ["bce"]


def test_no_other_name_stands_for_two_losses_or_for_another_files_own_name() -> None:
    others = [other for file in LOSSES.values() for other in file.get("also", [])]
    assert len(set(others)) == len(others)
    assert not set(others) & set(LOSSES)


@pytest.mark.parametrize(("domain", "outside"), [("< 1", 2), ("> 0 and <= 3", 1), ("!= 2", 1)])
def test_a_loss_of_ones_own_may_have_any_bounds_as_its_domain(typed: Typed, domain: str, outside: int) -> None:
    cfg = typed("loss=mse", f"+loss.domain='{domain}'")
    data = dataset(np.array([[0.0], [2.0], [3.0]], np.float32))
    with pytest.raises(Refused, match=f"loss=mse is for targets {domain}, which {outside} of the 3 targets"):
        check_losses(cfg, data)


def test_a_domain_that_cannot_be_read_is_refused(typed: Typed) -> None:
    cfg = typed("loss=mse", "+loss.domain=positive")
    with pytest.raises(Refused, match=r"domain: positive cannot be read: write bounds such as domain: \">= 0\""):
        check_losses(cfg, dataset(np.ones((3, 1), np.float32)))
