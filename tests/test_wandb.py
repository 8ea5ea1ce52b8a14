"""The real W&B client, talking to a backend of our own on the loopback interface; it is never replaced by a mock."""

import json
import os
import re
import signal
import sys
from pathlib import Path
from subprocess import CompletedProcess

import pytest
import yaml
from wandb import wandb_agent
from wandb.cli.cli import cli

from .conftest import ROOT, until
from .forks import Fork, python, ran
from .loopback import Loopback

LOGGED = {"loss": "mae", "optimizer": "sgd", "data": "heights", "model": "linear", "task": "regression", "seed": 0}
HEIGHTS = ("data=heights", "model=linear", "loss=mae", "optimizer=sgd")
HELD = ("allow=tests", "trainer.max_epochs=60", "+callbacks.held={_target_: tests.held.Held, epoch: 30, mark: held}")


def environment(server: Loopback, folder: Path) -> dict[str, str]:
    """The user's, with the server's address, and with all of the client's own files in the test's folder."""
    own = {f"WANDB_{part}_DIR": str(folder / part.lower()) for part in ("CONFIG", "CACHE", "DATA")}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    bin_folder = str(Path(sys.executable).parent)
    path = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    return {**kept, **own, **path, **server.env, "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}


def run(server: Loopback, folder: Path, *words: str, **more: str) -> "CompletedProcess[str]":
    return ran(*words, folder=folder, env={**environment(server, folder), **more})


def test_an_offline_run_sends_nothing_until_it_is_synced_and_then_everything(tmp_path: Path) -> None:
    with Loopback() as server:
        done = run(server, tmp_path, str(ROOT / "train.py"), *HEIGHTS, "trainer.max_epochs=3")
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
        assert mirror.exit_code == 0
        rows = (folder / "history.csv").read_text().splitlines()
        assert len([row for row in mirror.history.values() if "val/rmse" in row]) == len(rows) - 1 == 3
        summary = json.loads((folder / "summary.json").read_text())
        numbers = {key: value for key, value in mirror.summary.items() if key in summary}
        assert numbers == pytest.approx({key: summary[key] for key in numbers})
        assert {"test/rmse", "val/rmse_best", "train/loss"} <= set(numbers)


def agent() -> None:
    """`wandb agent`, which polls each five seconds; everything else is the client's own."""
    wandb_agent.Agent.POLL_INTERVAL = 0.3  # type: ignore[assignment]
    cli(["agent", "lab/losslab/sweep0"])


@pytest.mark.filterwarnings("ignore:Read the `app_url` setting:DeprecationWarning")  # by its own command
def test_two_agents_share_a_sweep_and_the_worst_run_is_stopped(tmp_path: Path) -> None:
    sweep = {
        "program": str(ROOT / "train.py"),
        "method": "grid",
        "metric": {"name": "val/rmse", "goal": "minimize"},
        "early_terminate": {"type": "hyperband", "min_iter": 20},
        "parameters": {"optimizer.lr": {"values": [0.1, 1e-9, 0.08]}},
        "command": [
            *("${env}", "${interpreter}", "${program}", *HEIGHTS, *HELD, "+callbacks.held.rate=1e-6"),
            "${args_no_hyphens}",
        ],
    }
    (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(sweep))
    with Loopback() as server:
        made = run(server, tmp_path, "-m", "wandb", "sweep", "--project", "losslab", "sweep.yaml")
        assert made.returncode == 0, made.stderr
        agents = [Fork(agent, tmp_path, environment(server, tmp_path)) for _ in range(2)]
        said = ["".join(agent.communicate()) for agent in agents]
        assert [agent.returncode for agent in agents] == [0, 0], said
        assert not server.unknown
        assert not any("locked by 'sweep'" in text for text in said)
        found = {run.config["optimizer.lr"]: (name, run) for name, run in server.runs.items()}
        assert sorted(found) == [1e-9, 0.08, 0.1]
        for lr, (name, each) in found.items():
            assert name in server.sweeps["sweep0"].handed_out, "the id that the agent knows it by"
            assert each.config.items() >= {**LOGGED, "optimizer.lr": lr, "trainer.max_epochs": 60}.items()
            assert (each.group, each.job_type, each.sweep) == ("regression", "train", "sweep0")
            assert sorted(each.tags) == ["heights", "linear", "mae", "sgd"]
        status = {
            yaml.safe_load((file.parent / "config.yaml").read_text())["optimizer.lr"]: json.loads(file.read_text())
            for file in tmp_path.glob("outputs/*/status.json")
        }
        assert len(status) == 3, "a folder for each"
        assert {lr: each["status"] for lr, each in status.items()} == {
            0.1: "finished",
            0.08: "finished",
            1e-9: "pruned",
        }
        assert "sweep" in status[1e-9]["reason"]
        stopped = found[1e-9][1]
        assert stopped.exit_code not in (0, None), "W&B must not take it for finished"
        assert {each.exit_code for _, each in found.values() if each is not stopped} == {0}
        assert 20 <= len(stopped.history) < 60


def test_a_server_that_goes_away_costs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    more = {"WANDB_FINISH_TIMEOUT": "3"}
    monkeypatch.setattr("wandb.apis.public.Api._HTTP_TIMEOUT", 1)  # as WANDB_HTTP_TIMEOUT=1 does as it is imported
    with Loopback() as server:
        env = {**environment(server, tmp_path), **more}
        process = Fork(python(str(ROOT / "train.py"), *HEIGHTS, *HELD, "logger.mode=online"), tmp_path, env)
        until(lambda: any(run.history for run in server.runs.values()) or process.poll() is not None)
        assert process.returncode is None, process.said()
    (tmp_path / "held-0").unlink()
    out, err = process.communicate()
    assert process.returncode == 0, err
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


def test_a_pre_empted_run_is_no_finished_one_and_goes_on_as_the_same(tmp_path: Path) -> None:
    words = [str(ROOT / "train.py"), *HEIGHTS, *HELD, "logger.mode=online"]
    with Loopback() as server:
        process = Fork(python(*words), tmp_path, environment(server, tmp_path))
        until(lambda: any(run.history for run in server.runs.values()))
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate()
        assert (process.returncode, "stopped by SIGTERM; a checkpoint is kept" in err) == (143, True), err
        ((name, mirror),) = server.runs.items()
        assert (mirror.preempting, mirror.exit_code) == (True, 1)
        done = run(server, tmp_path, *words)
        assert done.returncode == 0, done.stderr
        assert "resumed  from" in done.stdout
        assert (list(server.runs), server.runs[name].exit_code) == ([name], 0)
        assert not server.unknown
        epochs = {row["epoch"] for row in server.runs[name].history.values() if "val/rmse" in row}
        assert epochs == set(range(60))
