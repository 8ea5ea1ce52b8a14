"""A worker of a sweep: a process that imports torch once and does one job after the other, until its driver ends it.

The driver writes lines to its standard input, each with more jobs, and keeps it open. When it closes, the sweep is over
or stopped, or the driver was killed: the worker stops as if by Ctrl-C, and its job can go on from its last checkpoint.
An error that is no job's fault, such as a full disk, ends the worker and is no job's result.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import errno
import json
import os
import statistics
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from importlib import import_module
from math import isfinite
from pathlib import Path
from queue import Empty
from typing import TYPE_CHECKING, Any

from losslab.compare.gathered import Gatherer
from losslab.config import check
from losslab.errors import Pruned, Refused
from losslab.machine import collect_seldom
from losslab.sweep.faults import exit_code, imported, no_result, out_of_memory
from losslab.sweep.ledger import Claim, Ledger, Record, read_record
from losslab.sweep.plan import QUIET, Job, Plan, Setting, to_overrides, unpack_jobs
from losslab.sweep.queue import Held, Queue
from losslab.sweep.stopping import Stop
from losslab.training import preemption

if TYPE_CHECKING:
    import pytorch_lightning as pl
    from omegaconf import DictConfig
    from optuna.trial import Trial

# For runs that were trained in a stack, by job and number of the repeat: the folder and the summary, or the error.
Ends = dict[tuple[str, int], tuple[Path, dict[str, float]] | BaseException]
PAUSE = 0.2  # seconds after which a worker without a job asks the queue again, which looks at the disk less often
SIGNALLED = 128  # the exit code of a run that a signal ended is this plus the signal's number

stop = Stop()
gatherer = Gatherer()


def compose_run(folder: Path, plan: Plan, key: str, typed: Setting) -> "tuple[DictConfig, Path]":
    """Compose the configuration of a run, with the checkpoint to go on from if there is one; return it and its folder.

    Args:
        key: of the job. It is part of the name of the run's folder, so that whoever takes the job over finds the run.

    Raises:
        Refused: where they do not fit.
        Pruned: where hyperband stopped the run before.
    """
    from losslab.record.folder import run_name

    overrides = [*to_overrides({**QUIET, **typed}), f"output_dir='{folder / 'runs'}'"]
    cfg = check.configure(overrides)
    run = folder / "runs" / f"{run_name(cfg)}-{key[:6]}"
    known = read_status(run)
    if known["status"] is None:  # the machine stopped before the disk had it
        (run / "status.json").unlink(missing_ok=True)
    if known["status"] == "pruned":
        raise Pruned(known["reason"])
    last = run / "last.ckpt"
    if known["status"] in ("running", "interrupted", "preempted") and last.is_file():
        cfg = check.configure([*overrides, f"ckpt='{last}'"])
    return cfg, run


def read_status(run: Path) -> dict[str, Any]:
    """Read the status of the run in this folder; it is `None` if the run has not begun."""
    known: dict[str, Any] = {"status": None}
    return known | read_record(file) if (file := run / "status.json").is_file() else known


def read_summary(run: Path) -> dict[str, float] | None:
    """Read the summary of a run; return `None` if it has not finished."""
    if read_status(run)["status"] != "finished":
        return None
    return read_record(run / "summary.json") or None


def describe_run(plan: Plan, run: Path, summary: Mapping[str, float]) -> Record:
    """Describe a finished run for its job's record, and sum it up for comparisons.

    Raises:
        Refused: where its primary metric is no finite number.
    """
    value, known = summary[f"val/{plan.metric}_best"], read_status(run)
    if not isfinite(value):
        raise Refused(f"val/{plan.metric} was {value} at best")
    gatherer.add(run)
    return {"value": value, "seconds": known["seconds"], "stacked": known["facts"].get("stacked", 1)}


def do_run(folder: Path, plan: Plan, key: str, typed: Setting, callbacks: Sequence["pl.Callback"] = ()) -> Record:
    """Start a run in its own folder, resume it, or find that it has finished; return its description.

    Raises:
        Refused: where the run can't be done.
    """
    from losslab.train import train

    cfg, run = compose_run(folder, plan, key, typed)
    return describe_run(plan, run, read_summary(run) or train(cfg, *callbacks, folder=run))


def draw_setting(folder: Path, ledger: Ledger, plan: Plan, job: Job) -> "tuple[Setting, Trial | None]":
    """Return the setting of a job, and the Optuna trial by which the rest of it is drawn."""
    if not job.draw:
        return job.setting, None
    from losslab.sweep.search import draw

    trial = draw(folder, ledger, plan, job)
    return {**job.setting, **trial.params}, trial


def train_stacks(folder: Path, ledger: Ledger, plan: Plan, jobs: Sequence[Job], stack: int) -> Ends:
    """Train those runs of these jobs that can be trained as one, at most `stack` of them together.

    Returns:
        What became of these runs; `do_job` does all others.
    """
    from losslab.stacking import group
    from losslab.stacking.train import train_together

    runs: dict[tuple[str, int], group.Planned] = {}
    for job in jobs:
        setting, _ = draw_setting(folder, ledger, plan, job)
        for number, repeat in enumerate(job.repeats):
            with suppress(Refused, Pruned):  # `do_job` will find the same
                cfg, run = compose_run(folder, plan, job.key, {**setting, **repeat})
                if read_summary(run) is None:
                    runs[job.key, number] = group.Planned(cfg, run)
    for some in group.split_stacks([*runs.values()], stack):
        if len(some) > 1:
            train_together(some)
    ends = {key: run.outcome for key, run in runs.items() if run.outcome is not None}
    return {key: end if isinstance(end, BaseException) else (end.folder, end) for key, end in ends.items()}


def do_job(folder: Path, ledger: Ledger, plan: Plan, job: Job, ends: Ends | None = None) -> Record:
    """Do the runs of a job that no stack has trained, until one fails or is stopped; return the job's record."""
    setting, trial = draw_setting(folder, ledger, plan, job)
    callbacks = report_to(trial, plan)
    record: Record = {"state": "done", "reason": None, "pruned": None, "value": None, "setting": setting, "runs": []}
    for number, repeat in enumerate(job.repeats):
        run: Record = {"overrides": {**setting, **repeat}}
        record["runs"].append(run)
        try:
            end = (ends or {}).get((job.key, number))
            if isinstance(end, BaseException):
                raise end
            run |= describe_run(plan, *end) if end else do_run(folder, plan, job.key, run["overrides"], callbacks)
            callbacks = []  # hyperband looks at the first repeat
        except Pruned as error:
            record["pruned"] = str(error)
            break
        except (Exception, SystemExit) as error:  # a bug, in losslab or in the user's own option: the others go on
            ended = isinstance(error, SystemExit) and isinstance(error.code, int) and error.code > SIGNALLED
            stopped = stop.by is not None or ended or (isinstance(error, SystemExit) and bool(preemption.notice.by))
            if stopped or no_result(error, folder):
                raise
            record |= {"state": "failed", "reason": describe_error(error)}
            break
    else:
        record["value"] = statistics.fmean(run["value"] for run in record["runs"])
    if trial is not None:
        from losslab.sweep.search import tell

        tell(trial, record["value"], failed=record["state"] == "failed")
    return record


