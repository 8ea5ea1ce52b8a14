"""What a sweep would do: its cells, its runs, and the time that they take, as far as runs on record tell it."""

import shlex
from collections.abc import Iterator, Mapping
from heapq import nlargest
from pathlib import Path
from statistics import fmean
from typing import Any

from losslab.config import check, compose
from losslab.config.flat import flatten
from losslab.data import notes
from losslab.files import Unreadable, read_json, read_yaml
from losslab.sweep.ledger import Ledger
from losslab.sweep.plan import Plan, to_overrides

LATEST = 200  # runs that are looked at, the latest
SHOWN = 30  # cells that are listed
SAME = ("data", "model", "data.batch_size", "trainer.accelerator")  # what runs of about the same time have in common

Times = dict[tuple[Any, ...], list[float]]


def read_times(output: Path, folder: Path) -> Times:
    """Read the seconds an epoch that finished runs took, by `time_keys`: those below OUTPUT, races and sweeps too."""
    inner = [each for kind in ("sweeps", "races") for each in output.glob(f"{kind}/*/runs/*/status.json")]
    places = {*output.glob("*/status.json"), *inner, *(folder / "runs").glob("*/status.json")}
    times: Times = {}
    for status in nlargest(LATEST, places, key=lambda file: file.stat().st_mtime):
        try:
            record, config = read_json(status), read_yaml(status.parent / "config.yaml")
            epochs = len((status.parent / "history.csv").read_text(encoding="utf-8").splitlines()) - 1
        except (Unreadable, OSError, ValueError):
            continue
        if record.get("status") == "finished" and epochs > 0:
            for key in time_keys(config):
                times.setdefault(key, []).append(record["seconds"] / epochs)
    return times


def time_keys(config: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield what a run's time is looked up by: with its loss and optimizer, then whatever these are."""
    same = tuple(str(config.get(key)) for key in SAME)
    yield (*same, str(config.get("loss")), str(config.get("optimizer")))
    yield same


def describe(plan: Plan, output: Path, folder: Path, count: int) -> str:
    """Say what a sweep would run, and how long it would take with `count` runs at a time."""
    jobs = plan.jobs()
    over = Ledger(folder / "jobs").records([job.key for job in jobs]) if (folder / "jobs").is_dir() else {}
    times, seconds, unknown = read_times(output, folder), 0.0, 0
    with compose.hydra_ready():
        for cell in plan.cells:
            cfg = check.configure(to_overrides({"logger": "false", "output_dir": output, **plan.first(cell)}))
            config = {**flatten(cfg), **cfg.run.choices}
            known = next((times[key] for key in time_keys(config) if key in times), [])
            runs = sum(len(job.repeats) for job in jobs if job.cell == cell and job.key not in over)
            seconds += fmean(known or [0]) * plan.epochs * runs
            unknown += 0 if known else runs
    runs = sum(len(job.repeats) for job in jobs)
    settings = len(jobs) // len(plan.cells) // (1 if plan.trials else len(plan.rounds))
    lines = [
        f"sweep     {plan.name}: {notes.count(len(plan.cells), 'cell')} x {notes.count(settings, 'setting')} x "
        f"{plan.count_repeats()} = {notes.count(runs, 'run')} of {notes.count(plan.epochs, 'epoch')}",
        *(f"cell      {' '.join(to_overrides(cell)) or 'the only one'}" for cell in plan.cells[:SHOWN]),
        *([f"          and {len(plan.cells) - SHOWN} others"] if len(plan.cells) > SHOWN else []),
        f"folder    {folder}, where {len(over)} of {notes.count(len(jobs), 'job')} are over",
        f"time      {tell_time(seconds, unknown, sum(len(job.repeats) for job in jobs if job.key not in over), count)}",
    ]
    if unknown:
        first = next(job for job in jobs if job.key not in over)
        words = shlex.join(to_overrides(first.setting | first.repeats[0]))
        lines.append(f"          no such run is on record in {output}: train one, losslab {words}")
    return "\n".join(lines)


def tell_time(seconds: float, unknown: int, runs: int, count: int) -> str:
    """Say how long runs take.

    >>> tell_time(30, 0, 1, 0)
    'about 30 seconds, 1 at a time'
    >>> tell_time(4000, 0, 10, 2), tell_time(90, 4, 10, 1), tell_time(0, 10, 10, 1)
    ('about 33 minutes, 2 at a time', 'about 2 minutes for 6 runs, 1 at a time; not known for the other 4', 'not known')
    """
    if unknown == runs:
        return "not known" if runs else "nothing is left to run"
    count = max(1, count)  # n=0 trains the runs one by one, in the sweep's own process
    minutes = seconds / count / 60
    told = f"{minutes:.0f} minutes" if 1.5 <= minutes < 120 else f"{minutes / 60:.1f} hours" if minutes >= 120 else ""
    told = told or (notes.count(round(minutes * 60), "second") if minutes < 1 else "a minute")
    some = f" for {notes.count(runs - unknown, 'run')}" if unknown else ""
    rest = f"; not known for the other {unknown}" if unknown else ""
    return f"about {told}{some}, {count} at a time{rest}"
