"""The questions that the runs below a folder answer: each race and each sweep asks its own."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from losslab.compare.population import CLAIMS
from losslab.compare.request import Request
from losslab.compare.runs import Runs
from losslab.files import known_json

RACE = "race.json"
ASKED = (RACE, "sweep.json")  # the folder of a race or of a sweep holds one of these


@dataclass
class Question:
    """Runs that were trained for one question."""

    folder: str  # of the race or sweep, or in which the runs lie
    runs: Runs

    @property
    def finished(self) -> int:
        """How many runs are finished."""
        return int(self.runs.frame["status"].eq("finished").sum())

    @property
    def verdict(self) -> list[str]:
        """What a race said at its end, sentence by sentence; nothing of a sweep, or where it goes on."""
        said = known_json(os.path.join(self.folder, RACE)).get("said")  # noqa: PTH118
        return [str(each) for each in said] if isinstance(said, list) else []


def split_questions(runs: Runs) -> list[Question]:
    """Sort runs by their race or sweep; others by their task and the folder in which they lie."""
    frame, known = runs.frame, dict[str, str]()
    if frame.empty:
        return []
    parents = frame["folder"].map(os.path.dirname)
    places = {parent: find_asked(parent, known) for parent in parents.unique()}
    tasks = frame["task"].map(str) if "task" in frame else parents
    keys = [
        (places[parent] or parent, "" if places[parent] else task) for parent, task in zip(parents, tasks, strict=True)
    ]
    return [
        Question(key[0], replace(runs, frame=frame[[each == key for each in keys]], broken=[]))
        for key in sorted({*keys})
    ]


def find_asked(folder: str, known: dict[str, str]) -> str:
    """Find the race or sweep that a folder of runs is in; empty if it is in none. What is `known` grows."""
    if folder not in known:
        above = os.path.dirname(folder)  # noqa: PTH120 - there may be 100,000
        asked = any(os.path.isfile(os.path.join(folder, name)) for name in ASKED)  # noqa: PTH113, PTH118
        known[folder] = folder if asked else find_asked(above, known) if above and above != folder else ""
    return known[folder]


def are_several(request: Request, questions: list[Question]) -> bool:
    """Whether each question is to be answered by itself: those of one folder, of which nothing else was asked."""
    together = request.by or request.metric or request.only or request.claim or request.log or request.cross
    return len(questions) > 1 and len(request.folders) == 1 and not (together or request.json)


def ask_like_race(request: Request, runs: Runs) -> tuple[Request, list[str]]:
    """Ask of the runs of a race what the race asked, unless it was typed otherwise; say so in a sentence."""
    questions = split_questions(runs)
    asked = known_json(Path(questions[0].folder, RACE)) if len(questions) == 1 else {}
    difference, claim = asked.get("difference"), asked.get("claim")
    said = []
    if "difference" not in request.typed and isinstance(difference, float) and 0 < difference <= 1000:
        request = replace(request, difference=difference)
        said.append(f"difference={difference:.3g}")
    if "claim" not in request.typed and isinstance(claim, str) and claim in CLAIMS:
        request = replace(request, claim=claim)
        said.append(f"claim={claim}")
    return request, [f"As in the race, {' and '.join(said)}; type another to ask something else."] if said else []


def list_questions(request: Request, questions: list[Question]) -> Iterator[tuple[Question, Request]]:
    """Yield each question with what is asked of it: its page lies in its own folder."""
    for question in questions:
        out = Path(question.folder, "runs" if Path(question.folder, RACE).is_file() else "", "comparison")
        yield question, replace(request, folders=[question.folder], out=out)
