"""Batches of a dataset's rows, in an order that seed and epoch alone decide, shared out to the processes of a run.

Rows in memory, or in a memory-mapped cache, cost one index operation a batch; what is too large for either is read by
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

COUNTING = {"max_steps", "limit_train_batches", "val_check_interval", "overfit_batches", "fast_dev_run"}
TOGETHER = 2**23  # bytes: batches that fit into this are handed out together
NORMALISED_AHEAD = 2**29  # bytes: images that fit are normalised once, larger sets a batch at a time


class Order:
    """Row numbers, several batches at once; shuffled anew each epoch by (seed, epoch), or straight through without one.

    Of each batch that is trained on, every process gets its part; of rows that are judged, every process gets as many
    batches, which follow on from those of the process before. Lightning calls `set_epoch` on a loader's `sampler`, also
    when a run is resumed: the order needs no state.

    Args:
        rows: how many there are.
        size: rows a batch, of all processes together; of each where there is no seed.
        seed: of the order.
        count: rows that an epoch takes, the first of the order.
        at_once: batches that are handed out together.
        rank, world: which process this is, and of how many.

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
    ) -> None:
        self.rows, self.size, self.seed, self.epoch = rows, size, seed, 0
        self.count = rows if count is None else count
        self.at_once, self.rank, self.world = at_once, rank, world

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

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
            yield together if self.world == 1 else torch.cat(
                [part if len(part) else batch[:1] for batch in torch.split(together, self.size)
                 for part in [batch.tensor_split(self.world)[self.rank]]]
            )  # fmt: skip

    def parts(self, index: int) -> list[tuple[int, int]]:
        """Of each batch that is handed out together as number `index`: the rows of this process, and of all.

        A process that gets none of a last, short batch is handed a row that must not count.

        >>> Order(5, 2, seed=0, rank=1, world=2, at_once=3).parts(0)
        [(1, 2), (1, 2), (0, 1)]
        """
        first = index * self.at_once * self.size
        starts = range(first, min(first + self.at_once * self.size, self.count), self.size)
        wholes = [min(self.size, self.count - start) for start in starts]
        return [(whole // self.world + (self.rank < whole % self.world), whole) for whole in wholes]


def at_once(data: Dataset, size: int, trainer: Mapping[str, Any]) -> int:
    """How many batches to hand out together: 32 small ones, one large one, or one where the trainer counts batches."""
    if COUNTING & set(trainer):
        return 1
    return max(1, min(32, TOGETHER // (4 * size * int(np.prod(data.x.shape[1:])))))


def epoch_rows(data: Dataset, size: int, drop_last: bool) -> int:
    """How many training rows an epoch takes."""
    rows = len(data.split["train"])
    return rows // size * size if drop_last and rows > size else rows


class Batches:
    """What Lightning takes for a loader: the batches of one part of a dataset.

    Images come as floats that are normalised already, or as bytes, for `Pixels` to normalise where the model is.

    Args:
        data: the dataset.
        part: `train`, `val` or `test`.
        size: rows a batch.
        at_once: batches that are handed out together, as one tensor.
        seed: of the order; `None` keeps the rows as they stand.
        drop_last: whether an epoch leaves out the rows that do not fill a batch.
        rank, world: which process this is, and of how many.
        ahead: whether images may be normalised ahead; not where they are augmented.
        workers: processes that read what is not in memory.
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
        *,
        rank: int = 0,
        world: int = 1,
        ahead: bool = True,
        workers: int = 0,
    ) -> None:
        rows = data.split[part]
        count = epoch_rows(data, size, drop_last) if part == "train" else len(rows)
        self.sampler = Order(len(rows), size, seed, count, at_once, rank, world)
        self.rows, self.y, self.workers = torch.from_numpy(rows), torch.from_numpy(data.y), workers
        self.files = None if isinstance(data.x, np.ndarray) else data.x
        if self.files is None:
            self.x = torch.from_numpy(data.x)
        if ahead and data.scale and self.files is None and 4 * self.x[0].numel() * len(rows) <= NORMALISED_AHEAD:
            self.x, self.y = Pixels(data.scale)(self.x[self.rows]), self.y[self.rows]
            self.rows = torch.arange(len(rows))
        self.begin = self.taken = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        begin, self.begin = self.begin, 0
        orders = [self.rows.index_select(0, rows) for rows in islice(self.sampler, begin, None)]
        images = map(self.pick, orders) if self.files is None else self.read(orders)
        for self.taken, (rows, x) in enumerate(zip(orders, images, strict=True), begin + 1):
            yield x, self.y.index_select(0, rows)

    def pick(self, rows: Tensor) -> Tensor:
        """Inputs that are in memory."""
        return self.x.index_select(0, rows)

    def read(self, orders: list[Tensor]) -> DataLoader[Tensor]:
        """Images from their files, a batch at a time, ahead of the training."""
        return DataLoader(Read(self.files), batch_size=None, sampler=orders, num_workers=self.workers)  # type: ignore[arg-type]

    def state_dict(self) -> dict[str, int]:
        """How far the epoch has come; Lightning keeps it in the checkpoint."""
        return {"taken": self.taken % max(1, len(self))}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """The next epoch begins there."""
        self.begin = state["taken"]


class Read:
    """Rows of what is not in memory, as torch's `DataLoader` asks for them."""

    def __init__(self, files: Any) -> None:
        self.files = files

    def __getitem__(self, rows: Tensor) -> Tensor:
        return torch.from_numpy(self.files[rows.numpy()])


class Pixels(nn.Module):
    """Images of bytes become floats of mean 0 and standard deviation 1 over the training images, channel by channel.

    Everything else goes through as it is, also images that are floats already.

    Args:
        scale: mean and standard deviation of each channel, 0 to 255; `None` where there are no images.

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
