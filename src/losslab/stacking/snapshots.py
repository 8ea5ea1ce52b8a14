"""The checkpoint of each run in a stack, of an epoch of its own, such as its best: one tensor holds all of them."""

import copy
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning.utilities import move_data_to_device
from torch import Tensor

from losslab.stacking.module import Stack, turn

SHARED = ("epoch", "global_step", "pytorch-lightning_version", "loops")  # in a checkpoint, the same for all runs


class Snapshots:
    """Keep what the checkpoint of each run holds, on the CPU.

    A stack's tensors have a row for each run. So any number of runs are kept by copying rows of a few tensors.

    Args:
        stack: the runs, with their optimizers.
    """

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        runs: Sequence[int] = range(len(stack.runs))
        kinds = [(f"evaluators.{number}", each, some) for number, (some, each) in enumerate(stack.kinds)]
        self.models = [("scores", stack.scores, runs), *kinds]
        self.spans = [range(part.start, part.stop) for part in stack.parts]  # the runs of each optimizer
        self.rows: dict[Hashable, Tensor] = {}
        self.others: dict[int, dict[str, Any]] = {}  # of each run, what its checkpoint holds beside them

    def tensors(self, saved: Mapping[str, Any]) -> Iterator[tuple[Hashable, Tensor, Sequence[int]]]:
        """Yield each tensor of a stack's checkpoint, with a name for its place and the runs of its rows."""
        for prefix, stacked, runs in self.models:
            for own in stacked.own_name.values():
                yield f"{prefix}.{own}", saved["state_dict"][f"{prefix}.{own}"], runs
        for index, runs in enumerate(self.spans):
            for key, state in saved["optimizer_states"][index]["state"].items():
                for what, value in state.items():
                    if self.has_rows(index, key, value):
                        yield (index, key, what), value, runs

    def has_rows(self, index: int, key: int, value: Any) -> bool:
        """Return whether a value that an optimizer keeps beside its weight number `key` has a row for each run."""
        return isinstance(value, Tensor) and value.shape == list(self.stack.slots[index].values())[key].shape

    def take(self, saved: Mapping[str, Any], runs: Mapping[int, Mapping[str, Any]]) -> None:
        """Keep some runs as they are now.

        Args:
            saved: Lightning's checkpoint of the stack.
            runs: by their numbers, what their checkpoints hold beside what a stack knows.
        """
        found: dict[int, Tensor] = {}  # the rows of these runs, by the runs that a tensor has
        for place, values, members in self.tensors(saved):
            if (at := found.get(id(members))) is None:
                at = found[id(members)] = torch.tensor([row for row, run in enumerate(members) if run in runs])
            if place not in self.rows:
                self.rows[place] = torch.empty_like(values, device="cpu")
            if len(at) == len(members):
                self.rows[place].copy_(values)
            elif len(at):
                self.rows[place].index_copy_(0, at, values.index_select(0, at.to(values.device)).cpu())
        shared = {key: saved[key] for key in (*SHARED, "lr_schedulers")}
        shared["optimizer_states"] = [
            {**each, "state": {key: self.without_rows(index, key, state) for key, state in each["state"].items()}}
            for index, each in enumerate(saved["optimizer_states"])
        ]
        shared = move_data_to_device(copy.deepcopy(shared), torch.device("cpu"))
        on_cpu = self.stack.device.type == "cpu"
        for run, more in runs.items():
            draws = self.stack.generators[run].get_state()
            rng = {"rng": draws if on_cpu else self.stack.runs[run].draws, "gpu_rng": None if on_cpu else draws}
            so_far = vars(self.stack.states[run]).copy()
            self.others[run] = {**shared, "processes": [{**rng, "seen": ([], [])}], "epoch_so_far": so_far, **more}

    def without_rows(self, index: int, key: int, state: Mapping[str, Any]) -> dict[str, Any]:
        """Return what an optimizer keeps beside a weight; `None` in the place of what is kept as rows."""
        return {what: None if self.has_rows(index, key, value) else value for what, value in state.items()}

    def checkpoint(self, run: int) -> dict[str, Any]:
        """Return what an ordinary run would have kept."""
        others, index = self.others[run], self.stack.optimizer_index(run)
        state = {
            name: self.row(f"{prefix}.{own}", members.index(run))
            for prefix, stacked, members in self.models
            if run in members
            for name, own in stacked.own_name.items()
        }
        optimizer, weights = others["optimizer_states"][index], self.stack.scores.weights()
        at, names = self.spans[index].index(run), list(self.stack.slots[index])
        kept = {
            key: {
                what: self.row((index, key, what), at, weights[names[key]]) if value is None else value
                for what, value in each.items()
            }
            for key, each in optimizer["state"].items()
        }
        return {
            **others,
            "state_dict": {name: state[name] for name in self.stack.names},
            "optimizer_states": [{**optimizer, "state": kept}],
            "lr_schedulers": [others["lr_schedulers"][index]],
        }

    def row(self, place: Hashable, at: int, weight: Tensor | None = None) -> Tensor:
        """Return a copy of a row, as it would lie in memory alone; `weight` where it is of that weight's optimizer."""
        values = self.rows[place] if weight is None else turn(weight, self.rows[place])
        return values[at].detach().clone(memory_format=torch.contiguous_format)
