"""Batches cut from tensors in memory: one index operation a batch, in an order that seed and epoch alone decide."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from losslab.data.dataset import Dataset

COUNTING = {"max_steps", "limit_train_batches", "val_check_interval", "overfit_batches", "fast_dev_run"}
TOGETHER = 2**24  # bytes: batches that fit into this are handed out together
NORMALISED_AHEAD = 2**29  # bytes: images that fit are normalised once, larger sets a batch at a time


class Order:
    """Row numbers, batch by batch; shuffled anew each epoch by (seed, epoch), or straight through without a seed.

    Lightning calls `set_epoch` on a loader's `sampler`, also when a run is resumed: the order needs no state.

    >>> [rows.tolist() for rows in Order(5, 2, seed=None)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, rows: int, size: int, seed: int | None, count: int | None = None) -> None:
        self.rows, self.size, self.seed, self.epoch = rows, size, seed, 0
        self.count = rows if count is None else count  # rows that an epoch takes, the first of the order

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def __iter__(self) -> Iterator[Tensor]:
        if self.seed is None:
            rows = torch.arange(self.rows)
        else:
            rows = torch.from_numpy(np.random.default_rng([self.seed, self.epoch]).permutation(self.rows))
        yield from torch.split(rows[: self.count], self.size)


def at_once(data: Dataset, size: int, trainer: Mapping[str, Any]) -> int:
    """How many batches to hand out together: 16 small ones, one large one, or one where the trainer counts batches."""
    if COUNTING & set(trainer):
        return 1
    return max(1, min(16, TOGETHER // (4 * size * int(data.x[0].size))))


class Batches:
    """What Lightning takes for a loader: the batches of one part of a dataset, images normalised.

    Args:
        data: the dataset.
        part: `train`, `val` or `test`.
        size: rows a batch.
        at_once: batches that are handed out together, as one tensor.
        seed: of the order; `None` keeps the rows as they stand.
        drop_last: whether an epoch leaves out the rows that do not fill a batch.
    """

    batch_sampler = None  # Lightning looks for it

    def __init__(
        self,
        data: Dataset,
        part: str,
        size: int,
        at_once: int = 1,
        seed: int | None = None,
        drop_last: bool = False,
    ) -> None:
        rows = data.rows[part]
        count = len(rows) // size * size if drop_last and len(rows) > size else len(rows)
        self.x, self.y = torch.from_numpy(data.x[rows]), torch.from_numpy(data.y[rows])
        self.sampler = Order(len(rows), size * at_once, seed, count)
        self.scale = data.scale and tuple(torch.from_numpy(values)[:, None, None] for values in data.scale)
        if self.scale and 4 * self.x.numel() <= NORMALISED_AHEAD:
            self.x, self.scale = self.normalised(self.x), None

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self.sampler:
            x, y = self.x.index_select(0, rows), self.y.index_select(0, rows)
            yield self.normalised(x) if self.scale else x, y

    def normalised(self, x: Tensor) -> Tensor:
        """Images with mean 0 and standard deviation 1 over the training images, channel by channel."""
        assert self.scale
        return x.float().sub_(self.scale[0]).div_(self.scale[1])
