"""The processes that a run was started in."""

import os
import sys
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from losslab.errors import Refused
from losslab.files import Unreadable, check_archive
from losslab.machine import cores, visible_gpus

GPUS = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/nvmap", "/dev/kfd", "/dev/dxg")  # Linux has one of them beside a GPU
MANY = 16  # processes; more are started only where there are cores or GPUs for them


def has_gpu() -> bool | None:
    """Tell whether there is a GPU that torch may use, as far as the system tells it; `None` where it doesn't."""
    if visible_gpus() == []:
        return False
    return any(Path(device).exists() for device in GPUS) if sys.platform == "linux" else None


def check_devices(cfg: DictConfig) -> None:
    """Refuse a GPU where there is none, and more processes on the CPU than it has cores, before torch is imported."""
    trainer, choice, gpu = cfg.trainer, cfg.run.choices.trainer, has_gpu()
    kind, devices = trainer.get("accelerator"), trainer.get("devices")
    if (kind in ("cuda", "gpu") and gpu is False) or (kind == "mps" and sys.platform != "darwin"):
        what = "the GPU of an Apple computer" if kind == "mps" else "an NVIDIA or AMD GPU"
        instead = "ddp_cpu" if trainer.get("strategy") == "ddp" else "cpu"
        raise Refused(f"trainer={choice} needs {what}, and there is none here: type trainer={instead}")
    if kind != "cpu" and (kind != "auto" or gpu):
        return
    if (devices == -1 or OmegaConf.is_list(devices)) and (kind == "cpu" or gpu is False):
        shown = f"[{','.join(map(str, devices))}]" if OmegaConf.is_list(devices) else devices
        raise Refused(f"trainer.devices={shown} names GPUs, but the CPU is used: leave it out, or type a number")
    most = max(2, cores()) if kind == "cpu" or gpu is False else MANY
    if isinstance(devices, int) and devices > most:
        raise Refused(
            f"trainer.devices={devices} would start {devices} processes, and there are {cores()} cores: "
            f"type trainer.devices={most} or fewer"
        )


def check_whole(cfg: DictConfig) -> None:
    """Refuse a checkpoint that is no archive of torch's, before torch is imported to read it."""
    if cfg.ckpt is None:
        return
    why = "it is no archive of torch's"
    try:
        if check_archive(Path(cfg.ckpt)):
            return
    except Unreadable as error:
        why = error.why
    raise Refused(f"ckpt={cfg.ckpt} is not a whole checkpoint ({why}): type the path of a last.ckpt")


def check_launch(cfg: DictConfig) -> None:
    """Refuse to train in another number of processes than were started.

    One process would wait for the others for ever, or all would train the same run.
    """
    check_whole(cfg)
    env, trainer = os.environ, cfg.trainer
    if trainer.get("num_nodes", 1) != 1 and not {"RANK", "SLURM_NTASKS"} & set(env):
        raise Refused(
            f"trainer.num_nodes={trainer.num_nodes} needs a process for each device on each machine: "
            "start it by `torchrun` or by `srun`"
        )
    if "RANK" in env or "SLURM_NTASKS" not in env or env.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        check_devices(cfg)
        return  # torchrun started them, or a person at a prompt did: Lightning knows the same two names
    devices = len(trainer.devices) if OmegaConf.is_list(trainer.devices) else trainer.devices
    wanted = (trainer.get("num_nodes", 1), devices)
    nodes, tasks = (int(env.get(f"SLURM_STEP_NUM_{what}", 1)) for what in ("NODES", "TASKS"))
    if isinstance(devices, int) and devices > 0 and (nodes, tasks) != (wanted[0], wanted[0] * devices):
        raise Refused(
            f"SLURM has started {tasks} processes on {nodes} nodes, but trainer.num_nodes={wanted[0]} and "
            f"trainer.devices={devices} need others: type srun --nodes={wanted[0]} --ntasks-per-node={devices}, or "
            f"trainer=ddp trainer.num_nodes={nodes} trainer.devices={tasks // nodes}"
        )
