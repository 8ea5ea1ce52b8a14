"""One run, from what was typed to the test metrics."""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import ctypes
import os
import re
import signal
import sys
from functools import partial
from math import ceil, nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, InstantiationException
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from losslab.config import arguments, catalogue, check, compose, targets
from losslab.config.arguments import as_overrides
from losslab.errors import Refused, machine_errors, machine_refusal, one_sentence
from losslab.training import preemption

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from torch import Tensor, nn

    from losslab.data.batches import Batches
    from losslab.data.dataset import Dataset
    from losslab.losses import Loss, Sum
    from losslab.record.record import Record
    from losslab.tasks import Task
    from losslab.training.module import Experiment


OURS = {  # keys that speak to losslab, and not to the constructor beside whose keys they stand
    "data": ("gives", "batch_size", "drop_last", "workers"),
    "trainer": ("accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "updates", "channels_last"),
}
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
SUMS = "+losses="  # what Hydra is told of the losses of a sweep, sums among them, which it knows no files of
done: dict[int, str] = {}  # the folders of a sweep's runs, by their numbers


class Reached(float):
    """A sweep's objective; where the job ran in another process, unpickling it tells this one of the run's folder."""

    told: tuple[float, int, str]

    def __new__(cls, value: float, number: int, folder: str) -> "Reached":
        done[number] = folder
        reached = super().__new__(cls, value)
        reached.told = value, number, folder
        return reached

    def __reduce__(self) -> tuple[type["Reached"], tuple[float, int, str]]:
        return Reached, self.told


def build(cfg: DictConfig, path: str, *ours: str, **more: Any) -> Any:
    """What the option of a group names by `_target_`, made from its keys but `ours`, which speak to losslab.

    `_convert_="all"`: an OmegaConf list would end up in the checkpoint, which then could not be read safely.
    """
    theirs = OmegaConf.select(cfg, path).copy()
    for key in ours:
        theirs.pop(key, None)
    targets.check_targets(cfg, OmegaConf.to_container(theirs, resolve=True), path)
    try:
        return instantiate(theirs, _convert_="all", **more)
    except InstantiationException as error:
        raise impossible(cfg, path.split(".")[0], error.__cause__ or error) from error


def call(cfg: DictConfig, group: str, partial: Any, *facts: Any) -> Any:
    """What a `_partial_: true` option makes of the facts that it waited for."""
    try:
        return partial(*facts)
    except Exception as error:  # torch, torchvision and the user's own code raise what they like
        raise impossible(cfg, group, error) from error


def impossible(cfg: DictConfig, group: str, error: BaseException) -> Refused:
    """The sentence for an option that its keys cannot make."""
    if refused := machine_refusal(error):
        return refused
    why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    hint = "; trainer=cpu works everywhere" if group == "trainer" else ""
    return Refused(f"{group}={cfg.run.choices.get(group)} cannot be made with these settings: {why}{hint}")


def objective(cfg: DictConfig, task: "Task", data: "Dataset") -> "Loss | Sum":
    """The loss, or the weighted sum of several, made for the task and the data at hand.

    Raises:
        Refused: where weights are not one for each class or label, targets lie outside a loss's domain, or the loss
            cannot be made of the first rows.
    """
    import torch

    from losslab.losses import Loss, Sum

    parts: dict[str, Loss] = {}
    for name, path in compose.loss_paths(cfg).items():
        keys = OmegaConf.select(cfg, path)
        weights = {key: keys[key] for key in ("weight", "pos_weight") if keys.get(key) is not None}
        for key, given in weights.items():
            known = task.balance(data)
            if given != "balanced":
                weights[key] = torch.tensor(list(given), dtype=torch.float32)
                if len(given) != len(data.outputs):
                    raise Refused(
                        f"{path}.{key} has {len(given)} numbers, but data={cfg.run.choices.data} has "
                        f"{len(data.outputs)} outputs ({', '.join(data.outputs[:5])}, ...): "
                        "type one for each, or balanced"
                    )
            elif key in known:
                weights[key] = known[key]
            else:
                raise Refused(f"{path}.{key}=balanced has no meaning in task={cfg.task.name}: type a list, or null")
        if "domain" in keys and (outside := data.outside(keys.domain)):
            raise Refused(
                f"loss={name} is for targets {keys.domain}, which {outside} of the {data.y.size:,} targets of "
                f"data={cfg.run.choices.data} are not: type another loss, or correct them"
            )
        function = build(cfg, path, "input", "target", "reduction", "per", "domain", *weights, **weights)
        parts[name] = Loss(function, keys.input, keys.target, keys.get("reduction", "mean"), keys.get("per", "row"))
    loss = Sum(parts, cfg.loss.get("weights", {})) if "parts" in cfg.loss else parts[cfg.run.choices.loss]
    task.fit(data, loss)
    first = torch.from_numpy(data.targets("train")[:2])
    try:
        loss.compute(task, torch.zeros(len(first), task.count_scores(len(data.outputs), loss)), first)
    except (ValueError, RuntimeError, IndexError) as error:
        raise impossible(cfg, "loss", error) from error
    return loss


def assembled(cfg: DictConfig, data: "Dataset") -> "tuple[Task, Loss | Sum, nn.Module]":
    """The task and the loss, fitted to the data, and the model with the initial weights that follow from the seed."""
    import pytorch_lightning as pl

    task = build(cfg, "task")
    loss = objective(cfg, task, data)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)  # the same weights whatever the loss did
    scores = task.count_scores(len(data.outputs), loss)
    model = call(cfg, "model", build(cfg, "model", "takes"), data.shape, scores)
    return task, loss, model


