"""Does losslab compute on this GPU what it computes on the CPU, and how fast is it there?

    python benchmarks/gpu.py                                   # all parts, ten minutes at most, one GPU
    python benchmarks/gpu.py parts=correctness,speed minutes=5 out=mine.json
    python benchmarks/gpu.py device=cpu tiny=true              # all of the code, without a GPU

    correctness   a GPU's weights beside the CPU's: tasks, optimizers, precisions, resuming, stacks, memory, prediction
    speed         training as a share of a bare loop's, how busy the GPU is, what share of its peak the model uses
    sweep         64 and 512 runs trained as one, beside one by one and beside processes
    two           several GPUs beside one
    compile       what torch.compile would add to the bare loop, if there is time left for it

Each part is a process of its own with its share of the time, so that a fault of the device ends one part only. The data
are random or shipped; nothing is downloaded. `out`, gpu.json by default, holds the table, the device and all versions,
and what a part printed that has failed. It is written after each part, and when this is stopped by a signal.
The exit code is 1 if a check has failed.
"""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what Lightning sets, too late for loops that come first
os.environ["WANDB_MODE"] = "offline"

from losslab.machine import kill_tree

sys.path.insert(0, str(Path(__file__).parent))  # also where Python does not add the folder of a script by itself
from on_gpu.place import Found, Place, Row, judge

# of the time; what is left over goes on
SHARES = {"correctness": 0.3, "speed": 0.2, "sweep": 0.3, "two": 0.1, "compile": 0.1}
DEFAULTS = {"out": "gpu.json", "minutes": "10", "parts": ",".join(SHARES), "device": "cuda", "tiny": "false"}
GRACE = 20  # seconds that a check may take beyond the time of its part, and half as long as that part
SAID = 4000  # characters of what a part printed, which are kept if it has failed

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
            traceback.print_exc()
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
    faulthandler.dump_traceback_later(max(1.0, float(typed["limit"]) - 2), exit=False)  # shortly before it is killed
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, Path(typed["rows"]).open("a") as out:

        def write(line: object) -> None:
            print(json.dumps(line), file=out, flush=True)

        place = Place(typed["device"], typed["tiny"] == "true", Path(folder), until)
        checks: list[Check] = import_module(f"on_gpu.{part}").CHECKS
        write(describe(place.device))
        for row in run_checks(part, checks, place, time.monotonic):
            write(row._asdict())


def start_part(
    part: str, seconds: float, limit: float, chosen: dict[str, str], found: list[Row], about: dict[str, Any]
) -> None:
    """Run one part in a process of its own; append its rows to `found`, and what it says of the device to `about`.

    Args:
        part: its name.
        seconds: after which no check of it begins.
        limit: seconds after which it is killed.
        chosen: what was typed.
        found, about: also filled when this process is told to stop meanwhile.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows, log, fault = Path(folder, "rows"), Path(folder, "log"), "it was stopped with this benchmark"
        words = [f"part={part}", f"seconds={seconds}", f"limit={limit}", f"rows={rows}"]
        words += [f"{key}={chosen[key]}" for key in ("device", "tiny")]
        with log.open("w") as said:
            child = subprocess.Popen(
                [sys.executable, __file__, *words], stdout=said, stderr=said, start_new_session=True
            )
            try:
                child.wait(limit)
                fault = f"its process ended with {child.returncode}" if child.returncode else ""
            except subprocess.TimeoutExpired:
                fault = f"it was stopped after {limit:.0f} s"
            finally:
                kill_tree(child.pid)
                child.wait()
                whole = rows.read_text().split("\n")[:-1] if rows.exists() else []  # a line may have been cut off
                lines = [json.loads(line) for line in whole]
                mine = [Row(**line) for line in lines[1:]]
                printed = log.read_text(errors="replace").strip()
                if fault:
                    last = " ".join([f"{fault};", *printed.splitlines()[-1:]])[:300]
                    mine.append(Row(part, "the rest", None, "", False, last))
                found += mine
                about |= lines[0] if lines else {}
                if any(row.ok is False for row in mine):
                    about.setdefault("printed", {})[part] = printed[-SAID:]


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


def missing(part: str, device: str) -> str:
    """Return why a part cannot run here; empty if it can."""
    import torch

    if device == "cpu":
        return "no GPU" if part == "compile" else ""
    if not torch.cuda.is_available():
        return "no GPU"
    return "one GPU" if part == "two" and torch.cuda.device_count() < 2 else ""


def check_words(typed: dict[str, str]) -> None:
    """End with a sentence if something else was typed than there is."""
    if unknown := typed.keys() - DEFAULTS.keys():
        sys.exit(f"{', '.join(unknown)} is no argument: type {', '.join(f'{k}={v}' for k, v in DEFAULTS.items())}")
    if wrong := [part for part in typed.get("parts", DEFAULTS["parts"]).split(",") if part not in SHARES]:
        sys.exit(f"parts={','.join(wrong)} does not fit: type some of parts={','.join(SHARES)}")


def main(typed: dict[str, str]) -> int:
    """Run the parts, write `out` after each, print the table and return the exit code."""
    import torch

    check_words(typed)
    chosen = DEFAULTS | typed
    began, whole = time.monotonic(), 60 * float(chosen["minutes"])
    rows: list[Row] = []
    about: dict[str, Any] = {"torch": torch.__version__}

    def keep() -> None:
        taken = {"minutes_taken": round((time.monotonic() - began) / 60, 2)}
        text = json.dumps({**about, **taken, "rows": [row._asdict() for row in rows]}, indent=1)
        Path(chosen["out"]).write_text(text + "\n")

    parts = chosen["parts"].split(",")
    absent = {part: why for part in parts if (why := missing(part, chosen["device"]))}
    able = [part for part in parts if part not in absent]
    try:
        for part in parts:
            left = whole - (time.monotonic() - began) - GRACE
            if part in absent or left < GRACE:
                rows.append(Row(part, part, None, "", None, absent.get(part, "the time is used up")))
                continue
            seconds, before = seconds_for(part, able, left), len(rows)
            start_part(part, seconds, min(1.5 * seconds, left) + GRACE, chosen, rows, about)
            print(show(rows[before:]).partition("\n")[2], file=sys.stderr, flush=True)
            keep()
    finally:
        keep()
        print(show(rows))
        print(f"{about.get('device', 'no GPU')}, torch {torch.__version__}, {chosen['out']}", flush=True)
    return int(any(row.ok is False for row in rows))


if __name__ == "__main__":
    words = {key: value for key, _, value in (text.partition("=") for text in sys.argv[1:])}
    if "rows" in words:  # the process of one part
        run_part(words)
    else:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was found until then is written
        sys.exit(main(words))
