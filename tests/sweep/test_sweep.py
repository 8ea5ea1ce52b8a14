"""Sweeps: what a file asks for, that no job is done twice or lost, and that nothing is chosen by test rows."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pytorch_lightning import Callback, LightningModule, Trainer

from losslab.compare.gathered import Gathered
from losslab.compare.runs import SUMMED, find_records
from losslab.config.catalogue import CONF, options
from losslab.config.check import configure
from losslab.errors import Refused
from losslab.sweep.choice import check_selection, choose_settings, find_best
from losslab.sweep.driver import sweep
from losslab.sweep.engine import Engine
from losslab.sweep.ledger import Ledger, Record
from losslab.sweep.plan import read, to_overrides
from losslab.sweep.processes import Workers, count_workers, gpus
from losslab.sweep.worker import do_run, work
from tests.conftest import ROOT, Command, some_now, until
from tests.sweep.short import COMMAND, FOLDS, LR, done_here, start, sweep_file, table


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"metod": "grid"}, "metod is not a key of a sweep file; nearest: method"),
        ({"method": "grind"}, "method: grind is not one of grid, random, bayes"),
        ({"program": "mine.py"}, "program: mine.py is not losslab's"),
        ({"command": ["python", "train.py"]}, "${args_no_hyphens}"),
        ({"command": [*COMMAND, "--lr"]}, "'--lr' in command cannot be read: type key=value"),
        ({"parameters": {"loss": {"values": []}}}, "loss has no values"),
        ({"parameters": {"loss": None}}, "loss has no values"),
        ({"parameters": {"loss": {"values": ["mae", "mae"]}}}, "loss has a value twice"),
        ({"parameters": {"loss": {"values": ["mae", "maee"]}}}, "loss=maee is not an option; nearest: mae"),
        ({"parameters": {"loss": {"values": ["mae", "bce"]}}}, "loss=bce wants logits and labels targets"),
        ({"parameters": {"optimizer.lrr": {"values": [1]}}}, "optimizer.lrr is not a setting"),
        ({"parameters": {"optimizer": {"parameters": {"lr": {"value": 1}}}}}, "type its keys flat, such as optimizer"),
        ({"parameters": {"seed": {"values": [0, "one"]}}}, "seed=one does not fit"),
        ({"parameters": FOLDS | {"data.fold": {"values": [0, 5]}}}, "data.fold=5 does not fit data.folds=5"),
        ({"parameters": {"data.fold": {"values": [0, 1]}}}, "data.fold=1 needs data.folds: type data.folds=5"),
        ({"parameters": FOLDS | {"data.fold": {"min": 0, "max": 4}}}, "grid needs its values here: type data.fold:"),
        ({"parameters": FOLDS | {"data.seed": {"values": [-1, 0]}}}, "data.seed=-1 does not fit: it must be a whole"),
        (
            {"method": "bayes", "parameters": LR | FOLDS, "run_cap": 19},
            "each of the 2 cells a trial with 2 seeds x 5 folds: type run_cap: 200 for ten",
        ),
        ({"parameters": LR}, "search.lr has a range, but grid needs its values"),
        ({"metric": {"name": "test/rmse", "goal": "minimize"}}, "choose by the rows that the choice is tested on"),
        ({"metric": {"name": "val/loss", "goal": "minimize"}}, "each loss has another unit"),
        ({"metric": {"name": "val/rmse", "goal": "maximize"}}, "goal: minimize}"),
        ({"metric": {"name": "val/accuracy", "goal": "maximize"}}, "not the primary metric of task=regression"),
        ({"early_terminate": {"type": "hyperband", "min_iter": 1}}, "a grid is run whole"),
        ({"method": "bayes", "run_cap": 8}, "has nothing to draw"),
        ({"method": "bayes", "parameters": LR}, "run_cap: null does not give each of the 2 cells a trial"),
        ({"method": "bayes", "parameters": LR, "run_cap": 9}, "unequal budgets: type one of 8, 12"),
        (
            {"method": "random", "parameters": {"optimizer.lrr": {"min": 0.1, "max": 1.0}}, "run_cap": 8},
            "optimizer.lrr",
        ),
        ({"method": "random", "parameters": {"optimizer.lr": {"min": 2, "max": 1}}}, "min 2 is not below max 1"),
        ({"method": "random", "parameters": {"optimizer.lr": {"min": 2}}}, "optimizer.lr has no max"),
        (
            {"method": "random", "parameters": {"optimizer.lr": {"mn": 2, "max": 3}}},
            "mn is not known here; nearest: min",
        ),
        ({"method": "random", "parameters": {"optimizer.lr": {"distribution": "beta"}}}, "beta is not one of"),
        (
            {"parameters": {"optimizer.lr": {"distribution": "log_uniform", "min": -3, "max": 0}}},
            "type distribution: log_uniform_values, min: 0.0498, max: 1",
        ),
        (
            {"method": "random", "parameters": {"search.lr": {"min": 0.0, "max": 2.0}}, "run_cap": 8},
            "search.lr=2.0 does not fit: it must be a number from 0 to 1",
        ),
        (
            {"method": "random", "parameters": LR | {"optimizer.lr": {"value": 1}}, "run_cap": 8},
            "search.lr and optimizer.lr both set optimizer.lr",
        ),
        (
            {"parameters": {"search.loss": {"values": [0, 1]}}},
            "search.loss sets nothing, as no loss here has a range to search (mse, mae): leave it out, or add one of",
        ),
        ({"parameters": {"search.gama": {"values": [0]}}}, "has a range for search.gama: type search.lr, search.loss"),
        (
            {
                "method": "bayes",
                "parameters": LR,
                "run_cap": 8,
                "early_terminate": {"type": "hyperband", "min_iter": 9},
            },
            "min_iter: 9 is not below trainer.max_epochs=2",
        ),
    ],
)
def test_a_mistake_in_a_sweep_file_is_a_sentence(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(Refused) as refused:
        read(sweep_file(tmp_path, **changed), {})
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.yaml"], "none.yaml is not there"),
        (["short.yaml", "n=-1"], "n=-1 does not fit"),
        (["short.yaml", "retry"], "'retry' cannot be read: type retry=VALUE"),
        (["short.yaml", "optimizer.eps=-1"], "optimizer.eps=-1 does not fit"),
        (["short.yaml", "test_seeds=[1,2]"], "test_seeds=[1] were tuned on"),
        (
            ["short.yaml", "test_seeds=[2]"],
            "so rows used for tuning would be tested: type data.seed=0, one split for all",
        ),
    ],
)
def test_a_mistake_ends_the_command_before_torch_and_before_anything_is_written(
    tmp_path: Path, words: list[str], said: str
) -> None:
    sweep_file(tmp_path, parameters={"search.lr": {"values": [0, 1]}})
    blocked = "import sys; sys.modules['torch'] = None; sys.argv[0] = 'sweep'; "
    program = f"{blocked}from losslab.sweep.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *words], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("losslab: ")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["short.yaml"]


SHIPPED = sorted(file.stem for file in (ROOT / "sweeps").glob("*.yaml"))


@pytest.mark.parametrize("name", some_now(SHIPPED, [name for name in SHIPPED if name != "loss_x_optimizer"]))
def test_every_sweep_that_is_shipped_can_be_run_and_says_what_it_is(name: str) -> None:
    file = ROOT / "sweeps" / f"{name}.yaml"
    plan = read(str(file), {})
    each = {json.dumps(job.cell): 0 for job in plan.jobs()}
    for job in plan.jobs():
        each[json.dumps(job.cell)] += 1
    assert len(set(each.values())) == 1, "each cell has the same budget"
    head = [line for line in file.read_text().splitlines() if line.startswith("#")]
    assert head[0].endswith("?")
    assert any(f"losslab sweep sweeps/{file.name}" in line for line in head)
    assert any(f"wandb sweep sweeps/{file.name}" in line for line in head)
    assert any(line.startswith("# Cost: ") for line in head)
    assert any(line.startswith("# Expect") for line in head)
    runs = sum(len(job.repeats) for job in plan.jobs())
    assert any(f"{runs} runs" in line for line in head)


def test_a_grid_is_all_of_it_and_its_jobs_keep_their_names(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, parameters={"optimizer": {"values": ["sgd", "adam"]}, "search.lr": {"values": [0, 1]}})
    jobs = read(path, {}).jobs()
    assert len({job.key for job in jobs}) == len(jobs) == 2 * 2 * 2 * 2
    assert [job.repeats for job in jobs] == [[{"seed": 0}]] * 8 + [[{"seed": 1}]] * 8
    assert [job.key for job in read(path, {"logger": "wandb"}).jobs()] == [job.key for job in jobs]
    assert not {job.key for job in read(path, {"data.batch_size": "16"}).jobs()} & {job.key for job in jobs}


def test_folds_and_seeds_repeat_each_setting_and_choose_none(tmp_path: Path) -> None:
    drawn = LR | FOLDS | {"data.seed": {"values": [7, 8]}, "seed": {"value": 3}, "loss": {"value": "mse"}}
    path = sweep_file(tmp_path, "random", parameters=drawn, run_cap=20)
    first, second = read(path, {}).jobs()
    repeats = [{"seed": 3, "data.seed": split, "data.fold": fold} for split in (7, 8) for fold in range(5)]
    assert first.repeats == second.repeats == repeats
    path = sweep_file(tmp_path, parameters=drawn | {"search.lr": {"values": [0, 1]}})
    plan = read(path, {})
    jobs = plan.jobs()
    assert len({job.key for job in jobs}) == len(jobs) == 2 * len(repeats)
    assert [job.repeats for job in jobs] == [[repeat] for repeat in repeats for _ in range(2)]
    records: dict[str, Record] = {}
    for job in jobs:  # the first setting is better in all folds but one, on the mean it is worse
        place, (repeat,) = job.setting["search.lr"], job.repeats
        value = 9.0 if place == 0 and repeat["data.fold"] == 0 else 3.0 - (place == 0)
        records[job.key] = {"setting": job.setting, "runs": [{"value": value}]}
    (entry,) = find_best(plan, jobs, records)
    assert (entry["setting"]["search.lr"], entry["mean"], len(entry["values"])) == (1, 3.0, 10)


def hold(folder: str, keys: list[str], taken: Any) -> None:
    """A process that claims what it can, and says so; the first to claim one in ten dies of it."""
    ledger = Ledger(Path(folder))
    for number, key in enumerate(keys):
        claim = ledger.claim(key)
        if claim is not None:
            taken.put((key, os.getpid()))
            if number % 10 == 0 and claim.path.suffix == ".1":
                os.kill(os.getpid(), signal.SIGKILL)
            claim.finish({"state": "done", "by": os.getpid()})


@pytest.mark.system
def test_of_many_processes_one_does_each_job_and_a_dead_ones_job_is_taken_up(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    keys, taken = [f"{number:012x}" for number in range(100)], context.SimpleQueue()
    deaths = 0
    while len(Ledger(tmp_path).records(keys)) < len(keys):
        several = [context.Process(target=hold, args=(str(tmp_path), keys, taken)) for _ in range(4)]
        for process in several:
            process.start()
        for process in several:
            process.join()
        deaths += sum(process.exitcode == -signal.SIGKILL for process in several)
    assert deaths == 10
    by = [taken.get() for _ in range(110)]
    assert taken.empty()
    for number, (key, record) in enumerate(Ledger(tmp_path).records(keys).items()):
        claimed = [pid for name, pid in by if name == key]
        assert claimed[-1] == record["by"]
        assert len(claimed) == (2 if number % 10 == 0 else 1)


def test_a_claim_of_another_host_holds_until_its_lease_is_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path)
    theirs = ledger.claim("a")
    assert theirs is not None
    monkeypatch.setattr("losslab.sweep.ledger.HERE", "another host")
    assert ledger.claim("a") is None
    assert theirs.touch()
    long_ago = time.time() - ledger.lease - 1
    os.utime(theirs.path, (long_ago, long_ago))
    assert ledger.claim("a") is None, "the clock may have jumped"
    later = time.monotonic() + ledger.lease / 4 + 1
    monkeypatch.setattr("losslab.sweep.ledger.time", SimpleNamespace(monotonic=lambda: later))
    ours = ledger.claim("a")
    assert ours is not None
    assert not theirs.touch(), "whoever lost a claim is told so"
    ours.finish({"state": "done", "value": 1})
    theirs.finish({"state": "done", "value": 2})
    assert ledger.records(["a"])["a"]["value"] == 1


@pytest.mark.skipif(not Path("/proc/sys/kernel/random/boot_id").is_file(), reason="only Linux numbers its starts")
def test_a_machine_is_the_same_to_all_its_processes_without_a_network_too() -> None:
    without = "import uuid; uuid.getnode = lambda: uuid.uuid4().int % 2**48"  # as Python has it there
    ask = [sys.executable, "-c", f"{without}; from losslab.sweep.ledger import HERE; print(HERE)"]
    assert subprocess.check_output(ask) == subprocess.check_output(ask)


@pytest.mark.system
def test_a_sweep_that_is_killed_half_way_ends_as_one_that_is_not(
    tmp_path: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short form of benchmarks/faults.py: all is killed while a run is half-way; two drivers go on together."""
    path, war = (
        sweep_file(tmp_path, parameters={"trainer.max_epochs": {"value": 80}, "seed": {"value": 0}}),
        tmp_path / "war",
    )
    driver = start(path, war, "n=1")
    until(lambda: list(war.glob("sweeps/short/runs/*/last.ckpt")) or driver.poll() is not None)
    assert driver.returncode is None, driver.said()
    workers = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(driver.pid)], capture_output=True, text=True, check=True
    )
    for pid in [driver.pid, *map(int, workers.stdout.split())]:
        os.kill(pid, signal.SIGKILL)
    driver.wait()
    halfway = {
        file.parent.name: len((file.parent / "history.csv").read_text().splitlines())
        for file in war.glob("sweeps/short/runs/*/last.ckpt")
        if json.loads((file.parent / "status.json").read_text())["status"] == "running"
    }
    assert halfway
    drivers = [start(path, war, "n=1") for _ in range(2)]
    for driver in drivers:
        said, errors = driver.communicate()
        assert driver.returncode == 0, errors
    done_here(path, tmp_path / "peace")
    assert table(war / "sweeps" / "short") == table(tmp_path / "peace")
    for folder in (tmp_path / "peace", war / "sweeps" / "short"):
        kinds = {kind for _, kind in find_records(str(folder / "runs"), Gathered())}
        assert kinds == {SUMMED}, "each run has a line that counts"
    assert len(table(tmp_path / "peace")) == len(list(war.glob("sweeps/short/runs/*-*"))) == 2
    for name in halfway:
        overrides = json.loads((war / "sweeps" / "short" / "runs" / name / "status.json").read_text())["overrides"]
        assert any(text.startswith("ckpt=") for text in overrides), "it went on from its checkpoint"
    assert said.splitlines()[-2].startswith("compare   losslab compare ")


