"""The runs of `-m`: announced before the first, and side by side after the last, as means over seeds, best first."""

import math
import shlex
import shutil
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from omegaconf import DictConfig

from losslab.config import catalogue
from losslab.config.arguments import as_typed, key_of, quote_word, read_value, show_sum, take_folders, to_paste
from losslab.config.compose import names_of
from losslab.config.flat import excluded_from_name
from losslab.experiment import introduce, read_expectations, report
from losslab.files import read_json, read_yaml
from losslab.spreadsheet import align
from losslab.sweep.plan import REPEATS

WIDTH = 80  # of a terminal that does not say how wide it is, and of a file
TRAINING = {"train/loss": "train/loss", "train/loss_spread": "spread over last epochs"}  # of the last epoch; a tenth
FEW = 30  # runs whose folders are typed one by one where their folder holds others
WHERE = ("output_dir", "allow", "data.cache", "data.cache_gb", "data.workers")  # these a race is told, too
Runs = list[tuple[dict[str, Any], dict[str, float]]]  # the recorded settings and the summary of each


def announce(jobs: Sequence[Sequence[str]]) -> str:
    """Write what these runs ask, if they are an experiment's, how many there are, and what they share."""
    asked = names_of("experiment", [text for job in jobs for text in job])
    shared = numeric([text for text in jobs[0] if all(text in job for job in jobs)])
    with_ = f", all with {' '.join(shared)}" if shared else ""
    runs = f"{len(jobs)} runs{with_}" if len(jobs) > 1 else "1 run"
    return "\n".join([*introduce(asked, folders_of_options()), runs])


def head(number: int, overrides: Sequence[str]) -> str:
    """Write what the run with this number, from 0, is one of."""
    return f"\nrun {number + 1}: {' '.join(numeric(overrides))}"


def conclude(folders: Sequence[Path]) -> str:
    """Write the runs side by side, whether their experiments came out as expected, and what to type next."""
    runs, options = read_runs(folders), folders_of_options()
    asked = sorted({str(config["experiment"]) for config, _ in runs if config.get("experiment")})
    expected = [each.metric for name in asked for each in read_expectations(name, options)]
    typed = [word for word in sys.argv[1:] if "=" in word and not word.startswith("-")]
    texts = [tabulate(runs, expected)] if len(runs) > 1 else []
    texts += [report(name, options, [run for run in runs if run[0].get("experiment") == name], typed) for name in asked]
    return "\n".join(f"\n{text}" for text in [*texts, write_compare(runs, folders)] if text)


def numeric(overrides: Sequence[str]) -> list[str]:
    """Leave out the overrides that change no number of a run."""
    return [show_sum(text) for text in overrides if not excluded_from_name(key_of(text))]


def folders_of_options() -> list[str]:
    """List the folders of options: the user's and losslab's own."""
    return [*take_folders(sys.argv[1:])[1], str(catalogue.CONF)]


def read_runs(folders: Sequence[Path]) -> Runs:
    """Read the settings and the summary of each run."""
    return [(read_yaml(folder / "config.yaml"), read_json(folder / "summary.json")) for folder in folders]


