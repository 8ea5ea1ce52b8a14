"""Jobs on the nodes of a cluster, without Ray: what may be typed, what travels, and what is lost on the way."""

import errno
import filecmp
import json
import os
import random
import shutil
import socket
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from losslab.errors import Refused
from losslab.sweep import node
from losslab.sweep.archive import find_paths, pack, unpack
from losslab.sweep.cluster import ClusterWorkers
from losslab.sweep.connect import Cluster, check_answer, connect
from losslab.sweep.engine import Engine, share_out, take_engine
from losslab.sweep.ledger import Ledger
from losslab.sweep.mirror import Mirror, check_below, put_files
from losslab.sweep.plan import Plan, make_job
from tests.sweep.fake_ray import FakeRay, Steps


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("engine=rai", "engine=rai is not an option; nearest: ray"),
        ("address=head:6379", "address=head:6379 is for a cluster: type engine=ray too"),
        ("gpus_per_run=1", "gpus_per_run=1 is for a cluster: type engine=ray too"),
        ("engine=ray n=0", "n=0 trains in this process, and engine=ray on the nodes of a cluster"),
        ("engine=ray gpus_per_run=1.5", "must be a whole number, or a share of one such as gpus_per_run=0.125"),
        ("engine=ray gpus_per_run=nan", "gpus_per_run=nan does not fit"),
        ("engine=ray cpus_per_run=-1", "cpus_per_run=-1 does not fit"),
        ("engine=ray cpus_per_run=0", "cpus_per_run=0 would start any number of runs on a node"),
        ("engine=ray stack=0", "stack=0 does not fit"),
        ("n=many", "n=many does not fit: it must be a whole number of at least 0"),
    ],
)
def test_what_does_not_fit_an_engine_is_a_sentence(typed: str, said: str) -> None:
    with pytest.raises(Refused, match=said):
        take_engine(dict(word.split("=") for word in typed.split()))


def test_without_ray_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losslab.sweep.connect.find_spec", lambda _: None)
    with pytest.raises(Refused, match=r"type pip install 'losslab\[ray\]'"):
        connect(Engine("ray"))


@pytest.mark.parametrize("where", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "no-such-host.invalid:6379", "a:b"])
def test_where_no_cluster_answers_the_sentence_comes_at_once(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losslab.sweep.connect.find_spec", lambda _: True)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())  # it is not asked
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and does not listen
        address = where.format(port=free.getsockname()[1])
        with pytest.raises(Refused, match=rf"no Ray cluster answers at {address} \(.+\): type address=HEAD:6379"):
            connect(Engine("ray", address=address))


def test_a_cluster_that_answers_is_asked() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        check_answer(f"127.0.0.1:{server.getsockname()[1]}")
        check_answer(f"ray://127.0.0.1:{server.getsockname()[1]}")
    for address in ("", "auto", "local"):  # Ray's own words
        check_answer(address)


@pytest.mark.parametrize(
    ("typed", "trainer", "gpus", "said"),
    [
        ("engine=local", "gpu", 0.0, "trainer=gpu needs an NVIDIA or AMD GPU, and there is none here"),
        ("engine=ray", "gpu", 0.0, "trainer=gpu needs a GPU, and no run has one here: type gpus_per_run=1"),
        ("engine=ray", "ddp", 0.0, "trainer=ddp needs a GPU"),
        ("engine=ray", "gpu", 0.25, None),  # the driver's machine needs none
        ("engine=ray", "cpu", 0.0, None),
    ],
)
def test_runs_that_need_a_gpu_are_refused_before_any_starts_where_they_get_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str, trainer: str, gpus: float, said: str | None
) -> None:
    monkeypatch.setattr("losslab.config.launch.has_gpu", lambda: False)
    monkeypatch.setattr("losslab.sweep.connect.connect", lambda _: Cluster(None, 4, 1.0, gpus))
    plan = Plan("a", "grid", {"data": "diabetes", "trainer": trainer}, {}, {}, {"seed": [0]})
    engine = take_engine(dict([typed.split("=")]))
    if said is None:
        assert engine.start(tmp_path, plan).count == 4
    else:
        with pytest.raises(Refused, match=said):
            engine.start(tmp_path, plan)