def test_a_run_that_is_pre_empted_is_let_go_of_and_goes_on_from_its_checkpoint(
    tmp_path: Path, undrawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = read(sweep_file(tmp_path), {"trainer.max_epochs": "4"})
    job, *_ = plan.jobs()
    whole = do_run(tmp_path / "whole", plan, job.key, {**job.setting, "seed": 0})

    class Taken(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if trainer.current_epoch == 2:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        do_run(tmp_path, plan, job.key, {**job.setting, "seed": 0}, [Taken()])
    assert ended.value.code == 128 + signal.SIGTERM
    (status,) = tmp_path.glob("runs/*/status.json")
    assert json.loads(status.read_text())["status"] == "preempted"
    capsys.readouterr()
    record = do_run(tmp_path, plan, job.key, {**job.setting, "seed": 0})
    assert record["value"] == whole["value"]
    assert f"resumed  from {status.parent / 'last.ckpt'}" in capsys.readouterr().out


def test_a_failure_is_listed_stops_nobody_and_is_done_again_when_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {"optimizer": {"value": "sgd"}, "optimizer.lr": {"values": [0.01, 1e30]}, "seed": {"value": 0}}
    path = sweep_file(tmp_path, parameters=rates)
    folder = tmp_path / "sweeps" / "short"
    _, records = done_here(path, folder)
    assert sorted(record["state"] for record in records.values()) == ["done"] * 2 + ["failed"] * 2
    monkeypatch.setattr("losslab.sweep.processes.Workers.start", lambda self: pytest.fail("nothing is missing"))
    (lost, _) = (key for key, record in records.items() if record["state"] == "done")
    (run,) = folder.glob(f"runs/*-{lost[:6]}")
    shutil.rmtree(run)
    assert sweep(path, [f"output_dir={tmp_path}"]) == 1
    said = capsys.readouterr().out
    assert said.count("failed    loss=m") == 2
    assert "\nlost      1 finished run has no folder: type retry=true to train it again\n" in said
    assert "the loss became" in said
    assert "budget    2 settings for each of 2 cells, 1 seed each" in said
    assert json.loads((folder / "failed.json").read_text()) == [], "they have folders of their own"
    with pytest.raises(pytest.fail.Exception, match="nothing is missing"):
        sweep(path, [f"output_dir={tmp_path}", "retry=true"])
    assert [record["state"] for record in Ledger(folder / "jobs").records(records).values()] == ["done"]
    with pytest.raises(Refused, match="name=ANOTHER"):
        sweep(path, [f"output_dir={tmp_path}", "trainer.max_epochs=3"])


def test_jobs_without_a_folder_are_in_failed_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "t.csv"
    table.write_text("x,y\n" + "\n".join(f"{n},{n}" for n in range(30)))
    data = {"data": {"value": "csv"}, "data.path": {"value": str(table)}, "data.target": {"value": "z"}}
    done_here(path := sweep_file(tmp_path, parameters=data), tmp_path / "sweeps" / "short")
    table.write_text(table.read_text().replace("x,y", "x,z"))  # there again, but too late for those jobs
    assert sweep(path, [f"output_dir={tmp_path}"]) == 1
    (first, *_) = json.loads((tmp_path / "sweeps" / "short" / "failed.json").read_text())
    assert first["overrides"] | {"loss": "mse", "seed": 0} == first["overrides"]
    assert "z" in first["reason"]


def test_bayes_searches_the_optimizers_and_the_losss_own_range_with_equal_budgets_and_hyperband_stops_runs(
    tmp_path: Path, undrawn: None
) -> None:
    path = sweep_file(
        tmp_path,
        "bayes",
        run_cap=12,
        early_terminate={"type": "hyperband", "min_iter": 1, "eta": 3},
        parameters={
            **LR,
            "search.loss": {"min": 0.0, "max": 1.0},
            "loss": {"value": "huber"},
            "optimizer": {"values": ["sgd", "adam"]},
            "seed": {"value": 3},
            "trainer.max_epochs": {"value": 9},
        },
    )
    plan, records = done_here(path, tmp_path)
    assert len(records) == 12
    for optimizer, entry in options([str(CONF)], "optimizer").items():
        if optimizer not in ("sgd", "adam"):
            continue
        configs = [yaml.safe_load(f.read_text()) for f in tmp_path.glob(f"runs/*-{optimizer}-*/config.yaml")]
        rates = [config["optimizer.lr"] for config in configs]
        low, high = entry["search"]["lr"]
        assert len(set(rates)) == 6
        assert all(low <= rate <= high for rate in rates)
        assert len({config["loss.delta"] for config in configs}) == 6
        assert all(0.03 <= config["loss.delta"] <= 3 for config in configs)
    states = [json.loads(file.read_text()) for file in tmp_path.glob("runs/*/status.json")]
    stopped = [state for state in states if state["status"] == "pruned"]
    assert 0 < len(stopped) < 10
    assert all(state["reason"].startswith("hyperband stopped it after ") for state in stopped)
    assert len(stopped) == sum(bool(record["pruned"]) for record in records.values())
    jobs = plan.jobs()
    entries = find_best(plan, jobs, records)
    assert [entry["of"] for entry in entries] == [6, 6]
    best = min(record["value"] for record in records.values() if record["value"] is not None)
    assert entries[0]["mean"] == best
    again = read(path, {})
    assert work(tmp_path, again, again.jobs()) == 0, "nothing is missing"


def test_a_trial_that_is_taken_up_keeps_what_was_drawn(tmp_path: Path) -> None:
    from losslab.sweep.search import draw

    plan = read(sweep_file(tmp_path, "random", run_cap=8, parameters=LR), {})
    ledger, first = Ledger(tmp_path / "jobs"), plan.jobs()[0]
    drawn = draw(tmp_path, ledger, plan, first)
    assert draw(tmp_path, ledger, plan, first).number == drawn.number
    assert draw(tmp_path, ledger, plan, first).params == drawn.params
    other = Ledger(tmp_path / "other" / "jobs")
    assert draw(tmp_path / "other", other, plan, plan.jobs()[2]).params != drawn.params
    assert draw(tmp_path / "other", other, plan, first).params == drawn.params, "whoever comes first"


def test_what_is_tested_is_best_on_the_validation_rows_and_is_never_chosen_anew(tmp_path: Path) -> None:
    path = sweep_file(tmp_path, parameters={"loss": {"value": "mse"}, "search.lr": {"values": [0, 0.5, 1]}})
    plan = read(path, {"data.seed": "0"})
    check_selection(plan, path, [5])
    jobs = plan.jobs()

    def came_to(values: dict[float, list[float | None]]) -> dict[str, Record]:
        found = {}
        for job in jobs:
            value = values[job.setting["search.lr"]][job.repeats[0]["seed"]]
            run = {} if value is None else {"value": value}
            found[job.key] = {"setting": job.setting, "runs": [run]}
        return found

    first = came_to({0: [5.0, 3.0], 0.5: [3.5, 3.5], 1: [1.0, None]})
    (entry,) = choose_settings(tmp_path, plan, jobs, first)
    assert (entry["setting"]["search.lr"], entry["mean"]) == (0.5, 3.5), "a mean over all seeds; failures do not win"
    later = came_to({0: [1.0, 1.0], 0.5: [3.5, 3.5], 1: [1.0, 1.0]})
    (entry,) = choose_settings(tmp_path, plan, jobs, later)
    assert entry["setting"]["search.lr"] == 0.5
    assert configure(to_overrides({**entry["setting"], "stage": "test"})).stage == "test"


@pytest.mark.system
def test_hydras_own_sweep_takes_globs_ranges_and_sums_of_losses(command: Command, tmp_path: Path) -> None:
    short = ("logger=false", "data=diabetes", "model=linear", "trainer.max_epochs=1")
    varied = ("loss=[mse,0.5*huber],mae", "optimizer=glob(schedule_free_s*)", "seed=range(1)", "--search.loss=0,1")
    done = command("-m", *short, *varied)
    assert done.returncode == 0, done.stderr
    configs = [yaml.safe_load(file.read_text()) for file in tmp_path.glob("outputs/*/config.yaml")]
    keys = ("loss", "optimizer", "search.loss", "loss.parts.huber.delta")
    assert sorted(tuple(config.get(key) for key in keys) for config in configs) == [
        ("mae", "schedule_free_sgd", 0, None),
        ("mae", "schedule_free_sgd", 1, None),
        ("mse+0.5*huber", "schedule_free_sgd", 0, 0.03),
        ("mse+0.5*huber", "schedule_free_sgd", 1, 3.0),
    ]


@pytest.mark.parametrize(
    ("prints", "names"),
    [
        ("GPU 0: NVIDIA X (UUID: GPU-aa-1)\nGPU 1: NVIDIA X (UUID: GPU-bb-2)\n", ["GPU-aa-1", "GPU-bb-2"]),
        (
            "GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aa-1)\n  MIG 3g.20gb     Device  0: (UUID: MIG-11-1)\n"
            "  MIG 3g.20gb     Device  1: (UUID: MIG-GPU-aa-1/2/0)\nGPU 1: NVIDIA A100 (UUID: GPU-bb-2)\n",
            ["MIG-11-1", "MIG-GPU-aa-1/2/0", "GPU-bb-2"],
        ),
        ("No devices were found\n", []),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", []),
    ],
    ids=["two", "MIG", "none", "no driver"],
)
def test_gpus_are_listed_as_the_driver_names_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, names: list[str]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr("losslab.sweep.processes.shutil.which", lambda _: "nvidia-smi")
    done = subprocess.CompletedProcess([], 0, prints)
    monkeypatch.setattr("losslab.sweep.processes.subprocess.run", lambda *_, **__: done)
    assert gpus() == names


def test_workers_share_the_gpus_out_evenly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA X (UUID: GPU-aa-1)'\necho 'GPU 1: NVIDIA X (UUID: GPU-bb-2)'\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    given: list[str | None] = []

    class Started:
        """A process that only says what it was given."""

        def __init__(self, *_: Any, env: dict[str, str], **__: Any) -> None:
            given.append(env.get("CUDA_VISIBLE_DEVICES"))
            self.pid, self.stdin = len(given), (tmp_path / "told").open("w")

        def poll(self) -> None:
            return None

    assert count_workers() == 2
    monkeypatch.setattr("losslab.sweep.processes.cores", lambda: 5)
    monkeypatch.setattr("losslab.sweep.processes.total_memory", lambda: 10**12)
    plan = read(sweep_file(tmp_path), {})
    assert Engine().count(plan) == 2
    assert Engine().count(replace(plan, fixed={"trainer": "cpu"})) == 5, "as many as there are cores"
    several, alone = (Workers(tmp_path, plan, count) for count in (4, 1))
    with monkeypatch.context() as patch:
        patch.setattr("losslab.sweep.processes.subprocess.Popen", Started)
        for workers in (several, alone):
            while len(workers.processes) < workers.count:
                workers.processes.append(workers.start())
    for process in [*several.processes, *alone.processes]:
        assert process.stdin is not None
        process.stdin.close()
    assert given == ["GPU-aa-1", "GPU-bb-2", "GPU-aa-1", "GPU-bb-2", None]
