"""A task of one's own, from a copy of this folder and without a line in src: it does all that losslab's own do."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig
from scipy.special import logit
from scipy.stats import logistic
from sklearn import metrics

from losslab import card, experiment, predict
from losslab.compare.__main__ import compare
from losslab.compare.request import parse_request
from losslab.compare.runs import read_runs
from losslab.config.check import configure
from losslab.config.targets import package_finder
from losslab.errors import Refused
from losslab.page.card_picture import draw
from losslab.stacking.group import plan_runs, split_stacks
from losslab.stacking.train import train_together
from losslab.sweep.ledger import Ledger
from losslab.sweep.plan import read
from losslab.sweep.worker import work
from losslab.train import train
from tests.conftest import ROOT, cut_off, numbers
from tests.own.ordinal import CumulativeLink, Ordinal, log_shares, quadratic_kappa, read_stars

Type = Callable[..., DictConfig]
CSV = ("task=ordinal", "data=csv", "data.path=films.csv", "data.target=stars", "model=linear", "optimizer.lr=0.03")
SWEEP = """
method: grid
metric: {name: val/kappa, goal: maximize}
parameters:
  task: {value: ordinal}
  model: {value: linear}
  optimizer.lr: {value: 0.03}
  trainer.max_epochs: {value: 2}
  loss: {values: [cumulative_link, generalized_cross_entropy]}
  seed: {values: [0, 1]}
"""


# the maths


@given(st.integers(0, 2**31), st.integers(2, 60))
def test_kappa_is_scikit_learns(seed: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    y, guess = random.integers(0, 5, rows), random.integers(0, 5, rows)
    if len({*y, *guess}) > 1:  # scikit-learn's is 0 / 0 otherwise
        for w in (None, random.uniform(0.1, 2, rows)):
            expected = metrics.cohen_kappa_score(y, guess, weights="quadratic", labels=range(5), sample_weight=w)
            given = (torch.tensor(guess), torch.tensor(y), None if w is None else torch.tensor(w))
            assert float(quadratic_kappa(*given)) == pytest.approx(expected, abs=1e-6)


def random_logits(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rising logits of `P(class <= k)`, five classes, and targets."""
    draws = torch.Generator().manual_seed(seed)
    first = 3 * torch.randn(8, 1, generator=draws, dtype=torch.float64)
    steps = 0.1 + 2 * torch.rand(8, 3, generator=draws, dtype=torch.float64)
    return torch.cat([first, first + steps.cumsum(1)], 1), torch.arange(8) % 5


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_is_minus_the_logarithm_of_differences_of_the_logistic_function(seed: int) -> None:
    cumulative, y = random_logits(seed)
    below = np.pad(logistic.cdf(cumulative.numpy()), ((0, 0), (1, 1)), constant_values=(0, 1))
    expected = -np.log(np.diff(below)[range(8), y.numpy()])
    loss = CumulativeLink()
    assert float(loss(cumulative, y)) == pytest.approx(expected.mean(), rel=1e-12)
    loss.reduction = "none"
    np.testing.assert_allclose(loss(cumulative, y), expected, rtol=1e-12)
    assert torch.autograd.gradcheck(lambda each: loss(each, y), (cumulative.requires_grad_(),))


def test_far_scores_cost_what_they_should_and_keep_a_gradient() -> None:
    cumulative = torch.tensor([[200.0, 201.0], [-300.0, -299.0]], requires_grad=True)
    loss = CumulativeLink()
    loss.reduction = "none"
    costs = loss(cumulative, torch.tensor([2, 0]))
    assert costs.tolist() == pytest.approx([201.0, 300.0])
    costs.sum().backward()
    assert cumulative.grad is not None
    assert cumulative.grad.tolist() == [[0.0, 1.0], [-1.0, 0.0]]
    assert log_shares(torch.tensor([[3.0, 3.0]])).exp().sum() == pytest.approx(1.0)


# the folder, as it would be used


@pytest.fixture(scope="module")
def typed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Type]:
    """Compose what is typed in a copy of this folder, with its options found and its package allowed."""
    folder = tmp_path_factory.mktemp("own")
    shutil.copy(Path(__file__).parent / "ordinal.py", folder)
    shutil.copytree(Path(__file__).parent / "conf", folder / "conf")
    (folder / "sweep.yaml").write_text(SWEEP)
    x, stars = read_stars(400)
    pd.DataFrame({**dict(zip("abc", x.T, strict=True)), "stars": stars + 1}).to_csv(folder / "films.csv", index=False)

    def compose(*overrides: str, allow: str = "allow=ordinal") -> DictConfig:
        quiet = ["logger=false", "trainer.enable_progress_bar=false", f"hydra.searchpath=['{folder / 'conf'}']"]
        return configure([*quiet, *([allow] if allow else []), *overrides])

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "meta_path", list(sys.meta_path))
        patch.setattr(package_finder, "allow", set())
        patch.setenv("WANDB_MODE", "offline")
        yield compose
    sys.modules.pop("ordinal", None)


