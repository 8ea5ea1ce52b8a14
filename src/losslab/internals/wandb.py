"""Private parts of W&B, without torch. A new minor release is run with the tests before pyproject.toml allows it."""

import os
import sys
from typing import Any


def ignore_workspace_settings(wandb: Any) -> None:
    """Keep the client from reading `./wandb/settings`.

    A folder that was downloaded may hold that file, and its `base_url` would send the user's key to a stranger. If the
    property goes, find what reads the file now; `tests/test_hostile.py` fails until it is not read.
    """
    wandb.Settings.settings_workspace = property(lambda _: os.devnull)


def skip_launch_inputs(wandb: Any) -> None:
    """Keep each run from importing the client's job launcher, which takes half a second, for inputs that nobody staged.

    Inputs are staged through the launcher, which is then imported. If the method goes, delete this.
    """

    def apply_staged(run: Any) -> None:
        if launcher := sys.modules.get("wandb.sdk.launch.inputs.internal"):
            launcher.StagedLaunchInputs().apply(run)

    wandb.Run._detect_and_apply_job_inputs = apply_staged


def parse_record(message: bytes) -> Any:
    """Parse a record of an offline run's log; see `record/offline.py` for the file around it.

    The client has no public reader. If the protocol moves, take the module that `wandb sync` parses with.
    """
    from wandb.proto import wandb_internal_pb2

    record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined,unused-ignore]
    record.ParseFromString(message)
    return record
