"""Which setting of a cell is tested: chosen by validation rows, once, and tested with rows and seeds not tuned on."""

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from losslab.config import check
from losslab.errors import Refused
from losslab.files import write_json
from losslab.sweep.ledger import Record
from losslab.sweep.plan import QUIET, Job, Plan, hashed, typed_as


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
    try:
        before = json.loads(file.read_text()) if file.is_file() else []
        known = {hashed(entry["cell"]) for entry in before if entry["setting"]}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise Refused(
            f"{file} is not whole, so it does not say which settings are tested: delete it if no test figure has been "
            "seen yet, or type name=ANOTHER for a sweep of its own"
        ) from None
    found = before + [e for e in best_settings(plan, jobs, records) if hashed(e["cell"]) not in known]
    write_json(file, found)
    cells = {hashed(cell) for cell in plan.cells}
    return [entry for entry in found if hashed(entry["cell"]) in cells]


def fresh(plan: Plan, path: str, seeds: Sequence[int]) -> None:
    """Refuse test seeds that were tuned on, and a split in which rows that were tuned on are tested on."""
    if both := sorted({*seeds} & {*plan.seeds}):
        raise Refused(f"test_seeds={both} were tuned on: type seeds that are not in {plan.seeds}")
    splits = set()
    for seed in (plan.seeds[0], seeds[0]):
        cfg = check.configure(typed_as({**QUIET, **plan.fixed, **plan.cells[0], "seed": seed}))
        splits.add(cfg.data.get("seed"))
    if len(splits) > 1:
        raise Refused(
            f"{path}: with each seed other rows are split off, so rows that were tuned on would be tested on: "
            "type data.seed=0, one split for all"
        )
