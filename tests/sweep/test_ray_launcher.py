"""`-m hydra/launcher=ray`, without Ray: what it asks of a cluster, what a sweeper gets back, and what is refused."""

import random
import shutil
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hydra.core.utils import JobReturn, JobStatus
from hydra.types import HydraContext
from omegaconf import OmegaConf

from losslab.config.explain import explain_unknown
from losslab.errors import Refused
from losslab.internals.hydra import value_of
from losslab.sweep import connect, node
from losslab.sweep.connect import Cluster
from losslab.sweep.engine import Engine
from tests.conftest import Command
from tests.sweep.fake_ray import FakeRay, Steps

SHORT = ["data=diabetes", "model=linear"]
USUAL = {"address": None, "cpus_per_run": 1, "gpus_per_run": None, "n": None, "stack": "auto"}


def ready(**typed: Any) -> Any:
    """A launcher as Hydra makes it."""
    launcher = import_module("hydra_plugins.losslab_ray").RayLauncher(**{**USUAL, **typed})
    config = OmegaConf.create({"hydra": {"sweep": {"dir": "out/multirun"}}})
    context = cast(HydraContext, SimpleNamespace(config_loader=SimpleNamespace()))
    launcher.setup(hydra_context=context, task_function=lambda _: None, config=config)
    return launcher


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """With which engine a cluster was connected to, each time; its workers die now and then."""
    found: list[Engine] = []

    def connected(engine: Engine) -> Cluster:
        found.append(engine)
        return Cluster(FakeRay(random.Random(len(found)), deadly=0.05), engine.n or 3, engine.cpus, engine.gpus or 0.0)

    monkeypatch.setattr(connect, "find_spec", lambda _: True)
    monkeypatch.setattr(connect, "connect", connected)
    monkeypatch.setattr(node, "Workers", Steps)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("losslab.sweep.cluster.EVERY", 0.0)
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    return found


def jobs(*varied: str) -> list[list[str]]:
    return [[*SHORT, *each.split()] for each in varied]


def objectives(returns: Sequence[JobReturn]) -> list[Any]:
    """What a sweeper gets, in order."""
    return [value_of(back) for back in returns]


def test_a_sweeper_gets_each_runs_objective_and_the_cluster_is_kept_for_its_next_runs(
    engines: list[Engine], capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = ready(address="head:1", n=2, gpus_per_run=0.5, stack=4)
    first = launcher.launch(jobs("loss=mse", "loss=mse optimizer.lr=-1", "+losses=[mse,mae]", "loss=mse"), 0)
    assert [back.status for back in first] == [JobStatus.COMPLETED, JobStatus.FAILED, *[JobStatus.COMPLETED] * 2]
    one, refused, both, again = objectives(first)
    assert one >= 5, "as many steps as a run has"
    assert one.folder == again.folder != both.folder
    assert sorted(map(str, Path("out/multirun/runs").iterdir())) == sorted({one.folder, both.folder})
    assert "optimizer.lr=-1 does not fit" in str(refused)
    with pytest.raises(Refused, match=r"optimizer\.lr=-1 does not fit"):
        first[1].return_value  # noqa: B018 - Hydra's sweepers look
    assert objectives(launcher.launch(jobs("search.lr=0.1", "++search.lr=0.7 seed=1"), 4))[0] >= 5
    assert engines == [Engine("ray", 2, 4, "head:1", 1.0, 0.5)]
    launcher.launch([["data=digits", "model=linear"]], 6)
    assert len(engines) == 2, "another metric decides"
    launcher.close()
    said = capsys.readouterr()
    assert said.out.count("2 at a time on a Ray cluster, each with 1 core and 0.5 GPU") == 2
    assert f"folder    {Path('out/multirun')}\n" in said.out
    assert said.err.count("optimizer.lr=-1 does not fit") == 1


def test_the_same_command_does_what_is_missing_or_failed(
    engines: list[Engine], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = jobs("loss=mse", "loss=mae ~callbacks.last=null", "loss=huber")
    worked = Steps.advance

    def advance(steps: Steps, left: int) -> None:
        worked(steps, left)
        done.extend(str(job.setting["loss"]) for job in steps.jobs.values())

    def fail(job_folder: Path) -> None:
        for file in job_folder.glob("*.json"):
            text = file.read_text()
            if '"loss": "mae"' in text:
                file.write_text(text.replace('"done"', '"failed"').replace('"reason": null', '"reason": "bad luck"'))

    done: list[str] = []
    monkeypatch.setattr(Steps, "advance", advance)
    for number in range(3):
        done.clear()
        launcher = ready()
        returns = launcher.launch(typed, 0)
        launcher.close()
        assert all(back.status == JobStatus.COMPLETED for back in returns)
        assert {*done} == [{"mse", "mae", "huber"}, {"mae"}, {"mse"}][number]
        if number == 0:
            fail(Path("out/multirun/jobs"))
        else:
            folder = Path(objectives(returns)[0].folder)
            shutil.rmtree(folder)
    assert "; 2 of 3 runs were finished before\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ({"n": 0}, "hydra.launcher.n=0 trains in this process, and hydra/launcher=ray on the nodes of a cluster: type"),
        ({"n": -1}, "hydra.launcher.n=-1 does not fit: it must be a whole number of at least 0"),
        ({"stack": 0}, "hydra.launcher.stack=0 does not fit"),
        ({"gpus_per_run": 1.5}, "or a share of one such as hydra.launcher.gpus_per_run=0.125"),
        ({"cpus_per_run": 0}, "hydra.launcher.cpus_per_run=0 would start any number of runs on a node"),
        ({}, r"hydra/launcher=ray needs Ray: type pip install 'losslab\[ray\]'"),
    ],
)
def test_a_wrong_setting_is_refused_as_it_was_typed_before_anything_is_said(
    monkeypatch: pytest.MonkeyPatch, typed: dict[str, Any], said: str
) -> None:
    monkeypatch.setattr(connect, "find_spec", lambda _: True if typed else None)
    with pytest.raises(Refused, match=f"^{said}" if said.startswith("hydra") else said):
        ready(**typed)


def test_it_makes_its_own_stacks(command: Command) -> None:
    done = command("-m", "hydra/launcher=stacked", "hydra/launcher@hydra.launcher.on=ray", *SHORT, "seed=0,1")
    assert done.returncode == 1
    assert done.stderr == (
        "losslab: hydra/launcher=stacked trains no stacks by way of ray, which makes its own: type hydra/launcher=ray "
        "hydra.launcher.stack=32\n"
    )


def test_a_refused_sweep_leaves_what_hydra_wrote_alone(engines: list[Engine], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("out/multirun").mkdir(parents=True)
    Path("out/multirun/multirun.yaml").touch()
    monkeypatch.setattr(node, "__version__", "0.0")
    with pytest.raises(Refused, match=r"has losslab 0\.0, and this is"):
        ready().launch(jobs("loss=mse"), 0)
    assert [file.name for file in Path("out/multirun").iterdir()] == ["multirun.yaml"]
    with pytest.raises(Refused, match=r"trainer=gpu needs a GPU, .*: type hydra\.launcher\.gpus_per_run=1"):
        ready().launch(jobs("trainer=gpu"), 0)


def test_a_setting_that_no_launcher_has_is_named_with_the_nearest() -> None:
    said = explain_unknown("hydra.launcher.cpu_per_run", ["hydra/launcher=ray", "hydra.launcher.cpu_per_run=2"])
    assert said == (
        "hydra.launcher.cpu_per_run is not a setting of hydra/launcher=ray; nearest: cpus_per_run, gpus_per_run"
    )
