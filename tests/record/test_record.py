"""The record of a run: folders that never collide, files that are whole, and W&B as their mirror."""

import csv
import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from omegaconf import OmegaConf
from PIL import Image

from losslab.compare.wandb_runs import flatten_summary
from losslab.config.check import configure
from losslab.errors import Diverged, Refused
from losslab.files import write
from losslab.losses import Loss
from losslab.machine import environment
from losslab.record.folder import claim_folder, flat_config, run_id, run_name
from losslab.record.record import Record, claim
from losslab.tasks import Task
from losslab.train import train
from losslab.training import epochs
from tests.conftest import Typed, folder_of

SHORT = ("data=diabetes", "trainer.max_epochs=3")
ALONE: Any = SimpleNamespace(world_size=1, is_global_zero=True)  # a trainer of one process


def claim_in(output_dir: str) -> str:
    """Claim a folder for the same run in another process."""
    return str(claim_folder(configure([f"output_dir={output_dir}"]))[0])


def test_a_run_is_named_by_what_can_change_its_numbers(typed: Typed) -> None:
    name = run_name(typed("loss=mae"))
    assert name.startswith("diamonds-mlp-mae-adam-s0-")
    assert name == run_name(typed("loss=mae", "output_dir=elsewhere", "logger=csv"))
    assert name != run_name(typed("loss=mae", "optimizer.lr=0.002"))
    assert name != run_name(typed("loss=mae", "seed=1"))


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(8) as pool:
        folders = pool.map(claim_in, [str(tmp_path)] * 40)
    assert len(set(folders)) == 40
    assert all(Path(folder).is_dir() for folder in folders)


def test_an_output_folder_that_cannot_be_made_is_refused(typed: Typed, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cfg = typed()
    OmegaConf.set_readonly(cfg, False)
    cfg.output_dir = str(tmp_path / "file")
    with pytest.raises(Refused, match="cannot be written"):
        claim_folder(cfg)


def test_flat_keys_are_those_that_are_typed(typed: Typed) -> None:
    flat = flat_config(typed("loss=huber", "optimizer.lr=0.01"))
    assert (flat["loss"], flat["loss.delta"], flat["optimizer"], flat["optimizer.lr"]) == ("huber", 1.0, "adam", 0.01)
    assert not any(isinstance(value, dict) for value in flat.values())
    assert not any(key.startswith("run") for key in flat)


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    file = tmp_path / "status.json"
    write(file, "old")
    with file.open() as reader:
        write(file, "new and longer")
        assert reader.read() == "old"
    assert file.read_text() == "new and longer"
    assert list(tmp_path.iterdir()) == [file]


@pytest.fixture
def recorded(typed: Typed) -> tuple[Path, dict[str, Any]]:
    """A finished run's folder and summary."""
    cfg = typed(*SHORT, "loss=mae")
    summary = train(cfg)
    return folder_of(cfg), summary


def test_a_finished_run_leaves_its_whole_record(recorded: tuple[Path, dict[str, Any]]) -> None:
    folder, summary = recorded
    config = yaml.safe_load((folder / "config.yaml").read_text())
    assert (config["loss"], config["seed"], config["trainer.max_epochs"]) == ("mae", 0, 3)
    status = json.loads((folder / "status.json").read_text())
    assert (status["status"], status["reason"]) == ("finished", None)
    assert {"data=diabetes", "trainer.max_epochs=3", "loss=mae"} <= set(status["overrides"])
    assert status["environment"]["torch"] == torch.__version__
    facts = {"parameters": 68865, "train_rows": 310, "batches_per_epoch": 10, "updates": 30, "threads": 1}
    splits = {"train_split": 627143847, "test_split": 2538533645}  # the same everywhere, for ever
    assert status["facts"] == {**facts, "val_rows": 66, "test_rows": 66, **splits}
    with (folder / "history.csv").open(newline="") as lines:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]
    assert [(row["epoch"], row["step"]) for row in rows] == [(0, 10), (1, 20), (2, 30)]
    assert json.loads((folder / "summary.json").read_text()) == summary
    assert summary["val/rmse"] == rows[-1]["val/rmse"]
    assert summary["val/rmse_best"] == min(row["val/rmse"] for row in rows)
    assert summary["val/r2_best"] == max(row["val/r2"] for row in rows)
    assert rows[int(summary["best_epoch"])]["val/rmse"] == summary["val/rmse_best"]
    assert {"test/loss", "test/rmse", "test/mae", "test/r2", "lr", "gradient_norm", "examples_per_second"} <= set(
        summary
    )
    assert summary["peak_memory_mb"] > 100
    assert {file.name for file in (folder / "pictures").iterdir()} == {"predicted.png", "curves.png", "samples.csv"}
    for picture in folder.glob("pictures/*.png"):
        with Image.open(picture) as image:
            assert len(image.convert("L").getcolors(2**16) or []) > 10, "an empty picture"
    for name in ("best.ckpt", "last.ckpt"):
        assert torch.load(folder / name, weights_only=True)["state_dict"]


