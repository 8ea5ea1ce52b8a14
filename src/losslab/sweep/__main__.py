"""A W&B sweep file, run on this machine without a server or an account.

    python -m losslab.sweep sweeps/loss_x_optimizer.yaml          # as many runs at a time as there are cores
    python -m losslab.sweep sweeps/tune.yaml n=4 trainer.max_epochs=9    # settings for every run, as in train.py
    python -m losslab.sweep sweeps/tune.yaml test_seeds=[100,101,102]    # then the best of each cell, with fresh seeds

    n=2                   runs at a time
    name=other            of the sweep and its folder, OUTPUT/sweeps/NAME; else the file's name
    retry=true            do jobs again that failed
    test_seeds=[100,101]  when all is tuned, run the setting of each cell that is best on the validation rows with these

The same command again does what is missing; on other machines that share the folder it helps. Random and Bayesian
search and hyperband are Optuna's.
"""

import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from losslab import door
from losslab.errors import Refused, keyed, listed
from losslab.sweep.ledger import HERE, Ledger, Record
from losslab.sweep.plan import QUIET, Job, Plan, hashed, read, silent, single, typed_as

OWN = ("n", "name", "retry", "test_seeds")
CRASHES = 3  # a job that its worker died of this often is given up


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once() -> int:
    """As many runs as there are cores, and 2 GB of memory for each."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(cores(), memory // 2_000_000_000))


def whole(key: str, value: str) -> int:
    """A number that was typed."""
    if not value.isdigit() or (key == "n" and value == "0"):
        raise Refused(f"{key}={value} does not fit: it must be a whole number")
    return int(value)


def settled(folder: Path, plan: Plan) -> None:
    """Refuse to mix runs under one name that are no runs of one sweep; more seeds, losses or optimizers are welcome."""
    kept = {key: door.shown(value) for key, value in plan.fixed.items() if not silent(f"{key}=")}
    now: dict[str, Any] = {
        "method": plan.method,
        "trials": plan.trials,
        "ranges": plan.ranges,
        "early": plan.early,
        "fixed": kept,
    }
    file = folder / "sweep.json"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(now, indent=1) + "\n")
        return
    before = json.loads(file.read_text())
    for what in now:
        if before[what] != json.loads(json.dumps(now[what])):
            old, new = (
                " ".join(typed_as(side[what])) if what == "fixed" else json.dumps(side[what]) for side in (before, now)
            )
            raise Refused(
                f"{folder} holds a sweep with other settings ({what}: {old or 'none'}; now {new or 'none'}): "
                "type name=ANOTHER for a sweep of its own"
            )


class Workers:
    """The processes that do the jobs; one that dies is replaced, and what it was at is done again.

    Args:
        folder: the sweep's.
        plan: the sweep.
        count: how many.
    """

    def __init__(self, folder: Path, plan: Plan, count: int) -> None:
        self.folder, self.plan, self.count = folder, plan, count
        self.jobs: list[Job] = []
        self.processes: list[subprocess.Popen[str]] = []
        self.idle_deaths = 0
        (folder / "logs").mkdir(exist_ok=True)

    def start(self) -> "subprocess.Popen[str]":
        """A process in a session of its own: Ctrl-C is for the driver, which then lets go of it."""
        threads = {"OMP_NUM_THREADS": str(max(1, cores() // self.count)), **os.environ}
        log = self.folder / "logs" / f"{HERE.replace(' ', '-')}-{os.getpid()}-{time.time_ns()}.txt"
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, "-m", "losslab.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=subprocess.STDOUT,
                env=threads,
                text=True,
                start_new_session=True,
            )
        self.tell(process, self.jobs)
        return process

    def tell(self, process: "subprocess.Popen[str]", jobs: Sequence[Job]) -> None:
        """Give jobs to a worker."""
        plan = {key: value for key, value in asdict(self.plan).items() if key != "cells"}
        told = {"folder": str(self.folder), "plan": plan, "jobs": [asdict(job) for job in jobs]}
        assert process.stdin is not None
        with suppress(BrokenPipeError):  # it died at once: it is replaced in the next round
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()

    def give(self, jobs: list[Job]) -> None:
        """Give more jobs to all of them."""
        self.jobs += jobs
        for process in self.processes:
            self.tell(process, jobs)

    def mend(self, ledger: Ledger, left: int) -> None:
        """As many workers as there is work for; a job that keeps killing them is given up.

        Raises:
            Refused: where workers die before they take a job.
        """
        for process in [process for process in self.processes if process.poll() is not None]:
            self.processes.remove(process)
            found = ledger.crashed(process.pid, [job.key for job in self.jobs])
            if found is None:
                self.idle_deaths += 1
                if self.idle_deaths >= CRASHES:
                    raise Refused(f"workers end before they take a job: see {self.folder / 'logs'}")
            elif found[1] >= CRASHES and (claim := ledger.claim(found[0])):
                job = next(job for job in self.jobs if job.key == found[0])
                code = process.returncode
                died = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
                reason = f"its process died {CRASHES} times, the last time {died}; SIGKILL often means out of memory"
                runs = [{"overrides": {**job.setting, "seed": job.seeds[0]}}]
                claim.finish({"state": "failed", "reason": reason, "setting": job.setting, "runs": runs})
        while len(self.processes) < min(self.count, left):
            self.processes.append(self.start())

    def stop(self) -> None:
        """Let go of them: each keeps its last checkpoint, and ends."""
        for process in self.processes:
            assert process.stdin is not None
            with suppress(BrokenPipeError):
                process.stdin.close()
        deadline = time.monotonic() + 30
        for process in self.processes:
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def follow(ledger: Ledger, workers: Workers, plan: Plan, jobs: Sequence[Job], what: str) -> dict[str, Record]:
    """Wait until all jobs are over, whoever does them.

    Returns:
        What became of each.
    """
    keys = [job.key for job in jobs]
    better = {"min": min, "max": max}[plan.mode]
    records = ledger.records(keys)
    unit = "trial" if jobs and jobs[0].draw else "run"
    with tqdm(total=len(keys), desc=what, unit=unit, initial=len(records), disable=None) as bar:
        while True:
            records = ledger.records(keys)
            values = [record["value"] for record in records.values() if record.get("value") is not None]
            failed = sum(record["state"] == "failed" for record in records.values())
            bar.update(len(records) - bar.n)
            best = {plan.yardstick: f"{better(values):.4g}"} if values else {}
            bar.set_postfix({"failed": failed, "left": len(keys) - len(records), **best}, refresh=True)
            if len(records) == len(keys):
                return records
            workers.mend(ledger, len(keys) - len(records))
            time.sleep(0.2)


def best_settings(plan: Plan, jobs: Sequence[Job], records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """For each cell the setting with the best mean of the validation yardstick over its seeds.

    A setting counts when all its seeds are there: none failed, none was stopped.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for job in jobs:
        record = records[job.key]
        setting = hashed(record["setting"])
        entry = found.setdefault(hashed(job.cell), {}).setdefault(
            setting, {"cell": job.cell, "setting": record["setting"], "values": []}
        )
        entry["values"] += [run["value"] for run in record["runs"] if "value" in run]
    best = []
    for settings in found.values():
        whole = [entry for entry in settings.values() if len(entry["values"]) == len(plan.seeds)]
        if whole:
            chosen = {"min": min, "max": max}[plan.mode](whole, key=lambda entry: statistics.fmean(entry["values"]))
            best.append({**chosen, "mean": statistics.fmean(chosen["values"]), "of": len(settings)})
    return sorted(best, key=lambda entry: entry["mean"], reverse=plan.mode == "max")


