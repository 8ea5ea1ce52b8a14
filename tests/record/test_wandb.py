"""The real W&B client, talking to a backend of our own on the loopback interface; it is never replaced by a mock."""

import json
import re
import shlex
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml

from losslab.compare.design import arrange
from losslab.compare.runs import read_runs
from losslab.compare.table import summarize_cells
from losslab.config import targets
from losslab.config.check import configure
from losslab.config.make import fill_in
from losslab.record.wandb import describe
from tests.compare.written import grid
from tests.conftest import ROOT, until
from tests.loopback import Loopback, agent, environment, run
from tests.processes import Fork, python, ran, undrawn

LOGGED = {"loss": "mae", "optimizer": "sgd", "data": "heights", "model": "linear", "task": "regression", "seed": 0}
HEIGHTS = ("data=heights", "model=linear", "loss=mae", "optimizer=sgd")
CALLS = "from pytorch_lightning import Callback\n\n\nclass Nothing(Callback):\n    pass\n"
MINE = "API_TOKEN = 'a-secret-of-the-user'\n"
HELD = (
    "allow=tests",
    "trainer.max_epochs=60",
    "+callbacks.held={_target_: tests.slurm.held.Held, epoch: 30, mark: held}",
)


@pytest.mark.system
def test_an_offline_run_sends_nothing_until_it_is_synced_and_then_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "package_finder", targets.AllowedPackages(tmp_path))  # as in a fresh process
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "calls.py").write_text(CALLS)
    (tmp_path / "mine" / "keys.py").write_text(MINE)
    (tmp_path / "mine" / "rows.csv").write_text("1,2\n")
    (tmp_path / "mine" / "link.py").symlink_to(ROOT / "train.py")
    own = "+callbacks.mine={_target_: mine.calls.Nothing}"
    words = (*HEIGHTS, "trainer.max_epochs=3", own, "logger.log_model=true", "allow=[mine,torchvision]")
    with Loopback() as server:
        done = run(server, tmp_path, str(ROOT / "train.py"), *words, MY_TOKEN="a-secret-of-the-user")
        assert done.returncode == 0, done.stderr
        assert not server.seen, "a request left the machine"
        command = re.search(r"`(wandb sync \S+)`", done.stdout)
        assert command
        synced = run(server, tmp_path, "-m", *command[1].split(), WANDB_ENTITY="lab")
        assert synced.returncode == 0, synced.stderr
        assert not server.unknown
        ((name, mirror),) = server.runs.items()
        folder = tmp_path / done.stdout.splitlines()[-1]
        assert name == json.loads((folder / "status.json").read_text())["id"]
        assert mirror.config.items() >= LOGGED.items()
        assert (mirror.exit_code, mirror.group, mirror.title) == (0, None, folder.name)
        assert mirror.notes == " ".join(words[:-2])
        rows = (folder / "history.csv").read_text().splitlines()
        assert [row["epoch"] for row in mirror.history.values() if "val/rmse" in row] == list(range(len(rows) - 1))
        summary = json.loads((folder / "summary.json").read_text())
        of_metrics = {key: mirror.summary[key] for key in summary if key.startswith(("train/", "val/", "test/"))}
        expected = {key: summary[key] for key in of_metrics}
        for metric, goal in {"loss": "min", "mse": "min", "mae": "min", "msle": "min", "r2": "max"}.items():
            key = f"val/{metric}"
            expected[key] = {goal: summary[f"{key}_best"], "last": summary[key]}
            assert of_metrics.pop(key) == pytest.approx(expected.pop(key)), "the goal's value, and the last"
        assert of_metrics == pytest.approx(expected), "plain numbers, by which W&B orders runs"
        (test,) = (row for row in mirror.history.values() if "test/rmse" in row)
        assert test["epoch"] == 2, "drawn over the epochs"
        files = {name: sorted(made["files"]) for name, made in server.artifacts.items()}
        record = ["best.ckpt", "config.yaml", "status.json", "summary.json"]
        assert files == {
            **{f"model-{name}": record, "source-losslab": ["mine/calls.py"]},
            f"run-{name}-samples": ["samples.table.json"],
        }


