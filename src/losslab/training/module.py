"""The Lightning module: a model, a task, a loss, an optimizer and a schedule, and no branch on any of them."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from types import MethodType
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.strategies import SingleDeviceStrategy
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from losslab.data.augment import Augment, mix
from losslab.data.batches import Batches, Pixels
from losslab.errors import Diverged
from losslab.losses import Loss, Sum
from losslab.optim.schedules import read_rate, warm_up
from losslab.record.record import peak_memory_mb
from losslab.tasks import Task
from losslab.training import distributed

Batch = tuple[Tensor, Tensor]
STEP_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")
SO_FAR = ("train_loss", "gradient_norm", "rate", "val_row")  # of an epoch: what a checkpoint keeps of it


def timeless(row: Mapping[str, float]) -> dict[str, float]:
    """A row of a run's history without what the clock decides: checkpoints of equal runs are equal."""
    return {key: value for key, value in row.items() if key != "examples_per_second"}


class Seen:
    """Scores and targets of the rows that went by, judged all at once when the epoch ends.

    That is exact for every metric, and costs two appends a step where a metric's update would cost a millisecond.
    """

    def __init__(self) -> None:
        self.scores: list[Tensor] = []
        self.targets: list[Tensor] = []

    def add(self, scores: Tensor, y: Tensor) -> None:
        """Keep a batch's rows; half precision is good enough to train in, not to judge in."""
        self.scores.append(scores.detach().to(torch.promote_types(scores.dtype, torch.float32)))
        self.targets.append(y)

    def take(self) -> Batch:
        """All of them, of all processes, and start anew."""
        scores, y = distributed.rows(torch.cat(self.scores)), distributed.rows(torch.cat(self.targets))
        self.__init__()  # type: ignore[misc]
        return scores, y


