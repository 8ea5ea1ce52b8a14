"""Trained models under every loss: the best checkpoint of each run, loaded again and judged on its test rows.

This is the one part of a comparison that imports torch, and it runs only where `cross=true` asks for it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from losslab import door
from losslab.compare.cells import Comparison
from losslab.data.batches import Batches
from losslab.data.dataset import Dataset
from losslab.errors import Refused
from losslab.train import build, call, objective


def under_every_loss(folder: Path) -> dict[str, float]:
    """What the test rows cost the run's best model under each loss that fits its task, each with its own defaults.

    A regression model is judged by its predictions, whatever loss it was trained with; a loss that wants several scores
    for a target judges only models that have them.

    Raises:
        Refused: where the run cannot be made again, such as without its checkpoint.
    """
    checkpoint = folder / "best.ckpt"
    if not checkpoint.is_file():
        raise Refused(f"{folder} has no best.ckpt: cross=true needs the checkpoints of the runs")
    cfg = door.configure([f"ckpt={checkpoint}"])
    data: Dataset = build(cfg, "data", "gives", "batch_size", "drop_last")
    task = build(cfg, "task")
    loss = objective(cfg, task, data)
    model = call(cfg, "model", build(cfg, "model", "takes"), data.shape, len(data.outputs) * loss.heads)
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    model.load_state_dict({name[6:]: weight for name, weight in state.items() if name.startswith("model.")})
    model.eval()
    with torch.no_grad():
        batches = list(Batches(data, "test", 1024))
        scores, y = torch.cat([model(x) for x, _ in batches]).float(), torch.cat([y for _, y in batches])
        values = task.view(scores, task.units) if cfg.task.name == "regression" else None
        found = {}
        for name, option in door.options([str(door.CONF)], "loss").items():
            if not door.fits(cfg.task, option) or (option["input"] == "heads" and name != cfg.run.choices.loss):
                continue
            other: Any = cfg.copy()
            other.loss = {key: value for key, value in option.items() if key != "also"}
            other.run.choices.loss = name
            reader = build(cfg, "task")
            try:
                judge = objective(other, reader, data)
            except Refused:  # the targets lie outside its domain
                continue
            read = (
                scores if values is None or option["input"] == "heads" else scores_of(values, reader, option["input"])
            )
            cost = float(judge.of(reader, read, y))
            if np.isfinite(cost):
                found[name] = cost
    return found


def scores_of(values: Tensor, task: Any, input: str) -> Tensor:
    """The scores that a regression task reads as these predictions, in the data's units."""
    rate = (values / task.level).clamp(min=1e-6)  # a rate is above 0
    scores: Tensor = rate.log() if input == "rate" else (values - task.mean) / task.std
    return scores


def table(comparison: Comparison) -> pd.DataFrame:
    """The mean cost of each cell's models under each loss, a row for each cell; of the first data set."""
    used = comparison.used[comparison.used["rows"] == comparison.sets[0]]
    rows = [
        {"cell": cell, **under_every_loss(Path(path))} for cell, path in zip(used["cell"], used["folder"], strict=True)
    ]
    means = pd.DataFrame(rows).groupby("cell").mean()
    cells = [cell for cell in comparison.cells if cell in means.index]
    return means.loc[cells].dropna(axis="columns")
