"""The learning-rate schedules that torch.optim.lr_scheduler lacks."""

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LinearLR, SequentialLR


class WarmupCosineLR(SequentialLR):
    """A straight line up to the optimizer's learning rate, then half a cosine down to 0.

    Args:
        steps: optimizer steps in the whole run.
        warmup: the part of them on the straight line; at least one step.

    Source: Goyal et al. 2017 (warm-up) and Loshchilov & Hutter 2017 (cosine).
    """

    def __init__(self, optimizer: Optimizer, steps: int, warmup: float = 0.1) -> None:
        rising = max(1, round(warmup * steps))
        line = LinearLR(optimizer, start_factor=1 / (rising + 1), total_iters=rising)
        cosine = CosineAnnealingLR(optimizer, T_max=max(1, steps - rising))
        super().__init__(optimizer, [line, cosine], milestones=[rising])
