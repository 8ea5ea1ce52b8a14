"""What a run leaves of its rows: read by numpy, and checked against scikit-learn and scipy; and damaged files."""

import io
import json
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics as sklearn_metrics
from torch import Tensor

from losslab.files import Unreadable
from losslab.record import row_scores
from losslab.record.blocks import assign_blocks, digest_rows, pseudo_values
from losslab.record.row_scores import RowScores, read_blocks, read_row_scores, write_row_scores
from losslab.record.rows import read_history
from losslab.tasks import Task
from losslab.train import train
from losslab.training.jackknife import leave_out_blocks, record_rows
from tests.conftest import Typed, folder_of
from tests.losses.examples import dataset, prepared

Array = np.ndarray[Any, Any]
MEANS: dict[str, Callable[[Array, Array], Array]] = {  # of probabilities or values and targets, a number for each row
    "mae": lambda values, y: abs(values - y).mean(1),
    "mse": lambda values, y: ((values - y) ** 2).mean(1),
    "accuracy": lambda p, y: p.argmax(1) == y,
    "log_loss": lambda p, y: -np.log(p[np.arange(len(y)), y]),
}


def evaluated(name: str, rows: int) -> tuple[Task, Tensor, Tensor, Array]:
    """A task, scores in double precision, targets, and row numbers in no order."""
    task, scores, y = prepared(name, rows=rows)
    numbers = np.random.default_rng(rows).permutation(3 * rows)[:rows]
    return task.double(), scores.detach().double(), y, numbers