@pytest.mark.parametrize(
    ("words", "variables", "group", "notes"),
    [
        ((), {}, None, "loss=mae"),
        (("output_dir=sweeps/mine/runs",), {}, "mine", "loss=mae"),
        (("output_dir=sweeps/mine/runs", "logger.group=ours", "logger.notes=why"), {}, "ours", "why"),
        (("output_dir=sweeps/mine/runs",), {"RUN_GROUP": "theirs", "NOTES": "why"}, None, None),
        ((), {"SWEEP_ID": "sweep0"}, "sweep0", "loss=mae"),
    ],
)
def test_a_runs_group_is_its_sweep_and_its_notes_what_was_typed(
    words: tuple[str, ...],
    variables: dict[str, str],
    group: str | None,
    notes: str | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps" / "mine").mkdir(parents=True)
    (tmp_path / "sweeps" / "mine" / "sweep.json").write_text("{}")
    for name, value in variables.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    cfg = configure(["loss=mae", *words])
    cfg = fill_in(cfg, choices={**cfg.run.choices, "loss": "a" * 100})  # a sum of many losses
    keys = {**cfg.logger, **describe(cfg)}
    assert (keys["group"], keys["notes"]) == (group, notes)
    assert "a" * 64 in keys["tags"], "W&B takes no longer ones"


def shortened(name: str, folder: Path, **changed: Any) -> str:
    """A shipped sweep file with fewer values, in this folder."""
    sweep = yaml.safe_load((ROOT / "sweeps" / f"{name}.yaml").read_text())
    sweep["parameters"] |= changed.pop("parameters")
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({**sweep, "program": str(ROOT / "train.py"), **changed}))
    return f"{name}.yaml"


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:Read the `app_url` setting:DeprecationWarning")  # by its own command
def test_agents_share_shipped_sweeps_and_the_worst_run_is_stopped(tmp_path: Path) -> None:
    one = {key: {"value": value} for key, value in {"loss": "focal", "optimizer": "momentum", "seed": 0}.items()}
    held = ("allow=tests", "+callbacks.held={_target_: tests.slurm.held.Held, epoch: 10, mark: held, rate: 0.001}")
    command = ["${env}", "${interpreter}", "${program}", *held, "${args}"]
    tune = shortened("tune", tmp_path, parameters=one, run_cap=2, command=command)
    one["data"] = {"value": "heights"}
    short = {"loss": {"values": ["mae"]}, "seed": {"values": [0]}, "trainer.max_epochs": {"value": 2}}
    plain = shortened("regression", tmp_path, parameters={"data": one["data"], **short})
    with Loopback() as server:
        for file in (tune, plain):
            made = run(server, tmp_path, "-m", "wandb", "sweep", file)
            assert made.returncode == 0, made.stderr
        assert {sweep.project for sweep in server.sweeps.values()} == {"losslab"}
        env = environment(server, tmp_path) | {"PYTHONPATH": str(ROOT)}  # where the package `tests` is
        agents = [Fork(partial(agent, sweep), tmp_path, env) for sweep in ("sweep0", "sweep0", "sweep1")]
        said = ["".join(agent.communicate()) for agent in agents]
        assert [agent.returncode for agent in agents] == [0, 0, 0], said
        assert not server.unknown
        assert not any("locked by 'sweep'" in text for text in said)
        (by_default,) = (run for run in server.runs.values() if run.sweep == "sweep1")
        assert (by_default.exit_code, by_default.group, by_default.tags[0]) == (0, "sweep1", "heights")
        found = {run.config["search.lr"]: (name, run) for name, run in server.runs.items() if run.sweep == "sweep0"}
        assert sorted(found) == [0.0, 1.0]
        for name, each in found.values():
            assert name in server.sweeps["sweep0"].handed_out, "the id that the agent knows it by"
            chosen = {"loss": "focal", "optimizer": "momentum", "data.seed": 0, "task": "single_label"}
            assert each.config.items() >= {**chosen, "trainer.max_epochs": 27}.items()
            assert (each.group, each.job_type, sorted(each.tags)) == (
                *("sweep0", "train", ["digits", "focal", "mlp", "momentum"]),
            )
            assert isinstance(each.summary["val/accuracy"], float), "W&B orders a sweep's runs by this number"
        status = {
            yaml.safe_load((file.parent / "config.yaml").read_text())["search.lr"]: json.loads(file.read_text())
            for file in tmp_path.glob("outputs/digits*/status.json")
        }
        assert {lr: each["status"] for lr, each in status.items()} == {0.0: "pruned", 1.0: "finished"}
        assert "sweep" in status[0.0]["reason"]
        assert status[1.0]["wandb"] == {
            "run": f"{server.url}/lab/losslab/runs/{found[1.0][0]}",
            "sweep": f"{server.url}/lab/losslab/sweeps/sweep0",
        }
        assert status[1.0]["wandb"]["sweep"] in "".join(said)
        stopped = found[0.0][1]
        assert stopped.exit_code not in (0, None), "W&B must not take it for finished"
        assert found[1.0][1].exit_code == 0
        assert 3 <= len(stopped.history) < 27