def differing(configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """List the settings in which runs differ, without those that follow from another one."""
    groups = {key.split(".")[0] for config in configs for key in config if "." in key}
    keys = sorted({key for config in configs for key in config if not excluded_from_name(key)})
    differ = [key for key in keys if len({str(config.get(key)) for config in configs}) > 1]
    chosen = [key for key in differ if key in groups]  # a setting of another option chosen says nothing more
    differ = [key for key in differ if key in chosen or key.split(".")[0] not in chosen]
    kept = {str([config.get(key) for config in configs]): key for key in sorted(differ, key=len, reverse=True)}
    return [key for key in differ if key in kept.values()]  # data.seed follows from seed


def tabulate(runs: Runs, first: Sequence[str] = (), width: int | None = None) -> str:
    """Tabulate runs, a line for those that differ in their repeats alone: means over these, best first.

    `±` is the standard deviation of the primary metric over the repeats. `train/loss` is that of the last epoch, and
    after it comes its standard deviation over the last tenth of the epochs. Columns that do not fit are left out, and
    named below; so are values of the loss where the losses differ, unless they are among the `first`.

    Args:
        first: metrics that are left out last.
        width: in letters; `None` for that of the terminal.
    """
    width = width or shutil.get_terminal_size((WIDTH, 24)).columns
    metrics = {str(config.get("task.yardstick")) for config, _ in runs}
    if len(metrics) > 1:
        each = [[run for run in runs if run[0].get("task.yardstick") == metric] for metric in sorted(metrics)]
        return "\n\n".join(tabulate(some, first, width) for some in each)
    differ = [key for key in differing([config for config, _ in runs]) if key not in REPEATS]
    cells: dict[str, Runs] = {}
    for run in runs:
        cells.setdefault(str([run[0].get(key) for key in differ]), []).append(run)
    primary = f"test/{metrics.pop()}"
    sign = -1 if runs[0][0].get("task.mode") == "max" else 1
    rows = sorted(cells.values(), key=lambda some: (math.isnan(mean(some, primary)), sign * mean(some, primary)))
    columns = {key: [as_typed(some[0][0].get(key)) for some in rows] for key in differ}
    if len(rows) < len(runs):
        columns["runs"] = [str(len(some)) for some in rows]
    columns[primary] = [write(mean(some, primary)) for some in rows]
    if len(rows) < len(runs):
        columns["\N{PLUS-MINUS SIGN}"] = [spread(some, primary) for some in rows]
    logged = {key: None for _, summary in runs for key in summary if key.startswith("test/") and "memory" not in key}
    others = {key: key for key in logged if key != primary} | TRAINING
    own = {"test/loss", *TRAINING} if "loss" in differ else set()  # each run's in a unit of its own
    ranked = sorted(others, key=lambda key: (key not in first, key not in TRAINING, key.startswith("test/loss")))
    texts = {key: [write(mean(some, key)) for some in rows] for key in others}
    kept: list[str] = []
    for key in (key for key in ranked if key in first or key not in own):
        shown = {others[other]: texts[other] for other in others if other in (*kept, key)}
        if max(map(len, align(columns | shown, 0).splitlines())) <= width:
            kept.append(key)
    left = [key for key in others if key not in kept]
    also = textwrap.fill(
        f"summary.json in each run's folder also holds {', '.join(left)}", width, subsequent_indent="  "
    )
    below = f"\n{also}" if left else ""
    return align(columns | {others[key]: texts[key] for key in others if key in kept}) + below


def mean(runs: Runs, metric: str) -> float:
    """Compute the mean of a metric over those runs that have it; NaN if none has."""
    found = [summary[metric] for _, summary in runs if summary.get(metric) is not None]
    return fmean(found) if found else math.nan


def spread(runs: Runs, metric: str) -> str:
    """Write the standard deviation of a metric over runs, if there are several."""
    found = [summary[metric] for _, summary in runs if summary.get(metric) is not None]
    return f"{stdev(found):.2g}" if len(found) > 1 else ""


def write(value: float) -> str:
    """Write a metric in four digits; nothing where it is missing."""
    return "" if math.isnan(value) else f"{value:.4g}"


def write_compare(runs: Runs, folders: Sequence[Path]) -> str:
    """Write how to ask whether the differences between these runs are real; nothing if they do not differ."""
    differ = [key for key in differing([config for config, _ in runs]) if key not in REPEATS]
    if not differ:
        return ""
    parent, cells = folders[0].parent, {str([config.get(key) for key in differ]) for config, _ in runs}
    repeated, mixed = len(runs) >= 2 * len(cells), holds_others(parent, folders)
    if repeated and (not mixed or len(folders) <= FEW):
        words = [str(folder) for folder in folders] if mixed else [str(parent)]
        return f"is the difference real? type\n  {shlex.join(['losslab', 'compare', *words])}"
    outside = parent.parents[1] if parent.name == "runs" else parent  # of a folder that a cluster's runs came home to
    own = name_folder(outside, runs, differ) if mixed else parent
    seeds = "seed=0,1,2,3,4" if {"-m", "--multirun"} & {*sys.argv} else "-m seed=0,1,2,3,4"  # not in an experiment
    then = f"then type\n  {shlex.join(['losslab', 'compare', str(own)])}"
    if not mixed:
        return f"is the difference real? A seed each cannot tell: add {seeds}, {then}"
    why = "These runs share their folder with others" if repeated else "A seed each cannot tell"
    added = " ".join([*([] if repeated else [seeds]), to_paste("output_dir", own)])
    return f"is the difference real? {why}. Add to the command\n  {added}\nand {then}"


def holds_others(parent: Path, folders: Sequence[Path]) -> bool:
    """Tell whether runs other than these are below a folder, where `losslab compare` would read them, too."""
    from losslab.compare.runs import find_records

    return any(Path(path) not in folders for path, _ in find_records(str(parent)))


def name_folder(parent: Path, runs: Runs, differ: Sequence[str]) -> Path:
    """Name a new folder for runs: after their experiment, or else after the settings in which they differ."""
    asked = {config.get("experiment") for config, _ in runs}
    name = str(asked.pop() or "-and-".join(differ)[:60]) if len(asked) == 1 else "experiments"
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(folder for each in names if not (folder := parent / each).exists())


def write_race(cfg: DictConfig) -> str:
    """Write the race that asks whether another loss is better than a run's; nothing if it cannot be typed so.

    It has the loss that was typed and up to two others, which the loss's file or the task's names as usual beside it.
    """
    losses, tasks = (catalogue.options(cfg.run.catalogue, group) for group in ("loss", "task"))
    own, task = str(cfg.run.choices.loss), tasks.get(cfg.run.choices.task, {}).get("task", {})
    others = [name for name in losses.get(own, {}).get("beside") or task.get("beside", []) if name != own][:2]
    keys = [(key_of(text), text) for text in cfg.run.overrides if key_of(text) not in (*REPEATS, "loss")]
    typed = [text for key, text in keys if key in WHERE or not excluded_from_name(key)]
    strange = [text for text in typed if not text[0].isalpha() or key_of(text).startswith(("loss.", "hydra"))]
    if own not in losses or not others or strange or "experiment" in cfg.run.choices:
        return ""
    where = [word for folder in take_folders(sys.argv[1:])[1] for word in ("--config-dir", folder)]
    return " ".join(map(quote_word, ["losslab", "race", f"loss={','.join([own, *others])}", *where, *typed]))


@contextmanager
def cleared(words: Sequence[str]) -> Iterator[None]:
    """Remove what Hydra writes before the first run of a multirun, if no run made a folder."""
    typed = {key_of(word): read_value(word) for word in words if key_of(word) in ("output_dir", "hydra.sweep.dir")}
    output = Path(typed.get("output_dir", "outputs"))
    folder, before = Path(typed.get("hydra.sweep.dir", output / "multirun")), {*output.glob("*")}
    try:
        yield
    finally:
        if before == {*output.glob("*")} - {folder} and [file.name for file in folder.glob("*")] == ["multirun.yaml"]:
            (folder / "multirun.yaml").unlink()
            with suppress(OSError):
                folder.rmdir()
                output.rmdir()  # if nothing else lies there