@pytest.mark.parametrize("rows", [2, 3, 50, 99, 359])
@pytest.mark.parametrize("name", ["regression", "single_label"])
def test_pseudo_values_of_a_mean_over_rows_are_the_means_of_the_blocks(name: str, rows: int) -> None:
    task, scores, y, numbers = evaluated(name, rows)
    blocks = leave_out_blocks(task, scores, y, numbers)
    assert blocks is not None
    block, estimate = assign_blocks(numbers), task.estimate(scores).numpy()
    for metric in MEANS.keys() & set(blocks.metrics):
        each = MEANS[metric](estimate, y.numpy())
        means = [each[block == number].mean() for number in range(block.max() + 1)]
        np.testing.assert_allclose(pseudo_values(blocks, metric), means, rtol=1e-10, atol=1e-10)
        assert blocks.values[blocks.metrics.index(metric)] == pytest.approx(each.mean(), rel=1e-12)


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize("name", ["regression", "single_label", "multi_label"])
def test_a_metric_without_a_block_is_scikit_learns_of_the_other_rows(
    name: str, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, scores, y, numbers = evaluated(name, 120)
    monkeypatch.setattr("losslab.training.jackknife.CHUNK_BYTES", 2**20 if at_once else 0)
    blocks = leave_out_blocks(task, scores, y, numbers)
    assert blocks is not None
    references: dict[str, tuple[str, Callable[[Any, Any], float]]] = {
        "regression": ("r2", lambda s, y: sklearn_metrics.r2_score(y, task.estimate(torch.tensor(s)))),
        "single_label": ("f1", lambda s, y: sklearn_metrics.f1_score(y, s.argmax(1), average="macro")),
        "multi_label": ("average_precision", lambda s, y: sklearn_metrics.average_precision_score(y, s)),
    }
    metric, known = references[name]
    block = assign_blocks(numbers)
    expected = [known(scores[block != number].numpy(), y[block != number].numpy()) for number in range(40)]
    np.testing.assert_allclose(blocks.without[:, blocks.metrics.index(metric)], expected, rtol=1e-6)
    assert np.isfinite(blocks.without).all()


def test_a_task_of_ones_own_may_read_values_and_fail_without_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    task, scores, y, numbers = evaluated("single_label", 6)
    y = torch.tensor([0, 0, 0, 0, 0, 1])

    def metrics(scores: Tensor, y: Tensor) -> dict[str, Tensor]:
        if len(set(y.tolist())) < 2:
            raise ValueError("only one class is left")
        return {"auc": torch.tensor(sklearn_metrics.roc_auc_score(y, scores[:, 0])), "rows": torch.tensor(len(y))}

    monkeypatch.setattr(task, "metrics", metrics)
    blocks = leave_out_blocks(task, scores, y, numbers)
    assert blocks is not None
    alone = np.flatnonzero(np.isnan(blocks.without[:, 0]))
    assert alone.tolist() == assign_blocks(numbers)[5:].tolist(), "only the block of the one row of class 1"
    assert np.isnan(blocks.without[alone]).all()
    assert (np.delete(blocks.without, alone, 0)[:, 1] == 5).all()


@pytest.mark.parametrize("metric", ["rmse", "average_precision"])
def test_the_standard_error_of_the_jackknife_is_that_of_the_bootstrap(metric: str) -> None:
    task, scores, y, numbers = evaluated("regression" if metric == "rmse" else "multi_label", 500)
    blocks = leave_out_blocks(task, scores, y, numbers)
    assert blocks is not None
    error = pseudo_values(blocks, metric).std(ddof=1) / len(blocks.without) ** 0.5
    said, true = task.estimate(scores).numpy(), y.numpy()

    def statistic(index: Array) -> float:
        if metric == "rmse":
            return float(np.sqrt(((said[index] - true[index]) ** 2).mean()))
        return float(sklearn_metrics.average_precision_score(true[index], said[index]))

    rng = np.random.default_rng(0)
    drawn = stats.bootstrap(
        (np.arange(500),), statistic, vectorized=False, n_resamples=300, method="percentile", rng=rng
    )
    assert error == pytest.approx(drawn.standard_error, rel=0.15)


def test_blocks_follow_from_the_numbers_of_the_rows_alone() -> None:
    rng = np.random.default_rng(0)
    for count in [0, 1, 2, 49, 50, 51, 99, 100, 359, 2501, 5001]:
        rows = rng.choice(10 * count + 1, count, replace=False)
        block, order = assign_blocks(rows), rng.permutation(count)
        assert (assign_blocks(rows[order]) == block[order]).all()
        sizes = np.unique(block[block >= 0], return_counts=True)[1]
        assert len(set(sizes)) <= 1
        assert len(sizes) <= 50
        assert count < 2 or (len(sizes) >= min(count, 25) and (block < 0).sum() < max(1, min(sizes[0], len(sizes))))


def random_rows(count: int, columns: int, seed: int = 0, first: int = 0) -> RowScores:
    rng = np.random.default_rng(seed)
    return RowScores(np.arange(first, first + count), rng.integers(0, 9, count), rng.standard_normal((count, columns)))


def test_what_is_written_is_bounded_and_runs_keep_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_scores, "HALF_ABOVE", 20_000)
    monkeypatch.setattr(row_scores, "LARGEST", 40_000)

    def kept(rows: RowScores) -> RowScores:
        write_row_scores(tmp_path, {"test": rows}, {}, None)
        assert read_blocks(tmp_path) is None
        found = read_row_scores(tmp_path)["test"]
        assert sum(values.nbytes for values in vars(found).values() if values is not None) <= 40_000
        place = np.searchsorted(rows.row, found.row)
        np.testing.assert_allclose(found.scores, rows.scores[place], atol=4e-3 if found.scores.itemsize == 2 else 1e-6)
        assert (found.target == rows.target[place]).all()
        return found

    small, halved, cut = (kept(random_rows(count, 10)) for count in (500, 1000, 9000))
    assert [(len(each.row), str(each.scores.dtype)) for each in (small, halved, cut)] == [
        (500, "float32"), (1000, "float16"), (1379, "float16"),
    ]  # fmt: skip
    assert (kept(random_rows(9000, 10, seed=1)).row == cut.row).all()
    shifted = kept(random_rows(9000, 10, first=300))
    both = np.intersect1d(shifted.row, cut.row)
    assert len(both) > 0.95 * len(cut.row), "also in another split"
    large = random_rows(9000, 10)
    for factor in (1e6, 1e-7):  # which half precision cannot hold
        wide = RowScores(large.row, large.target, large.scores * factor)
        write_row_scores(tmp_path, {"test": wide}, {}, None)
        found = read_row_scores(tmp_path)["test"]
        assert found.scores.dtype == np.float32
        assert set(found.row) < set(cut.row)


