"""A process that imports torch once and does one job after the other, until its driver lets go of it.

The driver writes the sweep to its standard input, a line for each part of it, and keeps that open: when it closes,
because the sweep is over or stopped or its driver was killed, the worker stops as if by Ctrl-C, and its job can be gone
on with from its last checkpoint. What is no job's fault, such as a full disk, ends the worker and is no job's result.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import errno
import json
import os
import statistics
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from math import isfinite
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

from losslab.config import check
from losslab.errors import Pruned, Refused
from losslab.stacking.group import group_key
from losslab.sweep.faults import exit_code, imported, no_result, out_of_memory
from losslab.sweep.ledger import Claim, Ledger, Record, read_record
from losslab.sweep.plan import QUIET, Job, Plan, Setting, typed_as
from losslab.sweep.stopping import Stop
from losslab.training import preemption

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from omegaconf import DictConfig
    from optuna.trial import Trial

# of the runs that were trained with others, by job and seed: the folder and the summary, or why there is none
Ends = dict[tuple[str, int], tuple[Path, dict[str, float]] | BaseException]
Held = tuple[Job, Claim]


stop = Stop()


def composed(folder: Path, plan: Plan, key: str, typed: Setting) -> "tuple[DictConfig, Path]":
    """The configuration of a run, with the checkpoint that it goes on from, if there is one; and its own folder.

    Args:
        folder: the sweep's.
        plan: the sweep.
        key: of the job; part of the run's folder, so that whoever takes the job over finds it.
        typed: all that is typed.

    Raises:
        Refused: where it does not fit.
        Pruned: where the run was stopped by hyperband before.
    """
    from losslab.record.folder import run_name

    overrides = [*typed_as({**QUIET, **typed}), f"output_dir='{folder / 'runs'}'"]
    cfg = check.configure(overrides)
    run = folder / "runs" / f"{run_name(cfg)}-{key[:6]}"
    known = status_of(run)
    if known["status"] is None:  # the machine stopped before the disk had it
        (run / "status.json").unlink(missing_ok=True)
    if known["status"] == "pruned":
        raise Pruned(known["reason"])
    last = run / "last.ckpt"
    if known["status"] in ("running", "interrupted", "preempted") and last.is_file():
        cfg = check.configure([*overrides, f"ckpt='{last}'"])
    return cfg, run


def status_of(run: Path) -> dict[str, Any]:
    """What is known of a run in this folder; its status is `None` where it has not begun."""
    known: dict[str, Any] = {"status": None}
    return known | read_record(file) if (file := run / "status.json").is_file() else known


def over(run: Path) -> dict[str, float] | None:
    """The summary of a run that has finished."""
    if status_of(run)["status"] != "finished":
        return None
    return read_record(run / "summary.json") or None


def reached(plan: Plan, run: Path, summary: Mapping[str, float]) -> Record:
    """What a run that has finished came to.

    Raises:
        Refused: where that is no number.
    """
    value, known = summary[f"val/{plan.yardstick}_best"], status_of(run)
    if not isfinite(value):
        raise Refused(f"val/{plan.yardstick} was {value} at best")
    return {"value": value, "seconds": known["seconds"], "stacked": known["facts"].get("stacked", 1)}


def one(folder: Path, plan: Plan, key: str, typed: Setting, callbacks: Sequence["pl.Callback"] = ()) -> Record:
    """One run in its own folder: begun, gone on with, or found to be over.

    Args:
        folder: the sweep's.
        plan: the sweep.
        key: of the job.
        typed: all that is typed.
        callbacks: told of each epoch.

    Raises:
        Refused: where the run cannot be done.
    """
    from losslab.train import train

    cfg, run = composed(folder, plan, key, typed)
    return reached(plan, run, over(run) or train(cfg, *callbacks, folder=run))


def setting_of(folder: Path, ledger: Ledger, plan: Plan, job: Job) -> "tuple[Setting, Trial | None]":
    """The setting of a job, and the trial of Optuna's that the rest of it is drawn by."""
    if not job.draw:
        return job.setting, None
    from losslab.sweep.search import draw

    trial = draw(folder, ledger, plan, job)
    return {**job.setting, **trial.params}, trial


