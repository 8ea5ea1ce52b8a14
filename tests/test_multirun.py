"""The end of `-m` and of a run: means over seeds, best first, in 80 columns, and commands that can be typed."""

import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from losslab.compare.request import parse_request
from losslab.compare.runs import find_records
from losslab.config.arguments import key_of, read_value
from losslab.config.check import configure
from losslab.multirun import announce, read_runs, tabulate, write_compare, write_race
from losslab.race.question import read_question, split_words
from tests.compare.written import run

NAMES = ("mse", "mae", "r2", "msle", "loss_a_part_with_a_long_name", "loss_b")


def random_runs(seed: int, folder: Path) -> tuple[str, list[Path], dict[tuple[str, str], list[float]]]:
    """Runs of a random sweep of losses and optimizers over seeds; and the primary metric of each cell."""
    random = np.random.default_rng(seed)
    task = ("regression", "single_label")[seed % 2]
    cells: dict[tuple[str, str], list[float]] = {}
    folders = []
    for loss in ("mse", "huber", "a_loss_with_a_rather_long_name")[: 1 + seed % 3]:
        for optimizer in ("adam", "sgd"):
            for number in range(1 + seed % 4):
                value = float(random.lognormal(0, 3))
                others = {f"test/{name}": float(random.lognormal(0, 9)) for name in NAMES[: random.integers(7)]}
                others |= {"train/loss": float(random.random()), "train/loss_spread": 1e-5}
                settings: dict[str, Any] = {"loss": loss, "optimizer": optimizer, "seed": number}
                folders.append(run(folder, value, task=task, others=others, **settings))
                cells.setdefault((loss, optimizer), []).append(value)
    return task, folders, cells


@pytest.mark.parametrize("seed", range(12))
def test_a_table_has_means_over_seeds_best_first_and_fits_80_columns(seed: int, tmp_path: Path) -> None:
    task, folders, cells = random_runs(seed, tmp_path)
    table = tabulate(read_runs(folders), ["train/loss_spread"], width=80)
    heading, *lines = table.splitlines()
    assert all(len(line) <= 80 for line in (heading, *lines))
    if "\nsummary.json" in table:
        left = table[table.index("\nsummary.json") :]
        lines = lines[: -left.count("\n")]
        assert seed % 3 == 2 or "train/loss_spread" not in left, "what was asked for is left out last"
    metric = {"regression": "test/rmse", "single_label": "test/accuracy"}[task]
    place = heading.split().index(metric)
    found = [float(line.split()[place]) for line in lines]
    means = sorted(map(np.mean, cells.values()), reverse=task == "single_label")
    np.testing.assert_allclose(found, means, rtol=1e-3)
    if 1 + seed % 4 > 1:
        spreads = {f"{np.mean(values):.4g}": f"{np.std(values, ddof=1):.2g}" for values in cells.values()}
        assert [line.split()[place + 1] for line in lines] == [spreads[line.split()[place]] for line in lines]
        assert {line.split()[place - 1] for line in lines} == {str(1 + seed % 4)}


def test_runs_of_several_metrics_get_a_table_each_and_one_without_a_metric_comes_last(tmp_path: Path) -> None:
    one = [run(tmp_path, 1.0 + number, loss=loss) for number, loss in enumerate(("mae", "mse"))]
    other = [run(tmp_path, 0.5, task="single_label", loss=loss) for loss in ("bce", "focal")]
    accuracy, rmse = tabulate(read_runs([*one, *other]), width=80).split("\n\n")
    assert "test/rmse" not in accuracy
    assert [line.split()[0] for line in rmse.splitlines()[1:3]] == ["mae", "mse"]
    runs = read_runs(one)
    del runs[0][1]["test/rmse"]
    assert [line.split()[0] for line in tabulate(runs, width=80).splitlines()[1:3]] == ["mse", "mae"]


