"""Several GPUs beside one: the same numbers, and how much faster. On a CPU, two processes stand for two GPUs."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from on_gpu.correctness import DOUBLE, apart
from on_gpu.place import Found, Place

TRAIN = Path(__file__).parents[2] / "train.py"
SAME = ("task=single_label", "data.batch_size=256", "trainer.max_epochs=1", "optimizer=momentum")


def launch(place: Place, *words: str) -> Path:
    """Train a run by the command, as Lightning starts its other processes from it; return its folder.

    Raises:
        RuntimeError: with the last line that it printed, if it fails.
    """
    typed = place.words(*words)
    env = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, str(TRAIN), *typed], capture_output=True, text=True, check=False, env=env)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: {' '.join(done.stderr.strip().splitlines()[-1:])[:200]}")
    folder = Path(next(word for word in typed if word.startswith("output_dir=")).partition("=")[2].strip("'"))
    (status,) = folder.glob("*/status.json")
    return status.parent


def metrics_apart(one: Path, other: Path) -> float:
    """Return the largest relative difference between the test metrics of two runs."""
    mine, yours = (json.loads((folder / "summary.json").read_text()) for folder in (one, other))
    off = [abs(mine[key] - value) / max(abs(value), 1e-12) for key, value in yours.items() if key[:5] == "test/"]
    return float(max(off))


def speed_of(folder: Path) -> float:
    """Return a run's rows a second in its last epoch."""
    with (folder / "history.csv").open() as file:
        return float([*csv.DictReader(file)][-1]["examples_per_second"])


def ddp(place: Place) -> Iterator[Found]:
    """Train with a process for each GPU, beside one: weights in float64, rows a second in float32."""
    many = "trainer=ddp_cpu" if place.device == "cpu" else "trainer=ddp"
    if place.device == "cuda" and torch.cuda.device_count() < 2:
        yield Found("ddp beside one GPU", None, reason="one GPU")
        return
    words = (
        *SAME,
        DOUBLE,
        "model=mlp" if place.device == "cpu" else "model=cnn",
    )  # ddp_cpu: batch norm of each process
    alone = place.train(*words).folder
    yield Found("ddp beside one device, float64", apart(launch(place, many, *words), alone), "<= 1e-9")
    if place.tiny:
        return
    longer = (*SAME, "model=cnn", "trainer.max_epochs=5", "data.batch_size=512")
    share = speed_of(launch(place, many, *longer)) / speed_of(place.train(*longer).folder)
    yield Found("ddp: rows a second, x one device", share)


def fsdp(place: Place) -> Iterator[Found]:
    """Train a sharded model, beside one GPU, in float32."""
    if place.device == "cpu" or torch.cuda.device_count() < 2:
        yield Found("fsdp beside one GPU", None, reason="no GPU" if place.device == "cpu" else "one GPU")
        return
    longer = ("task=single_label", "model.hidden=[4096,4096,4096]", "data.batch_size=512", "trainer.max_epochs=3")
    sharded, alone = launch(place, "trainer=fsdp", *longer), place.train(*longer).folder
    yield Found("fsdp beside one device, test metrics", metrics_apart(sharded, alone), "<= 0.02")
    yield Found("fsdp: rows a second, x one device", speed_of(sharded) / speed_of(alone))


CHECKS = [ddp, fsdp]
