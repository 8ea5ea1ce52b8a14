"""One real run per task, and what makes two runs comparable: same seed, same start, same order."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from torch import nn

from losslab.build import build
from losslab.config.make import make
from losslab.data.batches import Batches
from losslab.errors import Refused
from losslab.record.folder import run_id
from losslab.train import train
from losslab.training import epochs
from losslab.training.checkpoints import check_checkpoint
from losslab.training.module import Experiment
from tests.conftest import Typed, cut_off, folder_of, numbers, without_pictures

SHORT = ("data=diabetes", "trainer.max_epochs=3")


@pytest.fixture(autouse=True)
def _undrawn(request: pytest.FixtureRequest) -> Iterator[None]:
    """Runs draw no pictures, but colour images'."""
    with nullcontext() if "colour" in request.node.name else without_pictures():
        yield


def watched(typed: Typed, monkeypatch: pytest.MonkeyPatch, *overrides: str) -> tuple[str, str, dict[str, float]]:
    """Hashes of the initial weights and of the order of the data, and the summary of the run."""
    weights, order = hashlib.sha256(), hashlib.sha256()
    start, step = Experiment.on_train_start, Experiment.training_step

    def on_train_start(self: Experiment) -> None:
        for weight in self.model.parameters():
            weights.update(weight.detach().numpy().tobytes())
        start(self)

    def training_step(self: Experiment, batch: Any, batch_idx: int) -> None:
        for part in batch:
            order.update(part.numpy().tobytes())
        step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Experiment, "on_train_start", on_train_start)
        patch.setattr(Experiment, "training_step", training_step)
        summary = train(typed(*overrides))
    return weights.hexdigest(), order.hexdigest(), summary


def test_the_same_command_twice_gives_the_same_numbers_to_the_last_digit(typed: Typed) -> None:
    command = ("task=single_label", "trainer.max_epochs=3", "model.dropout=0.3")
    assert numbers(train(typed(*command))) == numbers(train(typed(*command)))


