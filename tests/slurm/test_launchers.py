"""Where the runs of a sweep go: here one by one, here several at a time, or to a cluster."""

import json
from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra import compose
from hydra.core.config_store import ConfigStore
from hydra.core.plugins import Plugins

from losslab.config.check import configure
from losslab.config.compose import hydra_ready
from losslab.config.explain import LAUNCHERS
from losslab.config.launch import check_launch
from losslab.errors import Refused
from tests.conftest import Command, Typed, numbers

SHORT = ("data=diabetes", "model=linear", "trainer.max_epochs=2", "loss=mse,mae", "seed=0,1")


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_launcher_that_is_not_installed_is_named_with_the_command_that_installs_it(
    launcher: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Plugins.instance()  # reads the plugins that are installed
    monkeypatch.delitem(ConfigStore.instance().repo["hydra"]["launcher"], f"{LAUNCHERS[launcher]}.yaml", raising=False)
    with pytest.raises(Refused, match=rf"^hydra/launcher={launcher} is not installed: .* 'losslab\[{launcher}\]'$"):
        configure([f"hydra/launcher={launcher}"])


@pytest.mark.skipif(find_spec("submitit") is None, reason="no hydra-submitit-launcher here")
def test_what_slurm_is_asked_for() -> None:
    with hydra_ready():
        asked = compose("config", ["hydra/launcher=slurm", "output_dir=here"], return_hydra_config=True).hydra.launcher
    assert asked._target_ == "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"
    assert asked.submitit_folder == "here/multirun/jobs/%j"
    assert asked.additional_parameters == {"signal": "USR1@120", "requeue": True}


@pytest.mark.system
@pytest.mark.parametrize("launcher", ["slurm", "joblib"])
@pytest.mark.skipif(find_spec("submitit") is None, reason="no hydra-submitit-launcher here")
def test_a_single_run_is_not_launched(command: Command, launcher: str) -> None:
    if find_spec(f"hydra_plugins.hydra_{launcher.replace('slurm', 'submitit')}_launcher") is None:
        pytest.skip(f"no plugin for {launcher} here")
    done = command("loss=mae", f"hydra/launcher={launcher}")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"losslab: hydra/launcher={launcher} is for several runs, and this is one run: type -m too"
    )
    assert done.stderr.count("\n") == 1


@pytest.mark.system
@pytest.mark.skipif(
    not (find_spec("hydra_plugins") and find_spec("hydra_plugins.hydra_joblib_launcher")),
    reason="no hydra-joblib-launcher here",
)
def test_two_at_a_time_have_the_numbers_of_one_by_one(command: Command, tmp_path: Path) -> None:
    one = command("-m", *SHORT, "logger=false", "output_dir=one")
    two = command("-m", *SHORT, "output_dir=two", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2")
    assert (one.returncode, two.returncode) == (0, 0), one.stderr + two.stderr
    found = []
    for name in ("one", "two"):
        runs = sorted((tmp_path / name).glob("*/summary.json"))
        assert len(runs) == 4
        found.append([numbers(json.loads(run.read_text())) for run in runs])
    assert found[0] == found[1]
    assert len(list((tmp_path / "two/wandb").glob("offline-run-*"))) == 4, "a run of W&B's for each, in two processes"
    table = two.stdout.strip().split("\n\n")[-2]
    assert table == one.stdout.strip().split("\n\n")[-2], "side by side, and best first, whatever comes first"
    assert {tuple(line.split()[:2]) for line in table.splitlines()[1:3]} == {("mse", "2"), ("mae", "2")}


SRUN = {"SLURM_JOB_NAME": "losslab", "SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_NUM_NODES": "2"}


@pytest.mark.parametrize(
    ("started", "typed_", "said"),
    [
        (SRUN, ["trainer=cpu"], "4 processes on 2 nodes, .* type srun --nodes=1 --ntasks-per-node=1, or trainer=ddp"),
        (SRUN, ["trainer=ddp_cpu", "trainer.devices=4"], "trainer.num_nodes=2 trainer.devices=2$"),
        (SRUN, ["trainer=ddp_cpu", "trainer.num_nodes=2"], None),
        (SRUN | {"SLURM_JOB_NAME": "interactive"}, ["trainer=cpu"], None),
        (SRUN | {"RANK": "0"}, ["trainer=cpu"], None),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "x"}, ["trainer=ddp_cpu"], "1 processes on 1 nodes"),
        ({"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "x"}, ["trainer=cpu"], None),
    ],
)
def test_other_processes_than_slurm_has_started_are_refused(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, started: dict[str, str], typed_: list[str], said: str | None
) -> None:
    for name, value in started.items():
        monkeypatch.setenv(name, value)
    cfg = typed(*typed_)
    if said is None:
        check_launch(cfg)
    else:
        with pytest.raises(Refused, match=said):
            check_launch(cfg)
