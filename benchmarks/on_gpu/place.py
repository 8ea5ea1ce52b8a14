"""Where a part of `benchmarks/gpu.py` runs, what it finds, and how that is judged."""

import contextlib
import io
import itertools
import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import pytorch_lightning as pl

from losslab.config.check import configure
from losslab.train import Summary, train

COMPARE = {"<=": operator.le, ">=": operator.ge}
QUIET = ("logger=false", "trainer.enable_progress_bar=false", "resume=never")


class Found(NamedTuple):
    """What a check has found; where `value` is `None`, it was skipped for the reason."""

    check: str
    value: float | None
    wanted: str = ""  # such as `<= 1e-9`; empty for a figure that is only reported
    reason: str = ""


class Row(NamedTuple):
    """A line of the table."""

    part: str
    check: str
    value: float | None
    wanted: str
    ok: bool | None  # `None` where nothing was wanted, or the check was skipped
    reason: str = ""


@dataclass
class Place:
    """The device and the scratch folder of a part.

    Args:
        device: `cuda` or `cpu`.
        tiny: whether sizes are the smallest that run all of the code.
        folder: for run folders.
        until: the `time.monotonic()` at which no further check begins.
    """

    device: str
    tiny: bool
    folder: Path
    until: float = math.inf
    count: Iterator[int] = field(default_factory=itertools.count)

    def words(self, *words: str, device: str | None = None) -> list[str]:
        """Return the words of a run in a new folder, on this device or the one named."""
        where = "cpu" if (device or self.device) == "cpu" else "gpu"
        folder = self.folder / str(next(self.count))
        return [*QUIET, f"trainer={where}", f"output_dir='{folder.as_posix()}'", *words]

    def train(self, *words: str, device: str | None = None, callback: pl.Callback | None = None) -> Summary:
        """Train a run without pictures and without a word."""
        with quiet():
            return train(configure(self.words(*words, device=device)), *([callback] if callback else []))


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Draw no pictures, which cost more than a short run, and catch what is printed."""
    said = io.StringIO()
    with (
        contextlib.redirect_stdout(said),
        patch("losslab.record.record.Record.keep_pictures", lambda *_: None),
        patch("losslab.page.pictures.draw_run", lambda *_: {}),
    ):
        yield said


def judge(value: float | None, wanted: str) -> bool | None:
    """Return whether a value is as wanted; `None` where nothing is wanted or there is no value.

    >>> judge(0.97, ">= 0.95"), judge(float("nan"), "<= 1e-9"), judge(3.0, ""), judge(None, ">= 0.95")
    (True, False, None, None)
    """
    if value is None or not wanted:
        return None
    sign, limit = wanted.split()
    return bool(COMPARE[sign](value, float(limit)))
