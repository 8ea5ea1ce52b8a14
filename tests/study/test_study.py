"""Studies: their files, what runs say of a claim, and the pages that follow from the runs that are kept."""

import re
from dataclasses import replace
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from losslab import __version__
from losslab.errors import Refused
from losslab.machine import git_state
from losslab.study.__main__ import KEYS, check_own, check_words, pick_parts, study
from losslab.study.__main__ import train as run
from losslab.study.circuit import INPUTS, NEURON, ask_autograd, backward, forward, step_losses, write_steps
from losslab.study.data import check_files
from losslab.study.file import STUDIES, Study, list_studies, load_sources, load_study
from losslab.study.findings import CODE, Results, load_runs, save_runs
from losslab.study.published import compare_means, count_steps
from losslab.study.story import INSTALLED, list_sizes, name_picture, write_index, write_readme
from losslab.sweep.driver import OWN
from losslab.sweep.file import load_file
from tests.conftest import ROOT, without_pictures

KEPT = [name for name in list_studies() if (STUDIES / name / "results.csv.gz").is_file()]
BETTER, SAME = {"in": "p", "better": "mae", "than": "mse"}, {"in": "p", "same": ["mae", "mse"], "within": 10}


def study_of(claim: dict[str, Any]) -> Study:
    parts = {"p": {"by": ["loss"], "settings": [], "each": [[]]}}
    return Study("s", Path(), "Q?", "C.", "S", "P.", parts=parts, claims=[claim], answer="By {1}.")


