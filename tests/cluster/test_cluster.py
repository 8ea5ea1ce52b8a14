"""A real Ray cluster of nodes without a shared disk: what is lost on the way, and what becomes of a sweep's jobs."""

import json
import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from losslab.sweep import cluster
from losslab.sweep.ledger import Ledger, Record
from tests.cluster.nodes import Cluster, missing
from tests.conftest import numbers
from tests.processes import Fork, execute
from tests.sweep.short import LR, done_here, sweep_file, table

WHY_NOT = missing()
pytestmark = [pytest.mark.system, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

JOBS = 30
TABLE = {"data": {"value": "csv"}, "data.path": {"value": "prices.csv"}, "data.target": {"value": "price"}}


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of one core each, and a table in the driver's folder, which they do not see."""
    folder = tmp_path_factory.mktemp("cluster")
    found = Cluster(folder, folder / "home")
    try:
        found.add("n1", "n2", cpus=1)
        rows = (f"{i},{i * i % 7},{2 * i + i * i % 7}\n" for i in range(200))
        (folder / "home" / "prices.csv").write_text("a,b,price\n" + "".join(rows))
        yield found
    finally:
        found.stop()


def drive(nodes: Cluster, path: str, *words: str) -> Fork:
    """`losslab sweep` on the cluster."""
    command = ("-m", "losslab.sweep", path, "engine=ray", f"address={nodes.address}", *words)
    return Fork(partial(execute_hastily, command), nodes.hidden, nodes.env)


def execute_hastily(words: tuple[str, ...]) -> None:
    """The same as `execute`, but that the driver looks at the files of runs twice a second."""
    cluster.EVERY = 0.5
    execute(words)


def records(nodes: Cluster) -> list[Path]:
    return list(nodes.hidden.glob("outputs/sweeps/short/jobs/*.json"))


def test_each_job_has_one_result_whatever_is_killed(
    tmp_path: Path, nodes: Cluster, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    optimizers = {"optimizer": {"values": ["adam", "sgd", "momentum"]}, "seed": {"values": [*range(5)]}}
    path = sweep_file(tmp_path, parameters={**TABLE, **optimizers})
    driver = drive(nodes, path)

    def over(count: int) -> None:
        nodes.until(lambda: len(records(nodes)) >= count or driver.poll() is not None, f"{count} jobs")
        assert driver.returncode is None, driver.said()

    over(4)
    os.kill(nodes.workers("n1")[0], signal.SIGKILL)
    over(9)
    os.kill(nodes.actors("n1")[0], signal.SIGKILL)
    over(14)
    nodes.take_away("n2")
    over(19)
    driver.kill()
    driver.wait()
    nodes.until(lambda: not nodes.actors("n1"), "Ray ends the workers of a driver that is gone")
    assert len(records(nodes)) < JOBS
    nodes.add("n3", cpus=1)
    driver = drive(nodes, path)
    said, errors = driver.communicate()
    assert driver.returncode == 0, errors
    assert len(records(nodes)) == JOBS
    assert {json.loads(record.read_text())["state"] for record in records(nodes)} == {"done"}
    monkeypatch.chdir(nodes.hidden)
    done_here(path, tmp_path / "alone")
    found = nodes.hidden / "outputs" / "sweeps" / "short"
    assert table(found) == table(tmp_path / "alone")
    assert len(list(found.glob("runs/*-*"))) == JOBS
    assert f"compare   losslab compare {found.relative_to(nodes.hidden)}" in said


def test_a_race_is_that_of_one_machine(nodes: Cluster) -> None:
    quick = ("model=linear", "trainer.max_epochs=2", "logger=false", "trainer.enable_progress_bar=false")
    asked = ("data=csv", "data.path=prices.csv", "data.target=price", "loss=mse,mae", "tune=0", "budget=10")
    for words in ("engine=ray", f"address={nodes.address}", "n=2", "name=there"), ("n=0", "name=here"):
        race = Fork(partial(execute_hastily, ("-m", "losslab.race", *asked, *quick, *words)), nodes.hidden, nodes.env)
        _, errors = race.communicate()
        assert race.returncode == 0, errors
    there, here = (nodes.hidden / "outputs" / "races" / name for name in ("there", "here"))
    assert len(table(there)) == 10
    assert table(there) == table(here)
    decided = [json.loads((folder / "race.json").read_text()) for folder in (there, here)]
    assert decided[0]["looks"]
    assert all(each.pop("hours") for each in decided)
    assert decided[0] == decided[1]


def test_hydras_own_sweep_is_that_of_one_machine_past_a_failure_and_does_what_is_missing(nodes: Cluster) -> None:
    quick = ("model=linear", "trainer.max_epochs=2", "logger=false", "data=csv", "data.path=prices.csv")
    asked = ("-m", "losslab", "-m", *quick, "data.target=price", "loss=mse,mae")
    ray = ("hydra/launcher=ray", f"hydra.launcher.address={nodes.address}", "hydra.launcher.n=1", "output_dir=there")

    def said(*words: str) -> tuple[int, str, str]:
        done = Fork(partial(execute_hastily, (*asked, *words)), nodes.hidden, nodes.env)
        return done.wait(), *done.said()

    here, there = (said("optimizer.lr=1e-4,1e200", *words) for words in (("output_dir=here",), ray))
    assert here[0] == there[0] == 1
    assert "1 at a time on a Ray cluster, each with 1 core\nfolder    there/multirun\n" in there[1], there[2]
    assert here[1].split("\n\n")[-2] == there[1].split("\n\n")[-2], "side by side"
    assert here[2].count("with learning rate 1e+200") == there[2].count("with learning rate 1e+200") == 3
    tables = [
        {
            file.parent.name.split("-")[2]: numbers(json.loads(file.read_text()))
            for file in (nodes.hidden / place).glob("csv-*/summary.json")
        }
        for place in ("here", "there/multirun/runs")
    ]
    assert sorted(tables[0]) == ["mae", "mse"]
    assert tables[0] == tables[1]
    code, out, errors = said("optimizer.lr=1e-4", *ray)
    assert code == 0, errors
    assert "; 2 of 2 runs were finished before\n" in out
    assert out.split("\n\n")[-2] == there[1].split("\n\n")[-2]


def test_a_run_whose_node_is_taken_away_goes_on_elsewhere_from_its_checkpoint(
    tmp_path: Path, nodes: Cluster, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sweep_file(tmp_path, parameters={**TABLE, "trainer.max_epochs": {"value": 300}, "seed": {"value": 0}})
    driver = drive(nodes, path, "n=1", "name=long")
    found = nodes.hidden / "outputs" / "sweeps" / "long"
    nodes.until(lambda: [*found.glob("runs/*/last.ckpt")] or driver.poll() is not None, "a checkpoint")
    assert driver.returncode is None, driver.said()
    (begun,) = found.glob("runs/*-*")
    (busy,) = [name for name in nodes.nodes if nodes.workers(name)]
    nodes.take_away(busy)
    assert driver.wait() == 0, driver.said()
    overrides = json.loads((begun / "status.json").read_text())["overrides"]
    assert any(text.startswith("ckpt=") for text in overrides), "it went on from its checkpoint"
    monkeypatch.chdir(nodes.hidden)
    done_here(path, tmp_path / "alone")
    assert table(found) == table(tmp_path / "alone")


def test_a_search_with_hyperband_is_that_of_one_machine_and_each_run_sees_its_gpu_alone(
    tmp_path: Path, nodes: Cluster, undrawn: None
) -> None:
    one = {"loss": {"value": "mse"}, "seed": {"value": 0}, "trainer.max_epochs": {"value": 9}}
    early = {"type": "hyperband", "min_iter": 1, "eta": 3}
    path = sweep_file(tmp_path, "bayes", run_cap=8, early_terminate=early, parameters={**one, **LR})
    nodes.add("g1", cpus=2, gpus=2)  # made up
    driver = drive(nodes, path, "n=1", "gpus_per_run=0.5", "stack=1", f"output_dir={tmp_path / 'shared'}")
    nodes.until(lambda: nodes.workers("g1") or driver.poll() is not None, "a worker")
    assert driver.returncode is None, driver.said()
    seen = Path(f"/proc/{nodes.workers('g1')[0]}/environ").read_bytes().split(b"\0")
    assert {b"CUDA_VISIBLE_DEVICES=0", b"CUDA_VISIBLE_DEVICES=1"} & {*seen}
    assert driver.wait() == 0, driver.said()
    nodes.take_away("g1")
    _, alone = done_here(path, tmp_path / "alone")
    found = Ledger(tmp_path / "shared" / "sweeps" / "short" / "jobs").records(alone)

    def outcome(record: Record) -> tuple[object, ...]:
        return record["setting"], record["value"], record["pruned"]

    assert {key: outcome(record) for key, record in found.items()} == {key: outcome(alone[key]) for key in alone}
    assert 0 < sum(bool(record["pruned"]) for record in found.values()) < 8
