"""What goes wrong or aside in a sweep of stacked runs: each run ends as it does alone, and takes none with it."""

import hashlib
import json
import shutil
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from omegaconf import DictConfig
from sklearn.datasets import load_diabetes
from torch import Tensor

from losslab import predict
from losslab.compare.cautions import find_cautions
from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.runs import read_runs
from losslab.errors import Refused
from losslab.record.folder import run_name
from losslab.record.record import Record
from losslab.stacking import train as together
from losslab.stacking.group import Planned, plan_runs, split_stacks
from losslab.stacking.module import Stack
from losslab.train import train
from losslab.training.module import Experiment
from tests.conftest import ROOT, Command, Typed, folder_of, numbers, some_now, until, without_pictures
from tests.loopback import Loopback, run
from tests.processes import Fork, python
from tests.stacking.alike import checkpoint, close, same
from tests.training.weighted import SETTINGS as WEIGHTED
from tests.training.weighted import others, write_tables

STACKED = ("-m", "hydra/launcher=stacked")
SMALL = ("data=diabetes", "model=linear", "optimizer=sgd", "trainer.precision=64-true", "callbacks.last.seconds=0")
SHORT = (*SMALL, "trainer.max_epochs=2")
LONG = (*SMALL, "trainer.max_epochs=50")
Outcomes = list[dict[str, float] | BaseException]


def swept(jobs: Sequence[DictConfig], width: int = 64) -> tuple[list[Path], Outcomes]:
    """Train these as one sweep does; return their folders, and what each came to."""
    runs = plan_runs([list(cfg.run.overrides) for cfg in jobs])
    found: dict[Planned, Any] = {}
    for stack in split_stacks(runs, width):
        found |= zip(stack, together.train_together(stack), strict=True)
    return [folder_of(run.cfg) for run in runs], [found[run] for run in runs]


def status(folder: str | Path) -> dict[str, Any]:
    known: dict[str, Any] = json.loads((Path(folder) / "status.json").read_text())
    return known


Patched = Callable[[], AbstractContextManager[None]]


def begin(folder: Path, *words: str, patched: Patched = without_pictures) -> Fork:
    """`python train.py ...` in a process and a folder of its own, where something is patched."""
    logger = () if any(word.startswith("logger") for word in words) else ("logger=false",)

    def does() -> None:
        with patched():
            python(str(ROOT / "train.py"), *words, *logger)()

    return Fork(does, folder)


def ran(folder: Path, *words: str, patched: Patched = without_pictures) -> tuple[int, str, str]:
    """The exit code of the command, and what it said."""
    process = begin(folder, *words, patched=patched)
    return process.wait(), *process.said()


