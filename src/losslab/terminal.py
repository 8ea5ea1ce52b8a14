"""What a run prints while it trains and when it ends."""

import logging
import shlex
import signal
import sys
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytorch_lightning as pl
import torch
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger, WandbLogger

from losslab.config.arguments import take_folders, to_paste
from losslab.config.flat import excluded_from_name, flatten
from losslab.config.recorded import find_unrecordable
from losslab.data.notes import count
from losslab.experiment import introduce, report
from losslab.pipes import clean
from losslab.progress import progress_bar
from losslab.record.wandb import links, sync_command

if TYPE_CHECKING:
    from losslab.build import Parts
    from losslab.record.record import Record


WHOLE: Any = {"break_long_words": False, "break_on_hyphens": False}  # words stay whole where text is wrapped
EARLY = 5  # epochs: a best epoch of 0 or 1 out of so many is remarked upon


class Progress(ProgressBar):
    """One progress bar for the whole run: the epoch, and the primary metric on the validation rows.

    Lightning makes a new bar for each epoch, which costs more than the epoch where epochs are short.
    """

    def __init__(self, cfg: DictConfig) -> None:
        super().__init__()
        self.steps, self.epochs = int(cfg.run.steps), int(cfg.trainer.max_epochs)
        self.metric, self.choose = f"val/{cfg.task.yardstick}", min if cfg.task.mode == "min" else max
        self.best: float | None = None
        self.bar: Any = None

    def disable(self) -> None:
        """Lightning calls this on all processes but the first."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar = progress_bar(self.steps, self.epoch(trainer), initial=trainer.global_step)

    def epoch(self, trainer: pl.Trainer) -> str:
        """Write which epoch is trained, counted from 1."""
        return f"epoch {trainer.current_epoch + 1}/{self.epochs}"

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.bar.update(trainer.global_step - self.bar.n)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show the epoch and, once the validation rows were evaluated, the primary metric: its mean over a stack."""
        if self.bar.disable:
            return
        states: Any = pl_module.states  # of `EpochModule`, one for each run
        values = [row[self.metric] for state in states if self.metric in (row := state.val_row)]
        self.bar.set_description_str(self.epoch(trainer), refresh=False)
        if values:
            now = sum(values) / len(values)
            self.best = now if self.best is None else self.choose(self.best, now)
            self.bar.set_postfix({self.metric: f"{now:.4g}", "best": f"{self.best:.4g}"}, refresh=False)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        if self.bar is not None:
            self.bar.close()


def quieten() -> None:
    """Silence what Lightning prints on every run and users can't act on."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        "Checkpoint directory .* exists",
        "GPU available but not used",  # trainer=cpu was typed
        "The number of training batches",
        "The `srun` command",
        ".*LeafSpec",
        "It is recommended to use .*sync_dist",  # what is logged is the same on all processes
    ):
        warnings.filterwarnings("ignore", message)


def opening(
    parts: "Parts", record: "Record", mirrors: list[Logger], detour: str | None = None, alone: bool = False
) -> str:
    """Describe a run that starts: its data, model, loss and optimizer, where it logs, and why its steps are slow.

    One that is `alone`, no part of a sweep, begins with the question that its experiment asks.
    """
    cfg, data, facts, choice = parts.cfg, parts.data, parts.facts, parts.cfg.run.choices
    rows = {part: f"{len(numbers):,} {part}" for part, numbers in data.split.items()}
    lines = [
        ("task", f"{choice.task}, evaluated by {cfg.task.yardstick}"),
        ("data", f"{choice.data}: {', '.join(rows.values())} rows; {many(data.outputs, cfg.task.truth)}"),
        ("model", f"{choice.model}, {facts['parameters']:,} parameters; {count(facts['threads'], 'CPU thread')}"),
        ("training", f"loss {choice.loss}, optimizer {choice.optimizer}, lr {cfg.optimizer.get('lr')}, "
                     f"{choice.scheduler} schedule, batch {cfg.data.batch_size}, seed {cfg.seed}"),
        *([("columns", list_columns(data.columns))] if data.columns else []),
        *(("note", note) for note in (*data.notes, *cfg.run.get("notes", []))),
        *([("note", f"steps go through Lightning, which is slower for small models: {detour}")] if detour else []),
        *(("W&B", where(logger)) for logger in mirrors if isinstance(logger, WandbLogger)),
        *(("sweep", url) for name, url in links(mirrors).items() if name == "sweep"),
        *([("resumed", f"from {record.ckpt}")] if record.ckpt else []),
        ("record", str(record.folder)),
    ]  # fmt: skip
    question = introduce([choice.get("experiment", "")], cfg.run.catalogue) if alone else []
    return clean("\n".join([*question, *(f"{name:<9}{text}" for name, text in lines)]))


def list_columns(columns: Sequence[tuple[str, ...]]) -> str:
    """Write what was made of a table's columns, below one another."""
    from losslab.data.schema import write_columns  # images need no pandas, whose import takes half a second

    return write_columns(columns, 9).replace("\n", f"\n{' ' * 9}")


def opening_stack(cfgs: Sequence[DictConfig], facts: Mapping[str, int]) -> str:
    """Describe a stack that starts: how many runs, of what, and in what they differ."""
    flat = [{**flatten(cfg), **cfg.run.choices} for cfg in cfgs]
    differ = [key for key in flat[0] if not excluded_from_name(key) and len({str(each.get(key)) for each in flat}) > 1]
    typed = {text.split("=", 1)[0].lstrip("+~") for cfg in cfgs for text in cfg.run.overrides}
    choice, few = cfgs[0].run.choices, ", ".join(key for key in differ if key in typed) or ", ".join(differ)
    lines = [
        ("stack", f"{len(cfgs)} runs trained as one, which differ in {few}"),
        ("each", f"{choice.data}, {choice.model}, {facts['parameters']:,} parameters, {facts['updates']:,} steps"),
        ("record", str(cfgs[0].output_dir)),
    ]
    return "\n".join(f"{name:<9}{text}" for name, text in lines)


