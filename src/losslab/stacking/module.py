"""Runs of one shape trained as one: every weight has one more dimension, the run, and one step is a step of each.

The runs may differ in seed, data split, loss and the numbers of their optimizer. None sees another: its batches, its
gradients and its metrics are the ones it would have alone.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from losslab.errors import Diverged
from losslab.internals.lightning import count_steps
from losslab.internals.torch import unwrapped_step
from losslab.stacking.batches import StackedBatches
from losslab.stacking.stacked import Stacked
from losslab.training.epochs import Batch, EpochModule, Rows, compute_metrics
from losslab.training.graphs import Steps
from losslab.training.module import Experiment

CHUNK_BYTES = {"cpu": 2**20}  # of scores that are evaluated at once: more would not stay in a CPU's cache
OTHER_CHUNK_BYTES = 2**28  # metrics take several times as much memory


class Evaluator(nn.Module):
    """A run's task and loss, for a function of both and of scores, targets and weights."""

    def __init__(self, run: Experiment) -> None:
        super().__init__()
        self.task, self.loss = run.task, run.loss

    def forward(self, *rows: Tensor, ask: Callable[..., Any]) -> Any:
        return ask(self.task, self.loss, *rows)


def optimizer_settings(run: Experiment) -> list[dict[str, Any]]:
    """Return the parameter groups of a run's optimizer: their numbers, and the names of their parameters."""
    names = {weight: name for name, weight in run.named_parameters()}
    (optimizer,) = run.build_optimizers()
    return [{**group, "params": [names[weight] for weight in group["params"]]} for group in optimizer.param_groups]


def turn(weight: Tensor, values: Tensor) -> Tensor:
    """View a weight, its gradient or an optimizer's state of it as it lies in memory, or the other way round."""
    return values if weight.is_contiguous() else values.mT  # see `Stacked`


