"""Run folders are read all, fast, and in whatever state they are."""

import json
import shlex
import sys
import time
from pathlib import Path

import pytest
import yaml

from losslab.compare.run_folder import parse_config, read_run
from losslab.compare.runs import read_history, read_runs
from losslab.config.command_line import rewrite_arguments
from losslab.errors import Refused
from losslab.train import Summary, train
from tests.compare.written import run
from tests.conftest import Typed, numbers


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    folder = run(
        tmp_path / "a" / "b", 0.5, val=0.4, seed=3, loss="0.5*mae+mse", data__notes="two\nlines: of text, - so"
    )
    found = read_runs([str(tmp_path)])
    row = found.frame.iloc[0]
    assert (row["loss"], row["seed"], row["optimizer.betas"], row["test/rmse"]) == (
        "0.5*mae+mse",
        3,
        "[0.9, 0.999]",
        0.5,
    )
    assert (row["environment.git_commit"], row["facts.train_rows"], row["status"]) == ("abc", 100, "finished")
    assert (row["folder"], row["first/gradient_norm"], row["data.notes"]) == (
        str(folder),
        1.0,
        "two\nlines: of text, - so",
    )
    assert "test/rmse" not in found.settings
    assert read_history(str(folder))["val/rmse"].tolist() == pytest.approx([0.48, 0.4, 0.4])


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "with: colon",
        "- dash",
        "a\nb\n\nc",
        " lead",
        "",
        "x" * 300,
        "'quoted'",
        None,
        True,
        1e-8,
        [1, "a"],
        {"a": [1]},
    ],
)
def test_flat_reads_what_yaml_reads(value: object) -> None:
    config = {"a.first": 1, "key": value, "z" * 130: 2, "z.list": ["- a", "b: c"]}
    whole = yaml.safe_load(yaml.safe_dump(config))
    assert parse_config(yaml.safe_dump(config)) == {
        key: text if isinstance(text, int | float | str) or text is None else str(text) for key, text in whole.items()
    }


def test_broken_records_are_named_and_the_others_read(tmp_path: Path) -> None:
    for seed in range(5):
        run(tmp_path, 0.5, seed=seed)
    folders = sorted(tmp_path.iterdir())
    (folders[0] / "summary.json").unlink()
    (folders[1] / "status.json").write_text('{"status": "fini')
    (folders[2] / "config.yaml").write_text((folders[2] / "config.yaml").read_text() + "seed")
    (folders[3] / "history.csv").write_text("epoch,step,val/rmse,gradient_norm\n0,1")
    found = read_runs([str(tmp_path), str(folders[4])])
    assert len(found.frame) == 2
    assert [text.split(" (")[1] for text in found.broken] == [
        "summary.json is missing)",
        "status.json is half-written or not JSON)",
        "config.yaml has 'seed', which is no setting)",
    ]


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        (
            "status.json",
            '{"status": "finished", "environment": 5}',
            "status.json has environment=5, which is no object",
        ),
        ("status.json", '{"status": "finished", "facts": ["a"]}', "status.json has facts=['a'], which is no object"),
        ("status.json", None, "status.json is no regular file"),
        ("summary.json", None, "summary.json is no regular file"),
        ("summary.json", '{"test/rmse": "low"}', "summary.json has test/rmse=low, which is no number"),
        ("summary.json", "", "summary.json is half-written or not JSON"),
        ("config.yaml", None, "config.yaml is no regular file"),
    ],
)
def test_what_was_damaged_is_said_in_words(tmp_path: Path, file: str, content: str | None, why: str) -> None:
    run(tmp_path, 0.5, seed=0)
    place = run(tmp_path, 0.5, seed=1) / file
    place.unlink()
    if content is None:
        place.mkdir()
    else:
        place.write_text(content)
    found = read_runs([str(tmp_path)])
    assert (len(found.frame), found.broken) == (1, [f"{place.parent} ({why})"])


def test_jobs_that_failed_without_a_folder_are_runs(tmp_path: Path) -> None:
    run(tmp_path / "runs", 0.5)
    (tmp_path / "failed.json").write_text(
        json.dumps([{"overrides": {"loss": "mae", "seed": 1}, "reason": "no memory"}])
    )
    frame = read_runs([str(tmp_path)]).frame.set_index("loss")
    assert frame.at["mae", "status"] == "failed"
    assert frame.at["mae", "reason"] == "no memory"


def test_folders_without_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no run lies below .*: a run is a folder with a status.json"):
        read_runs([str(tmp_path)])
    with pytest.raises(Refused, match="none is not a folder"):
        read_runs(["none"])


def test_thousands_take_seconds(tmp_path: Path) -> None:
    first = run(tmp_path, 0.5)
    files = {name: (first / name).read_text() for name in ("status.json", "summary.json", "history.csv", "config.yaml")}
    files["config.yaml"] = "".join(f"option.number_{i}: {i}\n" for i in range(60)) + files["config.yaml"]
    for seed in range(1000):
        folder = tmp_path / f"run-{seed}"
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text.replace("seed: 0", f"seed: {seed}"))
    began = time.process_time()
    assert read_runs([str(tmp_path)]).frame["seed"].nunique() == 1000
    assert time.process_time() - began < 1, "10,000 of them take 2 s"


@pytest.mark.parametrize(
    ("words", "printed"),
    [
        (["search.lr=0.9", "stage=test", "seed=3"], "optimizer.lr="),
        (["task=single_label", "data=digits", "loss=focal", "++search.loss=0.3", "search.lr=0.1"], "loss.gamma=1.5"),
        (["loss=mae", "++search.loss=0.3"], "search.loss=0.3"),
        (["loss=[mae,0.5*huber]", "++search.loss=0.5"], "search.loss=0.5"),
    ],
)
def test_what_is_printed_to_repeat_a_run_gives_the_same_run(
    typed: Typed, undrawn: None, monkeypatch: pytest.MonkeyPatch, words: list[str], printed: str
) -> None:
    def paste(*words: str) -> Summary:
        monkeypatch.setattr(sys, "argv", ["losslab", *words])
        rewrite_arguments()
        return train(typed(*sys.argv[1:]))

    short = ["model=linear", "trainer.max_epochs=1"]
    if "data=digits" not in words:
        short.append("data=heights")
    first = paste(*short, *words)
    (_, found) = next(read_run(str(first.folder)))
    name, *again = shlex.split(found["command"])
    assert name == "losslab"
    assert printed in found["command"]
    assert "stage" not in found["command"]
    assert ("search.lr" in found["command"]) is False
    assert numbers(paste(*again)) == numbers(first)
