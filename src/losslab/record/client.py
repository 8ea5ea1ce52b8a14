"""The W&B client, which takes settings only from the environment and from the user's home.

Without torch, as a comparison needs it too.
"""

from typing import Any

from losslab.errors import Refused
from losslab.internals.wandb import ignore_workspace_settings, skip_launch_inputs

FAULTS = ("wandb", "requests", "mlflow")  # modules whose errors are the client's or the server's
# loggers that write to a file, or to the server that this setting names
SERVERS = {"MlflowLogger": ("MLflow", "tracking_uri"), "TrackioLogger": ("Trackio", "server_url")}


def client() -> Any:
    """Import `wandb` so that it ignores `./wandb/settings` and its own job launcher."""
    import wandb

    ignore_workspace_settings(wandb)
    skip_launch_inputs(wandb)
    return wandb


def is_fault(error: BaseException) -> bool:
    """Tell whether the client or its server failed: a run goes on without them."""
    return type(error).__module__.startswith(FAULTS) or isinstance(error, OSError)


def reason(error: BaseException) -> str:
    """Say what went wrong in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def refused(error: Exception, logger: str = "WandbLogger") -> Refused:
    """Return the sentence for a run that a logger cannot start."""
    if logger in SERVERS:
        name, server = SERVERS[logger]
        given = f"type logger.{server}=null to log to a file here, or logger=false"
        return Refused(f"{name} could not start ({reason(error)}): is its server running? If not, {given}")
    if isinstance(error, OSError) and error.filename:
        return Refused(f"W&B cannot write {error.filename} ({error.strerror}): type output_dir=FOLDER, or logger=false")
    return Refused(f"W&B could not start ({reason(error)}): type logger.mode=offline, or `wandb login` first")
