"""How many threads a training step on the CPU is worth."""

from math import ceil
from typing import TYPE_CHECKING

import torch
from omegaconf import DictConfig

from losslab.data.batches import Batches
from losslab.data.dataset import Dataset

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from losslab.training.module import Experiment

MOST = torch.get_num_threads()  # what torch or OMP_NUM_THREADS chose, before any run chose less
WORTH = 200e6  # floating-point operations of a step: with less, a second thread waits longer than it works
PASSES = 3  # forward, and backward for inputs and weights


def use_threads(cfg: DictConfig, trainer: "pl.Trainer", module: "Experiment", data: Dataset, rows: int) -> int:
    """Let torch use as many threads as a step is worth, or as many as were typed as `threads`; return how many.

    More threads than that do not help where cores are idle, and where they are busy a step takes several times as long,
    as threads wait for each other. Processes that share a run, and those that drive a GPU, keep the threads they have.

    Args:
        rows: of a step, over all runs that are trained as one.
    """
    if cfg.threads != "auto":
        torch.set_num_threads(cfg.threads)
    elif MOST > 1 and trainer.world_size == 1 and trainer.strategy.root_device.type == "cpu":
        worth = rows * count_operations(module, data) / WORTH
        torch.set_num_threads(ceil(min(MOST, max(1, worth))))
    return torch.get_num_threads()


def count_operations(module: "Experiment", data: Dataset) -> float:
    """Count the floating-point operations that training on one row takes; infinite where they can't be counted."""
    from torch.utils.flop_counter import FlopCounterMode

    x, *_ = next(iter(Batches(data, "train", 1, ahead=False)))
    training = module.training
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module.eval()(x)
    except Exception:  # a user's own model may refuse what the counter does; training tells whether it is wrong
        return float("inf")
    finally:
        module.train(training)
    return PASSES * float(counter.get_total_flops())
