"""One run as a story: build it, claim a folder, fit, test, record."""

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig

from losslab.build import Parts, build
from losslab.config.launch import check_launch
from losslab.config.make import fill_in
from losslab.errors import machine_errors
from losslab.machine import frozen_heap
from losslab.training import preemption

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from pytorch_lightning.loggers import Logger
    from torch import Tensor

    from losslab.data.dataset import Dataset
    from losslab.record.record import Record
    from losslab.tasks import Task


class Summary(dict[str, float]):
    """A run's results by metric, and the folder of its record."""

    folder: Path


@machine_errors()
def train(cfg: DictConfig, *callbacks: "pl.Callback", folder: Path | None = None, alone: bool = False) -> Summary:
    """Train once, test the best epoch, and record all of it.

    Args:
        cfg: what `losslab.config.check.configure` returns.
        callbacks: beyond those of the configuration, such as a sweep's own.
        folder: where to record; `None` for a new one below `output_dir`.
        alone: whether it is no part of a sweep; see `losslab.terminal.closing`.

    Returns:
        The last and best value of each metric, and the test metrics; empty on all processes of a run but the first.

    Raises:
        Refused: where data, model or checkpoint do not fit, or training diverges.
    """
    check_launch(cfg)
    parts = build(cfg)

    from losslab import terminal
    from losslab.record.record import claim
    from losslab.training.checkpoints import check_checkpoint
    from losslab.training.distributed import relaunch_this_run
    from losslab.training.module import hook_listener

    trainer, module, loaders = parts.trainer, parts.module, parts.loaders
    summary = Summary()
    with preemption.note_signals(), claim(parts.cfg, parts.task.better, trainer, folder) as record:
        ckpt = check_checkpoint(record.ckpt, module, parts.cfg.trainer.max_epochs, parts.data.state())
        loggers = connect(parts, record, callbacks)
        record.begin(loggers, parts.facts)
        if record.first:
            print(terminal.opening(parts, record, loggers, hook_listener(trainer), alone), flush=True)
        trainer.precision_plugin.convert_module(module)  # before a checkpoint in double precision is read into it
        with relaunch_this_run(cfg, trainer), frozen_heap():
            trainer.fit(module, loaders.train, loaders.val, ckpt_path=ckpt, weights_only=True)
            evaluated = [loaders.test, loaders.val]
            trainer.test(module, evaluated, ckpt_path=record.folder / "best.ckpt", verbose=False, weights_only=True)
        if record.first:
            scores = {"test": module.test_scores, "val": module.val_scores}
            summary.update(finish(record, parts.data, parts.task, module.test_rows[0], scores))
    summary.folder = record.folder
    if summary:
        print(terminal.closing(summary, record.folder, parts, alone), flush=True)
    return summary


def connect(parts: Parts, record: "Record", callbacks: "tuple[pl.Callback, ...]") -> "list[Logger]":
    """Give the trainer its loggers and callbacks, which know the run's folder; return the loggers beside the record."""
    from pytorch_lightning.callbacks import Checkpoint

    from losslab.record.loggers import build_loggers
    from losslab.terminal import Progress
    from losslab.training.callbacks import build_callbacks

    cfg = fill_in(parts.cfg, dir=str(record.folder), name=record.name, id=record.version)
    loggers, filled = build_loggers(cfg) if record.first else ([], {})
    record.config |= {f"logger.{key}": value for key, value in filled.items()}
    every = [*build_callbacks(cfg).values(), *callbacks]
    if cfg.trainer.enable_progress_bar and record.first:
        every.append(Progress(cfg))
    parts.trainer.loggers = [record, *loggers]
    ordered = sorted(every, key=lambda callback: isinstance(callback, Checkpoint))  # Lightning wants these last
    parts.trainer.callbacks = ordered  # type: ignore[attr-defined]
    return loggers


def finish(
    record: "Record", data: "Dataset", task: "Task", test_row: dict[str, float], scores: "dict[str, Tensor]"
) -> dict[str, float]:
    """Write the rows, the summary, the pictures and the tables of a run that is trained and tested; return the summary.

    Its scores are those of the tested weights, for all `test` and all `val` rows.
    """
    from losslab.page.pictures import draw_run
    from losslab.training.jackknife import record_rows

    record_rows(record.folder, data, task, scores)
    summary = record.finish(test_row)
    record.keep_tables(tables := task.tables(data, scores["test"]))
    record.keep_pictures(lambda: draw_run(task, data, scores["test"], record.history, record.config, summary))
    record.mirror_pictures(tables)
    return summary
