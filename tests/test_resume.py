"""Killed at any moment, pre-empted or out of disk: the run goes on as if nothing had happened, or says what to do."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from pytorch_lightning.callbacks import Callback

from losslab.door import configure
from losslab.tracking import Record
from losslab.train import train

from .conftest import Typed, numbers

KILLS = int(os.environ.get("LOSSLAB_KILLS", "6"))  # 20 takes a minute and more

# an epoch of forty training steps, with everything that draws random numbers or keeps a state
BUSY = (
    "task=single_label",
    "model.hidden=[16]",
    "model.dropout=0.3",
    "augment=flip",
    "optimizer=momentum",
    "scheduler=one_cycle",
    "callbacks=ema",
    "callbacks.last.within=0",
    "callbacks.last.seconds=0",
    "trainer.max_epochs=2",
    "+trainer.limit_train_batches=1.0",
    "logger=false",
    "trainer.enable_progress_bar=false",
)


def begin(typed: Sequence[str], out: Path) -> "multiprocessing.process.BaseProcess":
    """The run in a process of its own, which has imported everything already."""
    process = multiprocessing.get_context("fork").Process(target=begun, args=(list(typed), out))
    process.start()
    return process


def begun(typed: list[str], out: Path) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    torch.set_num_threads(1)
    Record.keep_pictures = lambda *_: None  # type: ignore[method-assign]  # others look at those
    train(configure([*typed, f"output_dir={out}"]))


def outcome(out: Path) -> tuple[dict[str, float], dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """The numbers and the weights of the one run in this folder."""
    (folder,) = [path.parent for path in out.glob("*/status.json")]
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"
    last, best = (torch.load(folder / f"{name}.ckpt", weights_only=True)["state_dict"] for name in ("last", "best"))
    return numbers(json.loads((folder / "summary.json").read_text())), last, best


def same(one: Path, other: Path) -> bool:
    (numbers_one, *weights_one), (numbers_other, *weights_other) = outcome(one), outcome(other)
    pairs = [(a[name], b[name]) for a, b in zip(weights_one, weights_other, strict=True) for name in a]
    return numbers_one == numbers_other and all(torch.equal(a, b) for a, b in pairs)


def test_runs_that_are_killed_at_random_moments_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    whole, killed, chance = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    began = time.monotonic()
    begin(BUSY, whole).join()
    takes, kills, middle = time.monotonic() - began, 0, 0
    while kills < KILLS:
        process = begin(BUSY, killed)
        process.join(chance.uniform(0.2, 0.9) * takes)
        process.kill()
        process.join()
        if process.exitcode == 0:
            assert same(whole, killed)
            shutil.rmtree(killed)
            continue
        kills += 1
        if last := next(killed.glob("*/last.ckpt"), None):
            loops = torch.load(last, weights_only=True)["loops"]["fit_loop"]["state_dict"]
            middle += loops["combined_loader"][0]["taken"] > 0
    begin(BUSY, killed).join()
    assert same(whole, killed)
    assert middle >= KILLS // 4, "they were hardly ever killed in the midst of an epoch"
