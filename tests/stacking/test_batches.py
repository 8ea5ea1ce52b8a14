"""The batches of a stack: those that its runs have alone, also where a device holds the rows of all of them."""

import pytest
import torch

from losslab.config.make import make
from losslab.data.batches import Batches
from losslab.stacking.batches import StackedBatches
from tests.conftest import Typed


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("options", [("task=single_label",), ("data=diabetes",)])
def test_each_run_has_its_own_batches(typed: Typed, options: tuple[str, ...], seed: int | None) -> None:
    data = [make(typed(*options, f"seed={split}"), "data") for split in range(3)]

    def loaders() -> list[Batches]:
        seeds = [None if seed is None else seed + run for run in range(3)]
        return [Batches(rows, "train", 100, 2, own) for rows, own in zip(data, seeds, strict=True)]

    alone, stacked = loaders(), StackedBatches(loaders())
    for held in (False, True):
        if held:
            stacked.keep_on(torch.device("cpu"))
        assert bool(stacked.held) == held
        for epoch in range(2):
            stacked.set_epoch(epoch)
            for loader in alone:
                loader.sampler.set_epoch(epoch)
            wanted = [tuple(map(torch.stack, zip(*parts, strict=True))) for parts in zip(*alone, strict=True)]
            found = list(stacked)
            assert stacked.state_dict() == alone[0].state_dict()
            assert len(found) == len(wanted) > 1
            for mine, yours in zip(found, wanted, strict=True):
                assert all(map(torch.equal, mine, yours))


def test_rows_that_do_not_fit_stay_with_their_runs(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losslab.data.batches.KEPT", 1000)
    data = make(typed("data=diabetes"), "data")
    stacked = StackedBatches([Batches(data, "train", 100, 1, seed) for seed in range(2)])
    stacked.keep_on(torch.device("cpu"))
    assert not stacked.held
    assert next(iter(stacked))[0].shape == (2, 100, 10)
