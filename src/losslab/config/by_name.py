"""Options that stand for a whole library: `optimizer=any optimizer.name=adopt`.

Such a file lists the library's names with the default learning rates (`rates`), and why some cannot be used
(`refused`). So a name is checked, and a range to search is known, before the library is imported.
"""

from importlib.util import find_spec
from typing import Any

from omegaconf import DictConfig, OmegaConf

from losslab.config.catalogue import CONF, find_by_alias, options, squeeze
from losslab.errors import Refused, nearest

WIDER = 30.0
LIBRARIES = {"TensorBoardLogger": "tensorboard", "MlflowLogger": "mlflow", "TrackioLogger": "trackio"}


def fill_by_name(cfg: DictConfig) -> list[str]:
    """Fill in what follows from `optimizer.name`: a learning rate that is not typed, and its range; return notes.

    Raises:
        Refused: if no optimizer has that name, or the one that has it cannot train here.
    """
    if library := cfg.model.pop("library", None):
        name_model(cfg, str(library))
    for name, logger in list_loggers(cfg).items():
        if library := LIBRARIES.get(str(logger.get("_target_")).rpartition(".")[2]):
            check_installed(f"logger={name}", library)
    option: DictConfig = cfg.optimizer
    if "rates" not in option:
        return []
    table: dict[str, Any] = {key: OmegaConf.to_container(option.pop(key)) for key in ("rates", "refused", "marked")}
    plain: Any = OmegaConf.to_container(option)
    typed, wider = str(plain.get("name")), float(option.pop("wider", WIDER))
    if typed == "???":
        return []
    rates = {squeeze(name): rate for name, rate in table["rates"].items()}
    name = squeeze(typed)
    if why := table["refused"].get(name):
        raise Refused(f"optimizer.name={typed} cannot train here: {why}")
    if name not in rates:
        ours = find_by_alias(typed, options([str(CONF)], "optimizer"))
        hint = f"type optimizer={ours[0]}" if ours else nearest(name, rates)
        raise Refused(f"optimizer.name={typed} is no optimizer of pytorch_optimizer's; {hint}")
    option.name, option.hidden = name, name in table["marked"]
    option.search = {"lr": [float(f"{rates[name] / wider:.6g}"), float(f"{rates[name] * wider:.6g}")]}
    if option.get("lr") is None:
        option.lr = rates[name]
    cfg.run.choices.optimizer = f"{cfg.run.choices.optimizer}-{name}"
    ours = find_by_alias(name, options([str(CONF)], "optimizer"))
    return (
        [f"optimizer={ours[0]} is another {name}, with losslab's own defaults; this one is pytorch_optimizer's"]
        if ours
        else []
    )


def list_loggers(cfg: DictConfig) -> dict[str, DictConfig]:
    """List the loggers that a run chose, by the names of their options."""
    chosen: Any = cfg.get("logger") or {}
    return {cfg.run.choices.logger: chosen, **chosen.get("more", {})} if chosen else {}


def check_installed(typed: str, library: str) -> None:
    """Refuse an option whose library is not installed."""
    if find_spec(library) is None:
        raise Refused(f"{typed} needs {library}: type pip install 'losslab[{library}]', and then the same again")


def name_model(cfg: DictConfig, library: str) -> None:
    """Let the choice of a model say which of its library's it is.

    Raises:
        Refused: if the library is not installed.
    """
    typed = "-".join([library, *([cfg.model.name] if "name" in cfg.model and cfg.model.name != "???" else [])])
    check_installed(f"model={typed}", library)
    plain: Any = OmegaConf.to_container(cfg.model)
    if plain.get("name") != "???":
        cfg.run.choices.model = f"{cfg.run.choices.model}-{plain['name']}"
