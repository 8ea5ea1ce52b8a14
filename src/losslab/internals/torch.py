"""Private parts of torch. A new minor release of torch is run with the tests before pyproject.toml allows it."""

from collections.abc import Callable
from types import MethodType
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

# The base class of all batch norms, synchronised and lazy ones too. If it goes: list the public classes here.
BatchNorm = nn.modules.batchnorm._NormBase


def has_step_hooks(optimizer: Optimizer) -> bool:
    """Return whether something is called before or after each step.

    If the private names go, return `True`: results stay the same, small steps become slower.
    """
    hooks = [_global_optimizer_pre_hooks, _global_optimizer_post_hooks]
    hooks += [getattr(optimizer, f"_optimizer_step_{when}_hooks", {"unknown": None}) for when in ("pre", "post")]
    return any(hooks)


def has_module_hooks(module: nn.Module) -> bool:
    """Return whether something is called when a module or one of its weights takes part in a step.

    If the private names go, return `True`: results stay the same, small steps become slower on GPUs.
    """
    of_modules = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    of_weights = ("_backward_hooks", "_post_accumulate_grad_hooks")
    return any(getattr(each, name) for each in module.modules() for name in of_modules) or any(
        getattr(weight, name) for weight in module.parameters() for name in of_weights
    )


def unwrapped_step(optimizer: Optimizer) -> Callable[..., Any]:
    """Return an optimizer's step without torch's wrapper, or `optimizer.step` where hooks need the wrapper.

    The wrapper labels each step for profilers and searches for hooks. With the label of `zero_grad` it takes a quarter
    of the time of a small step. A schedule warns unless the optimizer has noted a step in `_opt_called`.

    If the private names go, return `optimizer.step`: results stay the same, small steps become slower.
    """
    step = type(optimizer).step
    by_schedule = getattr(vars(optimizer).get("step"), "__wrapped__", step) is step
    if has_step_hooks(optimizer) or not by_schedule or not hasattr(step, "hooked"):
        return optimizer.step
    optimizer._opt_called = True  # type: ignore[attr-defined]
    unwrapped: Callable[..., Any] = MethodType(step.__wrapped__, optimizer)  # type: ignore[attr-defined]
    return unwrapped
