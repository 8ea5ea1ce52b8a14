"""Training as a share of a bare loop's speed, how busy the device is, and what share of its peak the model uses."""

import re
import statistics
import time
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models import resnet18

from epoch import Job
from losslab.config.check import configure
from losslab.train import train
from on_gpu.place import Found, Place, quiet

WANTED = ">= 0.95"
PEAK = {  # dense bf16 TFLOP/s by the makers' data sheets; the first name that is a word of the device's counts
    "B200": 2250, "GH200": 989, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "A100": 312, "A40": 150,
    "A10G": 70, "A10": 125, "L40S": 362, "L40": 181, "L4": 121, "RTX 4090": 165, "RTX 3090": 71, "RTX A6000": 155,
}  # fmt: skip


def mlp(inputs: int, *hidden: int) -> nn.Sequential:
    """Make the model that `model=mlp` makes, or `model=linear` without hidden layers."""
    layers = [layer for a, b in pairwise((inputs, *hidden, 10)) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def write_images(place: Place, rows: int, shape: tuple[int, ...], classes: int = 10) -> str:
    """Write random images; return what is typed for them."""
    drawn, path = np.random.default_rng(0), place.folder / f"{rows}.npz"
    np.savez(path, x=drawn.integers(0, 256, (rows, *shape), np.uint8), y=np.arange(rows) % classes)
    return f"data.path='{path.as_posix()}'"


def make_small(place: Place, name: str) -> Job:
    """Make a job of small steps, where overhead is everything."""
    hidden = {"MNIST-shaped, linear": (), "MNIST-shaped, MLP": (256, 256), "digits, MLP": (256, 256)}[name]
    trainer = ("trainer=gpu" if place.device == "cuda" else "trainer=cpu", "logger=false")
    if name.startswith("digits"):
        data, inputs, rows = ["task=single_label"], 64, 32
    else:
        path = write_images(place, 300 if place.tiny else 20_000, (1, 28, 28))
        data, inputs, rows = ["task=single_label", "data=arrays", path], 784, 64
    model = "model=mlp" if hidden else "model=linear"
    return Job(
        epochs=1 if place.tiny else 10,
        batch=rows,
        typed=[*data, model, "optimizer=adam", "loss=cross_entropy"],
        model=lambda: mlp(inputs, *hidden),
        loss=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.001, fused=True),
        trainer=trainer,
        device=place.device,
    )


def make_large(place: Place) -> Job:
    """Make the job of ResNet-18 on images of 96 x 144, in bf16 and channels last.

    With fewer rows in a batch a large GPU waits for its kernels to be started, whatever starts them. With fewer in all
    it stands still for much of the time because an epoch ends, whose loss and speed losslab records.
    """
    path = write_images(place, *((12, (3, 48, 32), 2) if place.tiny else (8800, (3, 144, 96))))
    where = "trainer=gpu" if place.device == "cuda" else "trainer=cpu"
    return Job(
        epochs=2 if place.tiny else 6,
        batch=4 if place.tiny else 512,
        typed=["task=single_label", "data=arrays", path, "model=resnet18", "optimizer=adamw", "loss=cross_entropy"],
        model=lambda: resnet18(num_classes=10).to(memory_format=torch.channels_last),
        loss=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=0.001),
        trainer=(where, "logger=false", "trainer.precision=bf16-mixed", "trainer.channels_last=true"),
        device=place.device,
        bf16=True,
    )


def shares(job: Job, rounds: int) -> dict[str, float]:
    """Return the medians of losslab's speed relative to the bare loops before and after it."""
    torch.use_deterministic_algorithms(True)  # as losslab's trainer is
    found: dict[str, list[float]] = {}
    with quiet():
        if rounds > 1:
            job.bare(), job.ours()  # the first of each also loads kernels
        for _ in range(rounds):
            before, mine, after = job.bare(), job.ours(), job.bare()
            bare = (before["bare loop"] + after["bare loop"]) / 2
            for name, seconds in mine.items():
                found.setdefault(name, []).append(bare / seconds)
    return {name: statistics.median(each) for name, each in found.items()}


def compare(name: str, job: Job, place: Place) -> Iterator[Found]:
    """Report a job: training is judged; all of `fit` holds validation, metrics and checkpoints too."""
    share = shares(job, 1 if place.tiny else 3)
    yield Found(f"{name}: training, x bare loop", share["its training"], "" if place.tiny else WANTED)
    yield Found(f"{name}: all of fit, x bare loop", share["losslab"])


