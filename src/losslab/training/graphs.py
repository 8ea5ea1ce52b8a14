"""Steps of training as CUDA graphs: a GPU gets the kernels of several steps in one call, and waits for no Python."""

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from losslab.internals.torch import has_module_hooks, has_step_hooks

KNOWN = ("torch.nn.", "torchvision.models.", "losslab.data.", "losslab.losses.", "losslab.models", "losslab.stacking.",
         "losslab.tasks.", "losslab.training.")  # fmt: skip


class Steps(NamedTuple):
    """What several training steps have found, still on the device."""

    losses: list[list[Tensor]]  # of each step those of its batches, and again for each time that the optimizer asked
    scores: Tensor  # of all rows
    norm: Tensor | None  # of the first step's gradients, before clipping, if it was asked for


class Recording(NamedTuple):
    """A graph, the tensors that it reads and those that it writes."""

    graph: torch.cuda.CUDAGraph
    batch: tuple[Tensor, ...]
    steps: Steps


class Graphs:
    """Take training steps through recordings of them.

    The first batches of a shape are trained on as usual, which loads kernels and makes the optimizer's state. The next
    ones are recorded, and all that follow replay the recording: the same kernels on the same numbers. A recording holds
    the numbers of the optimizer, so it is made anew where they change.

    Args:
        take: takes steps on batches; it runs the same operations each time and fetches nothing from the device.
        optimizers: those that step.
        allowed: whether the steps may be recorded, asked before each recording.
        generators: from which the steps draw, beside the device's own.

    Source: Nguyen et al., Accelerating PyTorch with CUDA Graphs, 2021.
    """

    def __init__(
        self,
        take: Callable[..., Steps],
        optimizers: Sequence[Optimizer],
        allowed: Callable[[], bool] = lambda: True,
        generators: Sequence[torch.Generator] = (),
    ) -> None:
        self.take, self.optimizers, self.allowed, self.generators = take, optimizers, allowed, generators
        self.recordings: dict[Hashable, Recording | None] = {}
        self.numbers: list[dict[str, Any]] = []
        self.pool = torch.cuda.graph_pool_handle()
        self.works = True

    def __call__(self, batch: tuple[Tensor, ...], *facts: Any) -> Steps:
        """Take the steps.

        Args:
            batch: inputs, targets and so on.
            facts: what else `take` is called with; each value gets a recording of its own.
        """
        hooked = any(map(has_step_hooks, self.optimizers))  # such as a moving average's, which counts steps
        if hooked or not self.works:
            return self.take(batch, *facts)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        numbers = [
            {key: value for key, value in group.items() if key != "params"}
            | {"weights": [(weight.data_ptr(), weight.requires_grad) for weight in group["params"]]}
            for group in groups
        ]
        if numbers != self.numbers:
            self.numbers, self.recordings = numbers, {}
        key = repr(facts), tuple(values.shape for values in batch)
        if key not in self.recordings:
            self.recordings[key] = None
            return self.take(batch, *facts)
        found = self.recordings[key]
        if found is None:
            self.works = self.allowed() and enough_memory()
            if not self.works:
                return self.take(batch, *facts)
            try:
                found = self.recordings[key] = self.record(batch, *facts)
            except RuntimeError:  # an operation that cannot be recorded, or too little memory for it
                self.works, self.recordings = False, {}
                return self.take(batch, *facts)
        for held, values in zip(found.batch, batch, strict=True):
            held.copy_(values)
        found.graph.replay()
        return found.steps._replace(scores=found.steps.scores.clone())  # the next replay writes to the same tensors

    def record(self, batch: tuple[Tensor, ...], *facts: Any) -> Recording:
        """Record the steps, without taking them."""
        held = tuple(values.clone() for values in batch)
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        groups = [group for each in self.optimizers for group in each.param_groups if "capturable" in group]
        for group in groups:  # the fused form ignores it, but torch records no step without it
            group["capturable"] = True
        try:
            with torch.cuda.graph(graph, self.pool, capture_error_mode="thread_local"):
                return Recording(graph, held, self.take(held, *facts))
        finally:
            for group in groups:
                group["capturable"] = False


def enough_memory() -> bool:
    """Return whether a GPU has room for recorded steps, whose memory nothing else can use, beside those as usual."""
    return torch.cuda.mem_get_info()[0] >= 2 * torch.cuda.max_memory_reserved()


def reason_against(module: nn.Module, optimizers: Sequence[Optimizer], schedule: dict[str, Any]) -> str | None:
    """Return why steps cannot be recorded; `None` if they can.

    Torch's modules and losslab's own do the same at each step. A user's model may count its calls or look at its
    numbers, and a recording would repeat neither. Nor would it call hooks.
    """
    if has_module_hooks(module):
        return "something is called at each step"
    for each in module.modules():
        if not type(each).__module__.startswith(KNOWN):
            return f"{type(each).__name__} is not known to do the same at each step"
    if schedule["interval"] == "step" or schedule["warmup"]:
        return "the learning rate changes at each step"
    for optimizer in optimizers:
        fused = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW) and optimizer.defaults["fused"]
        if type(optimizer) is not torch.optim.SGD and not fused:
            return f"{type(optimizer).__name__} computes on the CPU at each step"
    return None