@pytest.mark.system
def test_a_server_that_goes_away_costs_nothing(tmp_path: Path) -> None:
    more = {"WANDB_FINISH_TIMEOUT": "3"}
    with Loopback() as server:
        env = {**environment(server, tmp_path), **more}
        process = Fork(undrawn(str(ROOT / "train.py"), *HEIGHTS, *HELD, "logger.mode=online"), tmp_path, env)
        held = tmp_path / "held-0"
        until(
            lambda: (any(run.history for run in server.runs.values()) and held.exists()) or process.poll() is not None
        )
        assert process.returncode is None, process.said()
    held.unlink()
    began = time.monotonic()
    out, err = process.communicate()
    assert time.monotonic() - began < 15, "of which the client waits three seconds, as it was told"
    assert process.returncode == 0, err
    assert len(err.splitlines()) == 1, "one sentence"
    command = re.search(r"`(wandb sync --no-skip-online \S+)`", err)
    assert command, err
    folder = tmp_path / out.splitlines()[-1]
    assert json.loads((folder / "status.json").read_text())["status"] == "finished"
    assert len((folder / "history.csv").read_text().splitlines()) == 61
    with Loopback() as later:
        synced = run(later, tmp_path, "-m", *command[1].split(), WANDB_ENTITY="lab")
        assert synced.returncode == 0, synced.stderr
        assert later.runs, (synced.stdout, synced.stderr, dict(later.seen))
        ((_, mirror),) = later.runs.items()
        assert len([row for row in mirror.history.values() if "val/rmse" in row]) == 60
        assert mirror.exit_code == 0


@pytest.mark.system
def test_a_pre_empted_run_is_no_finished_one_and_goes_on_as_the_same(tmp_path: Path) -> None:
    words = [str(ROOT / "train.py"), *HEIGHTS, *HELD, "logger.mode=online"]
    with Loopback() as server:
        process = Fork(undrawn(*words), tmp_path, environment(server, tmp_path))
        until((tmp_path / "held-0").exists)  # or it would be held when it goes on
        until(lambda: any(run.history for run in server.runs.values()))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
        assert (process.returncode, "stopped by SIGTERM; a checkpoint is kept" in err) == (143, True), err
        ((name, mirror),) = server.runs.items()
        assert (mirror.preempting, mirror.exit_code) == (True, 1)
        done = run(server, tmp_path, *words, draw=False)
        assert done.returncode == 0, done.stderr
        assert "resumed  from" in done.stdout
        assert (list(server.runs), server.runs[name].exit_code) == ([name], 0)
        assert not server.unknown
        epochs = {row["epoch"] for row in server.runs[name].history.values() if "val/rmse" in row}
        assert epochs == set(range(60))


