"""What does a sweep of small runs cost, trained as one, one by one, and with a process for each?

    python benchmarks/sweep.py                                         # an MLP on digits, 1, 4, 16 and 64 runs
    python benchmarks/sweep.py model=mlp,linear logger=false,wandb     # a small model, and W&B (offline), too
    python benchmarks/sweep.py rows=0.07,0.7 runs=16                   # a tenth of the training rows, and all of them
    python benchmarks/sweep.py runs=64 ways=stacked,basic few=64       # two cells alone, nothing extrapolated
    python benchmarks/sweep.py runs=64 ways=stacks,cores logger=wandb  # the default of users: W&B offline, pictures

The first is `losslab -m hydra/launcher=stacked optimizer.lr=1e-4,1e-3,1e-2,1e-1 seed=range(16)
task=single_label`, every second from the command to its end, beside

    cores      the same runs by `losslab sweep FILE`: a process for each core, one run after the other in each
    stacks     the same with `stack=32`: a stack in each process
    basic      the same sweep with Hydra's own launcher: one process, one run after the other
    process    a fresh process for each run, by Lightning's automatic optimization, `DataLoader`, `self.log` in each
               step and a checkpoint of the best epoch, as projects made from a template of Lightning and Hydra do it
    textbook   the training alone, over a `DataLoader`, in a process that has imported everything
    bare       the arithmetic alone: index, forward, backward and step of tensors in memory

Seconds after `~` are extrapolated: `basic` by the line through 1 and `few` runs, the last three by one run.
Memory is the most that the process and its children held at a time (Linux), `process` with one run at a time.
Each measurement is told as it is made, on the error output. Beside other busy processes tiny steps on two OpenMP
threads take several times as long: set OMP_NUM_THREADS=1 there, for all ways alike.
On two cores `basic` and `process` took 2.4 x and 17 x the time of 64 stacked MLPs, 2.8 x and 27 x that of 64 linear
models; docs/log.md says why not 10 x and 30 x.
"""

import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise, product
from pathlib import Path
from typing import Any

HERE = Path(__file__)
PARTS = ("train", "val", "test")
WAYS = ("stacked", "stacks", "cores", "basic", "process", "textbook", "bare")
LAUNCHERS, SWEEPS = ("stacked", "basic"), {"stacks": "32", "cores": "1"}
RATES = ("1e-4", "1e-3", "1e-2", "1e-1")
EPOCHS, BATCH, VAL = 30, 32, 0.1


def held(pid: int) -> int:
    """Bytes of memory of a process and its children; what they share counts once."""
    total = 0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            total += 1024 * int(line.split()[1]) if line.startswith("Pss:") else 0
        for thread in Path(f"/proc/{pid}/task").iterdir():
            total += sum(held(int(child)) for child in (thread / "children").read_text().split())
    except OSError:  # it has ended meanwhile
        pass
    return total


def command(*typed: str, results: int = 0, file: str = "") -> tuple[float, float, str]:
    """Seconds that it takes, the most megabytes that it held, and the last word that it printed.

    Args:
        typed: what Python is given.
        results: how many runs have to leave one.
        file: the text of `sweep.yaml`.
    """
    most = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sweep.yaml").write_text(file)
        with (folder / "said").open("w") as said:
            quiet = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
            began = time.perf_counter()
            process = subprocess.Popen([sys.executable, *typed], cwd=folder, stdout=said, stderr=said, env=quiet)
            while process.poll() is None:
                most = max(most, held(process.pid))
                time.sleep(0.5)  # to look costs a large process some of its time
            seconds = time.perf_counter() - began
        text = (folder / "said").read_text()
        found = [*folder.glob("outputs/*/summary.json"), *folder.glob("outputs/sweeps/*/runs/*/summary.json")]
        if process.returncode or len(found) != results:
            sys.exit(f"{' '.join(typed)} ended with {process.returncode}:\n{text[-3000:]}")
    return seconds, most / 2**20, text.split()[-1] if text.split() else ""


