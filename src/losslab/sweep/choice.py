"""Choose the setting of each cell that is tested: by validation rows, once, and with fresh rows and seeds."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from losslab.config import check
from losslab.errors import Refused
from losslab.files import write_json
from losslab.sweep.ledger import Record
from losslab.sweep.plan import QUIET, REPEATS, Job, Plan, hash_setting, to_overrides


def find_best(plan: Plan, jobs: Sequence[Job], records: Mapping[str, Record]) -> list[dict[str, Any]]:
    """Find the setting of each cell with the best mean of the primary metric over its repeats, on the validation rows.

    A setting counts if all its runs finished: none failed, none was stopped.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for job in jobs:
        record = records[job.key]
        setting = hash_setting(record["setting"])
        entry = found.setdefault(hash_setting(job.cell), {}).setdefault(
            setting, {"cell": job.cell, "setting": record["setting"], "values": []}
        )
        entry["values"] += [run["value"] for run in record["runs"] if "value" in run]
    best = []
    for settings in found.values():
        whole = [entry for entry in settings.values() if len(entry["values"]) == len(plan.rounds)]
        if whole:
            entry = {"min": min, "max": max}[plan.mode](whole, key=lambda entry: statistics.fmean(entry["values"]))
            best.append({**entry, "mean": statistics.fmean(entry["values"]), "of": len(settings)})
    return sorted(best, key=lambda entry: entry["mean"], reverse=plan.mode == "max")


def choose_settings(
    folder: Path, plan: Plan, jobs: Sequence[Job], records: Mapping[str, Record]
) -> list[dict[str, Any]]:
    """Choose the settings to test and write them down: no choice changes once test figures have been seen."""
    file = folder / "chosen.json"
    try:
        before = json.loads(file.read_text()) if file.is_file() else []
        known = {hash_setting(entry["cell"]) for entry in before if entry["setting"]}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Refused(
            f"{file} is not whole, so it does not say which settings are tested: delete it if no test figure has been "
            "seen yet, or type name=ANOTHER for a sweep of its own"
        ) from None
    found = before + [e for e in find_best(plan, jobs, records) if hash_setting(e["cell"]) not in known]
    write_json(file, found)
    cells = {hash_setting(cell) for cell in plan.cells}
    return [entry for entry in found if hash_setting(entry["cell"]) in cells]


def check_test_seeds(plan: Plan, path: str, seeds: Sequence[int]) -> None:
    """Refuse test seeds that were tuned on, and splits that would test on rows that were tuned on."""
    tuned = plan.repeats["seed"]
    if both := sorted({*seeds} & {*tuned}):
        raise Refused(f"test_seeds={both} were tuned on: type seeds that are not in {tuned}")
    if several := [key for key in ("data.seed", "data.fold") if len(plan.repeats.get(key, ())) > 1]:
        raise Refused(
            f"{path}: the rows that one {REPEATS[several[0]]} validates on are tested in another, so rows that were "
            f"tuned on would be tested on: type {' '.join(f'{key}=0' for key in several)}, one split for all"
        )
    splits = set()
    for seed in (tuned[0], seeds[0]):
        cfg = check.configure(to_overrides({**QUIET, **plan.fixed, **plan.cells[0], **plan.rounds[0], "seed": seed}))
        splits.add(cfg.data.get("seed"))
    if len(splits) > 1:
        raise Refused(
            f"{path}: with each seed other rows are split off, so rows that were tuned on would be tested on: "
            "type data.seed=0, one split for all"
        )
