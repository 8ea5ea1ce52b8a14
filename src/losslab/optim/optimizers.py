"""The optimizers that torch.optim lacks."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from losslab.errors import Refused


class SAM(Optimizer):
    """Sharpness-aware minimization: `base`'s step by the gradient at `w + rho g / |g|`, where `g` is that at `w`.

    The closure runs twice a step. Running statistics, such as those of batch norm, see both runs.

    Args:
        params: parameters or groups of them.
        lr: passed to `base`.
        rho: the distance between the two gradients' weights.
        base: called with the groups and `lr`; shares groups and state with this optimizer.

    Raises:
        Refused: if a step has no closure, which is so with a gradient scaler (`16-mixed`).

    >>> w = nn.Parameter(torch.tensor([1.0]))
    >>> sam = SAM([w], lr=0.1, rho=0.5, base=torch.optim.SGD)
    >>> def closure() -> Tensor:
    ...     sam.zero_grad()
    ...     loss = (w**2).sum()
    ...     loss.backward()
    ...     return loss.detach()
    >>> sam.step(closure), w
    (tensor(1.), Parameter containing:
    tensor([0.7000], requires_grad=True))

    Source: Foret et al., Sharpness-Aware Minimization for Efficiently Improving Generalization, ICLR 2021.
    """

    def __init__(
        self, params: Iterable[Any], lr: float, rho: float, base: Callable[[Iterable[Any], float], Optimizer]
    ) -> None:
        self.rho, self.base = rho, base(params, lr)
        super().__init__(self.base.param_groups, self.base.defaults)
        self.__setstate__({"state": self.state, "param_groups": self.param_groups})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.base.__setstate__({"state": self.state, "param_groups": self.param_groups})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor:  # type: ignore[override]
        """Take one step; return the loss at `w`."""
        if closure is None:
            raise Refused(
                "optimizer=sam computes each gradient twice, which 16-mixed cannot: type trainer.precision=bf16-mixed"
            )
        with torch.enable_grad():
            loss = closure()
        weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in weights]
        before = [p.clone() for p in weights]
        up = self.rho / (nn.utils.get_total_norm(gradients) + 1e-12)
        for p, g in zip(weights, gradients, strict=True):
            p.add_(g * up)
        with torch.enable_grad():
            closure()
        for p, w in zip(weights, before, strict=True):
            p.copy_(w)
        self.base.step()
        return loss


class Muon(Optimizer):
    """`torch.optim.Muon` for the groups marked `hidden`, `torch.optim.AdamW` for all others.

    Args:
        params: groups as `group_parameters(..., hidden=True)` returns them.
        lr: of the hidden matrices. An update of a matrix `(a, b)` has a spectral norm near `lr sqrt(max(1, a / b))`.
        momentum: Nesterov momentum of the hidden matrices.
        adamw_lr: of all others. A group's own `lr` scales both rates by its ratio to `lr`.
        betas: of AdamW.
        weight_decay: of both, decoupled.

    Raises:
        Refused: if there is no hidden matrix, so that AdamW would take them all.

    >>> inner, bias = nn.Parameter(torch.eye(2)), nn.Parameter(torch.zeros(2))
    >>> muon = Muon([{"params": [inner], "hidden": True}, {"params": [bias]}], lr=0.02, adamw_lr=0.001)
    >>> [group["lr"] for group in muon.param_groups]
    [0.02, 0.001]

    Source: Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.95,
        adamw_lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.01,
    ) -> None:
        groups: list[dict[str, Any]] = [group if isinstance(group, dict) else {"params": [group]} for group in params]
        inner = [{**group, "lr": group.get("lr", lr)} for group in groups if group.get("hidden")]
        others = [{**group, "lr": group.get("lr", lr) / lr * adamw_lr} for group in groups if not group.get("hidden")]
        if not inner:
            raise Refused(
                "optimizer=muon is for hidden matrices, and this model has none between its first and last layer: "
                "type model=mlp 'model.hidden=[256,256]', or optimizer=adamw"
            )
        self.parts: list[Optimizer] = [torch.optim.Muon(inner, weight_decay=weight_decay, momentum=momentum)]
        if others:
            self.parts.append(torch.optim.AdamW(others, betas=betas, weight_decay=weight_decay))
        super().__init__([group for part in self.parts for group in part.param_groups], {})
        self.__setstate__({"state": self.state, "param_groups": self.param_groups})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for part in self.parts:
            mine = [group for group in self.param_groups if bool(group.get("hidden")) == (part is self.parts[0])]
            part.__setstate__({"state": self.state, "param_groups": mine})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """Take one step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