def chosen(folder: Path, plan: Plan, jobs: Sequence[Job], records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """The settings to test: written down once, because no choice is made anew when test figures have been seen."""
    file = folder / "chosen.json"
    before = json.loads(file.read_text()) if file.is_file() else []
    known = {hashed(entry["cell"]) for entry in before}
    found = before + [e for e in best_settings(plan, jobs, records) if hashed(e["cell"]) not in known]
    part = file.with_suffix(f".{os.getpid()}")
    part.write_text(json.dumps(found, indent=1) + "\n")
    part.replace(file)
    cells = {hashed(cell) for cell in plan.cells}
    return [entry for entry in found if hashed(entry["cell"]) in cells]


def fresh(plan: Plan, path: str, seeds: Sequence[int]) -> None:
    """Refuse test seeds that were tuned on, and a split in which rows that were tuned on are tested on."""
    if both := sorted({*seeds} & {*plan.seeds}):
        raise Refused(f"test_seeds={both} were tuned on: type seeds that are not in {plan.seeds}")
    splits = set()
    for seed in (plan.seeds[0], seeds[0]):
        cfg = door.configure(typed_as({**QUIET, **plan.fixed, **plan.cells[0], "seed": seed}))
        splits.add(cfg.data.get("seed"))
    if len(splits) > 1:
        raise Refused(
            f"{path}: with each seed other rows are split off, so rows that were tuned on would be tested on: "
            "type data.seed=0, one split for all"
        )


def report(folder: Path, plan: Plan, jobs: Sequence[Job], records: Mapping[str, Record]) -> None:
    """What failed, the budget, the best, and what to type next."""
    failures = [(job, records[job.key]) for job in jobs if records[job.key]["state"] == "failed"]
    never = []
    for job, record in failures:
        run = record["runs"][-1]["overrides"]
        if not list((folder / "runs").glob(f"*-{job.key[:6]}/status.json")):
            never.append({"overrides": run, "reason": record["reason"]})
        varied = {key: run[key] for key in run if key not in plan.fixed}
        print(f"failed    {' '.join(typed_as(varied))}: {record['reason']}")
    (folder / "failed.json").write_text(json.dumps(never, indent=1) + "\n")
    if failures:
        print("          retry=true does them again")
    stopped = sum(bool(record.get("pruned")) for record in records.values())
    each = len({hashed(record["setting"]) for record in records.values()}) / len(plan.cells)
    print(
        f"budget    {each:g} settings for each of {len(plan.cells)} cells, {len(plan.seeds)} seeds each, "
        f"{plan.epochs} epochs{f'; hyperband stopped {stopped} of {len(jobs)}' if plan.early else ''}"
    )
    for entry in best_settings(plan, jobs, records)[:1]:
        varied = {key: value for key, value in entry["setting"].items() if key not in plan.fixed}
        seeds = f"mean of {len(plan.seeds)} seeds" if len(plan.seeds) > 1 else "one seed"
        print(f"best      val/{plan.yardstick} {entry['mean']:.5g}, {seeds}: {' '.join(typed_as(varied))}")


def sweep(path: str, words: Sequence[str]) -> int:
    """Run a sweep file to its end.

    Returns:
        The exit code: 1 where jobs failed.

    Raises:
        Refused: for anything that a user could have mistyped, before anything is started.
    """
    typed = keyed(words, [*OWN, "*"])
    count = whole("n", typed.pop("n")) if "n" in typed else at_once()
    retry = {"true": True, "false": False}.get(typed.pop("retry", "false").lower())
    if retry is None:
        raise Refused("retry does not fit: it must be true or false")
    test_seeds = [whole("test_seeds", seed) for seed in listed(typed.pop("test_seeds", ""))]
    output, name = typed.pop("output_dir", "outputs"), typed.pop("name", Path(path).stem)
    plan = read(path, typed)
    plan.name = name
    if test_seeds:
        fresh(plan, path, test_seeds)
    folder = Path(output) / "sweeps" / name
    door.writable(folder)
    settled(folder, plan)
    jobs, ledger = plan.jobs(), Ledger(folder / "jobs")
    if retry:
        for key, record in ledger.records([job.key for job in jobs]).items():
            if record["state"] == "failed":
                ledger.forget(key)
    done = len(ledger.records([job.key for job in jobs]))
    print(
        f"sweep     {name}: {len(jobs)} {'trials' if plan.trials else 'runs'} of {len(plan.cells)} cells, "
        f"{done} of them over; {count} at a time\nfolder    {folder}",
        flush=True,
    )
    workers = Workers(folder, plan, count)
    tested: list[Job] = []
    with ExitStack() as stack:
        stack.callback(workers.stop)
        workers.give(jobs)
        records = follow(ledger, workers, plan, jobs, "tuning" if test_seeds else name)
        if test_seeds:
            entries = chosen(folder, plan, jobs, records)
            tested = [
                single(entry["cell"], {**entry["setting"], "stage": "test"}, seed)
                for seed in test_seeds
                for entry in entries
            ]
            workers.give(tested)
            ended = follow(ledger, workers, plan, tested, "testing")
    report(folder, plan, jobs, records)
    failed = sum(record["state"] == "failed" for record in records.values())
    if test_seeds:
        lost = [record["reason"] for record in ended.values() if record["state"] == "failed"]
        failed += len(lost)
        print(
            f"tested    {len(tested) - len(lost)} of {len(tested)} runs: the setting of each cell that chosen.json "
            f"names, with seeds {test_seeds}"
        )
        for reason in sorted(set(lost)):
            print(f"failed    {reason}")
    print(f"compare   python -m losslab.compare {folder}\n{folder}")
    return 1 if failed else 0


def main() -> None:
    """The command: a mistake ends in one sentence and exit code 1, Ctrl-C in how to go on."""
    words = sys.argv[1:]
    if not words or {"-h", "--help"} & set(words):
        sys.exit(print(__doc__))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs are begun without it
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.path.append("")
    try:
        sys.exit(sweep(words[0], words[1:]))
    except Refused as error:
        sys.exit(f"losslab: {error}")
    except KeyboardInterrupt:
        print("\nstopped; nothing is lost: the same command goes on with what is missing", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
