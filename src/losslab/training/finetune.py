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
    """Train only the model's head in the first epochs, so that its random weights do not spoil the layers below.

    In these epochs the backbone gets no gradients, so that optimizers change neither its weights nor its moments, and
    its batch norms use their statistics without updating them. Whether it is frozen depends on the epoch alone. A
    loss's own parameters are always trained.

    Args:
        epochs: how many; with as many as the run has, only the head is ever trained.

    Raises:
        Refused: if the model is only a head, or if several processes would wait for gradients that never come.

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
                "callbacks=finetune freezes the backbone at first, and several processes would wait for its gradients: "
                "type trainer.strategy=ddp_find_unused_parameters_true"
            )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Freeze too where a run goes on within an epoch: Lightning does not start that epoch again."""
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        learns = trainer.current_epoch >= self.epochs
        for p in self.backbone(pl_module):
            p.requires_grad_(learns)
        for layer in pl_module.get_submodule("model").modules():
            if isinstance(layer, BatchNorm):
                layer.train(learns)

    def backbone(self, module: nn.Module) -> list[nn.Parameter]:
        """Return the model's parameters without those of its head."""
        model = module.get_submodule("model")
        last = set(find_head(model).parameters(recurse=False))
        return [p for p in model.parameters() if p not in last]