@pytest.mark.parametrize(
    ("nodes", "cpus", "gpus", "runs"),
    [
        ([{"CPU": 8}, {"CPU": 3}], 1, 0, 11),
        ([{"CPU": 8}, {"CPU": 3}], 2, 0, 5),  # no run has cores of two nodes
        ([{"CPU": 64, "GPU": 8}], 1, 0.125, 64),
        ([{"CPU": 64, "GPU": 1}], 1, 0.3, 3),
        ([{"CPU": 64, "GPU": 1}], 1, 0.1, 10),  # 1 / 0.1 is a little less than 10 in some arithmetic
        ([{"CPU": 4}], 0, 1, 0),
    ],
)
def test_a_cluster_holds_as_many_runs_as_fit_its_nodes(
    nodes: list[dict[str, float]], cpus: float, gpus: float, runs: int
) -> None:
    assert share_out(nodes, cpus, gpus) == runs


def test_two_folders_are_kept_alike_whatever_happens_in_one(tmp_path: Path) -> None:
    chance, here, there = random.Random(0), tmp_path / "here", tmp_path / "there"
    mirror = Mirror(here, ("runs", "logs"))
    for step in range(60):
        file = here / chance.choice(["runs", "logs"]) / chance.choice("ab") / f"{chance.randrange(5)}.txt"
        if file.is_file() and chance.random() < 0.4:
            file.unlink()
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(chance.randbytes(chance.randrange(99)))
            os.utime(file, ns=(step, step))
        if chance.random() < 0.3:
            put_files(there, *mirror.read_changes())
    (here / "runs" / "a" / ".lock").touch()
    (here / "runs" / "a" / ".last.ckpt.1.part").touch()
    put_files(there, *mirror.read_changes())
    assert mirror.read_changes() == ({}, [])
    files = {path.relative_to(there) for path in there.rglob("*") if path.is_file()}
    assert files == {path.relative_to(here) for path in here.rglob("*.txt")}
    assert filecmp.cmpfiles(here, there, [str(file) for file in files], shallow=False)[0] == [str(f) for f in files]


def test_a_checkpoint_is_read_before_what_it_is_compared_with(tmp_path: Path) -> None:
    (tmp_path / "runs" / "a").mkdir(parents=True)
    for name in ("best.ckpt", "history.csv", "last.ckpt", "status.json"):
        (tmp_path / "runs" / "a" / name).touch()
    found, _ = Mirror(tmp_path, ("runs",)).read_changes()
    names = [Path(name).name for name in found]
    assert (names[0], names[-1]) == ("last.ckpt", "status.json")


@pytest.mark.parametrize("name", ["/etc/passwd", "runs/../../a", "..", "C:/a", "a\\..\\b", ""])
def test_no_file_is_written_outside_the_sweeps_folder(name: str) -> None:
    with pytest.raises(Refused, match="leads out of the sweep's folder"):
        check_below(name)


def test_data_are_the_same_once_unpacked_and_are_unpacked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home, store = tmp_path / "home", tmp_path / "store"
    (home / "images" / "cat").mkdir(parents=True)
    store.mkdir()
    monkeypatch.chdir(home)
    monkeypatch.setattr("losslab.sweep.archive.CHUNK", 1000)
    for number in range(5):
        (home / "images" / "cat" / f"{number}.png").write_bytes(random.Random(number).randbytes(777))
    (home / "mine.py").write_text("x = 1\n")
    pieces: list[bytes] = []

    def put(piece: bytes) -> int:
        pieces.append(piece)
        return len(pieces) - 1

    archive = pack(["images", "mine.py"], put)
    assert len(pieces) > 5
    for name in ("one", "two"):
        sent = map(pieces.__getitem__, archive.pieces) if name == "one" else iter(())  # the second reads none
        unpack(archive.digest, sent, store, tmp_path / name)
        compared = filecmp.dircmp(home, tmp_path / name)
        assert (compared.left_only, compared.right_only, compared.diff_files) == ([], [], [])
        assert not filecmp.dircmp(home / "images" / "cat", tmp_path / name / "images" / "cat").diff_files


