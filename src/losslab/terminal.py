"""What a run prints while it trains and when it ends."""

import json
import logging
import shlex
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
import yaml
from omegaconf import DictConfig
from pytorch_lightning.callbacks import ProgressBar
from pytorch_lightning.loggers import Logger, WandbLogger

from losslab.config.arguments import take_folders, to_paste
from losslab.config.flat import excluded_from_name, flatten
from losslab.config.recorded import find_unrecordable
from losslab.data.notes import count
from losslab.data.schema import write_columns
from losslab.progress import progress_bar
from losslab.record.wandb import links, sync_command
from losslab.spreadsheet import text_table

if TYPE_CHECKING:
    from losslab.build import Parts
    from losslab.record.record import Record


EARLY = 5  # epochs: a best epoch of 0 or 1 out of so many is remarked upon


class Progress(ProgressBar):
    """One progress bar for the whole run, drawn at most ten times a second, and only on a terminal.

    Lightning's own bar starts anew each epoch, which costs more than the epoch where epochs are short.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.bar: Any = None

    def disable(self) -> None:
        """Lightning calls this on all processes but the first."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.bar = progress_bar(total=self.steps, initial=trainer.global_step, unit="step")

    def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
        self.bar.update(trainer.global_step - self.bar.n)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.bar.disable:
            numbers = {name: f"{float(value):.4g}" for name, value in trainer.callback_metrics.items()}
            self.bar.set_postfix({"epoch": trainer.current_epoch + 1, **numbers}, refresh=False)

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
        "The number of training batches",
        "The `srun` command",
        ".*LeafSpec",
        "It is recommended to use .*sync_dist",  # what is logged is the same on all processes
    ):
        warnings.filterwarnings("ignore", message)


def opening(parts: "Parts", record: "Record", mirrors: list[Logger], detour: str | None = None) -> str:
    """Describe a run that starts: its data, model, loss and optimizer, where it logs, and why its steps are slow."""
    cfg, data, facts, choice = parts.cfg, parts.data, parts.facts, parts.cfg.run.choices
    rows = {part: f"{len(numbers):,} {part}" for part, numbers in data.split.items()}
    lines = [
        ("task", f"{choice.task}, evaluated by {cfg.task.yardstick}"),
        ("data", f"{choice.data}: {', '.join(rows.values())} rows; {many(data.outputs, cfg.task.truth)}"),
        ("model", f"{choice.model}, {facts['parameters']:,} parameters; {count(facts['threads'], 'CPU thread')}"),
        ("training", f"loss {choice.loss}, optimizer {choice.optimizer}, lr {cfg.optimizer.get('lr')}, "
                     f"{choice.scheduler} schedule, batch {cfg.data.batch_size}, seed {cfg.seed}"),
        *([("columns", write_columns(data.columns).replace("\n", f"\n{' ' * 9}"))] if data.columns else []),
        *(("note", note) for note in (*data.notes, *cfg.run.get("notes", []))),
        *([("note", f"steps go through Lightning, which is slower for small models: {detour}")] if detour else []),
        *(("W&B", where(logger)) for logger in mirrors if isinstance(logger, WandbLogger)),
        *(("sweep", url) for name, url in links(mirrors).items() if name == "sweep"),
        *([("resumed", f"from {record.ckpt}")] if record.ckpt else []),
        ("record", str(record.folder)),
    ]  # fmt: skip
    return "\n".join(f"{name:<9}{text}" for name, text in lines)


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
        return f"offline; `{sync_command(run)}` uploads it"
    return "disabled"


def closing(summary: Mapping[str, float], folder: Path) -> str:
    """List the test metrics, where the pictures are, and on the last line the run's folder."""
    tests = {key.removeprefix("test/"): value for key, value in summary.items() if key.startswith("test/")}
    width = max(map(len, tests))
    table = [f"  {name:<{width}}  {value:>12.6g}" for name, value in tests.items()]
    head = (
        f"\ntest metrics of epoch {summary['best_epoch']:g}, the best of {summary['epochs']:g} on the validation rows"
    )
    if summary["best_epoch"] <= 1 and summary["epochs"] >= EARLY:
        table.append(
            f"note  epoch {summary['best_epoch']:g} is the best of {summary['epochs']:g} already. An outlier among the "
            "validation rows or a large learning rate does that: look at curves.png, and try another seed, a lower "
            "optimizer.lr, or yardstick=METRIC"
        )
    return "\n".join([head, *table, f"\npictures in {folder / 'pictures'}", str(folder)])


def tabulate_runs(folders: Sequence[Path]) -> str:
    """Tabulate runs, a line each: the settings in which they differ, their test metrics and their training loss.

    `train/loss` is that of the last epoch, followed by its standard deviation over the last tenth of the epochs.
    """
    import pandas as pd

    configs = [yaml.safe_load((folder / "config.yaml").read_text()) for folder in folders]
    summaries = [json.loads((folder / "summary.json").read_text()) for folder in folders]
    groups = {key.split(".")[0] for config in configs for key in config if "." in key}
    keys = sorted({key for config in configs for key in config if not excluded_from_name(key)})
    differ = [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]
    chosen = [key for key in differ if key in groups]  # a setting of another option chosen says nothing more
    differ = [key for key in differ if key in chosen or key.split(".")[0] not in chosen]
    kept = {str([config.get(key) for config in configs]): key for key in sorted(differ, key=len, reverse=True)}
    differ = [key for key in differ if key in kept.values()]  # data.seed follows from seed
    logged = {key: None for summary in summaries for key in summary}
    metrics = [key for key in logged if key.startswith("test/") and "memory" not in key]
    texts = {key: [str(config.get(key)) for config in configs] for key in differ}
    for key in (*metrics, "train/loss", "train/loss_spread"):
        name = "its spread" if key == "train/loss_spread" else key
        texts[name] = [f"{summary[key]:.4g}" if summary.get(key) is not None else "" for summary in summaries]
    return f"\n{text_table(pd.DataFrame(texts))}"


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