def as_one(folder: Path, ledger: Ledger, plan: Plan, jobs: Sequence[Job], stack: int) -> Ends:
    """Train what can be trained together of the runs of these jobs.

    Args:
        folder: the sweep's.
        ledger: of its jobs.
        plan: the sweep.
        jobs: that this process has claimed.
        stack: at most how many runs are trained as one.

    Returns:
        What became of those; whatever is not among them is left to `attempt`.
    """
    from losslab.stacking import group
    from losslab.stacking.train import train_together

    runs: list[group.Planned] = []
    whose: list[tuple[str, int]] = []
    for job in jobs:
        setting, _ = setting_of(folder, ledger, plan, job)
        for seed in job.seeds:
            with suppress(Refused, Pruned):  # as `attempt` will find
                cfg, run = composed(folder, plan, job.key, {**setting, "seed": seed})
                if over(run) is None:
                    runs.append(group.plan_run(len(runs), list(cfg.run.overrides), cfg, run))
                    whose.append((job.key, seed))
    ends: Ends = {}
    for some in group.split_stacks(runs, stack):
        for planned, outcome in zip(some, train_together(some) if len(some) > 1 else [], strict=False):
            ends[whose[planned.number]] = outcome if isinstance(outcome, BaseException) else (outcome.folder, outcome)
    return ends


def attempt(folder: Path, ledger: Ledger, plan: Plan, job: Job, ends: Ends | None = None) -> Record:
    """The runs of a job, one for each seed, and what became of them; a setting that is stopped is not run again.

    Args:
        folder: the sweep's.
        ledger: of its jobs.
        plan: the sweep.
        job: that this process has claimed.
        ends: of the runs that were trained with others.
    """
    setting, trial = setting_of(folder, ledger, plan, job)
    callbacks: list[pl.Callback] = []
    record: Record = {"state": "done", "reason": None, "pruned": None, "value": None, "setting": setting, "runs": []}
    for seed in job.seeds:
        typed = {**setting, "seed": seed}
        run: Record = {"overrides": typed}
        record["runs"].append(run)
        try:
            if trial is not None and plan.early and seed == job.seeds[0]:
                from losslab.sweep.search import Reports, undecided

                callbacks = [Reports(trial, f"val/{plan.yardstick}", plan.mode)] if undecided(trial) else []
            end = (ends or {}).get((job.key, seed))
            if isinstance(end, BaseException):
                raise end
            run |= reached(plan, *end) if end else one(folder, plan, job.key, typed, callbacks)
            callbacks = []
        except Pruned as error:
            record["pruned"] = str(error)
            break
        except (Exception, SystemExit) as error:  # a bug, in losslab or in the user's own option: the others go on
            stopped = stop.by is not None or (isinstance(error, SystemExit) and preemption.notice.by is not None)
            if stopped or no_result(error, folder):
                raise
            reason = str(error)
            if not isinstance(error, Refused):
                traceback.print_exc()
                reason = f"{type(error).__name__}: {' '.join(reason.split())}"
            record |= {"state": "failed", "reason": reason}
            break
    else:
        record["value"] = statistics.fmean(run["value"] for run in record["runs"])
    if trial is not None:
        from losslab.sweep.search import tell

        tell(trial, record["value"], failed=record["state"] == "failed")
    return record


@contextmanager
def kept(claims: Sequence[Claim]) -> Iterator[None]:
    """Keep claims fresh; a process that lost one nevertheless, such as one that was asleep, ends at once."""
    finished = threading.Event()

    def beat() -> None:
        while not finished.wait(claims[0].ledger.lease / 6):
            for claim in claims:
                with suppress(OSError):  # the disk is away, and may come back
                    if not claim.touch():
                        print(f"job {claim.key} was taken over by another process", file=sys.stderr, flush=True)
                        os._exit(1)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        finished.set()
        thread.join()


