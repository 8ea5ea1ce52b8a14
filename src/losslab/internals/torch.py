"""Private parts of torch."""

from collections.abc import Callable
from types import MethodType
from typing import Any

from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks


def unwrapped_step(optimizer: Optimizer) -> Callable[..., Any]:
    """Return an optimizer's step without torch's wrapper, which labels it for profilers and looks for hooks.

    With those of `zero_grad`, the labels are a quarter of the time of a small step. An optimizer that has hooks, or a
    step of its own, keeps its wrapper. If a release of torch changes these parts, return `optimizer.step` always.
    """
    step = type(optimizer).step
    by_schedule = getattr(vars(optimizer).get("step"), "__wrapped__", step) is step
    hooks = [_global_optimizer_pre_hooks, _global_optimizer_post_hooks]
    hooks += [getattr(optimizer, f"_optimizer_step_{when}_hooks", {"unknown": None}) for when in ("pre", "post")]
    if any(hooks) or not by_schedule or not hasattr(step, "hooked"):
        return optimizer.step
    optimizer._opt_called = True  # type: ignore[attr-defined]  # schedules set it, and warn where it is missing
    unwrapped: Callable[..., Any] = MethodType(step.__wrapped__, optimizer)  # type: ignore[attr-defined]
    return unwrapped
