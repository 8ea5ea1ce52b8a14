"""`hydra/launcher=ray`: train the runs of a sweep on a Ray cluster, as `losslab sweep FILE engine=ray` does.

Hydra imports this at every start, so heavy imports wait until a sweep is launched.
"""

import atexit
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

if TYPE_CHECKING:
    from losslab.stacking.group import Planned
    from losslab.sweep.engine import AnyWorkers
    from losslab.sweep.ledger import Record
    from losslab.sweep.plan import Job, Plan


class RayLauncher(Launcher):
    """Make a job of each run in Hydra's sweep folder, and let the workers of a cluster do them.

    Args:
        typed: the settings of `engine=ray`.
    """

    def __init__(self, **typed: Any) -> None:
        self.typed = typed
        self.workers: AnyWorkers | None = None
        self.needs: object = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Prepare for `launch`, which composes all runs; Hydra's sweepers call this first."""
        from losslab.config.arguments import as_typed
        from losslab.errors import Refused
        from losslab.internals.hydra import compose_nothing
        from losslab.sweep.connect import check_installed
        from losslab.sweep.engine import take_engine

        if isinstance(task_function, partial):
            raise Refused(
                "hydra/launcher=stacked trains no stacks by way of ray, which makes its own: type hydra/launcher=ray "
                "hydra.launcher.stack=32"
            )
        typed = {key: as_typed(value) for key, value in self.typed.items() if value not in (None, "")}
        with named_as_typed():
            check_installed()
            self.engine = take_engine({"engine": "ray", **typed})
        self.folder = Path(config.hydra.sweep.dir)
        compose_nothing(hydra_context.config_loader)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the runs; Hydra's sweepers call this. A run that is refused or fails does not stop the others."""
        from losslab.stacking.group import plan_runs
        from losslab.sweep.driver import explain_faults

        runs = plan_runs([list(overrides) for overrides in job_overrides])
        jobs = {number: make_job(job_overrides[number], run) for number, run in enumerate(runs) if run.outcome is None}
        with named_as_typed(), explain_faults(self.folder):
            try:
                records = self.train([runs[number] for number in jobs], [*jobs.values()])
            except BaseException:
                self.close()
                raise
        for number, job in jobs.items():
            runs[number].outcome = end = self.find_end(runs[number], job, records[job.key])
            if isinstance(end, BaseException):
                print(f"losslab: run {initial_job_idx + number + 1}: {end}", file=sys.stderr, flush=True)
        done = [JobReturn(overrides=list(overrides)) for overrides in job_overrides]
        for back, run in zip(done, runs, strict=True):  # a sweeper gets the run's objective, or raises its exception
            back.status = JobStatus.FAILED if isinstance(run.outcome, BaseException) else JobStatus.COMPLETED
            back.return_value = run.outcome
        return done

    def find_end(self, run: "Planned", job: "Job", record: "Record") -> Any:
        """Return the objective of a run whose job is over, or why it failed."""
        from losslab.app import SweepObjective
        from losslab.errors import Refused
        from losslab.record.folder import run_name

        if record["state"] != "done":
            return Refused(record["reason"])
        usual = f"{run_name(run.cfg)}-{job.key[:6]}"  # where no node's environment names other folders of data
        found = sorted(self.folder.glob(f"runs/*-{job.key[:6]}"), key=lambda folder: folder.name != usual)
        return SweepObjective(record["value"], str(found[0]))

    def train(self, runs: "Sequence[Planned]", jobs: "Sequence[Job]") -> "dict[str, Record]":
        """Do the jobs of these runs, those of one primary metric after those of another; return their records."""
        from losslab.sweep.driver import run_jobs

        records: dict[str, Record] = {}
        metrics = [(str(run.cfg.task.yardstick), str(run.cfg.task.mode)) for run in runs]
        for metric in dict.fromkeys(metrics):
            some = [job for job, own in zip(jobs, metrics, strict=True) if own == metric]
            plan = make_plan(some, *metric)
            self.connect(plan, some)
            assert self.workers is not None
            records |= run_jobs(self.workers, plan, list({job.key: job for job in some}.values()), "training")
        return records

    def connect(self, plan: "Plan", jobs: "Sequence[Job]") -> None:
        """Connect to the cluster, unless its workers have all that these jobs need; forget what failed before."""
        from losslab.sweep.archive import find_paths
        from losslab.sweep.driver import find_lost

        needs = plan.metric, find_paths(plan)
        if self.workers is None or needs != self.needs:
            self.close()
            self.workers, self.needs = self.engine.start(self.folder, plan, len(jobs)), needs
            atexit.register(self.close)  # before Ray's own; a sweeper does not say which launch is the last
            ledger, keys = self.workers.ledger, [job.key for job in jobs]
            ledger.forget_failures(find_lost(self.folder, ledger.records(keys)))
            before = len(ledger.records(keys))
            said = f"; {before} of {len(keys)} runs were finished before" * bool(before)
            print(f"{self.workers.describe()}{said}\nfolder    {self.folder}", flush=True)

    def close(self) -> None:
        """End the workers, and leave the cluster."""
        if self.workers is not None:
            self.workers.close()
            self.workers = None


def make_job(overrides: Sequence[str], run: "Planned") -> "Job":
    """Make the job of a run of these overrides, which logs as it would here."""
    from losslab.config.arguments import search_path, show_sum, take_folders
    from losslab.sweep.plan import Job, hash_setting

    folders = search_path(take_folders(sys.argv[1:])[1])
    words = [re.sub(r"^\++(?=search\.)", "", show_sum(text)) for text in [*overrides, *folders]]
    typed = {key: value for key, _, value in (word.partition("=") for word in words)}
    setting = {"logger": run.cfg.run.choices.get("logger", "false"), **typed}
    setting.pop("output_dir", None)
    return Job(hash_setting(setting), {}, setting, [{}])


def make_plan(jobs: "Sequence[Job]", metric: str, mode: Any) -> "Plan":
    """Make the plan of jobs: what all of them share, and the values of what differs."""
    from losslab.sweep.plan import Plan

    values: Mapping[str, list[Any]] = {key: [] for job in jobs for key in job.setting}
    for key, each in values.items():
        each.extend(dict.fromkeys(job.setting[key] for job in jobs if key in job.setting))
    shared = {key for key in values if len(values[key]) == 1 and all(key in job.setting for job in jobs)}
    fixed = {key: each[0] for key, each in values.items() if key in shared}
    grid = {key: each for key, each in values.items() if key not in shared}
    return Plan("multirun", "grid", fixed, grid, {}, {}, metric=metric, mode=mode)


@contextmanager
def named_as_typed() -> Iterator[None]:
    """Name the settings of a cluster in refusals as they are typed here."""
    from losslab.errors import Refused
    from losslab.sweep.engine import KEYS

    try:
        yield
    except Refused as error:
        text = re.sub(rf"(?<![\w.])(?=({'|'.join(KEYS)})=)(?!engine)", "hydra.launcher.", str(error))
        raise Refused(text.replace("engine=ray", "hydra/launcher=ray")) from None
