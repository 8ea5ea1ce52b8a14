"""What fits a setting: how a range is read, what it says, and whose keys it judges."""

import fnmatch
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import yaml

from losslab.config.catalogue import CONF, options
from losslab.config.check import configure
from losslab.config.flat import flatten
from losslab.config.make import make
from losslab.config.ranges import common_ranges, read_range
from losslab.errors import Refused
from losslab.training.objective import class_weights

GROUPS = sorted(
    folder.name for folder in CONF.iterdir() if folder.is_dir() and folder.name not in ("experiment", "hydra")
)


@pytest.mark.parametrize(
    ("text", "right", "wrong", "words"),
    [
        ("> 0", [1, 0.5, 1e-9], [0, -1, "1", None, True, float("inf"), float("nan"), [1]], "a number above 0"),
        (">= -1", [-1, 0.0], [-1.5], "a number of at least -1"),
        ("< 1e-3", [0, -5], [0.001], "a number below 1e-3"),
        ("<= 0", [0, -0.8], [0.1], "a number of at most 0"),
        ("[0, 1)", [0, 0.99], [1, -0.1], "a number from 0 up to, but not including, 1"),
        ("[0,1]", [0, 1, 1.0], [1.1], "a number from 0 to 1"),
        ("(0, 1]", [1, 0.1], [0], "a number above 0 and at most 1"),
        ("(1, 2)", [1.5], [1, 2], "a number above 1 and below 2"),
        ("number", [1, -1.5], ["1", None], "a number"),
        ("integer", [0, -3], [0.5, 1.0, True], "a whole number"),
        ("integer >= 1", [1, 99], [0, 1.5], "a whole number of at least 1"),
        ("integer [0, 9]", [0, 9], [10, 0.5], "a whole number from 0 to 9"),
        ("text", ["a", "1"], ["", 1, None], "text"),
        ("file", [str(CONF / "config.yaml")], ["none.yaml", "", 3, None], "a file that exists"),
        ("mean | sum", ["mean", "sum"], ["none", None, 0], "mean or sum"),
        ("1 | 2", [1, 2, 2.0], [3, "1", True], "1 or 2"),
        (1, [1], [0, True], "1"),
        (None, [None], [0, "null"], "null"),
        (True, [True], [1, "true"], "true"),
        ("a | b | c, of three", ["c"], ["d"], "a, b or c, of three"),
        ("[0, 1] | null", [None, 0.5], ["null", 2], "a number from 0 to 1, or null"),
        ("list of numbers (0, 1)", [[0.5], [0.1, 0.1]], [[], [1], 0.5, ["a"]], "a list of numbers above 0 and below 1"),
        ("list of 2 numbers", [[1, 2]], [[1], [1, 2, 3]], "a list of 2 numbers"),
        ("list of texts", [["a", "b"]], [[1], [""], "a"], "a list of texts"),
        ("rising list of integers >= 1", [[1, 5]], [[5, 1], [1, 1], [0, 1]], "a rising list of whole numbers"),
        ("integer >= 0 | [] | list of integers >= 1", [0, [], [3]], [[0], -1], "a whole number of at least 0, [], or"),
        (["(0, 1)", "> 1"], [[0.5, 1.2]], [[1.2, 0.5], [0.5], 0.5], "a list: a number above 0 and below"),
        ("list of > 0, one for each", [[1]], [[0]], "a list of numbers above 0, one for each"),
    ],
)  # fmt: skip
def test_a_range_is_what_it_says(text: Any, right: list[Any], wrong: list[Any], words: str) -> None:
    stated = read_range(text)
    assert all(stated.fits(value) for value in right)
    assert not any(stated.fits(value) for value in wrong)
    assert stated.words.startswith(words)


UNREADABLE = ["above 0", "> zero", "[0, 1", "0 < x < 1", "", "list of", "> 0 |", {"min": 0}, [], "2020-99-99", "a b"]


