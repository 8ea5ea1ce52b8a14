"""The current folder, such as a download that one looks into, runs nothing by itself: in fresh processes, as typed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from losslab.config import targets
from losslab.config.check import configure
from losslab.config.targets import AllowedPackages
from losslab.errors import Refused
from tests.conftest import ROOT

LOSSLAB = Path(sys.executable).with_name("losslab")
OPTIONAL = (  # that torch, pandas, W&B and their like import if they are there
    *(
        "bottleneck",
        "cupy",
        "dill",
        "faker",
        "gevent",
        "h5py",
        "IPython",
        "ipywidgets",
        "jax",
        "joblib",
        "lxml",
        "mpi4py",
    ),
    *("numba", "numexpr", "nvidia_smi", "onnx", "opt_einsum", "orjson", "psutil", "pyarrow", "pynvml", "redis", "rich"),
    *("simplejson", "soundfile", "tables", "tensorboard", "tensorflow", "transformers", "triton", "ujson", "xformers"),
)


@pytest.fixture
def poisoned(tmp_path: Path) -> tuple[Path, Path]:
    """A folder in which every module of Python's and many others have a namesake; and what these write if they run."""
    folder, burst = tmp_path / "download", tmp_path / "burst"
    (folder / "hydra_plugins").mkdir(parents=True)
    for name in (*sys.stdlib_module_names, *OPTIONAL, "hydra_plugins/evil", "sitecustomize", "conftest"):
        (folder / f"{name}.py").write_text(f"open({str(burst)!r}, 'a').write({name!r} + chr(10))\n")
    (folder / "my_losses.py").write_text((ROOT / "tests" / "mine.py").read_text())
    (folder / "conf" / "loss").mkdir(parents=True)
    (folder / "conf" / "loss" / "mine.yaml").write_text(
        "_target_: my_losses.Quartic\ninput: prediction\ntarget: dense\n"
    )
    (folder / "sweep.yaml").write_text(
        "method: grid\nmetric: {name: val/rmse, goal: minimize}\nparameters:\n"
        "  data: {value: heights}\n  model: {value: linear}\n  trainer.max_epochs: {value: 1}\n"
        "  loss: {values: [mse, mae]}\n"
    )
    return folder, burst


def typed(folder: Path, *words: str, program: tuple[str, ...] = (str(LOSSLAB),)) -> "subprocess.CompletedProcess[str]":
    """What the installed command prints in a folder."""
    env = {key: value for key, value in os.environ.items() if key not in ("PYTHONSAFEPATH", "PYTHONPATH")}
    env["WANDB_MODE"] = "offline"
    return subprocess.run(
        [*program, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.mark.skipif(not LOSSLAB.exists(), reason="losslab is not installed beside this Python")
@pytest.mark.system
def test_what_lies_in_the_current_folder_is_not_imported(poisoned: tuple[Path, Path]) -> None:
    folder, burst = poisoned
    done = typed(folder, "loss=maee")
    assert done.stderr == "losslab: loss=maee is not an option; nearest: mae, mape, smape\n"
    assert typed(folder, "--help").returncode == 0
    swept = typed(folder, "sweep", "sweep.yaml", "n=1", "logger=wandb")
    assert swept.returncode == 0, swept.stdout + swept.stderr
    assert typed(folder, "compare", "outputs").returncode == 0
    words = ("data=heights", "model=linear", "trainer.max_epochs=1", "loss=mine")
    refused = typed(folder, "--config-dir", "conf", *words)
    assert "loss._target_=my_losses.Quartic is code that options may not name" in refused.stderr
    assert not burst.exists(), burst.read_text()
    done = typed(folder, "--config-dir", "conf", *words, "allow=my_losses")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("program", [(sys.executable, str(ROOT / "train.py")), (sys.executable, "-m", "losslab.card")])
def test_nor_is_it_by_the_other_commands(program: tuple[str, ...], tmp_path: Path) -> None:
    """`python -m` looks into the folder for what Python itself imports first; nothing of ours does."""
    for name in (*OPTIONAL, "statistics", "secrets", "csv", "difflib", "hydra", "yaml", "omegaconf"):
        (tmp_path / f"{name}.py").write_text(f"open('burst', 'a').write({name!r} + chr(10))\n")
    words = ("loss=maee",)
    assert "loss=maee is not an option" in typed(tmp_path, *words, program=program).stderr
    assert not (tmp_path / "burst").exists()


def test_a_package_that_is_allowed_finds_its_helpers_and_shadows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "package_of_mine.py").write_text("import helper_of_mine, statistics\nnumber = helper_of_mine.number\n")
    (tmp_path / "helper_of_mine.py").write_text("number = 3\n")
    (tmp_path / "statistics.py").write_text("raise SystemExit('shadowed')\n")
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    here = AllowedPackages(tmp_path)
    monkeypatch.setattr(targets, "package_finder", here)
    with pytest.raises(ImportError):
        __import__("package_of_mine")
    here.load(["package_of_mine"])
    assert sys.modules["package_of_mine"].number == 3
    assert here.find_spec("helper_of_mine", None) is None, "it counts while the package is imported"
    assert here.find_spec("package_of_mine", None) is not None
    (tmp_path / "broken_one.py").write_text("1 / 0\n")
    with pytest.raises(Refused, match=r"broken_one in .* cannot be imported \(ZeroDivisionError"):
        here.load(["broken_one"])


def test_a_setting_that_is_allowed_is_no_package_that_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "logger.py").write_text("raise SystemExit('it ran')\n")
    monkeypatch.setattr(targets, "package_finder", AllowedPackages(tmp_path))
    for target in ("logger.Evil", "setting.Evil", "setting:logger.Evil"):
        with pytest.raises(Refused, match=r"is code that options may not name|names no code"):
            configure([f"loss._target_='{target}'", "allow=[setting:logger]"])
