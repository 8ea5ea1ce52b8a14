"""A real SLURM of two nodes, started here: sweeps, runs on several nodes, and what is left when SLURM takes the nodes.

All jobs are begun in one go, since most of their time goes by with waiting; each test looks at its own.
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from fcntl import LOCK_EX, flock
from importlib.util import find_spec
from pathlib import Path
from shutil import copy
from tempfile import gettempdir
from typing import Any

import pytest
import yaml

from losslab.train import train
from tests.conftest import ROOT, Typed, numbers
from tests.processes import Fork, python
from tests.slurm.cluster import Cluster, missing

WHY_NOT = missing() or ("no hydra-submitit-launcher here" if find_spec("submitit") is None else None)
pytestmark = [pytest.mark.system, pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT))]

SHORT = ("data=diabetes", "model=linear", "trainer.max_epochs=2")
LONG = ("data=diabetes", "model=linear", "data.batch_size=16", "trainer.max_epochs=40", "callbacks.last.seconds=0")
CPU = ("--gpus-per-node=0", "--cpus-per-task=1", "--mem-per-cpu=1500M")  # the nodes have no GPU


@dataclass
class Begun:
    """A SLURM with jobs: two sweeps, a run on two nodes, one that is taken away, and two workers of a sweep file."""

    cluster: Cluster
    folder: Path
    ddp: str
    taken: str
    shared: str = ""
    sweep: Fork = field(init=False)
    stacks: Fork = field(init=False)  # the same sweep, but that each job takes two runs as one

    def status(self, where: str) -> dict[str, Any]:
        """Of the one run below a folder."""
        (file,) = (self.folder / where).glob("*/status.json")
        found: dict[str, Any] = json.loads(file.read_text())
        return found

    def epochs(self, where: str) -> list[int]:
        """That are on record of the one run below a folder."""
        (file,) = (self.folder / where).glob("*/history.csv")
        return [int(line.partition(",")[0]) for line in file.read_text().splitlines()[1:]]

    def said(self, job: str) -> str:
        """What a job printed."""
        (file,) = self.folder.glob(f"*-{job}*.txt")
        return file.read_text()


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Begun]:
    """Everything, begun in one go, interrupted, and ended whatever happens."""
    folder = tmp_path_factory.mktemp("runs")
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    cluster.env["PATH"] = f"{Path(sys.executable).parent}:{cluster.env['PATH']}"
    cluster.env |= {"WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    cluster.env.pop("WANDB_SERVICE", None)

    def submit(*words: str) -> str:
        return cluster.run("sbatch", "--parsable", *words, cwd=folder).strip()

    def sweep(launcher: str, *words: str) -> Fork:
        asked = [f"{launcher}.{key}" for key in ("cpus_per_task=1", "mem_gb=2", "array_parallelism=2")]
        typed = ["-m", *words, *asked, "logger=false", "loss=mse,mae", "seed=0,1", *SHORT]
        started.append(Fork(python(str(ROOT / "train.py"), *typed), folder, cluster.env))
        return started[-1]

    (folder / "short.yaml").write_text(yaml.safe_dump(SWEEP))
    (folder / "taken.sbatch").write_text(TAKEN)
    copy(Path(__file__).parent / "held.py", folder)
    started: list[Fork] = []
    alone = (Path(gettempdir()) / "losslab-slurm.lock").open("w")
    try:
        flock(alone, LOCK_EX)  # another worker of pytest's may have been given some of these tests
        cluster.start()
        ddp = submit(
            *CPU, "--ntasks-per-node=1", str(ROOT / "cluster/ddp.sbatch"), "trainer=ddp_cpu", *LONG, *held("ddp")
        )
        taken = submit(*CPU, "taken.sbatch", "trainer=cpu", *LONG, *held("taken"))
        found = Begun(cluster, folder, ddp, taken)
        cluster.until((folder / "taken-0").exists, "the run on one node", taken)
        cluster.run("scontrol", "requeue", taken)  # what pre-emption does: SIGTERM to all that the job started
        cluster.until(lambda: all((folder / f"ddp-{rank}").exists() for rank in range(2)), "that on two", ddp)
        cluster.run("scancel", "--signal=USR1", ddp)  # as --signal=USR1@120 does, ahead of the time limit
        found.sweep = sweep("hydra.launcher", "hydra/launcher=slurm")
        found.stacks = sweep("hydra.launcher.on", *STACKS)
        spread = ["--array=1", "--gpus-per-task=0", "--nodes=2", "--ntasks=2", "--ntasks-per-node=1"]
        found.shared = submit(*CPU, *spread, str(ROOT / "cluster/sweep.sbatch"), "short.yaml")
        yield found
    finally:
        for process in started:
            process.kill()
            process.wait()
        cluster.stop()
        alone.close()


STACKS = (
    *("hydra/launcher=stacked", "hydra/launcher@hydra.launcher.on=slurm", "hydra.launcher.width=2"),
    *("trainer.precision=64-true", "output_dir=stacked"),
)


def held(where: str) -> tuple[str, ...]:
    """What a run of forty epochs is told, so that it waits for a signal after ten of them."""
    return f"output_dir={where}", "allow=held", f"+callbacks.held={{_target_: held.Held, epoch: 10, mark: {where}}}"


TAKEN = """#!/bin/bash
#SBATCH --job-name=taken --requeue --open-mode=append --output=%x-%j.txt
srun losslab-train "$@"
"""
SWEEP = {
    "program": "train.py",
    "method": "grid",
    "parameters": {
        **{key: {"value": value} for key, value in (text.split("=") for text in SHORT)},
        "loss": {"values": ["mse", "mae"]},
        "seed": {"values": [0, 1]},
    },
    "command": ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"],
}


def whole(typed: Typed, *overrides: str) -> dict[str, float]:
    """The numbers of a run of this process that nothing happens to."""
    return numbers(train(typed("trainer=cpu", *overrides)))


def summary(folder: Path) -> dict[str, float]:
    return numbers(json.loads((folder / "summary.json").read_text()))


def test_a_run_whose_node_is_taken_away_goes_on_bit_for_bit(begun: Begun, typed: Typed, undrawn: None) -> None:
    assert begun.cluster.ends(begun.taken) == "COMPLETED"
    assert begun.status("taken")["status"] == "finished"
    assert "stopped by SIGTERM; a checkpoint is kept" in begun.said(begun.taken)
    assert begun.said(begun.taken).count("resumed ") == 1
    assert begun.epochs("taken") == list(range(40))
    (run,) = (path.parent for path in begun.folder.glob("taken/*/summary.json"))
    assert summary(run) == whole(typed, *LONG)


def test_a_run_on_two_nodes_whose_time_is_up_queues_itself_again_and_goes_on(
    begun: Begun, typed: Typed, undrawn: None
) -> None:
    assert begun.cluster.ends(begun.ddp) == "COMPLETED"
    assert begun.status("ddp")["status"] == "finished"
    assert "stopped by SIGUSR1; a checkpoint is kept" in begun.said(begun.ddp)
    assert begun.said(begun.ddp).count("resumed ") == 1
    assert begun.epochs("ddp") == list(range(40))
    mirrors = [path.name for path in (begun.folder / "ddp" / "wandb").glob("offline-run-*")]
    assert len(mirrors) == 2
    assert {name.rpartition("-")[2] for name in mirrors} == {begun.status("ddp")["id"]}
    (run,) = (path.parent for path in begun.folder.glob("ddp/*/summary.json"))
    assert summary(run) == pytest.approx(whole(typed, *LONG), rel=1e-3)


def list_means(out: str) -> list[list[str]]:
    """The first two columns of the table of means: its heading, and its rows by name."""
    (table,) = (block.splitlines() for block in out.split("\n\n") if block.lstrip().startswith("loss  runs"))
    heading, *rows = (line.split()[:2] for line in table if not line.startswith(("summary.json", " ")))
    return [heading, *sorted(rows)]


def test_a_sweep_is_an_array_of_jobs_with_the_numbers_of_runs_here(begun: Begun, typed: Typed, undrawn: None) -> None:
    out, err = begun.sweep.communicate()
    assert begun.sweep.returncode == 0, err
    runs = sorted(path.parent for path in begun.folder.glob("outputs/*/summary.json"))
    assert len(runs) == 4
    assert list_means(out) == [["loss", "runs"], ["mae", "2"], ["mse", "2"]]
    for run in runs:
        status = json.loads((run / "status.json").read_text())
        assert status["status"] == "finished"
        choice = [text for text in status["overrides"] if text.startswith(("loss=", "seed="))]
        assert summary(run) == whole(typed, *choice, *SHORT)
    (array,) = begun.folder.glob("outputs/multirun/jobs/*_0")
    number = array.name.removesuffix("_0")
    assert at_most(begun.cluster, number) == 2, "hydra.launcher.array_parallelism=2"
    script = (array.parent / number / f"{number}_submission.sh").read_text()
    assert "#SBATCH --signal=USR1@120\n" in script
    assert "#SBATCH --requeue\n" in script


def test_a_job_takes_a_stack_whose_runs_have_the_numbers_of_runs_here(
    begun: Begun, typed: Typed, undrawn: None
) -> None:
    out, err = begun.stacks.communicate()
    assert begun.stacks.returncode == 0, err
    runs = sorted(path.parent for path in begun.folder.glob("stacked/*/summary.json"))
    assert len(runs) == 4
    assert list_means(out) == [["loss", "runs"], ["mae", "2"], ["mse", "2"]]
    assert len(list(begun.folder.glob("stacked/multirun/jobs/*_[0-9]"))) == 2, "an array of two jobs"
    for run in runs:
        status = json.loads((run / "status.json").read_text())
        assert (status["status"], status["facts"]["stacked"]) == ("finished", 2)
        choice = [text for text in status["overrides"] if text.startswith(("loss=", "seed="))]
        alone = whole(typed, *choice, *SHORT, "trainer.precision=64-true")
        assert summary(run) == pytest.approx(alone, rel=1e-9, abs=1e-12)


def at_most(cluster: Cluster, array: str) -> int:
    """How many jobs of an array were running at a time."""
    found = cluster.run("sacct", "-X", "-n", "-P", "-j", array, "-o", "Start,End").split()
    spans = [line.split("|") for line in found]
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)


def test_workers_on_two_nodes_share_a_sweep(begun: Begun) -> None:
    assert begun.cluster.ends(begun.shared) == "COMPLETED"
    claims = [json.loads(file.read_text()) for file in begun.folder.glob("outputs/sweeps/short/jobs/*.[0-9]")]
    assert len(claims) == 4, "each run was claimed once"
    assert {claim["host"].split()[0] for claim in claims} == {"n1", "n2"}
    for status in begun.folder.glob("outputs/sweeps/short/runs/*/status.json"):
        assert json.loads(status.read_text())["status"] == "finished"
    assert len(list(begun.folder.glob("outputs/sweeps/short/runs/*/summary.json"))) == 4
