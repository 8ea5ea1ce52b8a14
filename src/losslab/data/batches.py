"""Batches cut from tensors in memory: one index operation a batch, in an order that seed and epoch alone decide."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from losslab.data.dataset import Dataset


class Order:
    """Row numbers, batch by batch; shuffled anew each epoch by (seed, epoch), or straight through without a seed.

    Lightning calls `set_epoch` on a loader's `sampler`, also when a run is resumed: the order needs no state.

    >>> [rows.tolist() for rows in Order(5, 2, seed=None)]
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, count: int, size: int, seed: int | None) -> None:
        self.count, self.size, self.seed, self.epoch = count, size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.count // self.size)

    def __iter__(self) -> Iterator[Tensor]:
        if self.seed is None:
            rows = torch.arange(self.count)
        else:
            rows = torch.from_numpy(np.random.default_rng([self.seed, self.epoch]).permutation(self.count))
        yield from rows.split(self.size)


class Batches:
    """What Lightning takes for a loader: the batches of one part of a dataset; images are normalised by the training images, a batch at a time.

    Args:
        data: the dataset.
        part: `train`, `val` or `test`.
        size: rows a batch, or `all`.
        seed: of the order; `None` keeps the rows as they stand.
    """

    batch_sampler = None  # Lightning looks for it

    def __init__(self, data: Dataset, part: str, size: int | str, seed: int | None = None) -> None:
        rows = data.rows[part]
        self.x, self.y = torch.from_numpy(data.x[rows]), torch.from_numpy(data.y[rows])
        self.sampler = Order(len(rows), len(rows) if size == "all" else int(size), seed)
        scale = data.scale()
        self.scale = scale and tuple(torch.from_numpy(values)[:, None, None] for values in scale)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for rows in self.sampler:
            x = self.x[rows]
            if self.scale:
                x = x.float().sub_(self.scale[0]).div_(self.scale[1])
            yield x, self.y[rows]
