"""From a configuration to its data, checked against its losses without torch, whose import takes seconds."""

from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from losslab.config.compose import loss_paths
from losslab.config.make import make
from losslab.errors import Refused

if TYPE_CHECKING:
    from losslab.data.dataset import Dataset


def make_data(cfg: DictConfig) -> "Dataset":
    """Make the data of a run.

    Raises:
        Refused: where they cannot be read, or targets lie outside the domain of a loss.
    """
    data: Dataset = make(cfg, "data")
    check_domains(cfg, data)
    return data


def check_domains(cfg: DictConfig, data: "Dataset") -> None:
    """Refuse targets outside the domain of a loss."""
    for name, path in loss_paths(cfg).items():
        domain = OmegaConf.select(cfg, path).get("domain")
        if domain and (outside := data.outside(domain)):
            raise Refused(
                f"loss={name} is for targets {domain}, which {outside:,} of the {data.y.size:,} targets of "
                f"data={cfg.run.choices.data} are not: type another loss, or correct them"
            )
