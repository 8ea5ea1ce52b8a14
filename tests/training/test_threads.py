"""As many threads as a step on the CPU is worth, and as many as were typed."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from losslab.build import build, build_run
from losslab.config.make import make
from losslab.errors import Refused
from losslab.training import threads
from tests.conftest import Typed


@pytest.fixture(autouse=True)
def _eight(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine of eight cores."""
    before = torch.get_num_threads()
    monkeypatch.setattr(threads, "MOST", 8)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ("data=diabetes model.hidden=[8]", 1),
        ("data=diabetes model.hidden=[1000,1000] data.batch_size=128", 4),  # 6 * 128 * (10 + 1000 + 1) * 1000 = 776e6
        ("data=diabetes model.hidden=[1000,1000] data.batch_size=all", 8),
        ("data=numbers model=point", 8),  # what cannot be counted
        ("data=diabetes model.hidden=[8] threads=3", 3),
        ("data=diabetes model.hidden=[1000,1000] data.batch_size=all threads=1", 1),
    ],
)
def test_as_many_as_a_step_is_worth(typed: Typed, settings: str, wanted: int) -> None:
    parts = build(typed(*settings.split()))
    assert parts.facts["threads"] == torch.get_num_threads() == wanted
    again = build(typed("data=diabetes", "model.hidden=[1000,1000]", "data.batch_size=all"))
    assert again.facts["threads"] == 8, "what one run chose does not bind the next one"


@pytest.mark.parametrize("weight", ["null", "w"])
def test_a_row_with_a_weight_is_tried_as_any_other(typed: Typed, tmp_path: Path, weight: str) -> None:
    rows = [f"{n % 7},{n % 5},{1 + n % 3},{n}" for n in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,w,y", *rows]))
    table = [
        "data=csv",
        f"data.path={tmp_path / 't.csv'}",
        "data.target=y",
        "data.drop=[w]" if weight == "null" else "",
    ]
    cfg = typed(*filter(None, table), f"data.weight={weight}", "model=linear")
    data = make(cfg, "data")
    _, module, _ = build_run(cfg, data)
    assert threads.count_operations(module, data) == 3 * 2 * 2
    assert build(cfg).facts["threads"] == 1


@pytest.mark.parametrize("model", ["linear", "cnn"])
def test_operations_are_those_that_are_counted_by_hand_and_trying_a_row_changes_nothing(
    typed: Typed, model: str
) -> None:
    more = ["model.channels=[4]"] if model == "cnn" else []
    cfg = typed("data=digits", f"model={model}", *more)
    data = make(cfg, "data")
    _, module, _ = build_run(cfg, data)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    draws = torch.get_rng_state()
    found = threads.count_operations(module, data)
    by_hand = 64 * 10 if model == "linear" else 8 * 8 * 9 * 4 + 4 * 10
    assert found == pytest.approx(3 * 2 * by_hand)
    assert module.training
    assert torch.equal(torch.get_rng_state(), draws)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


def test_a_number_of_threads_is_a_whole_one(typed: Typed) -> None:
    with pytest.raises(Refused, match=r"threads=0 does not fit: it must be auto, or a whole number from 1 to 1024"):
        typed("threads=0")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the library that torch has on Linux")
@pytest.mark.parametrize(
    ("typed_now", "shown"),
    [
        ({}, "GOMP_SPINCOUNT = '1000'"),
        ({"GOMP_SPINCOUNT": "7"}, "GOMP_SPINCOUNT = '7'"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "OMP_WAIT_POLICY = 'ACTIVE'"),
    ],
)
def test_threads_that_wait_soon_leave_their_core_to_others(typed_now: dict[str, str], shown: str) -> None:
    env = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    env |= {"OMP_DISPLAY_ENV": "verbose", **typed_now}
    done = subprocess.run(
        [sys.executable, "-c", "import losslab, torch"], env=env, capture_output=True, text=True, check=True
    )
    assert shown in done.stderr
    assert ("GOMP_SPINCOUNT = '1000'" in done.stderr) == (typed_now == {})
