"""A draw reads what is new in Optuna's journal, however many trials there are, and other processes' trials with it."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from optuna.storages.journal import JournalFileBackend

from losslab.sweep import search
from losslab.sweep.ledger import Ledger
from losslab.sweep.plan import Job, Plan

RATE = {"min": 1e-5, "max": 1.0, "step": None, "whole": False, "log": True}
PLAN = Plan("s", "random", {}, {}, {"optimizer.lr": RATE}, {"seed": [0]}, trials=9, metric="rmse")


def draw(folder: Path, number: int, value: float) -> float:
    """Draw a setting of the sweep in a folder, and end its trial; return the learning rate."""
    key = f"{random.Random(number).getrandbits(48):012x}"
    trial = search.draw(folder, Ledger(folder / "jobs"), PLAN, Job(key, {"loss": "mse"}, {}, [{"seed": 0}], True))
    assert search.is_open(trial)
    search.tell(trial, value)
    assert not search.is_open(trial)
    return float(trial.params["optimizer.lr"])


def test_a_draw_reads_only_what_is_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, lines = JournalFileBackend.read_logs, [0]

    def count(self: JournalFileBackend, since: int) -> Iterator[dict[str, Any]]:
        for line in read(self, since):
            lines[-1] += 1
            yield line

    monkeypatch.setattr(JournalFileBackend, "read_logs", count)
    for number in range(20):
        draw(tmp_path, number, 1.0)
        lines.append(0)
    assert lines[:20] == [lines[0], *[lines[1]] * 19]
    assert 0 < lines[1] < 9
    search.open_once.cache_clear()  # as another process
    draw(tmp_path, 20, 1.0)
    assert lines[20] > 20 * lines[1]


def test_another_journal_of_that_name_is_read_anew(tmp_path: Path) -> None:
    rates = [draw(tmp_path, number, 1.0) for number in (1, 2)]
    (tmp_path / "jobs").rename(tmp_path / "old jobs")
    (tmp_path / "optuna.journal").rename(tmp_path / "old")
    assert [draw(tmp_path, number, 1.0) for number in (1, 2)] == rates
    assert (tmp_path / "optuna.journal").read_text().count('"op_code":0,') == 1, "one study"
