"""Where the jobs of a sweep or a race are done: in processes of this machine, or on the nodes of a Ray cluster."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from losslab.config import check
from losslab.config.launch import check_devices
from losslab.errors import Refused, nearest
from losslab.sweep.plan import Plan, to_overrides
from losslab.sweep.processes import Workers, count_workers, gpus

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from losslab.sweep.cluster import ClusterWorkers

AnyWorkers: TypeAlias = "Workers | ClusterWorkers"
ENGINES = ("local", "ray")
OF_A_CLUSTER = ("address", "cpus_per_run", "gpus_per_run")
KEYS = ("engine", "n", "stack", *OF_A_CLUSTER)
STACK = 32
SMALL = {"bag_of_words", "linear", "mlp", "point", "tabular"}  # models of few and small operations


@dataclass(frozen=True)
class Engine:
    """Where jobs are done, and how many at a time."""

    name: str = "local"  # one of `ENGINES`
    n: int | None = None  # runs at a time, or stacks of them; `None` for what the machine or the cluster holds
    # at most how many runs are trained as one; `None` for `STACK` of small models on GPUs, else 1
    stack: int | None = None
    # of the cluster; empty for `RAY_ADDRESS`, else a cluster of this machine, which is started if need be
    address: str = ""
    cpus: float = 1.0  # cores for each run of a cluster
    gpus: float | None = None  # GPUs, or the share of one, for each run; `None` for 1 if the cluster has any

    def count(self, plan: Plan) -> int:
        """Return how many runs this machine trains at a time; of a cluster we know that only when we are connected."""
        return count_workers(uses_cpu(plan)) if self.n is None else self.n

    def start(self, folder: Path, plan: Plan, runs: int = 0) -> AnyWorkers:
        """Return the workers of a sweep, which start once they have jobs.

        Args:
            runs: in all; stacks are made so small that no worker is idle. 0 if nobody knows.

        Raises:
            Refused: where there is no such cluster, or no GPU for runs that need one.
        """
        cfg = compose_first(plan)
        if self.name == "local":
            check_devices(cfg)
            count = self.count(plan)
            return Workers(folder, plan, count, self.fit_stack(runs, count, plan, bool(gpus())))
        from losslab.sweep.cluster import ClusterWorkers
        from losslab.sweep.connect import connect

        cluster = connect(self)
        if cfg.trainer.accelerator in ("cuda", "gpu") and not cluster.gpus:
            raise Refused(
                f"trainer={cfg.run.choices.trainer} needs a GPU, and no run has one here: type gpus_per_run=1 if the "
                "cluster has GPUs, else trainer=cpu"
            )
        return ClusterWorkers(folder, plan, cluster, self.fit_stack(runs, cluster.count, plan, cluster.gpus > 0))

    def fit_stack(self, runs: int, count: int, plan: Plan, on_gpus: bool) -> int:
        """Return how many runs a stack may hold if each of `count` workers is to have some of `runs`."""
        alone = not on_gpus or bool(plan.early) or uses_cpu(plan)
        stack = self.stack or (1 if alone or not is_small(plan) else STACK)
        return min(stack, max(1, runs // max(1, count))) if runs else stack

    def advise(self, runs: int, plan: Plan, stack: int) -> str:
        """Return a line about stacks if many runs of a small model train alone because nobody said otherwise."""
        if self.stack is not None or stack > 1 or runs < 2 * STACK or plan.early or not is_small(plan):
            return ""
        return (
            f"stack     stack={STACK} trains {STACK} runs as one, often in less than half the time; "
            "single-precision numbers then differ in the last digits\n"
        )


def compose_first(plan: Plan) -> "DictConfig":
    """Compose the configuration of a plan's first run."""
    return check.configure(to_overrides(plan.first(plan.cells[0])))


def uses_cpu(plan: Plan) -> bool:
    """Return whether all runs of a plan train on the CPU, though there may be GPUs."""
    return plan.fixed.get("trainer") == "cpu"


def is_small(plan: Plan) -> bool:
    """Return whether a step of a plan's models takes less time than starting its operations, so that stacks pay.

    >>> is_small(Plan("p", "grid", {"data": "diabetes"}, {}, {}, {}))
    True
    """
    return {*plan.grid.get("model", [compose_first(plan).run.choices.model])} <= SMALL


def take_engine(typed: dict[str, str]) -> Engine:
    """Take the keys of an engine out of what was typed.

    Raises:
        Refused: for what does not fit.

    >>> take_engine({"engine": "ray", "gpus_per_run": "0.125", "n": "16"})
    Engine(name='ray', n=16, stack=None, address='', cpus=1.0, gpus=0.125)
    """
    found = {key: typed.pop(key) for key in KEYS if key in typed}
    name = found.get("engine", "local")
    if name not in ENGINES:
        raise Refused(f"engine={name} is not an option; {nearest(name, ENGINES)}")
    if name == "local" and (alone := [key for key in OF_A_CLUSTER if key in found]):
        raise Refused(f"{alone[0]}={found[alone[0]]} is for a cluster: type engine=ray too, or leave it out")
    n = parse_number("n", found["n"]) if "n" in found else None
    if name == "ray" and n == 0:
        raise Refused("n=0 trains in this process, and engine=ray on the nodes of a cluster: type n=1 or more")
    cpus, share = (parse_share(key, found[key]) if key in found else None for key in ("cpus_per_run", "gpus_per_run"))
    if cpus == 0 and not share:
        raise Refused("cpus_per_run=0 would start any number of runs on a node: type cpus_per_run=1")
    width = found.get("stack", "auto")
    stack = None if width == "auto" else parse_number("stack", width)
    return Engine(name, n, stack, found.get("address", ""), 1.0 if cpus is None else cpus, share)


def parse_number(key: str, value: str) -> int:
    """Parse a number that was typed."""
    least = 1 if key == "stack" else 0
    if not value.isdigit() or int(value) < least:
        auto = " or auto" * (key == "stack")
        raise Refused(f"{key}={value} does not fit: it must be a whole number of at least {least}{auto}")
    return int(value)


def parse_share(key: str, value: str) -> float:
    """Parse a number of cores or GPUs: a whole number, or the share of one.

    >>> parse_share("gpus_per_run", "0.125"), parse_share("cpus_per_run", "4")
    (0.125, 4.0)
    """
    try:
        share = float(value)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1e6 or (share > 1 and share != int(share)) or 0 < share < 1e-3:
        raise Refused(f"{key}={value} does not fit: it must be a whole number, or a share of one such as {key}=0.125")
    return share


def share_out(nodes: list[dict[str, float]], cpus: float, gpus: float) -> int:
    """Count the runs that nodes hold at a time.

    >>> share_out([{"CPU": 8, "GPU": 1}, {"CPU": 8}], cpus=1, gpus=0.25)
    4
    """
    needs = {name: need for name, need in (("CPU", cpus), ("GPU", gpus)) if need}
    return sum(min(int(node.get(name, 0.0) / need + 1e-6) for name, need in needs.items()) for node in nodes)
