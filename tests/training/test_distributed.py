"""Two processes on the CPU stand for two GPUs: one run, the numbers of one process, and an end for all at once."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import yaml

from losslab.config.check import configure
from losslab.train import train
from tests.conftest import Command, numbers, same_rows, until
from tests.processes import PATIENCE, Fork
from tests.training.weighted import SETTINGS, others, write_tables

pytestmark = pytest.mark.system

QUIET = ("logger=false", "trainer.enable_progress_bar=false", "trainer.precision=64-true", "trainer.max_epochs=2")


def together(typed: tuple[str, ...], out: Path, *callbacks: pl.Callback, wait: bool = True) -> list[Fork]:
    """The run in two processes, as `torchrun` starts them, but that they have imported everything already."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    processes = [Fork(partial(one, typed, out, callbacks), out, environment(rank, port)) for rank in range(2)]
    for process in processes if wait else []:
        process.wait()
    return processes


def environment(rank: int, port: str) -> dict[str, str]:
    """What `torchrun` tells one of two processes."""
    numbered = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "GROUP_RANK": 0}
    told = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
    return {**os.environ, **{name: str(number) for name, number in numbered.items()}, **told}


def one(typed: tuple[str, ...], out: Path, callbacks: tuple[pl.Callback, ...]) -> None:
    train(configure([*typed, "trainer=ddp_cpu", f"output_dir={out}"]), *callbacks)


def summary(out: Path) -> dict[str, float]:
    """The numbers of the one run in this folder."""
    (file,) = out.glob("*/summary.json")
    return numbers(json.loads(file.read_text()))


@pytest.mark.parametrize(
    "typed",
    [
        ("data=diabetes", "data.batch_size=33", "trainer.gradient_clip_val=0.5", "callbacks=ema"),
        ("task=single_label", "loss=focal", "data.batch_size=7", "trainer.accumulate_grad_batches=3"),
        ("task=single_label", "data.batch_size=all", "optimizer=momentum"),
        (
            "task=multi_label",
            "loss=[bce,0.5*asymmetric]",
            "data.batch_size=500",
            "data.buckets=512",
            "model.dropout=0",
            "model.word_dropout=0",
        ),
        ("data=diabetes", "data.batch_size=103", "scheduler=plateau"),  # one row is left for the last batch
    ],
    ids=["clipped", "accumulated", "all", "multi_label", "one_row"],
)
def test_two_processes_have_the_numbers_of_one(tmp_path: Path, typed: tuple[str, ...]) -> None:
    together((*QUIET, *typed), tmp_path / "two")
    train(configure([*QUIET, *typed, "trainer=cpu", f"output_dir={tmp_path / 'one'}"]))
    ours, theirs = summary(tmp_path / "two"), summary(tmp_path / "one")
    assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9)
    last = [torch.load(next((tmp_path / name).glob("*/last.ckpt")), weights_only=True) for name in ("one", "two")]
    for name, weight in last[0]["state_dict"].items():
        torch.testing.assert_close(last[1]["state_dict"][name], weight, rtol=1e-9, atol=1e-9)
    assert last[0]["global_step"] == last[1]["global_step"]
    samples = [next((tmp_path / name).glob("*/pictures/samples.csv")).read_text() for name in ("one", "two")]
    assert samples[0] == samples[1], "the evaluated rows are in another order"
    same_rows(*(next((tmp_path / name).glob("*/")) for name in ("one", "two")))


def test_two_processes_gather_weights(tmp_path: Path) -> None:
    path = write_tables(tmp_path)[0]
    own = ("data.target=size", f"data.path={path}", "data.weight=n", others("regression"), "data.batch_size=17")
    words = (*SETTINGS, *QUIET, *own)
    together(words, tmp_path / "two")
    train(configure([*words, "trainer=cpu", f"output_dir={tmp_path / 'one'}"]))
    assert summary(tmp_path / "two") == pytest.approx(summary(tmp_path / "one"), rel=1e-9, abs=1e-9)