def restored(cfg: DictConfig, **more: Any) -> "tuple[Dataset, Task, Loss | Sum, nn.Module]":
    """A trained run: its data, its task and loss, and its model, which takes inputs as the data hold them.

    Args:
        cfg: composed with `ckpt=`, whose run folder tells what the run was made of.
        more: keys for the data, such as `new`.

    Raises:
        Refused: where the data are no longer what it was trained on.
    """
    import torch
    from torch import nn

    from losslab import terminal
    from losslab.data.batches import Pixels
    from losslab.training.checkpoints import read

    terminal.quieten()
    data: Dataset = build(cfg, "data", *OURS["data"], **more)
    task, loss, model = assembled(cfg, data)
    run = nn.ModuleDict({"pixels": Pixels(data.scale), "model": model, "task": task, "loss": loss})
    state = {name: value for name, value in read(cfg.ckpt)["state_dict"].items() if name.split(".")[0] in run}
    ours, of_rows = run.state_dict(), ("pixels.mean", "pixels.std", "task.mean", "task.std")
    changed = [
        name
        for name in sorted({*ours, *state})
        if name not in ours
        or name not in state
        or ours[name].shape != state[name].shape
        or (name in of_rows and not torch.allclose(ours[name], state[name].to(ours[name].dtype), rtol=1e-4))
    ]
    if changed:
        raise Refused(
            f"data={cfg.run.choices.data} is no longer what ckpt={cfg.ckpt} was trained on ({changed[0]} differs): "
            "type where the rows lie that it was trained on"
        )
    run.load_state_dict(state)
    return data, task, loss, nn.Sequential(run["pixels"], run["model"]).eval()


def optimizer_of(cfg: DictConfig) -> Any:
    """What makes the optimizer of its parameters; of Adam and AdamW torch's fused form, one pass over the weights.

    That form takes weights, gradients and moments to lie alike in memory and does not look, and a scaler of gradients
    would not let them be clipped.
    """
    import torch

    make = build(cfg, "optimizer", "hidden")
    plain = not cfg.trainer.channels_last and cfg.trainer.precision != "16-mixed" and "fused" not in cfg.optimizer
    if plain and isinstance(make, partial) and make.func in (torch.optim.Adam, torch.optim.AdamW):
        return partial(make, fused=True)
    return make


def experiment(cfg: DictConfig, data: "Dataset") -> "Experiment":
    """The run's Lightning module; what its optimizer or its schedule cannot do is refused now."""
    import torch

    from losslab.data.batches import Pixels
    from losslab.optim.groups import group_parameters
    from losslab.training.module import Experiment

    task, loss, model = assembled(cfg, data)
    if cfg.trainer.channels_last:
        model = model.to(memory_format=torch.channels_last)
    make = optimizer_of(cfg)
    scheduler = build(cfg, "scheduler", "interval", "monitor", "warmup")
    schedule = {key: cfg.scheduler[key] for key in ("interval", "monitor") if key in cfg.scheduler}
    schedule["warmup"] = round(cfg.scheduler.get("warmup", 0.0) * cfg.run.steps)

    def optimizer(module: "pl.LightningModule") -> Any:
        rate, hidden = cfg.optimizer.get("lr"), cfg.optimizer.get("hidden", False)
        return call(cfg, "optimizer", make, group_parameters(module, rate, **cfg.param_groups, hidden=hidden))

    made = Experiment(
        model,
        Pixels(data.scale),
        task,
        loss,
        optimizer,
        scheduler,
        schedule,
        accumulate=cfg.trainer.accumulate_grad_batches,
        clip=cfg.trainer.gradient_clip_val,
        clip_by=cfg.trainer.gradient_clip_algorithm,
        augment=build(cfg, "augment") if cfg.get("augment") else None,
    )
    call(cfg, "scheduler", scheduler, optimizer(made))
    return made


