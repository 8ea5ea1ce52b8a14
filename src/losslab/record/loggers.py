"""The loggers of a run beside its record: W&B, TensorBoard, MLflow, Trackio, or several of them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from pytorch_lightning.loggers import Logger

from losslab.config.make import make
from losslab.record import wandb


def build_loggers(cfg: DictConfig) -> tuple[list[Logger], dict[str, Any]]:
    """Make the loggers that a run chose; return them, and the settings of W&B that its option left open."""
    if not cfg.get("logger"):
        return [], {}
    for service in ("MLFLOW_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
        os.environ.setdefault(service, "true")  # a run sends nothing anywhere that its user has not named
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # its own 7 take five minutes where no server answers
    filled = wandb.prepare(cfg)
    paths = {"logger": cfg.logger} | {f"logger.more.{name}": each for name, each in cfg.logger.get("more", {}).items()}
    more = {path: fill(cfg, option) for path, option in paths.items()}
    more["logger"] |= filled
    return [make(cfg, path, **given) for path, given in more.items()], filled


def fill(cfg: DictConfig, option: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the option of MLflow or Trackio leaves open."""
    target, output = str(option.get("_target_")), Path(cfg.output_dir).resolve()
    if target.endswith("MlflowLogger") and option.get("tracking_uri") is None:
        server = os.environ.get("MLFLOW_TRACKING_URI")
        here = {"tracking_uri": f"sqlite:///{(output / 'mlflow.db').as_posix()}"}
        return {"tracking_uri": server} if server else {**here, "artifact_location": (output / "mlflow").as_uri()}
    if target.endswith("TrackioLogger") and option.get("group") is None:
        return {"group": wandb.sweep_of(cfg)}
    return {}
