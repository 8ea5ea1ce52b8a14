"""The driver of a sweep: plan it, start workers, follow the jobs, and report."""

import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from losslab.config import arguments
from losslab.config.flat import excluded_from_name
from losslab.config.words import parse_flag, parse_list, parse_settings
from losslab.data import notes
from losslab.errors import Refused
from losslab.files import check_no_link, check_writable, write_json
from losslab.progress import progress_bar
from losslab.sweep.choice import check_selection, choose_settings, find_best
from losslab.sweep.data import check_data
from losslab.sweep.dry import describe
from losslab.sweep.engine import KEYS, AnyWorkers, Engine, parse_number, take_engine
from losslab.sweep.faults import explain
from losslab.sweep.ledger import SHARE, Ledger, Record, read_record
from losslab.sweep.plan import Job, Plan, hash_setting, make_job, read, to_overrides
from losslab.sweep.standing import PLANNED

OWN = ("name", "retry", "dry", "test_seeds", *KEYS)
FILE = "sweep.json"  # in the folder of a sweep or a race: which one it is


def identify(plan: Plan) -> dict[str, Any]:
    """Return what makes a plan's sweep another one: not more losses, optimizers or trials."""
    kept = {key: arguments.as_typed(value) for key, value in plan.fixed.items() if not excluded_from_name(f"{key}=")}
    drawn = {"ranges": plan.ranges, "early": plan.early, "repeats": plan.repeats} if plan.trials else {}
    return {"method": plan.method, "fixed": kept, **drawn}


def check_same_sweep(folder: Path, plan: Plan) -> None:
    """Refuse to mix runs of two sweeps in one folder."""
    file, kind = folder / FILE, folder.parent.name.removesuffix("s")  # a sweep or a race
    if not file.is_file():
        return
    before, now = read_record(file), identify(plan)
    if not before:
        raise Refused(
            f"{file} is not whole, so it does not say which {kind} it is of: delete it if it is of this one, or type "
            f"name=ANOTHER for a {kind} of its own"
        )
    for what in now:
        if before.get(what) != json.loads(json.dumps(now[what])):
            sides = [side.get(what) for side in (before, now)]
            old, new = (" ".join(to_overrides(side)) if isinstance(side, dict) else json.dumps(side) for side in sides)
            raise Refused(
                f"{folder} holds a {kind} with other settings ({what}: {old or 'none'}; now {new or 'none'}): "
                f"type name=ANOTHER for a {kind} of its own"
            )


def write_sweep(folder: Path, plan: Plan) -> None:
    """Write down which sweep a folder is of, once nothing speaks against its start."""
    if not (folder / FILE).is_file():
        write_json(folder / FILE, identify(plan))


def run_jobs(workers: AnyWorkers, plan: Plan, jobs: Sequence[Job], what: str) -> dict[str, Record]:
    """Show progress until all jobs are over, whoever does them; return their records by key."""
    if not jobs:
        return {}
    workers.add([job for job in jobs if job.key not in workers.jobs])
    keys, ledger = [job.key for job in jobs], workers.ledger
    better = {"min": min, "max": max}[plan.mode]
    records, due = ledger.records(keys), 0.0
    announce(ledger, len(workers.jobs))
    unit = "trial" if jobs[0].draw else "run"
    with progress_bar(len(keys), what, unit, initial=len(records)) as bar:
        while True:
            began = time.monotonic()
            if began >= due:
                due = began + ledger.catch_up(keys, workers.count)
            records = ledger.known_records(keys)
            values = [record["value"] for record in records.values() if record.get("value") is not None]
            failed = sum(record["state"] == "failed" for record in records.values())
            bar.update(len(records) - bar.n)
            best = {f"best {unit}'s val/{plan.metric}": f"{better(values):.4g}"} if values else {}
            bar.set_postfix({**best, **({"failed": failed} if failed else {})}, refresh=True)
            if len(records) == len(keys):
                return records
            after = time.monotonic() + SHARE * (time.monotonic() - began)
            while True:
                workers.advance(len(keys) - len(records))
                if time.monotonic() >= after and (ledger.hear() or time.monotonic() >= due):
                    break


def announce(ledger: Ledger, count: int) -> None:
    """Write down for how many jobs this process waits, for `losslab watch`."""
    write_json(ledger.folder.parent / PLANNED, {"jobs": count, "lock": ledger.lock_name()})


