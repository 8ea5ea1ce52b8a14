"""Connect to a Ray cluster. Nothing of Ray is imported before that."""

import os
import socket
from dataclasses import dataclass
from importlib.util import find_spec
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

from losslab.errors import Refused
from losslab.sweep.engine import Engine, share_out
from losslab.sweep.node import NodeWorker
from losslab.sweep.stopping import stop_driver, until_signalled

PATIENCE = 10.0  # seconds within which the head of a cluster must answer


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that this process is connected to."""

    ray: Any  # the module, which only this engine imports
    count: int  # how many workers are wanted
    cpus: float  # cores for each
    gpus: float  # GPUs for each

    def start(self) -> Any:
        """Ask for a worker; it starts when a node has room for it."""
        actor = self.ray.remote(NodeWorker)
        return actor.options(num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=0).remote()

    def has_node(self, name: str) -> bool:
        """Return whether a node is still there."""
        return any(node["NodeID"] == name and node["Alive"] for node in self.ray.nodes())


def check_installed() -> None:
    """Refuse to go on without Ray."""
    if find_spec("ray") is None:
        raise Refused("engine=ray needs Ray: type pip install 'losslab[ray]'")


def connect(engine: Engine) -> Cluster:
    """Connect to the cluster at an address, else to that of `RAY_ADDRESS`, else to one of this machine that is started.

    Ray listens to the network. A cluster of this machine answers nobody who does not know its token.

    Raises:
        Refused: without Ray, without a cluster there, and where no node has room for a run.
    """
    check_installed()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray would tell its makers
    address = engine.address or os.environ.get("RAY_ADDRESS", "")
    if not address and "RAY_AUTH_MODE" not in os.environ:
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token_hex(32)}
    import ray

    own = {} if address else {"include_dashboard": False}
    try:
        check_answer(address)
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise Refused(
            f"no Ray cluster answers at {address or 'this machine'} ({first_line(error)}): type address=HEAD:6379 with "
            "the name of its head, on a machine or in a container where you typed ray start, or leave address out for "
            "a cluster of this machine"
        ) from None
    until_signalled(stop_driver)  # Ray has replaced the handlers
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    gpus = engine.gpus if engine.gpus is not None else float(any(node.get("GPU") for node in nodes))
    room = share_out(nodes, engine.cpus, gpus)
    if not room and engine.n is None:
        raise Refused(
            f"no node of the cluster has {engine.cpus:g} cores and {gpus:g} GPUs for a run: type smaller cpus_per_run= "
            "or gpus_per_run=, or n= for as many workers as the cluster is to grow to"
        )
    return Cluster(ray, engine.n or room, engine.cpus, gpus)


def check_answer(address: str) -> None:
    """Check that a machine answers at `HOST:PORT`, with or without `ray://`; Ray itself would try for minutes.

    Raises:
        OSError: where nothing answers.
        ValueError: where that is no port.
    """
    place = urlsplit(address if "://" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=PATIENCE).close()


def find_node() -> str:
    """Return Ray's name of the node that this runs on."""
    import ray

    return str(ray.get_runtime_context().get_node_id())


def first_line(error: BaseException) -> str:
    """Return the first line of an error, for a sentence."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().partition("\n")[0].rstrip(". ") or type(error).__name__