def planned(cfg: DictConfig, data: "Dataset") -> dict[str, int]:
    """The rows that are trained on, batches an epoch and optimizer steps of a run; the configuration is told them."""
    from losslab.data.batches import epoch_rows

    size = len(data.split["train"]) if cfg.data.batch_size == "all" else cfg.data.batch_size
    rows = epoch_rows(data, size, cfg.data.get("drop_last", False))
    per_epoch = ceil(ceil(rows / size) / cfg.trainer.accumulate_grad_batches)
    if cfg.trainer.updates:
        cfg.trainer.max_epochs = ceil(cfg.trainer.updates / per_epoch)
    cfg.run.steps = cfg.trainer.max_epochs * per_epoch
    return {"train_rows": rows, "batches_per_epoch": ceil(rows / size), "updates": cfg.run.steps}


def trainer_of(cfg: DictConfig) -> "pl.Trainer":
    """Lightning's trainer; the record, the loggers and the callbacks follow when the run's folder is known."""
    from losslab.training.checkpoints import Whole

    trainer: pl.Trainer = build(
        cfg,
        "trainer",
        *OURS["trainer"],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        plugins=[Whole()],
    )
    if trainer.strategy.root_device.type == "cpu":
        # Adam asks in each step whether there is a GPU, and Lightning has that answered by a library that is searched
        # for each time: it would take a third of a small step
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
        keep_freed_memory()
    return trainer


def keep_freed_memory() -> None:
    """Let the C library keep what tensors leave for those of the next step, as torch itself does on a GPU.

    It would give tensors of some megabytes back at once, and new pages cost as much as the arithmetic on them.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):  # of glibc
        for option, limit in ((M_MMAP_THRESHOLD, 2**30), (M_TRIM_THRESHOLD, 2**31 - 1)):
            libc.mallopt(option, limit)


def batches(cfg: DictConfig, data: "Dataset", rank: int = 0, world: int = 1, ahead: bool = True) -> "list[Batches]":
    """The batches that are trained on, validated and tested.

    Args:
        rank, world: which process this is, and of how many.
        ahead: whether images may be normalised once for all epochs; not where they are augmented.
    """
    from losslab.data.batches import Batches, at_once

    size = len(data.split["train"]) if cfg.data.batch_size == "all" else cfg.data.batch_size
    together = cfg.trainer.accumulate_grad_batches * at_once(data, size, cfg.trainer)
    share = {"rank": rank, "world": world, "workers": cfg.data.get("workers", 0), "ahead": ahead}
    drop_last = cfg.data.get("drop_last", False)
    train = Batches(data, "train", size, together, cfg.seed, drop_last, **share)
    return [train, *(Batches(data, part, max(1024, size), **{**share, "ahead": True}) for part in ("val", "test"))]


@machine_errors()
def train(cfg: DictConfig, *more: "pl.Callback") -> dict[str, float]:
    """Train once, test the best epoch, and record all of it.

    Args:
        cfg: what `losslab.config.check.configure` returns.
        more: callbacks that are no settings of the run, such as a sweep's own.

    Returns:
        The summary: the last and best value of each metric, and the test metrics; nothing on all processes of a run but
        the first.

    Raises:
        Refused: where data, model or checkpoint do not fit, or training diverges.
    """
    check.launched(cfg)
    # tables are read without torch: their faults are told at once, and only then the heavy imports begin
    data: Dataset = build(cfg, "data", *OURS["data"])

    import pytorch_lightning as pl

    from losslab import terminal
    from losslab.record import wandb
    from losslab.record.record import claim
    from losslab.training import distributed
    from losslab.training.checkpoints import fitting
    from losslab.training.module import hook_listener

    terminal.quieten()
    wandb.prepare(cfg)
    facts = planned(cfg, data)
    module = experiment(cfg, data)
    facts = {"parameters": sum(p.numel() for p in module.model.parameters()), **facts}
    trainer = trainer_of(cfg)
    training, val, test = batches(cfg, data, trainer.global_rank, trainer.world_size, ahead=module.augment is None)
    with preemption.heeded(), claim(cfg, module.task.better, trainer) as record:
        ckpt = fitting(cfg.ckpt, module, cfg.trainer.max_epochs)
        loggers = [build(cfg, "logger")] if cfg.get("logger") and record.first else []
        callbacks = [*build(cfg, "callbacks").values(), *more]
        if cfg.trainer.enable_progress_bar and record.first:
            callbacks.append(terminal.Progress(cfg.run.steps))
        trainer.loggers = [record, *loggers]
        ordered = sorted(callbacks, key=lambda callback: isinstance(callback, pl.callbacks.Checkpoint))
        trainer.callbacks = ordered  # type: ignore[attr-defined]
        record.begin(loggers, facts)
        if record.first:
            print(terminal.opening(cfg, data, facts, loggers, record.folder, hook_listener(trainer)), flush=True)
        trainer.precision_plugin.convert_module(module)  # before a checkpoint in double precision is read into it
        with distributed.relaunched(cfg, trainer):
            trainer.fit(module, training, val, ckpt_path=ckpt, weights_only=True)
            trainer.test(module, test, ckpt_path=record.folder / "best.ckpt", verbose=False, weights_only=True)
        if not record.first:
            return {}
        summary = told(cfg, record, data, module.task, module.test_rows[0], module.test_scores)
    print(terminal.closing(summary, record.folder), flush=True)
    return summary


def told(
    cfg: DictConfig, record: "Record", data: "Dataset", task: "Task", row: dict[str, float], scores: "Tensor"
) -> dict[str, float]:
    """What is left to do when a run is trained and tested: its summary, and its pictures and tables."""
    from losslab.page.pictures import draw_curves

    summary = record.finish(row)
    figures = task.pictures(data, scores)
    figures["curves"] = draw_curves(record.history, cfg.task.yardstick, record.best_epoch())
    record.keep_pictures(figures, task.tables(data, scores))
    return summary


def job(typed: DictConfig) -> float:
    """One run of `hydra.main`, in a sweep one of many; the sweep's objective is the best validation yardstick."""
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGUSR1, preemption.too_early)
    hydra_config = HydraConfig.get()
    launcher = hydra_config.runtime.choices["hydra/launcher"]
    try:
        if hydra_config.mode == RunMode.RUN and launcher != "basic":
            raise Refused(f"hydra/launcher={launcher} is for the runs of a sweep, and one run is none: type -m too")
        cfg = check.configure([text.replace(SUMS, "loss=", 1) for text in hydra_config.overrides.task])
        check.check_dropped(cfg)
        summary = train(cfg)
    except Refused as error:
        if hydra_config.mode == RunMode.RUN:
            sys.exit(f"losslab: {error}")
        print(f"losslab: {error}", file=sys.stderr, flush=True)
        raise  # Hydra runs the other jobs of the sweep, then raises the first error
    if not summary or hydra_config.mode == RunMode.RUN:  # nobody asks, or the run's first process has told
        return nan
    return Reached(summary[f"val/{cfg.task.yardstick}_best"], hydra_config.job.num, cfg.run.dir)