def own_loss(folder: Path, **keys: Any) -> str:
    """A loss that a user has written, in a folder of options; what is typed to find it."""
    (folder / "loss").mkdir(exist_ok=True)
    option = {"_target_": "my_losses.Quartic", "input": "prediction", "target": "dense", **keys}
    (folder / "loss" / "mine.yaml").write_text(yaml.safe_dump(option))
    return f"hydra.searchpath=['{folder}']"


@pytest.mark.parametrize(
    ("key", "stated", "value", "said"),
    [
        ("check_val_every_n_epoch", "integer >= 1", 2, "it must be 1, as best, last and the record are kept every"),
        ("max_epochs", "integer [1, 9]", 10, "it must be a whole number from 1 to 9"),
        ("max_epochs", "integer >= 0", 0, "it must be a whole number of at least 1"),
        ("max_epochs", "integer [1, 9]", 9, None),
    ],
)
def test_a_trainer_of_ones_own_narrows_what_losslab_asks_and_does_not_widen_it(
    tmp_path: Path, key: str, stated: str, value: int, said: str | None
) -> None:
    (tmp_path / "trainer").mkdir()
    option = {"defaults": ["auto"], key: value, "ranges": {key: stated}}
    (tmp_path / "trainer" / "mine.yaml").write_text(yaml.safe_dump(option))
    typed = [f"hydra.searchpath=['{tmp_path}']", "trainer=mine"]
    if said is None:
        assert configure(typed).trainer[key] == value
    else:
        with pytest.raises(Refused, match=f"trainer.{key}={value} does not fit: {said}"):
            configure(typed)


@pytest.mark.parametrize("text", UNREADABLE)
def test_a_range_that_cannot_be_read_is_refused_and_its_file_named(text: Any, tmp_path: Path) -> None:
    place = own_loss(tmp_path, delta=1.0, ranges={"delta": text})
    with pytest.raises(Refused, match=r'loss/mine.yaml: loss.ranges.delta=.* is no range: type one such as "> 0"'):
        configure([place, "loss=mine", "allow=my_losses"])


def test_ranges_that_are_no_mapping_are_refused_too(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"loss/mine.yaml: loss.ranges=> 0 is no range"):
        configure([own_loss(tmp_path, ranges="> 0"), "loss=mine", "allow=my_losses"])


def test_an_option_of_ones_own_is_judged_by_its_own_file_alone(tmp_path: Path) -> None:
    """`p`, `alpha` and their like mean other things in other losses."""
    keys = {"p": 1, "alpha": 0.5, "delta": 1.0, "eps": 0.1, "levels": [0.5], "power": 1.5, "weight": None, "k": 1}
    place = own_loss(tmp_path, **keys, ranges={"delta": "[0, 9], its own", "later": "> 0"})
    own = [place, "loss=mine", "allow=my_losses"]
    typed = ["p=3", "alpha=2", "delta=0", "eps=-0.5", "levels=[5]", "power=7.0", "weight=0.3", "k=-1"]
    cfg = configure([*own, *(f"loss.{text}" for text in typed)])
    assert (cfg.loss.p, cfg.loss.alpha, cfg.loss.delta, cfg.loss.levels) == (3, 2, 0, [5])
    assert "ranges" not in cfg.loss
    for text, sentence in (
        ("loss.delta=10", "loss.delta=10 does not fit: it must be a number from 0 to 9, its own"),
        ("+loss.later=0", "loss.later=0 does not fit: it must be a number above 0"),
        ("loss.alpha=much", "loss.alpha=much does not fit: it must be a number"),
        ("loss.p=1.5", "loss.p=1.5 does not fit: it must be a whole number"),
        ("+loss.reduction=all", "loss.reduction=all does not fit: it must be mean or sum, over outputs"),
    ):
        with pytest.raises(Refused, match=sentence):
            configure([*own, text])
    with pytest.raises(Refused, match=r"loss.parts.mine.delta=10 does not fit"):
        configure([place, "loss=[mse,mine]", "allow=my_losses", "loss.parts.mine.delta=10"])


