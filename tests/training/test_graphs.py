"""Steps that a GPU records as a CUDA graph: on a CPU, who gets one, and that replaying takes the same steps."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from losslab.config.check import configure
from losslab.record.rows import read_history, timeless
from losslab.stacking.group import plan_runs, split_stacks
from losslab.stacking.train import train_together
from losslab.train import train
from losslab.training.epochs import EpochModule
from losslab.training.graphs import Graphs, Recording, Steps, reason_against
from tests.losses.examples import FITTING, loss_named, prepared
from tests.stacking.alike import checkpoint

CONSTANT = {"interval": "epoch", "warmup": 0}
DIGITS = ("task=single_label", "data.batch_size=16", "trainer.max_epochs=2", "trainer=cpu", "logger=false",
          "trainer.enable_progress_bar=false")  # fmt: skip


class Tape:
    """In the place of a CUDA graph: it takes the recorded steps again, in the tensors that they were recorded in."""

    replays = 0

    def __init__(self, take: Callable[[], Steps]) -> None:
        self.take, self.found = take, take()

    def replay(self) -> None:
        Tape.replays += 1
        for mine, new in zip(tensors_of(self.found), tensors_of(self.take()), strict=True):
            mine.copy_(new)


def tensors_of(steps: Steps) -> list[Tensor]:
    norms = [] if steps.norm is None else [steps.norm]
    return [*(loss for step in steps.losses for loss in step), steps.scores, *norms]


@contextmanager
def undone(module: Any, generators: Any) -> Iterator[None]:
    """Undo what steps do to weights, to the optimizers' state and to random numbers: recording takes none."""
    states = [value for each in module.trainer.optimizers for state in each.state.values() for value in state.values()]
    held = [value for value in (*module.parameters(), *module.buffers(), *states) if torch.is_tensor(value)]
    before, draws = [value.detach().clone() for value in held], torch.get_rng_state()
    own = [generator.get_state() for generator in generators]
    yield
    for value, old in zip(held, before, strict=True):
        value.data.copy_(old)
    torch.set_rng_state(draws)
    for generator, state in zip(generators, own, strict=True):
        generator.set_state(state)


