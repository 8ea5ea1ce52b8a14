"""A thousand runs in one process, and runs that are killed at any moment; scenarios of faults.py."""

import json
import os
import random
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from trials import sweep_file

BUSY = {  # everything that draws random numbers or keeps a state
    "trainer.max_epochs": 3,
    "optimizer": "adam",
    "model.dropout": 0.2,
    "callbacks.last.seconds": 0,
    "callbacks.last.within": 0,
    "+trainer.limit_train_batches": 1.0,
    "logger": False,
    "trainer.enable_progress_bar": False,
}
ALONE = {"scheduler": "one_cycle", "callbacks": "ema"}
TASKS: dict[str, dict[str, Any]] = {
    "regression": {"data": "diabetes", "model.hidden": [16]},
    "single_label": {"data": "digits", "model.hidden": [16], "data.batch_size": 128},
    "multi_label": {"data": "movies", "data.buckets": 256, "data.batch_size": 1024},
}
LOSSES = {"regression": ["mse", "mae"], "single_label": ["cross_entropy", "mse"], "multi_label": ["bce", "mse"]}
NOT_COMPARED = ("peak_memory", "examples_per_second", "seconds")


def resources() -> tuple[float, int, int]:
    """The memory of this process in MB, its open files and its threads."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return (
        pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
        len(list(Path("/proc/self/fd").iterdir())),
        threading.active_count(),
    )


def flat(folder: Path, _: random.Random, count: int = 1000) -> None:
    """So many runs, one after the other, in one process."""
    from losslab.sweep.plan import read
    from losslab.sweep.worker import work

    plan = read(str(sweep_file(folder, 4 * (count // 4), 1)), {})
    jobs, before = plan.jobs(), None
    step = max(1, count // 10)
    for done in range(0, len(jobs), step):
        work(folder / "sweep", plan, jobs[done : done + step])
        now = resources()
        print(f"{done + step:5} runs: {now[0]:.0f} MB, {now[1]} files, {now[2]} threads", flush=True)
        if before is None:
            before = now
    assert before is not None
    each = (now[0] - before[0]) / max(1, len(jobs) - step)
    print(f"since the first {step}: {each:+.3f} MB a run, {now[1] - before[1]:+} files, {now[2] - before[2]:+} threads")
    assert each < 0.5 or count < 500, "memory grows"
    assert now[1:] == before[1:], "files or threads are left"


def forked(does: Callable[[], object], folder: Path) -> int:
    """Do something in a process of its own; its number."""
    sys.stdout.flush()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* is multi-threaded", DeprecationWarning)  # since Python 3.12
        pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        os.setpgrp()
        out = os.open(folder / "said.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(out, 1)
        os.dup2(out, 2)
        does()
        code = 0
    finally:
        sys.stdout.flush()
        os._exit(code)


def outcome(run: Path) -> tuple[Any, ...]:
    """All that a run has left that must be the same whatever happened to it: numbers, history and weights."""
    import torch

    assert json.loads((run / "status.json").read_text())["status"] == "finished", run

    def same(numbers: dict[str, Any]) -> dict[str, str]:
        return {key: str(n) for key, n in numbers.items() if not any(word in key for word in NOT_COMPARED)}

    head, *lines = [line.split(",") for line in (run / "history.csv").read_text().splitlines()]
    history = [same(dict(zip(head, line, strict=True))) for line in lines]
    weights = {}
    for name in ("best", "last"):
        state = torch.load(run / f"{name}.ckpt", weights_only=True)["state_dict"]
        weights[name] = {key: (value.dtype, value.shape, value.numpy().tobytes()) for key, value in state.items()}
    return run.name, same(json.loads((run / "summary.json").read_text())), history, weights


def over(folder: Path) -> int:
    """How many runs below a folder have finished."""
    return sum(json.loads(file.read_text())["status"] == "finished" for file in folder.rglob("status.json"))


def killed(does: Callable[[Path], object], folder: Path, chance: random.Random, count: int) -> tuple[int, int, int]:
    """Kill what is done at random moments, go on with it, and compare what it leaves with what it leaves undisturbed.

    Returns:
        How many kills, how many ends were compared, and how many of the runs were not the same bit for bit.
    """
    whole = folder / "whole"
    whole.mkdir(parents=True)
    began = time.monotonic()
    assert os.waitpid(forked(lambda: does(whole), whole), 0)[1] == 0, (whole / "said.txt").read_text()
    takes, number, ends, others = time.monotonic() - began, 0, 0, 0
    kills = 0
    peace = [outcome(path.parent) for path in sorted(whole.rglob("status.json"))]
    war = folder / "0"
    while kills < count or war.exists():
        war.mkdir(exist_ok=True)
        pid = forked(partial(does, war), war)
        deadline = time.monotonic() + chance.uniform(0, takes) if kills < count else float("inf")
        while not (gone := os.waitpid(pid, os.WNOHANG))[0] and time.monotonic() < deadline:
            time.sleep(0.002)
        if not gone[0]:
            kills += 1
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            with suppress(ProcessLookupError):  # what it had just started may hold its locks for a moment
                while time.monotonic() < deadline + 10:
                    os.killpg(pid, 0)
                    time.sleep(0.01)
            if over(war) < len(peace):
                continue
        else:
            assert gone[1] == 0, (war / "said.txt").read_text()
        found = [outcome(path.parent) for path in sorted(war.rglob("status.json"))]
        assert len(found) == len(peace)
        ends += 1
        others += sum(one != other for one, other in zip(found, peace, strict=True))
        number += 1
        war.rename(folder / f"over{number}")
        war = folder / f"{number}"
    return kills, ends, others


def runs_of(task: str) -> dict[str, Callable[[Path], object]]:
    """What leaves one run of a task in a folder, and what leaves four that are trained as one."""
    from losslab.config.check import configure
    from losslab.sweep.plan import Plan, to_overrides
    from losslab.sweep.worker import work
    from losslab.train import train

    settings = {"task": task, **TASKS[task], **BUSY}
    typed = to_overrides(settings | ALONE)
    primary = configure(typed).task
    primary_metric = {"metric": str(primary.yardstick), "mode": primary.mode}
    plan = Plan("stack", "grid", settings, {"loss": LOSSES[task]}, {}, {"seed": [0, 1]}, **primary_metric)
    return {
        "alone": lambda out: train(configure([*typed, f"output_dir={out}"])),
        "stacked": lambda out: work(out, plan, plan.jobs(), 4),
    }


def resume(folder: Path, chance: random.Random, count: int = 50) -> None:
    """kill -9 of runs at random moments, epochs and batches alike: of each task, alone and stacked."""
    for name in (
        "losslab.stacking.train",
        "losslab.page.pictures",
        "losslab.data.tables",
        "losslab.models",
        "losslab.optim.optimizers",
    ):
        import_module(name)
    import torch

    torch.set_num_threads(1)  # threads do not live on in a fork
    wrong = 0
    for task in TASKS:
        for how, does in runs_of(task).items():
            began = time.monotonic()
            kills, ends, others = killed(does, folder / f"{task}-{how}", chance, count)
            wrong += others
            runs = ends * (1 if how == "alone" else 4)
            print(
                f"{task}, {how}: {kills} kills, {ends} ends; {runs - others} of {runs} runs the same bit for bit "
                f"({time.monotonic() - began:.0f} s)",
                flush=True,
            )
    assert not wrong, f"{wrong} runs differ"
