"""Which losses take rows with weights, told without torch."""

from omegaconf import DictConfig, OmegaConf

from losslab.config.catalogue import fits, options
from losslab.config.compose import loss_paths
from losslab.errors import Refused


def check_weighted(cfg: DictConfig, weighted: bool) -> None:
    """Refuse weights where a loss is a property of the whole batch, in which no row has a share of its own."""
    for name, path in loss_paths(cfg).items() if weighted else ():
        if OmegaConf.select(cfg, path).get("per") == "batch":
            known = options(cfg.run.catalogue, "loss")
            fitting = [other for other, keys in known.items() if fits(cfg.task, keys) and keys.get("per") != "batch"]
            raise Refused(
                f"loss={name} is a property of the whole batch, in which rows cannot have the weights of data.weight: "
                f"type data.weight=null, or loss= one of {', '.join(sorted(fitting))}"
            )