def runs(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs of a folder by their names."""
    return {file.parent.name: json.loads(file.read_text()) for file in sorted(folder.glob("outputs/*/status.json"))}


def summary(folder: Path, name: str) -> dict[str, float]:
    """The numbers of a run."""
    return numbers(json.loads((folder / "outputs" / name / "summary.json").read_text()))


@pytest.mark.parametrize(
    ("settings", "bad", "where"),
    [
        (("trainer.max_epochs=3",), "1e200", "at step 2 (epoch 0)"),
        pytest.param(("trainer.max_epochs=8",), "1e6", "at step 24 (epoch 2)", marks=pytest.mark.system),
        (("trainer.max_epochs=30", "data.batch_size=all"), "1e6", "on the validation rows after step"),
        pytest.param(("trainer.max_epochs=8", "scheduler=one_cycle", "loss=huber", "model=mlp"), "1e200", "at step 2 (",
                     marks=pytest.mark.system),
    ],
)  # fmt: skip
def test_a_run_that_diverges_ends_as_it_does_alone_and_its_neighbours_go_on(
    typed: Typed, undrawn: None, settings: tuple[str, ...], bad: str, where: str
) -> None:
    def jobs() -> list[DictConfig]:
        return [typed(*SMALL, "resume=never", *settings, f"optimizer.lr={lr}") for lr in ("0.02", bad, "0.01")]

    folders, outcomes = swept(jobs())
    for number, (folder, apart, outcome) in enumerate(zip(folders, jobs(), outcomes, strict=True)):
        if number != 1:
            assert isinstance(outcome, dict)
            summary = train(apart)
            assert numbers(outcome) == pytest.approx(numbers(summary), rel=1e-9, abs=1e-12)
            same((folder, summary.folder))
            continue
        with pytest.raises(Refused) as alone:
            train(apart)
        assert where in str(alone.value)
        assert str(outcome) == str(alone.value)
        other = folder_of(apart)
        mine, yours = status(folder), status(other)
        assert (mine["status"], mine["reason"]) == (yours["status"], yours["reason"])
        assert mine["status"] == "failed"
        files = [{file.name for file in each.iterdir()} - {".lock"} for each in (folder, other)]
        assert files[0] == files[1]
        for name in ("best", "last"):
            if f"{name}.ckpt" in files[0]:
                one, two = checkpoint(folder, name), checkpoint(other, name)
                one.pop("callbacks"), two.pop("callbacks")
                close(one, two, name)


def test_a_stack_of_runs_with_weights_is_each_of_them(typed: Typed, tmp_path: Path, undrawn: None) -> None:
    path = write_tables(tmp_path)[0]
    settings = (*WEIGHTED, "data.target=size", f"data.path={path}", "data.weight=n", others("regression"))

    def jobs() -> list[DictConfig]:
        each = [("loss=mse", "seed=0"), ("loss=mae", "seed=1")]
        return [typed(*settings, "trainer.max_epochs=1", "resume=never", *more) for more in each]

    folders, outcomes = swept(jobs())
    for folder, cfg, outcome in zip(folders, jobs(), outcomes, strict=True):
        assert isinstance(outcome, dict), outcome
        alone = train(cfg)
        assert numbers(outcome) == pytest.approx(numbers(alone), rel=1e-9, abs=1e-12)
        same((folder, alone.folder))


def test_all_diverge(typed: Typed, undrawn: None) -> None:
    folders, outcomes = swept([typed(*SHORT, "optimizer.lr=1e200", f"seed={seed}") for seed in range(3)])
    assert all(isinstance(outcome, Refused) for outcome in outcomes)
    assert {status(folder)["status"] for folder in folders} == {"failed"}


@pytest.mark.parametrize("epochs", some_now([40, 20], [20]))
def test_early_stopping_stops_each_run_where_it_would_alone(typed: Typed, undrawn: None, epochs: int) -> None:
    settings = ("callbacks=early_stopping", "callbacks.early_stopping.patience=2", "resume=never", *SMALL)

    def jobs() -> list[DictConfig]:
        return [
            typed(*settings, f"trainer.max_epochs={epochs}", f"optimizer.lr={lr}", f"seed={seed}")
            for seed, lr in enumerate((0.1, 0.01, 0.005))
        ]

    folders, outcomes = swept(jobs())
    ends = []
    for folder, apart, outcome in zip(folders, jobs(), outcomes, strict=True):
        assert isinstance(outcome, dict)
        summary = train(apart)
        assert numbers(outcome) == pytest.approx(numbers(summary), rel=1e-9, abs=1e-12)
        same((folder, summary.folder))
        ends.append(int(summary["epochs"]))
        mine, yours = (checkpoint(each, "last")["callbacks"] for each in (folder, summary.folder))
        (early,) = [key for key in yours if key.startswith("EarlyStopping")]
        close(mine[early], yours[early])
    assert len(set(ends)) == 3
    assert (max(ends) < epochs) == (epochs == 40)


def test_a_run_that_was_only_to_be_tested_is_not_trained_on(typed: Typed, undrawn: None) -> None:
    early = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "trainer.max_epochs=40")
    job = (*SMALL, *early, "optimizer.lr=0.1")
    cfg = typed(*job)
    summary = train(cfg)
    file = folder_of(cfg) / "status.json"
    file.write_text(json.dumps({**status(folder_of(cfg)), "status": "preempted"}))
    again = typed(*job)
    assert numbers(train(again)) == numbers(summary)
    assert folder_of(again) == folder_of(cfg)


GONE = [(signal.SIGTERM, "preempted"), (signal.SIGUSR1, "preempted"), (signal.SIGINT, "interrupted")]


@pytest.mark.system
@pytest.mark.parametrize(("by", "named"), GONE)
def test_a_stack_that_is_stopped_keeps_checkpoints_and_its_runs_go_on(
    tmp_path: Path, by: signal.Signals, named: str
) -> None:
    jobs = (
        *LONG,
        "seed=0,1",
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=30",
    )
    with without_pictures():
        whole, stopped = tmp_path / "whole", tmp_path / "stopped"
        assert ran(whole, *STACKED, *jobs)[0] == 0
        process = begin(stopped, *STACKED, *jobs)
        until(lambda: any(file.read_text().count("\n") > 5 for file in stopped.glob("outputs/*/history.csv")))
        process.send_signal(by)
        _, err = process.communicate()
        assert process.returncode == 128 + by, err
        assert "Traceback" not in err
        assert err.count("2 runs, of which this is the first, were stopped") == 1
        assert len(runs(stopped)) == 2
        for name, known in runs(stopped).items():
            assert known["status"] == named
            last = torch.load(stopped / "outputs" / name / "last.ckpt", weights_only=True)
            rows = (stopped / "outputs" / name / "history.csv").read_text().splitlines()
            assert last["epoch"] <= int(rows[-1].split(",")[0]) < 49
        shutil.copytree(stopped, tmp_path / "copy")
        if by is signal.SIGUSR1:  # goes on as after SIGTERM
            return
        name = next(iter(runs(stopped)))
        ways = (
            [(*STACKED, *jobs), *([("-m", *jobs)] if by is signal.SIGTERM else [])]
            if named == "preempted"
            else [(f"ckpt=outputs/{name}/last.ckpt",)]
        )
        for words in ways:
            code, out, err = ran(stopped, *words)
            assert code == 0, err
            again = runs(whole) if named == "preempted" else [name]
            assert out.count("resumed ") == len(again), "each run goes on alone"
            assert runs(stopped).keys() == runs(whole).keys()
            for each in again:
                assert runs(stopped)[each]["status"] == "finished"
                assert summary(stopped, each) == pytest.approx(summary(whole, each), rel=1e-9)
            shutil.rmtree(stopped)  # a checkpoint knows its folder
            shutil.copytree(tmp_path / "copy", stopped)


@pytest.mark.system
def test_a_stack_that_is_killed_before_it_has_written_anything_begins_anew(tmp_path: Path) -> None:
    jobs = (*LONG, "callbacks.last.seconds=100", "seed=0,1,2")
    with without_pictures():
        process = begin(tmp_path / "killed", *STACKED, *jobs)
        until(lambda: len(list((tmp_path / "killed").glob("outputs/*/history.csv"))) == 3)
        process.kill()
        process.wait()
        assert {known["status"] for known in runs(tmp_path / "killed").values()} == {"running"}
        assert not list((tmp_path / "killed").glob("outputs/*/*.ckpt"))
        for name in ("killed", "whole"):
            code, out, err = ran(tmp_path / name, *STACKED, *jobs)
            assert code == 0, err
            assert "3 runs trained as one" in out
    found, whole = runs(tmp_path / "killed"), runs(tmp_path / "whole")
    assert found.keys() == whole.keys()
    for name in found:
        assert summary(tmp_path / "killed", name) == summary(tmp_path / "whole", name)
        assert (tmp_path / "killed/outputs" / name / "history.csv").read_text().count("\n") == 51


@pytest.mark.system
def test_a_signal_while_runs_are_recorded_waits_until_they_are(tmp_path: Path) -> None:
    @contextmanager
    def drawn_slowly() -> Iterator[None]:
        def slow(self: Record, *_: Any) -> None:
            (self.folder / "drawing").touch()
            until(lambda: (self.folder.parent / "signalled").exists())

        Record.keep_pictures = slow  # type: ignore[method-assign, assignment]
        yield

    process = begin(tmp_path / "it", *STACKED, *SHORT, "seed=0,1,2", "model=linear,mlp", patched=drawn_slowly)
    until(lambda: list(tmp_path.glob("it/outputs/*/drawing")))
    process.send_signal(signal.SIGTERM)
    (tmp_path / "it/outputs/signalled").touch()
    assert process.wait() == 143
    assert {known["status"] for known in runs(tmp_path / "it").values()} == {"finished"}
    assert len(runs(tmp_path / "it")) == 3, "the other model's were not begun"


@pytest.mark.system
@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("best.ckpt", "could not be written"),
        ("history.csv", "could not be read or written (Is a directory)"),
        ("rows.npz", "could not be read or written (Is a directory)"),
        ("pictures", "is a file where a folder has to be"),
    ],
)
def test_a_folder_that_takes_no_file_is_told_in_a_sentence_and_the_others_are_recorded(
    typed: Typed, tmp_path: Path, file: str, said: str
) -> None:
    words = (*SHORT, "seed=0,1,2")
    name = run_name(typed(*SHORT, "seed=1", "logger=false"))
    broken = tmp_path / "it/outputs" / name
    broken.mkdir(parents=True)
    (broken / file).mkdir() if file != "pictures" else (
        broken / file
    ).touch()  # a folder takes no text, a file no files
    code, out, err = ran(tmp_path / "it", *STACKED, *words, patched=nullcontext)
    assert code == 1
    assert "Traceback" not in err
    assert f"outputs/{name}" in err
    assert said in err
    assert err.splitlines()[-1].startswith("losslab: ")
    found = runs(tmp_path / "it")
    assert {known["status"] for each, known in found.items() if each != name} == {"finished"}
    assert len(found) == 3
    assert (found[name]["status"], said in found[name]["reason"]) == ("failed", True)
    table = out.strip().split("\n\n")[-1].splitlines()
    assert [line.split()[0] for line in table[:2]] == ["runs", "2"], "those that finished"


@pytest.mark.system
def test_a_sweep_in_which_runs_fail_ends_as_with_hydras_own_launcher(tmp_path: Path) -> None:
    model = ("model=linear", "model._target_=tests.mine.line", "allow=tests")
    jobs = (*SHORT, "task=regression", *model, "optimizer=sgd,muon", "optimizer.lr=0.02,1e200,0.01")
    with without_pictures():
        stacked, basic = ran(tmp_path / "stacked", *STACKED, *jobs), ran(tmp_path / "basic", "-m", *jobs)
    for code, _, err in (stacked, basic):
        assert code == 1
        assert "Traceback" not in err
        assert "losslab: optimizer=muon" in err
        assert (
            err.count("the loss became inf at step 2 (epoch 0) with learning rate 1e+200: try optimizer.lr=1e+199") >= 1
        )
    assert stacked[2].splitlines()[-1] == basic[2].splitlines()[-1]
    tables = [out.strip().split("\n\n")[-2] for _, out, _ in (stacked, basic)]
    assert tables[0] == tables[1]
    heading, *rows = (line.split()[0] for line in tables[0].splitlines()[:3])
    assert (heading, sorted(rows)) == ("optimizer.lr", ["0.01", "0.02"])
    assert len(stacked[1].splitlines()) < 24, "one screen"
    assert "3 runs trained as one, which differ in optimizer.lr" in stacked[1]


@pytest.mark.system
def test_one_run_is_no_sweep(tmp_path: Path) -> None:
    code, _, err = ran(tmp_path / "it", *SHORT, "hydra/launcher=stacked")
    assert code == 1
    assert err.startswith("losslab: hydra/launcher=stacked is for several runs, and this is one run: type -m too")
    code, _, err = ran(tmp_path / "it", *STACKED, *SHORT, "hydra.launcher.width=0")
    assert (code, err) == (1, "losslab: hydra.launcher.width=0 does not fit: it must be a whole number of at least 1\n")


@pytest.mark.system
def test_results_come_in_the_order_of_the_sweep_also_in_batches(tmp_path: Path) -> None:
    """Sweepers such as Optuna's launch a few runs at a time: `initial_job_idx` tells how many there were before."""
    jobs = (*SHORT, "loss=mse,mae", "optimizer=sgd,adam", "seed=0,1", "hydra.launcher.width=2")
    with without_pictures():
        code, out, err = ran(tmp_path / "it", *STACKED, *jobs, "hydra.sweeper.max_batch_size=4")
        assert code == 0, err
    assert out.count("2 runs trained as one") == 4, "two of two in each of two batches"
    lines = [line.split() for line in out.strip().split("\n\n")[-2].splitlines()[1:5]]
    assert {tuple(line[:3]) for line in lines} == {(a, b, "2") for a in ("mse", "mae") for b in ("sgd", "adam")}
    found: dict[tuple[str, str], list[float]] = {}
    for file in (tmp_path / "it" / "outputs").glob("*/config.yaml"):
        config, summary = yaml.safe_load(file.read_text()), json.loads(file.with_name("summary.json").read_text())
        found.setdefault((config["loss"], config["optimizer"]), []).append(summary["test/rmse"])
    means = {key: sum(values) / len(values) for key, values in found.items()}
    assert [(line[0], line[1]) for line in lines] == sorted(means, key=lambda key: means[key])


@pytest.mark.system
@pytest.mark.skipif(
    not (find_spec("hydra_plugins") and find_spec("hydra_plugins.hydra_joblib_launcher")),
    reason="no hydra-joblib-launcher here",
)
def test_another_launcher_takes_the_stacks(command: Command, tmp_path: Path) -> None:
    jobs = (*SHORT, "data.batch_size=32,16", "seed=0,1,2")
    inner = ("hydra/launcher@hydra.launcher.on=joblib", "hydra.launcher.on.n_jobs=2", "hydra.launcher.width=2")
    two, one = command(*STACKED, *inner, *jobs, "logger=false"), ran(tmp_path / "one", *STACKED, *jobs)
    assert (two.returncode, one[0]) == (0, 0), two.stderr + one[2]
    assert two.stdout.strip().split("\n\n")[-2] == one[1].strip().split("\n\n")[-2]
    assert sorted(known["facts"].get("stacked", 1) for known in runs(tmp_path).values()) == [1, 1, 2, 2, 2, 2]


def hashes(patch: pytest.MonkeyPatch) -> dict[int, list[str]]:
    """What each run is given in training, by its seed."""
    seen: dict[int, list[str]] = {}

    def note(run: Experiment, x: Tensor, y: Tensor) -> None:
        text = hashlib.sha256(x.numpy().tobytes() + y.numpy().tobytes()).hexdigest()
        seen.setdefault(int(run.draws.sum()), []).append(text)

    def alone(self: Experiment, batch: Any, index: int) -> None:
        note(self, *batch)
        step(self, batch, index)

    def stacked(self: Stack, batch: Any, index: int) -> None:
        for each, x, y in zip(self.runs, *batch, strict=True):
            note(each, x, y)
        steps(self, batch, index)

    step, steps = Experiment.training_step, Stack.training_step
    patch.setattr(Experiment, "training_step", alone)
    patch.setattr(Stack, "training_step", stacked)
    return seen


def test_each_run_is_given_the_batches_that_it_is_given_alone(typed: Typed, undrawn: None) -> None:
    def jobs() -> list[DictConfig]:
        more: tuple[list[str], ...] = (["data.seed=7"], ["loss=mae"], [])
        return [typed(*SHORT, "resume=never", f"seed={seed}", *each) for seed, each in enumerate(more)]

    with pytest.MonkeyPatch.context() as patch:
        seen = hashes(patch)
        _, outcomes = swept(jobs())
    assert all(isinstance(outcome, dict) for outcome in outcomes)
    with pytest.MonkeyPatch.context() as patch:
        alone = hashes(patch)
        for job in jobs():
            train(job)
    assert seen == alone
    assert len(seen) == 3
    assert len({text for each in seen.values() for text in each}) == 3 * 2, "two epochs of one step of Lightning's each"


ALONE = {
    "optimizer=lbfgs": "optimizer=lbfgs is not marked `stacks: true`",
    "optimizer=sam": "optimizer=sam is not marked `stacks: true`",
    "optimizer=adafactor": "optimizer=adafactor is not marked `stacks: true`",
    "scheduler=plateau": "scheduler=plateau looks at the run's own metric",
    "callbacks=ema": "callbacks.ema acts on one model",
    "callbacks.best.save_top_k=2": "callbacks.best acts on one model",
    "+trainer.limit_train_batches=0.5": "trainer.limit_train_batches is not known to stacks",
    "trainer.precision=bf16-mixed": "trainer.precision=bf16-mixed is neither 32-true nor 64-true",
}


@pytest.mark.system
def test_what_cannot_be_stacked_trains_alone_and_says_why_once(
    typed: Typed, undrawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    def jobs() -> list[DictConfig]:
        base = ("data=diabetes", "trainer.max_epochs=1", "model.hidden=[4]", "resume=never")
        odd = [typed(*base, *(["+callbacks.best.save_top_k=2"] if "top_k" in each else [each])) for each in ALONE]
        return [odd[0], *(typed(*base, f"seed={seed}") for seed in range(2)), *odd[1:], typed(*base, "seed=2")]

    folders, outcomes = swept(jobs())
    said = capsys.readouterr().out
    assert not [outcome for outcome in outcomes if not isinstance(outcome, dict)]
    for why in ALONE.values():
        assert said.count(why) == 1, why
    stacked = [status(folder)["facts"].get("stacked", 1) for folder in folders]
    assert stacked == [1, 3, 3, *[1] * (len(ALONE) - 1), 3]
    for folder, job, outcome in zip(folders, jobs(), outcomes, strict=True):
        if status(folder)["facts"].get("stacked", 1) == 1:
            assert isinstance(outcome, dict)
            assert numbers(outcome) == numbers(train(job))


@pytest.mark.system
def test_each_run_of_a_stack_is_a_run_on_wandb_as_it_is_alone(tmp_path: Path) -> None:
    words = (*SHORT, "optimizer.lr=0.02,1e200,0.01", "logger.mode=online")
    told = []
    for launcher in (STACKED, ("-m",)):
        folder = tmp_path / launcher[-1].rpartition("=")[2]
        folder.mkdir()
        with Loopback() as server:
            done = run(server, folder, str(ROOT / "train.py"), *launcher, *words)
            assert done.returncode == 1, done.stderr
            assert not server.unknown
            assert sorted(server.runs) == sorted(known["id"] for known in runs(folder).values())
            told.append({each.config["optimizer.lr"]: each for each in server.runs.values()})
    stacked, alone = told
    assert set(stacked) == set(alone) == {0.02, 1e200, 0.01}
    clocked = ("examples_per_second", "peak_memory_mb", "_runtime", "_timestamp", "_wandb")

    def plain(row: dict[str, Any]) -> dict[str, Any]:
        """What the clock and the machine do not decide; of pictures, that there are any."""
        kept = {key: value for key, value in row.items() if not key.endswith(clocked)}
        return {key: value.get("_type") if isinstance(value, dict) else value for key, value in kept.items()}

    for lr, mine in stacked.items():
        yours = alone[lr]
        assert mine.exit_code == yours.exit_code == (1 if lr == 1e200 else 0)
        assert (mine.group, mine.job_type, sorted(mine.tags)) == (yours.group, yours.job_type, sorted(yours.tags))
        assert set(mine.config) - set(yours.config) == {"facts.stacked"}
        assert set(yours.config) <= set(mine.config)
        rows = [[plain(row) for _, row in sorted(each.history.items())] for each in (mine, yours)]
        assert len(rows[0]) == len(rows[1])
        for one, other in zip(*rows, strict=True):
            close(one, other)
        close(plain(mine.summary), plain(yours.summary))
        assert (len(rows[0]) > 2) == (lr != 1e200)


@pytest.mark.system
def test_a_wandb_that_cannot_begin_is_told_once_and_the_records_are_complete(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WANDB_MODE", "online")
        patch.setenv("WANDB_API_KEY", "tooshort")
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        code, _, err = ran(tmp_path / "it", *STACKED, *SHORT, "seed=0,1,2", "logger=wandb", patched=nullcontext)
    assert code == 0, err
    assert err.count("W&B could not start") == 1
    assert "the records of the runs are complete" in err
    assert [known["status"] for known in runs(tmp_path / "it").values()] == ["finished"] * 3
    assert len(list(tmp_path.glob("it/outputs/*/pictures/curves.png"))) == 3


@pytest.mark.parametrize("more", [1, 2])  # epochs, each the best so far: a better checkpoint replaces the stack's
def test_a_run_of_a_stack_goes_on_and_predicts_as_any_other(
    typed: Typed, undrawn: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.chdir(tmp_path)
    folders, _ = swept([typed(*SHORT, f"seed={seed}", "output_dir=outputs") for seed in range(2)])
    whole = train(typed(*SMALL, f"trainer.max_epochs={2 + more}", "seed=1"))
    longer = typed(f"ckpt={folders[1]}/last.ckpt", f"trainer.max_epochs={2 + more}", "output_dir=outputs")
    resumed = train(longer)
    assert resumed["best_epoch"] == 1 + more
    assert numbers(resumed) == pytest.approx(numbers(whole), rel=1e-9)
    assert resumed.folder == folders[1]
    load_diabetes(as_frame=True, scaled=False).frame.to_csv(tmp_path / "new.csv", index=False)
    apart = train(typed(*SHORT, "seed=0", "resume=never"))
    said = []
    for folder in (folders[0], apart.folder):
        asked = predict.parse_request([f"ckpt={folder}/best.ckpt", f"input={tmp_path / 'new.csv'}"])[0]
        (_, *rows), *_ = predict.predict(asked, tmp_path / "new.csv")
        said.append([float(value) for row in rows for value in row])
    assert len(said[0]) >= 442
    assert said[0] == pytest.approx(said[1], rel=1e-5)


def test_stacked_and_lone_runs_are_compared_with_a_caution(typed: Typed, undrawn: None, tmp_path: Path) -> None:
    swept([typed(*SHORT, f"seed={seed}", "loss=mse") for seed in range(3)])
    for seed in range(3):
        train(typed(*SHORT, f"seed={seed}", "loss=mae"))
    found = arrange(read_runs([str(tmp_path / "outputs")]))
    findings = evaluate(found)
    said = find_cautions(found, findings)
    assert [(each.n, each.paired) for each in findings.pairs] == [(3, True)], "paired by their seeds"
    assert any("3 of 6 runs trained in stacks of up to 3: their seconds" in text for text in said), said


def test_a_model_that_cannot_be_one_of_many_trains_alone_with_the_reason(
    typed: Typed, undrawn: None, capsys: pytest.CaptureFixture[str]
) -> None:
    class Branching(torch.nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) if x.mean() > 0 else -super().forward(x)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("losslab.models.nn.Linear", Branching)
        folders, outcomes = swept([typed(*SHORT, f"seed={seed}") for seed in range(2)])
        alone = train(typed(*SHORT, "seed=1", "resume=never"))
    assert (
        "2 of the runs train one by one: vmap: It looks like you're attempting to use a Tensor in some data-dependent"
        in capsys.readouterr().out
    )
    assert isinstance(outcomes[1], dict)
    assert numbers(outcomes[1]) == numbers(alone)
    assert "stacked" not in status(folders[1])["facts"]


def test_a_stack_that_memory_does_not_hold_trains_in_smaller_ones(
    typed: Typed, undrawn: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def update(self: Stack, *batch: Any) -> Any:
        if len(self.runs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return do(self, *batch)

    def jobs() -> list[DictConfig]:
        return [typed(*SHORT, "resume=never", f"seed={seed}", f"loss={loss}") for seed in (0, 1, 2) for loss in losses]

    do, losses = Stack.update, ("mse", "mae")
    monkeypatch.setattr(Stack, "update", update)
    folders, outcomes = swept(jobs()[:5])
    said = capsys.readouterr().out
    assert "5 runs as one need more memory than there is: trying 3" in said
    assert "3 runs as one need more memory than there is: trying 2" in said
    sizes = [status(folder)["facts"].get("stacked", 1) for folder in folders]
    assert sorted(sizes) == [1, 2, 2, 2, 2]
    for size, folder, apart, outcome in zip(sizes, folders, jobs()[:5], outcomes, strict=True):
        assert isinstance(outcome, dict)
        summary = train(apart)
        assert numbers(outcome) == pytest.approx(numbers(summary), rel=1e-9, abs=1e-12)
        if size > 1:
            same((folder, summary.folder))


def test_a_stack_that_memory_does_not_hold_later_on_begins_anew_in_the_same_folders(
    typed: Typed, undrawn: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Stack, *batch: Any) -> Any:
        if self.current_epoch and len(self.runs) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return do(self, *batch)

    do = Stack.update
    monkeypatch.setattr(Stack, "update", full)
    folders, outcomes = swept([typed(*SHORT, f"seed={seed}") for seed in range(4)])
    assert all(isinstance(outcome, dict) for outcome in outcomes)
    assert [status(folder)["facts"]["stacked"] for folder in folders] == [2] * 4
    assert [folder for folder in folders if folder.name.endswith("-2")] == []
    assert {(folder / "history.csv").read_text().count("\n") for folder in folders} == {3}
