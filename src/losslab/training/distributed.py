"""The processes of one run, one for each device: what the first decides for all, and what is gathered from all.

They are launched by Lightning, by `torchrun` or by SLURM; nothing here starts one.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from omegaconf import DictConfig
from pytorch_lightning.utilities import rank_zero_only
from torch import Tensor
from torchmetrics.utilities.distributed import gather_all_tensors

from losslab.config.catalogue import CONF

TOLD = "LOSSLAB_RUN"  # what the first process decided, for those that Lightning starts
LEFT = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", TOLD)  # for the next run: not to inherit


def rank() -> int:
    """The number of this process in its run, as the environment or Lightning has it; 0 where it is the only one."""
    return int(getattr(rank_zero_only, "rank", None) or 0)


def processes() -> int:
    """How many there are."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean(value: Tensor) -> Tensor:
    """The mean of a number over all processes."""
    if processes() > 1:
        value = value.detach().clone()
        dist.all_reduce(value)
        value /= processes()
    return value


def any_of(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Each flag, raised where any process raises it: so that all do the same."""
    if processes() == 1:
        return list(flags)
    raised = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]


def rows(tensor: Tensor) -> Tensor:
    """The rows of all processes, those of the first process first."""
    return torch.cat(gather_all_tensors(tensor)) if processes() > 1 else tensor


def gathered(state: Any) -> list[Any]:
    """What each process has, in their order."""
    if processes() == 1:
        return [state]
    found: list[Any] = [None] * processes()
    dist.all_gather_object(found, state)
    return found


def agreed(trainer: pl.Trainer, decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the first process decides, told to all; before Lightning starts the others, if it is Lightning that does."""
    if trainer.world_size == 1:
        return decide()
    if TOLD in os.environ:
        told: dict[str, Any] = json.loads(os.environ[TOLD])
        return told
    started = trainer.strategy.cluster_environment.creates_processes_externally  # type: ignore[attr-defined]
    if started:
        trainer.strategy.setup_environment()
    told = decide() if trainer.is_global_zero else {}
    if started:
        return trainer.strategy.broadcast(told)
    os.environ[TOLD] = json.dumps(told)
    return told


@contextmanager
def relaunched(cfg: DictConfig, trainer: pl.Trainer) -> Iterator[None]:
    """While it lasts, Lightning starts the other processes with this run's own command, and never with a sweep's.

    Lightning repeats the command of the process that it runs in, which in a sweep would start the sweep once more.
    Afterwards nothing is left that would make the next run of this process believe that it is one of several.
    """
    if trainer.strategy.launcher is None:
        yield
        return
    ours = not trainer.strategy.cluster_environment.creates_processes_externally  # type: ignore[attr-defined]
    main = sys.modules["__main__"]
    spec, argv = getattr(main, "__spec__", None), sys.argv
    own = [str(folder) for folder in cfg.run.catalogue if str(folder) != str(CONF)]
    flags = [word for folder in own for word in ("--config-dir", folder)]
    main.__spec__, sys.argv = find_spec("losslab.app"), ["losslab.app", *flags, *cfg.run.overrides]
    try:
        yield
    finally:
        main.__spec__, sys.argv = spec, argv
        if ours:
            for name in LEFT:
                os.environ.pop(name, None)
        if dist.is_initialized():
            dist.destroy_process_group()
