"""A stranger's files end in one sentence and in seconds, take no memory to speak of, and write and send nothing."""

import os
import re
import resource
import socket
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from losslab.compare.runs import read_runs
from losslab.config.check import configure
from losslab.record.folder import run_name
from tests import hostile
from tests.compare.written import run
from tests.hostile import Words
from tests.processes import Fork, python

MEMORY = 3 * 2**29  # bytes beyond what the process has when it begins
PATIENCE = 60.0  # seconds, on a machine that is busy; each takes one or two

Build = Callable[[Path, Path], Words]
TABLES: dict[str, tuple[Build, str]] = {
    "a table that unpacks to gigabytes": (lambda f, _: hostile.packed(f), r"unpacks to more than 200 times its size"),
    "a line of half a gigabyte": (lambda f, _: hostile.one_line(f), r"has a line of more than 64 MB"),
    "a pipe": (lambda f, _: hostile.pipe(f), r"data.path=rows.csv (is no regular file|is not there)"),
    "columns without end": (
        lambda f, _: hostile.table(f, b"y" + b",x" * 2_000_000 + b"\n1" + b",1" * 2_000_000),
        r"has more than 100,000 columns",
    ),
    "a row of columns without end": (
        lambda f, _: hostile.table(f, b"y,x\n1" + b",1" * 2_000_000),
        r"has more than 100,000 columns",
    ),
    "half an archive": (
        lambda f, _: hostile.table(f, b"\x1f\x8b\x08\0\0\0", "r.csv.gz"),
        r"is not a table \(Compressed file ended",
    ),
    "bytes": (
        lambda f, _: hostile.table(f, bytes(range(256)) * 100),
        r"is not a table \(it holds bytes that no text has\)",
    ),
}
IMAGES: dict[str, tuple[Build, str]] = {
    "images of gigabytes, and a program": (hostile.image_bombs, r"none of the 16 images in data.path=images can be"),
    "folders in themselves": (lambda f, _: hostile.link_loops(f), r"data.path=images holds no images"),
    "labels of files elsewhere": (hostile.labelled, r"type data.file=COLUMN"),
    "a cache that is a link": (hostile.cached(hostile.linked_cache), r"is not a complete cache \(it is a link\)"),
    "a cache of objects": (hostile.cached(hostile.cache_of_objects), r"is not a complete cache \("),
    "a cache of other files": (hostile.cached(hostile.cache_of_other_files), r"it names other files than the images"),
}
STORED, DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
CHECKPOINTS: dict[str, Callable[[], bytes | None]] = {
    "nothing": lambda: b"",
    "a pipe": lambda: None,
    "no archive": lambda: bytes(1000),
    "a zip bomb": lambda: hostile.zip_bomb(b"", DEFLATED),
    "entries larger than the file": hostile.overlapping,
    "a pickle that doubles": lambda: hostile.zip_bomb(hostile.laughs(), STORED),
    "a pickle outside of an archive": hostile.laughs,
    "other weights": lambda: hostile.saved({"state_dict": {"a": 3}}),
    "a list": lambda: hostile.saved([1, 2]),
    "no run": lambda: hostile.saved({"state_dict": {}}),
}


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """What would hear of any request."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def ended(folder: Path, words: Words, listener: socket.socket, code: int = 1) -> str:
    """What a command says at its end, in a process that may take little memory and must send nothing."""
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy", "WANDB_BASE_URL"), address)

    def does() -> None:
        has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (has + MEMORY, has + MEMORY))
        python("-m", "losslab", *words)()

    fork = Fork(does, folder, {**os.environ, **proxies})
    out, err = fork.communicate(PATIENCE)
    assert fork.wait() == code, err + out
    with suppress(BlockingIOError):
        connection, _ = listener.accept()
        connection.close()
        raise AssertionError("something was sent")
    return err


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A file outside of all folders of the command, which stays as it is and the only one there."""
    file = tmp_path / "outside" / "canary"
    file.parent.mkdir()
    file.write_text("unwritten")
    yield file
    assert file.read_text() == "unwritten"
    assert list(file.parent.iterdir()) == [file]


pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="memory is limited as Linux does it")


def one_sentence(err: str) -> str:
    """The sentence, and nothing else but what tells of progress."""
    assert "Traceback" not in err
    lines = [line for line in err.splitlines() if line.startswith("losslab: ")]
    assert len(lines) == 1, err
    assert len(lines[0]) < 1000
    return lines[0]


@pytest.mark.parametrize("what", [*TABLES, *IMAGES])
def test_data_that_burst_or_lead_elsewhere(tmp_path: Path, canary: Path, listener: socket.socket, what: str) -> None:
    build, sentence = {**TABLES, **IMAGES}[what]
    (tmp_path / "here").mkdir()
    words = build(tmp_path / "here", canary)
    err = ended(tmp_path / "here", words, listener)
    assert re.search(sentence, one_sentence(err)), err


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_a_checkpoint_that_bursts(tmp_path: Path, canary: Path, listener: socket.socket, what: str) -> None:
    (tmp_path / "here").mkdir()
    words = hostile.checkpoint(tmp_path / "here", CHECKPOINTS[what]())
    sentence = one_sentence(ended(tmp_path / "here", words, listener))
    assert "theirs/last.ckpt is not" in sentence


