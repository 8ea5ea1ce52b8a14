"""An experiment of the catalogue: which question it asks, what to expect, and whether that came out.

The comments at the top of its file are the words: the question, the command, and what to expect. `expect` holds the
numbers, in the notation of `losslab.config.ranges`: a range for a metric, or one for each of the settings that vary.

    expect:
      test/rmse: {loss=mse: "> 1200", loss=mae: "< 750"}
"""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from losslab.config.arguments import as_typed, key_of
from losslab.config.catalogue import options
from losslab.config.flat import excluded_from_name
from losslab.config.ranges import Range, read_range
from losslab.errors import Refused
from losslab.spreadsheet import align

WIDTH = 80
Runs = Sequence[tuple[Mapping[str, Any], Mapping[str, float]]]  # the recorded settings and the summary of each


@dataclass(frozen=True)
class Expectation:
    """A range for a metric of the runs with some settings, such as `loss=mae`; of all runs if there are none."""

    metric: str
    settings: str
    text: str
    range: Range

    def __str__(self) -> str:
        return f"{self.settings}: {self.metric} {self.text}" if self.settings else f"{self.metric} {self.text}"

    def compute(self, runs: Runs) -> float:
        """Compute the mean of the metric over those of the runs that have the settings; NaN if none has it."""
        wanted = [word.partition("=") for word in self.settings.split()]
        found = [
            summary[self.metric]
            for config, summary in runs
            if all(as_typed(config.get(key)).replace(" ", "") == value for key, _, value in wanted)
            and summary.get(self.metric) is not None
        ]
        return fmean(found) if found else math.nan


def read_words(name: str, folders: Sequence[str]) -> tuple[str, str]:
    """Read the question of an experiment and what to expect, from the comments at the top of its file."""
    file = next(file for folder in folders if (file := Path(folder, "experiment", f"{name}.yaml")).is_file())
    question: list[str] = []
    expected: list[str] = []
    words = question
    for line in file.read_text(encoding="utf-8").splitlines():
        text = line.removeprefix("#").strip()
        if not line.startswith("#"):
            break
        if line.startswith("#   "):  # the command
            words = expected
        elif not text.startswith("@package"):
            words.append(text)
    return " ".join(question), " ".join(expected)


def read_expectations(name: str, folders: Sequence[str]) -> list[Expectation]:
    """Read the ranges that an experiment's file expects metrics in.

    Raises:
        Refused: for what is no range.
    """
    file = options(folders, "experiment").get(name, {})
    expect = file.get("expect") or {}
    found = []
    try:
        for metric, ranges in expect.items():
            each = ranges if isinstance(ranges, dict) else {"": ranges}
            found += [
                Expectation(str(metric), str(settings), str(text), read_range(text)) for settings, text in each.items()
            ]
    except (AttributeError, ValueError):
        raise Refused(
            f'experiment={name} expects what cannot be read: write expect: {{test/rmse: "< 750"}}, or '
            'expect: {test/rmse: {loss=mae: "< 750"}}, into its file'
        ) from None
    return found


def introduce(names: Sequence[str], folders: Sequence[str]) -> list[str]:
    """Write the lines of the question that each of these experiments asks, and what to expect.

    Raises:
        Refused: if a file cannot be read.
    """
    lines: list[str] = []
    known = options(folders, "experiment")
    for name in dict.fromkeys(names):
        if name not in known:  # several at once
            continue
        read_expectations(name, folders)
        question, expected = read_words(name, folders)
        for heading, text in (("question", question), ("expect", re.sub("^Expect,? ", "", expected))):
            lines += textwrap.wrap(
                text, WIDTH, initial_indent=f"{heading:<9}", subsequent_indent=" " * 9, break_on_hyphens=False
            )
    return lines


def report(name: str, folders: Sequence[str], runs: Runs, typed: Sequence[str]) -> str:
    """Write whether what an experiment expects came out; nothing if its file expects no numbers."""
    expected = read_expectations(name, folders)
    if not expected:
        return ""
    values = [each.compute(runs) for each in expected]
    fits = [each.range.fits(value) for each, value in zip(expected, values, strict=True)]
    columns = {
        "expected": [str(each) for each in expected],
        "found": ["no run" if math.isnan(value) else f"{value:.4g}" for value in values],
        "": ["yes" if fit else "no" for fit in fits],
    }
    own = [text for text in typed if key_of(text) != "experiment" and not excluded_from_name(key_of(text))]
    count = f": {fits.count(False)} of {len(fits)} did not come out" if len(fits) > 1 else ""
    but = f". It is not the experiment as it stands: you typed {' '.join(own)}" if own else ""
    return f"{align(columns)}\n{'as expected' if all(fits) else f'not as expected{count}{but}'}"
