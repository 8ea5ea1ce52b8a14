"""The command as a user types it: in a process and a folder of its own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import yaml

import losslab
from losslab import multirun
from losslab.config.catalogue import CONF, options
from tests.conftest import ROOT, Command, until
from tests.processes import Fork, python, ran

QUIET = "logger=false"
SHORT = (QUIET, "data=diabetes", "trainer.max_epochs=2")


@pytest.mark.parametrize(
    "typed",
    [
        "loss=maee",
        "optimizer.lrr=1",
        "lr=1",
        "loss=cross_entropy",
        "optimizer.lr=-1",
        "data=csv data.path=none.csv data.target=y",
        "+model.depth=3",
        "trainer=gpu",
    ],
)
def test_a_mistake_is_one_sentence_exit_code_1_and_nothing_written(
    command: Command, tmp_path: Path, typed: str
) -> None:
    import torch

    if typed == "trainer=gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    done = command(*typed.split(), QUIET)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("losslab: ")
    assert done.stderr.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_help_is_the_catalogue(command: Command) -> None:
    done = command("--help")
    assert done.returncode == 0
    for group in sorted(
        {folder.name for folder in CONF.iterdir() if folder.is_dir()} - {"hydra"}
    ):  # Hydra hides its own
        line = next(line for line in done.stdout.splitlines() if line.startswith(f"{group}: "))
        assert line.split(": ")[1].split(", ") == sorted(options([str(CONF)], group))


@pytest.mark.system
def test_what_a_person_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a first start, when Matplotlib has seen no fonts yet."""
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path / "matplotlib"))
    words = ["data=diabetes", "trainer.max_epochs=2", "loss=huber"]
    fresh = [sys.executable, str(ROOT / "train.py"), *words]
    done = subprocess.run(fresh, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stderr == "", "a warning that a user can do nothing about"
    assert done.stdout.startswith("task "), "nothing is said before the run"
    lines = done.stdout.splitlines()
    head = {line.split()[0]: line for line in lines[:6]}
    assert "309 train, 67 val, 66 test" in head["data"] or "310 train, 66 val, 66 test" in head["data"]
    assert "mlp" in head["model"]
    assert "loss huber, optimizer adam, lr 0.001" in head["training"]
    assert head["W&B"].endswith("offline; to upload it type")
    assert "`wandb sync outputs/wandb/offline-run-" in done.stdout
    assert any(line.split()[:1] == ["rmse"] for line in lines)
    folder = tmp_path / lines[-1]
    assert (folder / "summary.json").is_file()


@pytest.mark.system
def test_a_sweep_runs_every_job_past_a_failure_and_says_which_failed(command: Command, tmp_path: Path) -> None:
    done = command("-m", *SHORT, "model=linear", "optimizer.lr=0.01,1e200", "loss=mse,[mae,huber]", "seed=0,1")
    assert done.returncode == 1
    found = {file.parent: json.loads(file.read_text())["status"] for file in tmp_path.glob("outputs/*/status.json")}
    assert sorted(found.values()) == ["failed"] * 4 + ["finished"] * 4
    finished = [folder / "config.yaml" for folder, status in found.items() if status == "finished"]
    configs = [yaml.safe_load(file.read_text()) for file in finished]
    assert sorted((config["loss"], config["seed"]) for config in configs) == [
        ("mae+huber", 0),
        ("mae+huber", 1),
        ("mse", 0),
        ("mse", 1),
    ]
    heading, mse, both = done.stdout.split("\n\n")[-2].splitlines()[:3]
    assert heading.split()[:3] == ["loss", "runs", "test/rmse"], "the runs side by side"
    assert {line.split()[0] for line in (mse, both)} == {"mse", "mae+huber"}
    assert done.stderr.count("with learning rate 1e+200: try optimizer.lr=1e+199") == 5, "each job's, and the end's"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("seed=0,1 optimizer.lr=-1,1", "optimizer.lr=-1 does not fit: it must be a number above 0"),
        ("seed=range(0)", "the values that are typed name no run: type at least one"),
        ("loss=mse,cross_entropy,[mae,huber]", "loss=cross_entropy wants logits and index targets"),
        ("loss=[mse,maee],mae", "loss=maee is not an option; nearest: mae"),
        ("loss=mse optimizer=adam,1", "optimizer=1 is not an option"),
    ],
)
def test_a_mistake_in_any_job_is_told_once_before_any_is_trained(
    command: Command, tmp_path: Path, typed: str, sentence: str
) -> None:
    done = command("-m", *SHORT, *typed.split())
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(f"losslab: {sentence}.*\n", done.stderr)
    assert not list(tmp_path.glob("outputs"))


@pytest.mark.parametrize(
    ("before", "after", "left"),
    [
        ([], ["multirun/multirun.yaml"], []),
        (["old/status.json"], ["multirun/multirun.yaml"], ["old"]),
        ([], ["multirun/multirun.yaml", "new/status.json"], ["multirun", "new"]),
        ([], ["multirun/multirun.yaml", "multirun/jobs/1"], ["multirun"]),
        ([], ["elsewhere/multirun.yaml"], []),
        (["old/status.json"], ["elsewhere/multirun.yaml"], ["old"]),
    ],
)
def test_a_multirun_of_which_no_run_began_leaves_nothing(
    tmp_path: Path, before: list[str], after: list[str], left: list[str]
) -> None:
    def make(files: list[str]) -> None:
        for file in files:
            (tmp_path / "o" / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "o" / file).touch()

    make(before)
    typed = [f"hydra.sweep.dir={tmp_path}/o/elsewhere"] if after[0].startswith("elsewhere") else []
    with multirun.cleared(["-m", f"output_dir={tmp_path}/o", "seed=0,1", *typed]):
        make(after)
    assert sorted(file.name for file in tmp_path.glob("o/*")) == left
    assert (tmp_path / "o").exists() == bool(left)


