"""Killed at any moment, pre-empted or out of disk: the run goes on as if nothing had happened, or says what to do."""

import json
import os
import random
import resource
import shutil
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback

from losslab.config.check import configure
from losslab.errors import Refused
from losslab.train import train
from losslab.training import preemption
from losslab.training.checkpoints import relocate
from tests.conftest import ROOT, numbers, until, without_pictures
from tests.processes import Fork

sys.path.append(str(ROOT / "benchmarks"))

import endurance

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


def begin(typed: Sequence[str], out: Path, *callbacks: Callback) -> Fork:
    """The run in a process of its own."""

    def begun() -> None:
        with without_pictures():
            train(configure([*typed, f"output_dir={out}"]), *callbacks)

    return Fork(begun, out)


def compute(process: Fork, most: float = float("inf")) -> float:
    """Wait until a process has ended, or has used so much CPU time; return how much. Other processes slow it down."""
    seconds = 0.0
    while process.poll(0.005) is None and seconds < most:
        with suppress(psutil.NoSuchProcess):
            times = psutil.Process(process.pid).cpu_times()
            seconds = times.user + times.system
    return seconds


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


def test_a_run_whose_folder_has_moved_knows_its_best_epoch(tmp_path: Path) -> None:
    before, after = (
        pl.callbacks.ModelCheckpoint(tmp_path / name, filename="best", monitor="val/rmse") for name in "ab"
    )
    best = str(tmp_path / "a" / "best.ckpt")
    before.best_model_path = before.kth_best_model_path = best
    before.best_model_score = before.kth_value = torch.tensor(0.5)
    before.best_k_models = {best: torch.tensor(0.5)}
    saved = {"callbacks": {"best": before.state_dict()}}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "best.ckpt").touch()
    relocate(saved, tmp_path / "b")
    after.load_state_dict(saved["callbacks"]["best"])  # which would warn, and forget, if the folder were another
    assert after.best_model_score == 0.5
    assert after.best_k_models == {str(tmp_path / "b" / "best.ckpt"): torch.tensor(0.5)}
    assert after.best_model_path == after.kth_best_model_path == str(tmp_path / "b" / "best.ckpt")


@pytest.mark.system
def test_runs_that_are_killed_at_random_moments_end_as_if_they_had_not_been(tmp_path: Path) -> None:
    whole, killed, chance = tmp_path / "whole", tmp_path / "killed", random.Random(0)
    takes, kills, middle = compute(begin(BUSY, whole)), 0, 0
    while kills < KILLS:
        process = begin(BUSY, killed)
        compute(process, chance.uniform(0.2, 0.9) * takes)
        process.kill()
        process.wait()
        statuses = [json.loads(file.read_text())["status"] for file in killed.glob("*/status.json")]
        if statuses == ["finished"]:  # though its process may have been killed as it ended
            assert same(whole, killed)
            shutil.rmtree(killed)
            continue
        kills += 1
        if last := next(killed.glob("*/last.ckpt"), None):
            loops = torch.load(last, weights_only=True)["loops"]["fit_loop"]["state_dict"]
            middle += loops["combined_loader"][0]["taken"] > 0
    begin(BUSY, killed).wait()
    assert same(whole, killed)
    assert middle >= KILLS // 4, "they were hardly ever killed in the midst of an epoch"


@pytest.mark.system
@pytest.mark.parametrize("how", ["alone", "stacked"])
@pytest.mark.parametrize("task", endurance.TASKS)
def test_runs_of_each_task_that_are_killed_end_bit_for_bit_as_if_they_had_not_been(
    tmp_path: Path, undrawn: None, task: str, how: str
) -> None:
    """The short form of `benchmarks/faults.py resume`."""
    kills, ends, others = endurance.killed(endurance.runs_of(task)[how], tmp_path, random.Random(1), 1)
    assert (kills, others) == (1, 0)
    assert ends


@pytest.mark.system
def test_runs_leave_no_file_open_and_no_thread_behind(tmp_path: Path) -> None:
    """The short form of `benchmarks/faults.py flat`, which looks at the memory, too."""

    def flat() -> None:
        with without_pictures():
            endurance.flat(tmp_path, random.Random(), 20)

    process = Fork(flat, tmp_path)
    assert process.wait() == 0, process.said()


@pytest.mark.system
@pytest.mark.parametrize("by", [signal.SIGTERM, signal.SIGUSR1])
def test_a_run_that_is_pre_empted_keeps_a_checkpoint_at_once_and_goes_on(tmp_path: Path, by: signal.Signals) -> None:
    class Awaits(Callback):
        """In the midst of the second epoch it waits for the signal, which could come too late where much goes on."""

        def on_train_batch_start(
            self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, number: int
        ) -> None:
            if (trainer.current_epoch, number) == (1, 3):
                (tmp_path / "there").touch()
                until(lambda: preemption.notice.by)

    rare = [*BUSY, "callbacks.last.within=1000", "callbacks.last.seconds=1000"]
    begin(rare, tmp_path / "whole").wait()
    process = begin(rare, tmp_path / "stopped", Awaits())
    until((tmp_path / "there").exists)
    process.send_signal(by)
    _, err = process.communicate()
    assert process.returncode == 128 + by
    (file,) = (tmp_path / "stopped").glob("*/status.json")
    assert (json.loads(file.read_text())["status"], json.loads(file.read_text())["reason"]) == ("preempted", by.name)
    assert f"stopped by {by.name}; a checkpoint is kept: the same command goes on" in err.replace("\n", " ")
    begin(rare, tmp_path / "stopped").wait()
    assert same(tmp_path / "whole", tmp_path / "stopped")


@pytest.mark.system
def test_a_full_disk_is_told_in_a_sentence_and_the_last_good_checkpoint_is_kept(tmp_path: Path) -> None:
    class Full(Callback):
        """No file may grow beyond a few bytes from the second epoch on, as on a disk that is full."""

        def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
            if trainer.current_epoch == 1:
                resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

    def run() -> None:
        cfg = configure([*BUSY, f"output_dir={tmp_path / 'full'}"])
        try:
            train(cfg, Full())
        except Refused as error:
            (tmp_path / "sentence").write_text(str(error))

    Fork(run, tmp_path).wait()
    said = (tmp_path / "sentence").read_text()
    assert "last.ckpt could not be written (" in said
    assert "the last good one is kept: free some space there, or type output_dir=FOLDER on another disk" in said
    (last,) = (tmp_path / "full").glob("*/last.ckpt")
    assert torch.load(last, weights_only=True)["epoch"] == 0
    assert {file.name for file in last.parent.iterdir()} == {
        *(".lock", "best.ckpt", "last.ckpt", "config.yaml", "history.csv", "status.json")
    }
    begin([*BUSY, f"ckpt={last}"], tmp_path / "full").wait()
    begin(BUSY, tmp_path / "whole").wait()
    assert same(tmp_path / "whole", tmp_path / "full")