def runs_of(mae: float, mse: float, spread: float) -> pd.DataFrame:
    """Ten runs of each loss on ten splits, paired; the differences have this spread."""
    draw = np.random.default_rng(0)
    level = draw.normal(0, 0.1, 10)
    rows = [
        {"part": "p", "status": "finished", "folder": f"{loss}{seed}", "seconds": 6.0, "task": "regression",
         "task.yardstick": "rmse", "task.mode": "min", "data": "d", "data.seed": seed, "loss": loss, "seed": seed,
         "val/rmse_best": 1.0, "test/rmse": (error := mean + level[seed] + draw.normal(0, spread)), "test/mae": error}
        for loss, mean in (("mae", mae), ("mse", mse)) for seed in range(10)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.mark.parametrize(
    ("claim", "mae", "mse", "spread", "found"),
    [
        ({**BETTER, "by": 10}, 5.0, 10.0, 0.05, "confirmed"),
        ({**BETTER, "by": 60}, 5.0, 10.0, 0.05, "not confirmed"),
        ({**BETTER, "by": 10}, 9.9, 10.0, 0.05, "not confirmed"),
        ({**BETTER, "by": 10}, 10.0, 5.0, 0.05, "not confirmed"),
        (BETTER, 9.9, 10.0, 0.01, "confirmed"),
        (BETTER, 9.9, 10.0, 1.5, "undecided"),
        ({**BETTER, "metric": "mae"}, 9.9, 10.0, 0.01, "confirmed"),
        ({**BETTER, "by": 10}, 9.0, 10.0, 0.3, "undecided"),
        (SAME, 9.9, 10.0, 0.05, "confirmed"),
        (SAME, 5.0, 10.0, 0.05, "not confirmed"),
        (SAME, 10.0, 5.0, 0.05, "not confirmed"),
        (SAME, 9.9, 10.0, 6.0, "undecided"),
    ],
)
def test_a_claim_is_confirmed_only_where_its_whole_interval_bears_it_out(
    claim: dict[str, Any], mae: float, mse: float, spread: float, found: str
) -> None:
    asked = study_of(claim)
    results = Results(asked, runs_of(mae, mse, spread))
    answer = results.answers[0]
    assert answer.found == found
    assert answer.low <= answer.mean <= answer.high
    page = write_readme(asked, results)
    assert f"By {answer.size}." in page
    assert "20 runs, 2 minutes" in page


def published_study(folder: Path, claim: dict[str, Any]) -> Study:
    """A study of one claim about published runs: ten of mae with a mean of 10 and a standard deviation of 1."""
    values = np.linspace(-1, 1, 10) / np.linspace(-1, 1, 10).std(ddof=1) + 10
    lines = [f"p,mae,0.01,{seed},test/loss,{value}" for seed, value in enumerate(values)]
    (folder / "published.csv").write_text("\n".join(["part,loss,optimizer.lr,seed,metric,value", *lines]))
    return replace(study_of({"in": "p", "published": "mae", **claim}), folder=folder, published="From there.")


@pytest.mark.parametrize(
    ("mean", "spread", "diverged", "found"),
    [
        (10.0, 0.1, False, "confirmed"),
        (11.0, 0.1, False, "confirmed"),
        (8.9, 0.1, False, "confirmed"),
        (13.0, 0.1, False, "not confirmed"),
        (7.0, 0.1, False, "not confirmed"),
        (12.0, 0.1, False, "undecided"),
        (10.0, 9.0, False, "undecided"),
        (10.0, 0.1, True, "not confirmed"),
    ],
)
def test_runs_are_as_published_if_their_mean_surely_lies_within_the_published_spread(
    mean: float, spread: float, diverged: bool, found: str, tmp_path: Path
) -> None:
    runs = runs_of(mean, mean, 0.0).query("loss == 'mae'").reset_index(drop=True)
    runs["test/loss"] = mean + spread * np.resize([-1.0, 1.0], len(runs))
    runs.loc[0, "status"] = "failed" if diverged else "finished"
    asked = published_study(tmp_path, {"metric": "test/loss"})
    results = Results(asked, runs)
    assert results.answers[0].found == found
    assert "| mae | test/loss | 10.0 ± 1.0, 10 runs |" in write_readme(asked, results)


@pytest.mark.parametrize(("best", "found"), [(0.01, "confirmed"), (0.1, "confirmed"), (1.0, "not confirmed")])
def test_a_search_finds_the_published_setting_or_a_neighbour(best: float, found: str, tmp_path: Path) -> None:
    runs = runs_of(1.0, 1.0, 0.0).query("loss == 'mae'").reset_index(drop=True)
    runs["optimizer.lr"] = [10.0**power for power in range(-6, 4)]
    runs["val/rmse"] = 1 + abs(np.log10(runs["optimizer.lr"] / best))
    runs.loc[0, "val/rmse"], runs.loc[0, "status"] = 0.0, "failed"
    answer = Results(published_study(tmp_path, {"steps": 1, "metric": "val/rmse"}), runs).answers[0]
    assert (answer.found, answer.size) == (found, f"{best:.4g}")


def test_the_interval_of_two_means_is_that_of_welch() -> None:
    draw = np.random.default_rng(0)
    ours, theirs = draw.normal(1, 1, 30), draw.normal(0, 3, 10)
    errors = [values.var(ddof=1) / len(values) for values in (ours, theirs)]
    freedom = sum(errors) ** 2 / (errors[0] ** 2 / 29 + errors[1] ** 2 / 9)
    half = stats.t.ppf(0.995, freedom) * sum(errors) ** 0.5
    mean = ours.mean() - theirs.mean()
    assert compare_means(ours, theirs, 0.01) == pytest.approx((mean, mean - half, mean + half))


@pytest.mark.parametrize(("found", "steps"), [(0.01585, 0), (0.01, 1), (0.0398, 2), (1e-5, 16)])
def test_steps_are_counted_on_the_grid(found: float, steps: int) -> None:
    assert count_steps([10 ** (-5 + step / 5) for step in range(36)], found, 0.015848931925) == steps


def test_a_second_look_gets_half_of_the_level() -> None:
    once, again = study_of(BETTER), replace(study_of(BETTER), earlier="It was undecided.")
    runs = runs_of(9.9, 10.0, 0.05)
    assert (Results(once, runs).alpha, Results(again, runs).alpha) == (0.05, 0.025)
    assert "**A second look.** It was undecided. Each look gets half" in write_readme(again, Results(again, runs))


def test_the_page_names_cells_and_says_what_makes_its_answers_less_sure() -> None:
    study = replace(study_of(BETTER), names={"ma": "another", "mae": "absolute error"})
    frame = runs_of(9.9, 10.0, 0.05)
    frame = frame[(frame["loss"] == "mse") | (frame["seed"] < 1)]
    page = write_readme(study, Results(study, frame))
    assert "| absolute error beats mse |" in page
    assert "| absolute error | " in page
    assert "- One seed only in absolute error: a second might reverse the order." in page
    sound = write_readme(study, Results(study, runs_of(9.9, 10.0, 0.05)))
    assert "Read with caution" not in sound


def test_a_dry_run_prints_the_sweeps_and_trains_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = load_study("deepobs")
    small = replace(whole, parts={"grid": {**whole.parts["grid"], "each": [["optimizer=sgd"]]}})
    assert run(small, tmp_path, True, ["dry=true"]) == 0
    assert "grid: 1 cell x 36 settings x 1 seed = 36 runs of 2 epochs" in capsys.readouterr().out
    assert not [*tmp_path.rglob("status.json"), *tmp_path.rglob("README.md")]


@pytest.mark.parametrize("name", KEPT)
def test_the_page_of_a_study_follows_from_the_runs_that_are_kept(name: str) -> None:
    kept = load_study(name)
    page = write_readme(kept, Results(kept, load_runs(STUDIES / name / "results.csv.gz")))
    assert page == (STUDIES / name / "README.md").read_text(encoding="utf-8")


def test_the_index_lists_all_studies_with_what_to_do() -> None:
    studies = list(map(load_study, list_studies()))
    assert write_index(studies) == (STUDIES / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list_studies())
def test_the_file_of_a_study_says_what_is_needed(name: str) -> None:
    asked, sources = load_study(name), load_sources()
    assert (STUDIES / name / "README.md").is_file() == bool(asked.advice)
    assert bool(asked.show) == (not asked.parts)
    assert not asked.advice or all((STUDIES / name / name_picture(part)).is_file() for part in asked.ranks)
    for part in asked.parts.values():
        load_file(str(asked.folder / part["sweep"]))
    for data in asked.data:
        assert data in sources or (ROOT / "conf" / "data" / f"{data}.yaml").is_file()
    assert {str(claim["in"]) for claim in asked.claims} == asked.parts.keys()


def test_each_data_set_is_of_a_study_whose_page_says_how_to_install_it() -> None:
    every, sources = list(map(load_study, list_studies())), load_sources()
    assert {*sources} <= {name for each in every for name in each.data}
    for each in every:
        for name in {*each.data} & {*sources}:
            page = (each.folder / "README.md").read_text(encoding="utf-8")
            package = f"'{sources[name]['package']}=={sources[name]['version']}'"
            assert re.search(rf"pip install --no-deps.* {package}", page) or sources[name]["package"] in INSTALLED
    required = [re.split(r"[^\w-]", line)[0] for line in requires("losslab") or [] if "extra ==" not in line]
    assert {*INSTALLED} <= {*required}


def test_what_no_package_brings_is_asked_for_before_the_first_run(tmp_path: Path) -> None:
    whole = load_study("imbalanced_labels")
    with pytest.raises(Refused) as refused:
        run(whole, tmp_path, False, [])
    assert str(refused.value) == (
        "imbalanced_labels needs a folder of posters of films with a table that names them and their genres, such as "
        "the 7,242 of IMDb: type data.path=FOLDER, where they lie, or parts=yeast,films to leave that part out"
    )
    check_own(pick_parts(whole, ["yeast", "films"]), [])
    check_own(whole, ["data.path=here"])
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match=r"^MNIST is not in data\.root=.*: type data\.root=FOLDER"):
        run(load_study("label_noise"), tmp_path, False, [f"data.root={tmp_path / 'file'}"])
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_parts_are_answered_alone_at_the_level_of_the_whole_study() -> None:
    one = load_study("label_noise")
    whole = Results(one, load_runs(STUDIES / "label_noise" / "results.csv.gz"))
    assert pick_parts(load_study("imbalanced_labels"), ["films"]).data == ["movies"]
    some = Results(pick_parts(one, ["60 %", "20 %"]), whole.frame)
    assert [str(answer.claim["in"]) for answer in some.answers] == ["20 %", "60 %", "60 %"]
    assert some.alpha == whole.alpha
    sizes = list_sizes(some)
    assert [sizes[str(number)] for number in range(1, 5)] == [
        "(not run)",
        "(not run)",
        some.answers[0].size,
        "(not run)",
    ]


