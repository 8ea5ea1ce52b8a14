"""The end of the runs of a stack: checkpoints, summaries, pictures and W&B, by as many processes as there are cores."""

import multiprocessing
import signal
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

import torch

from losslab import terminal
from losslab.errors import Refused
from losslab.machine import cores
from losslab.record.loggers import build_loggers
from losslab.stacking.job import Job
from losslab.train import Summary
from losslab.train import finish as finish_run
from losslab.training import preemption
from losslab.training.preemption import notice

End = tuple[Summary | BaseException, Refused | None]  # of a run, and why W&B has nothing of it

held: list[Job] = []  # in a forked process: the runs
unmirrored: list[Refused] = []  # in each process: why W&B could not begin


def finish(jobs: Sequence[Job], by: signal.Signals | None) -> None:
    """Write each run's checkpoints and record; its outcome is its summary, or why it has none.

    Args:
        jobs: all that were trained together.
        by: the signal that stopped them, if one did.
    """
    preemption.handle(notice.receive, signal.SIGINT)  # who trains the stack looks at it when all runs are recorded
    unmirrored.clear()
    if sys.platform == "linux" and (count := min(len(jobs), cores())) > 1:
        context = multiprocessing.get_context("fork")
        with ProcessPoolExecutor(count, context, initializer=hold, initargs=(jobs,)) as pool:
            futures = [pool.submit(finish_held, number) for number in range(len(jobs))]
        ends = [(error, None) if (error := future.exception()) else future.result() for future in futures]
    else:
        ends = [finish_job(job) for job in jobs]
    for job, (outcome, _) in zip(jobs, ends, strict=True):
        job.planned.outcome = job.error or outcome
    for why in [why for _, why in ends if why][:1]:
        print(f"losslab: {why}; the records of the runs are complete", file=sys.stderr, flush=True)
    report_stopped(jobs, by)


def hold(jobs: Sequence[Job]) -> None:
    """Begin a forked process, which lacks the threads of its parent."""
    torch.set_num_threads(1)
    held[:] = jobs


def finish_held(number: int) -> End:
    """Finish a run in a forked process; an error is returned as it can be sent."""
    outcome, why = finish_job(held[number])
    if isinstance(outcome, BaseException) and not isinstance(outcome, Refused):
        outcome = RuntimeError("".join(traceback.format_exception(outcome)))
    return outcome, why


def finish_job(job: Job) -> End:
    """Write a run's checkpoints and record, whether it is tested or was stopped."""
    summary = Summary()
    summary.folder = job.record.folder
    try:
        job.write_checkpoints()
        log_to_mirrors(job)
        if job.error is None:
            summary.update(finish_run(job.record, job.data, job.run.task, *job.test))
        for logger in job.record.mirrors:
            logger.save()
    except Exception as error:  # one run's: the others are recorded all the same
        job.fail(error)
    job.record.conclude(job.error, quiet=True)
    return job.error or job.record.unwritten or summary, next(iter(unmirrored), None)


def log_to_mirrors(job: Job) -> None:
    """Log all that the record holds to W&B, or whichever logger there is: it hears of a run when that is over."""
    if not job.cfg.get("logger") or unmirrored or notice.by is signal.SIGINT:
        return
    try:
        job.record.mirror(build_loggers(job.cfg)[0])
    except Refused as error:  # the folder is the truth
        job.record.mirrors = []
        unmirrored.append(error)
    for row in job.record.history:
        for logger in job.record.mirrors:
            logger.log_metrics({key: value for key, value in row.items() if key != "step"}, step=int(row["step"]))


def report_stopped(jobs: Sequence[Job], by: signal.Signals | None) -> None:
    """Print why runs did not finish, in a few lines however many they are."""
    sentences: dict[str, list[str]] = {}
    for job in jobs:
        if isinstance(job.planned.outcome, Refused):
            sentences.setdefault(str(job.planned.outcome), []).append(str(job.record.folder))
    for sentence, folders in sentences.items():
        print("\n".join([f"losslab: {sentence}", *folders]), file=sys.stderr, flush=True)
    ends = [(job.record.folder, job.planned.outcome) for job in jobs]
    stopped = [folder for folder, end in ends if isinstance(end, BaseException) and not isinstance(end, Refused)]
    if by is not None and stopped:
        many = f"{len(stopped)} runs, of which this is the first, were " if len(stopped) > 1 else ""
        print(f"\n{many}{terminal.stopped(stopped[0], by).strip()}", file=sys.stderr, flush=True)
