"""A Ray cluster of virtual nodes, each with a disk of its own, started in a folder and stopped with all it started."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from tests.slurm.cluster import free_ports

PATIENCE = 120  # seconds: nothing takes a third of them


def missing() -> str | None:
    """Why no such cluster can be started here; `None` where one can."""
    if find_spec("ray") is None:
        return "no Ray here: pip install 'losslab[ray]'"
    if shutil.which("unshare") is None or os.geteuid() != 0:
        return "only root gives each node a disk of its own"
    probe = subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False)
    return None if probe.returncode == 0 else "no namespaces here, in which a node has a disk of its own"


class Cluster:
    """A head, on which nothing runs, and nodes that see nothing of a folder that the driver works in.

    Args:
        folder: of all its files.
        hidden: the driver's folder.
    """

    def __init__(self, folder: Path, hidden: Path) -> None:
        self.folder, self.hidden = folder, hidden
        hidden.mkdir(exist_ok=True)
        (port,) = free_ports(1)
        self.address = f"127.0.0.1:{port}"
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}
        quiet = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "120", "HOME": str(folder)}
        self.env = {**os.environ, **quiet, "OMP_NUM_THREADS": "1"}
        self.start("head", "--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false")

    def add(self, *names: str, cpus: int, gpus: int = 0) -> None:
        """Add nodes with so many cores and GPUs each, whatever this machine has."""
        for name in names:
            self.start(name, f"--address={self.address}", f"--num-cpus={cpus}", f"--num-gpus={gpus}")

    def start(self, name: str, *words: str) -> None:
        own = self.folder / name  # where this node keeps what it needs for a while; the head's is short, for sockets
        own.mkdir()
        ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *words]
        hide = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {self.hidden} && exec "$@"', "sh"]
        with (self.folder / f"{name}.out").open("w") as out:
            self.nodes[name] = subprocess.Popen(
                ray if name == "head" else [*hide, *ray],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=self.env if name == "head" else {**self.env, "TMPDIR": str(own)},
                start_new_session=True,
            )
        self.until(lambda: "runtime started" in self.said(name), name)

    def until(self, happens: Callable[[], object], what: str) -> None:
        """Wait until something happens."""
        deadline = time.monotonic() + PATIENCE
        while not happens():
            for name, node in self.nodes.items():
                assert node.poll() is None, self.said(name)
            assert time.monotonic() < deadline, f"{what}: not in {PATIENCE} s"
            time.sleep(0.1)

    def said(self, name: str) -> str:
        """What a node has printed."""
        return (self.folder / f"{name}.out").read_text()

    def workers(self, name: str) -> list[int]:
        """The processes that train on a node."""
        group = os.getpgid(self.nodes[name].pid)
        return [pid for pid in below(group) if b"losslab.sweep.worker" in command(pid)]

    def actors(self, name: str) -> list[int]:
        """The processes of Ray's that hold these."""
        return [pid for pid in below(self.nodes[name].pid) if command(pid).startswith(b"ray::NodeWorker")]

    def take_away(self, name: str) -> None:
        """End a node and all that runs there, without a word."""
        node = self.nodes.pop(name)
        for pid in [*below(node.pid), node.pid]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        node.wait()

    def stop(self) -> None:
        """End all of it, the head last."""
        for name in [*self.nodes][::-1]:
            self.take_away(name)


def command(pid: int) -> bytes:
    """What a process was started with."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
    except OSError:
        return b""


def below(pid: int) -> list[int]:
    """The processes that a process has started, and so on."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    children = [int(word) for word in found.stdout.split()]
    return [each for child in children for each in (child, *below(child))]