def measure(way: str, runs: int, model: str, logger: str, rows: str) -> tuple[float, float]:
    """Seconds and megabytes of a sweep by losslab, or of one run without."""
    if way not in LAUNCHERS and way not in SWEEPS:
        seconds, megabytes, said = command(str(HERE), "by_hand", way, model, logger, rows)
        return (seconds if way == "process" else float(said)), megabytes
    rates, seeds = RATES[:runs], max(1, runs // len(RATES))
    usual = ["task=single_label", f"model={model}", f"logger={logger}", "trainer=cpu", f"trainer.max_epochs={EPOCHS}"]
    usual += [f"data.val={VAL}", f"data.test={1 - VAL - float(rows):.3f}"]
    if way in SWEEPS:
        varied = f"{{optimizer.lr: {{values: [{', '.join(rates)}]}}, seed: {{values: {[*range(seeds)]}}}}}"
        metric = "{name: val/accuracy, goal: maximize}"
        file = f"program: train.py\nmethod: grid\nmetric: {metric}\nparameters: {varied}\n"
        words = ["-P", "-m", "losslab", "sweep", "sweep.yaml", f"stack={SWEEPS[way]}"]
        seconds, megabytes, _ = command(*words, *usual, results=runs, file=file)
    else:
        words = [str(HERE.parents[1] / "train.py"), "-m", f"hydra/launcher={way}"]
        each = [f"optimizer.lr={','.join(rates)}", f"seed=range({seeds})"]
        seconds, megabytes, _ = command(*words, *usual, *each, results=runs)
    return seconds, megabytes


def column(way: str, counts: list[int], few: int, job: tuple[str, str, str]) -> list[tuple[float, float, str]]:
    """For each number of runs the seconds, the megabytes, and `~` where they are extrapolated."""
    at_most = few if way == "basic" else max(counts) if way in (*LAUNCHERS, *SWEEPS) else 1
    numbers = {n for n in counts if n <= at_most} | ({1, at_most} if max(counts) > at_most else set())
    found = {}
    for n in sorted(numbers):
        found[n] = measure(way, n, *job)
        print(f"{' '.join(job)}: {n} {way} {found[n][0]:.1f} s", file=sys.stderr, flush=True)
    (first, _), (last, megabytes) = found[min(found)], found[max(found)]
    each = (last - first) / (at_most - 1) if at_most > 1 else last
    return [(*found[n], "") if n in found else (last + (n - at_most) * each, megabytes, "~") for n in counts]


def main(typed: dict[str, str]) -> None:
    """Print a table for each job."""
    chosen = {"model": "mlp", "logger": "false", "rows": "0.7", "runs": "1,4,16,64", "ways": ",".join(WAYS), "few": "4"}
    if unknown := typed.keys() - chosen:
        sys.exit(f"{', '.join(unknown)} is no argument: type {', '.join(f'{key}={chosen[key]}' for key in chosen)}")
    lists = {key: value.split(",") for key, value in (chosen | typed).items()}
    counts, (few,) = [int(n) for n in lists["runs"]], lists["few"]
    print(f"{'job':<28}{'runs':>5}" + "".join(f"{f'{way} s':>12}{'x':>6}{'MB':>6}" for way in lists["ways"]))
    for job in product(lists["model"], lists["logger"], lists["rows"]):
        columns = [column(way, counts, int(few), job) for way in lists["ways"]]
        name = f"{job[0]} logger={job[1]} rows={job[2]}"
        for n, cells in zip(counts, zip(*columns, strict=True), strict=True):
            line = "".join(f"{f'{mark}{s:.1f}':>12}{s / cells[0][0]:6.1f}{mb:6.0f}" for s, mb, mark in cells)
            print(f"{name:<28}{n:>5}{line}", flush=True)


def by_hand(way: str, model: str, logger: str, rows: str) -> None:
    """One run without losslab, in this process."""
    import torch
    from sklearn.datasets import load_digits
    from torch import Tensor, nn
    from torch.utils.data import DataLoader, TensorDataset

    pixels, classes = (torch.from_numpy(values) for values in load_digits(return_X_y=True))
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(0))
    x, y = (pixels.float() / 16)[order], classes.long()[order]
    count, judged = round(float(rows) * len(y)), round(VAL * len(y))
    sizes = [count, judged, len(y) - count - judged]
    train, val, test = (TensorDataset(*pair) for pair in zip(torch.split(x, sizes), torch.split(y, sizes), strict=True))
    widths = (64, 256, 256, 10) if model == "mlp" else (64, 10)
    layers = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    net, loss_of = nn.Sequential(*layers[:-1]), nn.CrossEntropyLoss()
    loader = DataLoader(train, batch_size=BATCH, shuffle=True)
    if way == "process":
        lightning(net, loader, DataLoader(val, batch_size=BATCH), DataLoader(test, batch_size=BATCH), logger)
        return
    optimizer = torch.optim.Adam(net.parameters(), lr=0.001, fused=way == "bare")
    x, y = train.tensors
    began, total = time.perf_counter(), 0.0

    def step(inputs: Tensor, targets: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss: Tensor = loss_of(net(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        return loss

    for _ in range(EPOCHS):
        if way == "bare":
            for picked in torch.split(torch.randperm(len(y)), BATCH):
                step(x[picked], y[picked])
        else:
            for inputs, targets in loader:
                total += step(inputs, targets).item()
    print(time.perf_counter() - began)


def lightning(net: Any, train: Any, val: Any, test: Any, logger: str) -> None:
    """Train, validate each epoch, keep the best one and test it, as Lightning's documentation does it."""
    import hydra
    import pytorch_lightning as pl
    import torch
    from torch import Tensor
    from torchmetrics.classification import MulticlassAccuracy

    assert hydra  # a template's every run imports it

    class Classifier(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss = net, torch.nn.CrossEntropyLoss()
            self.accuracy = torch.nn.ModuleList(MulticlassAccuracy(10) for _ in PARTS)

        def step(self, batch: tuple[Tensor, Tensor], part: str) -> Tensor:
            x, y = batch
            scores = self.net(x)
            loss: Tensor = self.loss(scores, y)
            accuracy: Any = self.accuracy[PARTS.index(part)]
            accuracy(scores, y)
            self.log(f"{part}/loss", loss, on_step=False, on_epoch=True, prog_bar=True)
            self.log(f"{part}/accuracy", accuracy, on_step=False, on_epoch=True, prog_bar=True)
            return loss

        def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
            return self.step(batch, "train")

        def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            self.step(batch, "val")

        def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
            self.step(batch, "test")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=0.001)

    best = pl.callbacks.ModelCheckpoint(dirpath="best", monitor="val/accuracy", mode="max")
    mirror: Any = pl.loggers.WandbLogger(offline=True) if logger == "wandb" else False
    trainer = pl.Trainer(accelerator="cpu", max_epochs=EPOCHS, callbacks=[best], logger=mirror)
    trainer.fit(Classifier(), train, val)
    trainer.test(ckpt_path=best.best_model_path, dataloaders=test, weights_only=True)


if __name__ == "__main__":
    if sys.argv[1:2] == ["by_hand"]:
        by_hand(*sys.argv[2:])
    else:
        main(dict(text.split("=", 1) for text in sys.argv[1:]))
