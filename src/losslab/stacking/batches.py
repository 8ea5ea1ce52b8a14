"""The batches of several runs, stacked."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from losslab.data.batches import Batches
from losslab.training.epochs import Batch


class StackedBatches:
    """The batches of several runs, each in its own order, stacked: inputs, targets and weights `(runs, rows, ...)`.

    Args:
        loaders: of each run; all of as many rows.
    """

    batch_sampler = None  # Lightning looks for it

    def __init__(self, loaders: Sequence[Batches]) -> None:
        self.loaders, self.sampler = loaders, self
        self.held: tuple[Tensor, ...] = ()  # where they fit on a device: inputs, targets and weights, run after run

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, from which the order of each run follows; Lightning calls this on a loader's `sampler`."""
        for loader in self.loaders:
            loader.sampler.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.loaders[0])

    def __iter__(self) -> Iterator[Batch]:
        if self.held:
            yield from self.pick()
            return
        for parts in zip(*self.loaders, strict=True):
            yield tuple(torch.stack(each) for each in zip(*parts, strict=True))

    def state_dict(self) -> dict[str, int]:
        """Return the progress of the epoch, which is the same for each run."""
        return self.loaders[0].state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Do nothing: no stack is resumed. Lightning asks for `state_dict` only where this is there too."""

    def pick(self) -> Iterator[Batch]:
        """Pick the rows of all runs in one call, which a GPU prefers to one call for each run."""
        starts = torch.arange(len(self.loaders)).unsqueeze(1) * len(self.loaders[0].rows)
        orders = [torch.stack(rows) + starts for rows in zip(*(loader.sampler for loader in self.loaders), strict=True)]
        for self.loaders[0].taken, rows in enumerate(orders, 1):
            index = rows.flatten().to(self.held[0].device)
            yield tuple(each.index_select(0, index).reshape(*rows.shape, *each.shape[1:]) for each in self.held)

    def keep_on(self, device: torch.device) -> None:
        """Keep the rows of all runs on a device if they fit."""
        for loader in self.loaders:
            loader.keep_on(device, len(self.loaders))
        if all(loader.kept for loader in self.loaders):
            each = zip(*((loader.x, *loader.truth) for loader in self.loaders), strict=True)
            self.held = tuple(torch.cat(parts) for parts in each)
            shares = zip(*(torch.chunk(values, len(self.loaders)) for values in self.held), strict=True)
            for loader, (x, *truth) in zip(self.loaders, shares, strict=True):  # views of it
                loader.x, loader.truth = x, truth
