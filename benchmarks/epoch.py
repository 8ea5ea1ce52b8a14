"""What does an epoch cost beyond its arithmetic?

    python benchmarks/epoch.py FOLDER_OF_MNIST   # linear model, SGD, batch 64: where overhead is everything
    python benchmarks/epoch.py digits            # an MLP of 85,002 weights, Adam, batch 32: a small step
    python benchmarks/epoch.py images            # ResNet-18, AdamW, batch 64, 128 images of 96x144: a large one

Three loops over the same rows take turns in one process: that of a textbook over a `DataLoader`, losslab's, and a bare
one over tensors in memory that does nothing but train, with the same fused optimizer. For losslab, all of `Trainer.fit`
counts, with logging, metrics, validation and checkpoints; the line below counts training alone.
On two cores losslab reached these parts of the bare loop's speed: MNIST 0.96, and 1.03 in training alone; digits 0.93
and 1.17; images 0.79, because checkpoints weigh on so few rows, and 0.99.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytorch_lightning as pl
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset
from torchvision.datasets import MNIST
from torchvision.models import resnet18
from torchvision.transforms import Compose, Normalize, ToTensor

from losslab.config.check import configure
from losslab.config.make import make
from losslab.data.batches import Batches, Pixels
from losslab.train import train

Times = dict[str, float]
COUNT = 183  # images, of which seven tenths are trained on


class Job:
    """One training job, as settings for losslab and as objects for the loops by hand.

    Args:
        epochs: how many are timed together.
        batch: rows per step.
        typed: the settings for losslab.
        model, loss, optimizer: the same for the other loops.
        trainer: the settings of the trainer.
        device: of the bare loop, which keeps all rows there.
        bf16: whether it trains under autocast.
    """

    def __init__(
        self,
        epochs: int,
        batch: int,
        typed: list[str],
        model: Callable[[], nn.Module],
        loss: nn.Module,
        optimizer: Callable[[nn.Module], torch.optim.Optimizer],
        trainer: Sequence[str] = ("trainer=cpu",),
        device: str = "cpu",
        bf16: bool = False,
    ) -> None:
        self.epochs, self.batch, self.model, self.loss, self.optimizer = epochs, batch, model, loss, optimizer
        self.typed = [*typed, f"data.batch_size={batch}", f"trainer.max_epochs={epochs}", *trainer]
        self.device, self.bf16 = device, bf16
        cfg = configure(self.typed)
        data = make(cfg, "data")
        ((x, self.y),) = Batches(data, "train", len(data.split["train"]))
        self.x = Pixels(data.scale)(x)
        self.y = self.y.float() if self.y.ndim > 1 else self.y
        self.rows: Dataset[tuple[Tensor, ...]] = TensorDataset(self.x, self.y)

    def textbook(self) -> Times:
        """Time the loop that tutorials teach, in seconds per epoch."""
        loader = DataLoader(self.rows, batch_size=self.batch, shuffle=True)
        model = self.model()
        optimizer = self.optimizer(model)
        began, total = time.perf_counter(), 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = self.loss(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
        return {"textbook loop": time.perf_counter() - began}

    def bare(self, watch: contextlib.AbstractContextManager[None] | None = None) -> Times:
        """Time index, forward, backward and step alone, in seconds per epoch; `watch` is entered around them."""
        x, y, loss_of, model = self.x.to(self.device), self.y.to(self.device), self.loss, self.model().to(self.device)
        optimizer = self.optimizer(model)
        wait: Callable[[], None] = torch.cuda.synchronize if self.device == "cuda" else lambda: None
        half = torch.autocast(self.device, torch.bfloat16) if self.bf16 else contextlib.nullcontext()
        wait()
        began = time.perf_counter()
        with watch or contextlib.nullcontext():
            for _ in range(self.epochs):
                for rows in torch.split(torch.randperm(len(y), device=self.device), self.batch):
                    optimizer.zero_grad()
                    with half:
                        loss = loss_of(model(x[rows]), y[rows])
                    loss.backward()
                    optimizer.step()
            wait()
        return {"bare loop": (time.perf_counter() - began) / self.epochs}

    def ours(self) -> Times:
        """Time losslab, and its training alone by the run's own record, in seconds per epoch."""
        taken: list[float] = []
        fit: Callable[..., None] = pl.Trainer.fit

        def timed(*args: object, **kwargs: object) -> None:
            began = time.perf_counter()
            fit(*args, **kwargs)
            taken.append((time.perf_counter() - began) / self.epochs)

        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            with patch.object(pl.Trainer, "fit", timed):
                train(configure([*self.typed, f"output_dir={folder}"]))
            (history,) = Path(folder).glob("*/history.csv")
            names, *lines = (line.split(",") for line in history.read_text().splitlines())
        speeds = [float(line[names.index("examples_per_second")]) for line in lines]
        return {"losslab": taken[0], "its training": len(self.y) / statistics.median(speeds)}


