"""What does an epoch cost beyond its arithmetic? MNIST, linear model, SGD, batch 64: where overhead is everything.

    python benchmarks/epoch.py FOLDER_OF_MNIST

Three loops over the same 54,000 rows, in turns in one process: a textbook's, losslab's with its logging, metrics,
validation and checkpoints, and a bare one over tensors in memory that does nothing but train.
Expect losslab at least 5 x as fast as the textbook and at least 0.45 x as fast as the bare loop.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from unittest.mock import patch

import pytorch_lightning as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import MNIST
from torchvision.transforms import Compose, Normalize, ToTensor

from losslab.data.batches import Batches
from losslab.data.images import torchvision_images
from losslab.door import configure
from losslab.train import train

ROUNDS, EPOCHS = 3, 5


def textbook(root: str) -> float:
    """Seconds an epoch of the loop that tutorials teach."""
    images = MNIST(root, transform=Compose([ToTensor(), Normalize(0.1307, 0.3081)]))
    loader = DataLoader(Subset(images, range(54_000)), batch_size=64, shuffle=True)
    model, loss_of = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    began, total = time.perf_counter(), 0.0
    for x, y in loader:
        optimizer.zero_grad()
        loss = loss_of(model(x), y)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return time.perf_counter() - began


def bare(root: str) -> float:
    """Seconds an epoch of index, forward, backward and step."""
    data = torchvision_images("MNIST", root, task="single_label", val=0.1, seed=0)
    whole = Batches(data, "train", 54_000)
    (x, y), *_ = whole
    x = x.flatten(1)
    model, loss_of = nn.Linear(784, 10), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    began = time.perf_counter()
    for _ in range(EPOCHS):
        for rows in torch.split(torch.randperm(len(y)), 64):
            optimizer.zero_grad()
            loss_of(model(x[rows]), y[rows]).backward()
            optimizer.step()
    return (time.perf_counter() - began) / EPOCHS


def ours(root: str) -> float:
    """Seconds an epoch of losslab, all of `Trainer.fit` counted."""
    taken: list[float] = []
    fit: Callable[..., None] = pl.Trainer.fit

    def timed(*args: object, **kwargs: object) -> None:
        began = time.perf_counter()
        fit(*args, **kwargs)
        taken.append((time.perf_counter() - began) / EPOCHS)

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        typed = ["experiment=mnist_linear", f"data.root={root}", f"output_dir={folder}", f"trainer.max_epochs={EPOCHS}"]
        with patch.object(pl.Trainer, "fit", timed):
            train(configure(typed))
    return taken[0]


def main() -> None:
    """Print the medians and what they are to ours."""
    root = sys.argv[1]
    taken: dict[str, list[float]] = {"textbook loop": [], "losslab": [], "bare loop": []}
    for _ in range(ROUNDS):
        for loop, name in ((textbook, "textbook loop"), (ours, "losslab"), (bare, "bare loop")):
            taken[name].append(loop(root))
    medians = {name: statistics.median(times) for name, times in taken.items()}
    for name, median in medians.items():
        print(f"{name:<15}{median:7.2f} s an epoch   losslab is {median / medians['losslab']:5.2f} x as fast")


if __name__ == "__main__":
    main()
