"""Runs on rows with weights: they are runs on a table in which each row stands as often as its weight says."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from losslab.data.dataset import Dataset
from losslab.errors import Refused
from losslab.record.row_scores import read_blocks, read_row_scores
from losslab.tasks import SingleLabel
from losslab.train import train
from losslab.training.objective import check_takes_weights
from tests.conftest import Typed, numbers
from tests.losses.examples import TASKS, dataset
from tests.training.weighted import SETTINGS, TARGETS, others, write_tables


@pytest.mark.parametrize(
    ("task", "more"),
    [
        ("regression", ("loss=poisson",)),
        ("single_label", ("loss.weight=balanced", "optimizer.lr=0.3")),
        ("multi_label", ("loss=[bce,0.5*asymmetric]", "optimizer.lr=0.3")),
    ],
)
def test_a_weight_is_so_many_equal_rows(
    typed: Typed, tmp_path: Path, undrawn: None, task: str, more: tuple[str, ...]
) -> None:
    paths = write_tables(tmp_path)
    settings = (*SETTINGS, f"task={task}", f"data.target={TARGETS[task]}", "data.batch_size=all", *more)
    found = []
    for path, own in zip(paths, (("data.weight=n", others(task)), (f"{others(task)[:-1]},n]",)), strict=True):
        found.append(train(typed(*settings, "trainer.max_epochs=3", f"data.path={path}", *own)))
    weights = [torch.load(each.folder / "best.ckpt", weights_only=True)["state_dict"] for each in found]
    for name, values in weights[0].items():
        torch.testing.assert_close(values, weights[1][name], rtol=1e-5, atol=1e-6, msg=name)
    ours, theirs = (numbers(each) for each in found)
    assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-6)
    check_record(found[0].folder, paths[0], ours, task)


def check_record(folder: Path, path: str, summary: dict[str, float], task: str) -> None:
    """The recorded rows have their weights, and the metrics without a block of rows are weighted as well."""
    known, rows, blocks = pd.read_csv(path), read_row_scores(folder)["test"], read_blocks(folder)
    assert rows.weight is not None
    assert blocks is not None
    n = known["n"].to_numpy()
    np.testing.assert_allclose(rows.weight, n[rows.row] / n[known["part"] == "train"].mean(), rtol=1e-6)
    assert dict(zip(blocks.metrics, blocks.values, strict=True)) == pytest.approx(
        {name: summary[f"test/{name}"] for name in blocks.metrics}, rel=1e-5
    )
    if task == "single_label":
        with np.load(folder / "rows.npz") as file:
            block = file["test.block"]
        right = rows.scores.argmax(1) == rows.target
        expected = np.average(right[block != 7], weights=rows.weight[block != 7])
        assert blocks.without[7, blocks.metrics.index("accuracy")] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("words", [("loss=dice",), ("loss=[bce,tversky]",)])
def test_a_loss_of_the_whole_batch_refuses_weights_and_lists_those_that_fit(
    typed: Typed, tmp_path: Path, words: tuple[str, ...]
) -> None:
    path = write_tables(tmp_path)[0]
    cfg = typed(*SETTINGS, "task=multi_label", f"data.path={path}", "data.target=tags", "data.weight=n", *words)
    with pytest.raises(
        Refused, match=r"a property of the whole batch.* data.weight=null, or loss= one of .*bce, .*mse"
    ):
        train(cfg)
    assert not list(tmp_path.glob("outputs/*"))


class Plain(SingleLabel):
    """A task of one's own that knows no weights."""

    def metrics(self, scores: torch.Tensor, y: torch.Tensor) -> Any:  # type: ignore[override]
        return super().metrics(scores, y)


def test_a_task_of_ones_own_that_knows_no_weights_refuses_them(typed: Typed) -> None:
    task = Plain(**{key: value for key, value in TASKS["single_label"].items() if key != "_target_"})
    with pytest.raises(
        Refused, match=r"task=single_label knows no data.weight: write metrics\(self, scores, y, weight"
    ):
        check_takes_weights(typed("task=single_label"), task)


def test_priors_count_weights() -> None:
    data: Dataset = dataset(np.array([0, 1, 1, 2]))
    weighted = Dataset(data.x, data.y, data.split, data.shape, data.outputs, weight=np.array([6.0, 1.0, 2.0, 1.0]))
    assert weighted.priors() == pytest.approx([0.6, 0.3, 0.1])
