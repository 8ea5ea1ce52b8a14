"""One run as a Lightning module. Model, task, loss, optimizer and schedule are plugged in; nothing branches on them."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.optim import Optimizer

from losslab.data.augment import Augment, mix
from losslab.data.batches import Batches, Pixels
from losslab.internals.lightning import count_steps
from losslab.internals.torch import unwrapped_step
from losslab.losses import Loss, Sum
from losslab.optim.groups import Groups
from losslab.record.rows import timeless
from losslab.tasks import Task
from losslab.training import callbacks, distributed
from losslab.training.epochs import Batch, EpochModule, Rows, compute_metrics
from losslab.training.graphs import Steps
from losslab.training.precision import outside_autocast

STEP_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


class Experiment(EpochModule):
    """One run: `scores = model(x)`, `loss(task.view(scores), task.encode(y))`, and the task's metrics each epoch.

    Args:
        model: takes a batch of inputs, returns raw scores `(B, outputs)`.
        pixels: normalises images that come as bytes.
        task: fitted to the data.
        loss: fits the task; the parts of a sum are recorded one by one.
        groups: called with this module, returns the parameters of its model and loss, in groups if need be.
        optimizer: called with these.
        scheduler, schedule: see `EpochModule`.
        accumulate: batches per optimizer step; Lightning's training step is given several batches at once.
        clip: the limit that gradients are clipped to; `None` leaves them.
        clip_by: `norm` clips the norm of all gradients together, `value` each number by itself.
        augment: changes images in training.
        cuda_graphs: whether a GPU records and replays steps; see `losslab.training.graphs`.
    """

    def __init__(
        self,
        model: nn.Module,
        pixels: Pixels,
        task: Task,
        loss: Loss | Sum,
        groups: Callable[[pl.LightningModule], Groups],
        optimizer: Callable[[Groups], Optimizer],
        scheduler: Callable[[Optimizer], Any],
        schedule: dict[str, Any],
        accumulate: int = 1,
        clip: float | None = None,
        clip_by: str = "norm",
        augment: Augment | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        super().__init__(1, scheduler, schedule)
        self.model, self.pixels, self.task, self.loss, self.augment = model, pixels, task, loss, augment
        self.make_groups, self.make_optimizer = groups, optimizer
        self.accumulate, self.clip, self.clip_by, self.cuda_graphs = accumulate, clip, clip_by, cuda_graphs
        (self.state,) = self.states
        self.bypasses_hooks, self.world = True, 1  # see on_train_start
        self.last_row: dict[str, float] | None = None  # of the last epoch, as a checkpoint keeps it
        self.resumed: dict[str, Any] | None = None
        self.draws = torch.get_rng_state()  # after the initial weights were drawn: dropout starts from it in a stack

    def forward(self, x: Tensor) -> Tensor:
        """Return the raw scores `(B, outputs)` of a batch of inputs."""
        scores: Tensor = self.model(self.pixels(x))
        return scores

    def build_optimizers(self) -> list[Optimizer]:
        return [self.make_optimizer(self.make_groups(self))]

    def optimizer_index(self, run: int) -> int:
        return 0

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        """Train on several batches in a row, and do once for all of them what costs more than a small step."""
        loader = self.trainer.train_dataloader
        assert isinstance(loader, Batches)
        here, whole = zip(*loader.sampler.parts(batch_idx), strict=True)
        steps = self.train_batches(batch, here, whole)
        if self.bypasses_hooks:
            count_steps(self.wrapped()[0], len(steps.losses))
        self.train_seen.add(steps.scores, *(values[: sum(here)] for values in batch[1:]))
        self.record_losses(steps.losses, whole)

    def take_steps(self, batch: Batch, here: Sequence[int], whole: Sequence[int], first: bool) -> Steps:
        self.first, self.norm = first, None
        rows = [max(1, count) for count in here]
        x, *truth = batch
        x = x if self.augment else self.pixels(x)
        each = zip(*(torch.split(values, rows) for values in truth), strict=True)
        batches = list(zip(torch.split(x, rows), each, here, whole, strict=True))
        (wrapped,) = self.wrapped()
        optimizer = wrapped.optimizer
        step = outside_autocast(unwrapped_step(optimizer) if self.bypasses_hooks else wrapped.step, self.device.type)
        scores: list[Tensor] = []
        losses = [
            self.update(optimizer, step, batches[start : start + self.accumulate], scores)
            for start in range(0, len(batches), self.accumulate)
        ]
        return Steps(losses, torch.cat(scores)[: sum(here)], self.norm)

    def update(
        self,
        optimizer: Optimizer,
        step: Callable[..., Any],
        batches: list[tuple[Tensor, tuple[Tensor, ...], int, int]],
        kept: list[Tensor],
    ) -> list[Tensor]:
        """Take one optimizer step on the mean loss of these batches.

        Args:
            step: called with a closure, directly or through Lightning.
            batches: inputs, targets with their weights if any, how many rows of the batch are this process's, and how
                many all of it has.
            kept: receives the scores of each batch.

        Returns:
            The loss of each batch, and again for each time that the optimizer called the closure, on the device.
        """
        direct, world = self.bypasses_hooks, self.world
        model, loss_of, task = self.model, self.loss.compute, self.task  # looked up once: a module searches for each
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        prepared = [(*self.prepare(x, truth), here, whole) for x, truth, here, whole in batches]
        losses: list[Tensor] = []

        def closure() -> Tensor:
            for weight in weights:  # zero_grad, without its label for profilers
                weight.grad = None
            first, each = not losses, []
            for x, truth, others, share, here, whole in prepared:
                scores = model(x)
                loss = loss_of(task, scores, *truth)
                if share < 1:
                    loss = share * loss + (1 - share) * loss_of(task, scores, *others)
                if (counts := here * world / whole) != 1:  # so that the mean over processes is that over rows
                    loss = loss * counts
                losses.append(loss.detach())
                if first:
                    kept.append(scores.detach())
                if len(prepared) > 1:
                    loss = loss / len(prepared)
                (Tensor.backward if direct else self.manual_backward)(loss)
                each.append(loss.detach())
            if direct:
                self.on_before_optimizer_step(optimizer)
            total = torch.stack(each).sum() if len(each) > 1 else each[0]
            return total if world == 1 else distributed.mean(total)

        step(closure)
        if self.schedule["interval"] == "step":
            self.step_schedulers([optimizer])
        return losses

    def prepare(self, x: Tensor, truth: Batch) -> tuple[Tensor, Batch, Batch, float]:
        """Augment images if asked to, normalise them, and mix each with another if asked to.

        Returns:
            The inputs, their targets, the targets that were mixed in, and the weight of the first targets.
        """
        if self.augment is None:
            return x, truth, truth, 1.0
        x, others, share = mix(self.pixels(self.augment(x)), truth, self.augment.mixup)
        return x, truth, others, share

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        if self.first:
            self.first, gradients = False, (p.grad for p in self.parameters() if p.grad is not None)
            self.norm = nn.utils.get_total_norm(gradients)
        if self.clip is not None:
            self.clip_gradients(optimizer, self.clip, self.clip_by)

    def measure(self, rows: Rows, with_loss: bool) -> Iterable[tuple[list[int], dict[str, Tensor]]]:
        return [([0], compute_metrics(self.task, self.loss, rows, with_loss))]

    def tune(self, rows: Rows) -> None:
        for name, value in self.task.tune(*rows).items():
            setattr(self.task, name, value)

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        for name in callbacks.watched_metrics(self.trainer, f"val/{self.task.yardstick}", self.state.val_row):
            self.log(name, self.state.val_row[name], prog_bar=True, logger=False)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        (row,) = self.epoch_rows
        logged = self.trainer.callback_metrics  # what callbacks have logged, beside the primary metric
        row |= {name: float(value) for name, value in logged.items() if name not in row}
        self.last_row = timeless({"epoch": self.current_epoch, "step": self.global_step, **row})
        for logger in self.loggers:
            logger.log_metrics(row, step=self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a run needs to go on as if it had never stopped, in the middle of an epoch too."""
        self.fetch_losses()
        state = {
            "rng": torch.get_rng_state(),
            "gpu_rng": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
            "seen": tuple([values.cpu() for values in column] for column in self.train_seen.columns()) or ([], []),
        }
        checkpoint["processes"] = distributed.gather_objects(state)
        checkpoint["epoch_so_far"] = vars(self.state).copy()
        checkpoint["row"] = self.last_row

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.resumed, self.last_row = checkpoint, checkpoint.get("row")
        for logger in self.loggers:
            if hasattr(logger, "restore"):  # the record, whose history.csv may have lost its last row
                logger.restore(self.last_row)

    def on_train_start(self) -> None:
        super().on_train_start()
        self.bypasses_hooks, self.world = hook_listener(self.trainer) is None, distributed.processes()
        if self.bypasses_hooks and self.augment is None:
            self.record_steps()
        if self.resumed is None:
            return
        self.state.restore(self.resumed["epoch_so_far"])
        states, rank = self.resumed["processes"], self.global_rank
        if len(states) == distributed.processes():
            torch.set_rng_state(states[rank]["rng"])  # such as dropout's
            if states[rank]["gpu_rng"] is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(states[rank]["gpu_rng"], self.device)
            states = states[rank : rank + 1]
        elif rank > 0:  # another number of processes than before: the first takes all that they have seen
            states = []
        for seen in [rows for state in states for rows in zip(*state["seen"], strict=True)]:
            self.train_seen.add(*(values.to(self.device) for values in seen))
        self.resumed = None


def hook_listener(trainer: pl.Trainer) -> str | None:
    """Return why each step must go through Lightning, which calls hooks in it and is slower; `None` if it need not.

    Several processes share their gradients in there, and half precision scales the loss.
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
