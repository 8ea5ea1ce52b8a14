"""Every experiment of conf/experiment at a reduced size, with its claim; full sizes stand in docs/log.md."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from numpy.typing import NDArray
from omegaconf import OmegaConf
from PIL import Image

from losslab.config.catalogue import CONF, options
from losslab.config.make import make
from losslab.errors import Refused
from losslab.experiment import introduce, read_expectations, report
from losslab.multirun import read_runs
from losslab.problems import Point, quadratic, root_of_hessian
from losslab.train import train
from tests.conftest import ROOT, Command, Typed, folder_of, without_pictures

MNIST = ROOT.parent / "shared" / "data" / "mnist" / "MNIST" / "raw"
Claim = Callable[[Typed, Path], None]
CLAIMS: dict[str, Claim] = {}


def claim(function: Claim) -> Claim:
    CLAIMS[function.__name__] = function
    return function


def runs(typed: Typed, name: str, key: str, *overrides: str) -> dict[str, dict[str, float]]:
    """The summaries of an experiment's runs over the values that it sweeps of one key."""
    swept = options([str(CONF)], "experiment")[name]["hydra"]["sweeper"]["params"][key].replace("],[", "]|[")
    values = swept.split("|" if "|" in swept else ",")
    with without_pictures():  # nobody looks at them here
        return {value: train(typed(f"experiment={name}", f"{key}={value}", *overrides)) for value in values}


def came_out(name: str, *summaries: dict[str, float]) -> bool:
    """Whether an experiment would end with `as expected` after these runs."""
    runs = read_runs([summary.folder for summary in summaries])  # type: ignore[attr-defined]
    return report(name, [str(CONF)], runs, []).splitlines()[-1] == "as expected"


@claim
def heights(typed: Typed, folder: Path) -> None:
    cfg = typed("experiment=heights", "trainer.max_epochs=400")
    summary = train(cfg)
    assert summary["test/mse"] == pytest.approx(1.8617, abs=2e-4)
    assert came_out("heights", summary)
    assert (folder_of(cfg) / "pictures" / "line.png").is_file()


@claim
def mnist_linear(typed: Typed, folder: Path) -> None:
    if not MNIST.is_dir():
        pytest.skip("MNIST does not lie beside the project")
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in MNIST.glob("*.gz"):
        (raw / file.name).symlink_to(file)
    summary = train(typed("experiment=mnist_linear", f"data.root={folder}", "trainer.max_epochs=2"))
    assert summary["test/accuracy"] >= 0.90, "two epochs; ten reach 0.918"
    assert summary["updates"] == 2 * 844
    assert not came_out("mnist_linear", summary)


@claim
def digits_linear(typed: Typed, folder: Path) -> None:
    cfg = typed("experiment=digits_linear")
    summary = train(cfg)
    assert summary["test/accuracy"] >= 0.85
    assert came_out("digits_linear", summary)
    assert (folder_of(cfg) / "pictures" / "samples.png").is_file()


@claim
def movie_genres(typed: Typed, folder: Path) -> None:
    cfg = typed("experiment=movie_genres", "trainer.max_epochs=8", "optimizer.lr=0.003", "data.buckets=8192")
    assert train(cfg)["test/average_precision"] >= 0.25, "the prior gives 0.086, the full run 0.29"
    assert '"{' in (folder_of(cfg) / "pictures" / "samples.csv").read_text()
    assert (folder_of(cfg) / "pictures" / "average_precision.png").is_file()


@claim
def posters(typed: Typed, folder: Path) -> None:
    """Posters of one's own: a genre is a bright colour, and each has none to three of them."""
    random = np.random.default_rng(0)
    genres = random.random((80, 3)) < 0.5
    colours = random.integers(0, 120, (80, 48, 32, 3)) + 120 * genres[:, None, None, :]
    (folder / "posters").mkdir()
    lines = ["Id;Genre"]
    for i, (image, has) in enumerate(zip(colours.astype(np.uint8), genres, strict=True)):
        Image.fromarray(image).save(folder / "posters" / f"film{i}.png")
        lines.append(f"film{i};{[name for name, yes in zip(('Action', 'Drama', 'War'), has, strict=True) if yes]}")
    (folder / "posters" / "labels.csv").write_text("\n".join(lines))
    small = ("data.size=[24,16]", "data.min_count=2", "data.batch_size=16", "trainer.max_epochs=5")
    cfg = typed("experiment=posters", f"data.path={folder / 'posters'}", f"data.cache={folder / 'cache'}", *small)
    assert train(cfg)["test/average_precision"] > 0.9, "a guess gives 0.5"
    assert '"{' in (folder_of(cfg) / "pictures" / "samples.csv").read_text()


