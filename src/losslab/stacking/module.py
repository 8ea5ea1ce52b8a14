"""Runs of one shape trained as one: every weight has one dimension more, the run, and one step is a step of each.

The runs may differ in seed, data split, loss and the numbers of their optimizer. None sees another: its batches, its
gradients and its metrics are those that it would have alone.
"""

import copy
import math
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from losslab.data.batches import Batches, Order
from losslab.errors import Diverged
from losslab.optim.schedules import warm_up
from losslab.record.record import peak_memory_mb
from losslab.training.module import SO_FAR, Experiment, diverged, measures, straight

Batch = tuple[Tensor, Tensor]
OF_LIGHTNING = ("epoch", "global_step", "pytorch-lightning_version", "loops")  # in a checkpoint, the same for all runs
OF_GROUPS = ("base_lrs", "max_lrs", "_last_lr", "lr_lambdas")  # what a schedule holds for each group of parameters
AT_ONCE = {"cpu": 2**20}  # bytes of scores that are judged at once: more would not stay in a CPU's cache


class Stacked(nn.Module):
    """Modules of one structure called as one, each with its own parameters, buffers and inputs.

    Args:
        modules: alike but for the values of their parameters and buffers.

    >>> both = Stacked([nn.Linear(2, 1), nn.Linear(2, 1)])
    >>> both(torch.zeros(2, 5, 2)).shape
    torch.Size([2, 5, 1])
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.bare = [copy.deepcopy(modules[0]).to("meta")]  # in a list: its weights are nobody's
        parameters, buffers = stack_module_state(list(modules))
        for name, stacked in parameters.items():
            self.register_parameter(name.replace(".", "/"), nn.Parameter(stacked.detach()))
        for name, stacked in buffers.items():
            self.register_buffer(name.replace(".", "/"), stacked)

    def state(self) -> dict[str, Tensor]:
        """Parameters and buffers by their names in one module, with the dimension of the modules first."""
        return self.weights() | {name.replace("/", "."): values for name, values in self.named_buffers()}

    def weights(self) -> dict[str, Tensor]:
        """The parameters alone."""
        return {name.replace("/", "."): values for name, values in self.named_parameters()}

    def forward(self, *inputs: Tensor, chunk: int | None = None, **same: Any) -> Any:
        """What each module makes of its inputs.

        Args:
            inputs: of all modules, stacked.
            chunk: how many modules to call at once; `None` for all.
            same: keys that are the same for all.
        """
        (bare,) = self.bare
        if bare.training != self.training:
            bare.train(self.training)
        each = vmap(lambda state, *mine: functional_call(bare, state, mine, same), chunk_size=chunk)
        return each(self.state(), *inputs)

    def lay(self, name: str, stride: tuple[int, ...]) -> None:
        """Put a parameter down in another order in memory, if it would lie as densely."""
        values = self.get_parameter(name.replace(".", "/")).detach()
        anew = torch.empty_strided(values.shape, stride, dtype=values.dtype, device=values.device)
        dense = anew.untyped_storage().nbytes() == values.numel() * values.element_size()
        if anew.stride() != values.stride() and dense:
            setattr(self, name.replace(".", "/"), nn.Parameter(anew.copy_(values)))

    def keep(self, numbers: list[int]) -> None:
        """Go on with these modules only."""
        for name, weight in list(self.named_parameters()):
            setattr(self, name, nn.Parameter(shaped(flat(weight.detach())[numbers], weight)))
        for name, values in list(self.named_buffers()):
            setattr(self, name, values[numbers].clone())


class Draw(torch.autograd.Function):
    """Dropout's factors, 0 or `1 / (1 - p)`; each run draws from a generator of its own, as it would alone."""

    @staticmethod
    def forward(x: Tensor, p: float, generators: list[torch.Generator]) -> Tensor:
        (generator,) = generators
        return torch.empty_like(x).bernoulli_(1 - p, generator=generator).div_(1 - p)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, None, None

    @staticmethod
    def vmap(info: Any, dims: Any, x: Tensor, p: float, generators: list[torch.Generator]) -> tuple[Tensor, int]:
        each = x.movedim(dims[0], 0)
        drawn = [
            torch.empty_like(part).bernoulli_(1 - p, generator=g) for part, g in zip(each, generators, strict=True)
        ]
        return torch.stack(drawn).div_(1 - p), 0


