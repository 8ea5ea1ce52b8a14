"""What a GPU computes beside what a CPU does: weights after a few steps, from the same weights and batches."""

import gc
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytorch_lightning as pl
import torch

import losslab
from losslab.config.check import configure
from losslab.record.row_scores import read_row_scores
from losslab.restore import load_predictor
from losslab.stacking.group import plan_runs, split_stacks
from losslab.stacking.train import train_together
from on_gpu.place import Found, Place, quiet

DOUBLE, SINGLE = "trainer.precision=64-true", "trainer.precision=32-true"
DIGITS = ("task=single_label", "model.hidden=[64,64]", "data.batch_size=256", "trainer.max_epochs=1")
SHORT = ("optimizer=momentum", "optimizer.lr=0.01", "trainer.max_epochs=1")
TASKS = {  # without dropout: a GPU draws other numbers than a CPU
    "regression, MLP": ("data=diabetes", "data.batch_size=64", *SHORT),
    "single label, CNN": ("task=single_label", "model=cnn", "data.batch_size=256", *SHORT),
    "multi-label, bag of words": ("task=multi_label", "data=movies", "model=bag_of_words", "data.batch_size=2048",
                                  "model.dropout=0", "model.word_dropout=0", *SHORT),
}  # fmt: skip
SMALLER = {"multi-label, bag of words": ("data.buckets=512",), "single label, CNN": ("model.channels=[4]",)}
VARIANTS = {
    "EMA": ("callbacks=ema", "callbacks.ema.decay=0.9"),
    "SAM": ("optimizer=sam",),
    "schedule-free AdamW": ("optimizer=schedule_free_adamw",),
    "mixup": ("augment=mixup",),
}
STACKED = ("task=single_label", "model.hidden=[64]", "data.batch_size=256", "trainer.max_epochs=2")


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Return the weights and buffers of a run's last checkpoint, on the CPU and in float64."""
    saved = torch.load(folder / "last.ckpt", map_location="cpu", weights_only=True)["state_dict"]
    return {name: value.double() for name, value in saved.items()}


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return the norm of the difference, relative to the second's.

    >>> relative(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.0])), relative(torch.tensor([1.0]), torch.tensor([2.0]))
    (0.0, 0.5)
    """
    off, size = float((one - other).norm()), float(other.norm())
    return off / size if size else off


def apart(one: Path, other: Path, metrics: bool = False) -> float:
    """Return the largest relative difference between the weights of two runs, and between their test metrics."""
    mine, yours = weights_of(one), weights_of(other)
    assert mine.keys() == yours.keys()
    off = [relative(mine[name], yours[name]) for name in mine]
    if metrics:
        results = [json.loads((folder / "summary.json").read_text()) for folder in (one, other)]
        off += [
            abs(results[0][key] - value) / max(abs(value), 1e-12)
            for key, value in results[1].items()
            if key.startswith("test/") and math.isfinite(value)
        ]
    return max(off) if all(map(math.isfinite, off)) else math.inf


def beside_cpu(place: Place, *words: str, metrics: bool = False) -> float:
    """Return how far a run on the device is from the same run on the CPU."""
    return apart(place.train(*words).folder, place.train(*words, device="cpu").folder, metrics)


def tasks(place: Place) -> Iterator[Found]:
    """Train three tasks; convolutions in float32 without TF32, which rounds to three digits."""
    torch.backends.cudnn.allow_tf32 = False
    for name, typed in TASKS.items():
        words = (*typed, *(SMALLER.get(name, ()) if place.tiny else ()))
        yield Found(f"{name}, float64", beside_cpu(place, *words, DOUBLE, metrics=True), "<= 1e-9")
        yield Found(f"{name}, float32", beside_cpu(place, *words, SINGLE), "<= 1e-4")


def variants(place: Place) -> Iterator[Found]:
    """Train with what touches weights or batches in its own way."""
    for name, words in VARIANTS.items():
        yield Found(f"{name}, float64", beside_cpu(place, *DIGITS, *words, DOUBLE), "<= 1e-9")


def replayed(place: Place) -> Iterator[Found]:
    """Train with CUDA graphs and without: they take the same steps, to the last bit."""
    words = (*DIGITS, "data.batch_size=16", "model.dropout=0.3", "trainer.max_epochs=3")
    one, other = (place.train(*words, f"trainer.cuda_graphs={graphs}").folder for graphs in ("true", "false"))
    yield Found("CUDA graphs beside none", apart(one, other), "<= 0")


def muon(place: Place) -> Iterator[Found]:
    """Compare losses: torch's Muon makes matrices orthogonal in bfloat16, whatever the weights are."""
    runs = [place.train(*DIGITS, "optimizer=muon", DOUBLE, device=device) for device in (None, "cpu")]
    mine, yours = (losses_of(run.folder)[-1] for run in runs)
    yield Found("Muon, float64, training loss", abs(mine - yours) / yours, "<= 0.05")