@pytest.mark.parametrize(
    ("losses", "seeds", "older"), [(1, 3, 0), (2, 1, 0), (2, 2, 0), (2, 1, 2), (2, 2, 3), (3, 2, 3), (2, 16, 1)]
)
def test_what_asks_whether_the_difference_is_real_compares_these_runs_alone(
    losses: int, seeds: int, older: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "my outputs"
    monkeypatch.setattr("sys.argv", ["losslab", "-m"] if older else ["losslab", "experiment=outliers"])
    for seed in range(older):
        run(folder / "sweeps", 1.0, task="single_label", loss="old", seed=seed)
    folders = [run(folder, 1.0, loss=f"loss{n}", seed=seed) for n in range(losses) for seed in range(seeds)]
    (folder / "loss").mkdir()
    said = write_compare(read_runs(folders), folders)
    if losses == 1:
        assert said == ""
        return
    assert ("seed=0,1,2,3,4" in said) == (seeds == 1)
    assert ("-m seed" in said) == (seeds == 1 and not older), "unless it is typed"
    words = shlex.split(said.splitlines()[-1])
    assert words[:2] == ["losslab", "compare"]
    compared = parse_request(words[2:]).folders
    if older and (seeds == 1 or seeds > 15):  # for which there must be a new folder
        (new,) = compared
        assert not Path(new).exists()
        added = shlex.split(said.splitlines()[1])
        assert key_of(added[-1]) == "output_dir"
        assert read_value(added[-1]) == new == str(folder / "loss-2")
    else:
        assert {Path(path) for each in compared for path, _ in find_records(each)} == set(folders)


@pytest.mark.parametrize(
    ("typed", "losses"),
    [
        ("", ["mse", "mae", "huber"]),
        ("loss=quantile optimizer=sgd optimizer.lr=0.1 seed=3 data=diabetes", ["quantile", "mse", "mae"]),
        ("task=single_label loss=focal logger=false", ["focal", "cross_entropy", "square"]),
        ("task=multi_label trainer.max_epochs=2 yardstick=f1", ["bce", "hinge", "squared_hinge"]),
        ("loss=huber loss.delta=2", None),
        ("loss=[mse,mae]", None),
        ("optimizer=any-lamb", None),
        ("experiment=outliers", None),
    ],
)
def test_a_run_ends_with_a_race_that_can_be_typed(typed: str, losses: list[str] | None) -> None:
    cfg = configure(typed.split())
    said = write_race(cfg)
    if losses is None:
        assert said == ""
        return
    words = shlex.split(said)
    assert words[:3] == ["losslab", "race", f"loss={','.join(losses)}"]
    files, rest, folders = split_words(words[2:])
    question = read_question(files, dict(word.split("=", 1) for word in rest), "race", folders)
    assert question.plan.grid["loss"] == losses
    asked = configure([f"{key}={value}" for key, value in question.plan.fixed.items()])
    assert (asked.task, asked.optimizer, asked.data.batch_size) == (cfg.task, cfg.optimizer, cfg.data.batch_size)


@pytest.mark.parametrize(
    ("losses", "asked", "shown"), [("mse", [], True), ("mse,mae", [], False), ("mse,mae", ["train/loss"], True)]
)
def test_values_of_different_losses_stand_in_no_column_unless_asked_for(
    losses: str, asked: list[str], shown: bool, tmp_path: Path
) -> None:
    others = {"train/loss": 0.5, "train/loss_spread": 0.1, "test/loss": 0.7}
    cells = [(loss, lr) for loss in losses.split(",") for lr in (0.1, 0.2)]
    folders = [run(tmp_path, 1.0, loss=loss, optimizer__lr=lr, others=others) for loss, lr in cells]
    heading, below = tabulate(read_runs(folders), asked, width=80).split("\n", 1)
    assert ("train/loss" in heading) == shown
    assert ("test/loss" in heading) == (losses == "mse")
    assert all(each in heading or each in below for each in ("train/loss", "test/loss"))


def test_the_runs_are_announced_with_what_they_share_and_the_question_of_their_experiment() -> None:
    jobs = [["data=diabetes", f"loss={loss}", "logger=false"] for loss in ("mse", "mae")]
    assert announce(jobs) == "2 runs, all with data=diabetes"
    asked = announce([[f"loss={loss}", "experiment=outliers"] for loss in ("mse", "mae")]).splitlines()
    assert asked[0].startswith("question Is MAE more robust to outliers than MSE?")
    assert any(line.startswith("expect   test/rmse of about 1400 with mse") for line in asked)
    assert asked[-1] == "2 runs, all with experiment=outliers"
    assert all(len(line) <= 80 for line in asked)
