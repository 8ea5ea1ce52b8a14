"""The file of a race that was cut off or edited."""

import json
from pathlib import Path

import pytest

from losslab.errors import Refused
from losslab.race.state import FILE, State, load_state

WHOLE = {"difference": 5, "claim": "", "racing": ["mae"], "looks": [], "hours": 1}


def test_a_whole_one_is_read_and_written(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(WHOLE))
    state = load_state(tmp_path)
    assert state is not None
    state.write(tmp_path)
    assert load_state(tmp_path) == state == State(5, "", ["mae"], hours=1)


@pytest.mark.parametrize(
    "found",
    ["", "[1]", '{"differ', "{}", *(json.dumps({**WHOLE, key: value}) for key, value in (
        ("difference", "5"), ("difference", None), ("claim", 3), ("racing", 5), ("racing", {}), ("looks", {}),
        ("beaten", []), ("same", "mae"), ("planned", "many"), ("hours", []), ("leader", 1), ("another", 1),
    ))],
)  # fmt: skip
def test_one_that_is_not_whole_is_refused(tmp_path: Path, found: str) -> None:
    (tmp_path / FILE).write_text(found)
    with pytest.raises(Refused, match="is not whole: type name=ANOTHER"):
        load_state(tmp_path)