class Break(pl.Callback):
    """Break a run off before a batch, as a killed machine does."""

    class Broken(Exception):
        """What it ends with."""

    def __init__(self, epoch: int, batch: int) -> None:
        self.at, self.folder = (epoch, batch), Path()

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, index: int) -> None:
        if (trainer.current_epoch, index) == self.at:
            self.folder = Path(str(trainer.checkpoint_callbacks[0].dirpath))  # type: ignore[attr-defined]
            raise self.Broken


def resuming(place: Place) -> Iterator[Found]:
    """Go through, and break off and go on: at the end of an epoch, and in the middle of one."""
    words = ("task=single_label", "model.hidden=[64]", "model.dropout=0.2", "data.batch_size=8", DOUBLE,
             "callbacks.last.seconds=0", "trainer.max_epochs=3")  # fmt: skip
    through = place.train(*words).folder
    for name, batch, more in (("an epoch's end", 0, ()), ("an epoch's middle", 3, ("callbacks.last.within=0",))):
        stop = Break(1, batch)
        try:
            place.train(*words, *more, callback=stop)
        except Break.Broken:
            resumed = place.train(*words, f"ckpt='{(stop.folder / 'last.ckpt').as_posix()}'").folder
        yield Found(f"resumed from {name}, with dropout", apart(resumed, through), "<= 1e-9")


def losses_of(folder: Path) -> list[float]:
    """Return a run's training loss of each epoch."""
    names, *lines = (line.split(",") for line in (folder / "history.csv").read_text().splitlines())
    return [float(line[names.index("train/loss")]) for line in lines]


def half_precision(place: Place) -> Iterator[Found]:
    """Train in half precision: the loss is finite, falls, and ends near float32's."""
    words = ("task=single_label", "data.batch_size=64", f"trainer.max_epochs={3 if place.tiny else 8}")
    single = losses_of(place.train(*words).folder)
    for name in ("bf16-mixed", "16-mixed"):
        if name == "16-mixed" and place.device == "cpu":
            yield Found(name, None, reason="fp16 needs a GPU")
            continue
        losses = losses_of(place.train(*words, f"trainer.precision={name}").folder)
        falls = all(map(math.isfinite, losses)) and losses[-1] < losses[0]
        off = abs(losses[-1] - single[-1]) / losses[0]  # as a share of what there was to learn
        yield Found(f"{name}: last loss beside float32's", off if falls else math.inf, "<= 0.05")


def stack(place: Place) -> Iterator[Found]:
    """Train eight runs as one and one by one: two losses, two learning rates; no dropout, which a stack draws anew."""
    typed = [
        (*STACKED, DOUBLE, f"loss={loss}", f"optimizer.lr={lr}", f"seed={seed}")
        for loss in ("cross_entropy", "mse")
        for lr in ("0.001", "0.01")
        for seed in (0, 1)
    ]
    together = train_stacked(place, typed)[0]
    off = [apart(folder, place.train(*words).folder) for folder, words in zip(together, typed, strict=True)]
    yield Found("a stack of 8 beside the runs alone, float64", max(off), "<= 1e-9")


