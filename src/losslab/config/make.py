"""From an option of the configuration to the object that it names."""

import pickle
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from losslab.config.catalogue import OWN_KEYS
from losslab.config.targets import check_targets
from losslab.errors import Refused, machine_refusal


def make(cfg: DictConfig, path: str, **more: Any) -> Any:
    """Make what an option names by `_target_` from its keys, without those that losslab reads itself.

    `_convert_="all"`: an OmegaConf list would end up in the checkpoint, which then could not be read safely.

    Args:
        path: of the option, such as `loss`, or `loss.parts.bce` in a sum of losses.
        more: keys beyond the option's own, or in their place.
    """
    group = path.split(".")[0]
    keys = OmegaConf.select(cfg, path).copy()
    OmegaConf.set_readonly(keys, False)
    for key in (*OWN_KEYS.get(group, ()), *more):
        keys.pop(key, None)
    check_targets(cfg, OmegaConf.to_container(keys, resolve=True), path)
    keys["_convert_"] = "all"  # as an argument it would cost another copy
    try:
        return instantiate(keys, **more)
    except InstantiationException as error:
        raise refusal_of(cfg, group, error.__cause__ or error) from error


def call(cfg: DictConfig, group: str, waiting: Any, *facts: Any) -> Any:
    """Call what a `_partial_: true` option made with the facts that it waited for."""
    try:
        return waiting(*facts)
    except Exception as error:  # torch, torchvision and the user's own code raise what they like
        raise refusal_of(cfg, group, error) from error


def refusal_of(cfg: DictConfig, group: str, error: BaseException) -> Refused:
    """Return the sentence for an option that cannot be made from its keys."""
    if refused := machine_refusal(error):
        return refused
    why = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    usual = group != "trainer" or cfg.trainer.get("accelerator") in ("auto", "cpu")
    hint = "" if usual else "; trainer=cpu works everywhere"
    return Refused(f"{group}={cfg.run.choices.get(group)} cannot be made with these settings: {why}{hint}")


def fill_in(cfg: DictConfig, max_epochs: int | None = None, **facts: Any) -> DictConfig:
    """Copy a configuration and fill in what the run has found out, for options that interpolate `${run.…}`."""
    filled: DictConfig = pickle.loads(pickle.dumps(cfg))  # our own; a deep copy takes two to three times as long
    OmegaConf.set_readonly(filled, False)
    filled.run.update(facts)
    if max_epochs is not None:
        filled.trainer.max_epochs = max_epochs
    OmegaConf.set_readonly(filled, True)
    return filled
