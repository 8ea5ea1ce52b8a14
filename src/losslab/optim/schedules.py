"""Warm-up for any schedule, and the schedules that torch.optim.lr_scheduler cannot make from a YAML alone."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR


def warm_up(optimizer: Optimizer, steps: int) -> None:
    """Multiply the learning rate of step `t = 1, 2, ...` by `min(1, t / (steps + 1))` under any schedule.

    The factor applies during `optimizer.step` only, so the schedule does not see it. The count of steps and the rate
    used are kept in the parameter groups and saved with the optimizer.

    Args:
        optimizer: any subclass of `torch.optim.Optimizer`, which calls torch's step hooks.
        steps: the length of the rise; with 0 the rate is only noted for `read_rates`.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    >>> warm_up(sgd, steps=3)
    >>> [round((sgd.step(), read_rates(sgd)[0])[1], 3) for _ in range(5)]
    [0.1, 0.2, 0.3, 0.4, 0.4]

    Source: Goyal et al., Accurate, Large Minibatch SGD, 2017.
    """
    scheduled: list[float] = []

    def before(optimizer: Optimizer, *_: Any) -> None:
        scheduled[:] = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["warmup_steps_done"] = done = group.get("warmup_steps_done", 0) + 1
            group["lr"] = group["lr_used"] = group["lr"] * min(1.0, done / (steps + 1))

    def after(optimizer: Optimizer, *_: Any) -> None:
        for group, lr in zip(optimizer.param_groups, scheduled, strict=True):
            group["lr"] = lr

    optimizer.register_step_pre_hook(before)
    optimizer.register_step_post_hook(after)


def read_rates(optimizer: Optimizer) -> list[float]:
    """Return each parameter group's learning rate in the last step, warm-up included.

    Where no step was noted (see `warm_up`), it is that of the next one.

    >>> import torch
    >>> read_rates(torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4))
    [0.4]
    """
    return [float(group.get("lr_used", group["lr"])) for group in optimizer.param_groups]


class OneCycle(OneCycleLR):
    """One cycle: from `lr / div_factor` up to each group's own `lr`, then down to `lr / div_factor / final_div_factor`.

    Momentum does not change. If a run goes on for longer than planned, the last rate stays.

    Args:
        optimizer: its groups' learning rates are the peaks.
        steps: optimizer steps in the whole run.
        pct_start: the part of the steps on the way up.
        div_factor: the peak divided by the first rate.
        final_div_factor: the first rate divided by the last.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = OneCycle(sgd, steps=10, div_factor=10.0)
    >>> [round((schedule.get_last_lr()[0], sgd.step(), schedule.step())[0], 2) for _ in range(8)]
    [0.1, 0.55, 1.0, 0.95, 0.81, 0.61, 0.39, 0.19]

    Source: Smith & Topin, Super-Convergence, 2018.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        steps: int,
        pct_start: float = 0.3,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
    ) -> None:
        peaks = [group["lr"] for group in optimizer.param_groups]
        super().__init__(
            optimizer,
            peaks,
            total_steps=steps,
            pct_start=pct_start,
            cycle_momentum=False,
            div_factor=div_factor,
            final_div_factor=final_div_factor,
        )

    def get_lr(self) -> list[Any]:
        """Return each group's rate; torch calls it once per step."""
        if self.last_epoch >= self.total_steps:
            return [group["lr"] for group in self.optimizer.param_groups]
        return super().get_lr()


def cyclic(optimizer: Optimizer, steps: int, cycles: int = 4, div_factor: float = 10.0) -> CyclicLR:
    """Make a schedule of straight lines from `lr / div_factor` up to each group's `lr` and down again, `cycles` times.

    Momentum does not change.

    Args:
        optimizer: its groups' learning rates are the peaks.
        steps: optimizer steps in the whole run.
        cycles: ups and downs in the whole run.
        div_factor: the highest rate divided by the lowest.

    >>> import torch
    >>> sgd = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    >>> schedule = cyclic(sgd, steps=8, cycles=2, div_factor=5.0)
    >>> [round((schedule.get_last_lr()[0], sgd.step(), schedule.step())[0], 2) for _ in range(8)]
    [0.2, 0.6, 1.0, 0.6, 0.2, 0.6, 1.0, 0.6]

    Source: Smith, Cyclical Learning Rates for Training Neural Networks, WACV 2017.
    """
    peaks = [group["lr"] for group in optimizer.param_groups]
    lowest = [peak / div_factor for peak in peaks]
    return CyclicLR(optimizer, lowest, peaks, step_size_up=steps / (2 * cycles), cycle_momentum=False)  # type: ignore[arg-type]
