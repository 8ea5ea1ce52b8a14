"""Files that a stranger would plant, made anew by each test; nothing of them is kept in the repository."""

import gzip
import io
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from losslab.data import cache

WIDE = 50_000  # pixels of each side of an image that a few bytes promise
TINY = ("data=heights", "model=linear", "trainer.max_epochs=1", "logger=false", "trainer.enable_progress_bar=false")
Words = list[str]


def table(folder: Path, content: bytes, name: str = "rows.csv") -> Words:
    """A run on the user's own table."""
    (folder / name).write_bytes(content)
    return ["data=csv", f"data.path={name}", "data.target=y", "logger=false"]


def packed(folder: Path) -> Words:
    """A table of two gigabytes in two megabytes."""
    block = gzip.compress(b"0,0\n" * 2**22)
    return table(folder, gzip.compress(b"x,y\n") + 128 * block, "rows.csv.gz")


def one_line(folder: Path) -> Words:
    """Half a gigabyte without an end of a line."""
    words = table(folder, b"x,y\n")
    os.truncate(folder / "rows.csv", 2**29)
    return words


def pipe(folder: Path) -> Words:
    """A table that never comes."""
    os.mkfifo(folder / "rows.csv")
    return ["data=csv", "data.path=rows.csv", "data.target=y", "logger=false"]


def png(width: int, height: int) -> bytes:
    """A PNG that promises so many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def small(kind: str) -> bytes:
    """A small image of a format."""
    out = io.BytesIO()
    Image.new("RGB", (16, 16)).save(out, kind)
    return out.getvalue()


def promised(kind: str, place: int, code: str) -> bytes:
    """A small image, its width and height overwritten at a place in its header."""
    data = bytearray(small(kind))
    data[place : place + struct.calcsize(code)] = struct.pack(code, WIDE, WIDE)
    return bytes(data)


def image_bombs(folder: Path, canary: Path) -> Words:
    """Images of a few bytes that would take gigabytes, and a program in the clothes of one."""
    (folder / "images" / "a").mkdir(parents=True)
    (folder / "images" / "b").mkdir()
    jpeg = small("JPEG")
    bombs = {
        "a.png": png(WIDE, WIDE),
        "b.gif": promised("GIF", 6, "<HH"),
        "c.bmp": promised("BMP", 18, "<ii"),
        "d.ppm": b"P6\n%d %d\n255\n" % (WIDE, WIDE) + bytes(100),
        "e.jpg": promised("JPEG", jpeg.index(b"\xff\xc0") + 5, ">HH"),
        "f.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n("
        + bytes(canary)
        + b") (w) file (x) writestring\n",
        "g.tif": b"II*\0" + bytes(2**16),
        "h.jpg": b"",
    }
    for name, content in bombs.items():
        for kind in "ab":
            (folder / "images" / kind / name).write_bytes(content)
    return images("images")


def images(path: str, *more: str) -> Words:
    """A run on the user's own images, decoded into a cache at hand."""
    return ["data=images", f"data.path={path}", "data.cache=cache", "task=single_label", "logger=false", *more]


def link_loops(folder: Path) -> Words:
    """Folders that lie in themselves, and a ladder with two ways down from each rung."""
    (folder / "images").mkdir()
    for name in "ab":
        (folder / "images" / name).symlink_to(".")
    for rung in range(40):
        (folder / "rungs" / str(rung)).mkdir(parents=True)
        for name in "ab":
            (folder / "rungs" / str(rung) / name).symlink_to(f"../{rung + 1}")
    (folder / "images" / "ladder").symlink_to("../rungs/0")
    return images("images")


def labelled(folder: Path, canary: Path) -> Words:
    """A table of labels that names files outside of the folder of images."""
    (folder / "images").mkdir()
    Image.new("RGB", (8, 8)).save(folder / "images" / "mine.png")
    names = [f"../{canary.name}", str(canary), "../../secret.jpg", "/etc/passwd", "images/../../x.png"]
    lines = [f"{name},{'ab'[k % 2]}" for k, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["file,label", *lines]))
    return images("images", "data.labels=labels.csv")


