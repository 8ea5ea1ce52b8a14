"""The live page: what it says while runs go on, from files alone, and who may read it."""

import json
import os
import re
import shutil
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from losslab.compare.gathered import Gathered
from losslab.compare.runs import read_runs
from losslab.errors import Refused
from losslab.files import read_json
from losslab.locks import open_lock, try_lock
from losslab.page.serve import serve
from losslab.sweep.ledger import Ledger
from losslab.sweep.standing import Standing, read_last_row, read_standing
from losslab.watch import Request, look_at_files, parse_request, watch
from tests.compare.written import grid


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A sweep with four runs that are finished and one whose process is gone."""
    folder = tmp_path / "sweep"
    grid(folder, {"mae": 0.9, "mse": 0.8}, 2, history=[0.5, 0.6, 0.7])
    shutil.copytree(sorted(folder.glob("*/status.json"))[0].parent, folder / "gone")
    (folder / "gone" / "summary.json").unlink()
    set_status(folder / "gone", "running")
    return folder


def set_status(folder: Path, status: str) -> None:
    found = json.loads((folder / "status.json").read_text())
    (folder / "status.json").write_text(json.dumps({**found, "status": status}))


def test_runs_are_counted_by_how_they_stand(runs: Path) -> None:
    standing = read_standing(runs)
    assert (standing.ended, standing.running) == ({"finished": 4, "stopped": 1}, [])
    assert standing.over
    assert standing.sentence == "5 runs have ended (1 stopped), 0 are running"
    number = open_lock(runs / "gone" / ".lock")
    assert try_lock(number)
    standing = read_standing(runs)
    assert (standing.ended, standing.over) == ({"finished": 4}, False)
    (running,) = standing.running
    assert (running["run"], running["epoch"], running["metric"]) == ("gone", 3, "val/rmse")
    os.close(number)


def test_a_driver_that_waits_says_for_how_many(runs: Path) -> None:
    ledger = Ledger(runs / "jobs")
    (runs / "planned.json").write_text(json.dumps({"jobs": 12, "lock": ledger.lock_name()}))
    standing = read_standing(runs)
    assert (standing.planned, standing.alive, standing.over) == (12, True, False)
    assert standing.sentence.startswith("5 of 12 runs have ended")
    ledger.close()
    assert read_standing(runs).over
    (runs / "planned.json").write_text("{")
    assert read_standing(runs).planned == 0


def test_the_page_shows_the_runs_without_a_verdict(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    number = open_lock(runs / "gone" / ".lock")
    assert try_lock(number)
    from losslab.page.live_page import draw_live

    page = draw_live(runs, read_standing(runs), 10)
    assert '<meta http-equiv="refresh" content="10">' in page
    assert "4 runs have ended, 1 is running." in page
    assert "No verdict yet." in page
    assert "3 of" in page
    assert 'id="means"' in page
    for claim in ("m[as]e beats", "clearly worse", "Use mae", ">Pairs<"):
        assert not re.search(claim, page)
    os.close(number)
    said = watch(Request(runs, 1.0, False, 0), Gathered(keep=True))
    final = (runs / "live" / "index.html").read_text()
    assert 'http-equiv="refresh"' not in final
    assert f"losslab compare {runs}" in said
    assert "5 runs have ended (1 stopped)" in capsys.readouterr().out


def test_a_folder_without_runs_is_waited_for(tmp_path: Path) -> None:
    from losslab.page.live_page import draw_live

    assert "no run lies below" in draw_live(tmp_path, read_standing(tmp_path), 5)


def test_a_run_that_has_ended_is_read_once(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = Gathered(keep=True)
    read_runs([str(runs)], known)
    found, standing = look_at_files(runs, Gathered()), read_standing(runs)
    read = list[Path]()

    def note(file: Path) -> object:
        read.append(file)
        return read_json(file)

    monkeypatch.setattr("losslab.sweep.standing.read_json", note)
    assert read_standing(runs, known) == standing
    assert read == [runs / "gone" / "status.json", runs / "planned.json"]
    assert look_at_files(runs, known) == found
    set_status(next(runs.glob("*mse*")), "failed, late")
    assert read_standing(runs, known) == read_standing(runs) != standing
    assert look_at_files(runs, known) == look_at_files(runs, Gathered()) != found


def test_only_files_that_tell_something_make_a_new_page(runs: Path) -> None:
    before = look_at_files(runs, Gathered())
    (runs / "live").mkdir()
    (runs / "live" / "x.json").touch()
    (runs / "notes.txt").touch()
    assert look_at_files(runs, Gathered()) == before
    with (runs / "gone" / "history.csv").open("a") as out:
        out.write("1\n")
    assert look_at_files(runs, Gathered()) != before


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("epoch,val/rmse\n0,2.0\n1,1.5\n", {"epoch": "1", "val/rmse": "1.5"}),
        ("epoch,val/rmse\n0,2.0\n1,1", {"epoch": "0", "val/rmse": "2.0"}),  # a row that is being written
        ("epoch,val/rmse\n", {}),
        ("epoch,val", {}),
        ("", {}),
        ("epoch,val/rmse\n" + "0,2.0\n" * 20_000 + "9,1.0\n", {"epoch": "9", "val/rmse": "1.0"}),
    ],
)
def test_the_last_whole_row_of_a_history_is_read(text: str, found: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(text)
    assert read_last_row(tmp_path / "history.csv") == found
    assert read_last_row(tmp_path / "none.csv") == {}


def test_the_page_is_served_at_its_address_alone(tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text("<p>live</p>")
    said = serve(page)
    address = re.findall(r"http://127\.0\.0\.1:\d+/[\w-]{32}/", said)[0]
    with urllib.request.urlopen(address) as answer:
        assert (answer.read(), answer.headers["Cache-Control"]) == (b"<p>live</p>", "no-store")
    root = address[: address.index("/", 8) + 1]
    for other in ("", "index.html", "x" * 32 + "/", address.split("/")[-2][:-1] + "/", "../etc/passwd"):
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(root + other)
        refused.value.close()  # it holds the connection
    port = int(root.rsplit(":", 1)[1].strip("/"))
    with pytest.raises(Refused, match=f"^port={port} cannot be used"):
        serve(page, port)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "watch needs one folder"),
        (["a", "b"], "watch needs one folder"),
        (["nowhere"], "nowhere is not a folder"),
        ([".", "every=0"], "every=0 does not fit: type a number from 1 to 3600"),
        ([".", "every=often"], "every=often does not fit"),
        ([".", "port=99999"], "port=99999 does not fit"),
        ([".", "serve=maybe"], "serve=maybe does not fit"),
        ([".", "evry=3"], "evry is not a setting here; nearest: every"),
    ],
)
def test_a_mistake_is_told_before_anything_is_read(words: list[str], says: str) -> None:
    with pytest.raises(Refused, match=re.escape(says)):
        parse_request(words)


def test_one_is_and_two_are() -> None:
    from collections import Counter

    for ended, running, sentence in (
        ({"finished": 1}, 1, "1 run has ended, 1 is running"),
        ({"finished": 2, "failed": 1, "pruned": 3}, 0, "6 runs have ended (1 failed, 3 pruned), 0 are running"),
        ({}, 2, "0 runs have ended, 2 are running"),
    ):
        assert Standing(0, Counter(ended), [{}] * running, False).sentence == sentence