def report(folder: Path, plan: Plan, jobs: Sequence[Job], records: Mapping[str, Record]) -> None:
    """Print what failed, the budget of each cell and the best setting; write `failed.json`."""
    failures = [(job, records[job.key]) for job in jobs if records[job.key]["state"] == "failed"]
    never = []
    begun = {file.parent.name[-6:] for file in (folder / "runs").glob("*/status.json")} if failures else set()
    for job, record in failures:
        run = record["runs"][-1]["overrides"]
        if job.key[:6] not in begun:
            never.append({"overrides": run, "reason": record["reason"]})
        varied = {key: run[key] for key in run if key not in plan.fixed}
        print(f"failed    {' '.join(to_overrides(varied))}: {record['reason']}")
    write_json(folder / "failed.json", never)
    if failures:
        print("          type retry=true to train them again")
    stopped = sum(bool(record.get("pruned")) for record in records.values())
    each = len({hash_setting(record["setting"]) for record in records.values()}) / len(plan.cells)
    cells, epochs = notes.count(len(plan.cells), "cell"), notes.count(plan.epochs, "epoch")
    print(
        f"budget    {each:g} setting{'s' * (each != 1)} for each of {cells}, {plan.count_repeats()} each, "
        f"{epochs}{f'; hyperband stopped {stopped} of {len(jobs)}' if plan.early else ''}"
    )
    for entry in find_best(plan, jobs, records)[:1]:
        varied = {key: value for key, value in entry["setting"].items() if key not in plan.fixed}
        over = f"mean of {plan.count_repeats()}" if len(plan.rounds) > 1 else "one seed"
        print(f"best      val/{plan.metric} {entry['mean']:.5g}, {over}: {' '.join(to_overrides(varied))}")


def sweep(path: str, words: Sequence[str]) -> int:
    """Run a sweep file to its end; return the exit code, 1 where jobs failed.

    Raises:
        Refused: for anything that a user could have mistyped, before anything is started.
    """
    words, folders = arguments.take_folders(words)
    typed = parse_settings([*words, *arguments.search_path(folders)], [*OWN, "*"])
    engine = take_engine(typed)
    retry, dry = (parse_flag(key, typed.pop(key, "false")) for key in ("retry", "dry"))
    test_seeds = [parse_number("test_seeds", seed) for seed in parse_list(typed.pop("test_seeds", ""))]
    folder = take_folder(typed, "sweeps", Path(path).stem)
    plan = read(path, typed, folder.name, str(folder.parent.parent))
    if plan.early and (engine.stack or 1) > 1:
        raise Refused(f"{path}: early_terminate looks at each run by itself: type it without stack={engine.stack}")
    check_selection(plan, path, test_seeds)
    check_writable(folder, "output_dir")
    check_data(plan)
    if dry:
        print(describe(plan, folder.parent.parent, folder, engine.count(plan)))
        return 0
    with explain_faults(folder):
        return run(folder, plan, engine, test_seeds, retry)


def take_folder(typed: dict[str, str], kind: str, usual: str) -> Path:
    """Take `output_dir` and `name` out of what was typed; return the folder that they make, of a kind such as sweeps.

    Raises:
        Refused: for a name that is a path.
    """
    output, name = typed.pop("output_dir", "outputs"), typed.pop("name", usual)
    if name != usual and not re.fullmatch(r"\w[\w .+-]{0,100}", name):
        raise Refused(f"name={name} does not fit: it must be letters, digits, spaces and . + - _, no path")
    return Path(output) / kind / name


@contextmanager
def explain_faults(folder: Path) -> Iterator[None]:
    """Turn a fault of the disk below a folder, which must be no link, into a sentence that says how to go on.

    What is refused before its first run leaves nothing there.
    """
    for place in (folder.parent, folder):
        check_no_link(place)
    places = (*(folder / name for name in ("logs", "jobs", FILE, PLANNED)), folder, *folder.parents)
    new = [place for place in places if not place.exists()]
    try:
        yield
    except BrokenPipeError:  # the reader of standard output has gone
        raise
    except OSError as error:
        raise Refused(explain(folder, error)) from error
    except Refused:
        with suppress(OSError):  # a job was begun, or another process is at work
            for place in (place for place in new if place.exists()):
                place.rmdir() if place.is_dir() else place.unlink()
        raise


