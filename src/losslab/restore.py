"""A trained run, made again from its checkpoint: with its data, to evaluate it, or without, to predict."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from losslab.build import build_model
from losslab.config.make import call, make
from losslab.data.dataset import Array, Dataset
from losslab.data.encoder import Encoder, TableEncoder, make_encoder
from losslab.data.make import read_data
from losslab.data.notes import few
from losslab.errors import Refused

if TYPE_CHECKING:
    from torch import Tensor, nn

    from losslab.losses import Loss, Sum
    from losslab.tasks import Task

Parts = tuple[Dataset, "Task", "Loss | Sum", "nn.Module"]


@dataclass(frozen=True)
class Predictor:
    """What a prediction needs of a trained run."""

    data: Dataset  # its outputs and shape; its rows stand for those that were trained on
    encoder: Encoder | None  # reads new rows; `None` where there is nothing to read
    task: "Task"
    loss: "Loss | Sum"
    model: "nn.Module"  # takes inputs as `encoder` reads them
    priors: list[float]  # the share of each class or label in the training rows; empty for numbers
    notes: list[str]


def load_predictor(cfg: DictConfig) -> Predictor:
    """Make a trained run again from its checkpoint alone.

    A checkpoint of an older losslab does not hold what was learned from the table: that is read again, with a note.

    Args:
        cfg: composed with `ckpt=`, whose run folder tells what the run was made of.

    Raises:
        Refused: where the checkpoint does not fit the run.
    """
    from losslab import terminal
    from losslab.training.checkpoints import read
    from losslab.training.objective import make_loss

    terminal.quieten()
    saved = read(cfg.ckpt)
    if "data" not in saved:
        return load_older(cfg)
    try:
        data = stand_in(saved["data"], cfg.task.truth)
        encoder = read_encoder(cfg, saved["data"]["encoder"])
        priors = [float(share) for share in saved["data"]["priors"]]
    except (KeyError, TypeError, ValueError) as error:
        raise Refused(f"ckpt={cfg.ckpt} is not what a run writes ({error}): type the path of a best.ckpt") from None
    task: Task = make(cfg, "task")
    loss = make_loss(cfg, task, data)
    read_none: dict[str, dict[str, Any]] = {
        "losslab.models.backbone": {"weights": None},
        "losslab.models.from_timm": {"pretrained": False},
    }
    own_weights: dict[str, Any] = read_none.get(str(cfg.model.get("_target_")), {})
    waiting = make(cfg, "model", **own_weights)
    model = call(cfg, "model", waiting, data.shape, task.count_scores(len(data.outputs), loss))
    model = load_weights(cfg, saved["state_dict"], task, loss, model)
    return Predictor(data, encoder, task, loss, model, priors, [])


def load_older(cfg: DictConfig) -> Predictor:
    """Make a run of an older losslab again, whose checkpoint does not hold what was learned from its data."""
    data, task, loss, model = restore(cfg)
    note = (
        f"ckpt={cfg.ckpt} is of an older losslab and holds no medians, categories and column names: they were read "
        f"again from data={cfg.run.choices.data}, which must hold the very rows that it was trained on; train it again "
        "to be sure"
    )
    encoder = read_encoder(cfg, data.state()["encoder"])
    return Predictor(data, encoder, task, loss, model, data.priors(), [note])


def read_encoder(cfg: DictConfig, state: Mapping[str, Any] | None) -> Encoder | None:
    """Make the encoder of a checkpoint; `None` where there is nothing to read."""
    encoder = make_encoder(state) if state else None
    return encoder.set_aside(cfg.data) if isinstance(encoder, TableEncoder) else encoder


def stand_in(state: Mapping[str, Any], truth: str) -> Dataset:
    """Make data with the outputs and the shape of those that were trained on, and a row for each class or label.

    A task is fitted to it; what it had learned from the real rows follows from its buffers, which the checkpoint holds.

    >>> stand_in({"shape": [2], "outputs": ["a", "b", "c"]}, "class").y
    array([0, 1, 2])
    """
    outputs = list(state["outputs"])
    count = len(outputs)
    y: Array = np.arange(count) if truth == "class" else np.eye(count, dtype=np.int64)
    if truth == "numbers":
        y = np.full((2, count), [[0.5], [1.0]], np.float32)
    split = dict.fromkeys(("train", "val", "test"), np.arange(len(y)))
    return Dataset(np.zeros((len(y), 1), np.float32), y, split, tuple(state["shape"]), outputs)


def load_weights(
    cfg: DictConfig, saved: Mapping[str, "Tensor"], task: "Task", loss: "Loss | Sum", model: "nn.Module"
) -> "nn.Module":
    """Load the weights of a checkpoint into its parts; return the model with the normalisation of its images.

    Raises:
        Refused: if they are another model's, or not finite.
    """
    from torch import nn

    from losslab.data.batches import Pixels
    from losslab.training.checkpoints import check_finite

    scale = (saved["pixels.mean"].numpy(), saved["pixels.std"].numpy()) if "pixels.mean" in saved else None
    pixels = Pixels((scale[0].ravel(), scale[1].ravel()) if scale else None)
    run = nn.ModuleDict({"pixels": pixels, "model": model, "task": task, "loss": loss})
    state = {name: value for name, value in saved.items() if name.split(".")[0] in run}
    for name, _ in list(task.named_buffers()):  # as long as the data asked for, which are not here
        if f"task.{name}" in state and "." not in name:
            setattr(task, name, state[f"task.{name}"])
    now = run.state_dict()
    if misfit := [
        n for n in sorted({*now, *state}) if n not in now or n not in state or now[n].shape != state[n].shape
    ]:
        raise Refused(
            f"ckpt={cfg.ckpt} is of another model than its status.json says ({few(misfit)} differ): "
            "type the path of a best.ckpt in its own run's folder"
        )
    check_finite(cfg.ckpt, state, run)
    run.load_state_dict(state)
    return nn.Sequential(run["pixels"], run["model"]).eval()


def restore(cfg: DictConfig) -> Parts:
    """Make a trained run again: its data, its task and loss, and its model, which takes inputs as the data hold them.

    Raises:
        Refused: where the data are no longer what it was trained on.
    """
    import torch
    from torch import nn

    from losslab import terminal
    from losslab.data.batches import Pixels
    from losslab.training.checkpoints import check_finite, read

    terminal.quieten()
    data = read_data(cfg)
    task, loss, model = build_model(cfg, data)
    saved = read(cfg.ckpt)
    run = nn.ModuleDict({"pixels": Pixels(data.scale), "model": model, "task": task, "loss": loss})
    state = {name: value for name, value in saved["state_dict"].items() if name.split(".")[0] in run}
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
    if "data" in saved and data.state() != saved["data"]:
        changed.insert(0, "what was learned from its columns")
    if changed:
        raise Refused(
            f"data={cfg.run.choices.data} is no longer what ckpt={cfg.ckpt} was trained on ({changed[0]} differs): "
            "type the path of the rows that it was trained on"
        )
    check_finite(cfg.ckpt, state, run)
    run.load_state_dict(state)
    return data, task, loss, nn.Sequential(run["pixels"], run["model"]).eval()
