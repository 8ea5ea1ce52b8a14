"""The end of the runs of a stack: checkpoints, summaries, pictures and W&B, by as many processes as there are cores."""

import json
import multiprocessing
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from ctypes import c_bool
from typing import Any

import torch

from losslab import terminal
from losslab.errors import Refused
from losslab.machine import cores
from losslab.record.loggers import build_loggers
from losslab.stacking.job import Job
from losslab.train import Summary
from losslab.train import finish as finish_run
from losslab.training.preemption import notice

Outcome = Summary | BaseException

held: list[Any] = []  # in a forked process: the runs, and whether W&B could not begin


def finish(jobs: list[Job], by: signal.Signals | None) -> list[Outcome]:
    """Write each run's checkpoints and record; return its summary, or why it has none.

    Args:
        jobs: all that were trained together.
        by: the signal that stopped them, if one did.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, notice.receive)  # who trains the stack looks at it when all runs are recorded
    count = min(len(jobs), cores()) if sys.platform == "linux" else 1
    context = multiprocessing.get_context("fork" if count > 1 else None)
    refused = context.Value(c_bool, False)
    if count > 1:
        with ProcessPoolExecutor(count, context, initializer=hold, initargs=(jobs, refused)) as pool:
            futures = [pool.submit(finish_held, number) for number in range(len(jobs))]
        errors = [future.exception() or future.result() for future in futures]
    else:
        errors = [finish_job(job, refused) for job in jobs]
    for job, error in zip(jobs, errors, strict=True):
        job.error = job.error or error
    report_stopped(jobs, by)
    return [job.error or read_summary(job) for job in jobs]


def hold(*what: Any) -> None:
    """Begin a forked process, which lacks the threads of its parent."""
    torch.set_num_threads(1)
    held[:] = what


def finish_held(number: int) -> BaseException | None:
    """Finish a run in a forked process; return its error as it can be sent, if any."""
    error = finish_job(held[0][number], held[1])
    whole = error is None or isinstance(error, Refused)
    return error if whole else RuntimeError("".join(traceback.format_exception(error)))


def finish_job(job: Job, refused: Any) -> BaseException | None:
    """Write a run's checkpoints and record, whether it is tested or was stopped; return its error, if any."""
    try:
        job.write_checkpoints()
        log_to_mirrors(job, refused)
        if job.error is None:
            assert job.test is not None
            finish_run(job.record, job.data, job.run.task, *job.test)
        for logger in job.record.mirrors:
            logger.save()
    except Exception as error:  # one run's: the others are recorded all the same
        job.fail(error)
    job.record.conclude(job.error, quiet=True)
    return job.error or job.record.unwritten


def read_summary(job: Job) -> Summary:
    """Read what the process that finished a run has written."""
    summary = Summary(json.loads((job.record.folder / "summary.json").read_text()))
    summary.folder = job.record.folder
    return summary


def log_to_mirrors(job: Job, refused: Any) -> None:
    """Log all that the record holds to W&B, or whichever logger there is: it hears of a run when that is over.

    Args:
        job: the run.
        refused: whether W&B could not begin, shared by all processes.
    """
    if not job.cfg.get("logger") or refused.value or notice.by is signal.SIGINT:
        return
    try:
        job.record.mirror(build_loggers(job.cfg)[0])
    except Refused as error:  # the folder is the truth
        job.record.mirrors = []
        with refused.get_lock():
            if not refused.value:
                print(f"losslab: {error}; the records of the runs are complete", file=sys.stderr, flush=True)
            refused.value = True
    for row in job.record.history:
        for logger in job.record.mirrors:
            logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))


def report_stopped(jobs: Sequence[Job], by: signal.Signals | None) -> None:
    """Print why runs did not finish, in a few lines however many they are."""
    sentences: dict[str, list[str]] = {}
    for job in jobs:
        if isinstance(job.error, Refused):
            sentences.setdefault(str(job.error), []).append(str(job.record.folder))
    for sentence, folders in sentences.items():
        print("\n".join([f"losslab: {sentence}", *folders]), file=sys.stderr, flush=True)
    stopped = [job.record.folder for job in jobs if job.error is not None and not isinstance(job.error, Refused)]
    if by is not None and stopped:
        many = f"{len(stopped)} runs, of which this is the first, were " if len(stopped) > 1 else ""
        print(f"\n{many}{terminal.stopped(stopped[0], by).strip()}", file=sys.stderr, flush=True)
