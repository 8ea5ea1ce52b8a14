"""Runs of one shape trained as one: every weight has one more dimension, the run, and one step is a step of each.

The runs may differ in seed, data split, loss and the numbers of their optimizer. None sees another: its batches, its
gradients and its metrics are the ones it would have alone.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer

from losslab.errors import Diverged
from losslab.internals.lightning import counted_step
from losslab.internals.torch import unwrapped_step
from losslab.stacking import layout
from losslab.stacking.batches import StackedBatches
from losslab.stacking.stacked import Dropout, Stacked
from losslab.training.epochs import Batch, EpochModule, Rows, compute_metrics
from losslab.training.module import Experiment

SHARED = ("epoch", "global_step", "pytorch-lightning_version", "loops")  # in a checkpoint, the same for all runs
CHUNK_BYTES = {"cpu": 2**20}  # of scores that are evaluated at once: more would not stay in a CPU's cache
OTHER_CHUNK_BYTES = 2**28  # metrics take several times as much memory


class Scores(nn.Module):
    """A run's scores of a batch; the names of its weights are those in `Experiment`."""

    def __init__(self, run: Experiment) -> None:
        super().__init__()
        self.pixels, self.model = run.pixels, run.model

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.model(self.pixels(x))
        return scores


class Evaluator(nn.Module):
    """A run's task and loss: of scores, targets and weights the loss, what the task learns of them, or all metrics."""

    def __init__(self, run: Experiment) -> None:
        super().__init__()
        self.task, self.loss = run.task, run.loss

    def forward(self, *rows: Tensor, ask: str) -> Any:
        if ask == "loss":
            return self.loss.compute(self.task, *rows)
        if ask == "tune":
            return self.task.tune(*rows)
        return compute_metrics(self.task, self.loss, rows, with_loss=ask == "metrics and loss")


def optimizer_settings(run: Experiment) -> list[dict[str, Any]]:
    """Return the parameter groups of a run's optimizer: their numbers, and the names of their parameters."""
    names = {weight: name for name, weight in run.named_parameters()}
    return [
        {**group, "params": [names[weight] for weight in group["params"]]}
        for group in run.make_optimizer(run).param_groups
    ]


