"""The Lightning module: a model, a task, a loss, an optimizer and a schedule, and no branch on any of them."""

import math
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.core.optimizer import LightningOptimizer
from pytorch_lightning.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from losslab.errors import Refused
from losslab.losses import Loss, Sum
from losslab.schedules import rate, warm_up
from losslab.tasks import Task
from losslab.tracking import peak_memory_mb

Batch = tuple[Tensor, Tensor]


class Diverged(Refused):
    """The loss is no longer a finite number, so training stopped."""


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
        """All of them, and start anew."""
        scores, y = torch.cat(self.scores), torch.cat(self.targets)
        self.__init__()  # type: ignore[misc]
        return scores, y


class Experiment(pl.LightningModule):
    """One run: `scores = model(x)`, `loss(task.view(scores), task.encode(y))`, and the task's metrics each epoch.

    Args:
        model: takes a batch of inputs, returns raw scores `(B, outputs)`.
        task: fitted to the data.
        loss: fits the task; the parts of a sum are recorded one by one.
        optimizer: called with this module, takes the parameters of its model and loss.
        scheduler: called with the optimizer.
        schedule: `interval`, which is `step` or `epoch`; `monitor` where the scheduler looks at a metric; `warmup`, the
            steps over which the learning rate rises to what the schedule says.
        batch_size: rows a batch; a training step of Lightning's is given several batches at once.
        accumulate: batches an optimizer step.
        clip: what gradients are clipped to; `None` leaves them.
        clip_by: their `norm`, all of them together, or `value`, each one by itself.
    """

    automatic_optimization = False  # see training_step

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        loss: Loss | Sum,
        optimizer: Callable[[pl.LightningModule], Optimizer],
        scheduler: Callable[[Optimizer], Any],
        schedule: dict[str, Any],
        batch_size: int,
        accumulate: int = 1,
        clip: float | None = None,
        clip_by: str = "norm",
    ) -> None:
        super().__init__()
        self.model, self.task, self.loss = model, task, loss
        self.make_optimizer, self.make_scheduler, self.schedule = optimizer, scheduler, schedule
        self.batch_size, self.accumulate, self.clip, self.clip_by = batch_size, accumulate, clip, clip_by
        self.train_seen, self.eval_seen = Seen(), Seen()
        self.gradient_norm: float | None = None
        self.rate = 0.0
        self.val_row: dict[str, float] = {}
        self.test_row: dict[str, float] = {}
        self.test_scores = torch.empty(0)
        self.rng: list[Tensor] = []

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.make_optimizer(self)
        scheduler = self.make_scheduler(optimizer)
        if self.schedule["warmup"]:
            warm_up(optimizer, self.schedule["warmup"])
        return [optimizer], [scheduler]

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Train on several batches in a row: Lightning's own work, dearer than a small step, is done once for all."""
        batches = list(zip(*(torch.split(part, self.batch_size) for part in batch), strict=True))
        optimizer = self.optimizers()
        assert isinstance(optimizer, LightningOptimizer)
        for start in range(0, len(batches), self.accumulate):
            self.update(optimizer, batches[start : start + self.accumulate])

    def update(self, optimizer: LightningOptimizer, batches: list[Batch]) -> None:
        """One optimizer step on the mean loss of these batches; the closure serves optimizers that call it again."""
        first = True

        def closure() -> Tensor:
            nonlocal first
            optimizer.zero_grad()
            total = 0.0
            for x, y in batches:
                scores = self.model(x)
                loss = self.loss.of(self.task, scores, y)
                if not math.isfinite(value := loss.item()):
                    raise Diverged(self.says(value, f"at step {self.global_step + 1} (epoch {self.current_epoch})"))
                if first:
                    self.train_seen.add(scores, y)
                    self.train_loss += value * len(y)
                self.manual_backward(loss / len(batches))
                total += value / len(batches)
            first = False
            return torch.tensor(total)

        optimizer.step(closure)
        self.rate = rate(optimizer.optimizer)
        if self.schedule["interval"] == "step":
            self.step_scheduler()

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
        self.started, self.trained = time.perf_counter(), 0.0
        self.train_loss, self.gradient_norm = 0.0, None

    def on_validation_start(self) -> None:
        self.trained = time.perf_counter() - self.started
        getattr(self.trainer.optimizers[0], "eval", lambda: None)()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.eval_seen.add(self.model(batch[0]), batch[1])

    def on_validation_epoch_end(self) -> None:
        scores, y = self.eval_seen.take()
        self.val_row = self.judge("val", scores, y)
        if not math.isfinite(self.val_row["val/loss"]):
            raise Diverged(self.says(self.val_row["val/loss"], f"on the validation rows after step {self.global_step}"))
        monitor = f"val/{self.task.yardstick}"
        self.log(monitor, self.val_row[monitor], prog_bar=True, logger=False)

    def on_train_epoch_end(self) -> None:
        scores, y = self.train_seen.take()
        row = {**self.judge("train", scores, y), "train/loss": self.train_loss / len(y), **self.val_row}
        row["gradient_norm"] = self.gradient_norm or 0.0
        row["lr"] = self.rate
        row["examples_per_second"] = len(y) / self.trained
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
        gpus = torch.cuda.get_rng_state_all() if self.device.type == "cuda" else []
        checkpoint["rng"] = [torch.get_rng_state(), *gpus]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.rng = checkpoint["rng"]

    def on_train_start(self) -> None:
        if self.rng:  # go on with the random numbers, such as dropout's, where the run stopped
            torch.set_rng_state(self.rng[0])
            if self.rng[1:] and self.device.type == "cuda":
                torch.cuda.set_rng_state_all(self.rng[1:])

    def judge(self, part: str, scores: Tensor, y: Tensor) -> dict[str, float]:
        """The loss, its parts and all metrics of the task as plain numbers, fetched from the device at once."""
        found = {"loss": self.loss.of(self.task, scores, y)}
        found |= {f"loss_{name}": part.of(self.task, scores, y) for name, part in self.loss.parts.items()}
        found |= self.task.metrics(scores, y)
        numbers = torch.stack([value.detach() for value in found.values()]).tolist()
        return {f"{part}/{name}": number for name, number in zip(found, numbers, strict=True)}

    def says(self, loss: float, where: str) -> str:
        """Why training stopped, in a sentence."""
        group = self.trainer.optimizers[0].param_groups[0]
        lr = group.get("initial_lr", group["lr"])  # what was typed, whatever the schedule made of it
        return f"the loss became {loss} {where} with learning rate {lr:g}: try optimizer.lr={lr / 10:g}"
