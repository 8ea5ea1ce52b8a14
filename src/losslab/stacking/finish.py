"""The end of the runs of a stack: checkpoints, summaries, pictures and W&B, by as many processes as there are cores."""

import json
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Sequence
from ctypes import c_bool
from typing import Any

import torch

from losslab import terminal
from losslab.errors import Refused, machine_refusal
from losslab.machine import cores
from losslab.record.loggers import build_loggers
from losslab.stacking.job import Job, unwritable, write_checkpoints
from losslab.train import Summary
from losslab.train import finish as finish_run
from losslab.training.preemption import notice

Outcome = Summary | BaseException


def finish(jobs: list[Job], by: signal.Signals | None) -> list[Outcome]:
    """Write each run's checkpoints and record; return its summary, or why it has none.

    Args:
        jobs: all that were trained together.
        by: the signal that stopped them, if one did.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, notice.receive)  # who trains the stack looks at it when all runs are recorded
    count = min(len(jobs), cores()) if sys.platform == "linux" and hasattr(os, "fork") else 1
    context = multiprocessing.get_context("fork" if count > 1 else None)
    refused = context.Value(c_bool, False)
    errors = finish_jobs(jobs, refused) if count < 2 else finish_in_processes(jobs, refused, count, context)
    outcomes: list[Outcome] = []
    for job, error in zip(jobs, errors, strict=True):
        job.error = job.error or error
        if job.error is None:
            summary = Summary(json.loads((job.record.folder / "summary.json").read_text()))
            summary.folder = job.record.folder
            outcomes.append(summary)
        else:
            outcomes.append(job.error)
    report_stopped(jobs, by)
    return outcomes


def finish_in_processes(jobs: list[Job], refused: Any, count: int, context: Any) -> list[BaseException | None]:
    """Let forked processes finish an equal share of the runs each, and collect why runs failed."""
    errors: list[BaseException | None] = [None] * len(jobs)
    pipes = [context.Pipe(duplex=False) for _ in range(count)]
    processes = [
        context.Process(target=send_errors, args=(jobs[k::count], refused, pipe)) for k, (_, pipe) in enumerate(pipes)
    ]
    for process, (_, pipe) in zip(processes, pipes, strict=True):
        process.start()
        pipe.close()
    for k, (pipe, _) in enumerate(pipes):
        try:
            errors[k::count] = pipe.recv()
        except EOFError:
            errors[k::count] = [RuntimeError("the process that records runs was killed")] * len(jobs[k::count])
    for process in processes:
        process.join()
    return errors


def send_errors(jobs: list[Job], refused: Any, pipe: Any) -> None:
    """Finish runs in a process of its own, and send back why they failed."""
    torch.set_num_threads(1)  # a forked process lacks the threads of its parent
    pipe.send(
        [
            error
            if error is None or isinstance(error, Refused)
            else RuntimeError("".join(traceback.format_exception(error)))
            for error in finish_jobs(jobs, refused)
        ]
    )


def finish_jobs(jobs: list[Job], refused: Any) -> list[BaseException | None]:
    """Write each run's checkpoints and record; return its error, if any.

    Args:
        jobs: trained and tested, or stopped.
        refused: whether W&B could not begin, shared by all processes.
    """
    errors: list[BaseException | None] = []
    for job in jobs:
        try:
            write_checkpoints(job)
            log_to_mirrors(job, refused)
            if job.error is None:
                assert job.test is not None
                finish_run(job.record, job.data, job.run.task, *job.test)
            for logger in job.record.mirrors:
                logger.save()
        except OSError as error:
            job.error = job.error or unwritable(job, error)
        except Exception as error:  # one run's: the others are recorded all the same
            job.error = job.error or machine_refusal(error) or error
        job.record.conclude(job.error, quiet=True)
        job.error = job.error or job.record.unwritten
        errors.append(job.error)
    return errors


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
        for logger in job.record.mirrors if row["step"] > job.last_logged_step else ():
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
