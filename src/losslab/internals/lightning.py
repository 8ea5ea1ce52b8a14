"""Private parts of Lightning."""

from collections.abc import Callable
from typing import Any

from pytorch_lightning.core.optimizer import LightningOptimizer


def counted_step(optimizer: LightningOptimizer, step: Callable[..., Any]) -> Callable[..., None]:
    """Return a step that Lightning counts in `global_step`, though it does not go through `LightningOptimizer.step`.

    If a release renames these parts, look at what `LightningOptimizer.step` calls around the strategy's
    `optimizer_step`.

    Args:
        optimizer: as Lightning has wrapped it.
        step: of the optimizer in it.
    """
    before, after = optimizer._on_before_step, optimizer._on_after_step

    def counted(*closure: Callable[[], Any]) -> None:
        before()
        step(*closure)
        after()

    return counted
