"""The groups of parameters that an optimizer treats differently."""

from typing import Any, Literal

from torch import nn

from losslab.errors import Refused
from losslab.models import find_head

Groups = list[nn.Parameter] | list[dict[str, Any]]


def group_parameters(
    module: nn.Module,
    lr: float | None,
    decay: Literal["all", "weights"] = "all",
    backbone_lr: float = 1.0,
    hidden: bool = False,
) -> Groups:
    """Put the parameters of `module.model` and `module.loss` into as many groups as the settings need.

    By default there are no groups. `decay="weights"` decays matrices, kernels and embeddings, but no parameter of fewer
    than two dimensions (biases, norms), as nanoGPT and timm do. Parameters of the loss learn at `lr` and never decay.
    The group of the head (`losslab.models.find_head`) comes first: its learning rate is the one that is reported.

    Args:
        module: has a `model` and a `loss`.
        lr: the optimizer's learning rate; `None` if it has none.
        decay: what `weight_decay` applies to.
        backbone_lr: the learning rate of all layers but the head, as a multiple of `lr`.
        hidden: whether hidden matrices (see `find_hidden_matrices`) get groups of their own, marked `hidden`.

    Raises:
        Refused: if no parameter is trained, and if `backbone_lr` is set and the model is nothing but a head.

    >>> module = nn.ModuleDict({"model": nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1)), "loss": nn.MSELoss()})
    >>> [(len(g["params"]), g["lr"]) for g in group_parameters(module, lr=0.1, backbone_lr=0.5)]
    [(2, 0.1), (2, 0.05)]
    """
    if (every := [*module.parameters()]) and not any(p.requires_grad for p in every):
        raise Refused("the model has no weight that is trained: set requires_grad of some to True")
    if decay == "all" and backbone_lr == 1.0 and not hidden:
        return every
    model = module.get_submodule("model")
    of_model, of_head = set(model.parameters()), set(find_head(model).parameters(recurse=False))
    if backbone_lr != 1.0 and of_model <= of_head:
        raise Refused(
            f"param_groups.backbone_lr={backbone_lr:g} needs a model with more than its last layer: "
            "type another model, or param_groups.backbone_lr=1.0"
        )
    matrices = find_hidden_matrices(model) if hidden else set()
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for p in sorted(every, key=lambda p: p not in of_head):
        settings: dict[str, Any] = {}
        if lr is not None:
            settings["lr"] = lr * (backbone_lr if p in of_model - of_head else 1.0)
        if p not in of_model or (decay == "weights" and p.ndim < 2):
            settings["weight_decay"] = 0.0
        if p in matrices:
            settings["hidden"] = True
        groups.setdefault(tuple(settings.items()), {"params": [], **settings})["params"].append(p)
    return list(groups.values())


def find_hidden_matrices(model: nn.Module) -> set[nn.Parameter]:
    """Find the two-dimensional parameters that are neither embeddings nor of the first or the last layer.

    Source: Jordan et al., Muon, 2024.
    """
    outer = set(find_head(model).parameters(recurse=False))
    outer.update([p for p in model.parameters() if p.ndim >= 2][:1])
    for layer in model.modules():
        if isinstance(layer, nn.Embedding | nn.EmbeddingBag):
            outer.update(layer.parameters())
    return {p for p in model.parameters() if p.ndim == 2} - outer