@pytest.mark.system
@pytest.mark.parametrize("mode", ["online", "offline"])
def test_a_killed_run_goes_on_as_the_same_with_every_epoch_once(mode: str, tmp_path: Path) -> None:
    words = [str(ROOT / "train.py"), *HEIGHTS, *HELD, f"logger.mode={mode}", "callbacks.last.seconds=0"]
    with Loopback() as server:
        slow = {"WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "60"}
        process = Fork(undrawn(*words), tmp_path, environment(server, tmp_path) | slow)
        until((tmp_path / "held-0").exists)
        process.kill()  # before W&B was sent what it was told
        process.wait()
        for log in tmp_path.glob("outputs/wandb/offline-run-*/*.wandb"):
            log.write_bytes(log.read_bytes()[:-3])  # it was writing
        done = run(server, tmp_path, *words, draw=False)
        assert done.returncode == 0, done.stderr
        assert "resumed  from" in done.stdout
        if mode == "offline":
            assert not server.seen
            command = re.search(r"`(wandb sync .*)`", done.stdout)
            assert command
            assert len(shlex.split(command[1])) == 4, "a folder for each start"
            synced = run(server, tmp_path, "-m", *shlex.split(command[1]), WANDB_ENTITY="lab")
            assert synced.returncode == 0, synced.stderr
        assert not server.unknown
        ((_, mirror),) = server.runs.items()
        assert mirror.exit_code == 0
        assert [row["epoch"] for row in mirror.history.values() if "val/rmse" in row] == list(range(60))


def tables(folders: list[str], out: Path) -> None:
    """The table of each task's runs."""
    out.mkdir()
    for task in ("regression", "single_label", "multi_label"):
        summarize_cells(arrange(read_runs(folders), only={"task": task})).to_json(out / f"{task}.json")


@pytest.mark.system
def test_a_project_is_compared_as_its_folders_are(tmp_path: Path) -> None:
    tasks = {
        "regression": ["data=heights", "model=linear", "loss=mae,mse", "trainer.max_epochs=3"],
        "single_label": ["model=linear", "loss=cross_entropy,mse", "trainer.max_epochs=2"],
        "multi_label": ["loss=bce,mse", "data.buckets=64", "data.batch_size=2048", "trainer.max_epochs=1"],
    }
    with Loopback() as server:
        for task, words in tasks.items():
            done = run(
                server, tmp_path, str(ROOT / "train.py"), "-m", f"task={task}", *words, "logger.mode=online", draw=False
            )
            assert done.returncode == 0, done.stderr
        for name, what in {"folders": "outputs", "project": "wandb:lab/losslab"}.items():
            fork = Fork(partial(tables, [what], tmp_path / name), tmp_path, environment(server, tmp_path))
            assert fork.wait() == 0, fork.said()
        done = run(server, tmp_path, "-m", "losslab.compare", "wandb:lab/losslab", "task=regression", "out=page")
        assert done.returncode == 0, done.stderr
        assert "mae" in done.stdout
        assert not server.unknown
        assert server.seen["Run"] <= 4, "pages of runs; of single ones their curves alone"
    for task in tasks:
        ours, theirs = (pd.read_json(tmp_path / name / f"{task}.json") for name in ("folders", "project"))
        assert ours["low"].notna().all(), "rows show the noise of single runs"
        assert theirs["low"].isna().all(), "and W&B has no rows"
        only = ["seconds", "low", "high"]
        pd.testing.assert_frame_equal(
            ours.drop(columns=only, errors="ignore"), theirs.drop(columns=only, errors="ignore")
        )


@pytest.mark.system
@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_folders_own_settings_of_wandb_do_not_get_the_key(command: str, tmp_path: Path) -> None:
    grid(tmp_path / "runs", {"mae": 0.5, "mse": 0.6}, 1)
    words = {
        "train": [str(ROOT / "train.py"), *HEIGHTS, "trainer.max_epochs=1", "logger.mode=online"],
        "compare": ["-m", "losslab.compare", "runs", "log=true"],
    }
    with Loopback() as server, Loopback() as stranger:
        for name in ("wandb", ".wandb"):
            (tmp_path / name).mkdir()
            lines = {"base_url": stranger.url, "api_key": "s" * 40, "entity": "stranger", "http_proxy": stranger.url}
            text = "\n".join(["[default]", *(f"{key} = {value}" for key, value in lines.items())])
            (tmp_path / name / "settings").write_text(text)
        config = tmp_path / "config"
        config.mkdir()
        (config / "settings").write_text(f"[default]\nbase_url = {server.url}\n")  # the user's own, which counts
        env = {key: value for key, value in environment(server, tmp_path).items() if key != "WANDB_BASE_URL"}
        fork = Fork(python(*words[command]), tmp_path, {**env, "WANDB_MODE": "online"})
        assert fork.wait() == 0, fork.said()
        assert server.runs
        assert (stranger.seen, stranger.keys) == ({}, set()), "a stranger's folder was sent something"


@pytest.mark.system
@pytest.mark.parametrize("command", ["train", "compare"])
def test_a_server_that_is_not_there_is_a_sentence(command: str, tmp_path: Path) -> None:
    grid(tmp_path / "runs", {"mae": 0.5, "mse": 0.6}, 1)
    with Loopback() as server:
        env = environment(server, tmp_path) | {"WANDB_INIT_TIMEOUT": "2", "WANDB_MODE": "online"}
    if command == "train":
        done = ran(str(ROOT / "train.py"), *HEIGHTS, folder=tmp_path, env=env)
        assert (done.returncode, "losslab: W&B could not start" in done.stderr) == (1, True), done.stderr
    else:
        done = ran("-m", "losslab.compare", "runs", "log=true", folder=tmp_path, env=env)
        assert (done.returncode, "W&B did not take the comparison" in done.stdout) == (0, True), done.stderr
        assert (tmp_path / done.stdout.splitlines()[-1]).is_file(), "the page"
    assert "Traceback" not in done.stderr
