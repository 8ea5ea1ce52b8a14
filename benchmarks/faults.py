"""Does a sweep that is killed again and again end as one that is left in peace?

    python benchmarks/faults.py              # 60 runs, killed five times; about four minutes on two cores
    python benchmarks/faults.py 30 2 7       # runs, kills, seed of the moments

Each time one worker is killed (kill -9) while its driver lives, and later the driver, mostly with all its workers.
Afterwards every job must have one result and one finished run, and each number of each run must be the undisturbed
sweep's.
"""

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from os import kill
from pathlib import Path

import yaml

NOT_COMPARED = ("peak_memory", "examples_per_second", "seconds")


def sweep_file(folder: Path, jobs: int, epochs: int = 2) -> Path:
    """A grid of short runs: a linear model of 442 patients."""
    parameters = {
        "data": {"value": "diabetes"},
        "model": {"value": "linear"},
        "trainer.max_epochs": {"value": epochs},
        "loss": {"values": ["mse", "mae", "huber"]},
        "optimizer": {"values": ["sgd", "adam"]},
        "seed": {"values": list(range(jobs // 6))},
    }
    command = ["${env}", "${interpreter}", "${program}", "${args_no_hyphens}"]
    file = folder / "faults.yaml"
    file.write_text(yaml.safe_dump({"method": "grid", "parameters": parameters, "command": command}))
    return file


def start(file: Path, output: Path) -> "subprocess.Popen[bytes]":
    """A driver with two workers."""
    typed = [sys.executable, "-m", "losslab.sweep", str(file), "n=2", f"output_dir={output}"]
    return subprocess.Popen(typed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def children(pid: int) -> list[int]:
    """The workers of a driver."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]


def over(output: Path) -> int:
    """How many jobs have a result."""
    return len(list(output.glob("sweeps/faults/jobs/*.json")))


def slay(pids: list[int]) -> None:
    """kill -9."""
    for pid in pids:
        with suppress(ProcessLookupError):
            kill(pid, signal.SIGKILL)


def table(output: Path) -> dict[str, dict[str, float]]:
    """The numbers of each run, by all that was typed for it; every job has one result and one finished run."""
    found: dict[str, dict[str, float]] = {}
    for file in output.glob("sweeps/faults/runs/*/status.json"):
        status = json.loads(file.read_text())
        assert status["status"] == "finished", f"{file} says {status['status']}"
        config = yaml.safe_load((file.parent / "config.yaml").read_text())
        name = f"{config['loss']} {config['optimizer']} {config['seed']}"
        assert name not in found, f"{name} has two runs"
        summary = json.loads((file.parent / "summary.json").read_text())
        found[name] = {key: n for key, n in summary.items() if not any(word in key for word in NOT_COMPARED)}
    assert len(found) == over(output), f"{len(found)} runs, {over(output)} results"
    return found


def main(jobs: int = 60, kills: int = 5, seed: int = 0) -> None:
    """Run both sweeps and compare them."""
    moments = random.Random(seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = sweep_file(folder, jobs)
        began = time.monotonic()
        assert start(file, folder / "peace").wait() == 0
        print(f"undisturbed: {over(folder / 'peace')} jobs in {time.monotonic() - began:.0f} s", flush=True)
        output, began = folder / "war", time.monotonic()
        moment = sorted(moments.sample(range(jobs - 2), 2 * kills))
        for number, (first, second) in enumerate(zip(moment[::2], moment[1::2], strict=True)):
            driver = start(file, output)
            for least, whom in ((first, "worker"), (second, "driver")):
                while over(output) < least or len(children(driver.pid)) < 2:
                    time.sleep(0.02)
                time.sleep(moments.uniform(0, 1))
                workers = children(driver.pid)
                slay(
                    moments.sample(workers, 1) if whom == "worker" else [driver.pid, *workers][: moments.choice((1, 3))]
                )
            driver.wait()
            print(f"kill {number + 1}: {over(output)} jobs are over", flush=True)
        assert start(file, output).wait() == 0
        war, peace = table(output), table(folder / "peace")
        claims = len(list(output.glob("sweeps/faults/jobs/*.[0-9]*")))
        assert len(war) == jobs
        assert war == peace, [name for name in peace if war.get(name) != peace[name]]
        print(
            f"disturbed: {len(war)} jobs, {claims} claims, one result each, all numbers equal, "
            f"in {time.monotonic() - began:.0f} s"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
