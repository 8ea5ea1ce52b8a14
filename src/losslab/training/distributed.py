"""The processes of one run, one for each device: broadcast what the first decides, and gather from all.

Lightning, `torchrun` or SLURM starts them; nothing here does.
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

DECIDED = "LOSSLAB_RUN"  # what the first process decided, for the processes that Lightning starts
INHERITED = (
    "LOCAL_RANK",
    "NODE_RANK",
    "WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
    DECIDED,
)  # which the next run must not


def rank() -> int:
    """Return the number of this process in its run, from the environment or Lightning; 0 if it is the only one."""
    return int(getattr(rank_zero_only, "rank", None) or 0)


def processes() -> int:
    """Count the processes of this run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def mean(value: Tensor) -> Tensor:
    """Return the mean of a number over all processes."""
    if processes() > 1:
        value = value.detach().clone()
        dist.all_reduce(value)
        value /= processes()
    return value


def raise_flags(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Raise each flag that any process raises, so that all processes do the same."""
    if processes() == 1:
        return list(flags)
    raised = torch.tensor(flags, dtype=torch.int32, device=device)
    dist.all_reduce(raised, op=dist.ReduceOp.MAX)
    return [bool(flag) for flag in raised.tolist()]


def gather_rows(tensor: Tensor) -> Tensor:
    """Gather the rows of all processes, those of the first process first."""
    return torch.cat(gather_all_tensors(tensor)) if processes() > 1 else tensor


def gather_objects(state: Any) -> list[Any]:
    """Gather an object from each process, in their order."""
    if processes() == 1:
        return [state]
    found: list[Any] = [None] * processes()
    dist.all_gather_object(found, state)
    return found


def broadcast_decision(trainer: pl.Trainer, decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Broadcast what the first process decides. If Lightning starts the others, decide before it does."""
    if trainer.world_size == 1:
        return decide()
    if DECIDED in os.environ:
        decision: dict[str, Any] = json.loads(os.environ[DECIDED])
        return decision
    started = trainer.strategy.cluster_environment.creates_processes_externally  # type: ignore[attr-defined]
    if started:
        trainer.strategy.setup_environment()
    decision = decide() if trainer.is_global_zero else {}
    if started:
        return trainer.strategy.broadcast(decision)
    os.environ[DECIDED] = json.dumps(decision)
    return decision


@contextmanager
def relaunch_this_run(cfg: DictConfig, trainer: pl.Trainer) -> Iterator[None]:
    """Inside this context, let Lightning start the other processes with this run's own command, never a sweep's.

    Lightning repeats the command of its process, which in a sweep would start the sweep once more. Afterwards nothing
    makes the next run of this process believe that it is one of several.
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
            for name in INHERITED:
                os.environ.pop(name, None)
        if dist.is_initialized():
            dist.destroy_process_group()
