"""benchmarks/gpu.py: its judgement and its time by tables, and all of its parts in their tiny form on the CPU."""

import doctest
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from losslab.config.check import configure
from tests.conftest import ROOT

sys.path.append(str(ROOT / "benchmarks"))

import gpu
import on_gpu.speed
from on_gpu.correctness import relative
from on_gpu.place import Found, Place, Row, judge
from on_gpu.speed import busy


@pytest.mark.parametrize(
    ("value", "wanted", "ok"),
    [
        (0.0, "<= 1e-9", True),
        (1e-9, "<= 1e-9", True),
        (2e-9, "<= 1e-9", False),
        (0.95, ">= 0.95", True),
        (0.94, ">= 0.95", False),
        (float("inf"), "<= 0.05", False),
        (float("nan"), "<= 1e-9", False),
        (float("nan"), ">= 0.9", False),
        (3.0, "", None),
        (None, ">= 0.9", None),
    ],
)
def test_a_value_is_judged(value: float | None, wanted: str, ok: bool | None) -> None:
    assert judge(value, wanted) is ok


@pytest.mark.parametrize(
    ("part", "parts", "left", "seconds"),
    [
        ("correctness", ["correctness", "speed", "sweep", "two"], 600, 200),
        ("sweep", ["correctness", "speed", "sweep", "two"], 400, 300),
        ("two", ["correctness", "speed", "sweep", "two"], 37, 37),
        ("speed", ["speed"], 600, 600),
    ],
)
def test_a_part_takes_its_share_of_what_is_left(part: str, parts: list[str], left: float, seconds: float) -> None:
    assert gpu.seconds_for(part, parts, left) == pytest.approx(seconds)


def test_a_check_that_raises_is_a_failed_row_and_the_others_go_on(tmp_path: Path) -> None:
    def good(place: Place) -> Iterator[Found]:
        yield Found("right", 0.0, "<= 1e-9")
        yield Found("wrong", 1.0, "<= 1e-9")

    def half_way(place: Place) -> Iterator[Found]:
        yield Found("before", 5.0)
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    def gives_up(place: Place) -> Iterator[Found]:
        raise SystemExit(3)

    clock = iter([0.0, 1.0, 2.0, 10.0, 11.0])
    checks = [good, half_way, gives_up, good, half_way]
    rows = list(gpu.run_checks("speed", checks, Place("cpu", True, tmp_path, until=10.0), lambda: next(clock)))
    assert [(row.check, row.ok) for row in rows] == [
        ("right", True),
        ("wrong", False),
        ("before", None),
        ("half way", False),
        ("gives up", False),
        ("good", None),
        ("half way", None),
    ]
    assert rows[3].reason == "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"
    assert rows[5].reason == "the time of this part is used up"


CHILDREN = {
    "dies": ("import os; os.abort()", "ended with -6"),
    "hangs": ("import time; print('at work', flush=True); time.sleep(60)", "was stopped after 3 s; at work"),
}


@pytest.mark.parametrize("name", CHILDREN)
def test_a_part_that_dies_or_hangs_keeps_the_rows_that_it_had(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends, said = CHILDREN[name]
    row = Row("speed", "digits", 0.97, ">= 0.95", True)
    lines, cut = [json.dumps({"device": "a GPU"}), json.dumps(row._asdict())], '{"part": "spe'
    child = tmp_path / "child.py"
    child.write_text(
        "import sys\nrows = next(w[5:] for w in sys.argv if w.startswith('rows='))\n"
        f"open(rows, 'w').write({chr(10).join([*lines, cut])!r})\n{ends}\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(child))
    found: list[Row] = []
    about: dict[str, Any] = {}
    gpu.start_part("speed", 1.0, 3.0, gpu.DEFAULTS, found, about)
    assert about["device"] == "a GPU"
    assert found[0] == row
    assert found[1].ok is False
    assert said in found[1].reason
    assert "at work" in about["printed"]["speed"] or name == "dies"


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no such signal")
def test_what_was_found_is_written_when_the_benchmark_is_told_to_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is lent for ten minutes may end it earlier."""
    row = Row("speed", "digits", 0.97, ">= 0.95", True)
    text = "".join(json.dumps(line) + "\n" for line in ({"device": "a GPU"}, row._asdict()))
    child = tmp_path / "child.py"
    child.write_text(
        "import sys, time\nrows = next(w[5:] for w in sys.argv if w.startswith('rows='))\n"
        f"open(rows, 'w').write({text!r})\n"
        "time.sleep(60)\n"
    )
    monkeypatch.setattr(gpu, "__file__", str(child))
    monkeypatch.setattr(gpu, "missing", lambda *_: "")

    def stop(*_: object) -> None:
        sys.exit(143)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        with pytest.raises(SystemExit, match="143"):
            gpu.main({"out": str(tmp_path / "gpu.json"), "parts": "speed"})
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["device"] == "a GPU"
    assert [(each["check"], each["ok"]) for each in found["rows"]] == [("digits", True), ("the rest", False)]


def test_models_that_are_compared_with_the_cpu_draw_nothing_in_training() -> None:
    """A GPU's dropout draws other numbers."""
    for words in [*on_gpu.correctness.TASKS.values(), on_gpu.correctness.DIGITS]:
        model = configure(words).model
        assert not [key for key, value in model.items() if str(key).endswith("dropout") and value]


def test_without_a_gpu_each_part_is_skipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main({"out": str(tmp_path / "gpu.json")}) == 0
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [(row["part"], row["ok"], row["reason"]) for row in rows] == [(part, None, "no GPU") for part in gpu.SHARES]
    assert capsys.readouterr().out.count("skipped: no GPU") == len(gpu.SHARES)


@pytest.mark.parametrize("typed", [{"part": "speed"}, {"parts": "speeed"}, {"minuts": "3"}])
def test_what_is_no_argument_is_told(typed: dict[str, str]) -> None:
    with pytest.raises(SystemExit, match="type "):
        gpu.main(typed)


def test_busy_time_and_differences_are_computed() -> None:
    assert busy([]) == 0.0
    assert busy([(5.0, 6.0), (0.0, 2.0), (1.0, 3.0), (1.5, 1.6), (3.0, 3.5)]) == 4.5
    assert relative(torch.tensor([0.0]), torch.tensor([0.0])) == 0.0
    assert relative(torch.tensor([3.0, 4.1]), torch.tensor([3.0, 4.0])) == pytest.approx(0.02)


def test_the_examples_of_its_functions_are_right() -> None:
    for module in (gpu, on_gpu.correctness, on_gpu.place, on_gpu.speed):
        assert doctest.testmod(module).failed == 0


@pytest.mark.system
def test_all_parts_run_on_the_cpu_in_their_tiny_form(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    words = ["device=cpu", "tiny=true", "minutes=20", f"out={out}"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu.py"), *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(out.read_text())
    rows = [Row(**row) for row in found["rows"]]
    assert {row.part for row in rows} == set(gpu.SHARES)
    assert found["torch"] == torch.__version__
    assert not [row for row in rows if row.ok is False]
    assert sum(row.ok is True for row in rows) >= 19
    assert {row.reason for row in rows if row.value is None} == {
        "fp16 needs a GPU", "no GPU", "the peak of a CPU is not known here",
    }  # fmt: skip
