"""The batches of several runs, stacked."""

from collections.abc import Iterator, Sequence

import torch

from losslab.data.batches import Batches, Order
from losslab.training.epochs import Batch


class StackedOrder(Order):
    """The orders of several runs' rows, which Lightning takes for one sampler.

    Args:
        orders: of each run; all of as many rows.
    """

    def __init__(self, orders: Sequence[Order]) -> None:
        first = orders[0]
        super().__init__(first.rows, first.size, first.seed, first.count, first.at_once)
        self.orders = orders

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from which the order of each run follows."""
        for order in self.orders:
            order.set_epoch(epoch)


class StackedBatches:
    """The batches of several runs, each in its own order, stacked: inputs, targets and weights `(runs, rows, ...)`.

    Args:
        loaders: of each run; all of as many rows.
    """

    batch_sampler = None  # Lightning looks for it

    def __init__(self, loaders: Sequence[Batches]) -> None:
        self.loaders = list(loaders)

    @property
    def sampler(self) -> StackedOrder:
        """The orders of all runs, for Lightning, which sets their epoch."""
        return StackedOrder([loader.sampler for loader in self.loaders])

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[Batch]:
        for parts in zip(*self.loaders, strict=True):
            yield tuple(torch.stack(each) for each in zip(*parts, strict=True))

    def keep(self, runs: Sequence[int]) -> None:
        """Go on with these runs only."""
        self.loaders = [self.loaders[run] for run in runs]

    def state_dict(self) -> dict[str, int]:
        """Return how far the epoch has come, which is the same for each."""
        return self.loaders[0].state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Start the next epoch there."""
        for loader in self.loaders:
            loader.load_state_dict(state)