def said_of(folder: Path, part: str) -> dict[str, float]:
    """Metrics of a part, computed from the file alone by numpy and scikit-learn, as its docstring says."""
    with np.load(folder / "rows.npz") as file:
        scores, y = file[f"{part}.scores"].astype(np.float64), file[f"{part}.target"]
        if "task.thresholds" in file:
            p = 1 / (1 + np.exp(-scores))
            tuned = sklearn_metrics.f1_score(y, p > file["task.thresholds"], average="macro", zero_division=0)
            return {"average_precision": sklearn_metrics.average_precision_score(y, p), "f1_tuned": tuned}
        if y.ndim == 1:
            return {"accuracy": (scores.argmax(1) == y).mean()}
        each = scores.reshape(*y.shape, -1)
        level = {1: each[..., 0], 2: each[..., 0], 3: each[..., 1]}[each.shape[2]]  # itself, the mean, or the median
        return {"rmse": np.sqrt(((level * file["task.std"] + file["task.mean"] - y) ** 2).mean())}


@pytest.mark.parametrize(
    "words",
    [
        ("data=diabetes", "loss=gaussian_nll", "callbacks=ema"),
        ("data=diabetes", "loss=quantile", "optimizer=schedule_free_adamw"),
        ("task=single_label", "trainer.precision=64-true", "optimizer.lr=0.05"),  # the second epoch is the best
        ("task=multi_label", "data=csv", "data.path=labels.csv", "data.target=[a,b]", "model=mlp"),
    ],
    ids=["gaussian_nll", "quantile", "single_label", "multi_label"],
)
def test_what_a_run_leaves_gives_its_metrics_again(
    typed: Typed, undrawn: None, words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = np.random.default_rng(0).standard_normal((120, 2))
    table = np.column_stack([x, x[:, 0] > 0.5, x.sum(1) > 0])
    np.savetxt(tmp_path / "labels.csv", table, "%.5g", delimiter=",", header="x,z,a,b", comments="")
    monkeypatch.chdir(tmp_path)
    cfg = typed(*words, "trainer.max_epochs=3")
    summary = train(cfg)
    folder = folder_of(cfg)
    facts = json.loads((folder / "status.json").read_text())["facts"]
    found, blocks = read_row_scores(folder), read_blocks(folder)
    assert blocks is not None
    best = read_history(folder / "history.csv")[int(summary["best_epoch"])]
    for name, value in said_of(folder, "val").items():
        assert value == pytest.approx(best[f"val/{name}"], rel=1e-5), "the weights are not those of the best epoch"
    for name, value in said_of(folder, "test").items():
        assert value == pytest.approx(summary[f"test/{name}"], rel=1e-5)
    assert {f"test/{name}": value for name, value in zip(blocks.metrics, blocks.values, strict=True)} == pytest.approx(
        {name: value for name, value in summary.items() if name.removeprefix("test/") in blocks.metrics}
    )
    assert {part: len(each.row) for part, each in found.items()} == {part: facts[f"{part}_rows"] for part in found}
    assert found.keys() == {"test", "val"}
    assert (digest_rows(found["test"].row), blocks.rows) == (facts["test_split"], facts["test_rows"])
    assert blocks.digest == facts["test_split"] != facts["train_split"]


def test_a_part_of_which_rows_were_left_out_is_not_kept(tmp_path: Path) -> None:
    task, scores, y = prepared("regression")
    record_rows(tmp_path, dataset(y.numpy()), task, {"test": scores.detach()[:-1], "val": scores.detach()})
    assert read_row_scores(tmp_path).keys() == {"val"}
    assert read_blocks(tmp_path) is None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A file as a run writes it."""
    folder = tmp_path_factory.mktemp("whole")
    task, scores, y, numbers = evaluated("single_label", 60)
    test = RowScores(numbers, y.numpy(), scores.numpy())
    write_row_scores(folder, {"test": test, "val": test}, {}, leave_out_blocks(task, scores, y, numbers))
    return (folder / "rows.npz").read_bytes()


def changed(whole: bytes, change: Callable[[dict[str, Any]], object], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """The same file, with other arrays."""
    with np.load(io.BytesIO(whole)) as file:
        arrays = dict(file)
    change(arrays)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, values in arrays.items():
            each = io.BytesIO()
            np.save(each, values) if isinstance(values, np.ndarray) else each.write(values)
            archive.writestr(f"{name}.npy", each.getvalue())
    return out.getvalue()


def promising(shape: str) -> bytes:
    """An array of one number that says it is of another shape."""
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda whole: b"",
    "truncated": lambda whole: whole[: len(whole) // 2],
    "text": lambda whole: b"losslab",
    "code": lambda whole: changed(whole, lambda file: file.update({each: np.array([{}]) for each in file})),
    "promise": lambda whole: changed(whole, lambda file: file.update(dict.fromkeys(file, promising("(2**40,)")))),
    "more": lambda whole: changed(whole, lambda file: file.update(dict.fromkeys(file, promising("(1099511627776,)")))),
    "negative": lambda whole: changed(whole, lambda file: file.update(dict.fromkeys(file, promising("(-1,)")))),
    "nested": lambda whole: changed(whole, lambda file: file.update(dict.fromkeys(file, promising("(" * 60)))),
    "bomb": lambda whole: changed(whole, lambda file: file.update(zeros=np.zeros(2**23 + 1))),
    "lzma": lambda whole: changed(whole, lambda file: None, zipfile.ZIP_LZMA),
    "short": lambda whole: changed(
        whole, lambda file: file.update({each: file[each][:-1] for each in ("test.row", "test.values")})
    ),
    "one_block": lambda whole: changed(
        whole, lambda file: file.update({"test.without": file["test.without"][:1], "val.row": np.zeros((60, 1))})
    ),
    "no_names": lambda whole: changed(whole, lambda file: [file.pop(name) for name in ("metrics", "val.row")]),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_file_is_named(tmp_path: Path, whole: bytes, name: str) -> None:
    (tmp_path / "rows.npz").write_bytes(DAMAGE[name](whole))
    for read in (read_row_scores, read_blocks):
        with pytest.raises(Unreadable, match=r"rows\.npz is not what a run writes \("):
            read(tmp_path)


def test_a_missing_or_endless_file_or_a_folder_is_named(tmp_path: Path) -> None:
    assert read_blocks(tmp_path) is None
    with pytest.raises(Unreadable, match=r"rows\.npz is missing"):
        read_row_scores(tmp_path)
    with (tmp_path / "rows.npz").open("wb") as file:
        file.truncate(2**40)
    for read in (read_row_scores, read_blocks):
        with pytest.raises(Unreadable, match="is larger than 64 MB"):
            read(tmp_path)
    (tmp_path / "rows.npz").unlink()
    (tmp_path / "rows.npz").mkdir()
    with pytest.raises(Unreadable, match=r"rows\.npz is no regular file"):
        read_blocks(tmp_path)


def test_whatever_bytes_are_changed_no_other_error_comes(tmp_path: Path, whole: bytes) -> None:
    rng, refused = random.Random(0), 0
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(rng.randint(1, 3)):
            broken[rng.randrange(len(broken))] = rng.randrange(256)
        (tmp_path / "rows.npz").write_bytes(broken)
        for read in (read_row_scores, read_blocks):
            try:
                read(tmp_path)
            except Unreadable:
                refused += 1
    assert refused > 50
