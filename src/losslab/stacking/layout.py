"""The state of a stack's optimizer and schedule: one run's part of it, and the parts of all runs joined again.

The first dimension of every weight is the run.
"""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

PER_GROUP = ("base_lrs", "max_lrs", "_last_lr", "lr_lambdas")  # lists in a schedule's state: a value per group

State = dict[str, Any]


def stored(values: Tensor) -> Tensor:
    """View a weight, its gradient or an optimizer's state of it as it lies in memory, or the other way round.

    The gradient of a linear layer's weight comes transposed, so the weight is stored like that: nothing need be copied.
    """
    return values.mT if values.ndim == 3 else values


def is_per_number(value: Any, weight: Tensor) -> bool:
    """Return whether an optimizer keeps this for each number of a weight, and not once for all."""
    return isinstance(value, Tensor) and value.shape == weight.shape


def keep_rows(state: Mapping[str, Any], weight: Tensor, rows: Sequence[int]) -> State:
    """Return the part of a weight's optimizer state that belongs to some of its runs."""
    return {key: value[rows] if is_per_number(value, weight) else value for key, value in state.items()}


def pack_state(state: Mapping[str, Any], weight: Tensor, row: int) -> State:
    """Return one run's part of a weight's optimizer state as an ordinary run would keep it."""
    return {
        key: stored(value)[row].clone(memory_format=torch.contiguous_format)
        if is_per_number(value, weight)
        else copy.deepcopy(value)
        for key, value in state.items()
    }


def pack_optimizer(optimizer: Optimizer, groups: Sequence[int], row: int) -> State:
    """Return one run's part of an optimizer's state, as `Optimizer.state_dict` of an ordinary run.

    Args:
        optimizer: of the stack.
        groups: the indices of the run's parameter groups.
        row: the run's number among those that share these groups.
    """
    state: dict[int, State] = {}
    packed, count = [], 0
    for group in (optimizer.param_groups[index] for index in groups):
        ids = list(range(count, count + len(group["params"])))
        for key, weight in zip(ids, group["params"], strict=True):
            if kept := optimizer.state.get(weight):
                state[key] = pack_state(kept, weight, row)
        count += len(ids)
        packed.append({**group, "params": ids})
    return {"state": state, "param_groups": packed}


def join_state(states: Sequence[Mapping[str, Any]], weight: Tensor) -> State:
    """Return a weight's optimizer state from that of each of its runs: `pack_state` the other way round."""
    return {
        key: stored(torch.stack([state[key] for state in states])).contiguous()
        if isinstance(value, Tensor) and value.shape == weight.shape[1:]
        else value
        for key, value in states[0].items()
    }


def join_optimizers(
    settings: Sequence[tuple[Sequence[list[str]], Sequence[State]]], weights: Sequence[Mapping[str, Tensor]]
) -> State:
    """Return the state of a stack's optimizer from those of its runs: `pack_optimizer` the other way round.

    Args:
        settings: for each setting the names of the parameters in each group, and what each of its runs has kept.
        weights: for each setting, its runs' part of the stack's weights, by name.
    """
    state: dict[int, State] = {}
    packed, first = [], 0
    for (names, runs), mine in zip(settings, weights, strict=True):
        key = 0  # of the parameter in its own run
        for group_names, group in zip(names, runs[0]["param_groups"], strict=True):
            ids = [first + key + number for number in range(len(group_names))]
            packed.append({**group, "params": ids})
            for name in group_names:
                if joined := join_state([run["state"].get(key, {}) for run in runs], mine[name]):
                    state[first + key] = joined
                key += 1
        first += key
    return {"state": state, "param_groups": packed}


def pick_groups(state: Any, groups: Sequence[int]) -> Any:
    """Return the state of a schedule for some parameter groups only.

    >>> pick_groups({"last_epoch": 3, "base_lrs": [0.1, 0.2, 0.3]}, [1, 2])
    {'last_epoch': 3, 'base_lrs': [0.2, 0.3]}
    """
    if isinstance(state, dict):
        return {
            key: [value[group] for group in groups]
            if key in PER_GROUP and isinstance(value, list)
            else pick_groups(value, groups)
            for key, value in state.items()
        }
    return [pick_groups(each, groups) for each in state] if isinstance(state, list) else copy.deepcopy(state)


def join_groups(states: Sequence[Any]) -> Any:
    """Return the state of a schedule from those for some of its parameter groups: `pick_groups` the other way round.

    >>> join_groups([{"last_epoch": 3, "base_lrs": [0.1]}, {"last_epoch": 3, "base_lrs": [0.2, 0.3]}])
    {'last_epoch': 3, 'base_lrs': [0.1, 0.2, 0.3]}
    """
    first = states[0]
    if isinstance(first, dict):
        return {
            key: [each for state in states for each in state[key]]
            if key in PER_GROUP and isinstance(value, list)
            else join_groups([state[key] for state in states])
            for key, value in first.items()
        }
    return [join_groups(each) for each in zip(*states, strict=True)] if isinstance(first, list) else first