class Stack(EpochModule):
    """Several `Experiment`s as one: `losses = loss_j(model_j(x_j), y_j)`, the gradient of their sum, a step of each.

    Runs that follow on from each other and whose optimizers have equal numbers share an optimizer, of the runs' own
    class. It has to be element-wise: what it does to a number must not depend on another one. A run that diverges
    stays; it changes no other.

    Args:
        runs: of one shape.
        losses: for each run, a key of its loss: runs of equal keys are evaluated together.
    """

    order: Tensor
    place: Tensor

    def __init__(self, runs: Sequence[Experiment], losses: Sequence[str]) -> None:
        first = runs[0]
        super().__init__(len(runs), first.make_scheduler, first.schedule, dim=1)
        self.accumulate, self.clip, self.clip_by = first.accumulate, first.clip, first.clip_by
        self.cuda_graphs = first.cuda_graphs
        self.runs = runs
        self.names = list(first.state_dict())  # of a run's checkpoint
        self.generators = [torch.Generator() for _ in runs]
        for run, generator in zip(runs, self.generators, strict=True):
            generator.set_state(run.draws)
        chains = [nn.Sequential(OrderedDict(pixels=run.pixels, model=run.model)) for run in runs]
        self.scores = Stacked(chains, self.generators)
        members = [[run for run, loss in enumerate(losses) if loss == kind] for kind in dict.fromkeys(losses)]
        evaluators = [Stacked([Evaluator(runs[run]) for run in some]) for some in members]
        self.kinds, self.evaluators = list(zip(members, evaluators, strict=True)), nn.ModuleList(evaluators)
        order = torch.tensor([run for some in members for run in some])
        self.register_buffer("order", order, persistent=False)  # of the runs, by loss
        self.register_buffer("place", order.argsort(), persistent=False)  # of each run in that order
        settings = [optimizer_settings(run) for run in runs]
        starts = [run for run in range(len(runs)) if run == 0 or repr(settings[run]) != repr(settings[run - 1])]
        self.parts = [slice(*ends) for ends in pairwise([*starts, len(runs)])]  # the runs of each optimizer
        self.settings = [settings[start] for start in starts]
        self.slots: list[dict[str, Tensor]] = []  # of each optimizer: its runs' part of each weight, by name
        self.errors: list[Diverged | None] = [None] * len(runs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores `(runs, rows, outputs)` of inputs `(runs, rows, ...)`."""
        scores: Tensor = self.scores(x)
        return scores

    def evaluate_each(
        self, ask: Callable[..., Any], rows: Rows, chunk: int | None = None
    ) -> Iterator[tuple[list[int], Any]]:
        """Return for each loss its runs, and what a function of their tasks, losses and rows says of them."""
        each: Iterable[Rows] = [rows]
        if len(self.kinds) > 1:
            sizes = [len(runs) for runs, _ in self.kinds]
            each = zip(*(torch.split(values.index_select(0, self.order), sizes) for values in rows), strict=True)
        for (runs, evaluator), mine in zip(self.kinds, each, strict=True):
            yield runs, evaluator(*mine, chunk=chunk, ask=ask)

    def compute_loss(self, *rows: Tensor) -> Tensor:
        """Return each run's loss `(runs,)` of scores, targets and, where there are some, weights."""
        losses = [each for _, each in self.evaluate_each(lambda task, loss, *mine: loss.compute(task, *mine), rows)]
        return losses[0] if len(losses) == 1 else torch.cat(losses)[self.place]

    def build_optimizers(self) -> list[Optimizer]:
        weights, optimizers = self.scores.weights(), []
        for part, groups in zip(self.parts, self.settings, strict=True):
            names = [name for group in groups for name in group["params"]]
            mine = {name: turn(weights[name], weights[name].detach())[part] for name in names}
            placed = [{**group, "params": [mine[name] for name in group["params"]]} for group in groups]
            optimizers.append(self.runs[part.start].make_optimizer(placed))
            self.slots.append(mine)
        return optimizers

    def optimizer_index(self, run: int) -> int:
        return next(index for index, part in enumerate(self.parts) if run < part.stop)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Train on several batches in a row, as in `Experiment`."""
        loader: StackedBatches = self.trainer.train_dataloader  # type: ignore[assignment]
        rows = [whole for _, whole in loader.loaders[0].sampler.parts(batch_idx)]
        steps = self.train_batches(batch, rows, rows)
        count_steps(self.wrapped()[0], len(steps.losses))
        self.train_seen.add(steps.scores, *batch[1:])
        self.record_losses(steps.losses, rows)

    def take_steps(self, batch: Batch, here: Sequence[int], whole: Sequence[int], first: bool) -> Steps:
        self.first, self.norm = first, None
        steps = [unwrapped_step(each.optimizer) for each in self.wrapped()]
        batches = list(zip(*(torch.split(part, list(whole), 1) for part in batch), strict=True))
        scores: list[Tensor] = []
        losses = [
            self.update(lambda: [step() for step in steps], batches[at : at + self.accumulate], scores)
            for at in range(0, len(batches), self.accumulate)
        ]
        return Steps(losses, torch.cat(scores, 1), self.norm)

    def fail(self, run: int, loss: float, where: str) -> None:
        """Note why a run stops; the others go on."""
        if self.errors[run] is None:
            try:
                super().fail(run, loss, where)
            except Diverged as error:
                self.errors[run] = error

    def update(self, step: Callable[[], Any], batches: list[Batch], kept: list[Tensor]) -> list[Tensor]:
        """Take one step of each run on the mean loss of these batches; return their losses `(runs,)`, keep scores."""
        losses, total = [], torch.zeros((), device=self.device)
        for x, *truth in batches:
            scores = self.scores(x)
            loss = self.compute_loss(scores, *truth)
            kept.append(scores.detach())
            losses.append(loss.detach())
            total = total + loss.sum() / len(batches)  # no run's gradient depends on another's loss
        weights = self.scores.weights()
        found = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        gradients = {name: grad for name, grad in zip(weights, found, strict=True) if grad is not None}
        self.clip_each(gradients)
        rows = {name: turn(weights[name], grad).contiguous() for name, grad in gradients.items()}
        for mine, part in zip(self.slots, self.parts, strict=True):
            for name, weight in mine.items():
                weight.grad = rows[name][part] if name in rows else None
        step()
        if self.schedule["interval"] == "step":
            self.step_schedulers(self.trainer.optimizers)
        return losses

    def clip_each(self, gradients: dict[str, Tensor]) -> None:
        """Clip each run's gradients as it would by itself, and note their norms in the first step of an epoch."""
        limit, first = self.clip, self.first
        if first or (limit is not None and self.clip_by == "norm"):
            each = [torch.linalg.vector_norm(grad.reshape(len(grad), -1), dim=1) for grad in gradients.values()]
            norms = torch.linalg.vector_norm(torch.stack(each), dim=0)
        if first:
            self.first, self.norm = False, norms
        if limit is None:
            return
        for name, grad in gradients.items():
            if self.clip_by == "value":
                gradients[name] = grad.clamp(-limit, limit)
            else:  # as torch.nn.utils.clip_grad_norm_
                gradients[name] = grad * (limit / (norms + 1e-6)).clamp(max=1).reshape(-1, *[1] * (grad.ndim - 1))

    def on_train_start(self) -> None:
        super().on_train_start()
        if self.device.type != "cpu":  # a GPU draws in an order of its own
            self.generators[:] = [torch.Generator(self.device).manual_seed(g.initial_seed()) for g in self.generators]
            self.record_steps(self.generators)

    def measure(self, rows: Rows, with_loss: bool) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        size = CHUNK_BYTES.get(rows[0].device.type, OTHER_CHUNK_BYTES)
        chunk = max(1, size // max(1, rows[0][0].nbytes))
        return self.evaluate_each(lambda task, loss, *mine: compute_metrics(task, loss, mine, with_loss), rows, chunk)

    def tune(self, rows: Rows) -> None:
        learned = self.evaluate_each(lambda task, _, *mine: task.tune(*mine), rows)
        for (_, values), (_, evaluator) in zip(learned, self.kinds, strict=True):
            for name, value in values.items():
                setattr(evaluator, evaluator.own_name[f"task.{name}"], value)
