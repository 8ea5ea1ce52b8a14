"""What is typed after a sweep file cuts it down, and `dry=true` says what it would run."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from losslab.config.check import configure
from losslab.errors import Refused
from losslab.sweep.driver import sweep
from losslab.sweep.file import narrow
from losslab.sweep.plan import read

GRID: dict[str, Any] = {
    "method": "grid",
    "parameters": {
        "data": {"value": "diabetes"},
        "loss": {"values": ["mae", "mse", "huber"]},
        "optimizer": {"values": ["adam", "sgd"]},
        "seed": {"values": [0, 1, 2]},
    },
}


@pytest.fixture
def file(tmp_path: Path) -> str:
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(GRID))
    return str(tmp_path / "a.yaml")


@pytest.mark.parametrize(
    ("typed", "values", "left"),
    [
        ({"seed": "0,1"}, {"seed": [0, 1]}, {}),
        ({"seed": "[0,1]"}, {"seed": [0, 1]}, {}),
        ({"seed": "range(2)"}, {"seed": [0, 1]}, {}),
        ({"optimizer": "[sgd,adamw]"}, {"optimizer": ["sgd", "adamw"]}, {}),
        ({"optimizer": "sgd"}, {"optimizer": ["sgd"]}, {}),
        ({"optimizer": "lion"}, {}, {"optimizer": "lion"}),
        ({"loss": "mae,[mae,0.5*mse]"}, {"loss": ["mae", "[mae,0.5*mse]"]}, {}),
        ({"loss": "[mae,0.5*mse]"}, {}, {"loss": "[mae,0.5*mse]"}),
        ({"model.hidden": "[64,32],[8]"}, {"model.hidden": [[64, 32], [8]]}, {}),
        ({"model.hidden": "[64,32]"}, {}, {"model.hidden": "[64,32]"}),
        ({"data.target": "price (USD),2020"}, {"data.target": ["price (USD)", "2020"]}, {}),
        ({"logger.notes": "a, b"}, {}, {"logger.notes": "a, b"}),
    ],
)
def test_what_is_typed_takes_the_place_of_what_the_file_varies(
    typed: dict[str, str], values: dict[str, Any], left: dict[str, str]
) -> None:
    asked = {**GRID}
    assert narrow("a.yaml", asked, typed) == left
    changed = {key: {"values": found} for key, found in values.items()}
    assert asked["parameters"] == {**GRID["parameters"], **changed}


def test_the_runs_of_a_narrowed_sweep_are_some_of_the_whole_one(file: str, tmp_path: Path) -> None:
    whole = {job.key for job in read(file, {}).jobs()}
    for typed, runs in (
        ({"seed": "0,1", "optimizer": "sgd"}, 6),
        ({"run_cap": "6"}, 6),
        ({"run_cap": "12", "loss": "mae,mse"}, 12),
        ({"run_cap": "99"}, 18),
    ):
        found = {job.key for job in read(file, typed).jobs()}
        assert len(found) == runs
        assert found <= whole


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("run_cap=10", "does not give each of 6 settings as many seeds: type run_cap=6 or 12, or fewer values"),
        ("run_cap=x", "run_cap=x does not fit: it must be a whole number"),
        ("seed=range(0)", r"seed=range\(0\) has no values: type one"),
        ("optimizer=adamm,sgd", "optimizer=adamm is not an option; nearest: adam"),
        ("dry=maybe", "dry=maybe does not fit: type dry=true or dry=false"),
        ("--dry", "--dry is no flag of this command"),
        ("optimizer.lr=0.1)", "cannot be read: if it is a text, type"),
    ],
)
def test_a_mistake_after_the_file_is_one_sentence(file: str, tmp_path: Path, word: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        sweep(file, [f"output_dir={tmp_path}", word])


def test_a_dry_sweep_says_what_it_would_run_and_what_it_does_not_know(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    words = [f"output_dir={output}", "n=2", "dry=true", "seed=0,1", "loss=mae,mse", "trainer.max_epochs=4"]
    assert sweep(file, words) == 0
    said = capsys.readouterr().out
    assert "sweep     a: 4 cells x 1 setting x 2 seeds = 8 runs of 4 epochs\n" in said
    assert "cell      loss=mse optimizer=sgd\n" in said
    assert f"time      not known\n          no such run is on record in {output}: train one, losslab " in said
    assert not output.exists()

    run = output / "a_run"
    run.mkdir(parents=True)
    config: dict[str, object] = {"data": "diabetes", "model": "mlp", "loss": "mse", "optimizer": "adam"}
    config |= {"data.batch_size": configure(["data=diabetes"]).data.batch_size, "trainer.accelerator": "auto"}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    (run / "status.json").write_text(json.dumps({"status": "finished", "seconds": 60.0}))
    (run / "history.csv").write_text("epoch\n0\n1\n")
    assert sweep(file, words) == 0
    assert "time      about 8 minutes, 2 at a time\n" in capsys.readouterr().out, "8 runs of 4 epochs at 30 s"
    (output / "races/other/runs").mkdir(parents=True)
    run.rename(output / "races/other/runs/a_run")
    assert sweep(file, words) == 0
    assert "time      about 8 minutes, 2 at a time\n" in capsys.readouterr().out, "a run of a race is known, too"
