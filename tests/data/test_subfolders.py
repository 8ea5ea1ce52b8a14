"""Folders and tables of images as strangers lay them out: read like the plain layout, or refused with what works."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.data.dataset import Dataset
from losslab.data.folder import images
from losslab.errors import Refused
from tests.data.pictures import picture

CLASSES = ("cat", "große Katze")
COUNT = 12


def read(root: Path, task: str = "single_label", **more: Any) -> Dataset:
    settings = {"size": [12, 8], "val": 0.2, "test": 0.2, "seed": 0, "cache": str(root.parent / "cache"), **more}
    return images(str(root), task=task, **settings)


def lay(root: Path, tops: tuple[str, ...], classes: tuple[str, ...] = CLASSES) -> Path:
    """Different images of each class below each of these folders."""
    for place, top in enumerate(tops):
        for number, name in enumerate(classes):
            (root / top / name).mkdir(parents=True)
            for i in range(COUNT):
                picture(1000 * place + 100 * number + i).save(root / top / name / f"{i}.png")
    return root


@pytest.mark.parametrize("tops", [("train", "test"), ("Train", "VAL", "testing"), ("training", "dev", "test")])
def test_folders_of_parts_are_the_split(tmp_path: Path, tops: tuple[str, ...]) -> None:
    data = read(lay(tmp_path / "root", tops))
    assert data.outputs == list(CLASSES)
    titles = np.array(data.titles)
    tested = {str(name).split("/")[0] for name in titles[data.split["test"]]}
    assert tested == {top for top in tops if top.lower().startswith("test")}
    assert len(data.split["test"]) == 2 * COUNT
    if len(tops) == 3:
        assert {str(name).split("/")[0] for name in titles[data.split["val"]]} == {tops[1]}
    assert len(read(tmp_path / "root", folds=3).split["test"]) == 2 * COUNT * len(tops) / 3


def below_one(root: Path) -> None:
    lay(root, ("all",))
    (root / "__MACOSX" / "all").mkdir(parents=True)
    picture(9).save(root / "__MACOSX" / "all" / "._0.png")


def without_test(root: Path) -> None:
    lay(root, ("train", "val"))


def classless_test(root: Path) -> None:
    lay(root, ("train",))
    (root / "test").mkdir()
    picture(9).save(root / "test" / "9.png")


@pytest.mark.parametrize("build", [below_one, without_test, classless_test])
def test_the_path_that_a_refusal_offers_works(tmp_path: Path, build: Callable[[Path], None]) -> None:
    build(tmp_path / "my images")
    with pytest.raises(Refused, match="type ") as refused:
        read(tmp_path / "my images")
    key, _, path = shlex.split(str(refused.value).rpartition(": type ")[2].replace(", or", " , or"))[0].partition("=")
    assert key == "data.path"
    assert read(Path(path)).outputs == list(CLASSES)


def test_too_few_classes_are_named(tmp_path: Path) -> None:
    lay(tmp_path / "root", (".",), ("a",))
    with pytest.raises(Refused, match=r"subfolder for each class \(a is the only one\): type data.labels=FILE"):
        read(tmp_path / "root")
    (tmp_path / "root" / "list.txt").touch()
    with pytest.raises(Refused, match=r"type data.labels=\S*list.txt"):
        read(tmp_path / "root")


def test_equal_images_leave_one_class(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / "root" / name).mkdir(parents=True)
        for i in range(5):
            picture(1).save(tmp_path / "root" / name / f"{i}.png")
    with pytest.raises(Refused, match="all images that can be used are of class a: add"):
        read(tmp_path / "root")


def table(tmp_path: Path, columns: dict[str, Any], encoding: str = "utf-8", named: str = "{:05d}.png") -> Path:
    root = tmp_path / "root"
    root.mkdir()
    for i in range(30):
        picture(i).save(root / f"{i:05d}.png")
    frame = pd.DataFrame({"file": [named.format(i) for i in range(30)], **columns})
    frame.to_csv(root / "labels.csv", index=False, encoding=encoding)
    return root


def cycle(*cells: str) -> list[str]:
    return [cells[i % len(cells)] for i in range(30)]


def test_numbers_name_files_with_zeros_before_them(tmp_path: Path) -> None:
    data = read(table(tmp_path, {"kind": cycle("a", "b")}, named="{}"))
    assert data.y.tolist() == [i % 2 for i in range(30)]


def test_a_column_is_the_split(tmp_path: Path) -> None:
    root = table(tmp_path, {"kind": cycle("a", "b"), "part": cycle("train", "train", "train", "val", "Test")})
    with pytest.raises(Refused, match=r"several columns \(kind, part\).*type data.target=kind"):
        read(root)
    data = read(root, split="part")
    assert data.split["test"].tolist() == list(range(4, 30, 5))
    assert data.split["val"].tolist() == list(range(3, 30, 5))
    with pytest.raises(Refused, match=r"data\.split and data.folds both say which rows are tested"):
        read(root, split="part", folds=3)


@pytest.mark.parametrize(
    ("cells", "first", "more"),
    [
        (("1,5", "2,25", "7,0"), 1.5, {}),
        (("$1.5", "$2", "$7"), 1.5, {}),
        (("1 m", "2.5 m", "3 m"), 1.0, {}),
        (("1,500", "2,000", "3,250"), 1.5, {"decimal": "comma"}),
        (("1,500", "2,000", "3,250"), 1500.0, {"decimal": "point"}),
        (("1.5", "", "3", "4"), 1.5, {"drop_rows": "missing_target"}),
    ],
)
def test_numbers_are_read_as_in_a_table(tmp_path: Path, cells: tuple[str, ...], first: float, more: Any) -> None:
    root = table(tmp_path, {"size": cycle(*cells)})
    if more:
        with pytest.raises(Refused, match=f"data.{next(iter(more))}="):
            read(root, "regression")
    data = read(root, "regression", **more)
    assert data.y[0, 0] == first
    assert len(np.unique(data.y)) == len(set(cells) - {""})


def test_what_a_table_lacks_is_said_with_what_works(tmp_path: Path) -> None:
    root = table(tmp_path, {"kind": cycle("a", "bü")}, "latin-1")
    with pytest.raises(Refused, match=r"type data\.encoding=cp1252"):
        read(root)
    assert read(root, encoding="cp1252").outputs == ["a", "bü"]
    with pytest.raises(Refused, match=re.escape("it has kind): type data.target=COLUMN, or task=single_label if kind")):
        read(root, "regression", encoding="cp1252")
    lines = (root / "labels.csv").read_bytes().splitlines(keepends=True)
    (root / "labels.csv").write_bytes(b"".join(lines[1:]))
    with pytest.raises(Refused, match=r"begins with a row \(00000.png, ...\): write a line of names"):
        read(root, encoding="cp1252")


@pytest.mark.parametrize(("yes", "no"), [("True", "False"), ("yes", "no"), ("Y", "N"), ("x", ""), ("1.0", "0.0")])
def test_several_columns_of_marks_are_labels(tmp_path: Path, yes: str, no: str) -> None:
    data = read(table(tmp_path, {"p": cycle(yes, no), "q": cycle(no, no, yes)}), "multi_label")
    assert data.outputs == ["p", "q"]
    assert data.y.tolist() == [[int(i % 2 == 0), int(i % 3 == 2)] for i in range(30)]
