"""Averages of the weights over the steps of a run."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import WeightAveraging
from pytorch_lightning.trainer.states import TrainerFn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from losslab.internals.lightning import averaged_model


class EMA(WeightAveraging):
    """Exponential moving average of the weights: `average = decay * average + (1 - decay) * weights` after each step.

    The average is what is validated, kept and tested. It starts as the weights after the first step; buffers, such as
    the statistics of batch norm, are averaged too. Lightning's own callback averages once per batch, but a batch here
    holds several steps.

    Args:
        decay: from 0, which is the weights themselves, to 1; the average spans about `1 / (1 - decay)` steps.

    Raises:
        ValueError: if the decay is below 0 or above 1.

    >>> EMA(decay=0.99).should_update(step_idx=0)
    True

    Source: Polyak & Juditsky 1992; Tarvainen & Valpola, Mean teachers are better role models, NeurIPS 2017.
    """

    def __init__(self, decay: float = 0.999) -> None:
        super().__init__(multi_avg_fn=get_ema_multi_avg_fn(decay))  # type: ignore[no-untyped-call]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if (average := averaged_model(self)) is not None:  # copied before Lightning moved the module to its device
            average.to(trainer.strategy.root_device)
            average.n_averaged = average.n_averaged.cpu()  # each step looks at it, and would wait for a GPU

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        average = averaged_model(self)
        assert average is not None
        self.hook = trainer.optimizers[0].register_step_post_hook(lambda *_: average.update_parameters(pl_module))

    def on_train_batch_end(self, *_: Any) -> None:
        """Do nothing: every step has been averaged already."""

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Copy what the task has learned of the validation rows, such as thresholds, to the averaged module."""
        average = averaged_model(self)
        assert average is not None
        average.module.task.load_state_dict(pl_module.task.state_dict())  # type: ignore[union-attr]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.hook.remove()
        super().on_train_end(trainer, pl_module)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn == TrainerFn.FITTING:  # a test uses the averaged weights, which are loaded already
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
