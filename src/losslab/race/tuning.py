"""Tune each candidate of a race: the same number of settings each, on the validation rows, the cheap way first."""

from collections.abc import Mapping
from pathlib import Path

from losslab.files import write_json
from losslab.race.question import CHEAP, Question, finalists
from losslab.sweep.driver import run_jobs
from losslab.sweep.engine import AnyWorkers
from losslab.sweep.ledger import Record, read_record
from losslab.sweep.plan import Job, Setting, make_job, make_trial

FILE = "tuned.json"


def tune(
    folder: Path, question: Question, workers: AnyWorkers, cells: Mapping[str, Setting]
) -> tuple[dict[str, Setting], dict[str, str]]:
    """Choose a setting for each candidate, and write the choice down: it does not change once tests were seen.

    A third of the epochs ranks the settings of a candidate; the best third of them is trained for all epochs. Losses
    are never compared with each other here, nor is any setting by its own loss.

    Returns:
        The settings by candidate, and why the others have none.
    """
    plan = question.tuning
    if plan is None:
        return {name: {**question.plan.fixed, **cell} for name, cell in cells.items()}, {}
    file = folder / FILE
    chosen: dict[str, Setting] = read_record(file) if file.is_file() else {}
    left = {name: cell for name, cell in cells.items() if name not in chosen}
    cheap = {"trainer.max_epochs": max(1, plan.epochs // CHEAP)}
    tried = {
        name: [
            make_trial(cell, {**plan.fixed, **cell, **cheap}, [{"seed": 0}], number) for number in range(plan.trials)
        ]
        for name, cell in left.items()
    }
    records = run_jobs(workers, plan, [job for jobs in zip(*tried.values(), strict=True) for job in jobs], "tuning")
    finals: dict[str, list[Job]] = {}
    for name, jobs in tried.items():
        best = rank([records[job.key] for job in jobs], plan.mode)[: finalists(plan.trials)]
        settings = [{**record["setting"], "trainer.max_epochs": plan.epochs} for record in best]
        finals[name] = [make_job(left[name], setting, {"seed": 0}) for setting in settings]
    records |= run_jobs(workers, plan, [job for jobs in finals.values() for job in jobs], "tuning, all epochs")
    never: dict[str, str] = {}
    for name, jobs in finals.items():
        best = rank([records[job.key] for job in jobs], plan.mode)
        if best:
            chosen[name] = best[0]["setting"]
        else:
            reasons = [records[job.key]["reason"] for job in [*tried[name], *jobs]]
            never[name] = f"no setting of it came to its end: {next(filter(None, reasons), 'it was stopped')}"
    if left:
        write_json(file, chosen)
    return {name: chosen[name] for name in cells if name in chosen}, never


def rank(records: list[Record], mode: str) -> list[Record]:
    """Rank the records of trainings that finished, the best on the validation rows first."""
    whole = [record for record in records if record["state"] == "done" and record.get("value") is not None]
    return sorted(whole, key=lambda record: float(record["value"]), reverse=mode == "max")
