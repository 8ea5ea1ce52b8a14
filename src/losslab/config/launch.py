"""The processes that a run was started in."""

import os

from omegaconf import DictConfig, OmegaConf

from losslab.errors import Refused


def check_launch(cfg: DictConfig) -> None:
    """Refuse to train in another number of processes than were started.

    One process would wait for the others for ever, or all would train the same run.

    Raises:
        Refused: if the number of processes or of nodes differs from the trainer's.
    """
    env, trainer = os.environ, cfg.trainer
    if trainer.get("num_nodes", 1) != 1 and not {"RANK", "SLURM_NTASKS"} & set(env):
        raise Refused(
            f"trainer.num_nodes={trainer.num_nodes} needs a process for each device on each machine: "
            "start it by `torchrun` or by `srun`"
        )
    if "RANK" in env or "SLURM_NTASKS" not in env or env.get("SLURM_JOB_NAME") in ("bash", "interactive"):
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
