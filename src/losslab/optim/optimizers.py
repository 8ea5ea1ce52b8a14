"""The optimizers that torch.optim lacks, and the groups into which parameters are put for any optimizer."""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from losslab.errors import Refused
from losslab.models import head

Groups = list[nn.Parameter] | list[dict[str, Any]]


def param_groups(
    module: nn.Module,
    lr: float | None,
    decay: Literal["all", "weights"] = "all",
    backbone_lr: float = 1.0,
    hidden: bool = False,
) -> Groups:
    """The parameters of `module.model` and `module.loss`, in as many groups as the settings need; by default plain.

    `decay="weights"` spares all parameters of fewer than two dimensions (biases, norms) and decays all others
    (matrices, kernels, embeddings), as nanoGPT and timm do. The head is `losslab.models.head`. Parameters of
    the loss learn at `lr` and never decay. The head's group comes first: its learning rate is the one that is reported.

    Args:
        module: has a `model` and a `loss`.
        lr: the optimizer's learning rate; `None` where it has none.
        decay: what `weight_decay` works on.
        backbone_lr: the learning rate of all of the model but its head, as a multiple of `lr`.
        hidden: whether hidden matrices come in groups of their own, marked `hidden`: the two-dimensional parameters
            but embeddings and the model's first and last layer.

    Raises:
        Refused: where `backbone_lr` is set and the model is nothing but a head.

    >>> module = nn.ModuleDict({"model": nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), "loss": nn.MSELoss()})
    >>> [(len(g["params"]), g["lr"]) for g in param_groups(module, lr=0.1, backbone_lr=0.5)]
    [(2, 0.1), (2, 0.05)]

    Source: Jordan et al., Muon, 2024 (hidden matrices).
    """
    if decay == "all" and backbone_lr == 1.0 and not hidden:
        return list(module.parameters())
    model = module.get_submodule("model")
    last = set(head(model).parameters(recurse=False))
    inner = dict.fromkeys(model.parameters())
    if backbone_lr != 1.0 and set(inner) <= last:
        raise Refused(
            f"param_groups.backbone_lr={backbone_lr:g} needs a model with more than its last layer: "
            "type another model, or param_groups.backbone_lr=1.0"
        )
    embeddings = [layer for layer in model.modules() if isinstance(layer, nn.Embedding | nn.EmbeddingBag)]
    outer = {p for layer in embeddings for p in layer.parameters()}
    outer |= last | set([p for p in inner if p.ndim >= 2][:1])
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for p in sorted(module.parameters(), key=lambda p: p not in last):
        times = backbone_lr if p in inner and p not in last else 1.0
        spared = p not in inner or (decay == "weights" and p.ndim < 2)
        marks = {**({"weight_decay": 0.0} if spared else {}), **({"hidden": True} if hidden else {})}
        if p not in inner or p in outer or p.ndim != 2:
            marks.pop("hidden", None)
        rate = {} if lr is None else {"lr": lr * times}
        group = groups.setdefault((times, *sorted(marks)), {"params": [], **rate, **marks})
        group["params"].append(p)
    return list(groups.values())


class SAM(Optimizer):
    """`base`'s step by the gradient at `w + rho g / |g|`, where `g` is the gradient at `w`.

    The closure runs twice a step. Statistics that a layer gathers, such as batch norm's, see both runs.

    Args:
        params: parameters or groups of them.
        lr: handed to `base`.
        rho: how far up the gradient the second one is taken.
        base: called with the groups and `lr`; shares groups and state with this optimizer.

    Raises:
        Refused: for a step without a closure, as in half precision with a gradient scaler.

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
        """One step; returns the loss at `w`."""
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
    """`torch.optim.Muon` for the groups that are marked `hidden`, `torch.optim.AdamW` for all others.

    Args:
        params: groups, as `param_groups(..., hidden=True)` makes them.
        lr: of the hidden matrices; the update of a matrix `(a, b)` has spectral norm `lr sqrt(max(1, a / b))`, or so.
        momentum: of the hidden matrices, Nesterov's.
        adamw_lr: of all others; a group's own `lr` scales both by what it is of `lr`.
        betas: AdamW's.
        weight_decay: of both, decoupled.

    Raises:
        Refused: where no matrix is hidden, so that all would be AdamW's.

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
                "type model=mlp model.hidden=[256,256], or optimizer=adamw"
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
        """One step of both."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss
