"""Hydra's main around `train`: one run, or those of `-m`."""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import os
import sys
from collections.abc import Sequence
from math import nan
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from losslab import multirun
from losslab.config import arguments, catalogue, check
from losslab.config.command_line import rewrite_arguments
from losslab.config.explain import explain
from losslab.config.recorded import check_dropped
from losslab.errors import Refused, one_sentence
from losslab.internals.hydra import collect_returns, jobs_checked
from losslab.train import train
from losslab.training import preemption


class SweepObjective(float):
    """The value that a sweeper optimizes, and the folder of the run that reached it.

    >>> SweepObjective(0.5, "outputs/a") < 1, SweepObjective(0.5, "outputs/a").folder
    (True, 'outputs/a')
    """

    folder: str

    def __new__(cls, value: float, folder: str) -> "SweepObjective":
        objective = super().__new__(cls, value)
        objective.folder = folder
        return objective

    def __getnewargs__(self) -> tuple[float, str]:  # type: ignore[override]
        """Keep the folder where the job ran in another process and its value is pickled."""
        return float(self), self.folder


def job(typed: DictConfig) -> float:
    """Train one run for `hydra.main`; return the best primary metric on the validation rows as a sweep's objective."""
    preemption.exit_at_time_limit()
    hydra_config = HydraConfig.get()
    words: list[str] = OmegaConf.to_container(hydra_config.overrides.task)  # type: ignore[assignment]  # ${..} stays
    one_run = hydra_config.mode == RunMode.RUN
    try:
        if one_run and (launcher := hydra_config.runtime.choices["hydra/launcher"]) != "basic":
            raise Refused(f"hydra/launcher={launcher} is for several runs, and this is one run: type -m too")
        cfg = check.configure([arguments.show_sum(text) for text in words])
        check_dropped(cfg)
        if not one_run:
            print(multirun.head(hydra_config.job.num, words), flush=True)
        summary = train(cfg, alone=one_run)
    except Refused as error:
        if one_run:
            sys.exit(f"losslab: {error}")
        print(f"losslab: {error}", file=sys.stderr, flush=True)
        raise  # Hydra runs the other jobs of the sweep, then raises the first error
    if one_run or not summary:  # no sweeper needs it, or this is not the run's first process
        return nan
    return SweepObjective(summary[f"val/{cfg.task.yardstick}_best"], str(summary.folder))


def begin_runs(jobs: Sequence[Sequence[str]]) -> None:
    """Check the jobs of a multirun, and print what they ask before the first of them starts."""
    check.check_jobs(jobs)
    print(multirun.announce(jobs), flush=True)


def print_runs(objectives: Sequence[object]) -> None:
    """Print the runs of a sweep side by side: what they differ in, and what each reached."""
    if folders := [Path(each.folder) for each in objectives if isinstance(each, SweepObjective)]:
        print(multirun.conclude(folders), flush=True)


@one_sentence()
def main() -> None:
    """Run the command `losslab-train`: a user's mistake ends in one sentence and exit code 1, a bug in a traceback."""
    preemption.exit_on_signals()
    traceback_wanted = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then raises what it would print, and we can say it in a sentence
    try:
        rewrite_arguments()
        with multirun.cleared(sys.argv[1:]), collect_returns() as objectives, jobs_checked(begin_runs):
            try:
                hydra.main(version_base="1.3", config_path=str(catalogue.CONF), config_name="config")(job)()
            except (KeyboardInterrupt, SystemExit):
                objectives.clear()
                raise
            finally:
                print_runs(objectives)
    except (Refused, HydraException, OmegaConfBaseException) as error:
        if traceback_wanted:
            raise
        words, folders = arguments.take_folders(sys.argv[1:])
        typed = [*(text for text in words if "=" in text and not text.startswith("-")), *arguments.search_path(folders)]
        sys.exit(f"losslab: {error if isinstance(error, Refused) else explain(error, typed)}")
    except Exception as error:
        if traceback_wanted or not (type(error).__module__.startswith("submitit") or "srun" in str(error)):
            raise
        why = " ".join(str(error).partition("-----")[0].split())  # the job's last output follows the line
        sys.exit(f"losslab: SLURM: {why}")


if __name__ == "__main__":
    main()
