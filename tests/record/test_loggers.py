"""The loggers beside W&B: one run goes to all of them, and each has the numbers of its record."""

import csv
import json
import sqlite3
from pathlib import Path

import pytest

from losslab.config.arguments import expand_sum, hide_sum, show_sum
from losslab.config.check import configure
from losslab.config.make import fill_in
from losslab.errors import Refused
from losslab.record.loggers import build_loggers
from losslab.record.mlflow import MlflowLogger
from losslab.train import train
from tests.conftest import Typed, folder_of

HEIGHTS = ("data=heights", "trainer.max_epochs=3")


@pytest.mark.system
@pytest.mark.filterwarnings("ignore")  # of the other packages
def test_each_logger_has_the_numbers_of_the_record(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = typed(*HEIGHTS, "logger=[tensorboard,mlflow,trackio,csv]")
    output = Path(cfg.output_dir)
    monkeypatch.setenv("TRACKIO_DIR", str(output / "trackio"))  # it is read when the package is imported
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("trackio")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    summary = train(cfg)
    with (folder_of(cfg) / "history.csv").open(newline="") as lines:
        history = [float(row["val/rmse"]) for row in csv.DictReader(lines)]
    assert len(history) == 3

    board = events.EventAccumulator(str(folder_of(cfg) / "tensorboard")).Reload()
    assert [event.value for event in board.Scalars("val/rmse")] == pytest.approx(history)
    assert board.Scalars("test/rmse")[-1].value == pytest.approx(summary["test/rmse"])

    client = mlflow.MlflowClient(f"sqlite:///{(output / 'mlflow.db').as_posix()}")
    experiment = client.get_experiment_by_name("losslab")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.info.run_name) == ("FINISHED", folder_of(cfg).name)
    assert run.data.params["optimizer.lr"] == str(cfg.optimizer.lr)
    assert [point.value for point in client.get_metric_history(run.info.run_id, "val/rmse")] == pytest.approx(history)
    assert run.data.metrics["test/rmse"] == pytest.approx(summary["test/rmse"])

    with sqlite3.connect(output / "trackio" / "losslab.db") as database:
        rows = [json.loads(row) for (row,) in database.execute("SELECT metrics FROM metrics ORDER BY id")]
    assert [row["val/rmse"] for row in rows if "val/rmse" in row][:3] == pytest.approx(history)
    assert rows[-1]["test/rmse"] == pytest.approx(summary["test/rmse"])
    assert (folder_of(cfg) / "csv" / "metrics.csv").is_file()


@pytest.mark.system
@pytest.mark.filterwarnings("ignore")  # of the other packages
@pytest.mark.parametrize(("name", "setting"), [("mlflow", "tracking_uri"), ("trackio", "server_url")])
def test_a_server_that_does_not_answer_is_one_sentence(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, name: str, setting: str
) -> None:
    pytest.importorskip(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(Refused, match=rf"could not start .* type logger.{setting}=null"):
        train(typed(*HEIGHTS, f"logger={name}", f"logger.{setting}=http://127.0.0.1:9"))


@pytest.mark.system
@pytest.mark.filterwarnings("ignore")  # of the other packages
def test_mlflow_takes_up_a_resumed_run_and_a_run_outlives_its_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mlflow = pytest.importorskip("mlflow")
    given = {"experiment_name": "losslab", "run_name": "run", "tracking_uri": f"sqlite:///{tmp_path / 'mlflow.db'}"}
    for start, ended in enumerate(("failed", "success")):
        logger = MlflowLogger("one", **given)
        logger.log_hyperparams({"lr": 0.1, "start": start})  # what a resumed run finds anew stays as it was
        logger.log_metrics({"val/rmse": 1.0 - start}, step=start)
        logger.finalize(ended)
    client = logger.experiment
    (run,) = client.search_runs([logger.experiment_id])
    assert (run.info.status, run.data.params["start"]) == ("FINISHED", "0")
    assert [point.value for point in client.get_metric_history(run.info.run_id, "val/rmse")] == [1.0, 0.0]

    def fail(*args: object, **kwargs: object) -> None:
        raise mlflow.exceptions.MlflowException("API request failed")

    other = MlflowLogger("another", **given)
    other.log_hyperparams({"lr": 0.1})
    with monkeypatch.context() as broken:
        broken.setattr(type(client), "log_batch", fail)
        other.log_metrics({"val/rmse": 1.0}, step=0)
        other.log_metrics({"val/rmse": 0.5}, step=1)
        broken.setattr(type(client), "log_batch", lambda *args, **kwargs: 1 / 0)  # a defect is none of the server's
        with pytest.raises(ZeroDivisionError):
            MlflowLogger("third", **given).log_metrics({"val/rmse": 1.0}, step=0)
    other.finalize("success")
    assert capsys.readouterr().err.count("MLflow stopped taking this run (API request failed)") == 1


@pytest.mark.parametrize(
    ("typed", "expanded"),
    [
        ("logger=[csv]", ["logger=csv"]),
        ("logger=[tensorboard, wandb]", ["logger=wandb", "+logger@logger.more.tensorboard=tensorboard"]),
        ("logger=csv", ["logger=csv"]),
    ],
)
def test_several_loggers_are_spelled_out(typed: str, expanded: list[str]) -> None:
    assert expand_sum(typed) == expanded
    assert show_sum(hide_sum(typed)) == typed


@pytest.mark.parametrize("typed", ["logger=[]", "logger=[csv,csv]", "logger=[wandb,false]", "logger=[a b,csv]"])
def test_a_list_that_is_none_is_refused(typed: str) -> None:
    with pytest.raises(Refused, match=r"such as 'logger=\[wandb,tensorboard\]'"):
        configure([typed])


def test_several_loggers_keep_the_settings_of_each(typed: Typed) -> None:
    cfg = typed(*HEIGHTS, "logger=[csv,wandb]", "logger.mode=disabled", "logger.more.csv.version=mine")
    assert (cfg.logger.mode, cfg.logger.more.csv.version) == ("disabled", "mine")
    assert len(build_loggers(fill_in(cfg, dir=cfg.output_dir, name="a", id="b"))[0]) == 2


def test_a_logger_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losslab.config.by_name.find_spec", lambda _: None)
    for word in ("logger=mlflow", "logger=[csv,mlflow]"):
        with pytest.raises(Refused, match=r"^logger=mlflow needs mlflow: type pip install 'losslab\[mlflow\]'"):
            configure([word])