@pytest.fixture(scope="module")
def trained(typed: Type) -> tuple[Path, dict[str, float]]:
    """A run on the table: its folder and its summary."""
    cfg = typed(*CSV, "trainer.max_epochs=12")
    summary = train(cfg)
    (folder,) = Path("outputs").glob("csv-linear-cumulative_link-*")
    return folder.absolute(), summary


def test_help_names_its_options(typed: Type) -> None:
    words = ["--config-dir", "conf", "--help"]
    done = subprocess.run([sys.executable, ROOT / "train.py", *words], capture_output=True, text=True, check=True)
    listed = {line.partition(":")[0]: line.split(": ")[-1].split(", ") for line in done.stdout.splitlines()}
    for group, name in (("task", "ordinal"), ("loss", "cumulative_link"), ("data", "stars"), ("experiment", "stars")):
        assert name in listed[group]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "task=ordinal loss=mse",
            "loss= one of generalized_cross_entropy, nll, cumulative_link, or task= one of multi",
        ),
        ("task=single_label loss=cumulative_link", "wants cumulative and index targets.*or task= one of ordinal"),
        ("task=ordinl", "task=ordinl is not an option; nearest: ordinal"),
        ("loss=proportional_odds", "loss=proportional_odds is called cumulative_link here: type loss=cumulative_link"),
        (
            "task=ordinal data=diamonds",
            "data=diamonds is for task=regression, not task=ordinal: .* csv, digits, .*stars",
        ),
        ("data=stars task=regression", "data=stars is for task=ordinal, not task=regression: type task=ordinal"),
        (
            "task=ordinal task.truth=stars",
            "task=ordinal does not say what its targets are: write truth: numbers, class or",
        ),
    ],
)
def test_refusals_name_its_options(typed: Type, words: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        typed(*words.split())


def test_its_code_runs_only_where_it_is_allowed(typed: Type) -> None:
    with pytest.raises(Refused, match=r"code that options may not name unless you allow it: .* allow=ordinal"):
        typed("task=ordinal", allow="")


def test_its_data_choose_the_task(typed: Type) -> None:
    cfg = typed("data=stars")
    assert cfg.run.choices.task == "ordinal"
    assert (cfg.monitor, cfg.loss._target_) == ("val/kappa", "ordinal.CumulativeLink")


def test_it_trains_on_a_table_and_keeps_its_metrics_and_its_picture(trained: tuple[Path, dict[str, float]]) -> None:
    folder, summary = trained
    assert summary["test/kappa"] > 0.5
    assert summary["test/loss"] == pytest.approx(summary["test/log_loss"], rel=1e-5)
    history = pd.read_csv(folder / "history.csv")
    assert {f"{part}/{name}" for part in ("train", "val") for name in Ordinal.better} <= set(history)
    best = history["val/kappa"].idxmax()
    assert summary["best_epoch"] == best
    assert (folder / "pictures" / "off_by.png").is_file()
    samples = pd.read_csv(folder / "pictures" / "samples.csv", dtype=str)
    assert set(samples["predicted"]) <= set("12345")


def test_predictions_are_those_that_it_was_tested_by(trained: tuple[Path, dict[str, float]], typed: Type) -> None:
    folder, summary = trained
    from losslab.config.make import make

    data = make(typed(*CSV), "data")
    rows = pd.read_csv("films.csv").iloc[data.split["test"]]
    rows.drop(columns="stars").to_csv("new.csv", index=False)
    words = ["--config-dir", "conf", f"ckpt={folder / 'best.ckpt'}", "input=new.csv"]
    (heading, *table), lines, _ = predict.predict(*predict.parse_request([*words, "allow=ordinal"])[:2])
    assert heading == ["row", "predicted", *"12345"]
    found = pd.DataFrame(table, columns=heading).astype(float)
    true = rows["stars"].to_numpy()
    kappa = metrics.cohen_kappa_score(true, found["predicted"].astype(int), weights="quadratic")
    assert kappa == pytest.approx(summary["test/kappa"], rel=1e-5)
    assert (found["predicted"] - true).abs().mean() == pytest.approx(summary["test/mae"], rel=1e-6)
    p = found[list("12345")].to_numpy()
    assert metrics.log_loss(true, p / p.sum(1, keepdims=True)) == pytest.approx(summary["test/log_loss"], rel=1e-4)
    assert all(line.startswith(f"* {said:g} ") for line, said in zip(lines, found["predicted"], strict=True))
    with pytest.raises(Refused, match="allow=ordinal"):
        predict.parse_request(words)


def test_it_goes_on_where_it_was_stopped(trained: tuple[Path, dict[str, float]], typed: Type) -> None:
    words = (*CSV, "trainer.max_epochs=12", "output_dir=cut", "callbacks.last.seconds=0")
    last = cut_off(typed(*words), 5)
    assert numbers(train(typed(f"ckpt={last}"))) == numbers(trained[1])


@pytest.mark.system
def test_it_trains_in_a_stack_as_it_does_alone(typed: Type, undrawn: None) -> None:
    words = ("experiment=stars", "trainer.max_epochs=3", "trainer.precision=64-true", "output_dir=stacked")
    differ = [("seed=0",), ("seed=1",), ("seed=1", "loss=generalized_cross_entropy"), ("seed=0", "optimizer.lr=0.1")]
    jobs = [typed(*words, *each) for each in differ]
    (stack,) = split_stacks(plan_runs([list(cfg.run.overrides) for cfg in jobs]), 8)
    for outcome, each in zip(train_together(stack), differ, strict=True):
        assert isinstance(outcome, dict)
        alone = train(typed(*words, *each, "resume=never"))
        assert numbers(outcome) == pytest.approx(numbers(alone), rel=1e-9, abs=1e-9)
    known = [json.loads(file.read_text())["facts"].get("stacked") for file in Path("stacked").glob("*/status.json")]
    assert known.count(4) == 4


def test_its_experiment_opens_with_its_question_and_expects_a_metric_of_its_own(typed: Type) -> None:
    cfg = typed("experiment=stars")
    assert "expect" not in cfg, "it sets nothing"
    assert experiment.introduce(["stars"], ["conf"])[0].startswith("question Does the order of the stars help?")
    runs = [({"experiment": "stars"}, {"test/kappa": 0.6})]
    assert experiment.report("stars", ["conf"], runs, []).splitlines()[1:] == [
        "test/kappa > 0.5    0.6  yes",
        "as expected",
    ]


def test_its_card_is_drawn_beside_others(typed: Type) -> None:
    own = ["--config-dir", "conf", "allow=ordinal"]
    cfg, others, _ = card.parse_request([*own, "loss=cumulative_link"])
    assert (cfg.task.name, list(others)) == ("ordinal", ["generalized_cross_entropy", "nll"])
    found = card.compute(cfg, others)
    assert found.chance == pytest.approx(np.log(3))
    assert found.perfect == pytest.approx(0, abs=1e-6)
    assert len(draw(found).axes) == 6
    cuts = logit([1 / 3, 2 / 3])
    for curve in found.curves:
        if curve.own:
            below = np.pad(logistic.cdf(cuts - curve.x[:, None]), ((0, 0), (1, 1)), constant_values=(0, 1))
            np.testing.assert_allclose(curve.loss, -np.log(np.diff(below)[:, curve.side]), rtol=1e-5)
            np.testing.assert_allclose(np.gradient(curve.loss, curve.x)[1:-1], curve.gradient[1:-1], atol=1e-3)
    says = card.describe(found)
    assert "Cumulative-link loss: mean of" in says
    assert "source    McCullagh 1980" in says
    assert "fits      task=ordinal" in says
    assert card.parse_request([*own, "loss=nll"])[0].task.name == "single_label", (
        "a shipped loss is drawn in a shipped task"
    )


def test_a_loss_that_is_not_described_has_a_card(typed: Type) -> None:
    file = Path("conf/loss/bare.yaml")
    file.write_text("_target_: ordinal.CumulativeLink\ninput: cumulative\ntarget: index\n")
    cfg, others, _ = card.parse_request(["--config-dir", "conf", "allow=ordinal", "loss=bare", "vs=[]"])
    assert "is        not described in its file" in card.describe(card.compute(cfg, others))
    file.unlink()


@pytest.mark.system
def test_it_is_swept_and_compared(typed: Type, undrawn: None) -> None:
    plan = read("sweep.yaml", {"hydra.searchpath": f"['{Path('conf').absolute()}']", "allow": "ordinal"})
    jobs, folder = plan.jobs(), Path("outputs/sweeps/own")
    folder.mkdir(parents=True)
    assert work(folder, plan, jobs) == 4
    assert [record["state"] for record in Ledger(folder / "jobs").records([job.key for job in jobs]).values()] == [
        "done"
    ] * 4
    request = parse_request([str(folder), "--config-dir", "conf", "allow=ordinal", "cross=true", "out=comparison"])
    written = compare(request, read_runs(request.folders))
    assert "kappa" in written
    cells = pd.read_csv("comparison/cross.csv", index_col=0)
    assert sorted(cells.index) == ["cumulative_link", "generalized_cross_entropy"]
    assert {"cumulative_link", "nll", "generalized_cross_entropy"} <= set(cells)
    np.testing.assert_allclose(cells["cumulative_link"], cells["nll"], rtol=1e-5)


def test_a_sweep_takes_the_folder_of_options_as_train_does(typed: Type, monkeypatch: pytest.MonkeyPatch) -> None:
    from losslab.sweep import driver

    monkeypatch.setattr(driver, "run", lambda folder, plan, *_: plan.fixed)
    fixed = driver.sweep("sweep.yaml", ["--config-dir", "conf", "allow=ordinal"])
    assert fixed["allow"] == "ordinal"  # type: ignore[index]
    assert fixed["task"] == "ordinal"  # type: ignore[index]