def test_a_run_refused_before_it_begins_leaves_no_folder(typed: Typed, tmp_path: Path) -> None:
    for bad in ("+optimizer.nonsense=1", "+loss.nonsense=1", "+model.nonsense=1", "+trainer.nonsense=1"):
        with pytest.raises(Refused, match="nonsense"):
            train(typed(*SHORT, bad))
    assert not list((tmp_path / "outputs").glob("*"))


def test_a_learning_rate_that_is_too_large_stops_the_run_in_a_sentence(typed: Typed) -> None:
    cfg = typed(*SHORT, "optimizer=sgd", "optimizer.lr=1000")
    with pytest.raises(
        Refused, match=r"the loss became (nan|inf) at step \d \(epoch 0\) with learning rate 1000: try "
    ):
        train(cfg)
    status = json.loads((folder_of(cfg) / "status.json").read_text())
    assert status["status"] == "failed"
    assert "Diverged" in status["reason"]
    assert not (folder_of(cfg) / "last.ckpt").exists()


@pytest.mark.parametrize("fetched", [1, 4])
def test_a_loss_that_turns_nan_keeps_the_last_good_checkpoint(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, fetched: int
) -> None:
    """Also where, as on a GPU, losses are fetched some steps later."""
    monkeypatch.setitem(epochs.FETCHED, "cpu", fetched)
    cfg = typed(*SHORT, "callbacks.last.seconds=0", "+trainer.limit_train_batches=1.0")  # which are given one by one
    true_loss, calls = Loss.compute, iter(range(10**6))

    def turns_nan(self: Loss, task: Task, scores: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        # called once by the door; then in each epoch ten times in training, and once for the validation rows
        return true_loss(self, task, scores, y) * (torch.nan if next(calls) == 1 + 2 * (10 + 1) + 4 else 1)

    monkeypatch.setattr(Loss, "compute", turns_nan)
    with pytest.raises(Diverged, match=r"the loss became nan at step 25 \(epoch 2\) with learning rate 0.001"):
        train(cfg)
    saved = torch.load(folder_of(cfg) / "last.ckpt", weights_only=True)
    assert saved["epoch"] == 1
    assert all(torch.isfinite(weight).all() for weight in saved["state_dict"].values())


def test_a_bug_is_recorded_as_a_failure_and_raised(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = typed(*SHORT)
    monkeypatch.setattr("losslab.training.module.Experiment.tune", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(cfg)
    status = json.loads((folder_of(cfg) / "status.json").read_text())
    assert (status["status"], status["reason"]) == ("failed", "ZeroDivisionError: division by zero")


def test_rows_that_are_trained_again_replace_the_old_ones(typed: Typed) -> None:
    cfg = typed()
    record = claim(cfg, {"rmse": "min"}, ALONE)
    for epoch, rmse in [(0, 5.0), (1, 4.0), (2, 3.0), (1, 2.0)]:
        record.log_metrics({"epoch": epoch, "train/loss": 1.0, "val/rmse": rmse}, step=epoch * 10)
        record.log_metrics({"epoch": epoch, "norm": 2.0}, step=epoch * 10)  # Lightning's copy of what a callback logs
    again = Record(record.folder, cfg, {"rmse": "min"}, id=record.version)
    again.begin([], {})
    assert [(row["epoch"], row["step"], row["val/rmse"]) for row in again.history] == [(0, 0, 5.0), (1, 10, 2.0)]
    assert again.best_epoch() == 1


def test_wandb_mirrors_the_record_offline(typed: Typed, tmp_path: Path) -> None:
    cfg = typed(*SHORT, "logger=wandb")
    summary = train(cfg)
    other = typed(*SHORT, "logger=wandb", "seed=1")
    train(other)
    files = {
        file.stem.removeprefix("run-"): file for file in (tmp_path / "outputs" / "wandb").glob("offline-run-*/*.wandb")
    }
    ids = [run_id(folder_of(each)) for each in (cfg, other)]
    assert set(files) == set(ids), "a run of its own for each"
    seen = subprocess.run(
        [sys.executable, "-m", "wandb", "leet", "inspect", "--json", "--summary", str(files[ids[0]])],
        capture_output=True,
        text=True,
        check=True,
    )
    mirror = json.loads(seen.stdout)
    assert (mirror["state"], mirror["exit_code"]) == ("finished", 0)
    config = flat_config(cfg) | {"logger.notes": "data=diabetes trainer.max_epochs=3"}
    assert {key: value for key, value in mirror["config"].items() if key in config} == config
    assert mirror["config"]["facts.train_rows"] == 310
    numbers = {key: value for key, value in flatten_summary(mirror["summary"]).items() if key in summary}
    assert numbers == pytest.approx(summary)
    assert {"pictures/predicted", "pictures/curves", "samples"} <= set(mirror["summary"])


def test_the_csv_logger_writes_into_the_runs_folder(typed: Typed) -> None:
    cfg = typed(*SHORT, "logger=csv")
    train(cfg)
    with (folder_of(cfg) / "csv" / "metrics.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len([row for row in rows if row["val/rmse"]]) == 3


def left(typed: Typed, *overrides: str, **changed: Any) -> Path:
    """A folder as a run leaves it that was killed in its second epoch."""
    folder, lock, ckpt = claim_folder(typed(*overrides))
    assert (folder.name[-2:], ckpt) != ("-2", None)
    assert lock is not None
    status = {"status": "running", "id": "abc", "environment": environment(), **changed}
    (folder / "status.json").write_text(json.dumps(status))
    (folder / "last.ckpt").touch()
    os.close(lock)
    return folder


def test_a_run_that_was_killed_or_pre_empted_is_gone_on_with_and_no_other(typed: Typed) -> None:
    elsewhere: dict[str, Any] = environment() | {"git_commit": "another"}
    killed: list[dict[str, Any]] = [{}, {"status": "preempted"}]
    for count, changed in enumerate(killed):
        folder = left(typed, f"seed={count}", **changed)
        again, lock, ckpt = claim_folder(typed(f"seed={count}"))
        assert (again, ckpt) == (folder, str(folder / "last.ckpt"))
        third, *_ = claim_folder(typed(f"seed={count}"))
        assert third.name == f"{folder.name}-2", "another process has the first one"
        os.close(lock or 0)
        assert run_id(folder) == "abc", "the same run on W&B"
    over: list[dict[str, Any]] = [{"status": status} for status in ("finished", "failed", "interrupted")]
    for count, changed in enumerate([*over, {"environment": elsewhere}], start=2):
        folder = left(typed, f"seed={count}", **changed)
        assert claim_folder(typed(f"seed={count}"))[0].name == f"{folder.name}-2"
    folder = left(typed, "seed=9")
    assert claim_folder(typed("seed=9", "resume=never"))[0].name == f"{folder.name}-2"


@pytest.mark.parametrize("place", ["losslab.page.pictures.draw_curves", "losslab.page.figures.save_png"])
def test_a_picture_that_cannot_be_drawn_costs_no_run(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("no such colour")

    monkeypatch.setattr(place, fail)
    summary = train(typed("data=diabetes", "trainer.max_epochs=1"))
    assert "test/rmse" in summary
    assert json.loads((summary.folder / "status.json").read_text())["status"] == "finished"
    assert (summary.folder / "pictures" / "samples.csv").is_file()
    said = capsys.readouterr().err
    assert "Not all pictures were drawn (ValueError in test_record.py, line " in said
    assert "no such colour" in said
