"""Each kind of dirt is read right, or is one sentence that names it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from losslab.data.dataset import Dataset
from losslab.data.tables import csv
from losslab.errors import Refused
from tests.data.dirty import EVERY, Dirt

SETTINGS: dict[str, Any] = {"takes": ["vector"], "val": 0.2, "test": 0.2, "seed": 0, "task": "regression"}


def read(path: Path, typed: dict[str, Any]) -> Dataset:
    target = typed.get("target", "price")
    settings = {**SETTINGS, **{key: value for key, value in typed.items() if key != "target"}}
    return csv(str(path), target, **settings)


@pytest.mark.parametrize("dirt", EVERY, ids=lambda dirt: dirt.name)
def test_it_is_read_right_or_refused_in_a_sentence(tmp_path: Path, dirt: Dirt) -> None:
    file = tmp_path / dirt.file
    file.write_bytes(dirt.content)
    if dirt.like is None:
        with pytest.raises(Refused, match=dirt.says) as refused:
            read(file, dirt.settings)
        assert "\n" not in str(refused.value)
        return
    (tmp_path / "clean").mkdir()
    clean = tmp_path / "clean" / "table.csv"
    dirt.like.to_csv(clean, index=False)
    found, expected = read(file, dirt.settings), read(clean, dirt.settings_like)
    assert found.inputs == expected.inputs
    assert found.outputs == expected.outputs
    np.testing.assert_allclose(np.asarray(found.x), np.asarray(expected.x), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.y, expected.y, rtol=1e-6)
    if dirt.says:
        assert any(dirt.says in note for note in found.notes), found.notes


def test_there_are_many_kinds() -> None:
    assert len(EVERY) >= 100
    assert len({dirt.name for dirt in EVERY}) == len(EVERY)
