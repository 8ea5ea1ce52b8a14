"""Offline W&B runs, written and read with the real client, hold what the run folders hold."""

import json
from errno import ENOSPC
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import wandb
from pytorch_lightning.loggers import WandbLogger

from losslab.compare.design import arrange
from losslab.compare.run_folder import parse_config
from losslab.compare.runs import read_history, read_runs
from losslab.compare.table import summarize_cells
from losslab.page.wandb_report import log_report
from losslab.record.offline import offline
from losslab.record.wandb import Mirror, start
from tests.compare.written import grid


@pytest.fixture(autouse=True)
def _quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for key, value in {"SILENT": "true", "ERROR_REPORTING": "false", "DATA_DIR": str(tmp_path / "data")}.items():
        monkeypatch.setenv(f"WANDB_{key}", value)


def mirror(folder: Path, where: Path, padding: str = "", ours: bool = True) -> None:
    """The record of a run as losslab hands it to W&B, or as it did with Lightning's own logger."""
    config: dict[str, Any] = parse_config((folder / "config.yaml").read_text()) | {
        "facts.train_rows": 100,
        "padding": padding,
    }
    settings = wandb.Settings(console="off", silent=True)
    kind = Mirror if ours else WandbLogger
    logger = kind(project="losslab", save_dir=where, mode="offline", settings=settings)
    start([logger], config, {"loss": "min", "rmse": "min", "mae": "min"}, "val/rmse")
    for each in pd.read_csv(folder / "history.csv").astype(object).to_dict("records"):
        row = {str(key): value for key, value in each.items()}
        step = int(row.pop("step"))
        logger.log_metrics({**row, "val/mae": 2 * row["val/rmse"], "train/loss": 1.0}, step)
    ends = json.loads((folder / "summary.json").read_text())
    logger.log_metrics({key: value for key, value in ends.items() if key != "val/rmse"})
    wandb.finish()
    wandb.teardown()  # waits for the log


@pytest.mark.parametrize("ours", [True, False], ids=["ours", "lightning's"])
def test_an_offline_run_is_read_like_its_folder(ours: bool, tmp_path: Path) -> None:
    grid(tmp_path / "runs", {"mae": 0.5, "mse": 0.6}, 1)
    for number, folder in enumerate(sorted((tmp_path / "runs").iterdir())):
        mirror(folder, tmp_path, padding="long " * 20_000 * number, ours=ours)  # one of them crosses the log's blocks
    found, true = (arrange(read_runs([str(tmp_path / name)])) for name in ("wandb", "runs"))
    columns = ["cell", "n", "mean", "best epoch", "epochs", "updates", "samples/s", "MB"]
    pd.testing.assert_frame_equal(summarize_cells(found)[columns], summarize_cells(true)[columns], check_dtype=False)
    assert found.used["first/gradient_norm"].tolist() == [1.0, 1.0]
    runs = found.used.set_index("loss")
    assert runs["val/mae"].tolist() == (2 * runs["val/rmse"]).tolist(), "the last, of the values that W&B keeps of it"
    first, same = (each.used.set_index("loss")["folder"]["mae"] for each in (found, true))  # W&B's ids have no order
    mirrored, written = (read_history(folder)[["epoch", "step", "val/rmse"]] for folder in (first, same))
    pd.testing.assert_frame_equal(mirrored.reset_index(drop=True), written, check_dtype=False)

    (file,) = Path(first).glob("*.wandb")
    file.write_bytes(file.read_bytes()[:-60])  # as a run leaves it that was killed
    offline.cache_clear()
    assert sorted(read_runs([str(tmp_path / "wandb")]).frame["status"]) == ["finished", "running"]
    file.write_bytes(b":W&B")
    offline.cache_clear()
    assert "its W&B log holds no run yet" in read_runs([str(tmp_path / "wandb")]).broken[0]


def test_a_comparison_is_logged_as_a_report_that_is_no_run(tmp_path: Path) -> None:
    grid(tmp_path / "runs", {"mae": 0.5}, 1)
    mirror(next((tmp_path / "runs").iterdir()), tmp_path)
    (tmp_path / "index.html").write_text("<p>the page</p>")
    said = log_report("title", ["verdict"], {"cells": pd.DataFrame({"n": [1]})}, tmp_path)
    wandb.teardown()
    assert said.startswith("W&B: offline; `wandb sync ")
    (folder,) = {path.parent for path in tmp_path.glob("wandb/offline-run-*/*.wandb")} & {Path(said.split()[4][:-1])}
    assert offline(str(folder))["job_type"] == "report"
    (page,) = folder.glob("files/media/html/*.html")
    assert page.read_text() == "<p>the page</p>"
    assert len(read_runs([str(tmp_path / "wandb")]).frame) == 1


def test_a_comparison_that_wandb_does_not_take_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: Any) -> None:
        raise OSError(ENOSPC, "No space left on device", "wandb/run")

    monkeypatch.setattr("wandb.init", full)
    said = log_report("title", ["verdict"], {"cells": pd.DataFrame({"n": [1]})}, tmp_path)
    assert said.startswith("W&B did not take the comparison ([Errno 28] No space left on device")
    assert "\n" not in said
