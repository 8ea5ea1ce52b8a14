"""What the scenarios of faults.py share: a sweep of short runs, its processes, and the check of what it came to."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import yaml

NOT_COMPARED = ("peak_memory", "examples_per_second", "seconds")
MARK = "LOSSLAB_TRIAL"
PATIENCE = 900.0  # seconds: what takes longer hangs, also where the processor is shared
Table = dict[str, dict[str, float]]


def sweep_file(folder: Path, jobs: int, epochs: int = 2) -> Path:
    """A grid of short runs: a linear model of 442 patients."""
    parameters = {
        "data": {"value": "diabetes"},
        "model": {"value": "linear"},
        "trainer.max_epochs": {"value": epochs},
        "loss": {"values": ["mse", "mae"]},
        "optimizer": {"values": ["sgd", "adam"]},
        "seed": {"values": list(range(jobs // 4))},
    }
    command = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    file = folder / "faults.yaml"
    file.write_text(yaml.safe_dump({"method": "grid", "parameters": parameters, "command": command}))
    return file


class Driver:
    """A driver with its workers, found again by a mark in their environment.

    Args:
        file: of the sweep.
        output: its `output_dir`.
        words: typed after it.
        env: more of the environment.
    """

    def __init__(self, file: Path, output: Path, *words: str, env: Mapping[str, str] | None = None) -> None:
        self.mark = uuid.uuid4().hex
        typed = [sys.executable, "-m", "losslab.sweep", str(file), f"output_dir={output}", *words]
        self.process = subprocess.Popen(
            typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(env or {}), MARK: self.mark},
        )
        self.began = time.monotonic()

    def at(self, moment: float) -> bool:
        """Wait until so many seconds after the start; whether the driver still lives then."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(max(0.0, self.began + moment - time.monotonic()))
        return self.process.poll() is None

    def living(self) -> list[int]:
        """All processes of this driver, itself included."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                zombie = (folder / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
                if not zombie and f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found

    def workers(self) -> list[int]:
        """All but the driver itself."""
        return [pid for pid in self.living() if pid != self.process.pid]

    def ended(self) -> str:
        """What it printed, once it has ended."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        return out

    def gone(self) -> float:
        """Wait until no process of it is left, and say how many seconds that took."""
        began = time.monotonic()
        while left := self.living():
            assert time.monotonic() - began < 60, f"{left} live on"
            time.sleep(0.05)
        return time.monotonic() - began


def send(pids: list[int], number: int = signal.SIGKILL) -> None:
    """Send a signal to processes that may have ended."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def records(output: Path) -> dict[str, str]:
    """The state of each job that has a result."""
    return {file.stem: json.loads(file.read_text())["state"] for file in output.glob("sweeps/*/jobs/*.json")}


def none_failed(output: Path) -> None:
    """No job has been recorded as failed."""
    wrong = [file for file in output.glob("sweeps/*/jobs/*.json") if json.loads(file.read_text())["state"] != "done"]
    assert not wrong, "\n".join(file.read_text() for file in wrong[:3])


def table(output: Path) -> Table:
    """The numbers of each run, by all that was typed for it; every job has one result and one finished run."""
    found: Table = {}
    for file in output.glob("sweeps/*/runs/*/status.json"):
        status = json.loads(file.read_text())
        assert status["status"] == "finished", f"{file} says {status['status']}"
        config = yaml.safe_load((file.parent / "config.yaml").read_text())
        name = f"{config['loss']} {config['optimizer']} {config['seed']}"
        assert name not in found, f"{name} has two runs"
        summary = json.loads((file.parent / "summary.json").read_text())
        found[name] = {key: n for key, n in summary.items() if not any(word in key for word in NOT_COMPARED)}
        rows = (file.parent / "history.csv").read_text().splitlines()
        epochs = [int(row.split(",")[0]) for row in rows[1:]]
        assert epochs == list(range(config["trainer.max_epochs"])), f"{file.parent} has the epochs {epochs}"
    assert len(found) == len(records(output)), f"{len(found)} runs, {len(records(output))} results"
    return found


def undisturbed(file: Path, output: Path, *words: str) -> Table:
    """What a sweep comes to that is left in peace."""
    driver = Driver(file, output, *words)
    said = driver.ended()
    assert driver.process.returncode == 0, said
    return table(output)


def goes_on(file: Path, output: Path, peace: Table, *words: str) -> None:
    """The same command ends the sweep, with the numbers of the undisturbed one."""
    driver = Driver(file, output, *(words or ("n=2",)))
    said = driver.ended()
    assert driver.process.returncode == 0, said
    none_failed(output)
    war = table(output)
    assert war == peace, [name for name in peace if war.get(name) != peace[name]]
    driver.gone()
