"""A small W&B backend on the loopback interface, for the real client: runs, resume, sync, artifacts, sweeps, its `Api`.

It knows what client 0.31 sends and nothing more: an operation that it does not know is noted in `unknown`, so that an
upgrade fails loudly. Operations are told apart by name; replies hold what the client reads.
"""

import itertools
import json
import os
import random
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import CompletedProcess
from types import TracebackType
from typing import Any

import yaml

from tests.processes import python, ran, undrawn

PROJECT = {"id": "project", "name": "losslab", "entity": {"id": "entity", "name": "lab"}}
VIEWER = {"id": "user", "entity": "lab", "username": "lab", "email": "", "flags": "{}", "teams": {"edges": []}}


@dataclass
class Run:
    """What the client told of a run."""

    config: dict[str, Any] = field(default_factory=dict)
    title: str | None = None
    notes: str | None = None
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    sweep: str | None = None
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    preempting: bool = False

    @property
    def state(self) -> str:
        """As the server calls it."""
        return {None: "running", 0: "finished"}.get(self.exit_code, "failed")


@dataclass
class Sweep:
    """A sweep's file; a grid, or values drawn, handed out job by job; and the runs that an early terminator stops."""

    text: str
    config: dict[str, Any]
    project: str | None = None
    handed_out: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.jobs = self.grid() if self.config["method"] == "grid" else self.drawn()

    def grid(self) -> Iterator[tuple[Any, ...]]:
        """Every combination of the values."""
        values = [each.get("values", [each.get("value")]) for each in self.config["parameters"].values()]
        return itertools.product(*values)

    def drawn(self) -> Iterator[tuple[Any, ...]]:
        """As many as `run_cap` says; of a range first its low end, then its high end, then what chance gives."""
        chance = random.Random(0)
        for number in range(self.config["run_cap"]):
            yield tuple(
                each["value"]
                if "value" in each
                else chance.choice(each["values"])
                if "values" in each
                else [each["min"], each["max"], chance.uniform(each["min"], each["max"])][min(number, 2)]
                for each in self.config["parameters"].values()
            )


