"""A run in a stack is built as it is alone."""

import re

import numpy as np

from losslab.data.make import make_data
from losslab.stacking.group import Planned
from losslab.stacking.job import build_job
from tests.conftest import ROOT, Typed


def test_a_stack_trains_on_the_wrong_labels_that_its_runs_ask_for(typed: Typed) -> None:
    clean, noisy = (typed("task=single_label", f"data.label_noise={share}") for share in (0, 0.4))
    alone, before = make_data(noisy), make_data(clean)
    stacked = build_job(Planned(noisy), {}).data
    assert np.array_equal(stacked.y, alone.y)
    assert np.mean(stacked.targets("train") != before.targets("train")) > 0.39


def test_whoever_reads_the_data_of_a_run_reads_its_wrong_labels_too() -> None:
    sources = {file: file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py")}
    direct = {file.name for file, text in sources.items() if re.search(r'\bmake\([\w.]*cfg, "data"\)', text)}
    assert direct == {"make.py", "question.py"}, (
        "call losslab.data.make.read_data; a race's question looks at domains only"
    )