@claim
def outliers(typed: Typed, folder: Path) -> None:
    short = ("trainer.max_epochs=5", "optimizer.lr=0.003", "data.batch_size=128")
    found = runs(typed, "outliers", "loss", *short)
    assert found["mae"]["test/rmse"] < 0.75 * found["mse"]["test/rmse"]
    assert found["huber"]["test/rmse"] < 0.85 * found["mse"]["test/rmse"]
    clean = runs(typed, "outliers", "loss", *short, "data.outliers=0")
    assert all(clean[loss]["test/rmse"] > 0.85 * clean["mse"]["test/rmse"] for loss in ("mae", "huber"))


@claim
def wide_targets(typed: Typed, folder: Path) -> None:
    found = runs(typed, "wide_targets", "loss", "trainer.max_epochs=40", "optimizer.lr=0.01")
    assert found["msle"]["test/msle"] ** 0.5 < found["mse"]["test/msle"] ** 0.5 / 3
    assert found["msle"]["test/rmse"] > 1.3 * found["mse"]["test/rmse"]


@claim
def mae_needs_decay(typed: Typed, folder: Path) -> None:
    found = runs(typed, "mae_needs_decay", "scheduler", "trainer.max_epochs=150")
    assert found["constant"]["train/loss_spread"] > 20 * found["cosine"]["train/loss_spread"]
    assert found["constant"]["train/loss"] > found["cosine"]["train/loss"]
    assert came_out("mae_needs_decay", *found.values())


@claim
def batch_sizes(typed: Typed, folder: Path) -> None:
    epochs = runs(typed, "batch_sizes", "data.batch_size", "trainer.max_epochs=2", "data.test=0.8")
    assert epochs["1"]["test/accuracy"] > epochs["32"]["test/accuracy"] > epochs["all"]["test/accuracy"]
    updates = runs(typed, "batch_sizes", "data.batch_size", "trainer.updates=200", "data.test=0.8")
    assert [summary["updates"] for summary in updates.values()] == [200, 204, 358]  # whole epochs of 179 rows
    assert updates["all"]["test/accuracy"] > updates["32"]["test/accuracy"] - 0.02


@claim
def optimizers(typed: Typed, folder: Path) -> None:
    found = runs(typed, "optimizers", "optimizer", "trainer.max_epochs=4")
    assert found["sgd"]["test/accuracy"] < min(found[name]["test/accuracy"] for name in ("momentum", "rmsprop", "adam"))


@claim
def accuracy_is_no_loss(typed: Typed, folder: Path) -> None:
    first, second = runs(typed, "accuracy_is_no_loss", "model.start").values()
    assert (first["test/loss_mae"], second["test/loss_mae"]) == pytest.approx((5.5, 1.0), abs=1e-5)
    accuracies = [1 - summary["test/loss_zero_one"] for summary in (first, second)]
    assert accuracies == [0.25, 0.0]
    assert (first["test/mae"], second["test/mae"]) == pytest.approx((5.5, 1.0), abs=1e-5)
    assert came_out("accuracy_is_no_loss", first, second)
    assert not came_out("accuracy_is_no_loss", first), "half of it"


@claim
def deepobs_quadratic(typed: Typed, folder: Path) -> None:
    """At full size: 700 updates of a point in 100 dimensions take a second."""
    before = Point((1,), 100, through=root_of_hessian())(torch.zeros(1, 1)).detach().numpy()
    assert (quadratic(task="regression", seed=0).targets("test") - before).__pow__(2).sum(1).mean() / 2 == (
        pytest.approx(353.4468, abs=1e-3)
    )
    sgd = train(typed("experiment=deepobs_quadratic"))
    assert sgd["test/loss"] == pytest.approx(87.29, abs=0.3)
    assert sgd["updates"] == 700
    assert came_out("deepobs_quadratic", sgd)
    adam = train(typed("experiment=deepobs_quadratic", "optimizer=adam", "optimizer.lr=0.001"))
    assert adam["test/loss"] == pytest.approx(106.64, abs=0.3)


