"""What `losslab sweep`, `race` and `study` refuse before the first run leaves nothing behind."""

import random
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from losslab.errors import Refused
from losslab.race.driver import race
from losslab.study.__main__ import study
from losslab.sweep import connect, node
from losslab.sweep.connect import Cluster
from losslab.sweep.driver import sweep
from tests.sweep.fake_ray import FakeRay, Steps
from tests.sweep.short import LR, sweep_file

RACE = "race model=linear loss=mse,mae tune=0"
HYPERBAND = {"method": "bayes", "run_cap": 8, "early_terminate": {"type": "hyperband", "min_iter": 1, "eta": 3}}
CASES = [
    ("sweep engine=ray address=127.0.0.1:9 present", "no Ray cluster answers at 127.0.0.1:9"),
    (f"{RACE} engine=ray address=127.0.0.1:9 present", "no Ray cluster answers at 127.0.0.1:9"),
    ("sweep engine=ray absent", "engine=ray needs Ray: type pip install 'losslab[ray]'"),
    (f"{RACE} engine=ray absent", "engine=ray needs Ray"),
    ("sweep engine=ray trainer=gpu cluster", "trainer=gpu needs a GPU, and no run has one here: type gpus_per_run=1"),
    (f"{RACE} engine=ray trainer=gpu cluster", "trainer=gpu needs a GPU, and no run has one here"),
    ("sweep engine=ray cluster older", "has losslab 0.0, and this is"),
    (f"{RACE} engine=ray cluster older", "has losslab 0.0, and this is"),
    ("sweep engine=ray cluster early", "early_terminate compares runs while they train, and node"),
    ("sweep engine=ray cluster full", "3 workers of the cluster ended before they had done anything"),
    ("sweep trainer=gpu", "trainer=gpu needs an NVIDIA or AMD GPU, and there is none here: type trainer=cpu"),
    (f"{RACE} trainer=gpu", "trainer=gpu needs an NVIDIA or AMD GPU, and there is none here"),
    ("sweep data=csv data.path=none.csv data.target=y", "data.path=none.csv is not there"),
    (f"{RACE} data=csv data.path=none.csv data.target=y", "data.path=none.csv is not there"),
    ("sweep loss=msle data=csv data.path=below.csv data.target=y", "loss=msle is for targets >= 0, which 49"),
    ("sweep n=-1", "n=-1 does not fit"),
    ("sweep name=a/b", "name=a/b does not fit"),
    ("sweep test_seeds=[1]", "test_seeds=[1]"),
    (f"{RACE} budget=soon", "budget=soon"),
    ("study calibration tiny=true n=-1", "n=-1 does not fit"),
    ("study imbalanced_labels tiny=true data.path=none", "data.path=none is not there: type a folder"),
    ("study calibration tiny=true output_dir=below.csv", "output_dir=below.csv"),
]  # fmt: skip


@pytest.fixture
def around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """By the words of a case that are no settings: what is done for it, and the sweep file's changes."""
    cluster = Cluster(FakeRay(random.Random(0), deadly=0.0), 1, 1.0, 0.0)
    monkeypatch.setattr("losslab.config.launch.has_gpu", lambda: False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return {
        "present": lambda: pretend(monkeypatch),
        "absent": lambda: monkeypatch.setattr(connect, "find_spec", lambda _: None),
        "cluster": lambda: monkeypatch.setattr(connect, "connect", lambda _: cluster),
        "older": lambda: monkeypatch.setattr(node, "__version__", "0.0"),
        "full": lambda: monkeypatch.setattr(node, "Workers", Full),
        "early": lambda: {**HYPERBAND, "parameters": {**LR, "seed": {"value": 0}, "trainer.max_epochs": {"value": 9}}},
    }


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray is installed, though it may not be; it is not asked."""
    monkeypatch.setattr(connect, "find_spec", lambda _: True)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())


def repeat(words: list[str]) -> int:
    """`losslab study`, without what it does with signals."""
    return study(words[0], dict(word.split("=", 1) for word in words[1:]))


class Full(Steps):
    """On a node whose disk is full."""

    def __init__(self, *_: Any) -> None:
        raise OSError(28, "No space left on device", "/tmp")


@pytest.mark.parametrize(("typed", "said"), CASES, ids=[typed for typed, _ in CASES])
def test_what_is_refused_before_the_first_run_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, around: dict[str, Any], typed: str, said: str
) -> None:
    command, *words = typed.split()
    changed = [around[word]() or {} for word in words if word in around]
    words = [word for word in words if word not in around]
    home = tmp_path / "home"
    home.mkdir()
    (home / "below.csv").write_text("x,y\n" + "".join(f"{n},{-n}\n" for n in range(50)))
    path = sweep_file(home, **{key: value for each in changed for key, value in each.items()})
    monkeypatch.chdir(home)
    commands: dict[str, Callable[[list[str]], int]] = {"sweep": partial(sweep, path), "race": race, "study": repeat}
    with pytest.raises(Refused) as refused:
        commands[command](words)
    assert said in str(refused.value)
    assert sorted(file.name for file in home.rglob("*")) == ["below.csv", "short.yaml"]


def test_what_a_refused_command_finds_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty folder of the user's, and the jobs of a process that has begun meanwhile."""
    path, mine = sweep_file(tmp_path), tmp_path / "mine"
    mine.mkdir()
    pretend(monkeypatch)
    with pytest.raises(Refused):
        sweep(path, ["engine=ray", "address=127.0.0.1:9", f"output_dir={mine}"])
    assert [*mine.iterdir()] == []

    def other(_: object) -> Cluster:
        (jobs := mine / "sweeps" / "short" / "jobs").mkdir(parents=True)
        (jobs / ".other.alive").touch()
        (jobs.parent / "sweep.json").write_text("{}")
        raise Refused("no")

    monkeypatch.setattr(connect, "connect", other)
    with pytest.raises(Refused, match="no"):
        sweep(path, ["engine=ray", f"output_dir={mine}"])
    assert sorted(file.name for file in mine.rglob("*")) == [".other.alive", "jobs", "short", "sweep.json", "sweeps"]
