"""Modules of one structure called as one by `torch.func.vmap`, and a dropout that has a rule for it."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap


class Stacked(nn.Module):
    """Modules of one structure called as one, each with its own parameters, buffers and inputs.

    Args:
        modules: equal but for the values of their parameters and buffers.
        generators: from which the dropout of each module draws.

    >>> both = Stacked([nn.Linear(2, 1), nn.Linear(2, 1)])
    >>> both(torch.zeros(2, 5, 2)).shape
    torch.Size([2, 5, 1])
    """

    def __init__(self, modules: Sequence[nn.Module], generators: Sequence[torch.Generator] = ()) -> None:
        super().__init__()
        self.bare = [copy.deepcopy(modules[0]).to("meta")]  # in a list, so that its weights are not this module's
        parameters, buffers = stack_module_state(list(modules))
        self.own_name = {name: name.replace(".", "/") for name in (*parameters, *buffers)}  # a dot would be a submodule
        self.parameter_names = list(parameters)
        for name, values in parameters.items():
            self.register_parameter(self.own_name[name], nn.Parameter(values.detach()))
        for name, values in buffers.items():
            self.register_buffer(self.own_name[name], values)
        for name, layer in modules[0].named_modules():
            if isinstance(
                layer, nn.Linear
            ):  # its gradient comes transposed: lying in memory like that, no step copies it
                weight = getattr(self, self.own_name[f"{name}.weight".lstrip(".")])
                weight.data = weight.data.mT.contiguous().mT
            elif type(layer) is nn.Dropout and layer.p > 0:
                self.bare[0].set_submodule(name, Dropout(layer.p, generators))

    def weights(self) -> dict[str, Tensor]:
        """Return the parameters by their names in one module; the first dimension is the module."""
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
        return each({name: getattr(self, own) for name, own in self.own_name.items()}, *inputs)


class DropoutFactors(torch.autograd.Function):
    """Dropout's factors, 0 or `1 / (1 - p)`; each run draws from its own generator, as it would alone."""

    @staticmethod
    def forward(x: Tensor, p: float, generators: Sequence[torch.Generator]) -> Tensor:
        raise NotImplementedError("it is called for several runs at once")

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(info: Any, dims: Any, x: Tensor, p: float, generators: Sequence[torch.Generator]) -> tuple[Tensor, int]:
        factors = torch.empty_like(x.movedim(dims[0], 0))
        for each, generator in zip(factors, generators, strict=True):
            each.bernoulli_(1 - p, generator=generator)
        return factors.div_(1 - p), 0


class Dropout(nn.Module):
    """Dropout of several runs at once, to be called under `torch.func.vmap`.

    Args:
        p: the probability that a number is dropped.
        generators: of each run.
    """

    def __init__(self, p: float, generators: Sequence[torch.Generator]) -> None:
        super().__init__()
        self.p, self.generators = p, generators

    def forward(self, x: Tensor) -> Tensor:
        return x * DropoutFactors.apply(x.detach(), self.p, self.generators) if self.training else x