def test_a_weight_of_ones_own_reaches_the_loss_as_it_is(tmp_path: Path) -> None:
    """Only `balanced` and a list of numbers are weights of classes."""
    place = own_loss(tmp_path, weight=0.3)
    cfg = configure([place, "loss=mine", "data=diabetes", "allow=my_losses"])
    task, data = make(cfg, "task"), make(cfg, "data")
    assert class_weights(cfg, "loss", task, data) == {}
    cfg = configure([place, "loss=mine", "data=diabetes", "allow=my_losses", "loss.weight=0.5"])
    assert class_weights(cfg, "loss", task, data) == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("_target_: my_own.waves\ntask: regression\ngives: [vector]\nval: auto\ntest: 3\n", "data/mine"),
        ("_target_: my_own.Schedule\n_partial_: true\ninterval: epoch\nmilestones: [a]\n", "scheduler/mine"),
        ("_target_: my_own.Optimizer\n_partial_: true\nlr: -1\nbetas: [2, 3]\nmomentum: 1.5\n", "optimizer/mine"),
        ("_target_: my_own.Model\n_partial_: true\ntakes: [vector]\ndropout: 2\nhidden: wide\n", "model/mine"),
    ],
)  # fmt: skip
def test_no_group_judges_a_strangers_keys_by_their_names(text: str, name: str, tmp_path: Path) -> None:
    group, _, option = name.partition("/")
    (tmp_path / group).mkdir()
    (tmp_path / f"{name}.yaml").write_text(text)
    assert (
        configure([f"hydra.searchpath=['{tmp_path}']", f"{group}={option}", "allow=my_own"]).run.choices[group]
        == option
    )


def test_a_files_ranges_are_no_settings(tmp_path: Path) -> None:
    """They are neither recorded nor part of a run's name, whichever option states them."""
    for typed in ([], ["loss=[mse,0.5*huber]"], ["callbacks=early_stopping", "optimizer=sam"], ["task=single_label"]):
        assert not [key for key in flatten(configure(typed)) if "ranges" in key]
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "e.yaml").write_text("# @package _global_\nranges: {seed: '> 99'}\n")
    with pytest.raises(Refused, match=r"e.yaml sets ranges.seed, which only you may"):
        configure([f"hydra.searchpath=['{tmp_path}']", "experiment=e"])
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("defaults: [diabetes]\nranges: {val: '(0, 0.5)'}\n")
    with pytest.raises(Refused, match=r"data.val=0.6 does not fit: it must be a number above 0 and below 0.5$"):
        configure([f"hydra.searchpath=['{tmp_path}']", "data=mine", "data.val=0.6"])


@pytest.mark.parametrize("group", GROUPS)
def test_the_ranges_of_the_catalogue_are_of_its_keys_and_hold_its_defaults(group: str) -> None:
    for name, option in options([str(CONF)], group).items():
        for part in [option, *(value for value in option.values() if isinstance(value, dict) and "ranges" in value)]:
            for key, text in part.get("ranges", {}).items():
                value: Any = part
                for each in key.split("."):
                    value = value[each]
                assert "${" in str(value) or value == "???" or read_range(text).fits(value), f"{group}={name}: {key}"


def test_the_common_ranges_are_of_settings_that_there_are() -> None:
    flat = {**flatten(configure([])), "loss.weights.mae": 1.0}
    for pattern, stated in common_ranges().items():
        keys = fnmatch.filter(flat, pattern)
        of_lightning = pattern.removeprefix("trainer.") in signature(pl.Trainer).parameters
        assert keys or of_lightning or pattern in ("data.workers", "loss.per"), pattern
        assert all(stated.fits(flat[key]) for key in keys)