def run(folder: Path, plan: Plan, engine: Engine, test_seeds: Sequence[int], retry: bool) -> int:
    """Run a plan, then the best setting of each cell with `test_seeds`; return the exit code, 1 where jobs failed."""
    check_same_sweep(folder, plan)
    jobs = plan.jobs()
    runs = sum(len(job.repeats) for job in jobs)
    workers = engine.start(folder, plan, runs)
    write_sweep(folder, plan)
    keys = [job.key for job in jobs]
    known = workers.ledger.records(keys)
    lost = [] if plan.trials else find_lost(folder, known)
    if retry:
        workers.ledger.forget_failures(lost)
        known = workers.ledger.records(keys)
    states = [record["state"] for record in known.values()]
    failed = states.count("failed")
    print(
        f"sweep     {plan.name}: {notes.count(len(jobs), 'trial' if plan.trials else 'run')} of "
        f"{notes.count(len(plan.cells), 'cell')}, "
        f"{len(states) - failed} finished{f', {failed} failed' if failed else ''}; {workers.describe()}\n"
        f"{engine.advise(runs, plan, workers.stack)}folder    {folder}",
        flush=True,
    )
    if lost and not retry:
        has, it = ("has", "it") if len(lost) == 1 else ("have", "them")
        print(
            f"lost      {notes.count(len(lost), 'finished run')} {has} no folder: type retry=true to train {it} again"
        )
    tested: dict[str, Record] = {}
    with closing(workers):
        records = run_jobs(workers, plan, jobs, "tuning" if test_seeds else plan.name)
        if test_seeds:
            tests = plan_tests(folder, plan, jobs, records, test_seeds)
            tested = run_jobs(workers, plan, tests, "testing")
    report(folder, plan, jobs, records)
    if workers.stack > 1:
        report_stacks(folder, [*records.values(), *tested.values()])
    if test_seeds:
        report_tests(tested, test_seeds)
    print(f"compare   losslab compare {folder}\n{folder}")
    return int(any(record["state"] == "failed" for record in [*records.values(), *tested.values()]))


def find_lost(folder: Path, records: Mapping[str, Record]) -> list[str]:
    """List the finished jobs whose run folders are gone."""
    runs = folder / "runs"
    there = {name[-6:] for name in os.listdir(runs)} if runs.is_dir() else set()  # noqa: PTH208 - 100,000 of them
    return [key for key, record in records.items() if record["state"] == "done" and key[:6] not in there]


def plan_tests(
    folder: Path, plan: Plan, jobs: Sequence[Job], records: Mapping[str, Record], seeds: Sequence[int]
) -> list[Job]:
    """Return the jobs that test the chosen setting of each cell; print the cells that have none."""
    entries = choose_settings(folder, plan, jobs, records)
    with_setting = {hash_setting(entry["cell"]) for entry in entries}
    for cell in plan.cells:
        if hash_setting(cell) not in with_setting:
            print(f"untested  {' '.join(to_overrides(cell))}: no setting of it came to its end in every repeat")
    return [
        make_job(entry["cell"], {**entry["setting"], "stage": "test"}, {**plan.rounds[0], "seed": seed})
        for seed in seeds
        for entry in entries
    ]


def report_stacks(folder: Path, records: Sequence[Record]) -> None:
    """Print how many runs were trained in stacks."""
    sizes = [run.get("stacked", 1) for record in records for run in record["runs"]]
    several = [size for size in sizes if size > 1]
    why = f"; {folder / 'logs'} says why not the others" if len(several) < len(sizes) else ""
    most = f", up to {max(several)} as one" if several else ""
    print(f"stacked   {len(several)} of {notes.count(len(sizes), 'run')}{most}{why}")


def report_tests(records: Mapping[str, Record], seeds: Sequence[int]) -> None:
    """Print how many test runs finished, and why the others failed."""
    reasons = [record["reason"] for record in records.values() if record["state"] == "failed"]
    print(
        f"tested    {len(records) - len(reasons)} of {notes.count(len(records), 'run')}: the setting of each cell "
        f"that chosen.json names, with seeds {seeds}"
    )
    for reason in sorted(set(reasons)):
        print(f"failed    {reason}")
