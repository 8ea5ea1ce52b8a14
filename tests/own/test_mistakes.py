"""Mistakes in code of one's own end in a sentence before anything is trained, and a callback adds a column."""

import csv
import shutil
from pathlib import Path

import pytest

from losslab.build import build
from losslab.config import targets
from losslab.config.check import configure
from losslab.errors import Refused
from losslab.train import train
from tests.conftest import ROOT

QUIET = ("logger=false", "trainer.enable_progress_bar=false", "allow=mistakes", "trainer.max_epochs=2", "model=linear")
LOSS = ("data=heights", "loss=mine")
TASK = ("data=digits", "task=mine", "loss=cross_entropy")
CALLBACK = ("data=heights", "callbacks=mine")
FILES = {
    "loss/mine.yaml": "_target_: mistakes.{}\ninput: prediction\ntarget: dense\n",
    "task/mine.yaml": "# @package _global_\ndefaults: [single_label, _self_]\n"
    "task: {{_target_: mistakes.{}, name: mine, yardstick: mine, mode: max}}\n",
    "callbacks/mine.yaml": "defaults: [default, _self_]\nnorm: {{_target_: mistakes.{}}}\n",
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder, from which code may be imported."""
    shutil.copy(ROOT / "tests" / "own" / "mistakes.py", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(targets, "package_finder", targets.AllowedPackages(tmp_path))
    return tmp_path


def written(folder: Path, name: str, *words: str) -> list[str]:
    """Write options that name this class; return what is typed to use one of them."""
    for file, text in FILES.items():
        (folder / "conf" / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / "conf" / file).write_text(text.format(name))
    return [*QUIET, *words, f"hydra.searchpath=[{folder / 'conf'}]"]


@pytest.mark.parametrize(
    ("name", "words", "sentence"),
    [
        (
            "Nothing",
            LOSS,
            r"NoneType for input \(2, 1\): return a value for each row \(2,\), or for each",
        ),
        ("Pair", LOSS, "Pair returned tuple for input"),
        ("Broadcast", LOSS, r"Broadcast returned \(2, 2\) for input"),
        ("Twice", LOSS, r"Twice returned \(4, 1\) for input"),
        ("Detached", LOSS, "loss=mine has no gradient: compute it from its input by functions of torch"),
        ("OneArgument", LOSS, "loss=mine cannot be made with these settings: .*takes 2 positional arguments but 3"),
        ("NoModule", LOSS, r"loss=mine is made by mistakes.NoModule, which is no torch.nn.Module: name a class"),
        ("Unlisted", (*TASK, "task.yardstick=accuracy"), "has the metric mine: say in `better` of its class"),
        ("Vector", TASK, "task=mine returns no tensor of one number as metric mine: return values.mean()"),
        ("Float", TASK, "task=mine returns no tensor of one number as metric mine"),
        ("Missing", TASK, "task.yardstick=mine is no metric of task=mine; type one of: accuracy, "),
        (
            "Missing",
            (*TASK, "task.yardstick=acuracy"),
            "acuracy is no metric of task=mine; nearest: accuracy",
        ),
        (
            "Missing",
            (*TASK, "task.yardstick=log_loss", "task.mode=max"),
            "of log_loss, min is better: type task.mode=min",
        ),
    ],
)
def test_a_mistake_in_a_loss_or_a_task_is_a_sentence(
    folder: Path, name: str, words: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(Refused, match=sentence):
        build(configure(written(folder, name, *words)))


def test_a_mistake_in_callbacks_is_a_sentence_and_leaves_no_folder(folder: Path) -> None:
    words = written(folder, "NoCallback", *CALLBACK)
    with pytest.raises(Refused, match=r"callbacks=mine has NoCallback, which is no Callback of Lightning's: begin its"):
        train(configure(words))
    (folder / "conf" / "callbacks" / "mine.yaml").write_text("norm: {_target_: mistakes.Norm}")
    with pytest.raises(Refused, match=r"callbacks=mine lacks best, the checkpoint .*: begin its file with `defaults:"):
        train(configure(words))
    assert not list(folder.glob("outputs/*/status.json"))


def test_what_a_callback_logs_is_a_column_of_the_record(folder: Path) -> None:
    summary = train(configure(written(folder, "Norm", *CALLBACK)))
    with (summary.folder / "history.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["epoch"]) for row in rows] == [0, 1]
    assert all(float(row["norm"]) > 0 for row in rows)
    assert list(rows[0])[-4:] == ["norm", "twice", "again", "once_more"], "in the order in which they were logged"


@pytest.mark.parametrize(
    ("word", "sentence"),
    [
        ("loss.input=predictions", "loss=mae wants input: predictions, which no task offers; nearest: prediction"),
        ("loss.target=densee", "loss=mae wants target: densee, which no task offers; nearest: dense"),
    ],
)
def test_a_view_or_a_form_that_no_task_offers_is_named_with_its_nearest(word: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        configure(["loss=mae", word])
