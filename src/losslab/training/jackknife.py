"""What a run said of its rows, and its metrics without one block of test rows after the other."""

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from losslab.data.dataset import Dataset
from losslab.record.blocks import Array, Blocks, assign_blocks, digest_rows
from losslab.record.row_scores import RowScores, write_row_scores
from losslab.tasks import Task

CHUNK_BYTES = 2**20  # of scores that are evaluated at once: more would not stay in a CPU's cache


def record_rows(folder: Path, data: Dataset, task: Task, scores: Mapping[str, Tensor]) -> None:
    """Write what a run said of its rows into its folder, with its metrics without each block of test rows.

    Args:
        scores: the raw scores of the `test` and `val` rows, in the order of the split.

    Raises:
        OSError: if the disk does not take it.
    """
    whole = [part for part, each in scores.items() if len(each) == len(data.split[part])]
    parts = {
        part: RowScores(data.split[part], data.targets(part), scores[part].numpy(), data.weights(part))
        for part in whole
    }
    learned = {name: values.float().numpy() for name, values in task.named_buffers()}
    blocks = None
    if "test" in parts:
        y, weight = torch.from_numpy(data.targets("test")), data.weights("test")
        given = None if weight is None else torch.from_numpy(weight)
        blocks = leave_out_blocks(task, scores["test"], y, data.split["test"], given)
        if blocks is not None:
            blocks = replace(blocks, digest=digest_rows(data.split["test"], data.given_weights("test")))
    write_row_scores(folder, parts, learned, blocks)


def leave_out_blocks(task: Task, scores: Tensor, y: Tensor, rows: Array, weight: Tensor | None = None) -> Blocks | None:
    """Compute the task's metrics on all test rows, and without each block of them; `None` for a single row.

    Args:
        task: fitted, as it was tested.
        scores, y: raw scores `(R, S)` and canonical targets, on the CPU.
        rows: the number of each row in the data set.
        weight: of each row (R,), if the data have weights.
    """
    seen = (scores, y) if weight is None else (scores, y, weight)
    block = assign_blocks(rows)
    count = int(block.max(initial=-1)) + 1
    if not count:
        return None
    with torch.no_grad():
        values = task.metrics(*seen)
        without = all_at_once(task, seen, block, count)
        if without is None:
            without = torch.stack([one(task, seen, block, number, list(values)) for number in range(count)])
    each = torch.stack([value.double() for value in values.values()])
    return Blocks(list(values), each.numpy(), without.numpy(), len(rows), digest_rows(rows))


def all_at_once(task: Task, seen: Sequence[Tensor], block: Array, count: int) -> Tensor | None:
    """Compute the metrics without each block `(G, M)`, of some blocks in one call.

    Returns:
        `None` where the rows are too many for that to be quicker, and where the metrics do not run under vmap, which a
        task of the user's own need not care for.
    """
    chunk = CHUNK_BYTES // max(1, seen[0].numel() * seen[0].element_size())
    if chunk < 2:
        return None
    each = torch.func.vmap(lambda *left: torch.stack([value.double() for value in task.metrics(*left).values()]))
    parts = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # torch warns where vmap goes through the blocks one by one
            for start in range(0, count, chunk):
                numbers = np.arange(start, min(start + chunk, count))
                left = torch.from_numpy(np.nonzero(block != numbers[:, None])[1].reshape(len(numbers), -1))
                parts.append(each(*(values[left] for values in seen)))
    except Exception:
        return None
    return torch.cat(parts)


def one(task: Task, seen: Sequence[Tensor], block: Array, number: int, names: list[str]) -> Tensor:
    """Compute the metrics without one block `(M,)`; NaN where a user's own task cannot, such as without a class."""
    left = torch.from_numpy(np.flatnonzero(block != number))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = task.metrics(*(values[left] for values in seen))
    except Exception:
        found = {}
    return torch.tensor([float(found.get(name, math.nan)) for name in names], dtype=torch.float64)
