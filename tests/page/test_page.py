"""What a user gets: the command, the page, the plots with their data, and one sentence for a mistake."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve

from losslab.compare.__main__ import check_finished
from losslab.compare.cautions import doubt_race
from losslab.compare.costs import name_fronts
from losslab.compare.design import arrange
from losslab.compare.request import parse_request
from losslab.compare.runs import Runs, read_runs
from losslab.compare.settings import CROSS
from losslab.compare.table import cut_intervals, summarize_cells
from losslab.errors import Refused
from losslab.page.calibration_plot import bin_probabilities, to_probabilities
from losslab.page.claim_plots import draw_win_rates
from losslab.page.cost_plots import draw_pareto
from losslab.page.plots import draw_plots
from losslab.page.result_plots import draw_means
from losslab.page.search_plots import plateau_width
from losslab.page.svg import render_svg
from losslab.page.training_plots import draw_training
from losslab.record.row_scores import RowScores
from tests.compare.written import grid, run
from tests.page.opened import Seen, made
from tests.processes import ran

PROGRAM = "import sys, losslab.compare.__main__ as m; m.main(); assert 'torch' not in sys.modules"
PNG = b"\x89PNG\r\n\x1a\n"


def tuned(folder: Path) -> Path:
    for loss, shift in (("mae", 0.0), ("mse", 0.1), ("<b>", 0.2)):
        for power, rate in enumerate((0.001, 0.01, 0.1)):
            for seed in range(3):
                value = 0.5 + shift + 0.1 * abs(power - 1) + 0.01 * ((seed * 5 + power) % 3)
                more = {"test/r2": 1 - value, "val/r2_best": 1 - value, "val/r2": 0.9 - value}
                run(folder, value, loss=loss, seed=seed, optimizer__lr=rate, others=more)
    return folder


def test_the_page_holds_all_loads_nothing_and_is_the_same_again_but_for_its_date(tmp_path: Path) -> None:
    printed, page = made(tuned(tmp_path / "runs"))
    again = made(tmp_path / "runs", f"out={tmp_path / 'runs' / 'again'}")[1]
    undated = [re.sub("<time>.*</time>", "", text) for text in (page, again)]
    assert undated[0] == undated[1] != page
    seen = Seen(page)
    seen.check()
    said = "".join(seen.said)
    first = printed.splitlines()[0]
    assert said.index(first) < said.index("Cells") < said.index("Plots")
    assert "Read with caution" not in said, "there is none"
    assert "<b>" not in page
    folder = tmp_path / "runs" / "comparison"
    assert printed.splitlines()[-1] == str(folder / "index.html")
    drawn = {file.stem for file in folder.glob("*.png")}
    assert drawn == {
        *("means", "win_rates", "curves", "learning_rate", "budget", "metrics", "parallel_coordinates", "importance"),
        *("differences", "ranks"),
    }
    for name in drawn:
        data = (folder / f"{name}.csv").read_text()
        picture = (folder / f"{name}.png").read_bytes()
        assert picture.startswith(PNG)
        assert re.search(rf'<figure id="{name}">\n<div class="scroll".*?><svg ', page)
        assert base64.b64encode(data.encode()).decode() in page
    tables = {"cells.csv", "pairs.csv", "runs.csv", "variance.csv", "table.tex"}
    assert tables <= {file.name for file in folder.iterdir()}
    assert said.index("Plots") < said.index("Pairs") < said.index("Noise") < said.rindex("\nHow: model")
    assert base64.b64encode((folder / "table.tex").read_bytes()).decode() in page
    run(tmp_path / "runs", 0.5, loss="mae", seed=9, status="failed")
    said = "".join(Seen(made(tmp_path / "runs")[1]).said)
    assert said.index("Read with caution") < said.index("runs failed") < said.index("Cells")


def test_the_chosen_cell_is_marked_drawn_and_explained_and_what_failed_is_named(tmp_path: Path) -> None:
    """Of nine cells three tie on validation; the first of them by name is worse than most on test."""
    for number in range(9):
        for seed in range(3):
            value, val = 0.9 - 0.002 * number + 0.01 * ((seed * 7 + number * 3) % 5), 0.95 if number > 5 else 0.8
            loss, status = f"l{8 - (number + 3) % 9}", "failed" if (number, seed) == (2, 2) else "finished"
            run(tmp_path, value, val=val, task="single_label", loss=loss, seed=seed, status=status)
    printed, page = made(tmp_path)
    said = "".join(Seen(page).said)
    Seen(page).check()
    why = "was chosen on the validation rows, where 3 tie: l6, l7 and l8; it is the first by name."
    cells = pd.read_csv(tmp_path / "comparison" / "cells.csv")
    assert cells["cell"][cells["chosen"]].tolist() == ["l6"]
    place = cells["cell"].tolist().index("l6") + 1
    assert place > 5, "it is drawn nevertheless"
    assert f"l6 {why} Its test mean is number {place} of 9." in printed
    assert f"It {why} Its test mean is number {place} of 9." in said
    assert "\nl6 (leads)" in printed
    assert "1 of 27 trainings: l3 (1)." in said
    assert re.search(r'l3 \(1\)\. <a href="#run-\d+">See these runs</a>', page)
    assert "They only describe these test results and prove nothing." in said
    assert "A point is 0.01 accuracy." in said
    curves = pd.read_csv(tmp_path / "comparison" / "curves.csv")["cell"].unique()
    assert "l6" in curves
    assert "of the 4 best of 9 cells by test mean and the one that leads" in said
    assert sum("l6 (leads)" in text for text in Seen(page).said) >= 4, "in the table, at its mean, its rank, its curve"


def test_plots_show_the_numbers_of_the_runs(tmp_path: Path) -> None:
    found = arrange(read_runs([str(tuned(tmp_path))]))
    drawn = {plot.name: plot for plot in draw_plots(found, summarize_cells(found))}
    rates = drawn["learning_rate"].data.set_index(["line", "lr"])
    assert rates.at[("mae", 0.01), "mean"] == pytest.approx(0.51)
    budget = drawn["budget"].data
    best = budget[(budget["cell"] == "mae") & (budget["trials"] == 1)]["best"].item()
    assert best == pytest.approx(rates.loc["mae"]["mean"].mean())
    importance = drawn["importance"].data.set_index("setting")["importance"]
    assert importance["loss"] > importance["seed"]
    assert importance["optimizer.lr"] > importance["seed"]
    curve = drawn["curves"].data.set_index(["cell", "epoch"]).loc["mae"]
    assert curve["samples"].tolist() == [100, 200, 300]
    assert curve["seconds"].tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert drawn["metrics"].data.columns.tolist() == ["cell", "rmse", "r2"]


@pytest.mark.parametrize("epochs", [1, 2])
def test_the_curve_of_each_cell_is_one_mark_even_after_one_epoch(epochs: int, tmp_path: Path) -> None:
    for number in range(4):
        run(tmp_path, 1.0, history=[1.0 + number] * epochs, loss=("mae", "mse")[number % 2], seed=number // 2)
    found = arrange(read_runs([str(tmp_path)]))
    plot = draw_training(found, summarize_cells(found))
    assert plot is not None
    assert [render_svg(plot).count(f"<title>{cell}: ") for cell in ("mae", "mse")] == [1, 1]


@pytest.mark.parametrize("epochs", [1, 2])
@pytest.mark.parametrize("far", [50.0, float("nan")])
def test_a_cell_that_lies_far_behind_is_cut_off_and_the_others_have_their_marks(
    far: float, epochs: int, tmp_path: Path
) -> None:
    for loss, value in {"mae": 1.0, "mse": 1.1, "huber": far}.items():
        run(tmp_path, 1.0, history=[value] * epochs, loss=loss)
    found = arrange(read_runs([str(tmp_path)]))
    plot = draw_training(found, summarize_cells(found))
    assert plot is not None
    assert [render_svg(plot).count(f"<title>{cell}: ") for cell in ("mae", "mse")] == [1, 1]


@pytest.mark.parametrize("seeds", [2, 3, 8])
@pytest.mark.parametrize("spread", [0.0, 0.01, 0.2])
def test_the_interval_of_each_cell_within_the_axis_is_drawn_whole(seeds: int, spread: float, tmp_path: Path) -> None:
    grid(tmp_path, {"mae": 0.9, "mse": 1.0, "huber": 50.0}, seeds, spread)
    found = arrange(read_runs([str(tmp_path)]))
    whole = summarize_cells(found)
    cells = cut_intervals(found, whole)
    left, right = draw_means(found, whole).figure.axes[0].get_xlim()
    within = cells[cells["mean"].between(left, right)]
    assert len(within) == 2, "what is far off is an arrow"
    assert (within["low"] >= left).all()
    assert (within["high"] <= right).all()


def test_win_rates_and_the_front_are_those_of_the_runs(tmp_path: Path) -> None:
    values = {"mae": (0.5, 0.7, 0.6, 0.5), "mse": (0.6, 0.6, 0.6, 0.7), "huber": (0.8, 0.8, 0.8, 0.4)}
    for number, (loss, tested) in enumerate(values.items()):
        for seed, value in enumerate(tested):
            failed = "failed" if (loss, seed) == ("huber", 3) else "finished"
            memory = {"peak_memory_mb": [70.0, 50.0, 60.0][number]}
            run(tmp_path, value, loss=loss, seed=seed, status=failed, others=memory)
    found = arrange(read_runs([str(tmp_path)]))
    numbers = summarize_cells(found)
    numbers = numbers.assign(pareto=name_fronts(found, numbers))
    assert dict(zip(numbers["cell"], numbers["pareto"], strict=True)) == {
        "mae": "seconds, MB",
        "mse": "MB",
        "huber": "",
    }
    wins, pareto = draw_win_rates(found, numbers), draw_pareto(found, numbers)
    assert wins is not None
    assert pareto is not None
    rates = wins.data.set_index("cell")
    assert (rates.at["mae", "mse"], rates.at["mse", "mae"]) == (0.625, 0.375)  # two wins, a loss and a tie
    assert (rates.at["mae", "huber"], rates.at["huber", "mse"]) == (1.0, 0.0)  # the training that failed loses
    assert pareto.data["MB"].tolist() == [70, 50, 60]
    assert len(pareto.figure.axes) == 1  # all took as many seconds


def test_calibration_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    scores, truth = 2 * rng.normal(size=(1000, 3)), rng.integers(0, 3, 1000)
    found = to_probabilities(RowScores(np.arange(1000), truth, scores))
    assert found is not None
    right, said = calibration_curve(found[1], found[0], n_bins=10, strategy="quantile")
    bins = bin_probabilities(*found)
    assert [each["said"] for each in bins] == pytest.approx(said, abs=0.01)
    assert [each["right"] for each in bins] == pytest.approx(right, abs=0.02)
    labels = to_probabilities(RowScores(np.arange(1000), (scores > 1).astype(np.int8), scores))
    assert labels is not None
    assert labels[0].tolist() == pytest.approx((1 / (1 + np.exp(-scores))).ravel())
    assert to_probabilities(RowScores(np.arange(1000), scores.astype(np.float32), scores)) is None, "numbers have none"


def test_a_plateau_is_as_wide_as_what_loses_little() -> None:
    rates = np.array([1e-4, 1e-3, 1e-2, 1e-1])
    assert plateau_width(rates, np.array([9.0, 1.01, 1.0, 9.0]), "min") == pytest.approx(1)
    assert plateau_width(rates, np.array([0.99, 0.2, 1.0, 0.99]), "max") == pytest.approx(1)


def test_two_keys_make_a_heatmap_and_data_sets_a_critical_difference(tmp_path: Path) -> None:
    for number, data in enumerate("abcdef"):
        for optimizer in ("adam", "sgd"):
            grid(tmp_path, {"mae": 1 + number, "mse": 2 + number}, 2, data=data, optimizer=optimizer)
    found = arrange(read_runs([str(tmp_path)]))
    drawn = {plot.name: plot.data for plot in draw_plots(found, summarize_cells(found))}
    assert set(drawn["heatmap"].columns) == {"loss", "adam", "sgd"}
    ranks = drawn["critical_difference"].set_index("cell")["rank"]
    assert isinstance(ranks, pd.Series)
    assert ranks.sum() == 10
    assert ranks.nsmallest(2).index.str.startswith("mae").all()
    for folder in tmp_path.glob("*-f-*"):
        (folder / "status.json").unlink()
    found = arrange(read_runs([str(tmp_path)]))
    names = [plot.name for plot in draw_plots(found, summarize_cells(found))]
    assert "profile" in names
    assert "critical_difference" not in names, "5 data sets are too few"


@pytest.mark.parametrize(
    ("typed", "sentence"),
    [
        ("", "a comparison needs runs: type a folder that holds them, such as outputs"),
        ("outputs metrics=mae", "metrics is not a setting here; nearest: metric"),
        ("outputs alpha=2", "alpha=2 does not fit: type a number from 0.001 to 0.5, such as alpha=0.05"),
        ("outputs difference=x", "difference=x does not fit"),
        ("outputs claim=all", "claim=all is not an option: type one of rows, seeds, splits, data"),
        ("outputs log=yes", "log=yes does not fit: type log=true or log=false"),
        ("outputs out=pyproject.toml/x", "out=pyproject.toml/x cannot be written: type out=FOLDER"),
    ],
)
def test_each_mistake_is_one_sentence(typed: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    with pytest.raises(Refused, match=sentence) as refused:
        parse_request(typed.split())
    assert "\n" not in str(refused.value)


@pytest.mark.system
def test_what_a_user_sees(tmp_path: Path) -> None:
    grid(tmp_path / "outputs", {"mae": 0.5, "mse": 0.6}, 6)
    fresh = [sys.executable, "-W", "error", "-c", PROGRAM, "outputs"]
    done = subprocess.run(fresh, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "Use mae: mse is clearly worse."
    assert lines[1].startswith("mae beats mse by ")
    assert re.match(r"loss +n +rmse +95 % interval +median +seconds$", lines[lines.index("") + 1])
    assert lines[-1] == "outputs/comparison/index.html"

    (next(folder for folder in (tmp_path / "outputs").iterdir() if "mse" in folder.name) / "config.yaml").unlink()
    half = ran("-m", "losslab.compare", "outputs", folder=tmp_path)
    assert half.stdout.splitlines()[-1] == "outputs/comparison/index.html"
    assert re.fullmatch(
        r"losslab: 1 record could not be read: outputs/mse\S+.* \(config.yaml is missing\); all else was compared\n",
        half.stderr,
    )
    assert half.returncode == 1

    run(tmp_path / "alone", 0.5, loss="mae")
    alone = ran("-m", "losslab.compare", "alone", folder=tmp_path)
    assert alone.returncode == 1
    assert re.match(r"task +data +model +loss +optimizer +status +runs\nregression", alone.stdout)
    assert alone.stderr.startswith("losslab: one run is no comparison: only one is finished: run it with another loss")


@pytest.mark.parametrize(
    ("reasons", "said"),
    [
        ([], "no run is finished: run it with another loss, optimizer or seed, then compare again"),
        (["too hot."], f"no run is finished, and 1 failed (l0{CROSS}adam): too hot; fix that, run it again"),
        (["cold", "hot", "hot"], f"no run is finished, and 3 failed, most often (l1{CROSS}adam): hot; fix that"),
        (["x " * 300], f"no run is finished, and 1 failed (l0{CROSS}adam): {'x ' * 99}x\u2026; fix that"),
    ],
)
def test_where_no_run_is_finished_the_most_common_reason_is_told(reasons: list[str], said: str) -> None:
    records = [{"loss": f"l{number}", "optimizer": "adam", "status": "failed", "reason": reason}
               for number, reason in enumerate(reasons)]  # fmt: skip
    with pytest.raises(Refused) as refused:
        check_finished(Runs(pd.DataFrame([{"loss": "l9", "status": "running", "reason": None}, *records]), ["loss"]))
    assert str(refused.value).startswith(said)


def test_runs_of_a_race_are_told_so_and_its_own_page_stays(tmp_path: Path) -> None:
    grid(tmp_path / "runs", {"mae": 0.5, "mse": 0.6}, 2)
    found = arrange(read_runs([str(tmp_path)]))
    assert list(doubt_race(found)) == []
    (tmp_path / "race.json").write_text("{}")
    (told,) = doubt_race(found)
    assert told.startswith(
        "These runs are of a race, which stopped training losers: its own verdict counts, which the race's "
    )
    assert parse_request([str(tmp_path)]).out == tmp_path / "runs" / "comparison"
    page = tmp_path / "comparison" / "index.html"
    page.parent.mkdir()
    page.touch()
    assert next(doubt_race(found)).endswith(f"its own verdict counts, {page}.")
