"""From a configuration to its data, checked against its losses without torch, whose import takes seconds."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from losslab.config.catalogue import fits, options
from losslab.config.compose import loss_paths
from losslab.config.make import make
from losslab.data.class_weights import CLASS_WEIGHTS, are_class_weights, read_class_weights
from losslab.data.noise import flip_classes
from losslab.errors import Refused

if TYPE_CHECKING:
    from losslab.data.dataset import Dataset


def make_data(cfg: DictConfig) -> "Dataset":
    """Make the data of a run.

    Raises:
        Refused: where they cannot be read, or do not fit a loss.
    """
    data = read_data(cfg)
    check_losses(cfg, data)
    return data


def read_data(cfg: DictConfig) -> "Dataset":
    """Read the data of a run, whatever its loss: with the wrong labels that it asks for.

    Raises:
        Refused: where they cannot be read.
    """
    data: Dataset = make(cfg, "data")
    flip_classes(data, float(cfg.data.get("label_noise", 0.0)), int(cfg.data.get("seed", 0)))
    return data


def check_losses(cfg: DictConfig, data: "Dataset") -> None:
    """Refuse targets outside the domain of a loss, and weights of rows or classes that do not fit it."""
    for name, path in loss_paths(cfg).items():
        keys = OmegaConf.select(cfg, path)
        if data.weight is not None and keys.get("per") == "batch":
            known = options(cfg.run.catalogue, "loss")
            fitting = [other for other, file in known.items() if fits(cfg.task, file) and file.get("per") != "batch"]
            raise Refused(
                f"loss={name} is a property of the whole batch, in which rows cannot have the weights of data.weight: "
                f"type data.weight=null, or loss= one of {', '.join(sorted(fitting))}"
            )
        for key in CLASS_WEIGHTS:
            if are_class_weights(keys.get(key)):
                read_class_weights(keys[key], data.outputs, f"{path}.{key}", cfg.run.choices.data)
        domain = keys.get("domain")
        if domain and (outside := data.outside(domain)):
            raise Refused(
                f"loss={name} is for targets {domain}, which {outside:,} of the {data.y.size:,} targets of "
                f"data={cfg.run.choices.data} are not: type another loss, or correct them"
            )