@pytest.fixture(autouse=True)
def device(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have a device with free memory, in bytes, of which a run has taken ten."""
    free = [100]
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free[0], 100))
    monkeypatch.setattr(torch.cuda, "max_memory_reserved", lambda: 10)
    return free


@pytest.fixture
def taped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have runs on the CPU replay steps."""

    def record_steps(module: Any, generators: Any = ()) -> None:
        assert reason_against(module, module.trainer.optimizers, module.schedule) is None
        made = Graphs(module.take_steps, module.trainer.optimizers, generators=generators)

        def record(batch: Any, *facts: Any) -> Recording:
            held = tuple(values.clone() for values in batch)
            with undone(module, generators):
                tape: Any = Tape(lambda: made.take(held, *facts))
            return Recording(tape, held, tape.found)

        made.record = record  # type: ignore[method-assign]
        module.steps_of = made

    start = EpochModule.on_train_start

    def on_train_start(module: Any) -> None:
        start(module)
        if hasattr(module, "runs"):  # a stack asks for it on a GPU alone
            record_steps(module, module.generators)

    monkeypatch.setattr(EpochModule, "record_steps", record_steps)
    monkeypatch.setattr(EpochModule, "on_train_start", on_train_start)
    monkeypatch.setattr(Tape, "replays", 0)


ALIKE = [
    ("optimizer=adam", "model.hidden=[8]", "model.dropout=0.3", "trainer.gradient_clip_val=0.5"),
    ("optimizer=momentum", "model=cnn", "model.channels=[4]", "trainer.accumulate_grad_batches=2"),
]


def trained(folder: Path, alone: tuple[str, ...], stacked: list[tuple[str, ...]]) -> list[Path]:
    """Train a run alone and some as a stack; return their folders."""
    folders = [train(configure([*DIGITS, *alone, f"output_dir='{(folder / 'alone').as_posix()}'"])).folder]
    typed = [
        [*DIGITS, *words, f"output_dir='{(folder / str(number)).as_posix()}'"] for number, words in enumerate(stacked)
    ]
    (runs,) = split_stacks(plan_runs(typed), len(typed))
    return folders + [outcome.folder for outcome in train_together(runs) if not isinstance(outcome, BaseException)]


@pytest.fixture(params=ALIKE, ids=lambda words: words[0])
def words(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What is typed for the runs."""
    found: tuple[str, ...] = request.param
    return found


def test_replayed_steps_are_the_steps(words: tuple[str, ...], tmp_path: Path, request: pytest.FixtureRequest) -> None:
    stack = [(*words, f"loss={loss}", f"seed={seed}") for seed, loss in enumerate(("cross_entropy", "mse"))]
    plain = trained(tmp_path / "plain", words, stack)
    request.getfixturevalue("taped")
    replayed = trained(tmp_path / "replayed", words, stack)
    assert len(plain) == len(replayed) == 3
    assert Tape.replays >= 4
    for one, other in zip(plain, replayed, strict=True):
        mine, yours = (checkpoint(folder, "last") for folder in (one, other))
        assert mine["global_step"] == yours["global_step"]
        assert all(map(torch.equal, mine["state_dict"].values(), yours["state_dict"].values()))
        rows = [list(map(timeless, read_history(folder / "history.csv"))) for folder in (one, other)]
        assert rows[0] == rows[1]
        assert all(row["gradient_norm"] > 0 for row in rows[0])


@pytest.mark.parametrize("why", ["it fails", "it is not allowed", "there is no room"])
def test_steps_that_cannot_be_recorded_are_taken_as_usual(
    why: str, device: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[int] = []
    device[0] = 10 if why == "there is no room" else 100

    def take(batch: tuple[Tensor, ...]) -> Steps:
        taken.append(len(taken))
        return Steps([[batch[0].sum()]], batch[0], None)

    weight = nn.Parameter(torch.zeros(1))
    steps = Graphs(take, [torch.optim.SGD([weight], lr=0.1)], lambda: why != "it is not allowed")

    def fails(*_: Any) -> Recording:
        assert why == "it fails"
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(steps, "record", fails)
    for number in range(4):
        assert steps((torch.full((2,), float(number)),)).losses[0][0] == 2 * number
    assert len(taken) == 4


def test_a_recording_is_made_anew_for_other_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """It holds the learning rate that it was recorded with, which weights are trained, and where they are."""
    weights = [nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    steps = Graphs(lambda batch: Steps([], batch[0], None), [optimizer])
    recorded: list[int] = []

    def record(batch: tuple[Tensor, ...], *_: Any) -> Recording:
        recorded.append(len(batch[0]))
        return Recording(Tape(lambda: Steps([], batch[0], None)), batch, Steps([], batch[0], None))  # type: ignore[arg-type]

    monkeypatch.setattr(steps, "record", record)
    for rows in (3, 3, 3, 2, 2, 3):
        steps((torch.zeros(rows),))
    assert recorded == [3, 2]
    optimizer.param_groups[0]["lr"] = 0.05
    with_hook = optimizer.register_step_post_hook(lambda *_: None)  # such as a moving average's, which counts steps
    replays = Tape.replays
    [steps((torch.zeros(3),)) for _ in range(3)]
    assert Tape.replays == replays
    with_hook.remove()
    [steps((torch.zeros(3),)) for _ in range(3)]
    assert Tape.replays > replays
    weights[0].requires_grad_(False)
    [steps((torch.zeros(3),)) for _ in range(3)]
    weights[1].data = torch.ones(1)  # as a callback may that changes the model
    [steps((torch.zeros(3),)) for _ in range(3)]
    assert recorded == [3, 2, 3, 3, 3]


class Counting(nn.Linear):
    """A model that does another thing at each call."""


def test_who_gets_a_recording() -> None:
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, nn.ReLU())
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    assert reason_against(model, [sgd], CONSTANT) is None
    assert reason_against(model, [torch.optim.Adam(model.parameters(), fused=True)], CONSTANT) is None
    assert "Counting" in str(reason_against(nn.Sequential(Counting(2, 2)), [sgd], CONSTANT))
    assert "each step" in str(reason_against(model, [sgd], {"interval": "step", "warmup": 0}))
    assert "each step" in str(reason_against(model, [sgd], {"interval": "epoch", "warmup": 5}))
    hooks: list[Callable[[], Any]] = [
        lambda: layer.register_forward_hook(lambda *_: None),
        lambda: layer.weight.register_hook(lambda grad: grad),  # type: ignore[no-untyped-call]
        lambda: layer.weight.register_post_accumulate_grad_hook(lambda weight: None),  # type: ignore[no-untyped-call]
    ]
    for hook in hooks:  # such as those that draw histograms of gradients
        held = hook()
        assert "called" in str(reason_against(model, [sgd], CONSTANT))
        held.remove()
        assert reason_against(model, [sgd], CONSTANT) is None
    for other in (torch.optim.Adam(model.parameters()), torch.optim.RMSprop(model.parameters())):
        assert "on the CPU" in str(reason_against(model, [sgd, other], CONSTANT))


def test_no_loss_fetches_a_number_from_the_device() -> None:
    """What is recorded must not look at numbers, which a meta tensor does not have."""

    for name, loss in FITTING:
        task, scores, y = prepared(name, loss=loss)
        of_task, of_loss = copy.deepcopy(task).to("meta"), copy.deepcopy(loss_named(loss)).to("meta")
        given = torch.empty_like(scores, device="meta").requires_grad_()
        torch.autograd.grad(of_loss.compute(of_task, given, y.to("meta")), given)
    with pytest.raises(RuntimeError, match="meta"):
        torch.zeros(3, device="meta").sum().item()