def started(typed: list[str], folder: Path, file: str) -> Fork:
    """Start a run and wait until a file of its folder is there."""
    fork = Fork(python(str(ROOT / "train.py"), *typed), folder)
    until(lambda: list(folder.glob(f"outputs/*/{file}")) or fork.poll() is not None)
    assert fork.returncode is None, fork.said()
    return fork


@pytest.mark.system
@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_keeps_its_checkpoint_and_says_how_to_go_on(
    tmp_path: Path, sent: signal.Signals, code: int
) -> None:
    process = started(["task=single_label", "trainer.max_epochs=100000"], tmp_path, "last.ckpt")
    process.send_signal(sent)
    _, said = process.communicate()
    assert process.returncode == code
    (folder,) = tmp_path.glob("outputs/digits-*")
    by_hand, by_itself = f"train.py ckpt={folder.relative_to(tmp_path)}/last.ckpt`", "the same command goes on"
    assert (by_hand if sent == signal.SIGINT else by_itself) in said
    assert "Traceback" not in said
    status = json.loads((folder / "status.json").read_text())
    told = {signal.SIGINT: ("interrupted", "Ctrl-C"), signal.SIGTERM: ("preempted", "SIGTERM")}
    assert (status["status"], status["reason"]) == told[sent]
    (mirror,) = tmp_path.glob("outputs/wandb/offline-run-*/*.wandb")
    seen = ran("-m", "wandb", "leet", "inspect", "--json", "--summary", str(mirror), folder=tmp_path)
    assert json.loads(seen.stdout)["exit_code"] == 1


@pytest.mark.system
def test_a_killed_run_leaves_every_epoch_that_was_over(tmp_path: Path) -> None:
    process = started([QUIET, "task=single_label", "trainer.max_epochs=100000"], tmp_path, "last.ckpt")
    time.sleep(0.5)
    process.kill()
    process.communicate()
    (folder,) = tmp_path.glob("outputs/digits-*")
    rows = (folder / "history.csv").read_text().splitlines()
    assert all(len(row.split(",")) == len(rows[0].split(",")) for row in rows)
    assert json.loads((folder / "status.json").read_text())["status"] == "running"
    assert yaml.safe_load((folder / "config.yaml").read_text())["data"] == "digits"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the tree and unpacked."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    ignored = shutil.ignore_patterns(".git", ".*_cache", "outputs", "dist", ".venv", "__pycache__")
    shutil.copytree(ROOT, source, ignore=ignored)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    subprocess.run(build, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as packed:
        packed.extractall(folder / "site")
    return folder / "site"


@pytest.mark.system
def test_the_wheel_holds_the_package_with_its_catalogue_and_nothing_else(wheel: Path) -> None:
    assert sorted(path.name for path in wheel.iterdir()) == ["hydra_plugins", "losslab", "losslab-0.1.0.dist-info"]
    launchers = sorted((wheel / "hydra_plugins").iterdir())  # no __init__.py: others have theirs beside it
    assert [launcher.name for launcher in launchers] == ["losslab_ray.py", "losslab_stacked.py"]
    shipped = {
        str(path.relative_to(wheel / "losslab" / "conf")) for path in (wheel / "losslab" / "conf").rglob("*.yaml")
    }
    assert shipped == {str(path.relative_to(CONF)) for path in CONF.rglob("*.yaml")}
    assert (wheel / "losslab" / "data" / "files" / "diamonds.csv.gz").is_file()


@pytest.mark.system
def test_a_release_is_what_an_index_takes(tmp_path: Path) -> None:
    pytest.importorskip("twine")
    pytest.importorskip("check_wheel_contents")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        check=True,
        capture_output=True,
    )
    wheel, source = sorted(map(str, tmp_path.iterdir()), key=lambda name: name.endswith(".gz"))
    assert f"-{losslab.__version__}" in wheel
    assert source.endswith(f"-{losslab.__version__}.tar.gz")
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    kept = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not {name for name in kept if (ROOT / name).exists()} - held, "its tests read these"
    for tool in (["twine", "check", "--strict", wheel, source], ["check_wheel_contents", wheel]):
        done = subprocess.run([sys.executable, "-m", *tool], cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.system
def test_the_wheel_trains_in_another_folder_with_the_users_own_options(wheel: Path, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).parent / "mine.py", tmp_path)
    for file, text in {
        "loss/mine.yaml": "_target_: mine.Quartic\ninput: prediction\ntarget: dense\n",
        "model/mine.yaml": "_target_: mine.tiny\n_partial_: true\ntakes: [vector]\n",
        "data/mine.yaml": (
            "_target_: losslab.data.dataset.arrays\nread: {_target_: mine.waves, _partial_: true}\ntask: regression\n"
            "gives: [vector]\nval: 0.1\ntest: 0.1\nseed: ${seed}\nbatch_size: 16\n"
        ),
    }.items():
        (tmp_path / "my_conf" / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "my_conf" / file).write_text(text)
    program = "import sys; sys.argv[0] = 'losslab-train'; from losslab.app import main; main()"
    own = ["loss=mine", "data=mine", "model=mine", "allow=mine"]
    typed = ["--config-dir", "my_conf", *own, "optimizer.lr=0.01", QUIET]

    def run(*more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-P", "-c", program, *typed, *more],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(wheel)},
            capture_output=True,
            text=True,
            check=False,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    folder = tmp_path / done.stdout.splitlines()[-1]
    assert folder.name.startswith("mine-mine-mine-adam-s0-")
    assert json.loads((folder / "summary.json").read_text())["test/r2"] > 0.95
    wrong = run("loss=min")
    assert wrong.returncode == 1
