"""A sweep and a race read their data before anything is trained: a mistake in them is one sentence, and no folder."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig

from losslab.data.dataset import Dataset
from losslab.data.make import make_data
from losslab.errors import Refused
from losslab.race import driver as race_driver
from losslab.race.question import list_options
from losslab.sweep import driver as sweep_driver
from losslab.sweep.data import check_data
from losslab.sweep.plan import read

MISTAKES = [
    ({"data.path": "missing.csv"}, "data.path=missing.csv is not there; nearest: prices.csv"),
    ({"data.target": "prize"}, "data.target=prize is not a column; nearest: price"),
    ({"loss": "mae,msle"}, "loss=msle is for targets >= 0, which 1 of the 60 targets of data=csv are not"),
    ({"loss": "mae,[mse,0.5*poisson]"}, "loss=poisson is for targets >= 0, which 1 of the 60 targets"),
]


@pytest.fixture
def typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What is right of data with a negative target."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{i % 7},{i % 5},{i - 1}" for i in range(60)]
    Path("prices.csv").write_text("\n".join(["size,rooms,price", *rows]))
    parameters = {"loss": {"values": ["mae", "mse"]}, "seed": {"values": [0, 1]}}
    Path("sweep.yaml").write_text(yaml.safe_dump({"method": "grid", "parameters": parameters}))
    return {"data": "csv", "data.path": "prices.csv", "data.target": "price", "loss": "mae,mse"}


def run_sweep(words: list[str]) -> int:
    return sweep_driver.sweep("sweep.yaml", words)


@pytest.mark.parametrize(("mistake", "sentence"), MISTAKES, ids=lambda part: str(part)[:30])
@pytest.mark.parametrize("command", [run_sweep, race_driver.race], ids=["sweep", "race"])
def test_a_mistake_is_told_before_anything_is_trained(
    command: Callable[[list[str]], int], mistake: dict[str, str], sentence: str, typed: dict[str, str]
) -> None:
    with pytest.raises(Refused) as told:
        command([f"{key}={value}" for key, value in (typed | mistake).items()])
    assert sentence in str(told.value)
    assert not Path("outputs").exists()


def test_data_that_are_right_are_read_once_for_all_losses_and_seeds(
    typed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read_data: list[DictConfig] = []

    def make_and_count(cfg: DictConfig) -> Dataset:
        read_data.append(cfg)
        return make_data(cfg)

    monkeypatch.setattr("losslab.sweep.data.make_data", make_and_count)
    check_data(read("sweep.yaml", typed))
    assert len(read_data) == 1
    check_data(read("sweep.yaml", typed | {"data.drop": "[size],[rooms]"}))
    assert [cfg.data.drop for cfg in read_data[1:]] == [["size"], ["rooms"]]


def test_a_pattern_names_the_losses_whose_domain_holds_the_targets(typed: dict[str, str]) -> None:
    others = {key: value for key, value in typed.items() if key != "loss"}
    found = list_options("loss", "glob(m*,poisson)", dict(others), [])
    assert found == ["mae", "mse"]  # a target is 0, and one is negative
