"""One run, from what was typed to the test metrics."""

import os
import sys
from math import ceil
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from losslab import door
from losslab.errors import Refused

if TYPE_CHECKING:
    from losslab.data.dataset import Dataset


def build(cfg: DictConfig, group: str, *ours: str, **more: Any) -> Any:
    """What the option of a group names by `_target_`, made from its keys but `ours`, which speak to losslab.

    `_convert_="all"`: an OmegaConf list would end up in the checkpoint, which then could not be read safely.
    """
    theirs = cfg[group].copy()
    for key in ours:
        theirs.pop(key, None)
    try:
        return instantiate(theirs, _convert_="all", **more)
    except InstantiationException as error:
        raise impossible(cfg, group, error.__cause__ or error) from error


def call(cfg: DictConfig, group: str, partial: Any, *facts: Any) -> Any:
    """What a `_partial_: true` option makes of the facts that it waited for."""
    try:
        return partial(*facts)
    except Exception as error:  # torch, torchvision and the user's own code raise what they like
        raise impossible(cfg, group, error) from error


def impossible(cfg: DictConfig, group: str, error: BaseException) -> Refused:
    """The sentence for an option that its keys cannot make."""
    if isinstance(error, Refused):
        return error
    why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    hint = "; trainer=cpu works everywhere" if group == "trainer" else ""
    return Refused(f"{group}={cfg.run.choices.get(group)} cannot be made with these settings: {why}{hint}")


def train(cfg: DictConfig) -> dict[str, float]:
    """Train once, test the best epoch, and record all of it.

    Args:
        cfg: what `losslab.door.configure` returns.

    Returns:
        The summary: the last and best value of each metric, and the test metrics.

    Raises:
        Refused: where data, model or checkpoint do not fit, or training diverges.
    """
    # tables are read without torch: their faults are told at once, and only then the heavy imports begin
    data: Dataset = build(cfg, "data", "gives", "batch_size")

    import pytorch_lightning as pl

    from losslab import terminal, tracking
    from losslab.checkpoints import fitting
    from losslab.data.batches import Batches, at_once
    from losslab.experiment import Experiment
    from losslab.losses import Loss
    from losslab.pictures import curves

    terminal.quieten()
    tracking.prepare_wandb(cfg)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    model = call(cfg, "model", build(cfg, "model", "takes"), data.shape, len(data.outputs))
    task = build(cfg, "task")
    task.fit(data)
    loss = Loss(build(cfg, "loss", "input", "target"), cfg.loss.input, cfg.loss.target)

    rows = {part: len(numbers) for part, numbers in data.rows.items()}
    size = rows["train"] if cfg.data.batch_size == "all" else cfg.data.batch_size
    accumulate = cfg.trainer.accumulate_grad_batches
    batches = Batches(data, "train", size, at_once=accumulate * at_once(data, size, cfg.trainer), seed=cfg.seed)
    val, test = (Batches(data, part, max(1024, size)) for part in ("val", "test"))
    cfg.run.steps = cfg.trainer.max_epochs * ceil(ceil(rows["train"] / size) / accumulate)
    facts = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_rows": rows["train"],
        "batches_per_epoch": ceil(rows["train"] / size),
        "updates": cfg.run.steps,
    }
    with tracking.claim(cfg, task.better) as record:
        optimizer, scheduler = build(cfg, "optimizer"), build(cfg, "scheduler", "interval", "monitor")
        schedule = {key: cfg.scheduler[key] for key in ("interval", "monitor") if key in cfg.scheduler}
        clip = cfg.trainer.gradient_clip_val
        experiment = Experiment(model, task, loss, optimizer, scheduler, schedule, size, accumulate, clip)
        loggers = [build(cfg, "logger")] if cfg.get("logger") else []
        callbacks = list(build(cfg, "callbacks").values())
        trainer: pl.Trainer = build(
            cfg,
            "trainer",
            "accumulate_grad_batches",
            "gradient_clip_val",
            logger=[record, *loggers],
            callbacks=callbacks + [terminal.Progress(cfg.run.steps)] * cfg.trainer.enable_progress_bar,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            default_root_dir=record.folder,
        )
        call(cfg, "scheduler", scheduler, call(cfg, "optimizer", optimizer, experiment.parameters()))  # refuse it now
        ckpt = fitting(cfg.ckpt, experiment)
        record.begin(loggers, facts)
        print(terminal.opening(cfg, data, facts, loggers, record.folder), flush=True)
        trainer.fit(experiment, batches, val, ckpt_path=ckpt, weights_only=True)
        trainer.test(experiment, test, ckpt_path=record.folder / "best.ckpt", verbose=False, weights_only=True)
        summary = record.finish(experiment.test_row)
        figures = task.pictures(data, experiment.test_scores)
        figures["curves"] = curves(record.history, cfg.task.yardstick, record.best_epoch())
        record.keep_pictures(figures, task.sample(data, experiment.test_scores))
    print(terminal.closing(summary, record.folder), flush=True)
    return summary


def job(typed: DictConfig) -> float:
    """One run of `hydra.main`, in a sweep one of many; the sweep's objective is the best validation yardstick."""
    hydra_config = HydraConfig.get()
    try:
        cfg = door.configure(hydra_config.overrides.task)
        summary = train(cfg)
    except Refused as error:
        if hydra_config.mode == RunMode.RUN:
            sys.exit(f"losslab: {error}")
        print(f"losslab: {error}", file=sys.stderr, flush=True)
        raise  # Hydra runs the other jobs of the sweep, then raises the first error
    return summary[f"val/{cfg.task.yardstick}_best"]


def main() -> None:
    """The command `losslab-train`: a user's mistake ends in one sentence and exit code 1, a bug in a traceback."""
    sys.argv[1:] = [door.quoted(text) for text in sys.argv[1:]]
    sys.path.append("")  # the user's own options may name modules in the folder where the command is typed
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises what it would print, and we can say it in a sentence
    try:
        hydra.main(version_base="1.3", config_path=str(door.CONF), config_name="config")(job)()
    except (Refused, HydraException, OmegaConfBaseException) as error:
        if traceback_wanted:
            raise
        typed = [text for text in sys.argv[1:] if "=" in text and not text.startswith("-")]
        sys.exit(f"losslab: {error if isinstance(error, Refused) else door.explain(error, typed)}")
