"""How long until the first step, beside the imports that no run can do without?

    python benchmarks/start.py

Prints the median of five starts of each, side by side, and their ratio. Expect at most 1.3, and under 1 s for the rest.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

HERE = Path(__file__).parent
IMPORTS = [sys.executable, "-c", "import torch, torchvision, pytorch_lightning, wandb"]
TRAIN = [sys.executable, str(HERE.parent / "train.py")]


class LeaveAfterFirstStep(pl.Callback):
    """Ends the process when the first optimizer step is done."""

    def on_train_batch_end(self, *args: Any) -> None:
        """Lightning calls it after the step."""
        os._exit(0)


def seconds(command: list[str], folder: str) -> float:
    """Wall time of a command in a fresh process."""
    began = time.perf_counter()
    subprocess.run(command, cwd=folder, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(HERE)})
    return time.perf_counter() - began


def main() -> None:
    """Run all of them in turns, so that a busy moment hits each alike."""
    commands = {
        "imports": IMPORTS,
        "first step": [*TRAIN, "+callbacks.leave._target_=start.LeaveAfterFirstStep", "allow=start"],
        "--help": [*TRAIN, "--help"],
        "loss=maee": [*TRAIN, "loss=maee"],
        "loss=cross_entropy": [*TRAIN, "loss=cross_entropy"],
        "data.path=none.csv": [*TRAIN, "data=csv", "data.path=none.csv", "data.target=y"],
    }
    taken: dict[str, list[float]] = {name: [] for name in commands}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(5):
            for name, command in commands.items():
                taken[name].append(seconds(command, folder))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"{name:<20}{median:6.2f} s  {median / medians['imports']:5.2f} x imports")


if __name__ == "__main__":
    main()
