"""As much of Ray as a driver uses, in this process: actors that die as told, and nodes whose jobs are quick."""

import json
import os
import random
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from losslab.sweep import node
from losslab.sweep.ledger import Ledger
from losslab.sweep.plan import Job, Plan


class LostError(Exception):
    """What Ray raises for an actor that is gone."""


class TaskError(Exception):
    """What Ray raises for an error in an actor."""

    cause: Exception


@dataclass
class Actor:
    """An actor of Ray's in this process, with a current folder of its own."""

    worker: Any
    number: int
    cwd: str = ""
    dead: bool = False

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *given: Answer(self, name, given))


@dataclass(eq=False)
class Answer:
    """What an actor was asked."""

    actor: Actor
    name: str
    given: tuple[Any, ...]


@dataclass
class FakeRay:
    """As much of Ray as a driver uses, where actors die as they are told to."""

    chance: random.Random
    deadly: float
    actors: list[Actor] = field(default_factory=list)
    gone: set[str] = field(default_factory=set)
    exceptions: Any = field(default_factory=lambda: SimpleNamespace(RayActorError=LostError, RayTaskError=TaskError))

    def remote(self, kind: type) -> Any:
        def start() -> Actor:
            self.actors.append(Actor(kind(), len(self.actors)))
            return self.actors[-1]

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=start))

    def get(self, answer: Any) -> Any:
        if not isinstance(answer, Answer):
            return answer
        actor = answer.actor
        if answer.name == "work" and self.chance.random() < self.deadly:
            actor.dead = True
            if self.chance.random() < 0.5:
                self.gone.add(str(actor.number))
        if actor.dead:
            raise LostError("it has died")
        given = [lambda: str(actor.number)] if answer.name == "open" else []
        before = str(Path.cwd())
        os.chdir(actor.cwd or before)
        try:
            if answer.name == "open":  # the node does not see the driver's disk
                setup = answer.given[0]
                return actor.worker.open(node.Setup(**{**setup.__dict__, "token": "none"}), *given)
            return getattr(actor.worker, answer.name)(*answer.given)
        except OSError as error:
            wrapped = TaskError()
            wrapped.cause = error
            raise wrapped from error
        finally:
            actor.cwd = str(Path.cwd())
            os.chdir(before)

    def wait(self, answers: list[Answer], **_: Any) -> tuple[list[Answer], list[Answer]]:
        return self.chance.sample(answers, len(answers)), []

    def kill(self, actor: Actor) -> None:
        actor.dead = True

    def nodes(self) -> list[dict[str, Any]]:
        names = {str(actor.number) for actor in self.actors}
        return [{"NodeID": name, "Alive": name not in self.gone, "Resources": {"CPU": 1}} for name in names]

    def put(self, piece: bytes) -> bytes:
        return piece

    def shutdown(self) -> None:
        pass


class Steps:
    """In the place of the processes of a node: each time it is looked at, each of its jobs gets a step further."""

    def __init__(self, folder: Path, plan: Plan, count: int, stack: int, ledger: Ledger) -> None:
        self.folder, self.stack, self.ledger, self.jobs = folder, stack, ledger, dict[str, Job]()

    def add(self, jobs: list[Job]) -> None:
        self.jobs |= {job.key: job for job in jobs}

    def advance(self, left: int) -> None:
        for job in (job for job in self.jobs.values() if not self.ledger.over(job.key)):
            run = self.folder / "runs" / f"run-{job.key[:6]}"
            run.mkdir(parents=True, exist_ok=True)
            file = run / "last.ckpt"
            steps = [*json.loads(file.read_text() if file.is_file() else "[]"), str(Path.cwd())]
            file.write_text(json.dumps(steps))
            if len(steps) >= 5:
                record: dict[str, Any] = {
                    "state": "done",
                    "reason": None,
                    "value": len(steps),
                    "setting": job.setting,
                    "runs": [{}],
                }
                self.ledger.write(f"{job.key}.json", json.dumps(record))

    def close(self) -> None:
        pass
