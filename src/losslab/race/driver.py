"""The driver of a race: tune, train all that race with one more seed, look, and go on with those that are undecided."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from losslab.compare.claims import lay_out, tabulate_units
from losslab.compare.contrasts import Layout
from losslab.compare.design import Comparison, arrange, count_failures
from losslab.compare.runs import Runs, read_runs
from losslab.compare.settings import CROSS, format_value, name_options
from losslab.compare.wording import describe_wanted
from losslab.config import arguments
from losslab.config.words import parse_flag, parse_settings
from losslab.errors import Refused
from losslab.files import check_writable
from losslab.race.judge import judge, plan_seeds
from losslab.race.levels import LOOKS, find_level, first_look
from losslab.race.question import LABEL, Question, read_question, split_words
from losslab.race.state import State, read_state
from losslab.race.tuning import tune
from losslab.sweep.data import check_data
from losslab.sweep.driver import check_same_sweep, explain_faults, run_jobs, take_folder, write_sweep
from losslab.sweep.engine import KEYS, AnyWorkers, Engine, take_engine
from losslab.sweep.ledger import Record
from losslab.sweep.plan import Job, Setting, make_job

Array = NDArray[Any]
OWN = (*KEYS, "name", "output_dir", "tune", "difference", "budget", "claim", "log", "retry")
ALPHA = 0.05
USUAL = 20  # seeds, within which a difference is looked for that the user has not chosen
GIVEN_UP = 0.5  # of a candidate's trainings fail: it never finishes


class Race:
    """A race that runs."""

    def __init__(self, folder: Path, question: Question, workers: AnyWorkers, state: State) -> None:
        self.folder, self.question, self.workers, self.state = folder, question, workers, state
        self.cells = {name_candidate(question, cell): cell for cell in question.plan.cells}
        self.settings: dict[str, Setting] = {}
        self.jobs: dict[tuple[str, int], Job] = {}
        self.records: dict[str, Record] = {}
        self.begun, self.before = time.monotonic(), state.hours

    def run(self) -> str:
        """Run until all is decided or the budget is used; return why it ended."""
        self.settings, never = tune(self.folder, self.question, self.workers, self.cells)
        self.state.never |= never
        ledger = self.workers.ledger
        self.records |= ledger.records(path.stem for path in ledger.folder.glob("*.json"))
        state = self.state
        new = state.add_candidates([name for name in self.cells if name in self.settings])
        state.racing = [name for name in state.racing if name in self.settings]
        if new and state.looks:
            print(f"added     {', '.join(new)}; they get all seeds that the others had", flush=True)
        for n in (n for n in LOOKS if n > state.seeds):
            if n < first_look(state.started or len(state.racing)) or self.too_few(n):
                continue
            if state.decided:
                return "decided"
            if why := self.over_budget(n):
                return why
            self.train(n)
            self.look(n)
            self.report(n)
        return "decided" if state.decided else f"a race takes {LOOKS[-1]} seeds at most"

    def too_few(self, seeds: int) -> bool:
        """Whether a look after so many seeds would leave some workers without work: the next one comes sooner."""
        runs = len(self.state.racing) * (seeds - self.state.seeds)
        return seeds < LOOKS[-1] and bool(self.state.looks) and 0 < runs < 2 * self.workers.count

    def train(self, seeds: int) -> None:
        """Train all that race with all seeds up to this number that they lack."""
        wanted = self.list_jobs(seeds)
        self.records |= run_jobs(self.workers, self.question.plan, wanted, f"{seeds} seeds")
        self.check_not_all_failed(seeds)

    def list_jobs(self, seeds: int) -> list[Job]:
        """List the trainings of all that race with so many seeds."""
        for number in range(seeds):
            for name in self.state.racing:
                if (name, number) not in self.jobs:
                    setting = {**self.settings[name], "stage": "test"}
                    seed = {"seed": self.question.seed(number)}
                    self.jobs[name, number] = make_job(self.cells[name], setting, seed)
        return [self.jobs[name, number] for number in range(seeds) for name in self.state.racing]

    def check_not_all_failed(self, seeds: int) -> None:
        """Refuse to go on where every training since the last look failed: that says nothing of the candidates.

        A race without any result leaves its folder to the next one.
        """
        late = [self.jobs[name, n].key for n in range(self.state.seeds, seeds) for name in self.state.racing]
        reasons = [self.records[key]["reason"] for key in late if self.records[key]["state"] == "failed"]
        if late and len(reasons) == len(late):
            if all(record["state"] == "failed" for record in self.records.values()):
                (self.folder / "sweep.json").unlink(missing_ok=True)
            raise Refused(
                f"all {len(late)} trainings since the last look failed ({reasons[0]}): fix that, then type the same "
                "command with retry=true"
            )

    def look(self, seeds: int) -> None:
        """Decide what can be decided after so many seeds, and write it down."""
        state = self.state
        self.give_up(seeds)
        if len(state.known) > 1 and state.racing:
            comparison = self.compare(state.known, seeds)
            y, names = tabulate_units(comparison), comparison.cells
            layout = lay_out(comparison, y, np.zeros((0, y.shape[1])), np.ones(0))
            means = abs(np.nanmean(y, 0))
            scales = 100 / np.where(comparison.points | (means == 0), 1.0, means)
            scale = float(scales[np.nanmean(y, 0).argmax()])  # of the best
            if not state.planned:
                self.plan(y, layout, scale, comparison)
            spent = state.spend(seeds)
            level = find_level(state.started, tuple(spent), ALPHA)
            if state.looks and not state.have_raced():  # earlier looks tell nothing of those that are new
                level = ALPHA * (spent[-1][1] - spent[-2][1])
            difference = state.difference / scale
            failures = count_failures(comparison)["failed"].tolist()
            racing = [names.index(name) for name in state.racing if name in names]
            before = names.index(state.leader) if state.leader in names else None
            look = judge(y, layout, level, difference, racing, failures, before, state.started)
            state.add_look(seeds, level, names, look, scales.tolist(), comparison.most)
        else:
            state.leader = state.racing[0] if state.racing else ""
            share = state.spend(seeds)[-1][1]
            alone = {"leader": state.leader, "raced": list(state.racing), "same": state.same, "gaps": {}}
            state.looks.append({"seeds": seeds, "spent": share, "level": 0.0, **alone})
        state.hours = self.before + (time.monotonic() - self.begun) / 3600
        state.write(self.folder)

    def plan(self, y: Array, layout: Layout, scale: float, comparison: Comparison) -> None:
        """Choose by how many seeds most is to be decided; and which difference matters, if that was not typed.

        The number stays: chosen anew at each look, it would be smaller, and more would be spent, just where the noise
        looks smaller than it is. Two equal candidates were then called different in 11 % of races.
        """
        state, typed = self.state, bool(self.state.difference)
        state.started = len(state.racing)
        steps = [state.difference] if state.difference else [a * 10.0**b for b in range(4) for a in (1, 2, 5)]
        for step in steps:
            state.difference, need = step, plan_seeds(y, layout, step / scale, ALPHA)
            if need <= USUAL:
                break
        state.planned = need if typed else USUAL  # however large the noise is
        finer = plan_seeds(y, layout, state.difference / 2 / scale, ALPHA)
        print(
            f"same      within {describe_wanted(comparison, state.difference)}: about {need:,} seeds for each "
            f"candidate that is close; difference={state.difference / 2:g} would take about {finer:,}",
            flush=True,
        )

    def give_up(self, seeds: int) -> None:
        """Drop the candidates whose trainings fail more often than not."""
        for name in list(self.state.racing):
            records = [self.records[self.jobs[name, number].key] for number in range(seeds)]
            reasons = [record["reason"] for record in records if record["state"] == "failed"]
            if len(reasons) > GIVEN_UP * len(records):
                self.state.racing.remove(name)
                self.state.never[name] = f"{len(reasons)} of {len(records)} trainings failed: {reasons[0]}"

    def compare(self, names: Sequence[str], seeds: int) -> Comparison:
        """Arrange the tests of these candidates up to this number of seeds."""
        runs = read_runs([str(self.folder / "runs")])
        frame = runs.frame
        tests = frame["stage"].eq("test") & frame["seed"].isin([self.question.seed(n) for n in range(seeds)])
        frame = frame[tests]
        own = name_options(frame, self.question.keys)
        chosen = Runs(frame[own.isin(names)].reset_index(drop=True), runs.settings)
        return arrange(chosen, self.question.keys, alpha=ALPHA, claim=self.question.claim)

    def count_runs(self) -> int:
        """Count the trainings that are over: those that tuned, too."""
        return sum(len(record["runs"]) for record in self.records.values())

    def used(self) -> tuple[float, str]:
        """Return how much of the budget is used, and its unit."""
        budget = self.question.budget
        if budget is None or budget.unit == "runs":
            return float(self.count_runs()), "runs"
        if budget.unit == "hours":
            return self.before + (time.monotonic() - self.begun) / 3600, "hours"
        seconds = [run.get("seconds", 0.0) for record in self.records.values() for run in record["runs"]]
        return sum(seconds) / 3600, "GPU-hours"

    def over_budget(self, seeds: int) -> str:
        """Say that the budget does not reach for the next look; nothing if it does."""
        budget, (used, unit) = self.question.budget, self.used()
        if budget is None:
            return ""
        runs = sum(job.key not in self.records for job in self.list_jobs(seeds))
        ahead = runs if unit == "runs" else used / max(1, self.count_runs()) * runs
        if used + ahead <= budget.amount or not self.state.looks:
            return ""
        return f"the next look would go beyond the budget of {budget}"

    def report(self, seeds: int) -> None:
        """Print a line on how the race stands."""
        state = self.state
        out, same, left = len(state.beaten) + len(state.never), len(state.same), len(state.undecided)
        used, unit = self.used()
        spent = f", {used:.3g} {unit}" if unit != "runs" else ""
        runs = (state.planned - seeds) * len(state.racing)
        rest = f"; about {runs} more runs are expected" if runs > 0 else "; more seeds than planned are needed"
        budget = self.question.budget
        if budget is not None and unit == "runs" and runs > (ahead := max(0.0, budget.amount - used)):
            rest += f", and the budget has {ahead:.0f}"
        failed = sum(record["state"] == "failed" for record in self.records.values())
        spent = f" ({failed} failed){spent}" if failed else spent
        rest = rest if set(state.undecided) - state.hopeless.keys() else ""
        print(
            f"{seeds:3} seeds  {state.leader} leads; {out} out, {same} the same, {left} undecided; "
            f"{self.count_runs()} runs{spent}{rest}",
            flush=True,
        )


def name_candidate(question: Question, cell: Mapping[str, Any]) -> str:
    """Name a candidate as a comparison does, such as mae x adam."""
    return CROSS.join(format_value(cell[key]) for key in question.keys)


def race(words: Sequence[str]) -> int:
    """Run a race to its end; return the exit code, 1 where no candidate ever finished.

    Raises:
        Refused: for anything that a user could have mistyped, before anything is started.
    """
    files, words, folders = split_words(words)
    typed = parse_settings([*words, *arguments.search_path(folders)], [*OWN, "*"])
    engine = take_engine(typed)
    retry, log = (parse_flag(key, typed.pop(key, "false")) for key in ("retry", "log"))
    folder = take_folder(typed, "races", Path(files[0]).stem if files else "race")
    try:
        question = replace(read_question(files, typed, folder.name, folders), log=log)
    except Refused as error:
        raise Refused(str(error).removeprefix(f"{LABEL}: ")) from None
    check_writable(folder, "output_dir")
    check_data(question.plan)
    with explain_faults(folder):
        return run(folder, question, engine, retry)


def run(folder: Path, question: Question, engine: Engine, retry: bool) -> int:
    """Run a race: start the workers, race, and write what was found."""
    from losslab.race.story import write_story

    check_same_sweep(folder, question.plan)
    names = [name_candidate(question, cell) for cell in question.plan.cells]
    state = read_state(folder, question.difference, question.claim, names)
    workers = engine.start(folder, question.tuning or question.plan)
    write_sweep(folder, question.plan)
    if retry:
        workers.ledger.forget_failures()
        state.never = {}
    tuned = f"{question.tuning.trials} settings of each are tried; " if question.tuning else ""
    budget = f"; budget {question.budget}" if question.budget else ""
    print(
        f"race      {len(names)} candidates; {tuned}{workers.describe()}{budget}\nfolder    {folder}",
        flush=True,
    )
    with closing(workers):
        one = Race(folder, question, workers, state)
        why = one.run()
    for line in write_story(one, why):
        print(line)
    return int(not state.leader)
