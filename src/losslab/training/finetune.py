"""Training the head alone before all of the model."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.strategies import DDPStrategy
from torch import nn

from losslab.errors import Refused
from losslab.internals.lightning import finds_unused_parameters
from losslab.internals.torch import BatchNorm
from losslab.models import find_head


class Finetune(pl.Callback):
    """For the first epochs only the model's head learns, so that its random weights do not spoil what lies below it.

    Until then the backbone gets no gradients, so that optimizers leave it and its moments alone, and its batch norms
    use their statistics and do not move them. What is frozen follows from the epoch alone. A loss's own parameters
    always learn.

    Args:
        epochs: how many; with as many as the run has, only the head is ever trained.

    Raises:
        Refused: where the model is nothing but a head, and where several processes would wait for gradients that never
            come.

    Source: Howard & Ruder, Universal Language Model Fine-tuning for Text Classification, ACL 2018 (gradual unfreezing).
    """

    def __init__(self, epochs: int = 2) -> None:
        self.epochs = epochs

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if not self.backbone(pl_module):
            raise Refused(
                "callbacks=finetune needs a model with more than its last layer: type another model, or "
                "callbacks=default"
            )
        strategy: Any = trainer.strategy
        if isinstance(strategy, DDPStrategy) and not finds_unused_parameters(strategy):
            raise Refused(
                "callbacks=finetune gives the backbone no gradients while it is frozen, for which several processes "
                "would wait: type trainer.strategy=ddp_find_unused_parameters_true"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Lightning starts no epoch where a run goes on in the midst of one."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        learns = trainer.current_epoch >= self.epochs
        for p in self.backbone(pl_module):
            p.requires_grad_(learns)
        for layer in pl_module.get_submodule("model").modules():
            if isinstance(layer, BatchNorm):
                layer.train(learns)

    def backbone(self, module: nn.Module) -> list[nn.Parameter]:
        """The parameters of the model but its head's."""
        model = module.get_submodule("model")
        last = set(find_head(model).parameters(recurse=False))
        return [p for p in model.parameters() if p not in last]
