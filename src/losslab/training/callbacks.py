"""The callbacks of a run, as its configuration names them."""

from collections.abc import Mapping

import pytorch_lightning as pl
from omegaconf import DictConfig
from pytorch_lightning import Callback
from pytorch_lightning.profilers import SimpleProfiler

from losslab.config.make import make
from losslab.errors import Refused

LONGEST = 15  # parts of a profile that are shown


class SameBatch(Callback):
    """Let every epoch have the order of the first, so that one batch an epoch is always the same one."""

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Undo the new order of this epoch, before its rows are read."""
        trainer.train_dataloader.sampler.set_epoch(0)  # type: ignore[union-attr]

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Say how far the training loss fell."""
        row = getattr(pl_module, "last_row", None) or {}
        if trainer.is_global_zero:
            loss = row.get("train/loss", float("nan"))
            print(f"overfit  the training loss of the one batch is {loss:.3g}", flush=True)


class Profile(SimpleProfiler):
    """Print what each part of training took, longest first."""

    def describe(self) -> None:
        """Print the table when training ends."""
        times = [(sum(spent), len(spent), name) for name, spent in self.recorded_durations.items()]
        longest = sorted(times, reverse=True)[:LONGEST]
        rows = [f"{seconds:9.3f} s  {count:6d} x  {name.partition('{')[0]}" for seconds, count, name in longest]
        print("\n".join(["", "time of each part, with what it calls:", *rows]), flush=True)


def watched_metrics(trainer: pl.Trainer, primary: str, row: Mapping[str, float]) -> list[str]:
    """List the metrics of a row that callbacks look at, such as early stopping, and the primary one."""
    watched = {getattr(callback, "monitor", None) for callback in trainer.callbacks}  # type: ignore[attr-defined]
    return [name for name in row if name == primary or name in watched]


def build_callbacks(cfg: DictConfig) -> dict[str, Callback]:
    """Make the callbacks of a run.

    Raises:
        Refused: where one is no callback of Lightning's, or the best checkpoint is not kept, which is tested.
    """
    made = make(cfg, "callbacks")
    named: dict[str, Callback] = made if isinstance(made, dict) else {}
    odd = [type(each).__name__ for each in named.values() if not isinstance(each, Callback)]
    if odd or "best" not in named:
        what = (
            f"has {odd[0]}, which is no Callback of Lightning's" if odd else "lacks best, the checkpoint to be tested"
        )
        raise Refused(
            f"callbacks={cfg.run.choices.callbacks} {what}: begin its file with `defaults: [default]`, and give each "
            "callback a name, such as `mine: {_target_: my_code.Mine}`"
        )
    return named