def train_stacked(place: Place, typed: Sequence[tuple[str, ...]]) -> tuple[list[Path], str]:
    """Train runs as one stack; return their folders in this order, and what was printed."""
    with quiet() as said:
        stacks = split_stacks(plan_runs([place.words(*words) for words in typed]), len(typed))
        assert [len(stack) for stack in stacks] == [len(typed)], said.getvalue()
        outcomes = train_together(stacks[0])
    folders = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        folders.append(outcome.folder)
    return folders, said.getvalue()


def memory(place: Place) -> Iterator[Found]:
    """Train a stack of eight where four fit: it is split, and says so in one sentence. A CPU pretends to be full."""
    width = 16 if place.device == "cpu" else 2048
    typed = [(*STACKED, f"model.hidden=[{width},{width}]", f"seed={seed}") for seed in range(8)]
    if place.device == "cpu":
        from losslab.stacking.module import Stack

        start = Stack.on_train_start

        def full(stack: Stack) -> None:
            if len(stack.runs) > 4:
                raise torch.OutOfMemoryError("more than 4 runs")
            start(stack)

        with patch.object(Stack, "on_train_start", full):
            said = train_stacked(place, typed)[1]
    else:
        weights = 4 * (64 * width + width * width + width * 10)  # bytes
        gc.collect()  # what earlier runs left in cycles must not be freed meanwhile
        torch.cuda.empty_cache()
        room = torch.cuda.memory_reserved() + int(7.5 * 4 * weights)  # weights, gradients and two moments of 7.5 runs
        torch.cuda.set_per_process_memory_fraction(room / torch.cuda.get_device_properties(0).total_memory)
        try:
            said = train_stacked(place, typed)[1]
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
    yield Found("a stack that does not fit is split, in one sentence", float(said.count("trying 4")), ">= 1")


def on_device(place: Place) -> Iterator[Found]:
    """Look where a step's batch, weights and moments are; and give the API tensors and a model on the device."""
    seen: list[str] = []

    class Look(pl.Callback):
        def on_train_batch_end(
            self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, index: int
        ) -> None:
            kept = [value for state in trainer.optimizers[0].state.values() for value in state.values()]
            moments = [value for value in kept if torch.is_tensor(value) and value.ndim]
            loader: Any = trainer.train_dataloader
            parts = (loader.x, *loader.truth, *batch, *pl_module.parameters(), *pl_module.buffers(), *moments)
            seen.extend(each.device.type for each in parts)

    place.train(*DIGITS, callback=Look())
    yield Found("tensors of a step on the device", seen.count(place.device) / len(seen), ">= 1")
    chance = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 8, generator=chance), torch.randint(0, 3, (200,), generator=chance)
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))
    where = {"trainer": "cpu" if place.device == "cpu" else "gpu", "logger": False, "trainer.max_epochs": 2,
             "trainer.enable_progress_bar": False}  # fmt: skip
    with quiet():
        found = losslab.run(
            data=(x.to(place.device), y.to(place.device)), model=model.to(place.device),
            output_dir=place.folder / "api", settings=where,
        )  # fmt: skip
    yield Found("losslab.run with tensors and a model on the device", found.summary["test/loss"], "<= 10")


def prediction(place: Place) -> Iterator[Found]:
    """Predict on the CPU with what was trained on the device: the scores are those that the run recorded."""
    run = place.train(*DIGITS)
    with quiet():
        cfg = configure([*place.words(device="cpu"), f"ckpt='{(run.folder / 'best.ckpt').as_posix()}'"])
        predictor = load_predictor(cfg)
    from losslab.config.make import make

    data = make(cfg, "data")
    with torch.inference_mode():
        scores = predictor.model(torch.from_numpy(data.x[data.split["test"]]))
    recorded = torch.from_numpy(read_row_scores(run.folder)["test"].scores)
    yield Found("scores predicted on the CPU", relative(scores.double(), recorded.double()), "<= 1e-3")


CHECKS = [tasks, variants, replayed, muon, resuming, half_precision, stack, memory, on_device, prediction]
