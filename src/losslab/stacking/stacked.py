"""Modules of one structure called as one by `torch.func.vmap`, and a dropout that has a rule for it."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

from losslab.stacking.layout import stored


class Stacked(nn.Module):
    """Modules of one structure called as one, each with its own parameters, buffers and inputs.

    Args:
        modules: equal but for the values of their parameters and buffers.

    >>> both = Stacked([nn.Linear(2, 1), nn.Linear(2, 1)])
    >>> both(torch.zeros(2, 5, 2)).shape
    torch.Size([2, 5, 1])
    """

    def __init__(self, modules: Sequence[nn.Module]) -> None:
        super().__init__()
        self.bare = [copy.deepcopy(modules[0]).to("meta")]  # in a list, so that its weights are not this module's
        parameters, buffers = stack_module_state(list(modules))
        self.own_name = {name: name.replace(".", "/") for name in (*parameters, *buffers)}  # a dot would be a submodule
        self.parameter_names, self.buffer_names = list(parameters), list(buffers)
        for name, stacked in parameters.items():
            self.register_parameter(self.own_name[name], nn.Parameter(stored(stored(stacked.detach()).contiguous())))
        for name, stacked in buffers.items():
            self.register_buffer(self.own_name[name], stacked)

    def state(self) -> dict[str, Tensor]:
        """Return parameters and buffers by their names in one module; the first dimension is the module."""
        return {name: getattr(self, own) for name, own in self.own_name.items()}

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters alone."""
        return {name: getattr(self, self.own_name[name]) for name in self.parameter_names}

    def forward(self, *inputs: Tensor, chunk: int | None = None, **same: Any) -> Any:
        """Call each module on its inputs.

        Args:
            inputs: of all modules, stacked.
            chunk: how many modules to call at once; `None` for all.
            same: keys that are the same for all.
        """
        (bare,) = self.bare
        if bare.training != self.training:
            bare.train(self.training)
        each = vmap(lambda state, *mine: functional_call(bare, state, mine, same), chunk_size=chunk)
        return each(self.state(), *inputs)

    def keep(self, modules: Sequence[int]) -> None:
        """Go on with these modules only."""
        for name, weight in list(self.named_parameters()):
            setattr(self, name, nn.Parameter(stored(stored(weight.detach())[modules])))
        for name, values in list(self.named_buffers()):
            setattr(self, name, values[modules])


class DropoutFactors(torch.autograd.Function):
    """Dropout's factors, 0 or `1 / (1 - p)`; each run draws from its own generator, as it would alone."""

    @staticmethod
    def forward(x: Tensor, p: float, generators: list[torch.Generator]) -> Tensor:
        (generator,) = generators
        return torch.empty_like(x).bernoulli_(1 - p, generator=generator).div_(1 - p)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, None, None

    @staticmethod
    def vmap(info: Any, dims: Any, x: Tensor, p: float, generators: list[torch.Generator]) -> tuple[Tensor, int]:
        each = x.movedim(dims[0], 0)
        drawn = [
            torch.empty_like(part).bernoulli_(1 - p, generator=g) for part, g in zip(each, generators, strict=True)
        ]
        return torch.stack(drawn).div_(1 - p), 0


class Dropout(nn.Module):
    """Dropout of several runs at once, to be called under `torch.func.vmap`.

    Args:
        p: the probability that a number is dropped.
        generators: of each run; the list belongs to the stack and grows shorter when runs end.
    """

    def __init__(self, p: float, generators: list[torch.Generator]) -> None:
        super().__init__()
        self.p, self.generators = p, generators

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept: Tensor = x * DropoutFactors.apply(x.detach(), self.p, self.generators)
        return kept
