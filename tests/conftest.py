"""What the tests share: short runs in a folder of their own, and the front door as a user meets it."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run on all cores already; set before torch is imported
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # or each process that a test starts compiles losslab anew

import gc
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from omegaconf import DictConfig

from losslab.config.check import configure
from losslab.machine import cores

sys.dont_write_bytecode = False  # or pytest rewrites the asserts of all tests each time
settings.register_profile("losslab", deadline=None, derandomize=True)  # the same inputs on every machine, fast or slow
settings.load_profile("losslab")

ROOT = Path(__file__).parents[1]
Typed = Callable[..., DictConfig]
Command = Callable[..., "subprocess.CompletedProcess[str]"]


collect_ignore = ["without_posix"]  # doctest would import it, and take from these tests what Windows lacks
LONG = (
    *("test_slurm", "test_cluster", "test_wandb", "test_sweep", "test_command", "test_experiments"),
    *("test_gpu_benchmark", "test_study", "is_printed", "test_gallery"),
)


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int | None:
    """Start one process more for tests that wait for others, which would leave a core idle for a fifth of the time."""
    return cores() + 1 if config.getoption("markexpr") == "system" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests that wait for processes come first, so that no core is idle while the last of them ends."""
    if named := [item.nodeid for item in items if " at 0x" in item.nodeid]:
        raise pytest.UsageError(f"{named[0]} is another name in each worker: take `ids=str` away")
    items.sort(key=lambda item: next((i for i, name in enumerate(LONG) if name in item.nodeid), len(LONG)))


def pytest_collection_finish() -> None:
    """Let garbage collections skip what was imported, a million objects, which each full one looked through."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    """Let Python's end clear what was imported, which libraries in C++ wait for."""
    gc.unfreeze()


def some_now(values: Iterable[Any], now: Sequence[Any]) -> list[Any]:
    """What a test is run with: some of it at once, all else under `pytest -m system`."""
    values = list(values)
    assert set(now) <= set(values), "a name that is gone would leave less to run at once"
    each = [(value if isinstance(value, tuple) else (value,), value in now) for value in values]
    return [pytest.param(*parts, marks=() if at_once else pytest.mark.system) for parts, at_once in each]


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test may reach a W&B server."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for name in ("WANDB_DATA_DIR", "WANDB_SERVICE"):  # left by a W&B run of this process, for processes that it starts
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    """Compose what is typed, quietly, into the test's folder."""

    def compose(*overrides: str) -> DictConfig:
        quiet = ["logger=false", "trainer.enable_progress_bar=false", f"output_dir={tmp_path / 'outputs'}"]
        named = {text.split("=")[0] for text in overrides}
        return configure([*(text for text in quiet if text.split("=")[0] not in named), *overrides])

    return compose


@contextmanager
def without_pictures() -> Iterator[None]:
    """Runs draw none, which takes half the time of a short run; other tests look at those."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("losslab.record.record.Record.keep_pictures", lambda *_: None)
        patch.setattr("losslab.page.pictures.draw_run", lambda *_: {})
        yield


@pytest.fixture
def undrawn() -> Iterator[None]:
    """A test whose runs draw no pictures."""
    with without_pictures():
        yield


def folder_of(cfg: DictConfig) -> Path:
    """The folder of the latest run of a configuration."""
    from losslab.record.folder import run_name

    if cfg.ckpt and (Path(cfg.ckpt).parent / "status.json").is_file():
        return Path(cfg.ckpt).parent
    folders = Path(cfg.output_dir).glob(f"{run_name(cfg)}*")
    return max(folders, key=lambda folder: (len(folder.name), folder.name))  # NAME, NAME-2, ... NAME-10


def cut_off(cfg: DictConfig, epoch: int) -> Path:
    """A run that breaks off as this epoch begins, and the checkpoint that it leaves."""
    from losslab.train import train
    from losslab.training.module import Experiment

    class CutOff(Exception):
        pass

    def stop(self: Experiment) -> None:
        if self.current_epoch == epoch:
            raise CutOff
        start(self)

    start = Experiment.on_train_epoch_start
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Experiment, "on_train_epoch_start", stop)
        with pytest.raises(CutOff):
            train(cfg)
    return folder_of(cfg) / "last.ckpt"


def until(true: Callable[[], object]) -> None:
    """Wait until something is true; whatever takes ten minutes hangs."""
    deadline = time.monotonic() + 600
    while not true():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def numbers(summary: Mapping[str, float]) -> dict[str, float]:
    """A summary without what the clock and the machine decide."""
    return {key: value for key, value in summary.items() if key not in ("examples_per_second", "peak_memory_mb")}


def same_rows(one: Path, other: Path) -> None:
    """Assert that two runs said the same of the same rows."""
    from losslab.record.row_scores import read_row_scores

    mine, yours = read_row_scores(one), read_row_scores(other)
    assert mine.keys() == yours.keys() == {"test", "val"}
    for part, rows in mine.items():
        for name, values in vars(rows).items():
            if values is None:  # weights, where there are none
                assert getattr(yours[part], name) is None
                continue
            np.testing.assert_allclose(values, getattr(yours[part], name), rtol=1e-6, atol=1e-6, err_msg=name)


@pytest.fixture
def command(tmp_path: Path) -> Command:
    """`python train.py …` in a process and a folder of its own, which has imported everything already."""
    from tests.processes import PATIENCE, ran

    def run(*typed: str, timeout: float = PATIENCE) -> "subprocess.CompletedProcess[str]":
        env = {**os.environ, "WANDB_MODE": "offline"}
        return ran(str(ROOT / "train.py"), *typed, folder=tmp_path, env=env, timeout=timeout)

    return run


@pytest.fixture(autouse=True)
def _none_left() -> Iterator[None]:
    """What a test has started and not waited for ends with it, so that a failure leaves no process behind."""
    yield
    if forks := sys.modules.get("tests.processes"):
        for fork in list(forks.left):
            fork.kill()
            fork.wait()
