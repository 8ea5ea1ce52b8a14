"""Private parts of Lightning."""

from collections.abc import Callable

from pytorch_lightning.core.optimizer import LightningOptimizer


def step_counters(optimizer: LightningOptimizer) -> tuple[Callable[[], None], Callable[[], None]]:
    """Return what Lightning calls before and after an optimizer step, where it counts `global_step`.

    A step that goes past `LightningOptimizer.step` has to call both. If a release renames them, look at what
    `LightningOptimizer.step` calls around the strategy's `optimizer_step`.
    """
    return optimizer._on_before_step, optimizer._on_after_step
