"""A process that imports torch once and does one job after the other, until its driver lets go of it.

The driver writes the sweep to its standard input, a line for each part of it, and keeps that open: when it closes,
because the sweep is over or stopped or its driver was killed, the worker stops as if by Ctrl-C, and its job can be gone
on with from its last checkpoint.
"""

import json
import os
import signal
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from losslab import door
from losslab.errors import Pruned, Refused
from losslab.sweep.ledger import Claim, Ledger, Record
from losslab.sweep.plan import QUIET, Job, Plan, Setting, typed_as

if TYPE_CHECKING:
    import pytorch_lightning as pl


def one(folder: Path, plan: Plan, key: str, typed: Setting, callbacks: Sequence["pl.Callback"] = ()) -> Record:
    """One run in its own folder: begun, gone on with, or found to be over.

    Args:
        folder: the sweep's.
        plan: the sweep.
        key: of the job; part of the run's folder, so that whoever takes the job over finds it.
        typed: all that is typed.
        callbacks: told of each epoch.

    Raises:
        Refused: where the run cannot be done.
    """
    from losslab.tracking import run_name
    from losslab.train import train

    overrides = [*typed_as({**QUIET, **typed}), f"output_dir='{folder / 'runs'}'"]
    cfg = door.configure(overrides)
    run = folder / "runs" / f"{run_name(cfg)}-{key[:6]}"
    status = json.loads(file.read_text())["status"] if (file := run / "status.json").is_file() else None
    if status == "pruned":
        raise Pruned(json.loads(file.read_text())["reason"])
    if status == "finished":
        summary = json.loads((run / "summary.json").read_text())
    else:
        last = run / "last.ckpt"
        if status in ("running", "interrupted", "preempted") and last.is_file():
            cfg = door.configure([*overrides, f"ckpt='{last}'"])
        cfg.run.dir = str(run)
        summary = train(cfg, *callbacks)
    value = summary[f"val/{plan.yardstick}_best"]
    if not isfinite(value):
        raise Refused(f"val/{plan.yardstick} was {value} at best")
    return {"value": value, "seconds": json.loads(file.read_text())["seconds"]}


def attempt(folder: Path, ledger: Ledger, plan: Plan, job: Job) -> Record:
    """The runs of a job, one for each seed, and what became of them; a setting that is stopped is not run again."""
    setting, callbacks, trial = job.setting, [], None
    if job.draw:
        from losslab.sweep.search import Reports, draw, tell, undecided

        trial = draw(folder, ledger, plan, job)
        setting = {**setting, **trial.params}
    record: Record = {"state": "done", "reason": None, "pruned": None, "value": None, "setting": setting, "runs": []}
    for seed in job.seeds:
        typed = {**setting, "seed": seed}
        run: Record = {"overrides": typed}
        record["runs"].append(run)
        try:
            if trial is not None and plan.early and seed == job.seeds[0] and undecided(trial):
                callbacks = [Reports(trial, f"val/{plan.yardstick}", plan.mode)]
            run |= one(folder, plan, job.key, typed, callbacks)
            callbacks = []
        except Pruned as reason:
            record["pruned"] = str(reason)
            break
        except Refused as error:
            record |= {"state": "failed", "reason": str(error)}
            break
        except Exception as error:  # a bug, in losslab or in the user's own option: the other jobs go on
            traceback.print_exc()
            record |= {"state": "failed", "reason": f"{type(error).__name__}: {' '.join(str(error).split())}"}
            break
    else:
        record["value"] = statistics.fmean(run["value"] for run in record["runs"])
    if trial is not None:
        tell(trial, record["value"], failed=record["state"] == "failed")
    return record


@contextmanager
def kept(claim: Claim) -> Iterator[None]:
    """Keep a claim fresh; a process that lost it nevertheless, such as one that was asleep, ends at once."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(claim.ledger.lease / 6):
            if not claim.touch():
                print(f"job {claim.key} was taken over by another process", file=sys.stderr, flush=True)
                os._exit(1)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def work(folder: Path, plan: Plan, jobs: Sequence[Job]) -> int:
    """Do each job that is free, in their order.

    Returns:
        How many were.
    """
    ledger, count = Ledger(folder / "jobs"), 0
    for job in jobs:
        claim = ledger.claim(job.key)
        if claim is None:
            continue
        count += 1
        try:
            with kept(claim):
                record = attempt(folder, ledger, plan, job)
            claim.finish(record)
        except BaseException:  # stopped: let another, or a later start, go on with it
            claim.release()
            raise
    return count


def main() -> None:
    """The command of a worker: `python -m losslab.sweep.worker`, begun by a driver."""
    lines: SimpleQueue[str] = SimpleQueue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os.kill(os.getpid(), signal.SIGINT)

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are begun without it
    threading.Thread(target=listen, daemon=True).start()
    sys.path.append("")  # the user's own options may name modules in the folder where the command is typed
    parts: list[tuple[Path, Plan, list[Job]]] = []
    try:
        while True:
            try:
                told: dict[str, Any] = json.loads(lines.get(block=not parts))
                parts.append((Path(told["folder"]), Plan(**told["plan"]), [Job(**job) for job in told["jobs"]]))
            except Empty:
                pass
            if not sum(work(*part) for part in parts):
                time.sleep(0.2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