def many(outputs: list[str], truth: str) -> str:
    """Name the outputs, or count them if they are many."""
    kind = {"numbers": "target", "class": "classes", "labels": "labels"}[truth]
    return f"{kind} {', '.join(outputs)}" if len(outputs) <= 4 else f"{len(outputs)} {kind}"


def where(logger: WandbLogger) -> str:
    """Say where W&B keeps the run."""
    run = logger.experiment
    if getattr(run, "url", None):
        return str(run.url)
    if getattr(run, "offline", False):
        return f"offline; to upload it type\n{' ' * 9}`{sync_command(run)}`"
    return "disabled"


def closing(summary: Mapping[str, float], folder: Path, parts: "Parts", alone: bool = False) -> str:
    """List the test metrics, where the pictures are, and on the last line the run's folder. Epochs count from 1.

    Args:
        alone: whether it is no part of a sweep, and so ends with what its experiment expects and what to type next.
    """
    tests = {key.removeprefix("test/"): value for key, value in summary.items() if key.startswith("test/")}
    width, best = max(map(len, tests)), summary["best_epoch"] + 1
    table = [f"  {name:<{width}}  {value:>12.6g}" for name, value in tests.items()]
    head = f"\ntest metrics of epoch {best:g}, the best of {summary['epochs']:g} on the validation rows"
    notes = [find_nothing_learnt(summary, parts), parts.task.remark(tests)]
    if best <= 2 and summary["epochs"] >= EARLY:
        notes.append(
            f"epoch {best:g} is the best of {summary['epochs']:g} already. An outlier among the "
            "validation rows or a large learning rate does that: look at curves.png, and try another seed, a lower "
            "optimizer.lr, or yardstick=METRIC"
        )
    after = end_alone(parts.cfg, folder) if alone else []
    table += [textwrap.fill(f"note  {note}", 80, subsequent_indent=" " * 6, **WHOLE) for note in notes if note]
    return "\n".join([head, *table, *after, f"\npictures in {folder / 'pictures'}", str(folder)])


def find_nothing_learnt(summary: Mapping[str, float], parts: "Parts") -> str:
    """Say so if a run's test rows are predicted no better than without looking at their inputs.

    That is: by less than a hundredth of what is missing to the best value, 0 of an error and 1 of all else.
    """
    task, data = parts.task, parts.data
    scores = task.constant_scores(data)
    if scores is None:
        return ""
    metric, y, weight = task.yardstick, torch.from_numpy(data.targets("test")), data.weights("test")
    given = () if weight is None else (torch.from_numpy(weight),)
    value, constant = summary[f"test/{metric}"], float(task.metrics(scores.expand(len(y), -1), y, *given)[metric])
    gain, most = (value - constant, 1 - constant) if task.mode == "max" else (constant - value, constant)
    if not gain < 0.01 * most or not varies(data.x):  # nor if a metric is NaN
        return ""
    alike = f"{task.constant} gives {constant:.4g}"
    return f"it learnt nothing: {metric} is {value:.4g}, and {alike}; try another optimizer.lr"


def varies(x: Any) -> bool:
    """Tell whether rows differ in their inputs, so that there is something to learn from them."""
    return not isinstance(x, np.ndarray) or bool((x != x[:1]).any())


def end_alone(cfg: DictConfig, folder: Path) -> list[str]:
    """Write whether what the run's experiment expects came out, and how to ask which loss is better."""
    from losslab import multirun

    found, name = [], str(cfg.run.choices.get("experiment"))
    runs = multirun.read_runs([folder])
    if verdict := report(name, cfg.run.catalogue, runs, cfg.run.overrides):
        found.append(f"\n{verdict}")
    if typed := multirun.write_race(cfg):
        found.append(f"\nis another loss better, and is the difference real? type\n  {typed}")
    return found


def stopped(folder: Path, by: signal.Signals | None) -> str:
    """Say how to resume a run that was stopped."""
    last = folder / "last.ckpt"
    if by not in (None, signal.SIGINT):
        kept = "a checkpoint is kept" if last.is_file() else "there is no checkpoint yet"
        return f"\nstopped by {by.name}; {kept}: the same command goes on\n{folder}"
    if last.is_file():
        return (
            f"\nstopped; the last good checkpoint is kept: go on with `{command()} {to_paste('ckpt', last)}`\n{folder}"
        )
    return f"\nstopped before the first epoch was over: there is no checkpoint yet\n{folder}"


def command() -> str:
    """Return the command as it was typed, without the settings that the run's record holds."""
    program = Path(sys.argv[0])
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is not None and spec.name.startswith("losslab"):
        words = ["python", "-m", spec.name.removesuffix(".__main__")]
    else:
        words = ["python", pasted_path(program)] if program.suffix == ".py" else [program.name]
    rest, folders = take_folders(sys.argv[1:])
    again = [*(text for text in rest if text.startswith("allow=")), *find_unrecordable(rest)]  # count where typed
    return shlex.join([*words, *(word for folder in folders for word in ("--config-dir", folder)), *again])


def pasted_path(path: Path) -> str:
    """Put `./` before a path that begins like an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)
