"""Bad inputs by the hundred, made by chance from a seed: each is a sentence or is right, and none is a traceback."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from losslab.config import arguments
from losslab.config.catalogue import CONF, options
from losslab.config.check import configure
from losslab.config.command_line import check_command_line
from losslab.config.explain import explain
from losslab.config.flat import flatten
from losslab.errors import Refused
from losslab.sweep.plan import read

KEYS = [*flatten(configure(["data=csv", "data.path=a", "data.target=b"])), "lr", "loss.delta", "data.", "", "@", "a b"]
NAMES = "task data model loss optimizer scheduler augment trainer logger callbacks debug"
GROUPS = NAMES.split()
WORDS = """null true 1 -1 0 1e400 nan 0.5 [] [1] [a,b] [[1]] {} {a ] größe 'x " it's a=b a,b ${x} ${ ${oc.env:HOME} ???
    # \\ ~/x range(3) choice(a,b) glob(*) int(x) ../x / 2020 val/mae mae sgd [mae,2*mse]"""
VALUES = [*WORDS.split(), "", "{a: 1}", "a b", "price (USD)", "\t", "x" * 300]
PARTS = "method metric parameters early_terminate run_cap command program x"
VARIED = "optimizer.lr seed loss search.lr x"
NODES: list[Any] = [
    *(None, True, 1, -1, 0.5, "", "x", "a b", "random", "bayes", [], ["mae"], [1, [2]], {}, {"a": 1}, {"value": None}),
    *({"values": [1, 1]}, {"values": []}, {"values": "ab"}, {"values": ["mae", "mse"]}, {"value": {"a": 1}}),
    *({"min": 1, "max": 0}, {"min": 0.1, "max": 1, "q": -1}, {"min": "a", "max": 1}, {"parameters": {}}),
    *({"distribution": "normal", "min": 0, "max": 1}, {"type": "hyperband", "max_iter": "9", "eta": 0, "s": "two"}),
    *({"type": "hyperband", "min_iter": True}, {"type": "hyperband", "min_iter": 3}),
]


def words(chance: random.Random) -> Iterator[str]:
    """One to three settings, most of them wrong."""
    for _ in range(chance.randint(1, 3)):
        key = chance.choice(GROUPS) if chance.random() < 0.4 else chance.choice(KEYS)
        value = chance.choice(VALUES)
        if chance.random() < 0.2 and key in GROUPS:
            name = chance.choice(sorted(options([str(CONF)], key)))
            value = chance.choice((name, name.upper(), name + "x", f"[{name}]", f"{name},{name}"))
        yield f"{chance.choice(('', '', '', '+', '++', '~'))}{key}{'=' if chance.random() < 0.95 else ''}{value}"


def compose(typed: list[str]) -> str | None:
    """What is said of a command, as `losslab` says it; `None` if it is right."""
    try:
        typed = [arguments.quote_names(text) for text in typed]
        check_command_line(typed)
        configure(typed)
    except Refused as error:
        return str(error)
    except (HydraException, OmegaConfBaseException) as error:  # the command explains what Hydra says
        return explain(error, typed)
    return None


def test_a_command_made_by_chance_is_right_or_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    chance = random.Random(0)
    for _ in range(150):
        typed = list(words(chance))
        said = compose(typed)
        assert said is None or ("\n" not in said and len(said) < 1500), typed
    assert not list(tmp_path.iterdir())


def test_a_sweep_file_made_by_chance_is_right_or_refused_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    chance, file = random.Random(1), tmp_path / "a.yaml"
    for _ in range(150):
        parameters: dict[str, Any] = {"loss": {"values": ["mae", "mse"]}, "data": {"value": "heights"}}
        sweep: dict[str, Any] = {"method": "grid", "parameters": parameters}
        for _ in range(chance.randint(1, 2)):
            sweep[chance.choice(PARTS.split())] = chance.choice(NODES)
        if chance.random() < 0.7:
            parameters[chance.choice(VARIED.split())] = chance.choice(NODES)
        text = yaml.safe_dump(sweep)
        file.write_text(text[: chance.randrange(len(text))] if chance.random() < 0.2 else text)
        typed = {chance.choice(VARIED.split()): chance.choice(VALUES)} if chance.random() < 0.3 else {}
        said = ""
        try:
            read("a.yaml", typed)
        except Refused as error:
            said = str(error)
        assert "\n" not in said, text
        assert len(said) < 1500, text
    assert [path.name for path in tmp_path.iterdir()] == ["a.yaml"]