def company(ledger: Ledger, job: Job, later: Iterable[Job], like: Mapping[str, str], stack: int) -> list[Held]:
    """Claim further jobs that may train with this one, as far as what is typed for them tells.

    Args:
        ledger: of the sweep's jobs.
        job: that this process has claimed.
        later: those that come after it.
        like: for the key of each job a text, the same for those that may train together.
        stack: at most how many runs are trained as one.
    """
    runs, found = len(job.seeds), []
    for other in later:
        if runs + len(other.seeds) > stack:
            break
        if like[other.key] == like[job.key] and not ledger.crashes(other.key):
            claim = ledger.claim(other.key)
            if claim is not None:
                runs += len(other.seeds)
                found.append((other, claim))
    return found


def work(folder: Path, plan: Plan, jobs: Sequence[Job], stack: int = 1, ledger: Ledger | None = None) -> int:
    """Do each job that is free, in their order; those that processes died of come last.

    Args:
        folder: the sweep's.
        plan: the sweep.
        jobs: all that are to be done.
        stack: at most how many runs are trained as one.
        ledger: of the jobs.

    Returns:
        How many jobs were done.
    """
    ledger, count = ledger or Ledger(folder / "jobs"), 0
    like = {job.key: group_key(job.setting) for job in jobs} if stack > 1 else {}
    by_key = {job.key: job for job in jobs}
    jobs = [by_key[key] for key in ledger.crashed_last(list(by_key))]
    for number, job in enumerate(jobs):
        if stop.by is not None:
            break
        claim = ledger.claim(job.key)
        if claim is None:
            continue
        turn: list[Held] = [(job, claim)]
        ends: Ends = {}
        together = stack > 1 and not ledger.crashes(job.key)  # what has killed a process takes no others with it again
        if together and plan.method != "bayes":  # which draws by the trials that are over
            turn += company(ledger, job, jobs[number + 1 :], like, stack)
        try:
            with kept([claim for _, claim in turn]):
                if together:
                    ends = as_one(folder, ledger, plan, [job for job, _ in turn], stack)
                for job, claim in turn:
                    claim.finish(attempt(folder, ledger, plan, job, ends))
        except BaseException as error:  # stopped: let another, or a later start, go on with it
            with suppress(OSError):  # of a folder that is gone
                for _, claim in turn:
                    if out_of_memory(error):
                        claim.crash()
                    claim.release()
            ledger.close()
            raise
        count += len(turn)
    return count


def prepare(plan: Plan, stack: int) -> None:
    """Import what runs need, before a job is claimed: what goes wrong with that is no job's fault."""
    for name in ("page.pictures", "record.record", "train", "training.checkpoints", "training.module"):
        import_module(f"losslab.{name}")
    if stack > 1:
        import_module("losslab.stacking.train")
    if plan.trials:
        import_module("losslab.sweep.search")
    imported.update(name.partition(".")[0] for name in sys.modules)


def main() -> None:
    """The command of a worker, `python -P -m losslab.sweep.worker`, begun by a driver."""
    stop.listen()
    parts: list[tuple[Path, Plan, list[Job], int, Ledger]] = []
    try:
        while stop.by is None:
            try:
                told: dict[str, Any] = json.loads(stop.lines.get(timeout=0 if parts else 1))
            except Empty:
                pass
            else:
                folder, plan, stack = Path(told["folder"]), Plan(**told["plan"]), told["stack"]
                prepare(plan, stack)
                stop.importing = False
                if not (folder / "sweep.json").is_file():  # which the driver wrote: it is gone
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
                parts.append((folder, plan, [Job(**job) for job in told["jobs"]], stack, Ledger(folder / "jobs")))
            if parts and not sum(work(*part) for part in parts):
                time.sleep(0.2)
        code = 128 + stop.by
    except SystemExit as ended:  # of a run that was stopped
        code = ended.code if isinstance(ended.code, int) else 1
    except Exception as error:
        code = exit_code(error)
        with suppress(OSError):  # the log may lie on a full disk
            traceback.print_exc()
    for _, _, _, _, ledger in parts:
        ledger.close()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)  # all is on record, and threads of others do not matter


if __name__ == "__main__":
    main()
