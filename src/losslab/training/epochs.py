"""What one run and a stack of runs share: collect rows, evaluate them, record the epoch, step the schedule."""

import math
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate, chain
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from losslab.errors import Diverged
from losslab.losses import Loss, Sum
from losslab.optim.schedules import read_rates, warm_up
from losslab.record.record import peak_memory_mb
from losslab.record.rows import GRADIENT_NORM, SPEED, Row
from losslab.tasks import Task
from losslab.training import distributed
from losslab.training.graphs import Graphs, Steps, reason_against

FETCHED = {"cpu": 1}  # batches whose losses are fetched at once
OTHER_FETCHED = 32  # a GPU must finish all that it was given before it hands them over, and then waits for new work
Batch = tuple[Tensor, ...]  # inputs and targets, and weights where the data have them
Rows = tuple[Tensor, ...]  # raw scores and targets, and weights where the data have them


@dataclass
class EpochState:
    """What a run has so far of the current epoch; a checkpoint keeps it."""

    train_loss: float = 0.0  # the sum of the losses of the rows that were trained on
    gradient_norm: float | None = None  # of the first step, before clipping; `None` until then
    val_row: dict[str, float] = field(default_factory=dict)  # the loss and the metrics of the validation rows

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Set the values that a checkpoint holds."""
        for each in fields(self):
            setattr(self, each.name, saved[each.name])


class Collector:
    """The scores and targets of an epoch's rows, and their weights, to be evaluated all at once.

    That is exact for every metric, and costs two appends a step where updating a metric would cost a millisecond.

    Args:
        dim: the dimension of the rows: 0, or 1 where the first dimension is the run.

    >>> seen = Collector()
    >>> seen.add(torch.zeros(2, 3), torch.ones(2)), seen.add(torch.zeros(1, 3), torch.ones(1))
    (None, None)
    >>> [tuple(values.shape) for values in seen.take()]
    [(3, 3), (3,)]
    """

    def __init__(self, dim: int = 0) -> None:
        self.dim = dim
        self.batches: list[Rows] = []

    def add(self, scores: Tensor, *truth: Tensor) -> None:
        """Add rows; half precision is enough to train in, but not to compute metrics in."""
        self.batches.append((scores.detach().to(torch.promote_types(scores.dtype, torch.float32)), *truth))

    def columns(self) -> tuple[list[Tensor], ...]:
        """Return the scores of each batch, the targets and so on; nothing before the first batch."""
        return tuple(map(list, zip(*self.batches, strict=True)))

    def take(self) -> Rows:
        """Return the rows of all processes, and empty the collector."""
        rows = tuple(distributed.gather_rows(torch.cat(parts, self.dim)) for parts in self.columns())
        self.batches = []
        return rows


class EpochModule(pl.LightningModule):
    """The epochs of n runs. `Experiment` is the case of one run: its tensors have no dimension for the runs.

    A subclass trains in `take_steps`. Everything that happens once an epoch, or once for several steps, is here.

    Args:
        scheduler: called with the optimizer.
        schedule: `interval`, which is `step` or `epoch`; `monitor` where the scheduler looks at a metric; `warmup`, the
            steps over which the learning rate rises to what the schedule says.
        dim: the dimension of the rows in scores and targets.
    """

    automatic_optimization = False  # training_step takes several optimizer steps
    accumulate = 1  # batches per optimizer step
    cuda_graphs = True  # whether steps may be recorded as such
    first = False  # whether the next step is the first of an epoch
    norm: Tensor | None = None  # of that step's gradients, before clipping, until it is fetched

    def __init__(
        self, runs: int, scheduler: Callable[[Optimizer], Any], schedule: dict[str, Any], dim: int = 0
    ) -> None:
        super().__init__()
        self.make_scheduler, self.schedule = scheduler, schedule
        self.states = [EpochState() for _ in range(runs)]
        self.unfetched: list[tuple[Tensor, list[int], list[Sequence[int]]]] = []  # see record_losses
        self.train_seen, self.eval_seen, self.val_seen = Collector(dim), Collector(dim), Collector(dim)
        self.rates: list[float] = []  # of each optimizer's first parameter group, in the last step
        self.started = self.trained = 0.0  # when the epoch began, and the seconds that its training took
        self.epoch_rows: list[Row] = [{} for _ in range(runs)]
        self.test_rows: list[Row] = [{} for _ in range(runs)]
        self.test_scores = self.val_scores = torch.empty(0)
        self.steps_of: Callable[..., Steps] = self.take_steps

    def take_steps(self, batch: Batch, here: Sequence[int], whole: Sequence[int], first: bool) -> Steps:
        """Train on several batches in a row, which costs less for all of them than a small step for each.

        Args:
            batch: all of them as one.
            here: how many rows of each are this process's.
            whole: how many rows each has.
            first: whether these are the first steps of an epoch, whose gradient has its norm taken.
        """
        raise NotImplementedError

    def build_optimizers(self) -> list[Optimizer]:
        """Make the optimizers: one, or one for each setting of a stack."""
        raise NotImplementedError

    def optimizer_index(self, run: int) -> int:
        """Return the number of a run's optimizer."""
        raise NotImplementedError

    def measure(self, rows: Rows, with_loss: bool) -> Iterable[tuple[list[int], dict[str, Tensor]]]:
        """Compute the loss, its parts and the task's metrics: for some runs at a time, one value for each of these."""
        raise NotImplementedError

    def tune(self, rows: Rows) -> None:
        """Set what each task learns from the validation rows, such as thresholds."""
        raise NotImplementedError

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizers = self.build_optimizers()
        self.schedulers = [self.make_scheduler(optimizer) for optimizer in optimizers]
        for optimizer in optimizers if self.schedule["warmup"] else ():
            warm_up(optimizer, self.schedule["warmup"])
        return optimizers, self.schedulers

    def on_train_start(self) -> None:
        self.started = time.perf_counter()
        if self.device.type == "cuda":  # the peak is this run's, not that of one before it in this process
            torch.cuda.reset_peak_memory_stats(self.device)
        for loader in (self.trainer.train_dataloader, self.trainer.val_dataloaders):
            if self.device.type == "cuda" and (keep := getattr(loader, "keep_on", None)):
                keep(self.device)

    def on_train_epoch_start(self) -> None:
        self.set_mode("train")
        self.started = time.perf_counter()
        for state in self.states:
            state.train_loss, state.gradient_norm = 0.0, None

    def on_validation_start(self) -> None:
        self.fetch_losses()
        self.trained = time.perf_counter() - self.started
        self.set_mode("eval")

    def wrapped(self) -> list[LightningOptimizer]:
        """Return the optimizers as Lightning has wrapped them."""
        found = self.optimizers()
        return found if isinstance(found, list) else [found]

    def record_steps(self, generators: Sequence[torch.Generator] = ()) -> None:
        """Have the steps recorded as CUDA graphs from now on, where that can be done."""
        if self.device.type == "cuda" and self.cuda_graphs:
            optimizers = self.trainer.optimizers
            self.steps_of = Graphs(
                self.take_steps,
                optimizers,
                lambda: reason_against(self, optimizers, self.schedule) is None,  # a callback may change that
                generators,
            )

    def train_batches(self, batch: Batch, here: Sequence[int], whole: Sequence[int]) -> Steps:
        """Take steps, and fetch from the device what is recorded of them; see `take_steps`."""
        first = self.states[0].gradient_norm is None
        steps = self.steps_of(batch, here, whole, first)
        if first and steps.norm is not None:
            for state, norm in zip(self.states, steps.norm.reshape(-1).tolist(), strict=True):
                state.gradient_norm = norm
        return steps

    def record_losses(self, losses: Sequence[Sequence[Tensor]], rows: Sequence[int]) -> None:
        """Add the losses of some steps to each run's of the epoch; a GPU keeps those of some batches for later.

        Args:
            losses: of each step those of its batches, and again for each time that the optimizer asked for them.
            rows: of each batch.

        Raises:
            Diverged: see `fetch_losses`.
        """
        values = distributed.mean(torch.stack([loss for step in losses for loss in step]))
        counts = [rows[step * self.accumulate :][: self.accumulate] for step in range(len(losses))]
        self.unfetched.append((values, [len(step) for step in losses], counts))
        if sum(len(each) for each, *_ in self.unfetched) >= FETCHED.get(values.device.type, OTHER_FETCHED):
            self.fetch_losses()

    def fetch_losses(self) -> None:
        """Fetch the losses that the device keeps, all at once, and add them to each run's of the epoch.

        Raises:
            Diverged: at the first that is not finite, unless it is noted; see `fail`.
        """
        if not self.unfetched:
            return
        each, lengths, rows = zip(*self.unfetched, strict=True)  # of each call
        self.unfetched = []
        values = torch.cat(each) if len(each) > 1 else each[0]
        sizes, counts = (list(chain.from_iterable(parts)) for parts in (lengths, rows))
        ends = list(accumulate(sizes))
        spans = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
        for run, column in enumerate(values.reshape(len(values), -1).T.tolist()):
            if not math.isfinite(sum(column)):
                first = next(number for number, loss in enumerate(column) if not math.isfinite(loss))
                at = self.global_step - len(sizes) + 1 + bisect_right(ends, first)
                self.fail(run, column[first], f"at step {at} (epoch {self.current_epoch})")
            total = self.states[run].train_loss
            for span, batches in zip(spans, counts, strict=True):  # no call of a function: a stack has many runs
                part = 0.0
                for loss, count in zip(column[span], batches, strict=False):
                    part += loss * count
                total += part
            self.states[run].train_loss = total

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.eval_seen.add(self(batch[0]), *batch[1:])

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Collect the test rows, and from a second loader the validation rows: what the best weights say of them."""
        (self.val_seen if dataloader_idx else self.eval_seen).add(self(batch[0]), *batch[1:])

    def on_validation_epoch_end(self) -> None:
        rows = self.eval_seen.take()
        self.tune(rows)
        for run, row in enumerate(self.evaluate("val", rows)):
            self.states[run].val_row = row
            if not math.isfinite(row["val/loss"]):
                self.fail(run, row["val/loss"], f"on the validation rows after step {self.global_step}")

    def on_train_epoch_end(self) -> None:
        """Make each run's row of the epoch: `history.csv` and the loggers get these keys, in this order."""
        self.fetch_losses()
        rows = self.train_seen.take()
        count = rows[0].shape[self.train_seen.dim]
        evaluated = self.evaluate("train", rows, with_loss=False)
        if self.schedule["interval"] == "epoch":
            self.step_schedulers(self.trainer.optimizers)
        self.epoch_rows = [
            {
                "epoch": self.current_epoch,
                "train/loss": state.train_loss / count,
                **row,
                **state.val_row,
                GRADIENT_NORM: state.gradient_norm or 0.0,
                "lr": self.rates[self.optimizer_index(run)],
                SPEED: count / self.trained,
            }
            for run, (state, row) in enumerate(zip(self.states, evaluated, strict=True))
        ]

    def on_test_epoch_end(self) -> None:
        rows = self.eval_seen.take()
        self.test_scores, self.val_scores = rows[0].cpu(), self.val_seen.take()[0].cpu()
        memory = {"peak_memory_mb": peak_memory_mb(self.device)}
        self.test_rows = [row | memory for row in self.evaluate("test", rows)]

    def evaluate(self, part: str, seen: Rows, with_loss: bool = True) -> list[Row]:
        """Return each run's loss, its parts and all metrics of the task, fetched from the device at once.

        Args:
            with_loss: whether to compute the loss; not where the steps have.
        """
        rows: list[Row] = [{} for _ in self.states]
        for runs, found in self.measure(seen, with_loss):
            values = torch.stack([value.detach() for value in found.values()], -1).reshape(len(runs), -1).tolist()
            for run, numbers in zip(runs, values, strict=True):
                rows[run] = {f"{part}/{name}": number for name, number in zip(found, numbers, strict=True)}
        return rows

    def step_schedulers(self, optimizers: Iterable[Optimizer]) -> None:
        """Note the learning rates that were used, and tell the schedules that a step or an epoch is over."""
        self.rates = [read_rates(optimizer)[0] for optimizer in optimizers]
        for scheduler in self.schedulers:
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(self.states[0].val_row[self.schedule["monitor"]])
            else:
                scheduler.step()

    def set_mode(self, mode: str) -> None:
        """Let schedule-free optimizers put their trained weights (`train`) or averaged ones (`eval`) into the model."""
        for optimizer in self.trainer.optimizers:
            getattr(optimizer, mode, lambda: None)()

    def fail(self, run: int, loss: float, where: str) -> None:
        """Stop a run whose loss is not finite.

        Raises:
            Diverged: with what to try instead; a stack notes it for the run, and its other runs go on.
        """
        group = self.trainer.optimizers[self.optimizer_index(run)].param_groups[0]
        lr = group.get("initial_lr", group["lr"])  # what was typed, whatever the schedule made of it
        raise Diverged(f"the loss became {loss} {where} with learning rate {lr:g}: try optimizer.lr={lr / 10:g}")


def compute_metrics(task: Task, loss: Loss | Sum, rows: Rows, with_loss: bool) -> dict[str, Tensor]:
    """Compute the loss if asked for, its parts, and all metrics of the task, each over all rows."""
    scores, y, *weights = rows
    scaled = [weight / weight.mean() for weight in weights]  # as of the training rows
    found = {"loss": loss.compute(task, scores, y, *scaled)} if with_loss else {}
    found |= {f"loss_{name}": part.compute(task, scores, y, *scaled) for name, part in loss.parts.items()}
    return found | task.metrics(*rows)
