"""Trained models under every loss: the best checkpoint of each run, loaded again and evaluated on its test rows.

This is the one part of a comparison that imports torch, and only `cross=true` runs it.
"""

from collections.abc import Sequence
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
from losslab.restore import restore
from losslab.training.objective import build_loss


def under_every_loss(folder: Path, own: Sequence[str] = ()) -> dict[str, float]:
    """Compute the test loss of the run's best model under each loss that fits; `own` overrides find the user's options.

    What counts is what the model predicts, whatever loss it was trained with. A loss that wants several scores for a
    target evaluates only models that were trained with it.

    Raises:
        Refused: where the run cannot be made again, such as without its checkpoint.
    """
    checkpoint = folder / "best.ckpt"
    if not checkpoint.is_file():
        raise Refused(f"{folder} has no best.ckpt: cross=true needs the checkpoints of the runs")
    cfg = check.configure([*own, f"ckpt={arguments.quote_value(str(checkpoint))}"])
    data, task, _, model = restore(cfg)
    with torch.no_grad():
        batches = list(Batches(data, "test", 1024))
        scores = torch.cat([model(x) for x, *_ in batches]).float()
        truth = [torch.cat(parts) for parts in zip(*(rest for _, *rest in batches), strict=True)]
        if len(truth) > 1:  # weights: their mean is 1 over the training rows, and over these it should be
            truth[1] = truth[1] / truth[1].mean()
        found = {}
        for name, option in catalogue.options(cfg.run.catalogue, "loss").items():
            if not catalogue.fits(cfg.task, option):
                continue
            other: Any = fill_in(cfg, choices={**cfg.run.choices, "loss": name})
            OmegaConf.set_readonly(other, False)
            other.loss = {key: value for key, value in option.items() if key not in DESCRIPTIONS}
            reader = make(cfg, "task")
            try:
                evaluator = build_loss(other, reader, data)
            except Refused:  # the targets lie outside its domain
                continue
            if evaluator.scores_per_target > 1 and name != cfg.run.choices.loss:
                continue
            value = float(evaluator.compute(reader, reader.translate(scores, task), *truth))
            if np.isfinite(value):
                found[name] = value
    return found


def tabulate(comparison: Comparison, own: Sequence[str] = ()) -> pd.DataFrame:
    """Tabulate the mean test loss of each cell's models, a column for each loss; of the first data set."""
    used = comparison.used[comparison.used["dataset_key"] == comparison.datasets[0]]
    rows = [
        {"cell": cell, **under_every_loss(Path(path), own)}
        for cell, path in zip(used["cell"], used["folder"], strict=True)
    ]
    means = pd.DataFrame(rows).groupby("cell").mean()
    cells = [cell for cell in comparison.cells if cell in means.index]
    return means.loc[cells].dropna(axis="columns")
