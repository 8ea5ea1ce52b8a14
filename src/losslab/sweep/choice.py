"""Choose the setting of each cell that is tested: by validation rows, once, and with fresh rows and seeds."""

import json
import statistics
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from losslab.config import check
from losslab.config.flat import flatten
from losslab.errors import Refused
from losslab.files import write_json
from losslab.sweep.ledger import Record
from losslab.sweep.plan import CELL, QUIET, REPEATS, Job, Plan, Setting, hash_setting, to_overrides


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


def check_selection(plan: Plan, path: str, test_seeds: Sequence[int]) -> None:
    """Refuse test seeds that were tuned on, and to tune where other repeats test rows that one repeat tunes on.

    The best setting of a cell is chosen by the validation rows of all repeats. Where each repeat has a split of its
    own, these are test rows of the others: on labels that are noise, accuracy is then above chance.

    Raises:
        Refused: for that, with what to type to have one split for all.
    """
    tuned = plan.repeats["seed"]
    if both := sorted({*test_seeds} & {*tuned}):
        raise Refused(f"test_seeds={both} were tuned on: type seeds that are not in {tuned}")
    if not chooses_settings(plan, bool(test_seeds)):
        return
    repeats = {**plan.repeats, "seed": [*tuned, *test_seeds]}
    repeats |= {key: plan.grid[key] for key in ("data.test", "data.folds") if key in plan.grid}
    datasets = {str([cell.get(key) for key in ("task", "data")]): cell for cell in plan.cells}
    for cell in datasets.values():
        first = {**QUIET, **plan.first(cell)}
        rows = tested_rows(first)
        why, keys = [], dict[str, Any]()
        for key, values in repeats.items():
            others = tested_rows({**first, key: values[1]}) if len(values) > 1 else rows
            if differ := {name: value for name, value in rows.items() if others.get(name) != value}:
                why.append(f"each {REPEATS.get(key, f'value of {key}')}")
                keys |= differ
        if keys:
            raise Refused(
                f"{path}: {' and '.join(why)} tests other rows, and the best setting of a cell is chosen on the "
                "validation rows of all of them, so rows used for tuning would be tested: type "
                f"{' '.join(to_overrides(keys))}, one split for all"
            )


def chooses_settings(plan: Plan, tests: bool) -> bool:
    """Tell whether the best of several settings of a cell is chosen, and not only cells or settings compared."""
    settings = prod(len(values) for key, values in plan.grid.items() if key not in CELL)
    return plan.trials > 1 or (settings > 1 and (tests or len(plan.cells) > 1))


def tested_rows(setting: Setting) -> dict[str, Any]:
    """Return all settings of the data, by which the tested rows can differ; none where these are the same always."""
    cfg = check.configure(to_overrides(setting))
    if cfg.run.fixed_test:
        return {}
    return {key: value for key, value in flatten(cfg).items() if key.startswith("data.")}
