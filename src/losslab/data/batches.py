"""Batches of a dataset's rows, in an order that depends on seed and epoch alone, sharded across the ranks of a run.

A batch of rows in memory, or in a memory-mapped cache, is one index operation. Images too large for both are read by
the workers of torch's `DataLoader`.
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from math import ceil
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from losslab.data.dataset import Array, Dataset

# settings of a trainer that count batches
COUNTING = {"max_steps", "limit_train_batches", "val_check_interval", "overfit_batches", "fast_dev_run"}
TOGETHER = 2**23  # bytes: batches that fit are returned together
NORMALISED_AHEAD = 2**29  # bytes: images that fit are normalised once, larger sets batch by batch
KEPT = 2**30  # bytes: rows that fit stay on a GPU, those of larger sets are sent there batch by batch


class Order:
    """Row numbers of several batches at a time: shuffled by (seed, epoch), or in order without a seed.

    Training batches are sharded across ranks, row by row. Evaluation rows are sharded in consecutive blocks, and each
    rank gets equally many batches, the last of which may be empty. Lightning calls `set_epoch` on a loader's `sampler`,
    also when a run is resumed, so the order needs no state.

    Args:
        rows: number of rows.
        size: rows a batch, over all ranks; without a seed, of each rank.
        seed: of the order; `None` to evaluate.
        count: rows of an epoch, the first of the order.
        at_once: batches that are returned together.
        rank, world: this process, and how many there are.
        reshuffle: whether each epoch has an order of its own, and not that of the first.

    >>> [rows.tolist() for rows in Order(5, 2, seed=None)]
    [[0, 1], [2, 3], [4]]
    >>> [rows.tolist() for rows in Order(5, 2, seed=None, rank=1, world=2)]
    [[3, 4], []]
    """

    def __init__(
        self,
        rows: int,
        size: int,
        seed: int | None,
        count: int | None = None,
        at_once: int = 1,
        rank: int = 0,
        world: int = 1,
        reshuffle: bool = True,
    ) -> None:
        self.rows, self.size, self.seed, self.epoch, self.reshuffle = rows, size, seed, 0, reshuffle
        self.count = rows if count is None else count
        self.at_once, self.rank, self.world = at_once, rank, world

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from which the order follows."""
        self.epoch = epoch if self.reshuffle else 0

    def __len__(self) -> int:
        if self.seed is None:
            return ceil(ceil(self.rows / self.world) / self.size)
        return ceil(self.count / (self.size * self.at_once))

    def __iter__(self) -> Iterator[Tensor]:
        if self.seed is None:
            mine = torch.split(torch.arange(self.rows).tensor_split(self.world)[self.rank], self.size)
            yield from (*mine, *[torch.arange(0)] * (len(self) - len(mine)))
            return
        rows = torch.from_numpy(np.random.default_rng([self.seed, self.epoch]).permutation(self.rows))[: self.count]
        for together in torch.split(rows, self.size * self.at_once):
            if self.world == 1:
                yield together
            else:
                yield torch.cat([self.shard(batch) for batch in torch.split(together, self.size)])

    def shard(self, batch: Tensor) -> Tensor:
        """Return this rank's rows of a batch; see `parts`."""
        own = batch.tensor_split(self.world)[self.rank]
        return own if len(own) else batch[:1]

    def parts(self, index: int) -> list[tuple[int, int]]:
        """Return, for each batch returned together as number `index`, the rows of this rank, and of all ranks.

        A rank with no row of a last, short batch is given one that must not count.

        >>> Order(5, 2, seed=0, rank=1, world=2, at_once=3).parts(0)
        [(1, 2), (1, 2), (0, 1)]
        """
        first = index * self.at_once * self.size
        starts = range(first, min(first + self.at_once * self.size, self.count), self.size)
        wholes = [min(self.size, self.count - start) for start in starts]
        return [(whole // self.world + (self.rank < whole % self.world), whole) for whole in wholes]


def at_once(data: Dataset, size: int, trainer: Mapping[str, Any]) -> int:
    """Return how many batches to return together: 32 small ones, one large one, or one if the trainer counts them."""
    if COUNTING & set(trainer):
        return 1
    return max(1, min(32, TOGETHER // (4 * size * int(np.prod(data.x.shape[1:])))))


def epoch_rows(data: Dataset, size: int, drop_last: bool) -> int:
    """Return the number of training rows of an epoch."""
    rows = len(data.split["train"])
    return rows // size * size if drop_last and rows > size else rows


class Batches:
    """Load the batches of one part of a dataset, as Lightning's loaders do.

    Images are floats if they were normalised ahead, else bytes, which `Pixels` normalises on the model's device.

    Args:
        part: `train`, `val` or `test`.
        at_once: batches that are returned together, as one tensor.
        seed: of the order; `None` keeps the order of the split.
        drop_last: whether an epoch leaves out the rows that do not fill a batch.
        reshuffle: whether each epoch has batches of its own; else all have those of the first, in the same order.
        rank, world: this process, and how many there are.
        ahead: whether images may be normalised ahead; not if they are augmented.
        workers: processes that read images from their files.
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
        reshuffle: bool = True,
        *,
        rank: int = 0,
        world: int = 1,
        ahead: bool = True,
        workers: int = 0,
    ) -> None:
        rows = data.split[part]
        count = epoch_rows(data, size, drop_last) if part == "train" else len(rows)
        self.sampler = Order(len(rows), size, seed, count, at_once, rank, world, reshuffle)
        self.rows, self.workers = torch.from_numpy(rows), workers
        truth = (data.y,) if data.scaled_weight is None else (data.y, data.scaled_weight)
        self.truth = [torch.from_numpy(values) for values in truth]
        self.files = None if isinstance(data.x, np.ndarray) else data.x
        if self.files is None:
            self.x = torch.from_numpy(data.x)
        if ahead and data.scale and self.files is None and 4 * self.x[0].numel() * len(rows) <= NORMALISED_AHEAD:
            self.x, self.truth = Pixels(data.scale)(self.x[self.rows]), [each[self.rows] for each in self.truth]
            self.rows = torch.arange(len(rows))
        self.begin = self.taken = 0
        self.kept = False  # whether all its rows are on a device

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield inputs and targets, and weights where the data have them."""
        begin, self.begin = self.begin, 0
        orders = list(islice(self.sampler, begin, None))
        if orders:  # in one copy, as the host waits for each that it makes to a GPU
            rows = torch.cat(orders).to(self.rows.device)
            orders = list(torch.split(self.rows.index_select(0, rows), [len(each) for each in orders]))
        images = map(self.pick, orders) if self.files is None else self.read(orders)
        for self.taken, (rows, x) in enumerate(zip(orders, images, strict=True), begin + 1):
            yield x, *(each.index_select(0, rows) for each in self.truth)

    def keep_on(self, device: torch.device, runs: int = 1) -> None:
        """Keep this part's rows on a device if those of all runs fit, so that picking a batch copies nothing to it."""
        if self.files is None and self.x[0].nbytes * len(self.rows) <= KEPT // runs:
            self.x, *self.truth = (each[self.rows].to(device) for each in (self.x, *self.truth))
            self.rows = torch.arange(len(self.rows), device=device)
            self.kept = True

    def pick(self, rows: Tensor) -> Tensor:
        """Return inputs that are in memory."""
        return self.x.index_select(0, rows)

    def read(self, orders: list[Tensor]) -> DataLoader[Tensor]:
        """Read images from their files, batch by batch, ahead of the training."""
        return DataLoader(Read(self.files), batch_size=None, sampler=orders, num_workers=self.workers)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, int]:
        """Return the progress of the epoch, which Lightning keeps in the checkpoint."""
        return {"taken": self.taken % max(1, len(self))}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next epoch after the batches that this one had taken."""
        self.begin = state["taken"]


class Read:
    """Images in their files, read batch by batch: a dataset for torch's `DataLoader`."""

    def __init__(self, files: Any) -> None:
        self.files = files

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.files[rows.numpy()])


class Pixels(nn.Module):
    """Normalise images of bytes to mean 0 and standard deviation 1 over the training images, channel by channel.

    Everything else passes unchanged, also images that are floats.

    Args:
        scale: mean and standard deviation of each channel, 0 to 255; `None` if the rows are no images.

    >>> Pixels((np.array([100.0]), np.array([50.0])))(torch.full((1, 1, 1, 2), 200, dtype=torch.uint8))
    tensor([[[[2., 2.]]]])
    """

    mean: Tensor
    std: Tensor

    def __init__(self, scale: tuple[Array, Array] | None) -> None:
        super().__init__()
        for name, values in zip(("mean", "std"), scale or ((), ()), strict=True):
            shaped = torch.as_tensor(np.asarray(values, np.float32))[:, None, None] if scale else None
            self.register_buffer(name, shaped)

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.mean.dtype).sub_(self.mean).div_(self.std) if x.dtype == torch.uint8 else x
