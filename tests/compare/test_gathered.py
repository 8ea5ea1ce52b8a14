"""Lines that sum up runs say what the runs' folders say, and count only while these are as they were."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from losslab.compare import __main__ as command
from losslab.compare import run_folder
from losslab.compare.gathered import Gathered, Gatherer
from losslab.compare.request import parse_request
from losslab.compare.run_folder import Record
from losslab.compare.runs import read_runs
from tests.compare.written import run


def make_runs(folder: Path) -> list[Path]:
    """Make runs of two cells and other settings, one of them failed, with their lines."""
    gatherer, losses = Gatherer(), ("mse", "mae, \N{GREEK SMALL LETTER ALPHA}")
    found = [run(folder, 0.5 + len(loss) / 100, loss=loss, seed=seed) for seed in range(3) for loss in losses]
    found.append(run(folder, 0.4, loss="mse", seed=9, status="failed", optimizer__momentum=True))
    for each in found:
        gatherer.add(each)
    return found


def without_lines(folder: Path) -> pd.DataFrame:
    """Read runs from their folders alone."""
    for file in folder.glob("runs/.*.gathered"):
        file.unlink()
    return read_runs([str(folder)]).frame


def read_none(path: str) -> None:
    """Stand for `read_run` where no folder may be read."""
    pytest.fail(f"{path} was read")


def test_lines_say_what_the_folders_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_runs(tmp_path / "runs")
    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "read_run", read_none)
        quick = read_runs([str(tmp_path), str(tmp_path / "runs")]).frame
    pd.testing.assert_frame_equal(quick, without_lines(tmp_path))


def test_a_comparison_writes_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "save_plots", lambda *args: [])  # which takes seconds
    make_runs(tmp_path / "runs")
    written = []
    for again in (False, True):
        runs = read_runs([str(tmp_path)])
        command.compare(parse_request([str(tmp_path), f"out={tmp_path / 'page'}"]), runs)
        files = {file.name: file.read_bytes() for file in (tmp_path / "page").iterdir()}
        written.append({name: text for name, text in files.items() if name != "comparison.json" or not again})
        without_lines(tmp_path)
    assert written[0].pop("comparison.json")
    assert {"index.html", "runs.csv"} <= set(written[1])
    assert written[0] == written[1]


def edit(file: Path, old: str, new: str, text: str | None = None) -> None:
    """Replace words in a file, one second later."""
    file.write_text((file.read_text() if text is None else text).replace(old, new))
    os.utime(file, ns=(file.stat().st_mtime_ns + 10**9,) * 2)


def link_elsewhere(each: Path) -> None:
    """Move a run elsewhere and leave a link, which no comparison follows."""
    each.rename(each.parents[1] / "elsewhere")
    each.symlink_to(each.parents[1] / "elsewhere")


LATER: dict[str, Callable[[Path], object]] = {
    "another figure of equal length": lambda each: edit(each / "summary.json", "0.5", "0.7"),
    "another setting": lambda each: edit(each / "config.yaml", "seed: 0", "seed: 7"),
    "another status": lambda each: edit(each / "status.json", "finished", "failed"),
    "no summary": lambda each: (each / "summary.json").unlink(),
    "no status": lambda each: (each / "status.json").unlink(),
    "another folder": lambda each: each.rename(each.with_name("another")),
    "a link": link_elsewhere,
    "half a history": lambda each: edit(each / "history.csv", "\n", "", text="a\nb"),
}
DAMAGE: dict[str, Callable[[str], str]] = {
    "half a line": lambda text: text[: -len(text.splitlines()[-1]) // 2],
    "no shared line": lambda text: "".join(line for line in text.splitlines(True) if line[0] != "#"),
    "half a shared line": lambda text: text[:1] + text[20:],
    "no JSON": lambda text: text.replace("{", "["),
    "a list": lambda text: text.replace('"seed": ', '"seed": [1], "x": '),
    "other keys": lambda text: text.replace('["', '[["'),
    "deep": lambda text: text.replace('"seed": ', f'"seed": {"[" * 10**5}'),
    "a number without end": lambda text: text.replace('"seed": ', f'"seed": {"9" * 50}'),
    "nothing": lambda text: "",
    "only tabs": lambda text: "\t\t\n\n#\t\n",
}


@pytest.mark.parametrize("what", LATER)
def test_a_line_of_a_folder_that_has_changed_does_not_count(tmp_path: Path, what: str) -> None:
    each, *_ = make_runs(tmp_path / "runs")
    before = read_runs([str(tmp_path)]).frame
    LATER[what](each)
    found = read_runs([str(tmp_path)]).frame
    assert what == "half a history" or not found.equals(before), "the change shows"
    pd.testing.assert_frame_equal(found, without_lines(tmp_path))


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_line_costs_only_time(tmp_path: Path, what: str) -> None:
    make_runs(tmp_path / "runs")
    (file,) = (tmp_path / "runs").glob(".*.gathered")
    text = file.read_text()
    assert DAMAGE[what](text) != text
    file.write_text(DAMAGE[what](text))
    found = read_runs([str(tmp_path)]).frame
    pd.testing.assert_frame_equal(found, without_lines(tmp_path))


def test_a_second_look_reads_only_what_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, known = make_runs(tmp_path / "runs"), Gathered(keep=True)
    without_lines(tmp_path)
    first = read_runs([str(tmp_path)], known).frame
    edit(runs[2] / "summary.json", "0.", "7.")
    read, once = list[str](), run_folder.read_run

    def note(path: str) -> Iterator[tuple[Record, Record]]:
        read.append(path)
        return once(path)

    monkeypatch.setattr(run_folder, "read_run", note)
    second = read_runs([str(tmp_path)], known).frame
    assert read == [str(runs[2])]
    assert not second.equals(first)
    pd.testing.assert_frame_equal(second, read_runs([str(tmp_path)]).frame)
    more = run(tmp_path / "runs", 0.3, seed=5)
    Gatherer().add(more)
    read.clear()
    assert len(read_runs([str(tmp_path)], known).frame) == len(second) + 1
    assert read == []


def test_a_line_speaks_only_of_runs_beside_it(tmp_path: Path) -> None:
    each, *_ = make_runs(tmp_path / "runs")
    (file,) = (tmp_path / "runs").glob(".*.gathered")
    lines = file.read_text().replace(f"\n{each.name}\t", f"\n{each}\t").replace('"finished"', '"failed"')
    without_lines(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / file.name).write_text(lines)
    assert set(read_runs([str(tmp_path / "other"), str(tmp_path)]).frame["status"]) == {"finished", "failed"}
    assert (read_runs([str(tmp_path / "other"), str(tmp_path)]).frame["status"] == "finished").sum() == 6


def test_what_cannot_be_gathered_stops_nothing(tmp_path: Path) -> None:
    Gatherer().add(tmp_path / "runs" / "none")
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "status.json").write_text(json.dumps({"status": "finished"})[:5])
    Gatherer().add(tmp_path / "half")
    assert [file.read_text() for file in tmp_path.glob("*.gathered")] == [""]