def report_to(trial: "Trial | None", plan: Plan) -> "list[pl.Callback]":
    """Return the callbacks that report each epoch to hyperband; none where hyperband is not asked for."""
    if trial is None or not plan.early:
        return []
    from losslab.sweep.search import Reports, is_open

    return [Reports(trial, f"val/{plan.metric}", plan.mode)] if is_open(trial) else []


def describe_error(error: BaseException) -> str:
    """Return why a job failed, in one line; print the traceback of a bug."""
    if isinstance(error, Refused):
        return str(error)
    traceback.print_exc()
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


@contextmanager
def keep_claims(claims: Sequence[Claim]) -> Iterator[None]:
    """Keep claims fresh; end this process at once if it lost one nevertheless, for example while it was suspended."""
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


def work(folder: Path, plan: Plan, jobs: Sequence[Job], stack: int = 1) -> int:
    """Do each job that is free, in order, those at which processes died last; return how many were done."""
    with closing(Ledger(folder / "jobs")) as ledger:
        queue, count = Queue(ledger, jobs), 0
        while done := do_next(folder, plan, queue, stack):
            count += done
        return count


def do_next(folder: Path, plan: Plan, queue: Queue, stack: int) -> int:
    """Do the next free job, and those that train as one with it; return how many there were."""
    held = queue.take(stack) if stop.by is None else None
    if held is None:
        return 0
    turn, width = [held], stack
    if stack > 1 and queue.ledger.crashes(held[0].key):  # a job that kills its process does so alone
        width = 1
    if width > 1 and plan.method != "bayes":  # which draws by finished trials
        turn += queue.take_like(held[0], width)
    do_turn(folder, queue.ledger, plan, turn, width)
    return len(turn)