def test_what_lies_in_the_current_folder_travels_and_the_rest_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "mine.py"):
        (tmp_path / name).touch()
    (tmp_path / "my_conf").mkdir()
    fixed = {"allow": "[mine,installed]", "hydra.searchpath": f"['{tmp_path}/my_conf','/etc']", "data.labels": None}
    plan = Plan("a", "grid", fixed, {"data.path": ["a.csv", "/data/b.csv", "../c.csv"]}, {}, {"seed": [0]})
    assert find_paths(plan) == (["a.csv", "mine.py", "my_conf"], ["../c.csv", "/data/b.csv", "/etc"])


@pytest.mark.parametrize("stack", [1, 4])
def test_each_job_has_one_result_whatever_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stack: int) -> None:
    """Workers and nodes are lost at random, and the driver is killed now and then; steps that got home are kept."""
    chance = random.Random(stack)
    monkeypatch.setattr(node, "Workers", Steps)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("losslab.sweep.cluster.EVERY", 0.0)
    (tmp_path / "home" / "sweep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home")
    plan = Plan("a", "grid", {}, {}, {}, {"seed": [0]})
    jobs = [make_job({}, {"loss": loss}, {"seed": seed}) for seed in range(10) for loss in ("mae", "mse", "huber")]
    folder, taken_up = Path("sweep"), 0
    for killed in (*(chance.randrange(2, 12) for _ in range(3)), 10_000):
        ray = FakeRay(chance, deadly=0.1)
        workers = ClusterWorkers(folder, plan, Cluster(ray, 4, 1.0, 0.0), stack)
        workers.add(jobs)
        for _ in range(killed):
            left = len(jobs) - len(workers.ledger.records([job.key for job in jobs]))
            if not left:
                break
            workers.advance(left)
        workers.ledger.close()  # as the system does
        for worker in workers.workers:
            workers.unlock_runs(worker)
    workers.close()
    records = Ledger(folder / "jobs").records([job.key for job in jobs])
    assert len(records) == len(list((folder / "jobs").glob("*.json"))) == 30
    for job in jobs:
        if records[job.key]["state"] == "done":
            steps = json.loads((folder / "runs" / f"run-{job.key[:6]}" / "last.ckpt").read_text())
            assert len(steps) >= 5
            taken_up += len({*steps}) > 1
        else:
            assert "workers of the cluster died at it" in records[job.key]["reason"]
    assert sum(record["state"] == "done" for record in records.values()) > 25
    assert taken_up > 3, "they went on from what another worker had done"
    shutil.rmtree(tmp_path / "home")


def no_space(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp")


def no_head(*_: Any, **__: Any) -> Any:
    raise OSError("Broken pipe")  # as Ray says it


@pytest.mark.parametrize(
    ("what", "does", "said"),
    [
        (
            Steps,
            no_space,
            "3 workers of the cluster ended .* No space left on device: free some space there",
        ),
        (FakeRay, no_head, r"the Ray cluster no longer answers \(Broken pipe\): start it again; nothing is lost"),
    ],
)
def test_where_nothing_can_go_on_a_sentence_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: type, does: Any, said: str
) -> None:
    monkeypatch.setattr(node, "Workers", Steps)
    monkeypatch.setattr(what, "advance" if what is Steps else "wait", does)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "home" / "sweep").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "home")
    plan = Plan("a", "grid", {}, {}, {}, {"seed": [0]})
    workers = ClusterWorkers(Path("sweep"), plan, Cluster(FakeRay(random.Random(0), deadly=0.0), 1, 1.0, 0.0), 1)
    workers.add([make_job({}, {}, {"seed": 0})])
    with closing(workers.ledger), pytest.raises(Refused, match=said):
        [workers.advance(1) for _ in range(100)]  # type: ignore[func-returns-value]
