"""The W&B client, which hears only the user: the environment, and the settings file in the user's home.

Without torch, as a comparison needs it too.
"""

from typing import Any

from losslab.errors import Refused
from losslab.internals.wandb import ignore_workspace_settings

FAULTS = ("wandb", "requests")  # modules whose errors are the client's or the server's


def client() -> Any:
    """Import the module `wandb` such that it ignores `./wandb/settings`."""
    import wandb

    ignore_workspace_settings(wandb)
    return wandb


def is_fault(error: BaseException) -> bool:
    """Whether the client or its server is to blame: the folder is the truth, and goes without them."""
    return type(error).__module__.startswith(FAULTS) or isinstance(error, OSError)


def reason(error: BaseException) -> str:
    """What went wrong, in one line."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def refused(error: Exception) -> Refused:
    """The sentence for a run that W&B cannot begin."""
    if isinstance(error, OSError) and error.filename:
        return Refused(f"W&B cannot write {error.filename} ({error.strerror}): type output_dir=FOLDER, or logger=false")
    return Refused(f"W&B could not start ({reason(error)}): type logger.mode=offline, or `wandb login` first")
