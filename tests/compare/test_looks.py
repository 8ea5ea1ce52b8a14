"""Looking again when there are more runs is said, and only then."""

import json
from pathlib import Path

import pytest

from losslab.compare.__main__ import compare
from losslab.compare.request import parse_request
from losslab.compare.runs import read_runs
from tests.compare.written import grid, run


def compare_again(folder: Path, *words: str) -> str:
    request = parse_request([str(folder), *words])
    return compare(request, read_runs(request.folders))


@pytest.fixture(autouse=True)
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("losslab.compare.__main__.save_plots", lambda *_: [])


def test_each_look_at_more_runs_is_counted_and_said(tmp_path: Path) -> None:
    grid(tmp_path, {"mae": 0.5, "mse": 0.6}, 3)
    assert "looked at before" not in compare_again(tmp_path)
    assert "looked at before" not in compare_again(tmp_path)  # the same runs: the same look
    run(tmp_path, 0.5, loss="mae", seed=7), run(tmp_path, 0.6, loss="mse", seed=7)
    assert "looked at before (6 runs, 8 now)" in compare_again(tmp_path)
    assert "over 2 a difference is called real by chance in up to 10%" in compare_again(tmp_path)
    run(tmp_path, 0.5, loss="mae", seed=8), run(tmp_path, 0.6, loss="mse", seed=8)
    assert "looked at before (6, 8 runs, 10 now)" in compare_again(tmp_path, "alpha=0.01")
    assert json.loads((tmp_path / "comparison" / "comparison.json").read_text())["looks"] == [6, 8, 10]
    assert "looked at before" not in compare_again(tmp_path, "by=[seed]")


@pytest.mark.parametrize("content", ["", "[]", "{", '{"by": ["loss"], "metric": "rmse", "runs": 3, "looks": "x"}'])
def test_a_damaged_record_of_looks_is_no_look(tmp_path: Path, content: str) -> None:
    grid(tmp_path, {"mae": 0.5, "mse": 0.6}, 3)
    (tmp_path / "comparison").mkdir()
    (tmp_path / "comparison" / "comparison.json").write_text(content)
    assert "looked at before" not in compare_again(tmp_path)
