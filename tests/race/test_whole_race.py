"""A race with real trainings: killed five times and started again, it does no run twice and changes no decision."""

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.processes import Fork, python

WORDS = ["task=single_label", "loss=cross_entropy,mse,mae", "optimizer=sgd", "difference=5", "tune=3", "n=2"]
QUICK = ["trainer.max_epochs=3", "data.batch_size=256", "logger=false", "trainer.enable_progress_bar=false"]


def race(folder: Path) -> Fork:
    """`losslab race`, whose workers are real starts."""
    return Fork(python("-m", "losslab.race", *WORDS, *QUICK), folder)


def ended(process: Fork) -> str:
    """What a race prints that ends well."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.mark.system
@pytest.mark.skipif(os.name == "nt", reason="Windows has no SIGKILL; tests/race/test_driver.py ends races there")
def test_killed_three_times_and_started_again(tmp_path: Path) -> None:
    rng, file = np.random.default_rng(0), tmp_path / "outputs/races/race/race.json"
    for _ in range(3):
        process = race(tmp_path)
        with suppress(subprocess.TimeoutExpired):
            process.wait(float(rng.uniform(1, 10)))
        with_looks = file.read_text() if file.is_file() else "{}"
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL if rng.random() < 0.7 else signal.SIGTERM)
        process.wait(120)
        after = json.loads(file.read_text()) if file.is_file() else {}
        before = json.loads(with_looks)
        assert after.get("looks", [])[: len(before.get("looks", []))] == before.get("looks", [])
    done = ended(race(tmp_path))
    assert "Use " in done
    found = json.loads(file.read_text())
    runs = [json.loads(run.read_text())["status"] for run in file.parent.glob("runs/*/status.json")]
    records = [json.loads(record.read_text()) for record in file.parent.glob("jobs/*.json")]
    assert set(runs) == {"finished"}
    assert len(runs) == sum(len(record["runs"]) for record in records)
    assert {found["leader"], *found["same"], *found["beaten"]} == {"cross_entropy", "mse", "mae"}
    again = ended(race(tmp_path))
    assert json.loads(file.read_text())["looks"] == found["looks"]
    assert again[again.index("Use ") :] == done[done.index("Use ") :]
