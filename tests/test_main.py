"""The command `losslab`: which word means what, in a process of its own."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from losslab import __version__
from losslab.cli import COMMANDS
from tests.conftest import ROOT, until
from tests.processes import PATIENCE, caught, ran


def typed(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """What happens when `losslab` is typed with these words."""
    return subprocess.run(
        [sys.executable, "-m", "losslab", *words], cwd=folder, capture_output=True, text=True, check=False
    )


def test_every_module_that_is_a_command_is_one_of_its_words() -> None:
    source = ROOT / "src" / "losslab"
    inner = {"losslab.__main__", "losslab.cli", "losslab.sweep.worker"}  # itself, and what only `losslab sweep` starts
    files = [file for file in source.rglob("*.py") if 'if __name__ == "__main__":' in file.read_text()]
    modules = {".".join(file.relative_to(source.parent).with_suffix("").parts) for file in files}
    assert modules - inner == set(COMMANDS.values())


def test_help_names_every_word_and_every_group(tmp_path: Path) -> None:
    done = typed(tmp_path, "--help")
    assert done.returncode == 0
    for word in COMMANDS:
        assert word == "train" or f"    losslab {word}" in done.stdout
    assert "\noptimizer: adadelta, " in done.stdout


def test_without_a_word_it_says_what_there_is_and_trains_nothing(tmp_path: Path) -> None:
    done = typed(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("losslab: which loss and optimizer are better")
    assert "losslab train" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [["--version"], ["train", "--version"]])
def test_the_version_is_its_own(tmp_path: Path, words: list[str]) -> None:
    assert typed(tmp_path, *words).stdout == f"losslab {__version__}\n"


@pytest.mark.parametrize("word", sorted(set(COMMANDS) - {"train"}))
def test_a_word_is_a_command_with_its_own_help(tmp_path: Path, word: str) -> None:
    done = ran("-m", "losslab", word, "--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"losslab {word}" in done.stdout
    wrong = ran("-m", "losslab", word, "--n", "3", folder=tmp_path)
    assert (wrong.returncode, wrong.stdout) == (1, "")
    assert wrong.stderr == "losslab: --n is no flag of this command: type n=VALUE, or --help for what there is\n"


def test_help_may_be_typed_as_a_word(tmp_path: Path) -> None:
    assert typed(tmp_path, "help", "race").stdout == typed(tmp_path, "race", "--help").stdout
    assert typed(tmp_path, "help", "swep").stderr.startswith("losslab: swep is neither a command nor")


def test_a_folder_of_options_may_stand_before_the_command(tmp_path: Path) -> None:
    (tmp_path / "card").mkdir()
    for words in (["--config-dir", "card", "card", "loss=maee"], ["--config-dir=card", "card", "loss=maee"]):
        assert "loss=maee is not an option" in typed(tmp_path, *words).stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["-m", "optimizer.lr=interval(0,1)"], "optimizer.lr is a range, and -m needs its values: type some"),
        (["optimizer.lr=${x}"], "optimizer.lr=${x} refers to x, which is not a setting: type another name"),
    ],
)
def test_what_hydra_cannot_resolve_is_a_sentence(tmp_path: Path, words: list[str], sentence: str) -> None:
    done = typed(tmp_path, *words)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"losslab: {sentence}")
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("words", [["loss=mae"], ["train", "loss=mae"], ["-m", "loss=mae"], ["~augment"]])
def test_a_setting_or_a_flag_is_a_run(tmp_path: Path, words: list[str]) -> None:
    done = typed(tmp_path, *words, "optimizer=adamm")
    assert done.returncode == 1
    assert done.stderr.startswith("losslab: optimizer=adamm is not an option; nearest: adam")


def test_a_run_is_that_of_train_py(tmp_path: Path) -> None:
    done = ran("-m", "losslab", "data=diabetes", "trainer.max_epochs=1", "logger=false", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("task ")


@pytest.mark.parametrize(
    ("word", "nearest"), [("swep", "sweep"), ("version", "--version"), ("loss", "type one of: card")]
)
def test_an_unknown_word_is_one_sentence_without_a_start(tmp_path: Path, word: str, nearest: str) -> None:
    done = typed(tmp_path, word)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"losslab: {word} is neither a command nor a setting such as loss=mae; ")
    assert nearest in done.stderr


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="which signals a process heeds is asked of Linux")
def test_sigterm_ends_it_before_training_begins(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-m", "losslab", "logger=false"], cwd=tmp_path)

    until(lambda: caught(process.pid, signal.SIGTERM))
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM  # not -SIGTERM: from that the kernel spares a first process
    assert not list(tmp_path.iterdir())