def test_runs_are_paired_by_seed_whatever_the_loss_or_optimizer(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    first = watched(typed, monkeypatch, *SHORT, "loss=mse")
    for other in (("loss=msle",), ("optimizer=sgd", "loss=mae"), ("scheduler=cosine",)):
        weights, order, summary = watched(typed, monkeypatch, *SHORT, *other)
        assert (weights, order) == first[:2]
        assert numbers(summary) != numbers(first[2])
    weights, order, _ = watched(typed, monkeypatch, *SHORT, "seed=1")
    assert weights != first[0]
    assert order != first[1]


def test_diamonds_by_default(typed: Typed) -> None:
    assert train(typed())["test/r2"] >= 0.96


def test_digits(typed: Typed) -> None:
    assert train(typed("task=single_label"))["test/accuracy"] >= 0.97


def test_a_dataset_that_is_nowhere_is_refused(typed: Typed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: Any, **__: Any) -> None:
        raise RuntimeError("no network")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", offline)
    with pytest.raises(Refused, match=r"MNIST is not in data.root=.*no network.*type data.root=FOLDER"):
        train(typed("data=mnist", f"data.root={tmp_path}"))


def cifar(root: Path, count: int = 60) -> None:
    """A few random pictures, laid out as CIFAR-10 is."""
    import pickle

    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pixels = random.integers(0, 255, (count, 3072)).astype(np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels, "labels": [i % 10 for i in range(count)]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {i}" for i in range(10)]}))


@pytest.mark.parametrize("model", ["cnn", "resnet18"])
def test_colour_images(typed: Typed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    cifar(tmp_path)
    monkeypatch.setattr("torchvision.datasets.CIFAR10._check_integrity", lambda _: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    cfg = typed("data=cifar10", f"data.root={tmp_path}", f"model={model}", "trainer.max_epochs=1")
    summary = train(cfg)
    parts = build(cfg)
    saved = torch.load(folder_of(cfg) / "best.ckpt", weights_only=True)
    parts.module.load_state_dict(saved["state_dict"])
    parts.module.eval()
    with torch.no_grad():
        right = torch.cat([parts.module.model(x).argmax(1) == y for x, y in parts.loaders.test])
    assert len(right) == 60
    assert summary["test/accuracy"] == pytest.approx(right.double().mean().item())
    assert (folder_of(cfg) / "pictures" / "samples.png").is_file()


def plain_loop(typed: Typed, clip: float | None = None, accumulate: int = 1) -> list[torch.Tensor]:
    """The same training written by hand."""
    cfg = typed(*SHORT, "optimizer=momentum")
    data = make(cfg, "data")
    pl.seed_everything(0, verbose=False)
    model = make(cfg, "model")(data.shape, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    train_y = torch.from_numpy(data.targets("train"))
    mean, std = train_y.double().mean(0).float(), train_y.double().std(0, correction=0).float()
    batches = Batches(data, "train", 32, seed=0)
    for epoch in range(3):
        batches.sampler.set_epoch(epoch)
        every = list(batches)
        for start in range(0, len(every), accumulate):
            optimizer.zero_grad()
            group = every[start : start + accumulate]
            for x, y in group:
                torch.autograd.backward(nn.functional.mse_loss(model(x), (y - mean) / std) / len(group))
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
    return list(model.state_dict().values())


@pytest.mark.parametrize(("clip", "accumulate"), [(None, 1), (0.1, 1), (None, 3), (0.1, 4)])
def test_training_is_the_plain_loop_bit_for_bit(typed: Typed, clip: float | None, accumulate: int) -> None:
    cfg = typed(
        *SHORT,
        "optimizer=momentum",
        f"trainer.gradient_clip_val={'null' if clip is None else clip}",
        f"trainer.accumulate_grad_batches={accumulate}",
    )
    summary = train(cfg)
    saved = torch.load(folder_of(cfg) / "last.ckpt", weights_only=True)
    ours = [weight for name, weight in saved["state_dict"].items() if name.startswith("model.")]
    assert all(torch.equal(mine, other) for mine, other in zip(ours, plain_loop(typed, clip, accumulate), strict=True))
    assert saved["global_step"] == summary["updates"] == 3 * -(-10 // accumulate)


def test_losses_that_are_fetched_later_are_added_up_alike(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU keeps those of some steps; each checkpoint and each epoch's end, the tenth step, has all of them."""
    words = (*SHORT, "+trainer.limit_train_batches=1.0", "trainer.accumulate_grad_batches=3")
    expected = numbers(train(typed(*words)))
    monkeypatch.setitem(epochs.FETCHED, "cpu", 4)
    for within in (0, 300):
        assert numbers(train(typed(*words, f"callbacks.last.within={within}"))) == expected


def test_an_optimizer_that_calls_its_closure_again_works_too(typed: Typed, tmp_path: Path) -> None:
    cfg = typed(*SHORT, "data.batch_size=all", "model=linear", "optimizer=lbfgs", "optimizer.max_iter=20")
    summary = train(cfg)
    data = make(cfg, "data")
    x = np.c_[data.x, np.ones(len(data.x))].astype(float)
    rows = data.split["train"]
    best = np.linalg.lstsq(x[rows], data.y[rows], rcond=None)[0]
    assert summary["updates"] == 3
    assert summary["train/rmse"] >= np.sqrt(np.mean((x[rows] @ best - data.y[rows]) ** 2)) - 1e-3
    assert summary["test/rmse"] == pytest.approx(
        np.sqrt(np.mean((x @ best - data.y)[data.split["test"]] ** 2)), rel=0.02
    )


def test_a_loss_with_parameters_of_its_own_is_trained_too(typed: Typed, monkeypatch: pytest.MonkeyPatch) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.log_scale = nn.Parameter(torch.zeros(()))

        def forward(self, input: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
            return ((input - target).abs() * torch.exp(-self.log_scale)).mean() + self.log_scale

    monkeypatch.setattr("losslab.losses.Scaled", Scaled, raising=False)
    cfg = typed(*SHORT, "allow=losslab.losses.Scaled")
    OmegaConf.set_readonly(cfg, False)
    cfg.loss = {"_target_": "losslab.losses.Scaled", "input": "prediction", "target": "dense"}
    train(cfg)
    saved = torch.load(folder_of(cfg) / "last.ckpt", weights_only=True)["state_dict"]
    assert saved["loss.function.log_scale"] != 0


@pytest.mark.parametrize(
    ("precision", "more"), [("bf16-mixed", ()), ("bf16-mixed", ("optimizer=any-soap",)), ("64-true", ())], ids=str
)
def test_other_precisions_train(typed: Typed, precision: str, more: tuple[str, ...]) -> None:
    """SOAP multiplies matrices in its step, which autocast must leave alone."""
    cfg = typed(*SHORT, *more, f"trainer.precision={precision}", "trainer.max_epochs=10")
    summary = train(cfg)
    assert summary["train/r2"] > 0.3
    plain = train(typed(*SHORT, *more, "trainer.max_epochs=10"))
    assert summary["test/rmse"] == pytest.approx(plain["test/rmse"], rel=0.03 if precision == "bf16-mixed" else 1e-3)


def test_early_stopping_looks_at_the_yardstick(typed: Typed) -> None:
    cfg = typed(
        "task=single_label", "callbacks=early_stopping", "callbacks.early_stopping.patience=3", "trainer.max_epochs=60"
    )
    summary = train(cfg)
    assert summary["epochs"] == summary["best_epoch"] + 1 + 3 < 60


def test_a_run_that_was_cut_off_goes_on_bit_for_bit(typed: Typed) -> None:
    whole = [
        "task=single_label",
        "model.dropout=0.3",
        "scheduler=cosine",
        "trainer.max_epochs=6",
        "callbacks.last.seconds=0",
    ]
    expected = typed(*whole)
    uninterrupted = train(expected)

    cut = typed(*whole)
    folder = cut_off(cut, epoch=3).parent
    assert json.loads((folder / "status.json").read_text())["status"] == "failed"
    assert torch.load(folder / "last.ckpt", weights_only=True)["epoch"] == 2
    again = typed(f"ckpt={folder / 'last.ckpt'}")
    assert again.model.dropout == 0.3, "what was typed then holds still"
    resumed = train(again)
    assert (folder_of(again), run_id(folder_of(again))) == (folder_of(cut), run_id(folder_of(cut)))
    assert numbers(resumed) == numbers(uninterrupted)
    saved, wanted = (torch.load(folder_of(c) / "last.ckpt", weights_only=True) for c in (cut, expected))
    assert all(torch.equal(saved["state_dict"][name], weight) for name, weight in wanted["state_dict"].items())
    more = train(typed(f"ckpt={folder / 'last.ckpt'}", "scheduler=constant", "trainer.max_epochs=8"))
    assert more["epochs"] == 8


def test_checkpoints_that_do_not_fit_are_refused(typed: Typed, tmp_path: Path) -> None:
    cfg = typed(*SHORT)
    train(cfg)
    last = folder_of(cfg) / "last.ckpt"
    moved, cut = tmp_path / "moved.ckpt", tmp_path / "cut.ckpt"
    moved.write_bytes(last.read_bytes())
    cut.write_bytes(last.read_bytes()[:5000])
    with pytest.raises(Refused, match=r"is of another model: it has model.1.bias of shape \(256,\)"):
        train(typed(*SHORT, f"ckpt={moved}", "model=linear"))
    with pytest.raises(Refused, match="is not a whole checkpoint"):
        train(typed(*SHORT, f"ckpt={cut}"))
    with pytest.raises(Refused, match=r"was trained for 3 epochs already, .*: type trainer.max_epochs=4 or more"):
        train(typed(f"ckpt={last}", "trainer.max_epochs=1"))
    assert check_checkpoint(None, None, 1, {}) is None  # type: ignore[arg-type]
