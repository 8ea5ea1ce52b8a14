"""Figures that the answers of studies state in words of their own follow from the runs that are kept.

Tables are those of the studies' pages, of which `test_study.py` checks that they follow from the runs.
"""

import re
from collections.abc import Callable
from functools import cache

import pandas as pd
import pytest

from losslab.study.file import STUDIES, list_studies, load_study
from losslab.study.findings import Results, load_runs
from losslab.study.published import find_best


def read_means(name: str) -> dict[str, pd.DataFrame]:
    """Read the tables of means, by metric: cells by parts."""
    page = (STUDIES / name / "README.md").read_text(encoding="utf-8")
    tables = {}
    for metric, table in re.findall(r"^Means of test (\w+).*?:\n\n((?:\|.*\n)+)", page, re.MULTILINE):
        heading, _, *rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()]
        cells = {row[0]: map(float, row[1:]) for row in rows}
        tables[metric] = pd.DataFrame.from_dict(cells, orient="index", columns=heading[1:])
    return tables


def read_differences(name: str, part: str) -> list[float]:
    """Read the differences that a page says of a part."""
    page = (STUDIES / name / "README.md").read_text(encoding="utf-8")
    return [float(mean) for mean in re.findall(rf"^\| {part} \| .*? \| (-?[\d.]+) ", page, re.MULTILINE)]


def load_kept(name: str, file: str = "results") -> pd.DataFrame:
    return load_runs(STUDIES / name / f"{file}.csv.gz")


def say_mean(runs: "pd.Series[float]") -> str:
    return f"{runs.mean():.2f} ± {runs.std():.2f}"


@cache
def deepobs_first_look() -> list[str]:
    runs = load_kept("deepobs", "first_look")
    tuned = runs[runs["part"] == "tuned"]
    loss = tuned.groupby("optimizer")["test/loss"]
    published = pd.read_csv(STUDIES / "deepobs" / "published.csv").groupby("optimizer")["value"].mean()
    momentum, adam, sgd = (loss.get_group(name) for name in ("momentum", "adam", "sgd"))
    search = runs[(runs["part"] == "grid") & (runs["optimizer"] == "momentum") & (runs["status"] == "finished")]
    best = find_best(search, "val/rmse")
    return [
        f"SGD was as published ({sgd.mean():.2f})",
        f"momentum reached {say_mean(momentum)}",
        f"Adam {say_mean(adam)}",
        f"momentum was best at {best:.3f}",
        f"{tuned['seed'].min()} to {tuned['seed'].max()}",
        f"momentum ended {100 * (momentum.mean() / published['momentum'] - 1):.1f} % above the published loss",
        f"moved momentum by {100 * (momentum.mean() / published['momentum'] - 1):.1f} %",
    ]


@cache
def deepobs_spread() -> list[str]:
    runs = load_kept("deepobs").query("part == 'tuned'")
    means = runs.groupby("optimizer")["test/loss"].mean()
    return [f"within {100 * (means.max() / means.min() - 1) + 0.05:.1f} % of each other"]


@cache
def batch_size_twelve_splits() -> list[str]:
    runs = load_kept("batch_size")
    results = Results(load_study("batch_size"), runs[runs["seed"] < 212])
    third, fourth = map(results.answer, results.study.claims[2:])
    rates = load_kept("batch_size", "first_look")["optimizer.lr"]
    assert 0.001 <= rates.min() < rates.max() <= 1
    assert {third.found, fourth.found} == {"undecided"}
    return [f"{third.size} of claim 3 and {fourth.size} of claim 4", "between 0.001 and 1"]


@cache
def optimizers_tuned() -> list[str]:
    means = read_means("optimizers")["accuracy"]
    for part in ("default", "tuned", "sixteen settings"):
        assert {*means[part].nsmallest(2).index} == {"sgd", "lion"}
    five = means.drop(["sgd", "lion"])
    apart = 100 * (means.max() - means.min())
    tuned = read_differences("optimizers", "tuned")
    leads = sorted((tuned[0], tuned[2]))
    return [
        f"change places within {100 * (five.max() - five.min()).drop('one setting').max():.1f} points",
        f"{apart['one setting']:.0f} points apart with one",
        f"{apart['tuned']:.1f} with four",
        f"{apart['sixteen settings']:.1f} with sixteen",
        f"at their defaults they are {apart['default']:.1f} points apart",
        f"leads of {leads[0]:.0f} to {leads[1]:.0f} points",
    ]


STATED: dict[str, list[Callable[[], list[str]]]] = {
    "deepobs": [deepobs_first_look, deepobs_spread],
    "batch_size": [batch_size_twelve_splits],
    "optimizers": [optimizers_tuned],
}


def read_text(name: str) -> str:
    study = load_study(name)
    return " ".join(f"{study.answer} {study.advice} {study.earlier}".split())


@pytest.mark.parametrize(("name", "compute"), [(name, each) for name, every in STATED.items() for each in every])
def test_figures_stated_in_an_answer_follow_from_the_kept_runs(name: str, compute: Callable[[], list[str]]) -> None:
    for stated in compute():
        assert stated in read_text(name)


@pytest.mark.parametrize("name", [name for name in list_studies() if load_study(name).parts])
def test_an_answer_states_no_other_figures_than_those_of_its_protocol(name: str) -> None:
    study = load_study(name)
    files = {word for part in study.parts.values() for words in ([part["sweep"]], *part["each"]) for word in words}
    sweeps = [(study.folder / file).read_text(encoding="utf-8") for file in files if file.endswith(".yaml")]
    known = " ".join([study.protocol, study.claim, str(study.claims), str(study.parts), *sweeps])
    text = read_text(name)
    for compute in STATED.get(name, []):
        for stated in compute():
            text = text.replace(stated, "")
    numbers = re.findall(r"(?<![\w.{])\d+(?:\.\d+)?(?!})", re.sub(r"`[^`]*`", "", text))
    assert {*numbers} <= {*re.findall(r"\d+(?:\.\d+)?", known)}


def test_claims_in_words_hold_of_the_kept_runs() -> None:
    tuned = load_kept("robust_targets").query("stage == 'test' and loss == 'mae' and status == 'finished'")
    errors = tuned.groupby(["part", "data"])["test/rmse"].mean().unstack(0)
    assert (errors["40 %"] > 2 * errors["clean"]).sum() > len(errors) / 2, "the error is more than twice that of clean"
    assert all(40 < mean < 60 for mean in read_differences("robust_targets", "5 %")), "about half of the error"
    for table in read_means("targets_that_fit").values():
        for part in {"bicycles", "prices"} & {*table}:
            assert table[part].idxmin() == "poisson", "Poisson has the smallest means by every metric shown"
    budgets = read_means("optimizers")["accuracy"]
    assert (budgets["one setting"] < budgets["default"]).sum() == 6, "six of seven are below their defaults"
    probabilities = read_means("square_loss")
    for table in (probabilities["ece"], probabilities["log_loss"]):
        entropy, one, fifteen = (table.loc[name].iloc[0] for name in (
            "cross_entropy", "square with k = m = 1", "square with k = 15, m = 30"))  # fmt: skip
        assert 2 <= one / entropy <= 4.1, "two to four times those of cross-entropy"
        assert entropy < fifteen < one, "with k = 15, m = 30 they come closer"
    labels = read_means("imbalanced_labels")["average_precision"]
    assert len(labels.columns) == 3
    assert all(labels[part].idxmin() == "soft_f1" for part in labels), "soft F1 is last on all three"