def do_turn(folder: Path, ledger: Ledger, plan: Plan, turn: Sequence[Held], stack: int) -> None:
    """Do the jobs that this process has claimed; release them if it is stopped or fails, so that another can go on."""
    try:
        with keep_claims([claim for _, claim in turn]):
            ends = train_stacks(folder, ledger, plan, [job for job, _ in turn], stack) if stack > 1 else {}
            for job, claim in turn:
                claim.finish(do_job(folder, ledger, plan, job, ends))
    except BaseException as error:
        with suppress(OSError):  # the folder is gone
            for _, claim in turn:
                if out_of_memory(error):
                    claim.crash()
                claim.release()
        ledger.close()
        raise


def import_early(plan: Plan, stack: int) -> None:
    """Import what runs need before a job is claimed, because a failed import is no job's fault."""
    for name in ("page.pictures", "record.record", "train", "training.checkpoints", "training.module"):
        import_module(f"losslab.{name}")
    if stack > 1:
        import_module("losslab.stacking.train")
    if plan.trials:
        import_module("losslab.sweep.search")
    imported.update(name.partition(".")[0] for name in sys.modules)


def receive(line: str, queue: Queue | None) -> tuple[Path, Plan, Queue, int]:
    """Parse a line of the driver's, JSON with more jobs of the same plan; return the arguments of `do_next`.

    Raises:
        FileNotFoundError: where the sweep's folder is gone.
    """
    message = json.loads(line)
    folder, plan, stack = Path(message["folder"]), Plan(**message["plan"]), message["stack"]
    import_early(plan, stack)
    stop.importing = False
    if not (folder / "sweep.json").is_file():  # the driver wrote it
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    if queue is None:
        queue = Queue(Ledger(Path(message["ledger"])), [])
    queue.ledger.tells = message["tells"]
    queue.add(unpack_jobs(**message["jobs"]))
    return folder, plan, queue, stack


def main() -> None:
    """Run the command `python -P -m losslab.sweep.worker`, which a driver starts."""
    stop.listen()
    collect_seldom()
    sweep: tuple[Path, Plan, Queue, int] | None = None
    wait = 0.0
    try:
        while stop.by is None:
            with suppress(Empty):
                sweep = receive(stop.lines.get(timeout=wait), sweep and sweep[2])
            wait = 0.0 if sweep and do_next(*sweep) else PAUSE
        code = 128 + stop.by
    except SystemExit as ended:  # a run that was stopped
        code = ended.code if isinstance(ended.code, int) else 1
    except Exception as error:
        code = exit_code(error)
        with suppress(OSError):  # the log may lie on a full disk
            traceback.print_exc()
    if sweep:
        sweep[2].ledger.close()
    with suppress(OSError):
        sys.stdout.flush()
    os._exit(code)  # all is on record, and threads of libraries do not matter


if __name__ == "__main__":
    main()
