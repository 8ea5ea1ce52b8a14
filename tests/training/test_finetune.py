"""The head alone, then all: against a loop by hand, and what is frozen does not move at all."""

from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from losslab.config.catalogue import CONF, options
from losslab.config.make import make
from losslab.data.batches import Batches
from losslab.errors import Refused
from losslab.models import find_head
from losslab.train import train
from losslab.training.finetune import Finetune
from losslab.training.module import Experiment
from tests.conftest import Typed, folder_of, some_now

pytestmark = pytest.mark.usefixtures("undrawn")

TABLE = (
    "data=diabetes",
    "model.hidden=[8]",
    "trainer.max_epochs=4",
    "callbacks=finetune",
    "callbacks.finetune.epochs=2",
)
IMAGES = ("task=single_label", "model=cnn", "model.channels=[4,4]", "data.test=0.5", "trainer.max_epochs=3")
Snapshot = dict[str, Tensor]


def states(monkeypatch: pytest.MonkeyPatch) -> list[Snapshot]:
    """Weights and statistics of the model when each epoch begins, as it fills, and when training ends."""
    seen: list[Snapshot] = []

    def snap(self: Experiment) -> None:
        seen.append({name: weight.detach().clone() for name, weight in self.model.state_dict().items()})

    start = Experiment.on_train_epoch_start

    def begin(self: Experiment) -> None:
        snap(self)
        start(self)

    monkeypatch.setattr(Experiment, "on_train_epoch_start", begin)
    monkeypatch.setattr(Experiment, "on_train_end", snap)
    return seen


def moved(before: Snapshot, after: Snapshot) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


def test_it_is_the_loop_by_hand_bit_for_bit(typed: Typed) -> None:
    cfg = typed(*TABLE)
    train(cfg)
    data = make(cfg, "data")
    pl.seed_everything(0, verbose=False)
    model = make(cfg, "model")(data.shape, 1)
    below, top = list(model[1].parameters()), list(model[3].parameters())
    first, second = (torch.optim.Adam(part, lr=0.001, fused=True) for part in (top, below))
    y = torch.from_numpy(data.targets("train"))
    mean, std = y.double().mean(0).float(), y.double().std(0, correction=0).float()
    batches = Batches(data, "train", cfg.data.batch_size, seed=0)
    for epoch in range(4):
        batches.sampler.set_epoch(epoch)
        for x, y in batches:
            model.zero_grad()
            torch.autograd.backward(nn.functional.mse_loss(model(x), (y - mean) / std))
            first.step()
            if epoch >= 2:
                second.step()  # Adam's moments of the backbone begin here
    saved = torch.load(folder_of(cfg) / "last.ckpt", weights_only=True)["state_dict"]
    for name, weight in model.state_dict().items():
        assert torch.equal(saved[f"model.{name}"], weight), name


OPTIMIZERS = sorted(options([str(CONF)], "optimizer").keys() - {"any"})


@pytest.mark.parametrize("optimizer", some_now(OPTIMIZERS, ["adam", "lbfgs", "muon", "sam", "schedule_free_sgd"]))
def test_whatever_the_optimizer_only_the_head_moves_and_then_everything(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    seen = states(monkeypatch)
    keys = [*TABLE[:1], "model.hidden=[8,8]", "trainer.max_epochs=2", "data.batch_size=200"]
    train(typed(*keys, "callbacks=finetune", "callbacks.finetune.epochs=1", f"optimizer={optimizer}"))
    assert moved(seen[0], seen[1]) == {"5.weight", "5.bias"}
    assert moved(seen[1], seen[2]) >= {"1.weight", "3.weight", "5.weight"}


@pytest.mark.parametrize(
    "more", [(), ("callbacks.finetune.epochs=1", "+callbacks.ema._target_=losslab.optim.averaging.EMA")]
)
def test_statistics_of_frozen_batch_norms_do_not_move(
    typed: Typed, monkeypatch: pytest.MonkeyPatch, more: tuple[str, ...]
) -> None:
    seen = states(monkeypatch)
    cfg = typed(*IMAGES, "callbacks=finetune", "callbacks.finetune.epochs=1", "optimizer=adamw", *more)
    train(cfg)
    assert moved(seen[0], seen[1]) == {name for name in seen[0] if name.startswith("10.")}
    assert {name for name in seen[0] if "running" in name} <= moved(seen[1], seen[2])
    assert moved(seen[1], seen[2]) == set(seen[0])
    state = torch.load(folder_of(cfg) / "last.ckpt", weights_only=True)["optimizer_states"][0]["state"]
    steps = sorted(int(each["step"]) for each in state.values())
    epoch = steps[-1] // 3
    assert steps == [2 * epoch] * (len(seen[0]) - 8) + [3 * epoch] * 2, "moments of the backbone begin in epoch 1"


def test_a_run_goes_on_frozen_or_not_as_its_epoch_says(typed: Typed) -> None:
    class CutOff(Exception):
        pass

    for stop in (1, 3):
        whole = [*TABLE, "callbacks.last.seconds=0", "model.dropout=0.2"]
        expected, cut = typed(*whole), typed(*whole)
        train(expected)
        start = Experiment.on_train_epoch_start

        def cut_off(self: Experiment, stop: int = stop, start: Any = start) -> None:
            if self.current_epoch == stop:
                raise CutOff
            start(self)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Experiment, "on_train_epoch_start", cut_off)
            with pytest.raises(CutOff):
                train(cut)
        train(typed(f"ckpt={folder_of(cut) / 'last.ckpt'}"))
        mine, wanted = (
            torch.load(folder_of(cfg) / "last.ckpt", weights_only=True)["state_dict"] for cfg in (cut, expected)
        )
        assert all(torch.equal(mine[name], weight) for name, weight in wanted.items())


def test_a_run_that_goes_on_in_the_midst_of_an_epoch_is_frozen_before_the_first_step() -> None:
    """Lightning calls `on_train_start` then, and no `on_train_epoch_start`."""

    class At:
        current_epoch = 1

    module = pl.LightningModule()
    module.model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    trainer: Any = At()
    callback = Finetune(epochs=2)
    callback.on_train_start(trainer, module)
    assert [p.requires_grad for p in module.model.parameters()] == [False] * 4 + [True] * 2
    assert [layer.training for layer in module.model] == [True, False, True]
    trainer.current_epoch = 2
    callback.on_train_epoch_start(trainer, module)
    assert all(p.requires_grad for p in module.model.parameters())
    assert all(layer.training for layer in module.model)


@pytest.mark.parametrize("model", ["linear", "point data=numbers"])
def test_a_model_that_is_nothing_but_a_head_is_refused(typed: Typed, model: str) -> None:
    keys = [] if "data" in model else ["data=diabetes"]
    with pytest.raises(Refused, match="callbacks=finetune needs a model with more than its last layer: type another"):
        train(typed(*f"model={model}".split(), *keys, "callbacks=finetune"))


def test_it_lasts_at_least_one_epoch(typed: Typed) -> None:
    with pytest.raises(
        Refused, match=r"callbacks.finetune.epochs=0 does not fit: it must be a whole number of at least"
    ):
        typed("callbacks=finetune", "callbacks.finetune.epochs=0")


def test_the_head_is_the_last_layer_with_parameters() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1), nn.Softplus())
    assert find_head(model) is model[1]
    assert not list(find_head(nn.Identity()).parameters())