class Experiment(pl.LightningModule):
    """One run: `scores = model(x)`, `loss(task.view(scores), task.encode(y))`, and the task's metrics each epoch.

    Args:
        model: takes a batch of inputs, returns raw scores `(B, outputs)`.
        pixels: normalises images that come as bytes.
        task: fitted to the data.
        loss: fits the task; the parts of a sum are recorded one by one.
        optimizer: called with this module, takes the parameters of its model and loss.
        scheduler: called with the optimizer.
        schedule: `interval`, which is `step` or `epoch`; `monitor` where the scheduler looks at a metric; `warmup`, the
            steps over which the learning rate rises to what the schedule says.
        accumulate: batches an optimizer step; a training step of Lightning's is given several batches at once.
        clip: what gradients are clipped to; `None` leaves them.
        clip_by: their `norm`, all of them together, or `value`, each one by itself.
        augment: what is done to the images that are trained on.
    """

    automatic_optimization = False  # see training_step

    def __init__(
        self,
        model: nn.Module,
        pixels: Pixels,
        task: Task,
        loss: Loss | Sum,
        optimizer: Callable[[pl.LightningModule], Optimizer],
        scheduler: Callable[[Optimizer], Any],
        schedule: dict[str, Any],
        accumulate: int = 1,
        clip: float | None = None,
        clip_by: str = "norm",
        augment: Augment | None = None,
    ) -> None:
        super().__init__()
        self.model, self.pixels, self.task, self.loss, self.augment = model, pixels, task, loss, augment
        self.make_optimizer, self.make_scheduler, self.schedule = optimizer, scheduler, schedule
        self.accumulate, self.clip, self.clip_by = accumulate, clip, clip_by
        self.train_seen, self.eval_seen = Seen(), Seen()
        self.train_loss, self.trained, self.started = 0.0, 0.0, 0.0
        self.gradient_norm: float | None = None
        self.rate = 0.0
        self.detour: str | None = None  # see around
        self.val_row: dict[str, float] = {}
        self.last_row: dict[str, float] | None = None  # what was logged of the last epoch
        self.test_row: dict[str, float] = {}
        self.test_scores = torch.empty(0)
        self.resumed: dict[str, Any] | None = None
        self.draws = torch.get_rng_state()  # where dropout's begin, right after the initial weights were drawn

    def forward(self, x: Tensor) -> Tensor:
        """Raw scores `(B, outputs)` of a batch of inputs."""
        scores: Tensor = self.model(self.pixels(x))
        return scores

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer(self)
        scheduler = self.make_scheduler(optimizer)
        if self.schedule["warmup"]:
            warm_up(optimizer, self.schedule["warmup"])
        return [optimizer], [scheduler]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Train on several batches in a row: what is dearer than a small step is done once for all of them."""
        loader = self.trainer.train_dataloader
        assert isinstance(loader, Batches)
        here, whole = zip(*loader.sampler.parts(batch_idx), strict=True)
        rows = [max(1, count) for count in here]
        x, y = batch if self.augment else (self.pixels(batch[0]), batch[1])
        batches = list(zip(x.split(rows), y.split(rows), here, whole, strict=True))  # type: ignore[no-untyped-call]
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        step = straight(optimizer.optimizer)
        scores: list[Tensor] = []
        losses = [
            self.update(optimizer, step, batches[start : start + self.accumulate], scores)
            for start in range(0, len(batches), self.accumulate)
        ]
        self.train_seen.add(torch.cat(scores)[: sum(here)], y[: sum(here)])
        self.settle(losses, whole)

    def update(
        self,
        optimizer: LightningOptimizer,
        step: Callable[..., Any],
        batches: list[tuple[Tensor, Tensor, int, int]],
        kept: list[Tensor],
    ) -> list[Tensor]:
        """One optimizer step on the mean loss of these batches; the closure serves optimizers that call it again.

        Args:
            optimizer: takes the step.
            step: takes it by itself, where nothing asks for Lightning's way.
            batches: inputs, targets, how many rows of the batch are this process's, and how many all of it has.
            kept: takes the scores of each batch.

        Returns:
            The loss of each batch, and again for each time that the optimizer asked for it, still on the device.
        """
        own, direct, world = optimizer.optimizer, self.detour is None, distributed.processes()
        model, loss_of, task = self.model, self.loss.compute, self.task  # looked up once: a module searches for each
        weights = [weight for group in own.param_groups for weight in group["params"]]
        prepared = [(*self.prepare(x, y), here, whole) for x, y, here, whole in batches]
        losses: list[Tensor] = []

        def closure() -> Tensor:
            for weight in weights:  # zero_grad, without the label that it has for profilers
                weight.grad = None
            first, each = not losses, []
            for x, y, others, share, here, whole in prepared:
                scores = model(x)
                loss = loss_of(task, scores, y)
                if share < 1:
                    loss = share * loss + (1 - share) * loss_of(task, scores, others)
                if (counts := here * world / whole) != 1:  # the mean over processes is that over rows
                    loss = loss * counts
                losses.append(loss.detach())
                if first:
                    kept.append(scores.detach())
                if len(prepared) > 1:
                    loss = loss / len(prepared)
                (Tensor.backward if direct else self.manual_backward)(loss)
                each.append(loss.detach())
            if direct:
                self.on_before_optimizer_step(own)
            total = torch.stack(each).sum() if len(each) > 1 else each[0]
            return total if world == 1 else distributed.mean(total)

        if direct:
            optimizer._on_before_step()  # Lightning counts its steps here
            step(closure)
            optimizer._on_after_step()
        else:
            optimizer.step(closure)
        if self.schedule["interval"] == "step":
            self.rate = read_rate(own)  # before the schedule sets the next one
            self.step_scheduler()
        return losses

    def settle(self, losses: list[list[Tensor]], rows: Sequence[int]) -> None:
        """Fetch the losses of all these steps from the device at once, and stop at the first that is not finite.

        Args:
            losses: of each step, what `update` returns.
            rows: of each batch.
        """
        values = iter(distributed.mean(torch.stack([loss for step in losses for loss in step])).tolist())
        total = self.train_loss
        for number, step in enumerate(losses):
            each = list(islice(values, len(step)))
            for value in each:
                if not math.isfinite(value):
                    at = self.global_step - len(losses) + 1 + number
                    raise Diverged(self.says(value, f"at step {at} (epoch {self.current_epoch})"))
            batches = rows[number * self.accumulate :][: self.accumulate]
            total += sum(value * count for value, count in zip(each, batches, strict=False))
        self.train_loss = total

    def around(self, trainer: pl.Trainer) -> str | None:
        """Why each step goes through Lightning, which calls hooks in it and is slower; `None` where nothing asks it to.

        Several processes share their gradients in there, and half precision scales them.
        """
        listeners = [
            type(callback).__name__
            for callback in trainer.callbacks  # type: ignore[attr-defined]
            if any(getattr(type(callback), hook) is not getattr(pl.Callback, hook) for hook in STEP_HOOKS)
        ]
        if listeners:
            return f"{listeners[0]} listens to each"
        if getattr(trainer.precision_plugin, "scaler", None) is not None:
            return f"trainer.precision={trainer.precision} scales each loss"
        if not isinstance(trainer.strategy, SingleDeviceStrategy):
            return "the processes share their gradients in each"
        return None

    def prepare(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, float]:
        """Images that are to be augmented are, then normalised and, where that is asked for, each mixed with another:
        inputs, targets, the targets of the others, and the part that is kept of the first."""
        if self.augment is None:
            return x, y, y, 1.0
        x, others, share = mix(self.pixels(self.augment(x)), y, self.augment.mixup)
        return x, y, others, share

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.gradient_norm is None:
            self.gradient_norm = float(nn.utils.get_total_norm(p.grad for p in self.parameters() if p.grad is not None))
        if self.clip is not None:
            self.clip_gradients(optimizer, self.clip, self.clip_by)

    def step_scheduler(self) -> None:
        """Tell the schedule that a step or an epoch is over, and the yardstick if it looks at that."""
        scheduler = self.lr_schedulers()
        if isinstance(scheduler, ReduceLROnPlateau):
            scheduler.step(self.val_row[self.schedule["monitor"]])
        elif isinstance(scheduler, LRScheduler):
            scheduler.step()

    def on_train_epoch_start(self) -> None:
        getattr(self.trainer.optimizers[0], "train", lambda: None)()  # schedule-free: trained weights and judged ones
        self.started = time.perf_counter()
        self.train_loss, self.gradient_norm = 0.0, None

    def on_validation_start(self) -> None:
        self.trained = time.perf_counter() - self.started
        getattr(self.trainer.optimizers[0], "eval", lambda: None)()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.eval_seen.add(self(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        scores, y = self.eval_seen.take()
        for name, value in self.task.tuned(scores, y).items():
            setattr(self.task, name, value)
        self.val_row = self.judge("val", scores, y)
        if not math.isfinite(self.val_row["val/loss"]):
            raise Diverged(self.says(self.val_row["val/loss"], f"on the validation rows after step {self.global_step}"))
        monitor = f"val/{self.task.yardstick}"
        self.log(monitor, self.val_row[monitor], prog_bar=True, logger=False)

    def on_train_epoch_end(self) -> None:
        scores, y = self.train_seen.take()
        row = {**self.judge("train", scores, y, loss=self.train_loss / len(y)), **self.val_row}
        row["gradient_norm"] = self.gradient_norm or 0.0
        row["lr"] = self.rate if self.schedule["interval"] == "step" else read_rate(self.trainer.optimizers[0])
        row["examples_per_second"] = len(y) / self.trained
        counts = {"epoch": self.current_epoch, "step": self.global_step}
        self.last_row = timeless({**counts, **{key: float(value) for key, value in row.items()}})
        for logger in self.loggers:
            logger.log_metrics({"epoch": self.current_epoch, **row}, step=self.global_step)
        if self.schedule["interval"] == "epoch":
            self.step_scheduler()

    test_step = validation_step

    def on_test_epoch_end(self) -> None:
        scores, y = self.eval_seen.take()
        self.test_scores = scores.cpu()
        self.test_row = self.judge("test", scores, y)
        self.test_row["peak_memory_mb"] = peak_memory_mb(self.device)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What a run needs to go on as if it had never stopped, in the midst of an epoch too."""
        state = {
            "rng": torch.get_rng_state(),
            "gpu_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "seen": (self.train_seen.scores, self.train_seen.targets),
        }
        checkpoint["processes"] = distributed.gathered(state)
        checkpoint["epoch_so_far"] = {name: getattr(self, name) for name in SO_FAR}
        checkpoint["row"] = self.last_row

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.resumed, self.last_row = checkpoint, checkpoint.get("row")
        for logger in self.loggers:
            if hasattr(logger, "restore"):  # the record, whose history.csv may have lost its last row
                logger.restore(self.last_row)

    def on_train_start(self) -> None:
        self.detour = self.around(self.trainer)
        self.started = time.perf_counter()
        if self.resumed is None:
            return
        for name, value in self.resumed["epoch_so_far"].items():
            setattr(self, name, value)
        states, rank = self.resumed["processes"], self.global_rank
        if len(states) == distributed.processes():
            torch.set_rng_state(states[rank]["rng"])  # such as dropout's
            if states[rank]["gpu_rng"] is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(states[rank]["gpu_rng"], self.device)
            states = states[rank : rank + 1]
        elif rank > 0:  # another number of processes than before: the first takes all that they have seen
            states = []
        for scores, targets in [pair for state in states for pair in zip(*state["seen"], strict=True)]:
            self.train_seen.add(scores.to(self.device), targets.to(self.device))
        self.resumed = None

    def judge(self, part: str, scores: Tensor, y: Tensor, loss: float | None = None) -> dict[str, float]:
        """The loss, its parts and all metrics of the task as plain numbers, fetched from the device at once.

        Args:
            part: `train`, `val` or `test`.
            scores, y: all rows of it.
            loss: where it is known already.
        """
        found = measures(self.task, self.loss, scores, y, known=loss is not None)
        numbers = torch.stack([value.detach() for value in found.values()]).tolist()
        known = {} if loss is None else {f"{part}/loss": loss}
        return known | {f"{part}/{name}": number for name, number in zip(found, numbers, strict=True)}

    def says(self, loss: float, where: str) -> str:
        """Why training stopped, in a sentence."""
        return diverged(loss, where, self.trainer.optimizers[0].param_groups[0])