def test_torchrun_starts_one_run_with_one_folder_and_one_wandb_run(tmp_path: Path) -> None:
    typed = [*QUIET[1:], "data=diabetes", "trainer=ddp_cpu", "output_dir=out"]
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "losslab"]
    done = subprocess.run([*run, *typed], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test metrics of epoch") == 1
    assert len(list((tmp_path / "out" / "wandb").glob("offline-run-*"))) == 1
    train(configure([*QUIET, "data=diabetes", "trainer=cpu", f"output_dir={tmp_path / 'one'}"]))
    assert summary(tmp_path / "out") == pytest.approx(summary(tmp_path / "one"), rel=1e-9, abs=1e-9)


def test_a_sweep_of_runs_on_several_devices_is_not_started_again_by_its_processes(
    command: Command, tmp_path: Path
) -> None:
    short = [*QUIET, "data=diabetes", "output_dir=out", "trainer=ddp_cpu"]
    done = command("-m", "trainer.devices=2,1,2", *short)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("test metrics of epoch") == 3
    found = {}
    for file in (tmp_path / "out").glob("*/summary.json"):
        config = yaml.safe_load((file.parent / "config.yaml").read_text())
        found[file.parent.name] = (config["trainer.devices"], numbers(json.loads(file.read_text())))
    assert sorted(devices for devices, _ in found.values()) == [1, 2, 2], "folders of their own"
    (_, first), *others = found.values()
    assert all(other == pytest.approx(first, rel=1e-9, abs=1e-9) for _, other in others)


class Breaks(pl.Callback):
    """An error that only the second process meets."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.global_rank == 1:
            raise OSError("the disk of the second machine is gone")


def test_an_error_in_one_process_ends_all_with_its_message(tmp_path: Path) -> None:
    processes = together((*QUIET, "data=diabetes"), tmp_path, Breaks())
    assert [process.returncode for process in processes] == [1, 1]
    assert "OSError: the disk of the second machine is gone" in processes[1].said()[1]
    (file,) = tmp_path.glob("*/status.json")
    status = json.loads(file.read_text())
    assert status["status"] == "failed"
    assert status["reason"] == "process 1: OSError: the disk of the second machine is gone"


def test_a_loss_that_is_no_number_is_told_once(tmp_path: Path) -> None:
    processes = together((*QUIET, "data=diabetes", "optimizer=sgd", "optimizer.lr=1000"), tmp_path)
    assert [process.returncode for process in processes] == [1, 0]
    first, second = ("".join(process.said()) for process in processes)
    assert (
        len(re.findall(r"the loss became (inf|nan)", first)) == 1
    )  # a traceback shows the source of the sentence, too
    assert "the loss" not in second


def rows(out: Path) -> int:
    """How many epochs of the run in this folder are on record."""
    return sum(len(file.read_text().splitlines()) - 1 for file in out.glob("*/history.csv"))


def test_a_signal_to_one_process_or_to_all_ends_all_with_a_checkpoint(tmp_path: Path) -> None:
    typed = (*QUIET[:3], "data=diabetes", "trainer.max_epochs=30", "callbacks.last.seconds=1000")
    together(typed, tmp_path / "whole")
    for hit in ([1], [0, 1]):
        begun = rows(tmp_path / "stopped") + 3
        processes = together(typed, tmp_path / "stopped", wait=False)
        until(lambda: rows(tmp_path / "stopped") >= begun)  # noqa: B023
        for rank in hit:
            processes[rank].send_signal(signal.SIGTERM)
        for process in processes:
            process.wait()
        assert [process.returncode for process in processes] == [143, 0]
        (file,) = (tmp_path / "stopped").glob("*/status.json")
        assert json.loads(file.read_text())["status"] == "preempted"
    together(typed, tmp_path / "stopped")
    assert summary(tmp_path / "stopped") == pytest.approx(summary(tmp_path / "whole"), rel=1e-12)
