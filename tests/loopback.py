"""A small W&B backend on the loopback interface, for the real client: runs, sync, sweeps, agents, early termination.

It knows what client 0.31 sends and nothing more: an operation that it does not know is noted in `unknown`, so that an
upgrade fails loudly. Operations are told apart by name; replies hold what the client reads.
"""

import itertools
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

import yaml

PROJECT = {"id": "project", "name": "losslab", "entity": {"id": "entity", "name": "lab"}}
VIEWER = {"id": "user", "entity": "lab", "username": "lab", "email": "", "flags": "{}", "teams": {"edges": []}}


@dataclass
class Run:
    """What the client told of a run."""

    config: dict[str, Any] = field(default_factory=dict)
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    sweep: str | None = None
    history: dict[int, dict[str, Any]] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    preempting: bool = False


@dataclass
class Sweep:
    """A grid, handed out job by job, and the runs that an early terminator stops."""

    text: str
    config: dict[str, Any]
    jobs: Any = None
    handed_out: list[str] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        values = [each.get("values", [each.get("value")]) for each in self.config["parameters"].values()]
        self.jobs = itertools.product(*values)


class Loopback:
    """The server, from `with Loopback() as server` on; `server.url` is its address.

    Early termination is one rung of hyperband: of the runs that logged `min_iter` rows, those are stopped whose metric,
    which is to be small, is more than twice the best one's by then.
    """

    def __init__(self) -> None:
        self.runs: dict[str, Run] = {}
        self.sweeps: dict[str, Sweep] = {}
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
                with outer.lock:
                    reply = json.dumps(outer.reply(self.path, body)).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(reply)))
                self.end_headers()
                self.wfile.write(reply)

            do_GET = do_POST = do_PUT = answer  # noqa: N815

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
            if sent.get("complete"):
                run.exit_code = sent["exitcode"]
            return {"exitcode": None, "limits": {}, "stopped": False}
        if not path.startswith("/put/"):
            self.seen[path] += 1
        return {}

    def operation(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """The reply to one GraphQL operation."""
        match name:
            case "Viewer":
                return {"viewer": VIEWER}
            case "ServerFeaturesQuery":
                return {"serverInfo": {"features": []}}
            case "OrganizationCoreWeaveOrganizationID":
                return {"entity": {"organization": None}}
            case "UpsertBucket":
                return {"upsertBucket": {"bucket": self.bucket(given), "inserted": True}}
            case "RunResumeStatus":
                return {"model": {**PROJECT, "bucket": None}}
            case "CreateRunFiles":
                files = [{"name": file, "uploadUrl": f"{self.url}/put/{file}"} for file in given["files"]]
                return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
            case "ArtifactType":
                return {"project": {"artifact": None}}
            case "CreateArtifact":
                made = {"id": "artifact", "state": "PENDING", "artifactSequence": {"latestArtifact": None}}
                return {"createArtifact": {"artifact": made}}
            case "CreateArtifactManifest":
                put = {"id": "file", "uploadUrl": f"{self.url}/put/manifest", "uploadHeaders": []}
                return {"createArtifactManifest": {"artifactManifest": {"id": "manifest", "file": put}}}
            case "CreateArtifactFiles":
                node: dict[str, Any] = {
                    "storagePath": "put/table",
                    "uploadUrl": f"{self.url}/put/table",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": "artifact"},
                }
                return {
                    "createArtifactFiles": {
                        "files": {"edges": [{"node": node} for _ in given["input"]["artifactFiles"]]}
                    }
                }
            case "CommitArtifact":
                return {"commitArtifact": {"artifact": {"id": "artifact", "digest": "0"}}}
            case "UpsertSweep":
                identity = f"sweep{len(self.sweeps)}"
                self.sweeps[identity] = Sweep(given["config"], yaml.safe_load(given["config"]))
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
        self.unknown.add(name)
        return {}

    def bucket(self, given: dict[str, Any]) -> dict[str, Any]:
        """Create or update a run."""
        name = given["name"] or given["id"]
        run = self.runs.setdefault(name, Run())
        run.config |= {key: part["value"] for key, part in json.loads(given["config"] or "{}").items()}
        run.group, run.job_type = given["groupName"] or run.group, given["jobType"] or run.job_type
        run.tags, run.sweep = given["tags"] or run.tags, given["sweep"] or run.sweep
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
        rule = sweep.config.get("early_terminate")
        if not rule:
            return False
        metric, row = sweep.config["metric"]["name"], rule["min_iter"] - 1
        there = {job: self.runs[job].history.get(row, {}).get(metric) for job in sweep.handed_out if job in self.runs}
        values = {job: value for job, value in there.items() if value is not None}
        return name in values and float(values[name]) > 2 * min(values.values())