class Loopback:
    """The server, from `with Loopback() as server` on; `server.url` is its address.

    Early termination is one rung of hyperband: of the runs that logged `min_iter` rows, those are stopped whose metric
    is twice as bad as the best one's by then.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}  # by their names, what was said of them, and their files
        self.keys: set[str] = set()  # that clients signed in with
        self.seen: Counter[str] = Counter()
        self.unknown: set[str] = set()
        self.lock = threading.RLock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """No line for each request."""

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.keys.add(self.headers.get("Authorization") or "")
                with outer.lock:
                    reply = json.dumps(outer.reply(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_HEAD = do_POST = do_PUT = answer  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                """A client that goes away is none of our business."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> "Loopback":
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()

    @property
    def env(self) -> dict[str, str]:
        """What the client needs to talk to this server and to no other."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": "k" * 40, "WANDB_ERROR_REPORTING": "false"}

    def reply(self, path: str, body: bytes) -> dict[str, Any]:
        """The answer to a request."""
        if path == "/graphql":
            asked = json.loads(body)
            found = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
            assert found
            self.seen[found[1]] += 1
            return {"data": self.operation(found[1], asked.get("variables") or {})}
        if path.endswith("/file_stream"):
            self.seen["file_stream"] += 1
            run, sent = self.runs[path.split("/")[-2]], json.loads(body)
            for name, part in sent.get("files", {}).items():
                if name == "wandb-history.jsonl":
                    run.history |= {part["offset"] + i: json.loads(row) for i, row in enumerate(part["content"])}
                elif name == "wandb-summary.json":
                    run.summary = json.loads(part["content"][-1])
            run.preempting |= bool(sent.get("preempting"))
            run.exit_code = sent["exitcode"] if sent.get("complete") else None
            return {"exitcode": None, "limits": {}, "stopped": False}
        if not path.startswith("/put/"):
            self.seen[path] += 1
        return {}

    def operation(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """The reply to one GraphQL operation."""
        match name:
            case "Viewer" | "GetDefaultEntity":
                return {"viewer": VIEWER}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "OrganizationCoreWeaveOrganizationID":
                return {"entity": {"organization": None}}
            case "UpsertBucket":
                return {"upsertBucket": {"bucket": self.bucket(given), "inserted": True}}
            case "RunResumeStatus":
                return {"model": {**PROJECT, "bucket": self.resumed(given["name"])}}
            case "CreateRunFiles":
                files = [{"name": file, "uploadUrl": f"{self.url}/put/{file}"} for file in given["files"]]
                return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
            case "ArtifactType":
                return {"project": {"artifact": None}}
            case "CreateArtifact":
                name = given["input"]["artifactCollectionName"]
                self.artifacts[name] = {**given["input"], "files": []}
                made = {"id": name, "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
                return {"createArtifact": {"artifact": made}}
            case "CreateArtifactManifest":
                put = {"id": "file", "uploadUrl": f"{self.url}/put/manifest", "uploadHeaders": []}
                return {"createArtifactManifest": {"artifactManifest": {"id": "manifest", "file": put}}}
            case "CreateArtifactFiles":
                return {"createArtifactFiles": {"files": {"edges": self.uploads(given["input"]["artifactFiles"])}}}
            case "CommitArtifact":
                return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "0"}}}
            case "UpsertSweep":
                identity = f"sweep{len(self.sweeps)}"
                self.sweeps[identity] = Sweep(given["config"], yaml.safe_load(given["config"]), given["projectName"])
                made = {"name": identity, "project": PROJECT}
                return {"upsertSweep": {"sweep": made, "configValidationWarnings": []}}
            case "SweepWithRuns":
                text = self.sweeps[given["sweep"]].text
                known = {"id": given["sweep"], "name": given["sweep"], "state": "RUNNING", "config": text}
                return {"project": {"sweep": {**known, "runs": {"edges": []}}}}
            case "CreateAgent":
                return {"createAgent": {"agent": {"id": given["sweep"]}}}
            case "Heartbeat":
                commands = json.dumps(self.commands(given["id"], json.loads(given["runState"])))
                return {"agentHeartbeat": {"agent": {"id": given["id"]}, "commands": commands}}
            case "Runs":
                edges = [{"node": self.seen_by_api(name), "cursor": name} for name in self.runs]
                page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
                runs = {"edges": edges, "pageInfo": page}
                return {"project": {"internalId": "1", "runCount": len(edges), "readOnly": False, "runs": runs}}
            case "Run" | "RunHistoryKeys":
                return {"project": {"run": self.seen_by_api(given["name"])}}
            case "RunParquetHistory":
                return {"project": {"run": {"parquetHistory": {"parquetUrls": [], "liveData": None}}}}
            case "HistoryPage":
                rows = [json.dumps(row) for row in self.runs[given["run"]].history.values()]
                return {"project": {"run": {"history": rows}}}
        self.unknown.add(name)
        return {}

    def uploads(self, files: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Where the files of an artifact go."""
        for file in files:
            self.artifacts[file["artifactID"]]["files"].append(file["name"])
        return [
            {
                "node": {
                    "storagePath": f"put/{file['name']}",
                    "uploadUrl": f"{self.url}/put/{file['name']}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": file["artifactID"]},
                }
            }
            for file in files
        ]

    def resumed(self, name: str) -> dict[str, Any] | None:
        """What a client that goes on with a run is told of it."""
        run = self.runs.get(name)
        if run is None:
            return None
        rows = [json.dumps(row) for row in run.history.values()]
        return {
            **{"id": name, "name": name, "displayName": run.title, "tags": run.tags, "project": PROJECT},
            **{"config": self.values(run), "summaryMetrics": json.dumps(run.summary), "wandbConfig": '{"t": 1}'},
            **{"historyLineCount": len(rows), "eventsLineCount": 0, "logLineCount": 0},
            **{"historyTail": json.dumps(rows[-1:]), "eventsTail": "[]"},
        }

    def seen_by_api(self, name: str) -> dict[str, Any]:
        """What `wandb.Api` is told of a run."""
        run = self.runs[name]
        keys = {key: {"typeCounts": [{"type": "number", "count": 1}]} for row in run.history.values() for key in row}
        last = max((row["_step"] for row in run.history.values()), default=-1)
        return {
            **{"projectId": 1, "id": name, "name": name, "displayName": run.title, "tags": run.tags},
            **{"state": run.state, "config": self.values(run), "summaryMetrics": json.dumps(run.summary)},
            **{"group": run.group, "jobType": run.job_type, "sweepName": run.sweep, "notes": run.notes},
            **{"commit": None, "readOnly": False, "description": None, "systemMetrics": "{}"},
            **{"createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00"},
            **{"historyLineCount": len(run.history), "user": {"name": "lab", "username": "lab"}},
            **{"historyKeys": {"keys": keys, "sets": [], "lastStep": last}},
        }

    @staticmethod
    def values(run: Run) -> str:
        """The configuration of a run as the server keeps it."""
        return json.dumps({key: {"value": value} for key, value in run.config.items()})

    def bucket(self, given: dict[str, Any]) -> dict[str, Any]:
        """Create or update a run."""
        name = given["name"] or given["id"]
        run = self.runs.setdefault(name, Run())
        run.config |= {key: part["value"] for key, part in json.loads(given["config"] or "{}").items()}
        run.group, run.job_type = given["groupName"] or run.group, given["jobType"] or run.job_type
        run.tags, run.sweep = given["tags"] or run.tags, given["sweep"] or run.sweep
        run.title, run.notes = given["displayName"] or run.title, given.get("notes") or run.notes
        return {
            "id": name,
            "name": name,
            "displayName": given["displayName"] or name,
            "description": None,
            "config": given["config"],
            "sweepName": run.sweep,
            "project": PROJECT,
            "historyLineCount": len(run.history),
        }

    def commands(self, identity: str, states: dict[str, bool]) -> list[dict[str, Any]]:
        """What an agent is told: stop a run, run the next job, or go home."""
        sweep, running = self.sweeps[identity], [name for name, alive in states.items() if alive]
        for name in running:
            if name not in sweep.stopped and self.beaten(sweep, name):
                sweep.stopped.append(name)
                return [{"type": "stop", "run_id": name}]
        if running:
            return []
        values = next(sweep.jobs, None)
        if values is None:
            return [{"type": "exit"}]
        name = f"{identity}job{len(sweep.handed_out)}"
        sweep.handed_out.append(name)
        args = {key: {"value": value} for key, value in zip(sweep.config["parameters"], values, strict=True)}
        return [{"type": "run", "run_id": name, "program": sweep.config["program"], "args": args}]

    def beaten(self, sweep: Sweep, name: str) -> bool:
        """Whether another run of the sweep was twice as good when both had logged `min_iter` rows."""
        metric, factor = sweep.config["metric"], -1 if sweep.config["metric"]["goal"] == "maximize" else 1
        rule = sweep.config.get("early_terminate")
        if not rule:
            return False
        row = rule["min_iter"] - 1
        there = [job for job in sweep.handed_out if job in self.runs]
        reached = {job: self.runs[job].history.get(row, {}).get(metric["name"]) for job in there}
        values = {job: float(value) ** factor for job, value in reached.items() if value}
        return name in values and values[name] > 2 * min(values.values())


def environment(server: Loopback, folder: Path) -> dict[str, str]:
    """The user's, with the server's address, and with all of the client's own files in the test's folder."""
    own = {f"WANDB_{part}_DIR": str(folder / part.lower()) for part in ("CONFIG", "CACHE", "DATA")}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("WANDB")}
    bin_folder = str(Path(sys.executable).parent)
    path = {"PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}
    return {**kept, **own, **path, **server.env, "WANDB_X_FILE_STREAM_TRANSMIT_INTERVAL": "1"}


def run(server: Loopback, folder: Path, *words: str, draw: bool = True, **more: str) -> "CompletedProcess[str]":
    by = python if draw else undrawn
    return ran(*words, folder=folder, env={**environment(server, folder), **more}, by=by)


def agent(sweep: str) -> None:
    """`wandb agent`, which polls each five seconds; everything else is the client's own."""
    from wandb import wandb_agent
    from wandb.cli.cli import cli

    wandb_agent.Agent.POLL_INTERVAL = 0.3  # type: ignore[assignment]
    cli(["agent", f"lab/losslab/{sweep}"])
