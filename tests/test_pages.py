"""Every command of a page does what the page says: run in the page's order, in one folder, and small.

What a page leaves to its reader (a table, a folder of images, the name of a run) is filled in here. `ELSEWHERE` says
which tests run the others, and `READ` which are only read: what needs containers, a cluster or a package index.
"""

import glob
import gzip
import re
import shlex
import subprocess
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pandas as pd
import pytest
import yaml

from losslab.config.check import configure
from tests.conftest import ROOT
from tests.data.pictures import pack, pictures
from tests.loopback import Loopback, agent, environment
from tests.pages import BLOCKS
from tests.processes import Fork, ran, unplotted

ELSEWHERE = {  # how a command begins: the file that types it, or does the same, and the words for it there
    "pytest": (".ci/run", "pytest -m system"),
    "python3 -m venv .venv && . .venv/bin/activate && pip install -e '.[dev]'": (".ci/run", 'bash -c "$install"'),
    "ruff format . && ruff check . && mypy": (".ci/run", "ruff format --check ."),
    "python -m docs.gallery": ("tests/test_gallery.py", "gallery.main(pages)"),
    "zensical build --strict": ("tests/test_gallery.py", '"zensical", "build", "--strict"'),
    "python -m build": ("tests/test_command.py", '"-m", "build"'),
    "twine check --strict dist/*": ("tests/test_command.py", '"twine", "check", "--strict"'),
    "check-wheel-contents dist/*.whl": ("tests/test_command.py", '"check_wheel_contents"'),
    "ray start --head": ("tests/cluster/nodes.py", '"--head", f"--port={port}"'),
    "ray start --address=HEAD:6379": ("tests/cluster/nodes.py", 'f"--address={self.address}"'),
    "losslab sweep sweeps/loss_x_optimizer.yaml engine=ray": ("tests/cluster/test_cluster.py", '"engine=ray", f"addr'),
    "losslab -m hydra/launcher=ray": ("tests/cluster/test_cluster.py", '"hydra/launcher=ray", f"hydra.launcher.addr'),
}
READ = ("docker ", "kubectl ", "pip install ", "python3 -m venv ")
TEXTS: dict[str, list[str]] = {}
for block in BLOCKS:
    if block.kind == "bash":
        TEXTS.setdefault(block.page, []).extend(block.text.strip().splitlines())
RUN = {page: [line for line in lines if not line.startswith((*ELSEWHERE, *READ))] for page, lines in TEXTS.items()}
FIRST = [shlex.split(line, comments=True) for line in RUN["README.md"]]
for page in ("run.md", "sweeps.md"):  # nothing there follows from what README.md has, too
    RUN[page] = [line for line in RUN[page] if shlex.split(line, comments=True) not in FIRST]
WITHOUT_GPU = "needs an NVIDIA or AMD GPU"  # of the one command that does


def test_every_other_command_is_run_elsewhere_or_can_be_read() -> None:
    for start, (file, words) in ELSEWHERE.items():
        assert any(line.startswith(start) for lines in TEXTS.values() for line in lines), f"{start} is on no page"
        assert words in (ROOT / file).read_text(encoding="utf-8"), f"{file} does not type {start}"
    for line in (line for page, lines in TEXTS.items() for line in lines if line not in RUN[page]):
        assert subprocess.run(["bash", "-nc", line], check=False).returncode == 0, line
        for word in shlex.split(line, comments=True):
            assert not re.fullmatch(r"(cluster|sweeps|docker)/\S+", word) or (ROOT / word).is_file(), line
        if run := re.search(r"^docker run .* losslab (\w+=.*)", line):
            configure(run[1].split())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone's folder, with what the pages say that a reader has, and with weights as if they had been downloaded."""
    for name in ("train.py", "docs"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "sweeps").mkdir()
    sweep = yaml.safe_load((ROOT / "sweeps" / "loss_x_optimizer.yaml").read_text())
    for asked in sweep["parameters"].values():
        asked.update({key: values[-2:] for key, values in asked.items() if key == "values"})
    sweep["parameters"]["trainer.max_epochs"] = {"value": 1}
    (tmp_path / "sweeps" / "loss_x_optimizer.yaml").write_text(yaml.safe_dump(sweep, default_flow_style=None))
    table = gzip.decompress((ROOT / "src/losslab/data/files/diamonds.csv.gz").read_bytes()).decode().splitlines()
    (tmp_path / "my.csv").write_text("\n".join(table[:201]))
    (tmp_path / "new.csv").write_text("\n".join([table[0], *table[-20:]]))
    genres = [("Comedy", "Drama", "Comedy|Drama")[number % 3] for number in range(40)]
    labels = pd.DataFrame({"file": pictures(tmp_path / "images", 40), "genre": genres})
    labels.to_csv(tmp_path / "images" / "genres.csv", index=False)
    pack(tmp_path / "packed" / "MNIST" / "raw")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("LOSSLAB_DATA", str(tmp_path / "data"))
    return tmp_path


