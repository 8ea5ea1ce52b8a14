"""A trained run, made again from its checkpoint."""

from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig

from losslab.build import build_model
from losslab.config.make import make
from losslab.errors import Refused

if TYPE_CHECKING:
    from torch import nn

    from losslab.data.dataset import Dataset
    from losslab.losses import Loss, Sum
    from losslab.tasks import Task


def restore(cfg: DictConfig, **more: Any) -> "tuple[Dataset, Task, Loss | Sum, nn.Module]":
    """Make a trained run again: its data, its task and loss, and its model, which takes inputs as the data hold them.

    Args:
        cfg: composed with `ckpt=`, whose run folder tells what the run was made of.
        more: keys for the data, such as `new`.

    Raises:
        Refused: where the data are no longer what it was trained on.
    """
    import torch
    from torch import nn

    from losslab import terminal
    from losslab.data.batches import Pixels
    from losslab.training.checkpoints import read

    terminal.quieten()
    data: Dataset = make(cfg, "data", **more)
    task, loss, model = build_model(cfg, data)
    run = nn.ModuleDict({"pixels": Pixels(data.scale), "model": model, "task": task, "loss": loss})
    state = {name: value for name, value in read(cfg.ckpt)["state_dict"].items() if name.split(".")[0] in run}
    learned = {f"task.{name}" for name in task.learned}
    of_rows = {name for part in ("pixels", "task") for name, _ in run[part].named_buffers(part)} - learned
    now = run.state_dict()
    changed = [
        name
        for name in sorted({*now, *state})
        if name not in now
        or name not in state
        or now[name].shape != state[name].shape
        or (name in of_rows and not torch.allclose(now[name], state[name].to(now[name].dtype), rtol=1e-4))
    ]
    if changed:
        raise Refused(
            f"data={cfg.run.choices.data} is no longer what ckpt={cfg.ckpt} was trained on ({changed[0]} differs): "
            "type where the rows lie that it was trained on"
        )
    run.load_state_dict(state)
    return data, task, loss, nn.Sequential(run["pixels"], run["model"]).eval()
