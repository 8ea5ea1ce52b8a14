"""From a checked configuration to the parts of a run, resolved once and frozen."""

from dataclasses import dataclass
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig

from losslab.config.make import call, fill_in, make
from losslab.data.make import make_data

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from torch import nn

    from losslab.data.batches import Batches
    from losslab.data.dataset import Dataset
    from losslab.losses import Loss, Sum
    from losslab.tasks import Task
    from losslab.training.module import Experiment


class Loaders(NamedTuple):
    """The batches that are trained on, validated and tested."""

    train: "Batches"
    val: "Batches"
    test: "Batches"


@dataclass(frozen=True)
class Parts:
    """All that a run is made of."""

    cfg: DictConfig  # with the number of steps, which depends on the data
    data: "Dataset"
    task: "Task"
    loss: "Loss | Sum"
    module: "Experiment"
    trainer: "pl.Trainer"
    loaders: Loaders
    facts: dict[str, int]  # rows, batches, steps, parameters and threads, for the record


def build(cfg: DictConfig) -> Parts:
    """Resolve a configuration into the parts of one run.

    Tables are read without torch, so that a fault in them is reported before the slow imports begin.

    Raises:
        Refused: where data, model, loss or optimizer do not fit each other.
    """
    data = make_data(cfg)

    from losslab.terminal import quieten
    from losslab.training.threads import use_threads

    quieten()
    cfg, module, facts = build_run(cfg, data)
    trainer = build_trainer(cfg, data)
    facts["threads"] = use_threads(cfg, trainer, module, data, batch_size(cfg, data))
    loaders = build_loaders(cfg, data, trainer.global_rank, trainer.world_size, ahead=module.augment is None)
    return Parts(cfg, data, module.task, module.loss, module, trainer, loaders, facts)


def build_run(cfg: DictConfig, data: "Dataset") -> "tuple[DictConfig, Experiment, dict[str, int]]":
    """Plan the steps and make the module; return a copy of `cfg` with the steps, the module and the run's facts."""
    cfg, facts = plan_steps(cfg, data)
    module = build_module(cfg, data)
    return cfg, module, {"parameters": sum(p.numel() for p in module.model.parameters()), **facts}


def batch_size(cfg: DictConfig, data: "Dataset") -> int:
    """Return how many rows a batch holds; `data.batch_size=all` is all training rows."""
    return len(data.split["train"]) if cfg.data.batch_size == "all" else int(cfg.data.batch_size)


def plan_steps(cfg: DictConfig, data: "Dataset") -> tuple[DictConfig, dict[str, int]]:
    """Count rows, batches an epoch and optimizer steps, and tell splits apart; fill the steps into a copy of `cfg`."""
    from losslab.data.batches import epoch_rows
    from losslab.record.blocks import digest_rows

    size, trainer = batch_size(cfg, data), cfg.trainer
    rows = epoch_rows(data, size, cfg.data.get("drop_last", False))
    per_epoch = ceil(ceil(rows / size) / trainer.accumulate_grad_batches)
    epochs = ceil(trainer.updates / per_epoch) if trainer.updates else trainer.max_epochs
    facts = {"train_rows": rows, "batches_per_epoch": ceil(rows / size), "updates": epochs * per_epoch}
    facts |= {f"{part}_rows": len(data.split[part]) for part in ("val", "test")}
    facts |= {f"{part}_split": digest_rows(data.split[part], data.given_weights(part)) for part in ("train", "test")}
    return fill_in(cfg, max_epochs=epochs, steps=facts["updates"]), facts


def build_model(cfg: DictConfig, data: "Dataset") -> "tuple[Task, Loss | Sum, nn.Module]":
    """Make the task and the loss, and the model with the initial weights that follow from the seed."""
    import pytorch_lightning as pl

    from losslab.training.objective import build_loss

    task: Task = make(cfg, "task")
    loss = build_loss(cfg, task, data)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)  # the same weights whatever the loss did
    model = call(cfg, "model", make(cfg, "model"), data.shape, task.count_scores(len(data.outputs), loss))
    return task, loss, model


