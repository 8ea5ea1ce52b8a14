"""How much the means of cells would differ on other test rows: the covariance that comes from the rows tested."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.files import Unreadable
from losslab.record.blocks import Blocks, pseudo_values
from losslab.record.row_scores import read_blocks

Array = NDArray[Any]


@dataclass(frozen=True)
class RowNoise:
    """The noise of cells' means that comes from the rows tested."""

    covariance: Array  # `(k, k)`, of the means of k cells
    # `(k, k)`, the part of it that is noise of rows in single trainings; 0 where cells have other numbers of trainings
    mixed: Array
    df: float  # its degrees of freedom: one less than the number of blocks of rows
    rows: int  # how many rows were tested


def read_run_blocks(used: pd.DataFrame, metric: str) -> dict[str, Blocks]:
    """Read what runs recorded of their test rows, by folder, without those that tested others or lack the metric."""
    found: dict[str, Blocks] = {}
    for folder in used["folder"]:
        if str(folder).startswith("wandb:"):
            continue
        try:
            blocks = read_blocks(folder)
        except Unreadable:
            continue
        if blocks and metric in blocks.metrics and np.isfinite(pseudo_values(blocks, metric)).mean() > 0.5:
            found[str(folder)] = blocks
    digests = [(each.digest, each.without.shape[0]) for each in found.values()]
    usual = max(set(digests), key=digests.count, default=None)
    return {folder: each for folder, each in found.items() if (each.digest, each.without.shape[0]) == usual}


def estimate_row_noise(used: pd.DataFrame, cells: list[str], blocks: dict[str, Blocks], metric: str) -> RowNoise:
    """Estimate the covariance of the cells' means over new test rows.

    Of runs s and blocks g, a value is `mean + training_s + rows_g + mixed_sg`. The variance over g of the means over s
    holds `mixed` divided by the number of runs, which the variance over runs holds, too: it counts once.
    Source: Owen 2007, "The pigeonhole bootstrap"; Searle, Casella & McCulloch 1992, chapter 4 (crossed random effects).
    """
    first = next(iter(blocks.values()))
    by_cell = []
    ordered = used.sort_values("repeat")  # the same seeds stand beside each other
    for cell in cells:
        folders = ordered["folder"][ordered["cell"] == cell].map(str)
        by_cell.append(np.stack([pseudo_values(blocks[folder], metric) for folder in folders]))
    finite = np.isfinite(np.concatenate(by_cell)).all(0)
    by_cell = [each[:, finite] for each in by_cell]
    means = np.stack([each.mean(0) for each in by_cell])
    count = means.shape[1]
    covariance = np.atleast_2d(np.cov(means)) / (first.rows / first.block_rows)
    mixed, shared = np.zeros_like(covariance), min(len(each) for each in by_cell)
    if shared > 1 and all(len(each) == shared for each in by_cell):
        each = np.stack(by_cell)  # cells by runs by blocks
        rest = each - each.mean(1, keepdims=True) - each.mean(2, keepdims=True) + each.mean((1, 2), keepdims=True)
        flat = rest.reshape(len(cells), -1)
        mixed = flat @ flat.T / ((shared - 1) * (count - 1)) / (shared * first.rows / first.block_rows)
    return RowNoise(covariance, mixed, count - 1.0, first.rows)