def measures(task: Task, loss: Loss | Sum, scores: Tensor, y: Tensor, known: bool) -> dict[str, Tensor]:
    """The loss, unless it is known, its parts and all metrics of the task, of all rows of a part of the data."""
    found = {} if known else {"loss": loss.compute(task, scores, y)}
    found |= {f"loss_{name}": part.compute(task, scores, y) for name, part in loss.parts.items()}
    return found | task.metrics(scores, y)


def straight(optimizer: Optimizer) -> Callable[..., Any]:
    """An optimizer's step without what torch wraps it in, a label for profilers and a search for hooks, if it has none.

    With `zero_grad`'s, those labels are a quarter of the time of a small step.
    """
    step = type(optimizer).step
    by_schedule = getattr(vars(optimizer).get("step"), "__wrapped__", step) is step
    hooks = [_global_optimizer_pre_hooks, _global_optimizer_post_hooks]
    hooks += [getattr(optimizer, f"_optimizer_step_{when}_hooks", {"unknown": None}) for when in ("pre", "post")]
    if any(hooks) or not by_schedule or not hasattr(step, "hooked"):
        return optimizer.step
    optimizer._opt_called = True  # type: ignore[attr-defined]  # as schedules do, which ask for it
    by_itself: Callable[..., Any] = MethodType(step.__wrapped__, optimizer)  # type: ignore[attr-defined]
    return by_itself


def diverged(loss: float, where: str, group: Mapping[str, Any]) -> str:
    """Why training stopped, in a sentence."""
    lr = group.get("initial_lr", group["lr"])  # what was typed, whatever the schedule made of it
    return f"the loss became {loss} {where} with learning rate {lr:g}: try optimizer.lr={lr / 10:g}"