def write_own_files(page: str, folder: Path) -> None:
    """Write the files that a page shows, each under the name in its first line."""
    for block in BLOCKS:
        name, _, rest = block.text.partition("\n")
        if block.page == page and block.kind in ("python", "yaml") and name.startswith("# "):
            file = folder / name.removeprefix("# ")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(rest)


def download_weights(folder: Path) -> None:
    """Put weights of no use where torchvision keeps those that it has downloaded."""
    import torch
    from torchvision.models import ResNet50_Weights, resnet50

    file = folder / "torch" / "hub" / "checkpoints" / ResNet50_Weights.DEFAULT.url.rpartition("/")[2]
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(resnet50().state_dict(), file)


def find_run(line: str, folder: Path) -> str:
    """Return the folder of the smallest run of this page whose data new rows are like."""
    images = line.count("FOLDER") or ("out=model.onnx" in line and any(folder.glob("outputs/images-*")))
    runs = [file.parent for file in folder.glob("outputs/*/best.ckpt")]
    fitting = [run for run in runs if run.name.startswith("images" if images else ("diamonds", "csv"))]
    return min(fitting, key=lambda run: (run / "best.ckpt").stat().st_size).name


def fill_in(line: str, folder: Path, logger: bool = False) -> list[str]:
    """Return the words of a command, with what a page leaves open, and smaller."""
    if "RUN/" in line:
        line = line.replace("RUN/", f"{find_run(line, folder)}/")
    line = line.replace("data.root=FOLDER", "data.root=packed").replace("FOLDER", "images").replace("ENTITY", "lab")
    words = shlex.split(line.replace("SWEEP", "sweep0"), comments=True)
    words = [name for word in words for name in sorted(glob.glob(word, root_dir=folder)) or [word]]  # noqa: PTH207
    kind = words[1] if words[0] == "losslab" and "=" not in words[1] else ""
    if words[0] == "wandb" or kind in ("compare", "predict", "export", "card", "paths") or words[1:2] == ["--help"]:
        return words
    small = ["trainer.max_epochs=1"]
    small += [] if logger else ["logger=false"]
    small += ["data.size=[32,32]", "data.workers=0"] if "data=images" in line else []
    if kind in ("race", "sweep"):
        small.append("n=0")
    if kind == "race":
        fewer = {"loss=glob(*)": "loss=glob(b*)", "model=resnet18": "model=cnn"}
        words = [fewer.get(word, word) for word in words if not word.startswith(("tune=", "budget="))]
        small += ["tune=0", "budget=1"]
        small += (
            ["data.buckets=64", "data.batch_size=2048", "data.val=0.05", "data.test=0.05"] if "glob" in line else []
        )
    return [*words, *small]


def run_line(words: list[str], folder: Path, env: dict[str, str] | None) -> "CompletedProcess[str]":
    """Run a command as a reader's shell would, in a process that has imported everything; agents ask more often."""
    if words[:2] == ["wandb", "agent"]:
        fork = Fork(partial(agent, words[2].rpartition("/")[2]), folder, env)
        return CompletedProcess(words, fork.wait(), *fork.said())
    if words[0] == "python":
        return ran(*words[1:], folder=folder, env=env, by=unplotted)
    done = ran("-m", *words, folder=folder, env=env, by=unplotted)
    if words[:2] == ["losslab", "race"] and (least := re.search(r"type budget=(\d+) or more", done.stderr)):
        enough = [f"budget={least[1]}" if word == "budget=1" else word for word in words]
        done = ran("-m", *enough, folder=folder, env=env, by=unplotted)
    return done


@pytest.mark.system
@pytest.mark.filterwarnings("ignore:Read the `app_url` setting:DeprecationWarning")
@pytest.mark.parametrize("page", [page for page, lines in RUN.items() if lines])
def test_the_commands_of_a_page_run_one_after_the_other(page: str, home: Path) -> None:
    write_own_files(page, home)
    if "model.weights" in "".join(RUN[page]):
        download_weights(home)
    logger = "wandb" in page
    if logger:  # each run of an agent is a process that has imported nothing yet
        file = home / "sweeps" / "loss_x_optimizer.yaml"
        file.write_text(re.sub(r"values: \[.*, (\w+)\]", r"value: \1", file.read_text()))
    with Loopback() as server:
        env = environment(server, home) if logger else None
        for line in [*(["losslab loss=mae"] if logger else []), *RUN[page]]:  # it begins with a run that there is
            words = fill_in(line, home, logger)
            done = run_line(words, home, env)
            said = done.stdout + done.stderr
            if "trainer=ddp" in words and WITHOUT_GPU in done.stderr:
                continue
            assert done.returncode == 0, f"{line}\n{shlex.join(words)}\n{said[-3000:]}"
            assert not re.search("Warning|Traceback", said), f"{line}\n{said[-3000:]}"
            for out in (word.removeprefix("out=") for word in words if word.startswith("out=")):
                assert (home / out).stat().st_size, line
    if page == "extending.md":
        columns = {name for file in home.glob("outputs/*/history.csv") for name in pd.read_csv(file)}
        assert columns >= {"val/top3", "weight_norm"}