@pytest.mark.parametrize(
    ("commits", "said"),
    [
        (["ab" * 20] * 20, ", trained with losslab 0.1.0 at commit ababababab."),
        (["ab" * 20] * 15 + [None] * 5, ", trained with losslab 0.1.0 and losslab 0.1.0 at commit ababababab."),
    ],
)
def test_the_page_names_the_code_that_trained_the_runs(commits: list[str | None], said: str, tmp_path: Path) -> None:
    asked, frame = study_of(BETTER), runs_of(9.9, 10.0, 0.05)
    without = Results(asked, frame.copy())
    frame["environment.losslab"], frame["environment.git_commit"] = "0.1.0", commits
    save_runs(frame, tmp_path / "results.csv.gz")
    results = Results(asked, load_runs(tmp_path / "results.csv.gz"))
    assert f"All runs are in `results.csv.gz`{said}" in write_readme(asked, results)
    assert results.answers[0].size == without.answers[0].size
    assert "All runs are in `results.csv.gz`." in write_readme(asked, without)


def test_files_of_packages_must_be_there_and_the_right_ones() -> None:
    wine = load_sources()["wine"]
    check_files({"wine": wine})
    with pytest.raises(Refused, match=r"which are others here .*: type pip install --no-deps 'scikit-learn=="):
        check_files({"wine": {**wine, "sha256": "0" * 64}})
    absent = {**wine, "package": "a", "version": "1", "file": "nowhere_at_all/x.csv"}
    several = {"x": absent, "wine": wine, "y": {**absent, "package": "b"}, "z": absent}
    with pytest.raises(Refused, match=r"which are not here .*: type pip install --no-deps 'a==1' 'b==1'$"):
        check_files(several)