class Stack(EpochModule):
    """Several `Experiment`s as one: `losses = loss_j(model_j(x_j), y_j)`, the gradient of their sum, a step of each.

    The optimizer is of the runs' own class, with parameter groups for each setting of its numbers, so it has to be
    element-wise: what it does to a number must not depend on another one. Runs of equal settings are neighbours.

    Args:
        runs: sorted so that those with equal numbers in their optimizers follow on from each other.
        losses: for each run, a key of its loss: runs of equal keys are evaluated together.
        optimizer: called with parameter groups.
    """

    def __init__(
        self, runs: Sequence[Experiment], losses: Sequence[str], optimizer: Callable[[Any], Optimizer]
    ) -> None:
        first = runs[0]
        super().__init__(len(runs), first.make_scheduler, first.schedule, dim=1)
        self.accumulate, self.clip, self.clip_by = first.accumulate, first.clip, first.clip_by
        self.runs, self.losses, self.make_optimizer = list(runs), list(losses), optimizer
        self.names = list(first.state_dict())  # of a run's checkpoint
        self.scores = Stacked([Scores(run) for run in runs])
        self.generators = [torch.Generator() for _ in runs]
        for run, generator in zip(runs, self.generators, strict=True):
            generator.set_state(run.draws)
        for name, layer in list(self.scores.bare[0].named_modules()):
            if type(layer) is nn.Dropout and layer.p > 0:
                self.scores.bare[0].set_submodule(name, Dropout(layer.p, self.generators))
        self.kinds = list(dict.fromkeys(losses))
        self.evaluators = nn.ModuleList(
            Stacked([Evaluator(run) for run, loss in zip(runs, losses, strict=True) if loss == kind])
            for kind in self.kinds
        )
        equal = [list(same) for _, same in groupby(map(optimizer_settings, runs), key=repr)]
        self.settings = [same[0] for same in equal]
        self.setting_index = [index for index, same in enumerate(equal) for _ in same]  # of each run
        self.errors: list[Diverged | None] = [None] * len(runs)

    def forward(self, x: Tensor) -> Tensor:
        """Return the scores `(runs, rows, outputs)` of inputs `(runs, rows, ...)`."""
        scores: Tensor = self.scores(x)
        return scores

    def groups(self) -> list[tuple[list[int], Stacked]]:
        """Return for each loss its runs, and what evaluates them."""
        numbered = [[run for run, loss in enumerate(self.losses) if loss == kind] for kind in self.kinds]
        return [(runs, each) for runs, each in zip(numbered, self.evaluators, strict=True) if runs]  # type: ignore[misc]

    def compute_loss(self, *rows: Tensor) -> Tensor:
        """Return each run's loss `(runs,)` of scores, targets and, where there are some, weights."""
        groups = self.groups()
        if len(groups) == 1:
            loss: Tensor = groups[0][1](*rows, ask="loss")
            return loss
        each = torch.cat([evaluator(*(values[runs] for values in rows), ask="loss") for runs, evaluator in groups])
        return each[torch.tensor([run for runs, _ in groups for run in runs], device=each.device).argsort()]

    def build_optimizer(self) -> Optimizer:
        optimizer = self.make_optimizer([group for setting in self.setting_groups() for group in setting])
        self.map_slots(optimizer)
        return optimizer

    def first_group(self, run: int) -> int:
        return self.setting_index[run] * len(self.settings[0])

    def spans(self) -> list[tuple[int, int]]:
        """Return for each setting its first run and the one after its last."""
        index = self.setting_index
        return [(bisect_left(index, setting), bisect_right(index, setting)) for setting in range(len(self.settings))]

    def setting_groups(self) -> list[list[dict[str, Any]]]:
        """Return for each setting its parameter groups, with its runs' part of each weight."""
        weights = {name: layout.stored(values.detach()) for name, values in self.scores.weights().items()}
        return [
            [{**group, "params": [weights[name][first:last] for name in group["params"]]} for group in setting]
            for setting, (first, last) in zip(self.settings, self.spans(), strict=True)
        ]

    def map_slots(self, optimizer: Optimizer) -> None:
        """Record which part of which gradient belongs to each of the optimizer's parameters."""
        spans = [(group["params"], span) for setting, span in zip(self.settings, self.spans(), strict=True)
                 for group in setting]  # fmt: skip
        self.slots = [
            (weight, name, *span)
            for group, (names, span) in zip(optimizer.param_groups, spans, strict=True)
            if group["params"]
            for weight, name in zip(group["params"], names, strict=True)
        ]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Train on several batches in a row, as in `Experiment`."""
        loader, wrapped = self.trainer.train_dataloader, self.optimizers()
        assert isinstance(loader, StackedBatches)
        assert isinstance(wrapped, LightningOptimizer)
        optimizer = wrapped.optimizer
        step = counted_step(wrapped, unwrapped_step(optimizer))
        rows = [whole for _, whole in loader.sampler.parts(batch_idx)]
        batches = list(zip(*(torch.split(part, rows, 1) for part in batch), strict=True))
        losses = [
            loss
            for start in range(0, len(batches), self.accumulate)
            for loss in self.update(optimizer, step, batches[start : start + self.accumulate])
        ]
        self.record_losses(torch.stack(losses), rows)

    def record_losses(self, losses: Tensor, rows: Sequence[int]) -> None:
        """Add these losses `(batches, runs)` to the epoch's, fetched from the device at once; stop diverged runs."""
        values = losses.double().cpu()
        first = self.global_step - math.ceil(len(rows) / self.accumulate) + 1
        for run, total in enumerate((values * torch.tensor(rows)[:, None]).sum(0).tolist()):
            self.states[run].train_loss += total
            if not math.isfinite(total):
                each = values[:, run].tolist()
                for number in [number for number, loss in enumerate(each) if not math.isfinite(loss)][:1]:
                    step = first + number // self.accumulate
                    self.fail(run, each[number], f"at step {step} (epoch {self.current_epoch})")

    def fail(self, run: int, loss: float, where: str) -> None:
        """Note why a run stops; the others go on."""
        try:
            super().fail(run, loss, where)
        except Diverged as error:
            self.errors[run] = self.errors[run] or error

    def update(self, optimizer: Optimizer, step: Callable[[], Any], batches: list[Batch]) -> list[Tensor]:
        """Take one step of each run on the mean loss of these batches, and return their losses `(runs,)`."""
        losses, total = [], torch.zeros((), device=self.device)
        for x, *truth in batches:
            scores = self.scores(x)
            loss = self.compute_loss(scores, *truth)
            self.train_seen.add(scores, *truth)
            losses.append(loss.detach())
            total = total + loss.sum() / len(batches)  # no run's gradient depends on another's loss
        weights = self.scores.weights()
        found = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        gradients = {name: grad for name, grad in zip(weights, found, strict=True) if grad is not None}
        self.clip_each(gradients)
        rows = {name: layout.stored(grad).contiguous() for name, grad in gradients.items()}
        for weight, name, first, last in self.slots:
            weight.grad = rows[name][first:last] if name in rows else None
        step()
        if self.schedule["interval"] == "step":
            self.step_scheduler(optimizer)
        return losses

    def clip_each(self, gradients: dict[str, Tensor]) -> None:
        """Clip each run's gradients as it would by itself, and note their norms in the first step of an epoch."""
        limit, first = self.clip, self.states[0].gradient_norm is None
        if first or (limit is not None and self.clip_by == "norm"):
            each = [torch.linalg.vector_norm(grad.reshape(len(grad), -1), dim=1) for grad in gradients.values()]
            norms = torch.linalg.vector_norm(torch.stack(each), dim=0)
        if first:
            for state, norm in zip(self.states, norms.tolist(), strict=True):
                state.gradient_norm = norm
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
            for run, generator in zip(self.runs, self.generators, strict=True):
                if run.resumed is not None and (draws := run.resumed["processes"][0]["gpu_rng"]) is not None:
                    generator.set_state(draws)

    def measure(self, rows: Rows, with_loss: bool) -> Iterator[tuple[list[int], dict[str, Tensor]]]:
        scores = rows[0]
        size = CHUNK_BYTES.get(scores.device.type, OTHER_CHUNK_BYTES)
        chunk = max(1, size // max(1, scores[0].numel() * scores.element_size()))
        ask = "metrics and loss" if with_loss else "metrics"
        for runs, evaluator in self.groups():
            mine = rows if len(runs) == len(self.runs) else tuple(values[runs] for values in rows)
            yield runs, evaluator(*mine, chunk=chunk, ask=ask)

    def tune(self, rows: Rows) -> None:
        for runs, evaluator in self.groups():
            if any(name.startswith("task.") for name in evaluator.buffer_names):
                for name, learned in evaluator(*(values[runs] for values in rows), ask="tune").items():
                    setattr(evaluator, evaluator.own_name[f"task.{name}"], learned)

    def keep(self, runs: Sequence[int]) -> None:
        """Go on with these runs only; those that are over cost nothing from then on."""
        before = self.spans()
        for mine, evaluator in self.groups():
            evaluator.keep([number for number, run in enumerate(mine) if run in runs])
        self.scores.keep(runs)
        for name in ("runs", "losses", "setting_index", "errors", "states", "epoch_rows"):
            setattr(self, name, [getattr(self, name)[run] for run in runs])
        self.generators[:] = [self.generators[run] for run in runs]
        self.keep_in_optimizer(self.trainer.optimizers[0], runs, before)

    def keep_in_optimizer(self, optimizer: Optimizer, runs: Sequence[int], before: list[tuple[int, int]]) -> None:
        """Give the optimizer the weights and the state of these runs only.

        Args:
            optimizer: of the stack.
            runs: their numbers before.
            before: the span of each setting before.
        """
        groups = iter(optimizer.param_groups)
        for setting, (first, last) in zip(self.setting_groups(), before, strict=True):
            mine = [run - first for run in runs if first <= run < last]
            for new, group in zip(setting, groups, strict=False):
                for weight, former in zip(new["params"], group["params"], strict=False):
                    if (state := optimizer.state.pop(former, None)) and mine:
                        optimizer.state[weight] = layout.keep_rows(state, former, mine)
                group["params"] = new["params"] if mine else []  # the schedule counts on as many groups as before
        self.map_slots(optimizer)

    def checkpoint(self, run: int, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an ordinary run would keep now.

        Args:
            run: its number.
            shared: Lightning's checkpoint of the stack, whose epoch, step and loops are every run's.
        """
        weights = {name: values[run] for name, values in self.scores.state().items()}
        for mine, evaluator in self.groups():
            if run in mine:
                weights |= {name: values[mine.index(run)] for name, values in evaluator.state().items()}
        index = self.setting_index[run]
        groups = range(self.first_group(run), self.first_group(run) + len(self.settings[index]))
        packed = layout.pack_optimizer(self.trainer.optimizers[0], groups, run - self.spans()[index][0])
        draws, on_cpu = self.generators[run].get_state(), self.device.type == "cpu"
        rng = {"rng": draws if on_cpu else self.runs[run].draws, "gpu_rng": None if on_cpu else draws}
        return {
            **{key: shared[key] for key in SHARED},
            "state_dict": {
                name: weights[name].detach().clone(memory_format=torch.contiguous_format) for name in self.names
            },
            "optimizer_states": [packed],
            "lr_schedulers": [layout.pick_groups(each, groups) for each in shared["lr_schedulers"]],
            "processes": [{**rng, "seen": ([], [])}],
            "epoch_so_far": vars(self.states[run]).copy(),
        }

    def join_checkpoints(self, saved: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """Return what Lightning would keep of the stack now: `checkpoint` the other way round.

        Args:
            saved: what each run has kept, all at the same step; the runs hold their weights already.
        """
        weights, spans = self.scores.weights(), self.spans()
        settings = [
            ([group["params"] for group in setting], [each["optimizer_states"][0] for each in saved[first:last]])
            for setting, (first, last) in zip(self.settings, spans, strict=True)
        ]
        parts = [{name: weight[first:last] for name, weight in weights.items()} for first, last in spans]
        return {
            **{key: saved[0][key] for key in SHARED},
            "state_dict": self.state_dict(),
            "optimizer_states": [layout.join_optimizers(settings, parts)],
            "lr_schedulers": layout.join_groups([saved[first]["lr_schedulers"] for first, _ in spans]),
        }