def build_optimizer(cfg: DictConfig) -> Any:
    """Make the optimizer's factory, to be called with parameters.

    Adam and AdamW get torch's fused form, which passes over the weights once. It does not check that weights, gradients
    and moments have the same memory format, and a gradient scaler would not let the gradients be clipped.
    """
    import torch

    from losslab.training.precision import scales_loss

    waiting = make(cfg, "optimizer")
    plain = not cfg.trainer.channels_last and not scales_loss(cfg) and "fused" not in cfg.optimizer
    if plain and isinstance(waiting, partial) and waiting.func in (torch.optim.Adam, torch.optim.AdamW):
        return partial(waiting, fused=True)
    return waiting


def build_module(cfg: DictConfig, data: "Dataset") -> "Experiment":
    """Make the run's Lightning module; refuse now what its optimizer or its schedule cannot do.

    Args:
        cfg: with the number of steps, from `plan_steps`.
    """
    import torch

    from losslab.data.batches import Pixels
    from losslab.optim.groups import group_parameters
    from losslab.training.module import Experiment
    from losslab.training.objective import check_metrics
    from losslab.training.precision import check_scaler

    task, loss, model = build_model(cfg, data)
    check_metrics(cfg, task, data, loss)
    if cfg.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    waiting = build_optimizer(cfg)
    scheduler = make(cfg, "scheduler")
    schedule = {key: cfg.scheduler[key] for key in ("interval", "monitor") if key in cfg.scheduler}
    schedule["warmup"] = round(cfg.scheduler.get("warmup", 0.0) * cfg.run.steps)

    def groups(module: "pl.LightningModule") -> Any:
        rate, hidden = cfg.optimizer.get("lr"), cfg.optimizer.get("hidden", False)
        return group_parameters(module, rate, **cfg.param_groups, hidden=hidden)

    module = Experiment(
        model,
        Pixels(data.scale),
        task,
        loss,
        groups,
        lambda groups: call(cfg, "optimizer", waiting, groups),
        scheduler,
        schedule,
        accumulate=cfg.trainer.accumulate_grad_batches,
        clip=cfg.trainer.gradient_clip_val,
        clip_by=cfg.trainer.gradient_clip_algorithm,
        augment=make(cfg, "augment") if cfg.get("augment") else None,
        cuda_graphs=cfg.trainer.get("cuda_graphs", True),
    )
    (made,) = module.build_optimizers()
    check_scaler(cfg, made)
    call(cfg, "scheduler", scheduler, made)
    return module


def build_trainer(cfg: DictConfig, data: "Dataset") -> "pl.Trainer":
    """Make Lightning's trainer for these data; loggers and callbacks follow when the run's folder is known."""
    import torch

    from losslab.machine import speed_up_cpu
    from losslab.training.checkpoints import WholeCheckpointIO

    trainer: pl.Trainer = make(
        cfg,
        "trainer",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        plugins=[WholeCheckpointIO(data.state())],
    )
    # or deterministic=true writes each new tensor twice
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if trainer.strategy.root_device.type == "cpu":
        speed_up_cpu()
    return trainer


def build_loaders(cfg: DictConfig, data: "Dataset", rank: int = 0, world: int = 1, ahead: bool = True) -> Loaders:
    """Make the batches of a run.

    Args:
        rank, world: the number of this process, and how many there are.
        ahead: whether images may be normalised once for all epochs; not where they are augmented.
    """
    from losslab.data.batches import Batches, at_once

    size = batch_size(cfg, data)
    per_step = cfg.trainer.accumulate_grad_batches * at_once(data, size, cfg.trainer)
    share = {"rank": rank, "world": world, "workers": cfg.data.get("workers", 0)}
    order = (cfg.seed, cfg.data.get("drop_last", False), cfg.data.get("reshuffle", True))
    train = Batches(data, "train", size, per_step, *order, ahead=ahead, **share)
    return Loaders(train, *(Batches(data, part, max(1024, size), ahead=True, **share) for part in ("val", "test")))
