"""Files that others could have planted, halved or made endless: read with care, written without following links."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from losslab import files, locks
from losslab.errors import Refused

Plant = Callable[[Path], object]
DEEP = 100_000


def endless(file: Path) -> None:
    """A sparse file of more bytes than any record."""
    file.touch()
    os.truncate(file, files.LIMIT + 1)


PLANTED: dict[str, tuple[Plant, str]] = {
    "nothing": (lambda file: None, "is missing"),
    "a folder": (lambda file: file.mkdir(), "is no regular file"),
    "a pipe": (lambda file: os.mkfifo(file), "is no regular file"),
    "a device": (lambda file: file.symlink_to("/dev/zero"), "is no regular file"),
    "a link to itself": (lambda file: file.symlink_to(file), "symbolic links"),
    "half": (lambda file: file.write_text('{"a": '), "half-written"),
    "no bytes": (lambda file: file.touch(), "half-written"),
    "bytes": (lambda file: file.write_bytes(b"\xff\xfe\x00"), "not UTF-8"),
    "a number": (lambda file: file.write_text("3"), "no JSON object"),
    "deep": (lambda file: file.write_text("[" * DEEP), "nested too deep"),
    "deep objects": (lambda file: file.write_text('{"a":' * DEEP), "nested too deep"),
    "a long number": (lambda file: file.write_text("9" * 10_000), "integer string conversion"),
    "too large": (lambda file: endless(file), "larger than"),
}


@pytest.mark.parametrize("what", PLANTED)
def test_a_file_that_is_no_record_is_a_phrase_at_once(tmp_path: Path, what: str) -> None:
    plant, why = PLANTED[what]
    plant(tmp_path / "status.json")
    signal.alarm(20)  # a reader that waits for a pipe would wait for ever
    try:
        with pytest.raises(files.Unreadable, match=why) as refused:
            files.read_json(tmp_path / "status.json")
    finally:
        signal.alarm(0)
    assert str(refused.value).startswith(f"{tmp_path / 'status.json'} ")
    assert len(str(refused.value)) < len(str(tmp_path)) + 300


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]", "aliases"),
        ("[" * DEEP, "nest"),
        ("- " * DEEP, "nested too deep"),
        ("a: b: c", "mapping values"),
        ("a: \0", "special characters|control characters"),
        ("!!python/object/apply:os.system [exit]", "could not determine a constructor"),
        ("? [a, b]\n: c", "not YAML of values|unhashable"),
        ("a: 2001-99-99", "month"),
        ("a: 1\nb: {c: 1, d: 2, c: 3}", r"c stands there 2 times: leave one of them"),
    ],
)
def test_yaml_that_is_a_bomb_is_a_phrase(tmp_path: Path, text: str, why: str) -> None:
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(files.Unreadable, match=why):
        files.read_yaml(tmp_path / "config.yaml")


def test_a_file_that_may_not_be_read_is_a_phrase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "status.json").write_text("{}")
    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(files.Unreadable, match=r"cannot be read \(Permission denied\)"):
        files.read_json(tmp_path / "status.json")


def outside(tmp_path: Path) -> Path:
    """A file that must stay as it is."""
    (tmp_path / "outside").mkdir()
    canary = tmp_path / "outside" / "canary"
    canary.write_text("unwritten")
    return canary


@pytest.mark.parametrize("plant", ["symlink_to", "hardlink_to"])
def test_what_is_written_replaces_a_planted_link_and_never_follows_it(tmp_path: Path, plant: str) -> None:
    canary, file = outside(tmp_path), tmp_path / "history.csv"
    getattr(file, plant)(canary)
    files.write(file, "new")
    assert (canary.read_text(), file.read_text()) == ("unwritten", "new")
    assert not file.is_symlink()
    file.unlink()
    getattr(file, plant)(canary)
    assert not files.append(file, "more")
    with pytest.raises(FileExistsError):
        files.create(file)
    assert canary.read_text() == "unwritten"


def test_lines_are_added_to_a_file_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    assert not files.append(file, "a\n"), "there is none yet"
    files.write(file, "a\n")
    assert files.append(file, "b\n")
    assert file.read_text() == "a\nb\n"
    os.mkfifo(tmp_path / "pipe")
    assert not files.append(tmp_path / "pipe", "c\n")


def test_a_lock_is_not_opened_through_a_link(tmp_path: Path) -> None:
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic links"):
        locks.open_lock(tmp_path / ".lock")
    assert not (tmp_path / "elsewhere").exists()


def fill_disk(file: Path) -> None:
    """A write that ends as on a full disk."""
    with files.replacing(file) as out:
        out.write(b"half")
        raise OSError(28, "No space left on device")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    files.write_json(file, {"a": 1})
    with pytest.raises(OSError, match="No space left") as raised:
        fill_disk(file)
    assert raised.value.filename == str(file)
    assert json.loads(file.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_a_link_or_a_file_is_refused(tmp_path: Path) -> None:
    assert files.make_folder(tmp_path / "new" / "run") == files.make_folder(tmp_path / "new" / "run")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    (tmp_path / "file").touch()
    for name, why in (("link", "is a link"), ("file", "is a file")):
        with pytest.raises(Refused, match=rf"{name} {why}.*type output_dir=FOLDER"):
            files.make_folder(tmp_path / name)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give a folder away")
def test_a_folder_of_another_user_is_refused(tmp_path: Path) -> None:
    folder = files.make_folder(tmp_path / "run")
    os.chown(folder, 12345, -1)
    with pytest.raises(Refused, match=r"run belongs to another user \(number 12345\)"):
        files.make_folder(folder)
    assert not list(folder.iterdir())


def test_a_disk_that_gives_all_files_to_one_user_is_no_stranger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.make_folder(tmp_path / "run")
    monkeypatch.setattr(os, "geteuid", lambda: 12345)  # as on NFS that maps root to nobody
    assert files.make_folder(tmp_path / "run") == tmp_path / "run"
