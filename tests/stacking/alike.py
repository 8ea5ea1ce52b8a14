"""A run of a stack against the same run alone: their checkpoints and their records."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from losslab.config.catalogue import CONF, options
from tests.conftest import same_rows

STACKED = sorted(name for name, option in options([str(CONF)], "optimizer").items() if option.get("stacks"))


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    saved: dict[str, Any] = torch.load(folder / f"{name}.ckpt", weights_only=True)
    return saved


def close(one: Any, other: Any, where: str = "") -> None:
    """Assert that two checkpoints hold the same, numbers to 1e-9."""
    if isinstance(one, dict):
        assert one.keys() == other.keys(), where
        for key in one:
            close(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), where
        for number, (mine, yours) in enumerate(zip(one, other, strict=True)):
            close(mine, yours, f"{where}.{number}")
    elif isinstance(one, torch.Tensor):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12, msg=lambda text: f"{where}: {text}")
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9, abs=1e-12), where
    else:
        assert one == other, where


def same(pair: tuple[Path, Path], stacked: bool = True) -> None:
    """Assert that a run has the checkpoints and the record that it has alone, and ended as one of a stack or alone."""
    together, apart = pair
    for name in ("best", "last"):
        mine, alone = checkpoint(together, name), checkpoint(apart, name)
        for state in (mine, alone):  # they name their folder
            state.pop("callbacks")
        close(mine, alone, name)
    for file in ("config.yaml",):
        mine, alone = (yaml.safe_load((folder / file).read_text()) for folder in pair)
        assert {**mine, "resume": alone["resume"], "ckpt": alone["ckpt"]} == alone
    same_rows(*pair)
    status = json.loads((together / "status.json").read_text())
    assert status["status"] == "finished"
    assert ("stacked" in status["facts"]) == stacked