@pytest.mark.parametrize("seed", range(5))
def test_gradients_by_hand_are_those_of_autograd(seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=len(INPUTS)).tolist()
    inputs = dict(zip(INPUTS, values, strict=True)) if seed else INPUTS
    mine, theirs = backward(NEURON, forward(NEURON, inputs)), ask_autograd(NEURON, inputs)
    assert mine == pytest.approx(theirs, rel=1e-12)


def test_the_page_of_backpropagation_shows_what_the_command_prints() -> None:
    assert write_steps(NEURON, INPUTS) in (STUDIES / "backpropagation" / "README.md").read_text(encoding="utf-8")


@pytest.mark.system
def test_each_loss_has_the_slope_that_autograd_says_and_a_step_makes_it_smaller() -> None:
    for line in step_losses().splitlines()[1:]:
        *_, loss, slope, autograd, after = line.replace(",", "").split()
        assert float(slope) == pytest.approx(float(autograd), rel=2e-3), line
        assert float(after) < float(loss), line


@pytest.mark.parametrize(
    ("name", "typed", "sentence"),
    [
        ("robust", {}, "robust is not a study; nearest: robust_targets"),
        ("backpropagation", {"kept": "1"}, "kept=1 does not fit: type kept=true or kept=false"),
        ("robust_targets", {"tiny": "yes"}, "tiny=yes does not fit: type tiny=true or tiny=false"),
        ("robust_targets", {"parts": "5 %,6 %"}, "parts=6 % is no part of robust_targets; nearest: 5 %, 40 %, 20 %"),
        (
            "robust_targets",
            {"parts": ""},
            "parts= names no part of robust_targets: type some of clean, 5 %, 20 %, 40 %, or leave it out",
        ),
        ("robust_targets", {"retry": "again"}, "retry=again does not fit: type retry=true or retry=false"),
    ],
)
def test_mistakes_are_one_sentence(name: str, typed: dict[str, str], sentence: str) -> None:
    with pytest.raises(Refused) as refused:
        study(name, typed)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "word",
    [
        "loss=mae",
        "optimizer.lr=0.1",
        "+data.drop_last=true",
        *(f"{key}=1" for key in OWN if key not in KEYS),
        "engine=ray",
    ],
)
def test_the_protocol_of_a_study_is_fixed(word: str) -> None:
    with pytest.raises(Refused) as refused:
        check_words(load_study("deepobs"), ["n=0", word])
    assert str(refused.value).startswith(f"{word} does not fit, as a study's protocol is fixed: type losslab sweep ")
    assert str(refused.value).endswith(f"{STUDIES / 'deepobs' / 'conf'} {word} to run its sweep with it")


NEEDED = {
    "deepobs": 3,
    "square_loss": 3,
    "calibration": 2,
    "imbalanced_labels": 2,
}  # sweeps that a part's claims are about, if not one
SMALLER = {
    "optimizers": ["optimizer=sgd,adam,muon"],  # those that its claims are about
    "imbalanced_labels": ["data.buckets=512"],
}


@pytest.mark.system
@pytest.mark.parametrize("name", [name for name in list_studies() if load_study(name).parts])
def test_a_part_of_each_study_runs_at_a_reduced_size(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of each study the first part whose data losslab ships, and of its sweeps as many as its claims need."""
    whole = load_study(name)
    part, shipped = {"imbalanced_labels": ("films", ["movies"]), "targets_that_fit": ("prices", ["diamonds"])}.get(
        name, (next(iter(whole.parts)), whole.data)
    )
    few = {**whole.parts[part], "each": whole.parts[part]["each"][: NEEDED.get(name, 1)]}
    claims = [claim for claim in whole.claims if claim["in"] == part]
    short = ["trainer.updates=5" for word in whole.tiny if word.startswith("trainer.updates=")]
    tiny = [*whole.tiny, *short, *SMALLER.get(name, [])]
    small = replace(whole, parts={part: few}, claims=claims, data=shipped, tiny=tiny)
    try:
        with without_pictures():
            code = run(small, tmp_path / "studies" / name, True, [])
    except Refused as missing:
        if "pip install" in str(missing):
            pytest.skip(str(missing))
        raise
    assert code == 0
    assert "answer    " in capfd.readouterr().out
    assert (tmp_path / "studies" / name / "README.md").is_file()
    assert list(tmp_path.rglob("index.html"))
    kept = load_runs(tmp_path / "studies" / name / "results.csv.gz")
    assert kept[list(CODE)].drop_duplicates().values.tolist() == [[__version__, git_state()[0]]]
