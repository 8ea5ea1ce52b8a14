"""Options of one's own, below `--config-dir`: what is wrong with a file is told in one sentence that says where."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from hydra.errors import HydraException

from losslab.config import compose as compose_module
from losslab.config.arguments import search_path
from losslab.config.check import configure
from losslab.config.command_line import check_command_line
from losslab.config.explain import explain
from losslab.errors import Refused

GOOD = "_target_: torch.nn.L1Loss\ninput: prediction\ntarget: dense\n"
GLOBAL = "# @package _global_\n"
FAULTS = [
    ("loss/mine.yaml", "_target_: [a\ninput: b\n", "cannot be read as YAML .line 2, column 6: expected ',' or"),
    ("loss/mine.yaml", "a: b: c\n", "line 1, column 5: mapping values are not allowed here"),
    ("loss/mine.yaml", "\t- x\n", "line 1, column 1: found character"),
    ("loss/mine.yaml", GOOD + "# größe\n", "it is not UTF-8 text: save it as UTF-8"),
    ("loss/mine.yaml", GOOD + "input: x\n", "found duplicate key input"),
    ("loss/mine.yaml", GOOD + "x: &x [*x]\n", "cannot be read as YAML"),
    ("loss/mine.yaml", "defaults: [mine]\n" + GOOD, "mine.yaml names itself in its defaults"),
    ("loss/mine.yaml", "defaults: [/loss/mine]\n" + GOOD, "mine.yaml names itself in its defaults"),
    ("loss/mine.yaml", "defaults: [maee]\n" + GOOD, "has maee in its defaults, which is no option of loss; nearest"),
    ("loss/mine.yaml", "defaults: {a: b}\n" + GOOD, "has defaults that are no list of options: write defaults:"),
    ("loss/mine.yaml", "defaults: 3\n" + GOOD, "has defaults that are no list"),
    ("loss/mine.yaml", "defaults: [3]\n" + GOOD, "has defaults that are no list"),
    ("loss/mine.yaml", "defaults: null\n" + GOOD, "has defaults that are no list"),
    ("loss/mine.yaml", GOOD + "x: ${nope}\n", "loss.x refers to nope, which is not a setting"),
    ("loss/mine.yaml", "- a\n", "every run needs loss, and something here removes or replaces it"),
    ("loss/mine.yaml", "", "loss=mine does not say what it wants"),
    ("loss/mine.yaml", GOOD + "ranges: 3\n", "loss.ranges=3 is no range"),
    ("loss/other.yaml", GOOD + "also: [3]\n", "loss=mine is not an option; nearest"),
    ("experiment/e.yaml", GLOBAL + "hydra: {sweeper: {params: 3}}\n", "no sweep that can be read: write hydra"),
    ("experiment/e.yaml", GLOBAL + "hydra: {job: {name: 3}}\n", "sets more of Hydra than hydra.mode"),
    ("experiment/e.yaml", GLOBAL + "hydra: {sweeper: {params: {seed: '0,('}}}\n", "params cannot be read"),
    (
        "experiment/e.yaml",
        GLOBAL + "defaults: [{override /data: csv}]\ndata: {path: a, target: y, types: {b: number}}\n",
        r"e.yaml writes names and values where a list stands, .*: write types: \['age: number'\]",
    ),
    ("experiment/e.yaml", GLOBAL + "loss: 3\n", "every run needs loss, and something here removes or replaces it"),
    ("experiment/e.yaml", GLOBAL + "sed: 3\n", "e.yaml sets sed, which only you may"),
]  # fmt: skip


def compose(folder: Path, word: str) -> None:
    """Compose as the command does."""
    typed = [word, *search_path([str(folder)])]
    try:
        check_command_line(["--config-dir", str(folder), word])
    except HydraException as error:
        raise Refused(explain(error, typed)) from error
    configure(typed)


@pytest.mark.parametrize(("file", "text", "sentence"), FAULTS)
def test_a_fault_in_a_file_is_one_sentence(tmp_path: Path, file: str, text: str, sentence: str) -> None:
    (tmp_path / file).parent.mkdir()
    (tmp_path / file).write_bytes(text.encode("latin-1"))
    word = "experiment=e" if file.startswith("experiment") else "loss=mine"
    with pytest.raises(Refused, match=sentence) as refused:
        compose(tmp_path, word)
    assert len(str(refused.value)) < 400 + len(str(tmp_path))


def test_two_files_that_choose_each_other_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "loss").mkdir()
    for name, other in (("one", "two"), ("two", "three"), ("three", "one")):
        (tmp_path / "loss" / f"{name}.yaml").write_text(f"defaults: [{other}]\n{GOOD}")
    with pytest.raises(Refused, match="yaml names itself in its defaults"):
        check_command_line(["--config-dir", str(tmp_path), "loss=mae"])


def test_options_of_ones_own_are_composed_once_as_long_as_their_files_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "loss").mkdir()
    file, load = tmp_path / "loss" / "mine.yaml", compose_module.load_options
    composed: list[Sequence[str]] = []

    def counted(words: Sequence[str], parsed: dict[str, bytes]) -> compose_module.Loaded:
        composed.append(words)
        return load(words, parsed)

    monkeypatch.setattr(compose_module, "load_options", counted)
    words = ["loss=mine", "data=heights", *search_path([str(tmp_path)])]
    for reduction in ("mean", "sum"):
        file.write_text(f"{GOOD}reduction: {reduction}\n")
        before = len(composed)
        for seed in range(3):
            cfg = configure([*words, f"seed={seed}"])
            assert (cfg.loss.reduction, cfg.seed) == (reduction, seed)
            assert len(composed) - before <= 2, "the run's options, and their usual values"