@pytest.mark.system
@pytest.mark.parametrize("name", options([str(CONF)], "experiment"))
def test_every_experiment_keeps_its_claim(typed: Typed, tmp_path: Path, name: str) -> None:
    CLAIMS[name](typed, tmp_path)


@pytest.mark.system
def test_an_experiment_of_several_runs_ends_with_them_side_by_side(command: Command, tmp_path: Path) -> None:
    done = command("experiment=accuracy_is_no_loss", "logger=false")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("question Why can accuracy not be the loss?")
    assert "HYDRA" not in done.stdout
    place = next(place for place, line in enumerate(lines) if line.startswith("model.start"))
    heading, first, second = lines[place : place + 3]
    assert heading.split()[:4] == ["model.start", "test/rmse", "test/loss_mae", "test/loss_zero_one"]
    assert [float(number) for line in (second, first) for number in line.split("]")[1].split()[1:3]] == [
        5.5,
        0.75,
        1,
        1,
    ]
    assert lines[-4] == "as expected"
    configs = [yaml.safe_load(file.read_text()) for file in tmp_path.glob("outputs/*/config.yaml")]
    assert {config["loss"] for config in configs} == {"mae+zero_one"}


@pytest.mark.parametrize("name", options([str(CONF)], "experiment"))
def test_every_experiment_opens_with_its_question_and_expects_numbers_of_its_own_runs(name: str) -> None:
    lines = introduce([name], [str(CONF)])
    assert lines[0].startswith("question ")
    assert any(line.startswith("expect   ") for line in lines)
    swept = options([str(CONF)], "experiment")[name].get("hydra", {}).get("sweeper", {}).get("params", {})
    expected = read_expectations(name, [str(CONF)])
    assert expected
    for each in expected:
        assert each.metric.startswith(("test/", "train/loss"))
        for key, _, value in (word.partition("=") for word in each.settings.split()):
            assert value in str(swept.get(key, "sgd")), "the runs of the experiment have it"


def test_what_an_experiment_of_ones_own_expects_is_read_or_refused(tmp_path: Path) -> None:
    file = tmp_path / "experiment" / "mine.yaml"
    file.parent.mkdir()
    file.write_text(
        "# What?\n#   losslab-train experiment=mine\nexpect: {test/rmse: {loss=mae: '< 3', loss=mse: '> 3'}}"
    )
    runs = [({"loss": loss}, {"test/rmse": value}) for loss, value in (("mae", 1.0), ("mae", 4.0), ("mse", 2.0))]
    assert introduce(["mine"], [str(tmp_path)]) == ["question What?"]
    *_, mae, mse, verdict = report("mine", [str(tmp_path)], runs, ["seed=0,1", "output_dir=here"]).splitlines()
    assert (mae.split()[-2:], mse.split()[-2:]) == (["2.5", "yes"], ["2", "no"])
    assert (
        verdict == "not as expected: 1 of 2 did not come out. It is not the experiment as it stands: you typed seed=0,1"
    )
    for wrong in ("[1", "{test/rmse: 3 or so}", "3", "[3]"):
        file.write_text(f"expect: '{wrong}'" if wrong == "[1" else f"expect: {wrong}")
        with pytest.raises(Refused, match="experiment=mine expects what cannot be read: write expect: "):
            introduce(["mine"], [str(tmp_path)])


def test_the_hessian_of_the_quadratic_has_the_spectrum_of_its_definition() -> None:
    root: NDArray[np.float64] = root_of_hessian()
    eigenvalues = np.linalg.eigvalsh(root.T @ root)
    random = np.random.RandomState(42)
    np.testing.assert_allclose(
        eigenvalues, np.sort([*random.uniform(0, 1, 90), *random.uniform(30, 60, 10)]), rtol=1e-9
    )
    rotation = root / np.linalg.norm(root, axis=1, keepdims=True)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(100), atol=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_outliers_are_in_the_training_targets_only(typed: Typed) -> None:

    clean, dirty = (make(typed(f"data.outliers={part}"), "data") for part in (0.0, 0.05))
    for part in ("val", "test"):
        assert np.array_equal(clean.targets(part), dirty.targets(part))
    ratio = dirty.targets("train") / clean.targets("train")
    assert sorted(set(np.round(ratio.ravel(), 3))) == [1.0, 10.0]
    assert (ratio > 5).mean() == pytest.approx(0.05, abs=1e-3)
    assert any("multiplied by ten" in note for note in dirty.notes)
    assert OmegaConf.select(typed(), "data.outliers") == 0.0
