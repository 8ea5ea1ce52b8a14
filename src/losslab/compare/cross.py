"""Trained models under every loss: the best checkpoint of each run, loaded again and judged on its test rows.

This is the one part of a comparison that imports torch, and it runs only where `cross=true` asks for it.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from omegaconf import OmegaConf

from losslab.compare.design import Comparison
from losslab.config import arguments, catalogue, check
from losslab.config.catalogue import DESCRIPTIONS
from losslab.config.make import fill_in, make
from losslab.data.batches import Batches
from losslab.errors import Refused
from losslab.losses.assembly import build_loss
from losslab.restore import restore


def under_every_loss(folder: Path) -> dict[str, float]:
    """Compute the test loss of the run's best model under each loss that fits its task, each with its own defaults.

    What counts is what the model predicts, whatever loss it was trained with. A loss that wants several scores for a
    target evaluates only models that were trained with it.

    Raises:
        Refused: where the run cannot be made again, such as without its checkpoint.
    """
    checkpoint = folder / "best.ckpt"
    if not checkpoint.is_file():
        raise Refused(f"{folder} has no best.ckpt: cross=true needs the checkpoints of the runs")
    cfg = check.configure([f"ckpt={arguments.quote_value(str(checkpoint))}"])
    data, task, _, model = restore(cfg)
    with torch.no_grad():
        batches = list(Batches(data, "test", 1024))
        scores, y = torch.cat([model(x) for x, _ in batches]).float(), torch.cat([y for _, y in batches])
        found = {}
        for name, option in catalogue.options(cfg.run.catalogue, "loss").items():
            if not catalogue.fits(cfg.task, option):
                continue
            other: Any = fill_in(cfg, choices={**cfg.run.choices, "loss": name})
            OmegaConf.set_readonly(other, False)
            other.loss = {key: value for key, value in option.items() if key not in DESCRIPTIONS}
            reader = make(cfg, "task")
            try:
                judge = build_loss(other, reader, data)
            except Refused:  # the targets lie outside its domain
                continue
            if judge.scores_per_target > 1 and name != cfg.run.choices.loss:
                continue
            cost = float(judge.compute(reader, reader.translate(scores, task), y))
            if np.isfinite(cost):
                found[name] = cost
    return found


def table(comparison: Comparison) -> pd.DataFrame:
    """The mean cost of each cell's models under each loss, a row for each cell; of the first data set."""
    used = comparison.used[comparison.used["dataset_key"] == comparison.datasets[0]]
    rows = [
        {"cell": cell, **under_every_loss(Path(path))} for cell, path in zip(used["cell"], used["folder"], strict=True)
    ]
    means = pd.DataFrame(rows).groupby("cell").mean()
    cells = [cell for cell in comparison.cells if cell in means.index]
    return means.loc[cells].dropna(axis="columns")
