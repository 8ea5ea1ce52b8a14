"""Write checkpoints often enough and whole; read them without running code."""

import os
import time
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.plugins.io import TorchCheckpointIO
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn

from losslab.data.notes import count
from losslab.errors import Refused
from losslab.files import check_archive, replacing
from losslab.training.distributed import raise_flags
from losslab.training.preemption import Preempted, notice

WHOLE_RUN = (
    "epoch",
    "global_step",
    "loops",
    "callbacks",
    "optimizer_states",
    "lr_schedulers",
    "processes",
    "epoch_so_far",
)
AHEAD = 30.0  # seconds of training that a stop during validation may lose


class LastCheckpoint(ModelCheckpoint):
    """Write `last.ckpt` at the end of epochs, inside long ones, and at once if the run is preempted.

    Where epochs take milliseconds, writing after each would take longer than training. So it is written at most once in
    `seconds`, and always when training is over. A run that is killed loses at most `seconds` and one epoch, or `within`
    of a long one. It resumes to the same result.

    Args:
        dirpath: the run's folder.
        seconds: between two checkpoints at ends of epochs; 0 for every epoch.
        within: between two checkpoints inside an epoch; 0 for every batch that Lightning sees.
    """

    def __init__(self, dirpath: str, seconds: float = 1.0, within: float = 300.0) -> None:
        super().__init__(dirpath, filename="last", save_on_train_epoch_end=True, enable_version_counter=False)
        self.seconds, self.within = seconds, within
        self.saved, self.early = time.monotonic(), False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Replace the handlers that Lightning has installed by now: they would stop a run without a checkpoint."""
        super().on_train_start(trainer, pl_module)
        if notice.by is not None:
            raise Preempted(notice.by)  # before the first step: there is nothing to write
        notice.listen()
        stopped = [each for each in trainer.early_stopping_callbacks if each.wait_count >= each.patience]
        trainer.should_stop = any(each.stopped_epoch > 0 for each in stopped)  # only its test is left to do
        self.saved = time.monotonic()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let a run go on in a folder that has moved; Lightning calls this before any callback reads its state."""
        relocate(checkpoint, Path(str(self.dirpath)))

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.early = False

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Write a checkpoint if due, but not after an epoch's last batch: Lightning would skip its validation."""
        left = int(trainer.num_training_batches) - 1 - batch_idx
        age = time.monotonic() - self.saved
        due = age >= self.within or (left == 1 and age >= AHEAD)
        due, stop = raise_flags([due, notice.by is not None], trainer.strategy.root_device)
        if left > 0 and (due or stop):
            trainer.save_checkpoint(Path(str(self.dirpath)) / "last.ckpt")
            self.saved, self.early = time.monotonic(), True
            if stop:
                raise Preempted(notice.by or SIGTERM)

    def on_validation_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop during validation if a checkpoint was written shortly before."""
        if self.early and raise_flags([notice.by is not None], trainer.strategy.root_device)[0]:
            raise Preempted(notice.by or SIGTERM)

    def on_test_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop during the test: training is over and written, and the same command tests it."""
        if raise_flags([notice.by is not None], trainer.strategy.root_device)[0]:
            raise Preempted(notice.by or SIGTERM)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write a checkpoint at the end of an epoch if one is due."""
        over = trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs
        due = over or time.monotonic() - self.saved >= self.seconds
        due, stop = raise_flags([due, notice.by is not None], trainer.strategy.root_device)
        if due or stop:
            super().on_train_epoch_end(trainer, pl_module)
            self.saved = time.monotonic()
        if stop and not over:
            raise Preempted(notice.by or SIGTERM)


def relocate(checkpoint: dict[str, Any], folder: Path) -> None:
    """Name the files of a run by the folder that they are in now.

    A run folder may have moved since, for example to another node of a cluster. Lightning would then forget which epoch
    was the best, and test a later one.
    """
    place = os.path.realpath(folder)
    for state in checkpoint.get("callbacks", {}).values():
        before = state.get("dirpath") if isinstance(state, dict) else None
        best = Path(state["best_model_path"]) if before is not None else Path()
        if before is None or str(best.parent) == before == place or not (folder / best.name).is_file():
            continue
        moved = {str(path): str(Path(place, Path(path).name)) for path in state["best_k_models"]}
        for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
            state[key] = state[key] and str(Path(place, Path(state[key]).name))
        state["best_k_models"] = {moved[path]: score for path, score in state["best_k_models"].items()}
        state["dirpath"] = place


class WholeCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place and rename it once it is whole.

    Lightning's own class writes it to the folder for temporary files, which may be on another disk, and moves it.

    Args:
        data: what a prediction needs of the data that was trained on (`Dataset.state`); each checkpoint holds it.
    """

    def __init__(self, data: dict[str, Any] | None = None) -> None:
        super().__init__()
        self.data = data

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Write a checkpoint; Lightning calls this on the first process.

        Raises:
            Refused: if the disk does not take it.
        """
        file = Path(path)
        try:
            with replacing(file, durable=True) as out:
                torch.save(checkpoint if self.data is None else {**checkpoint, "data": self.data}, out)
        except FileNotFoundError as error:
            raise Refused(f"{file.parent} is gone: it was moved or deleted; type the same command again") from error
        except (OSError, RuntimeError) as error:  # torch's writer raises the latter for a full disk
            of_disk = next((e for e in (error, error.__context__) if isinstance(e, OSError) and e.strerror), None)
            why = of_disk.strerror if of_disk else " ".join(str(error).split())
            kept = "the last good one is kept" if file.is_file() else "there is none yet"
            raise Refused(
                f"the checkpoint {file} could not be written ({why}); {kept}: free some space there, "
                "or type output_dir=FOLDER on another disk"
            ) from error


def check_checkpoint(path: str | None, experiment: nn.Module, epochs: int, data: dict[str, Any]) -> str | None:
    """Check that a run can go on from a checkpoint; return its path, or `None` if there is none.

    Args:
        epochs: that are trained in all.
        data: what a prediction needs of the data (`Dataset.state`).

    Raises:
        Refused: if it cannot be read, its weights are another model's or not finite, its data were others, or it was
            trained for more epochs already.
    """
    if path is None:
        return None
    saved = read(path)
    if lacking := [key for key in WHOLE_RUN if key not in saved]:
        raise Refused(f"ckpt={path} is not a whole checkpoint (it lacks {lacking[0]}): type the path of a last.ckpt")
    if other := find_misfit(saved, experiment):
        name, theirs, ours = other
        raise Refused(
            f"ckpt={path} is of another model: it has {name} of shape {theirs}, this model {ours}; "
            "type the model and data that it was trained with"
        )
    check_finite(path, saved["state_dict"], experiment)
    if changed := find_change(saved, data):
        raise Refused(
            f"ckpt={path} was trained on other data ({changed}), and rows that it was trained on may be tested now: "
            "put the data back, or start over with resume=never"
        )
    if isinstance(saved["epoch"], int) and saved["epoch"] > epochs:
        trained = saved["epoch"] + 1
        raise Refused(
            f"ckpt={path} was trained for {count(trained, 'epoch')} already, more than trainer.max_epochs={epochs}: "
            f"type trainer.max_epochs={trained + 1} or more"
        )
    return path


def check_finite(path: str | Path, state: dict[str, torch.Tensor], module: nn.Module) -> None:
    """Refuse weights of a module that are NaN or infinite, which no data is to blame for."""
    for name, _ in module.named_parameters():
        if name in state and not bool(torch.isfinite(state[name]).all()):
            raise Refused(
                f"ckpt={path} holds NaN or infinite numbers ({name}): its training diverged, or the file is damaged; "
                "type another checkpoint"
            )


def find_change(saved: dict[str, Any], data: dict[str, Any]) -> str:
    """Return in what the data of a checkpoint differ from these (`Dataset.state`); empty where nothing is known to."""
    known = saved.get("data", data)
    what = {"outputs": "other targets, classes or labels", "priors": "other shares of its classes or labels"}
    changed = next((key for key, value in data.items() if known.get(key) != value), "")
    return what.get(changed, "other columns, or other statistics of them") if changed else ""


def find_misfit(saved: dict[str, Any], experiment: nn.Module) -> tuple[str, Any, Any] | None:
    """Find the first weight whose shape in a checkpoint differs; return its name and both shapes."""
    theirs, ours = (
        {name: tuple(weight.shape) for name, weight in state.items()}
        for state in (saved["state_dict"], experiment.state_dict())
    )
    names = (name for name in sorted({*theirs, *ours}) if theirs.get(name) != ours.get(name))
    return next(((name, theirs.get(name), ours.get(name)) for name in names), None)


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint as data: code that a stranger put into it is not run.

    Raises:
        Refused: if it is missing, not whole, or holds more than data.
    """
    try:
        if not check_archive(Path(path)):
            raise ValueError("it is no archive of torch's")
        saved: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        if not all(isinstance(weight, torch.Tensor) for weight in saved["state_dict"].values()):
            raise ValueError("its weights are no tensors")
    except Exception as error:  # torch.load raises many kinds for a file that is no checkpoint
        what = " ".join(str(error).split())[:120]
        raise Refused(f"ckpt={path} is not a whole checkpoint ({what}): type the path of a last.ckpt") from None
    return saved
