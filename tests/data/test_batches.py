"""Batches: every row once, in an order that seed and epoch alone decide."""

from pathlib import Path

import numpy as np
import pytest
import torch

from losslab.build import build_loaders
from losslab.config.check import configure
from losslab.data.batches import Batches, Order, Pixels, at_once
from losslab.data.dataset import Dataset, split_rows
from losslab.data.pixels import Files
from losslab.problems import quadratic
from tests.data.pictures import pictures


def table(count: int = 53) -> Dataset:
    rows = split_rows(count, val=0.1, test=0.1, seed=0)
    return Dataset(np.arange(count, dtype=np.float32)[:, None], np.arange(count)[:, None] * 1.0, rows, (1,), ["y"])


def test_an_epoch_holds_every_training_row_once_with_its_own_target() -> None:
    data = table()
    batches = list(Batches(data, "train", 8, seed=3))
    assert [len(x) for x, _ in batches] == [8] * 5 + [len(data.split["train"]) - 40]
    assert sorted(torch.cat([x for x, _ in batches])[:, 0].tolist()) == data.split["train"].tolist()
    assert all(torch.equal(x.double(), y) for x, y in batches)


def test_without_reshuffling_each_epoch_has_the_batches_of_the_first() -> None:
    def batches(epoch: int, *reshuffle: bool) -> list[list[int]]:
        order = Order(10, 4, 3, 8, 1, 0, 1, *reshuffle)
        order.set_epoch(epoch)
        return [rows.tolist() for rows in order]

    assert batches(0) == batches(0, False) == batches(5, False)
    assert batches(5) == batches(5, True) != batches(0)
    for typed, expected in (([], True), (["data.reshuffle=false"], False)):
        cfg = configure(["data=quadratic", "model=point", "loss=sum_of_squares", *typed])
        assert build_loaders(cfg, quadratic(task="regression", seed=0)).train.sampler.reshuffle is expected


def test_the_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        rows = Order(30, 7, seed)
        rows.set_epoch(epoch)
        return torch.cat(list(rows)).tolist()

    assert order(0, 4) == order(0, 4)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4
    assert sorted(order(0, 1)) == list(range(30))


def test_batches_handed_out_together_are_the_same_batches() -> None:
    alone = list(Batches(table(), "train", 4, seed=1))
    together = list(Batches(table(), "train", 4, at_once=3, seed=1))
    assert len(together) == -(-len(alone) // 3)
    cut = [part for x, _ in together for part in torch.split(x, 4)]
    assert all(torch.equal(one, other) for (one, _), other in zip(alone, cut, strict=True))


def test_without_a_seed_rows_stay_as_they_stand() -> None:
    data = table()
    assert torch.cat([x for x, _ in Batches(data, "val", 2)])[:, 0].tolist() == data.split["val"].tolist()


@pytest.mark.parametrize("ahead", [2**29, 0])
def test_images_are_normalised_ahead_or_a_batch_at_a_time(ahead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losslab.data.batches.NORMALISED_AHEAD", ahead)
    x = np.random.default_rng(0).integers(0, 255, (50, 1, 4, 4)).astype(np.uint8)
    data = Dataset(x, np.arange(50) % 2, split_rows(50, val=0.1, test=0.1, seed=0), (1, 4, 4), ["a", "b"])
    seen = torch.cat([x for x, _ in Batches(data, "train", 16, seed=0)])
    assert seen.dtype == (torch.float32 if ahead else torch.uint8)
    seen = Pixels(data.scale)(seen)
    assert float(seen.mean()) == pytest.approx(0, abs=1e-5)
    assert float(seen.std(correction=0)) == pytest.approx(1, rel=1e-5)


def test_large_batches_and_counting_trainers_get_one_batch_at_a_time() -> None:
    data = table()
    assert at_once(data, 64, {}) == 32
    assert at_once(data, 2**22, {}) == 1
    assert at_once(data, 64, {"max_steps": 5}) == 1


def test_images_read_from_their_files_are_those_in_memory_also_from_the_midst_of_an_epoch(tmp_path: Path) -> None:
    names = pictures(tmp_path, 30)
    files = Files(tmp_path, [f"{name}.png" for name in names], (12, 8))
    rows = split_rows(30, val=0.2, test=0.2, seed=0)
    there = Dataset(files[:], np.arange(30) % 2, rows, (3, 12, 8), ["a", "b"])
    afar = Dataset(files, np.arange(30) % 2, rows, (3, 12, 8), ["a", "b"])
    inside = Batches(there, "train", 4, 2, seed=5, ahead=False)
    outside = Batches(afar, "train", 4, 2, seed=5, ahead=False, workers=2)
    for epoch, done in [(0, 0), (1, 1)]:
        for batches in (inside, outside):
            batches.sampler.set_epoch(epoch)
            batches.load_state_dict({"taken": done})
        pairs = list(zip(inside, outside, strict=True))
        assert len(pairs) == len(inside) - done
        assert all(torch.equal(x, other) and torch.equal(y, same) for (x, y), (other, same) in pairs)
    assert outside.state_dict() == {"taken": 0}, "the next epoch begins at its beginning"
