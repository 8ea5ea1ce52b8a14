"""How long until the first step, beside the imports that no run can do without?

    python benchmarks/start.py

Prints medians of five starts of each, side by side, in seconds of CPU time, and their ratio to the imports. Expect less
than 1 for a first step, as a run loads less of them than a program that imports them, and under 1 s for what follows.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

HERE = Path(__file__).parent
IMPORTS = [sys.executable, "-c", "import torch, pytorch_lightning, wandb"]
TRAIN = [sys.executable, str(HERE.parent / "train.py")]
LEAVE = ["+callbacks.leave._target_=start.LeaveAfterFirstStep", "allow=start"]


class LeaveAfterFirstStep(pl.Callback):
    """Ends the process when the first optimizer step is done."""

    def on_train_batch_end(self, *args: Any) -> None:
        """Lightning calls it after the step."""
        os._exit(0)


def seconds(command: list[str], folder: str) -> float:
    """Return the CPU time that a command takes in a fresh process, with what it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=folder, capture_output=True, check=False, env={**os.environ, "PYTHONPATH": str(HERE)})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    """Run all of them in turns, so that a busy moment hits each alike."""
    commands = {
        "imports": IMPORTS,
        "torch": [sys.executable, "-c", "import torch"],
        "first step": [*TRAIN, *LEAVE],
        "first step, digits": [*TRAIN, "task=single_label", *LEAVE],
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
