"""Many small runs trained as one, beside one by one and beside a process for each."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytorch_lightning as pl

from losslab.machine import cores
from losslab.stacking import train as stacks
from losslab.stacking.job import Job
from on_gpu.correctness import train_stacked
from on_gpu.place import Found, Place

TRAIN = Path(__file__).parents[2] / "train.py"
MODELS = {
    "MLP": ("task=single_label", "model.hidden=[64,64]", "data.batch_size=64"),
    "small CNN": ("task=single_label", "model=cnn", "model.channels=[16,32]", "data.batch_size=64"),
}
FEW = 3  # runs that are trained one by one; the time of more is theirs, scaled up
WANTED = ">= 50"


def settings(place: Place, model: str, runs: int) -> list[tuple[str, ...]]:
    """Return what is typed for each run of a sweep: learning rates and seeds."""
    words = (*MODELS[model], f"trainer.max_epochs={1 if place.tiny else 100}")
    return [(*words, f"optimizer.lr={(0.001, 0.003)[number % 2]}", f"seed={number // 2}") for number in range(runs)]


def one_by_one(place: Place, model: str, *more: str) -> float:
    """Return the seconds of a run, in a process that has imported all and trained one already."""
    first, *typed = settings(place, model, 1 + (1 if place.tiny else FEW))
    place.train(*first, *more)
    began = time.perf_counter()
    for words in typed:
        place.train(*words, *more)
    return (time.perf_counter() - began) / len(typed)


def processes(place: Place, model: str) -> tuple[float, int]:
    """Return the seconds of a run with a process for each, at most eight at once, and how many there were."""
    count = 1 if place.tiny else min(8, cores())
    quiet = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    began = time.perf_counter()
    started = [
        subprocess.Popen(
            [sys.executable, str(TRAIN), *place.words(*words)],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=quiet,
        )
        for words in settings(place, model, count)
    ]  # fmt: skip
    codes = [each.wait() for each in started]
    if any(codes):
        raise RuntimeError(f"processes ended with {codes}")
    return (time.perf_counter() - began) / count, count


def time_stack(typed: list[tuple[str, ...]], place: Place) -> tuple[float, float]:
    """Return the seconds of a stack from the words to the records, and those of its training and testing alone."""
    fit, taken = stacks.fit_and_test, []

    def timed(jobs: list[Job], trainer: pl.Trainer) -> None:
        began = time.perf_counter()
        fit(jobs, trainer)
        taken.append(time.perf_counter() - began)

    began = time.perf_counter()
    with patch.object(stacks, "fit_and_test", timed):
        train_stacked(place, typed)
    return time.perf_counter() - began, sum(taken)


def compare(place: Place, model: str) -> Iterator[Found]:
    """Time 64 and 512 runs as one, beside what they take otherwise."""
    alone = one_by_one(place, model)
    yield Found(f"{model}: seconds of a run by itself, of {1 if place.tiny else FEW}", alone)
    slower = one_by_one(place, model, "trainer.cuda_graphs=false")
    yield Found(f"{model}: the same without CUDA graphs", slower)
    seconds: dict[int, float] = {}
    for runs in (2, 4) if place.tiny else (64, 512):
        room = place.until - time.monotonic() - 10 * alone  # those processes come last
        if seconds and room < (longer := 6 * max(seconds.values())):
            yield Found(
                f"{model}: {runs} as one", None, reason=f"it takes about {longer:.0f} s, and {room:.0f} s are left"
            )
            continue
        seconds[runs], arithmetic = time_stack(settings(place, model, runs), place)
        yield Found(f"{model}: seconds of {runs} as one", seconds[runs])
        yield Found(f"{model}: of them, to train and test", arithmetic)
        wanted = "" if place.tiny or runs < 512 else WANTED
        yield Found(f"{model}: {runs} as one, x one by one (scaled up)", runs * alone / seconds[runs], wanted)
    each, count = processes(place, model)
    for runs, taken in seconds.items():
        yield Found(f"{model}: {runs} as one, x {count} processes (scaled up)", runs * each / taken)


def mlp(place: Place) -> Iterator[Found]:
    """A sweep of an MLP on digits."""
    return compare(place, "MLP")


def small_cnn(place: Place) -> Iterator[Found]:
    """A sweep of a small convolutional network on digits."""
    return compare(place, "small CNN")


CHECKS = [mlp, small_cnn]