def runs(folder: Path) -> None:
    """Two runs that can be compared."""
    for loss in ("mse", "mae"):
        run(folder, 0.5, loss=loss)


def test_runs_of_a_stranger_are_named_and_the_others_compared(
    tmp_path: Path, canary: Path, listener: socket.socket
) -> None:
    here = tmp_path / "here"
    runs(here / "outputs")
    for number, plant in enumerate(hostile.RECORDS.values()):
        (here / "outputs" / f"theirs-{number}").mkdir()
        plant(here / "outputs" / f"theirs-{number}")
    (here / "outputs" / "comparison").mkdir()
    (here / "outputs" / "comparison" / "index.html").symlink_to(canary)
    (here / "outputs" / "comparison" / "runs.csv").hardlink_to(canary)
    err = ended(here, ["compare", "outputs"], listener)
    assert f"{len(hostile.RECORDS)} records could not be read" in one_sentence(err)
    assert "<html" in (here / "outputs" / "comparison" / "index.html").read_text()


@pytest.mark.parametrize(("what", "sentence"), list(enumerate(hostile.RECORDS)))
def test_why_a_record_cannot_be_read_is_told(tmp_path: Path, what: int, sentence: str) -> None:
    (tmp_path / "theirs").mkdir()
    list(hostile.RECORDS.values())[what](tmp_path / "theirs")
    found = read_runs([str(tmp_path)])
    assert len(found.frame) == 0
    assert sentence in found.broken[0]
    assert len(found.broken[0]) < len(str(tmp_path)) + 200


PLANTED = ("history.csv", "status.json", "summary.json", "config.yaml", ".last.ckpt.part", "last.ckpt", "best.ckpt")


def planted(folder: Path, canary: Path, names: Sequence[str]) -> Path:
    """The folder that a run will have, made by another, with links of these names."""
    run = folder / "outputs" / run_name(configure([*hostile.TINY]))
    run.mkdir(parents=True)
    for number, name in enumerate(names):
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).symlink_to(canary) if number % 2 else (run / name).hardlink_to(canary)
    return run


@pytest.mark.parametrize("first", [0, 1])
def test_links_in_a_runs_folder_are_replaced_and_not_followed(
    tmp_path: Path, canary: Path, listener: socket.socket, first: int
) -> None:
    names = [*PLANTED[first:], "pictures/curves.png", "pictures/line.png", "pictures/samples.csv"]
    run = planted(tmp_path / "here", canary, [name for name in names if name != "status.json"])
    ended(tmp_path / "here", [*hostile.TINY, "resume=never"], listener, code=0)
    assert (run / "summary.json").read_text().startswith("{")
    assert not [name for name in names if (run / name).is_symlink() and name != ".last.ckpt.part"]


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (lambda run, canary: run.rmdir() or run.symlink_to(canary.parent), "is a link, which could lead anywhere"),
        (lambda run, canary: run.rmdir() or run.touch(), "is a file where a folder has to be"),
        (lambda run, canary: os.chown(run, 12345, -1), "belongs to another user (number 12345)"),
        (lambda run, canary: (run / ".lock").symlink_to(canary), "Too many levels of symbolic links"),
        (lambda run, canary: (run / "pictures").symlink_to(canary.parent), "pictures is a link"),
        (lambda run, canary: (run / "history.csv").mkdir(), "history.csv could not be read or written"),
        (lambda run, canary: (run / "status.json").mkdir(), "status.json could not be read or written"),
    ],
)
def test_a_runs_folder_that_is_not_the_users_own_is_refused(
    tmp_path: Path, canary: Path, listener: socket.socket, plant: Callable[[Path, Path], object], sentence: str
) -> None:
    if "12345" in sentence and os.geteuid() != 0:
        pytest.skip("only root may give a folder away")
    plant(planted(tmp_path / "here", canary, ()), canary)
    assert sentence in one_sentence(ended(tmp_path / "here", [*hostile.TINY], listener))


@pytest.mark.parametrize("words", [["compare", "outputs"], ["compare", "outputs", "out=linked"]])
def test_a_comparison_is_not_written_through_a_link(
    tmp_path: Path, canary: Path, listener: socket.socket, words: list[str]
) -> None:
    here = tmp_path / "here"
    runs(here / "outputs")
    for place in (here / "outputs" / "comparison", here / "linked"):
        place.symlink_to(canary.parent)
    assert "is a link, which could lead anywhere: remove it, or type out=FOLDER" in one_sentence(
        ended(here, words, listener)
    )