class Dropout(nn.Module):
    """Dropout of several runs at once.

    Args:
        p: the part that is dropped.
        generators: of each run; the list is the stack's, and grows shorter when runs end.
    """

    def __init__(self, p: float, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.p, self.generators = p, generators

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept: Tensor = x * Draw.apply(x.detach(), self.p, self.generators)
        return kept


class Scores(nn.Module):
    """The scores of a batch; names of weights are as in `Experiment`."""

    def __init__(self, run: Experiment) -> None:
        super().__init__()
        self.pixels, self.model = run.pixels, run.model

    def forward(self, x: Tensor) -> Tensor:
        scores: Tensor = self.model(self.pixels(x))
        return scores


class Judge(nn.Module):
    """What a task and a loss make of scores and targets: the loss, what is learned of them, or all measures."""

    def __init__(self, run: Experiment) -> None:
        super().__init__()
        self.task, self.loss = run.task, run.loss

    def forward(self, scores: Tensor, y: Tensor, ask: str) -> Any:
        if ask == "loss":
            return self.loss.compute(self.task, scores, y)
        if ask == "tuned":
            return self.task.tuned(scores, y)
        return measures(self.task, self.loss, scores, y, known=ask == "but the loss")


class Side(Order):
    """What Lightning takes for the sampler of several orders of rows."""

    def __init__(self, orders: Sequence[Order]) -> None:
        first = orders[0]
        super().__init__(first.rows, first.size, first.seed, first.count, first.at_once)
        self.orders = orders

    def set_epoch(self, epoch: int) -> None:
        for order in self.orders:
            order.set_epoch(epoch)


class SideBySide:
    """The batches of several runs, each in its own order, stacked.

    Args:
        loaders: of each run; all of as many rows.
    """

    batch_sampler = None  # Lightning looks for it

    def __init__(self, loaders: Sequence[Batches]) -> None:
        self.loaders = list(loaders)

    @property
    def sampler(self) -> Side:
        return Side([loader.sampler for loader in self.loaders])

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[Batch]:
        for parts in zip(*self.loaders, strict=True):
            x, y = zip(*parts, strict=True)
            yield torch.stack(x), torch.stack(y)

    def keep(self, numbers: list[int]) -> None:
        """Go on with these runs only."""
        self.loaders = [self.loaders[number] for number in numbers]

    def state_dict(self) -> dict[str, int]:
        """That of each."""
        return self.loaders[0].state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        for loader in self.loaders:
            loader.load_state_dict(state)


def numbers_of(run: Experiment) -> list[dict[str, Any]]:
    """The groups of a run's optimizer: their numbers, and the names of their parameters."""
    names = {weight: name for name, weight in run.named_parameters()}
    return [
        {**group, "params": [names[weight] for weight in group["params"]]}
        for group in run.make_optimizer(run).param_groups
    ]


class Stack(pl.LightningModule):
    """Several `Experiment`s as one: `losses = loss_j(model_j(x_j), y_j)`, the gradient of their sum, a step of each.

    The optimizer is the runs' own class, with a group of parameters for each setting of its numbers, so that it has to
    be element-wise: what it does to a weight must not look at another one. Runs of equal settings stand side by side.

    Args:
        runs: sorted so that those with equal numbers in their optimizers follow on from each other.
        losses: for each run, what its loss is called: those of the same name are evaluated together.
        optimizer: called with groups of parameters.
    """

    automatic_optimization = False

    def __init__(
        self, runs: Sequence[Experiment], losses: Sequence[str], optimizer: Callable[[Any], Optimizer]
    ) -> None:
        super().__init__()
        self.runs, self.losses, self.make_optimizer = list(runs), list(losses), optimizer
        self.names = list(runs[0].state_dict())  # of a run's checkpoint
        self.scores = Stacked([Scores(run) for run in runs])
        self.generators = [torch.Generator() for _ in runs]
        for run, generator in zip(runs, self.generators, strict=True):
            generator.set_state(run.draws)
        for name, layer in list(self.scores.bare[0].named_modules()):
            if type(layer) is nn.Dropout and layer.p > 0:
                self.scores.bare[0].set_submodule(name, Dropout(layer.p, self.generators))
        kinds = list(dict.fromkeys(losses))
        self.judges = nn.ModuleList(
            Stacked([Judge(run) for run, loss in zip(runs, losses, strict=True) if loss == kind]) for kind in kinds
        )
        self.kinds = kinds
        numbers = [numbers_of(run) for run in runs]
        self.settings = [next(same) for _, same in groupby(numbers, key=repr)]
        self.of = [k for k, (_, same) in enumerate(groupby(numbers, key=repr)) for _ in same]  # each run's setting
        self.seen: list[Batch] = []
        self.trained = self.started = 0.0
        self.train_loss = torch.zeros(len(runs), dtype=torch.float64)
        self.laid = False  # see fit_layout
        self.norms: Tensor | None = None
        self.rates: list[float] = []
        self.errors: list[Diverged | None] = [None] * len(runs)
        self.rows: list[dict[str, float]] = [{} for _ in runs]  # of the last epoch
        self.test_scores = torch.empty(0)

    def groups(self) -> list[tuple[list[int], nn.Module]]:
        """The runs of each loss, and what judges them."""
        numbered = [[n for n, loss in enumerate(self.losses) if loss == kind] for kind in self.kinds]
        return [(numbers, judge) for numbers, judge in zip(numbered, self.judges, strict=True) if numbers]

    def loss_of(self, scores: Tensor, y: Tensor) -> Tensor:
        """Each run's loss `(runs,)`."""
        groups = self.groups()
        if len(groups) == 1:
            loss: Tensor = groups[0][1](scores, y, ask="loss")
            return loss
        each = torch.cat([judge(scores[numbers], y[numbers], ask="loss") for numbers, judge in groups])
        return each[torch.tensor([n for numbers, _ in groups for n in numbers], device=each.device).argsort()]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer([group for setting in self.slices() for group in setting])
        self.place(optimizer)
        scheduler = self.runs[0].make_scheduler(optimizer)
        if warmup := self.runs[0].schedule["warmup"]:
            warm_up(optimizer, warmup)
        return [optimizer], [scheduler]

    def ends(self) -> list[tuple[int, int]]:
        """For each setting, its first run and the one after its last."""
        return [(bisect_left(self.of, k), bisect_right(self.of, k)) for k in range(len(self.settings))]

    def slices(self) -> list[list[dict[str, Any]]]:
        """For each setting, the groups of an optimizer with its runs' part of each weight, as it lies in memory."""
        weights = {name: flat(values.detach()) for name, values in self.scores.weights().items()}
        return [
            [{**group, "params": [weights[name][first:last] for name in group["params"]]} for group in setting]
            for setting, (first, last) in zip(self.settings, self.ends(), strict=True)
        ]

    def place(self, optimizer: Optimizer) -> None:
        """Note which part of which gradient belongs to each of the optimizer's parameters."""
        named = [
            (group["params"], ends)
            for setting, ends in zip(self.settings, self.ends(), strict=True)
            for group in setting
        ]
        self.slots = [
            (weight, name, *ends)
            for group, (names, ends) in zip(optimizer.param_groups, named, strict=True)
            if group["params"]
            for weight, name in zip(group["params"], names, strict=True)
        ]

    def group_of(self, run: int) -> dict[str, Any]:
        """The optimizer's first group of a run's parameters."""
        group: dict[str, Any] = self.trainer.optimizers[0].param_groups[self.of[run] * len(self.settings[0])]
        return group

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """As in `Experiment`, several batches in a row."""
        loader, optimizer = self.trainer.train_dataloader, self.optimizers()
        assert isinstance(loader, SideBySide)
        assert isinstance(optimizer, LightningOptimizer)
        rows, accumulate = [whole for _, whole in loader.sampler.parts(batch_idx)], self.runs[0].accumulate
        batches = list(zip(*(torch.split(part, rows, 1) for part in batch), strict=True))
        losses = [
            loss
            for start in range(0, len(batches), accumulate)
            for loss in self.update(optimizer, batches[start : start + accumulate])
        ]
        values = torch.stack(losses).double().cpu()  # of all these steps at once
        self.train_loss += (values * torch.tensor(rows)[:, None]).sum(0)
        first = self.global_step - math.ceil(len(rows) / accumulate) + 1
        for number, run in (~values.isfinite()).nonzero().tolist():
            step = first + number // accumulate
            self.fail(run, float(values[number, run]), f"at step {step} (epoch {self.current_epoch})")

    def fail(self, run: int, loss: float, where: str) -> None:
        """Note why a run stops; its neighbours go on."""
        self.errors[run] = self.errors[run] or Diverged(diverged(loss, where, self.group_of(run)))

    def update(self, optimizer: LightningOptimizer, batches: list[Batch]) -> list[Tensor]:
        """One step of each run on the mean loss of these batches, whose losses `(runs,)` are returned."""
        own, losses, total = optimizer.optimizer, [], torch.zeros((), device=self.device)
        for x, y in batches:
            scores = self.scores(x)
            loss = self.loss_of(scores, y)
            self.seen.append((scores.detach().to(torch.promote_types(scores.dtype, torch.float32)), y))
            losses.append(loss.detach())
            total = total + loss.sum() / len(batches)  # no run's gradient depends on another's loss
        weights = self.scores.weights()
        found = torch.autograd.grad(total, list(weights.values()), allow_unused=True)
        gradients = {name: grad for name, grad in zip(weights, found, strict=True) if grad is not None}
        self.clip(gradients)
        self.fit_layout(gradients, weights, own)
        lying = {name: flat(grad) for name, grad in gradients.items()}
        for weight, name, first, last in self.slots:
            weight.grad = lying[name][first:last] if name in lying else None
        optimizer._on_before_step()  # Lightning counts its steps here
        straight(own)()
        optimizer._on_after_step()
        if self.runs[0].schedule["interval"] == "step":
            self.step_scheduler()
        return losses

    def fit_layout(self, gradients: dict[str, Tensor], weights: dict[str, Tensor], optimizer: Optimizer) -> None:
        """Let weights and gradients lie alike in memory, where an optimizer goes through both as they lie.

        The gradient of a linear layer comes transposed. Before the first step the weights are put down in the order of
        their gradients, which then need not be copied.
        """
        if not self.laid:
            self.laid = True
            for name, grad in gradients.items():
                self.scores.lay(name, grad.stride())
            before, weights = weights, self.scores.weights()
            for group, new in zip(optimizer.param_groups, (g for s in self.slices() for g in s), strict=True):
                group["params"] = new["params"]
            slots = self.slots
            self.place(optimizer)
            for (former, name, *_), (weight, *_) in zip(slots, self.slots, strict=True):
                if state := optimizer.state.pop(former, None):  # of the few that begin with one
                    optimizer.state[weight] = {
                        key: flat(alike(shaped(value, before[name]), weights[name])) if like(value, former) else value
                        for key, value in state.items()
                    }
        for name, grad in gradients.items():
            if grad.stride() != weights[name].stride():
                gradients[name] = alike(grad, weights[name])

    def clip(self, gradients: dict[str, Tensor]) -> None:
        """Clip each run's gradients as it would by itself, and note their norms in the first step of an epoch."""
        limit, by = self.runs[0].clip, self.runs[0].clip_by
        if self.norms is None or (limit is not None and by == "norm"):
            each = [torch.linalg.vector_norm(grad.reshape(len(grad), -1), dim=1) for grad in gradients.values()]
            norms = torch.linalg.vector_norm(torch.stack(each), dim=0)
            self.norms = norms if self.norms is None else self.norms
        if limit is None:
            return
        for name, grad in gradients.items():
            if by == "value":
                gradients[name] = grad.clamp(-limit, limit)
            else:  # as torch.nn.utils.clip_grad_norm_
                gradients[name] = grad * (limit / (norms + 1e-6)).clamp(max=1).reshape(-1, *[1] * (grad.ndim - 1))

    def step_scheduler(self) -> None:
        """Note the rates that were used, and tell the schedule that a step or an epoch is over."""
        scheduler = self.lr_schedulers()
        assert isinstance(scheduler, LRScheduler)
        self.rates = [group.get("lr_used", group["lr"]) for group in scheduler.optimizer.param_groups]
        scheduler.step()

    def on_train_start(self) -> None:
        self.started = time.perf_counter()
        if self.device.type != "cpu":  # a GPU draws in an order of its own
            self.generators[:] = [torch.Generator(self.device).manual_seed(g.initial_seed()) for g in self.generators]
            for run, generator in zip(self.runs, self.generators, strict=True):
                if run.resumed is not None and (draws := run.resumed["processes"][0]["gpu_rng"]) is not None:
                    generator.set_state(draws)

    def on_train_epoch_start(self) -> None:
        getattr(self.trainer.optimizers[0], "train", lambda: None)()  # schedule-free: trained weights and judged ones
        self.started = time.perf_counter()
        self.train_loss, self.norms = torch.zeros(len(self.runs), dtype=torch.float64), None

    def on_validation_start(self) -> None:
        self.trained = time.perf_counter() - self.started
        getattr(self.trainer.optimizers[0], "eval", lambda: None)()
        self.training_seen, self.seen = self.seen, []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        scores = self.scores(batch[0])
        self.seen.append((scores.to(torch.promote_types(scores.dtype, torch.float32)), batch[1]))

    def on_validation_epoch_end(self) -> None:
        scores, y = self.take()
        for numbers, judge in self.groups():
            if any(name.startswith("task/") for name, _ in judge.named_buffers()):
                for name, values in judge(scores[numbers], y[numbers], ask="tuned").items():
                    setattr(judge, f"task/{name}", values)
        for number, row in enumerate(self.judge("val", scores, y)):
            self.runs[number].val_row = row
            if not math.isfinite(row["val/loss"]):
                self.fail(number, row["val/loss"], f"on the validation rows after step {self.global_step}")

    def on_train_epoch_end(self) -> None:
        self.seen = self.training_seen
        scores, y = self.take()
        rows, loss = y.shape[1], (self.train_loss / y.shape[1]).tolist()
        norms = torch.zeros(len(self.runs)) if self.norms is None else self.norms
        judged = self.judge("train", scores, y, known=True)
        if self.runs[0].schedule["interval"] == "epoch":
            self.step_scheduler()
        self.rows = []
        for number, (run, row, norm) in enumerate(zip(self.runs, judged, norms.tolist(), strict=True)):
            run.train_loss, run.gradient_norm = loss[number] * rows, norm
            rate = float(self.rates[self.of[number] * len(self.settings[0])])
            run.rate = rate if run.schedule["interval"] == "step" else run.rate
            row = {"train/loss": loss[number], **row, **run.val_row, "gradient_norm": norm, "lr": rate}
            self.rows.append({"epoch": self.current_epoch, **row, "examples_per_second": rows / self.trained})

    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        scores, y = self.take()
        self.test_scores = scores.cpu()
        for run, row in zip(self.runs, self.judge("test", scores, y), strict=True):
            run.test_row = {**row, "peak_memory_mb": peak_memory_mb(self.device)}

    def take(self) -> Batch:
        """Scores and targets `(runs, rows, ...)` of all that went by, and start anew."""
        scores, y = (torch.cat(parts, 1) for parts in zip(*self.seen, strict=True))
        self.seen = []
        return scores, y

    def judge(self, part: str, scores: Tensor, y: Tensor, known: bool = False) -> list[dict[str, float]]:
        """For each run what `Experiment.judge` says, fetched from the device at once."""
        at_once = AT_ONCE.get(scores.device.type, 2**28)  # metrics take several times as much memory
        chunk = max(1, at_once // max(1, scores[0].numel() * scores.element_size()))
        rows: list[dict[str, float]] = [{} for _ in self.runs]
        for numbers, judge in self.groups():
            mine = (scores, y) if len(numbers) == len(rows) else (scores[numbers], y[numbers])
            found = judge(*mine, chunk=chunk, ask="but the loss" if known else "all")
            values = torch.stack([value.detach().double() for value in found.values()], 1).tolist()
            for number, row in zip(numbers, values, strict=True):
                rows[number] = {f"{part}/{name}": value for name, value in zip(found, row, strict=True)}
        return rows

    def keep(self, numbers: list[int]) -> None:
        """Go on with these runs only; those that are done cost nothing from then on."""
        optimizer, before = self.trainer.optimizers[0], self.ends()
        for mine, judge in self.groups():
            judge.keep([n for n, run in enumerate(mine) if run in numbers])  # type: ignore[operator]
        self.scores.keep(numbers)
        for name in ("runs", "losses", "of", "errors", "rows"):
            setattr(self, name, [getattr(self, name)[number] for number in numbers])
        self.generators[:] = [self.generators[number] for number in numbers]
        groups = iter(optimizer.param_groups)
        for setting, (first, last) in zip(self.slices(), before, strict=True):
            mine = [number - first for number in numbers if first <= number < last]
            for new, group in zip(setting, groups, strict=False):
                for weight, former in zip(new["params"], group["params"], strict=False):
                    if (state := optimizer.state.pop(former, None)) and mine:
                        optimizer.state[weight] = {
                            key: value[mine] if like(value, former) else value for key, value in state.items()
                        }
                group["params"] = new["params"] if mine else []  # the schedule counts on as many groups as before
        self.place(optimizer)

    def checkpoint(self, number: int, shared: Mapping[str, Any]) -> dict[str, Any]:
        """What an ordinary run would keep now.

        Args:
            number: of the run.
            shared: Lightning's checkpoint of the stack, whose epoch, step and loops are every run's.
        """
        run, optimizer = self.runs[number], self.trainer.optimizers[0]
        weights = {name: values[number] for name, values in self.scores.state().items()}
        for mine, judge in self.groups():
            if number in mine:
                weights |= {name: values[mine.index(number)] for name, values in judge.state().items()}  # type: ignore[operator]
        first = self.ends()[self.of[number]][0]
        width = len(self.settings[0])
        groups = range(self.of[number] * width, (self.of[number] + 1) * width)
        state: dict[int, dict[str, Any]] = {}
        packed, count = [], 0
        lying = self.scores.weights()
        for group, names in zip(
            (optimizer.param_groups[k] for k in groups), self.settings[self.of[number]], strict=True
        ):
            ids = range(count, count + len(group["params"]))
            for key, weight, name in zip(ids, group["params"], names["params"], strict=True):
                if kept := optimizer.state.get(weight):
                    state[key] = {
                        what: shaped(value, lying[name])[number - first].clone(memory_format=torch.contiguous_format)
                        if like(value, weight)
                        else copied(value)
                        for what, value in kept.items()
                    }
            count += len(ids)
            packed.append({**group, "params": list(ids)})
        draws, on_cpu = self.generators[number].get_state(), self.device.type == "cpu"
        rng: dict[str, Any] = {"rng": draws if on_cpu else run.draws, "gpu_rng": None if on_cpu else draws}
        return {
            **{key: shared[key] for key in OF_LIGHTNING},
            "state_dict": {
                name: weights[name].detach().clone(memory_format=torch.contiguous_format) for name in self.names
            },
            "optimizer_states": [{"state": state, "param_groups": packed}],
            "lr_schedulers": [of_groups(each, groups) for each in shared["lr_schedulers"]],
            "processes": [{**rng, "seen": ([], [])}],
            "epoch_so_far": {name: getattr(run, name) for name in SO_FAR},
        }

    def gathered(self, saved: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """What Lightning would keep of the stack now: `checkpoint` the other way round.

        Args:
            saved: what each run has kept, all at the same step; the runs hold their weights already.
        """
        state: dict[int, dict[str, Any]] = {}
        packed, count, lying = [], 0, self.scores.weights()
        for setting, (first, last) in zip(self.settings, self.ends(), strict=True):
            mine = [each["optimizer_states"][0] for each in saved[first:last]]
            before = count
            for group, kept in zip(setting, mine[0]["param_groups"], strict=True):
                packed.append({**kept, "params": list(range(count, count + len(group["params"])))})
                for name in group["params"]:
                    weight, each = lying[name][first:last], [one["state"].get(count - before, {}) for one in mine]
                    state[count] = {
                        what: flat(alike(torch.stack([one[what] for one in each]), weight))
                        if isinstance(value, Tensor) and value.shape == weight.shape[1:]
                        else value
                        for what, value in each[0].items()
                    }
                    count += 1
        firsts = [saved[first]["lr_schedulers"] for first, _ in self.ends()]
        return {
            **{key: saved[0][key] for key in OF_LIGHTNING},
            "state_dict": self.state_dict(),
            "optimizer_states": [{"state": {key: each for key, each in state.items() if each}, "param_groups": packed}],
            "lr_schedulers": joined(firsts),
        }


def flat(values: Tensor) -> Tensor:
    """The numbers of each run `(runs, numbers)` in the order in which they lie in memory, without gaps; no copy."""
    return values.as_strided((len(values), math.prod(values.shape[1:])), (values.stride(0), 1))


def shaped(numbers: Tensor, weight: Tensor) -> Tensor:
    """What `flat` makes of a tensor that lies in memory as this weight does, as that tensor."""
    return numbers.as_strided((len(numbers), *weight.shape[1:]), (numbers.stride(0), *weight.stride()[1:]))


def alike(value: Tensor, weight: Tensor) -> Tensor:
    """A tensor of a weight's shape, put down in memory as the weight is."""
    return torch.empty_strided(value.shape, weight.stride(), dtype=value.dtype, device=value.device).copy_(value)


def like(value: Any, weight: Tensor) -> bool:
    """Whether an optimizer keeps this for each number of a weight, and not once for all."""
    return isinstance(value, Tensor) and value.shape == weight.shape


def copied(value: Any) -> Any:
    """Of an optimizer's state what is one for all numbers of a weight, such as the count of its steps."""
    return value.clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def of_groups(state: Any, groups: Sequence[int]) -> Any:
    """The state of a schedule, for these groups of parameters only."""
    if isinstance(state, dict):
        return {
            key: [value[k] for k in groups]
            if key in OF_GROUPS and isinstance(value, list)
            else of_groups(value, groups)
            for key, value in state.items()
        }
    return [of_groups(each, groups) for each in state] if isinstance(state, list) else copy.deepcopy(state)


def joined(states: Sequence[Any]) -> Any:
    """The state of a schedule from those for some of its groups of parameters: `of_groups` the other way round."""
    first = states[0]
    if isinstance(first, dict):
        return {
            key: [each for state in states for each in state[key]]
            if key in OF_GROUPS and isinstance(value, list)
            else joined([state[key] for state in states])
            for key, value in first.items()
        }
    return [joined(each) for each in zip(*states, strict=True)] if isinstance(first, list) else first