def side_by_side() -> None:
    """After a sweep: what its runs differ in, and what each reached."""
    if len(done) > 1:
        from losslab.terminal import tabulate_runs

        print(tabulate_runs([Path(done[number]) for number in sorted(done)]), flush=True)


@one_sentence()
def main() -> None:
    """The command `losslab-train`: a user's mistake ends in one sentence and exit code 1, a bug in a traceback."""
    preemption.heed_early()
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # so that Hydra raises what it would print, and we can say it in a sentence
    try:
        sys.argv[1:] = [arguments.quoted(text) for text in as_overrides(sys.argv[1:])]
        check.check_front(sys.argv[1:])
        if {"-m", "--multirun"} & set(sys.argv):  # in a sweep each job is spelled out when its turn comes
            sys.argv[1:] = [re.sub(r"^loss=(?=.*\[)", SUMS, text) for text in sys.argv[1:]]
        else:
            sys.argv[1:] = [spelled for text in sys.argv[1:] for spelled in arguments.spelled_out(text)]
        hydra.main(version_base="1.3", config_path=str(catalogue.CONF), config_name="config")(job)()
        side_by_side()
    except (Refused, HydraException, OmegaConfBaseException) as error:
        side_by_side()
        if traceback_wanted:
            raise
        words, folders = arguments.take_folders(sys.argv[1:])
        typed = [*(text for text in words if "=" in text and not text.startswith("-")), *arguments.search_path(folders)]
        sys.exit(f"losslab: {error if isinstance(error, Refused) else check.explain(error, typed)}")
    except Exception as error:
        side_by_side()
        if traceback_wanted or not (type(error).__module__.startswith("submitit") or "srun" in str(error)):
            raise
        sys.exit(
            f"losslab: SLURM: {' '.join(str(error).partition('-----')[0].split())}"
        )  # below are a job's last words


if __name__ == "__main__":
    main()
