"""The cache: the pixels of Pillow and torchvision, built by one process, complete or not there, and opened as it is."""

import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2.functional import pil_to_tensor, resize

from losslab.data import cache
from losslab.data.cache import decode_all
from losslab.data.dataset import Dataset, split_rows
from losslab.data.pixels import Files, decode
from losslab.errors import Refused
from tests.conftest import until
from tests.data.pictures import picture, pictures

SLOW = """
import sys, time
from pathlib import Path
from losslab.data import cache
def slowly(file, size, decode=cache.decode):
    time.sleep(0.02)
    while not go.exists():
        time.sleep(0.02)
    return decode(file, size)
cache.decode = slowly
root, kept, go = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
found = cache.decode_all(root, sorted(f.name for f in root.iterdir()), (6, 4), kept, 1)
print(len(found.x), int(found.x.sum()))
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    pictures(tmp_path / "images", 20)
    return tmp_path / "images"


def names(root: Path) -> list[str]:
    return [file.name for file in root.iterdir()]


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".webp", ".tif", ".gif", ".jpg"])
def test_pixels_are_torchvisions(tmp_path: Path, suffix: str) -> None:
    picture(0, 30, 20).save(tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as image:
        there = resize(image.convert("RGB"), [12, 8], InterpolationMode.BILINEAR, antialias=True)
    assert np.array_equal(decode(tmp_path / f"a{suffix}", (12, 8)), pil_to_tensor(there).numpy())


def test_large_jpegs_are_decoded_at_a_part_of_their_size_and_look_the_same(tmp_path: Path) -> None:
    smooth = picture(0, 6, 4).resize((800, 1200), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95)
    found = decode(tmp_path / "a.jpg", (60, 40)).astype(int)
    whole = np.asarray(smooth.resize((40, 60), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert np.abs(found - whole).mean() < 2


def test_every_kind_of_image_becomes_upright_colour_on_white(tmp_path: Path) -> None:
    plain = picture(0)
    upright = np.asarray(plain).transpose(2, 0, 1)
    size = (12, 8)

    def saved(image: Image.Image, name: str, **more: object) -> np.ndarray:
        image.save(tmp_path / name, **more)  # type: ignore[arg-type]
        return decode(tmp_path / name, size)

    assert np.array_equal(saved(plain, "plain.png"), upright)
    grey = plain.convert("L")
    for mode in ("1", "L"):
        grey = grey.convert(mode)
        assert np.array_equal(saved(grey, f"{mode}.png"), np.stack([np.asarray(grey.convert("L"))] * 3)), mode
    few = plain.quantize(16)
    assert np.array_equal(saved(few, "palette.png"), np.asarray(few.convert("RGB")).transpose(2, 0, 1))
    inks = plain.convert("CMYK")
    assert np.array_equal(saved(inks, "inks.tif"), upright), "CMYK without black is the complement of RGB"

    clear = plain.convert("RGBA")
    clear.putalpha(0)
    assert (saved(clear, "clear.png") == 255).all(), "what cannot be seen does not count"
    half = plain.convert("RGBA")
    half.putalpha(51)
    np.testing.assert_allclose(saved(half, "half.webp", lossless=True), 0.2 * upright + 0.8 * 255, atol=1.01)
    few.info["transparency"] = bytes([0] * 16)
    assert (saved(few, "hidden.png") == 255).all()
    faint = Image.merge("LA", (plain.convert("L"), Image.new("L", plain.size, 0)))
    assert (saved(faint, "faint.png") == 255).all()

    deep = (np.asarray(plain)[..., 0].astype(np.uint16) << 8) + 77
    assert np.array_equal(saved(Image.fromarray(deep), "deep.png"), np.stack([np.asarray(plain)[..., 0]] * 3))
    with pytest.raises(ValueError, match="32 bits"):
        saved(Image.fromarray(deep.astype(np.float32)), "float.tif")

    turned = plain.transpose(Image.Transpose.ROTATE_90)  # the camera was held so, and says that it was
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    assert np.array_equal(saved(turned, "turned.png", exif=exif), upright)


def test_broken_files_and_doubles_are_left_out_and_named(root: Path, tmp_path: Path) -> None:
    whole = (root / "p3.png").read_bytes()
    (root / "empty.png").touch()
    (root / "half.png").write_bytes(whole[: len(whole) // 2])
    (root / "text.jpg").write_text("no image")
    (root / "again.png").write_bytes(whole)
    picture(4).save(root / "z.bmp")
    found = decode_all(root, names(root), (12, 8), str(tmp_path / "cache"), 1)
    assert set(found.broken) == {"empty.png", "half.png", "text.jpg"}
    assert "truncated" in found.broken["half.png"]
    assert found.copies == {"p3.png": "again.png", "z.bmp": "p4.png"}
    assert sorted([*found.files, *found.copies, *found.broken]) == sorted(names(root))
    for row, name in enumerate(found.files):
        assert np.array_equal(found.x[row], decode(root / name, (12, 8)))


def test_a_second_start_opens_what_is_there(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = str(tmp_path / "cache")
    first = decode_all(root, names(root), (12, 8), kept, 1)
    monkeypatch.setattr(cache, "decode", None)  # nothing is decoded again
    again = decode_all(root, names(root)[::-1], (12, 8), kept, 1)
    assert again.folder == first.folder
    assert isinstance(again.x, np.memmap)
    assert np.array_equal(first.x[:], again.x)
    assert np.array_equal(first.sums, again.sums)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.from_numpy(again.x)[0].shape == (3, 12, 8)
    again.x[0] = 0
    assert decode_all(root, names(root), (12, 8), kept, 1).x[0].any(), "what a run writes stays its own"
    with pytest.raises(Refused, match="none of the 20 images"):
        decode_all(root, names(root), (12, 9), kept, 1)  # another size: nothing of it can be read


def test_another_file_another_time_or_another_size_is_another_cache(root: Path, tmp_path: Path) -> None:
    kept = str(tmp_path / "cache")
    some = names(root)
    first = decode_all(root, some, (12, 8), kept, 1)
    picture(99).save(root / "p0.png")
    changed = decode_all(root, some, (12, 8), kept, 1)
    assert np.array_equal(changed.x[changed.files.index("p0.png")], decode(root / "p0.png", (12, 8)))
    fewer = decode_all(root, some[1:], (12, 8), kept, 1)
    smaller = decode_all(root, some, (6, 4), kept, 1)
    assert len({found.folder for found in (first, changed, fewer, smaller)}) == 4


def test_a_cache_that_can_only_be_read_works(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "cache"
    first = decode_all(root, names(root), (12, 8), str(kept), 1)

    def refuses(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache, "hold_lock", refuses)  # root may write anywhere: chmod would not hold it
    assert np.array_equal(decode_all(root, names(root), (12, 8), str(kept), 1).x[:], first.x[:])
    with pytest.raises(Refused, match=r"data.cache=.* cannot be written .*Permission denied.*: type data.cache=FOLDER"):
        decode_all(root, names(root), (6, 4), str(kept), 1)


def test_what_is_too_large_stays_in_its_files(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "half.png").write_bytes((root / "p3.png").read_bytes()[:100])
    kept = str(tmp_path / "cache")
    stored = decode_all(root, names(root), (12, 8), kept, 1)
    left = decode_all(root, names(root), (12, 8), kept, 1e-6)
    assert isinstance(left.x, Files)
    assert "more than data.cache_gb=1e-06" in left.note
    assert (left.files, list(left.broken)) == (stored.files, ["half.png"])
    assert not (left.folder / "pixels.npy").exists()
    files = pickle.loads(pickle.dumps(left.x))
    facts = (files.shape, files.dtype, files.ndim, files.size, len(files))
    assert facts == (stored.x.shape, stored.x.dtype, 4, stored.x.size, 20)
    for rows in ([3, 1, 3], np.array([0]), slice(5, 9), np.arange(20) % 3 == 0, 7, np.int64(2), []):
        assert np.array_equal(files[rows], stored.x[rows]), rows
    monkeypatch.setattr(cache, "free_space", lambda _: 10)
    assert isinstance(decode_all(root, names(root), (12, 8), kept, 1).x, np.memmap), "what is there needs no room"
    assert "more than is free in data.cache=" in decode_all(root, names(root), (6, 4), kept, 1).note
    (root / files.files[0]).unlink()
    with pytest.raises(Refused, match=r"p0.png can no longer be read"):
        files[:2]


def test_images_are_scaled_alike_wherever_they_lie(root: Path, tmp_path: Path) -> None:
    kept = str(tmp_path / "cache")
    rows = split_rows(20, val=0.2, test=0.2, seed=0)
    y = np.arange(20) % 2
    stored, left = (decode_all(root, names(root), (12, 8), kept, limit) for limit in (1, 0))
    known = [Dataset(f.x, y, rows, (3, 12, 8), ["a", "b"], sums=f.sums).scale for f in (stored, left)]
    counted = Dataset(np.array(stored.x), y, rows, (3, 12, 8), ["a", "b"]).scale
    train = np.array(stored.x)[rows["train"]].astype(float)
    for scale in (*known, counted):
        assert scale is not None
        np.testing.assert_allclose(scale[0], train.mean((0, 2, 3)), rtol=1e-6)
        np.testing.assert_allclose(scale[1], train.std((0, 2, 3)), rtol=1e-6)


def start(root: Path, kept: Path, go: Path, err: Path) -> "subprocess.Popen[str]":
    """A process that decodes slowly, and not before the file `go` is there."""
    command = [sys.executable, "-c", SLOW, str(root), str(kept), str(go)]
    with err.open("w") as said:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)


def test_a_build_that_is_killed_leaves_nothing_and_is_begun_anew(tmp_path: Path) -> None:
    root, kept = tmp_path / "images", tmp_path / "cache"
    pictures(root, 300)
    builder = start(root, kept, root, tmp_path / "err")
    until(lambda: any(f.stat().st_size > 128 for f in kept.glob("*.part/pixels.npy")) or builder.poll() is not None)
    assert builder.returncode is None, (tmp_path / "err").read_text()
    os.kill(builder.pid, signal.SIGKILL)
    builder.communicate()
    assert not list(kept.glob("*/index.json"))
    begun = time.monotonic()
    again = decode_all(root, names(root), (6, 4), str(kept), 1)
    assert time.monotonic() - begun < 30, "the lock went with the process"
    clean = decode_all(root, names(root), (6, 4), str(tmp_path / "clean"), 1)
    for name in ("pixels.npy", "sums.npy", "index.json"):
        assert (again.folder / name).read_bytes() == (clean.folder / name).read_bytes()
    assert not list(kept.glob("*.part"))


def test_of_several_runs_one_builds_and_the_others_wait(tmp_path: Path) -> None:
    root, kept = tmp_path / "images", tmp_path / "cache"
    pictures(root, 60)
    errs = [tmp_path / f"err-{number}" for number in range(3)]
    runs = [start(root, kept, tmp_path / "go", err) for err in errs]

    def waiting() -> int:
        return sum("another run decodes" in err.read_text() for err in errs)

    until(lambda: waiting() == 2 or any(run.poll() is not None for run in runs))
    (tmp_path / "go").touch()
    said = [run.communicate(timeout=600)[0] for run in runs]
    assert [run.returncode for run in runs] == [0, 0, 0], [err.read_text() for err in errs]
    assert len(set(said)) == 1
    assert said[0].startswith("60 ")
    assert waiting() == 2


def test_a_build_that_fails_leaves_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache, "write_header", full)
    with pytest.raises(Refused, match=r"data.cache=.* cannot be written \(.*No space left on device\)"):
        decode_all(root, names(root), (12, 8), str(tmp_path / "cache"), 1)
    assert [file.suffix for file in (tmp_path / "cache").iterdir()] == [".lock"]
