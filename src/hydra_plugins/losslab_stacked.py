"""`hydra/launcher=stacked`: train those runs of a sweep as one model that can be. Hydra finds launchers in here.

Hydra imports this at every start, so heavy imports wait until a sweep is launched.
"""

from collections.abc import Sequence
from copy import copy
from functools import partial

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class StackedLauncher(Launcher):
    """Sort the runs into stacks, and let another launcher start a job for each stack.

    Args:
        on: the other launcher's configuration: Hydra's own launcher trains one stack after the other, a cluster's many.
        width: how many runs a stack may hold.
    """

    def __init__(self, on: DictConfig, width: int) -> None:
        self.on, self.width = on, width

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Prepare for `launch`, which composes all runs; Hydra's sweepers call this first."""
        from losslab.internals.hydra import compose_nothing

        self.hydra_context = HydraContext(copy(hydra_context.config_loader), hydra_context.callbacks)
        self.config = config
        compose_nothing(hydra_context.config_loader)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Train the runs; Hydra's sweepers call this. A run that is refused or fails does not stop the others."""
        from losslab.internals.hydra import value_of
        from losslab.stacking.group import plan_runs, split_stacks, train_stacks

        runs = plan_runs([list(overrides) for overrides in job_overrides])
        stacks = split_stacks(runs, self.width)
        config = self.config.copy()
        with open_dict(config):
            config.hydra.launcher = OmegaConf.create(OmegaConf.to_container(self.on, resolve=True))
            config.hydra.hydra_logging.root.level = "WARNING"  # it would speak of stacks as if each were one run
        inner = Plugins.instance().instantiate_launcher(
            hydra_context=self.hydra_context,
            task_function=partial(train_stacks, stacks, initial_job_idx),
            config=config,
        )
        starts = [job_overrides[runs.index(stack[0])] for stack in stacks]
        for stack, back in zip(stacks, inner.launch(starts, initial_job_idx) if stacks else [], strict=True):
            ends = value_of(back) if back.status == JobStatus.COMPLETED else [value_of(back)] * len(stack)
            for run, end in zip(stack, ends, strict=True):
                run.outcome = end
        done = [JobReturn(overrides=list(overrides)) for overrides in job_overrides]
        for back, run in zip(done, runs, strict=True):  # a sweeper gets the run's objective, or raises its exception
            back.status = JobStatus.FAILED if isinstance(run.outcome, BaseException) else JobStatus.COMPLETED
            back.return_value = run.outcome
        return done