def cached(plant: Callable[[Path, Path], None]) -> Callable[[Path, Path], Words]:
    """A cache that another made under the name that ours will have."""

    def build(folder: Path, canary: Path) -> Words:
        names = []
        for kind in "ab":
            (folder / "images" / kind).mkdir(parents=True)
            for shade in range(8):
                file = folder / "images" / kind / f"{shade}.png"
                Image.new("RGB", (8, 8), (shade * 10, 0, 100 * (kind == "a"))).save(file)
                names.append(f"{kind}/{file.name}")
        place = folder / "cache" / cache.cache_name(folder / "images", sorted(names), (8, 8), True)
        place.parent.mkdir()
        plant(place, canary)
        return images("images", "data.size=[8,8]")

    return build


def linked_cache(place: Path, canary: Path) -> None:
    place.symlink_to(canary.parent)


def cache_of_objects(place: Path, canary: Path) -> None:
    """Arrays that would be unpickled."""
    place.mkdir()
    (place / "index.json").write_text(json.dumps({"files": ["a/0.png"], "copies": {}, "broken": {}}))
    for name in ("pixels.npy", "sums.npy"):
        np.save(place / name, np.array([Burst(canary)], dtype=object), allow_pickle=True)


def cache_of_other_files(place: Path, canary: Path) -> None:
    place.mkdir()
    (place / "index.json").write_text(json.dumps({"files": [str(canary)], "copies": {}, "broken": {}}))


class Burst:
    """What it unpickles to is a file that is written."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.write_text, (self.file, "burst"))


def checkpoint(folder: Path, content: bytes | None) -> Words:
    """A run that goes on from another's checkpoint; a pipe where there is no content."""
    (folder / "theirs").mkdir()
    (folder / "theirs" / "status.json").write_text(
        json.dumps(
            {
                "status": "preempted",
                "overrides": [
                    text.replace("=false", "='false'", 1) if text.startswith("logger") else text for text in TINY
                ],
            }
        )
    )
    if content is None:
        os.mkfifo(folder / "theirs" / "last.ckpt")
    else:
        (folder / "theirs" / "last.ckpt").write_bytes(content)
    return ["ckpt=theirs/last.ckpt"]


def zip_bomb(pickled: bytes, compression: int) -> bytes:
    """An archive as torch writes it, whose entries may be larger than they look."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3")
        if compression == zipfile.ZIP_DEFLATED:
            archive.writestr("archive/data/0", bytes(2**26))
    return out.getvalue()


def overlapping() -> bytes:
    """An archive whose entries all say that they are one another's bytes."""
    data = bytearray(zip_bomb(bytes(1000), zipfile.ZIP_STORED))
    at = data.index(b"PK\x01\x02")
    data[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    return bytes(data)


def saved(content: object) -> bytes:
    """What torch saves of this."""
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def laughs() -> bytes:
    """A pickle in which each list holds the one before it ten times."""
    node: object = 0
    for _ in range(30):
        node = [node] * 10
    return pickle.dumps(node, 2)


def record(
    run: Path, status: str = '{"status": "finished"}', config: str = "loss: mse\n", summary: str = '{"test/rmse": 1}'
) -> None:
    """What a finished run leaves, in part another's."""
    for name, text in (("status.json", status), ("config.yaml", config), ("summary.json", summary)):
        (run / name).write_text(text)
    os.mkfifo(run / "history.csv")


def endless(file: Path) -> None:
    """A file that takes a terabyte and no disk."""
    file.touch()
    os.truncate(file, 2**40)


def config_in_a_pipe(run: Path) -> None:
    record(run)
    (run / "config.yaml").unlink()
    os.mkfifo(run / "config.yaml")


RECORDS: dict[str, Callable[[Path], object]] = {
    "status.json is no regular file": lambda run: os.mkfifo(run / "status.json"),
    "status.json is nested too deep": lambda run: (run / "status.json").write_text("[" * 100_000),
    "status.json holds no JSON object": lambda run: (run / "status.json").write_text("[1]"),
    "status.json is larger than": lambda run: endless(run / "status.json"),
    "config.yaml is missing": lambda run: (run / "status.json").write_text('{"status": "running"}'),
    "aliases": lambda run: record(run, config="a: &a [x,x]\nb: &b [*a,*a]\nc: [*b,*b]\n"),
    "nest": lambda run: record(run, config=f"a: {'[' * 100_000}\n"),
    "which is no number": lambda run: record(run, summary='{"test/rmse": {"a": 1}}'),
    "config.yaml is no regular file": config_in_a_pipe,
    "facts=[1], which is no object": lambda run: record(run, status='{"status": "finished", "facts": [1]}'),
}