def mnist(root: str) -> Job:
    """Make the job of 54,000 rows; the textbook's loop reads them through torchvision's transforms."""
    job = Job(
        epochs=5,
        batch=64,
        typed=["experiment=mnist_linear", f"data.root={root}"],
        model=lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)),
        loss=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.SGD(model.parameters(), lr=0.01),
    )
    job.rows = Subset(MNIST(root, transform=Compose([ToTensor(), Normalize(0.1307, 0.3081)])), range(54_000))
    return job


def digits() -> Job:
    """Make the job of 1,258 rows."""
    return Job(
        epochs=30,
        batch=32,
        typed=["task=single_label"],
        model=lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 10)
        ),
        loss=nn.CrossEntropyLoss(),
        optimizer=lambda model: torch.optim.Adam(model.parameters(), lr=0.001, fused=True),
    )


def images(folder: str) -> Job:
    """Make the job of 128 random images."""
    drawn, labels = np.random.default_rng(0), [f"label_{k}" for k in range(18)]
    for number in range(COUNT):
        Image.fromarray(drawn.integers(0, 256, (144, 96, 3), np.uint8)).save(Path(folder) / f"{number}.png")
    has = drawn.integers(0, 2, (COUNT, 18))
    lines = [",".join(map(str, (f"{number}.png", *row))) for number, row in enumerate(has)]
    Path(folder, "labels.csv").write_text("\n".join([",".join(["file", *labels]), *lines]) + "\n")
    return Job(
        epochs=2,
        batch=64,
        typed=[
            *("task=multi_label", "data=images", "model=resnet18", "loss=bce", "optimizer=adamw"),
            *(f"data.path={folder}", f"data.cache={folder}/cache"),
        ],
        model=lambda: resnet18(num_classes=18),
        loss=nn.BCEWithLogitsLoss(),
        optimizer=lambda model: torch.optim.AdamW(model.parameters(), lr=0.001, fused=True),
    )


def main(which: str) -> None:
    """Print each loop's median, and its speed relative to the bare loops before and after it."""
    with tempfile.TemporaryDirectory() as folder:
        job = digits() if which == "digits" else images(folder) if which == "images" else mnist(which)
        rounds, speeds = [], []
        for number in range(9):
            before, found = job.bare(), job.ours()
            found |= job.textbook() if number % 3 == 0 else {}
            bare = (before["bare loop"] + job.bare()["bare loop"]) / 2
            rounds.append(found | {"bare loop": bare})
            speeds.append({name: bare / seconds for name, seconds in rounds[-1].items()})
    for name in rounds[0]:
        median = statistics.median(each[name] for each in rounds if name in each)
        of = sorted(each[name] for each in speeds if name in each)
        beside = f"{statistics.median(of):5.2f} x the bare loop's speed ({of[0]:.2f} to {of[-1]:.2f})"
        print(f"{name:<15}{1000 * median:8.1f} ms an epoch   {len(job.y) / median:9,.0f} rows/s   {beside}")


if __name__ == "__main__":
    main(sys.argv[1])
