"""Private parts of W&B, without torch. A new minor release is run with the tests before pyproject.toml allows it."""

import os
from typing import Any


def ignore_workspace_settings(wandb: Any) -> None:
    """Keep the client from reading `./wandb/settings`.

    A folder that was downloaded may hold that file, and its `base_url` would send the user's key to a stranger. If the
    property goes, find what reads the file now; `tests/test_hostile.py` fails until it is not read.
    """
    wandb.Settings.settings_workspace = property(lambda _: os.devnull)


def parse_record(message: bytes) -> Any:
    """Parse a record of an offline run's log; see `record/offline.py` for the file around it.

    The client has no public reader. If the protocol moves, take the module that `wandb sync` parses with.
    """
    from wandb.proto import wandb_internal_pb2

    record: Any = wandb_internal_pb2.Record()  # type: ignore[attr-defined,unused-ignore]
    record.ParseFromString(message)
    return record
