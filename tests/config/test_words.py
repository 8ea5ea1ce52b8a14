"""The words typed after a command: a misspelt key is answered with the key that was meant."""

import sys
from pathlib import Path

import pytest

from losslab.config.arguments import as_overrides, parse_overrides, quote_names, read_values
from losslab.config.check import configure
from losslab.config.words import command_words, list_keys, parse_settings
from losslab.errors import Refused
from losslab.race.driver import OWN as RACE
from losslab.sweep.driver import OWN as SWEEP


def misspell(key: str) -> set[str]:
    """All keys with two neighbours swapped, or a letter left out or doubled."""
    swapped = {key[:i] + key[i + 1] + key[i] + key[i + 2 :] for i in range(len(key) - 1)}
    return (
        swapped
        | {key[:i] + key[i + 1 :] for i in range(len(key))}
        | {key[:i] + key[i - 1 :] for i in range(1, len(key))}
    ) - {key}


@pytest.mark.parametrize("own", [SWEEP, RACE], ids=["sweep", "race"])
def test_a_commands_own_key_that_is_misspelt_is_answered_with_it(own: tuple[str, ...]) -> None:
    tried = 0
    for key in (key for key in own if len(key) > 4):
        for wrong in misspell(key) - {*own, *list_keys()}:
            with pytest.raises(Refused, match=rf"^{wrong} is not a setting here; nearest: .*\b{key}\b"):
                parse_settings([f"{wrong}=1"], [*own, "*"])
            tried += 1
    assert tried > 40


@pytest.mark.parametrize("own", [SWEEP, RACE], ids=["sweep", "race"])
def test_no_setting_of_a_run_is_taken_for_one(own: tuple[str, ...]) -> None:
    for key in [*list_keys(), *own, "optimizer.lr", "data.target", "~callbacks.stop", "+note", "loss.parts.mae"]:
        assert parse_settings([f"{key}=1"], [*own, "*"]) == {key: "1"}


def test_a_flag_that_the_usage_of_a_command_names_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["watch", "outputs", "--serve"])
    with command_words("port=8000   with --serve: where it listens") as found:
        assert found == ["outputs", "--serve"]
    with pytest.raises(SystemExit, match="--serve is no flag"), command_words("port=8000") as found:
        raise AssertionError(found)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("[class,'C [x]',tags]", ["class", "C [x]", "tags"]),
        ("[A,'[]','}{']", ["A", "[]", "}{"]),
        ("['a,b',\"it's [1]\",c]", ["a,b", "it's [1]", "c"]),
    ],
)
def test_brackets_in_quotes_end_no_list(text: str, names: list[str]) -> None:
    (parsed,) = parse_overrides([quote_names(f"data.drop={text}")])
    found = parsed.value()
    assert isinstance(found, list)
    assert [str(getattr(each, "text", each)) for each in found] == names
    assert read_values("data.drop", text) == [names]


def test_a_list_that_does_not_end_is_one_sentence() -> None:
    with pytest.raises(
        Refused, match=r"'data.drop=\[a' cannot be read: its list does not end; type 'data.drop=\[a,b\]'"
    ):
        configure(["data.drop=[a"])


def test_a_file_that_is_typed_as_the_data_is_told_how_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, words in {"my.csv": "csv data.path=my.csv", "x.npz": "arrays data.path=x.npz"}.items():
        Path(name).touch()
        with pytest.raises(Refused, match=f"data={name} is a file: type data={words}"):
            configure([f"data={name}"])


def test_a_flag_that_is_mistyped_is_named() -> None:
    with pytest.raises(Refused, match="--mulitrun is no flag, and no setting without a value: type --multirun"):
        as_overrides(["--mulitrun"])
