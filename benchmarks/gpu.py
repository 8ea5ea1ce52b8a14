"""Does losslab compute on this GPU what it computes on the CPU, and how fast is it there?

    python benchmarks/gpu.py                                   # all parts, ten minutes at most, one GPU
    python benchmarks/gpu.py parts=correctness,speed minutes=5 out=mine.json
    python benchmarks/gpu.py device=cpu tiny=true              # all of the code, without a GPU

    correctness   a GPU's weights beside the CPU's: tasks, optimizers, precisions, resuming, stacks, memory, prediction
    speed         training as a share of a bare loop's, how busy the GPU is, what share of its peak the model uses
    sweep         64 and 512 runs trained as one, beside one by one and beside processes
    two           several GPUs beside one

Each part is a process of its own with its share of the time, so that a fault of the device ends one part only. The data
are random or shipped; nothing is downloaded. `out`, gpu.json by default, holds the table, the device and all versions.
The exit code is 1 if a check has failed.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what Lightning sets, too late for loops that come first
os.environ["WANDB_MODE"] = "offline"

from losslab.machine import kill_tree

sys.path.insert(0, str(Path(__file__).parent))  # also where Python does not add the folder of a script by itself
from on_gpu.place import Found, Place, Row, judge

SHARES = {"correctness": 0.35, "speed": 0.25, "sweep": 0.3, "two": 0.1}  # of the time; what is left over goes on
DEFAULTS = {"out": "gpu.json", "minutes": "10", "parts": ",".join(SHARES), "device": "cuda", "tiny": "false"}
GRACE = 20  # seconds that a check may take beyond the time of its part

Check = Callable[[Place], Iterable[Found]]


def seconds_for(part: str, parts: Sequence[str], left: float) -> float:
    """Return how many seconds a part may take: its share of what is left, among those that are still to come.

    >>> seconds_for("sweep", ["speed", "sweep", "two"], 400.0), seconds_for("two", ["two"], 50.0)
    (300.0, 50.0)
    """
    to_come = parts[list(parts).index(part) :]
    return left * SHARES[part] / sum(SHARES[each] for each in to_come)


def run_checks(part: str, checks: Iterable[Check], place: Place, now: Callable[[], float]) -> Iterator[Row]:
    """Run the checks of a part; one that raises is a failed row, and one whose time has not come is skipped."""
    for check in checks:
        name = check.__name__.replace("_", " ")
        if now() >= place.until:
            yield Row(part, name, None, "", None, "the time of this part is used up")
            continue
        try:
            for found in check(place):
                yield Row(part, found.check, found.value, found.wanted, judge(found.value, found.wanted), found.reason)
        except BaseException as error:  # SystemExit too: a run that gives up
            if isinstance(error, KeyboardInterrupt):
                raise
            yield Row(part, name, None, "", False, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def describe(device: str) -> dict[str, str | int | None]:
    """Describe the device, its driver and the versions."""
    import torch

    from losslab.machine import environment

    found: dict[str, str | int | None] = {**environment(), "device": device, "cuda": torch.version.cuda}
    if device != "cuda":
        return found
    try:
        query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        driver = subprocess.run(query, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        driver = None
    total = torch.cuda.get_device_properties(0).total_memory
    return found | {
        "device": torch.cuda.get_device_name(),
        "gpus": torch.cuda.device_count(),
        "memory_gb": round(total / 2**30),
        "driver": driver,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
    }


def run_part(typed: dict[str, str]) -> None:
    """Run one part in this process, and append each row to a file as it is found."""
    part, until = typed["part"], time.monotonic() + float(typed["seconds"])
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Path(typed["rows"]).open("a") as out:

        def write(line: object) -> None:
            print(json.dumps(line), file=out, flush=True)

        place = Place(typed["device"], typed["tiny"] == "true", Path(folder), until)
        checks: list[Check] = import_module(f"on_gpu.{part}").CHECKS
        write(describe(place.device))
        for row in run_checks(part, checks, place, time.monotonic):
            write(row._asdict())


def start_part(part: str, seconds: float, chosen: dict[str, str]) -> tuple[list[Row], dict[str, Any]]:
    """Run one part in a process of its own; return its rows and the description of its device."""
    with tempfile.TemporaryDirectory() as folder:
        rows, log = Path(folder, "rows"), Path(folder, "log")
        words = [f"part={part}", f"seconds={seconds}", f"rows={rows}"]
        words += [f"{key}={chosen[key]}" for key in ("device", "tiny")]
        with log.open("w") as said:
            child = subprocess.Popen(
                [sys.executable, __file__, *words], stdout=said, stderr=said, start_new_session=True
            )
            try:
                child.wait(seconds + GRACE)
                fault = f"its process ended with {child.returncode}" if child.returncode else ""
            except subprocess.TimeoutExpired:
                fault = f"it was stopped after {seconds + GRACE:.0f} s"
            finally:
                kill_tree(child.pid)
                child.wait()
        lines = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
        found = [Row(**line) for line in lines[1:]]
        if fault:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            found.append(Row(part, "the rest", None, "", False, " ".join([f"{fault};", *last])[:300]))
    return found, lines[0] if lines else {}


def show(rows: Iterable[Row]) -> str:
    """Write rows as a table.

    >>> print(show([Row("speed", "digits", 0.9712, ">= 0.95", True), Row("two", "two", None, "", None, "one GPU")]))
    part         check                                                          value  wanted    ok
    speed        digits                                                        0.9712  >= 0.95   yes
    two          two                                                                -            skipped: one GPU
    """
    lines = [f"{'part':<13}{'check':<56}{'value':>12}  {'wanted':<10}ok"]
    for row in rows:
        said = {True: "yes", False: "NO", None: "" if row.value is not None else "skipped"}[row.ok]
        value = "-" if row.value is None else f"{row.value:.4g}"
        reason = f"{': ' if said else ''}{row.reason}" if row.reason else ""
        lines.append(f"{row.part:<13}{row.check:<56}{value:>12}  {row.wanted:<10}{said}{reason}".rstrip())
    return "\n".join(lines)


def main(typed: dict[str, str]) -> int:
    """Run the parts, print the table and write `out`; return the exit code."""
    import torch

    if unknown := typed.keys() - DEFAULTS.keys():
        sys.exit(f"{', '.join(unknown)} is no argument: type {', '.join(f'{k}={v}' for k, v in DEFAULTS.items())}")
    chosen = DEFAULTS | typed
    parts, end = chosen["parts"].split(","), time.monotonic() + 60 * float(chosen["minutes"])
    if wrong := [part for part in parts if part not in SHARES]:
        sys.exit(f"parts={','.join(wrong)} does not fit: type some of parts={','.join(SHARES)}")
    rows: list[Row] = []
    about: dict[str, Any] = {"torch": torch.__version__}
    for part in parts:
        if chosen["device"] == "cuda" and not torch.cuda.is_available():
            rows.append(Row(part, part, None, "", None, "no GPU"))
        elif (left := end - time.monotonic() - GRACE) < GRACE:
            rows.append(Row(part, part, None, "", None, "the time is used up"))
        else:
            found, device = start_part(part, seconds_for(part, parts, left), chosen)
            rows, about = rows + found, about | device
            print(show(found).partition("\n")[2], file=sys.stderr, flush=True)
    print(show(rows))
    about |= {"minutes_taken": round((time.monotonic() - end) / 60 + float(chosen["minutes"]), 2)}
    Path(chosen["out"]).write_text(json.dumps({**about, "rows": [row._asdict() for row in rows]}, indent=1) + "\n")
    print(f"{about.get('device', 'no GPU')}, torch {torch.__version__}, {chosen['out']}")
    return int(any(row.ok is False for row in rows))


if __name__ == "__main__":
    words = {key: value for key, _, value in (text.partition("=") for text in sys.argv[1:])}
    if "rows" in words:  # the process of one part
        run_part(words)
    else:
        sys.exit(main(words))
