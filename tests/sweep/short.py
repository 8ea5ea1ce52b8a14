"""A sweep of short runs: its file, its jobs done here or by `losslab sweep`, and the table of what they came to."""

import json
from pathlib import Path
from typing import Any

import yaml

from losslab.sweep.ledger import Ledger, Record
from losslab.sweep.plan import Plan, read
from losslab.sweep.worker import work
from tests.processes import Fork, python

COMMAND = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]


NOT_COMPARED = ("peak_memory", "examples_per_second")


FOLDS = {"data.folds": {"value": 5}, "data.fold": {"values": [0, 1, 2, 3, 4]}}
LR = {"search.lr": {"min": 0.0, "max": 1.0}}


def sweep_file(folder: Path, method: str = "grid", **changed: Any) -> str:
    """A sweep over short runs, a linear model of 442 patients; `changed` keys replace those of the file."""
    parameters: dict[str, Any] = {
        "data": {"value": "diabetes"},
        "model": {"value": "linear"},
        "trainer.max_epochs": {"value": 2},
        "loss": {"values": ["mse", "mae"]},
        "seed": {"values": [0, 1]},
    }
    parameters |= changed.pop("parameters", {})
    parameters = {key: asked for key, asked in parameters.items() if asked != "left out"}
    content = {
        "program": "train.py",
        "method": method,
        "metric": {"name": "val/rmse", "goal": "minimize"},
        "parameters": parameters,
        "command": COMMAND,
        **changed,
    }
    file = folder / "short.yaml"
    file.write_text(yaml.safe_dump({key: value for key, value in content.items() if value != "left out"}))
    return str(file)


def table(folder: Path) -> dict[str, dict[str, float]]:
    """The numbers of each finished run; none has two."""
    found: dict[str, dict[str, float]] = {}
    for file in folder.glob("runs/*/summary.json"):
        config = yaml.safe_load((file.parent / "config.yaml").read_text())
        name = f"{config['loss']} {config['optimizer']} {config['optimizer.lr']} {config['seed']}"
        assert name not in found
        summary = json.loads(file.read_text())
        found[name] = {key: n for key, n in summary.items() if not any(word in key for word in NOT_COMPARED)}
    return found


def done_here(path: str, folder: Path, **typed: str) -> tuple[Plan, dict[str, Record]]:
    """Do all jobs of a sweep in this process."""
    plan = read(path, typed)
    work(folder, plan, plan.jobs())
    return plan, Ledger(folder / "jobs").records([job.key for job in plan.jobs()])


def start(path: str, output: Path, *words: str) -> Fork:
    """`losslab sweep`, whose workers are real starts."""
    return Fork(python("-m", "losslab.sweep", path, f"output_dir={output}", *words), output)