def mnist_linear(place: Place) -> Iterable[Found]:
    """A linear model on images of MNIST's shape."""
    return compare("MNIST-shaped, linear", make_small(place, "MNIST-shaped, linear"), place)


def mnist_mlp(place: Place) -> Iterable[Found]:
    """An MLP on images of MNIST's shape."""
    return compare("MNIST-shaped, MLP", make_small(place, "MNIST-shaped, MLP"), place)


def digits(place: Place) -> Iterable[Found]:
    """An MLP on digits."""
    return compare("digits, MLP", make_small(place, "digits, MLP"), place)


def resnet(place: Place) -> Iterator[Found]:
    """ResNet-18: its share, how busy the device is, and the share of its peak that the arithmetic is."""
    job = make_large(place)
    yield from compare("ResNet-18", job, place)
    mine, bare = Profile(place.device), Watch(place.device)
    with quiet():
        train(configure([*job.typed, *place.words()]), mine)
        job.epochs = 1
        job.bare(bare)
    none = "no GPU" if place.device == "cpu" else "the profiler saw no kernel"
    for name, watch, wanted in (("", mine.watch, ">= 0.9"), (", bare loop", bare, "")):
        share = watch.share()
        check = f"ResNet-18: share of time that the GPU is busy{name}"
        yield Found(check, share, wanted if share is not None else "", none if share is None else "")
    rows_per_second = mine.rows / mine.watch.seconds
    rate = rows_per_second * count_operations(job)
    yield Found("ResNet-18: TFLOP/s", rate / 1e12)
    name = torch.cuda.get_device_name() if place.device == "cuda" else "a CPU"
    peak = find_peak(name)
    if peak is None:
        yield Found("ResNet-18: share of the peak", None, reason=f"the peak of {name} is not known here")
    else:
        yield Found("ResNet-18: share of the peak", rate / 1e12 / peak)


def find_peak(name: str) -> int | None:
    """Return a device's peak in TFLOP/s, by its name.

    >>> find_peak("NVIDIA A100-SXM4-80GB"), find_peak("NVIDIA L40S"), find_peak("NVIDIA RTX A4000")
    (312, 362, None)
    """
    return next((peak for key, peak in PEAK.items() if re.search(rf"\b{key}\b", name)), None)


def count_operations(job: Job) -> float:
    """Count the floating-point operations of a training step, for each row."""
    model = job.model().to(job.device)
    with FlopCounterMode(display=False) as counter:
        job.loss(model(job.x[: job.batch].to(job.device)), job.y[: job.batch].to(job.device)).backward()
    return float(counter.get_total_flops()) / len(job.x[: job.batch])


def busy(spans: Iterable[tuple[float, float]]) -> float:
    """Return the time that is covered by spans, which may overlap.

    >>> busy([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
    4.0
    """
    covered, end = 0.0, float("-inf")
    for first, last in sorted(spans):
        covered += max(0.0, last - max(first, end))
        end = max(end, last)
    return covered


class Watch:
    """Profile what happens inside: the spans in which a kernel or a copy runs on a GPU, and the seconds in all."""

    def __init__(self, device: str) -> None:
        self.on_gpu = device == "cuda"  # a CPU's operators are not looked at, and gathering them takes half a minute
        kind = torch.profiler.ProfilerActivity
        self.profiler: Any = torch.profiler.profile(activities=[kind.CUDA if self.on_gpu else kind.CPU])
        self.spans: list[tuple[float, float]] = []
        self.seconds = 0.0

    def __enter__(self) -> None:
        if self.on_gpu:
            self.profiler.start()
            torch.cuda.synchronize()
        self.began = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self.began
        if self.on_gpu:
            self.profiler.stop()
        events = self.profiler.events() if self.on_gpu else []
        of_device = [e for e in events if str(e.device_type).endswith("CUDA")]
        ours = [e for e in of_device if not getattr(e, "is_user_annotation", False)]
        self.spans = [(e.time_range.start / 1e6, e.time_range.end / 1e6) for e in ours]

    def share(self) -> float | None:
        """Return the share of the time in which the GPU was busy; `None` without one."""
        return busy(self.spans) / self.seconds if self.spans else None


class Profile(pl.Callback):
    """Profile the training of the second epoch, whose kernels are loaded."""

    def __init__(self, device: str) -> None:
        self.watch, self.rows = Watch(device), 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.watch.__enter__()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, index: int
    ) -> None:
        if trainer.current_epoch == 1:
            self.rows += len(batch[0])
            if index + 1 == trainer.num_training_batches:
                self.watch.__exit__()


CHECKS = [mnist_linear, mnist_mlp, digits, resnet]
