"""A folder of images: what is inferred from its table, left out and noted, or refused in a sentence."""

import csv
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from losslab.data.dataset import Dataset, split_rows
from losslab.data.folder import images
from losslab.errors import Refused
from tests.conftest import ROOT, Command
from tests.data.pictures import picture, pictures

POSTERS = ROOT.parent / "shared" / "data" / "posters_96x144.zip"
GENRES = [["Comedy", "Drama"], ["Drama"], ["Comedy", "War"], [], ["War"]]
COUNT = 40


def read(root: Path, task: str = "multi_label", **more: Any) -> Dataset:
    settings = {"size": [12, 8], "val": 0.2, "test": 0.2, "seed": 0, "cache": str(root.parent / "cache"), **more}
    return images(str(root), task=task, **settings)


def folder(tmp_path: Path, table: pd.DataFrame | dict[str, Any] | None, name: str = "labels.csv") -> Path:
    """Forty images in a subfolder, and a table."""
    pictures(tmp_path / "root" / "images", COUNT)
    if table is not None:
        pd.DataFrame(table).to_csv(tmp_path / "root" / name, index=False, sep="\t" if "tsv" in name else ",")
    return tmp_path / "root"


def ids(suffix: str = "") -> list[str]:
    return [f"p{i}{suffix}" for i in range(COUNT)]


def genres(written: str) -> list[str]:
    """The labels of each image, written in one cell."""
    rows = [GENRES[i % 5] for i in range(COUNT)]
    if written == "python":
        return [str(row) for row in rows]
    if written == "json":
        return [str(row).replace("'", '"') for row in rows]
    if written == "bare":
        return [f"[{', '.join(row)}]" for row in rows]
    return [written.join(row) for row in rows]


def labels(data: Dataset) -> dict[str, set[str]]:
    """The labels of each image by its name without folder and suffix."""
    assert data.titles is not None
    chosen = [{data.outputs[i] for i in np.flatnonzero(row)} for row in data.y]
    return {Path(name).stem: row for name, row in zip(data.titles, chosen, strict=True)}


def noted(data: Dataset, what: str) -> bool:
    return any(what in note for note in data.notes)


EXPECTED = {f"p{i}": set(GENRES[i % 5]) for i in range(COUNT)}


@pytest.mark.parametrize("written", ["python", "json", "bare", "|", ";", ",", " / "])
def test_labels_in_one_cell_are_found_however_they_are_written(tmp_path: Path, written: str) -> None:
    table = {"year": range(1980, 1980 + COUNT), "Id": ids(), "Genre": genres(written)}
    typed = {"separator": "/", "target": "Genre"} if written == " / " else {}
    data = read(folder(tmp_path, table), **typed)
    assert labels(data) == EXPECTED
    assert noted(data, "labels.csv: images by Id, labels from Genre")
    assert (data.shape, str(data.x.dtype), str(data.y.dtype)) == ((3, 12, 8), "uint8", "int64")
    row = (data.titles or []).index("images/p7.png")
    assert np.array_equal(data.x[row], np.asarray(picture(7)).transpose(2, 0, 1))


@pytest.mark.parametrize(
    "called", ["p{}", "p{}.png", "images/p{}.png", "./images/p{}.png", "root/images/p{}.png", "p{}.JPG"]
)
@pytest.mark.parametrize("name", ["labels.csv", "all.tsv", "labels.csv.gz"])
def test_images_are_found_by_name_with_or_without_folder_and_suffix(tmp_path: Path, called: str, name: str) -> None:
    table = {"film": [called.format(i) for i in range(COUNT)], "Genre": genres("|")}
    assert labels(read(folder(tmp_path, table, name))) == EXPECTED


def test_columns_of_0_and_1_are_labels_unless_there_is_a_list(tmp_path: Path) -> None:
    hot = {name: [int(name in GENRES[i % 5]) for i in range(COUNT)] for name in ("Comedy", "Drama", "War")}
    root = folder(tmp_path, {"Id": ids(), **hot})
    data = read(root)
    assert labels(data) == EXPECTED
    assert labels(read(root, target=["War", "Drama"])) == {name: row - {"Comedy"} for name, row in EXPECTED.items()}
    with_list = folder(tmp_path, {"Id": ids(), **dict.fromkeys(hot, 0), "x": 1, "Genre": genres("python")})
    data = read(with_list)
    assert labels(data) == EXPECTED
    assert noted(data, "4 columns of 0 and 1 are not used: Comedy, Drama, War, ...")


def test_one_class_each_from_a_column_from_0_and_1_or_from_subfolders(tmp_path: Path) -> None:
    kinds = [("cat", "dog", "bird")[i % 3] for i in range(COUNT)]
    root = folder(tmp_path, {"file": ids(".png"), "kind": kinds, "weight": range(COUNT)})
    data = read(root, "single_label")
    assert data.outputs == ["bird", "cat", "dog"]
    by_name = dict(zip([Path(name).stem for name in data.titles or []], data.y.tolist(), strict=True))
    assert [data.outputs[by_name[name]] for name in ids()] == kinds
    hot = {name: [int(kind == name) for kind in kinds] for name in ("bird", "cat", "dog")}
    from_hot = read(folder(tmp_path, {"file": ids(), **hot}), "single_label")
    assert (from_hot.outputs, from_hot.y.tolist()) == (data.outputs, data.y.tolist())
    numbered = read(folder(tmp_path, {"file": ids(), "class": [i % 3 for i in range(COUNT)]}), "single_label")
    assert numbered.outputs == ["0", "1", "2"]
    for i, kind in enumerate(kinds):
        place = tmp_path / "by_class" / kind / "deeper"
        place.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / "images" / f"p{i}.png", place)
    shutil.copy(root / "images" / "p0.png", tmp_path / "by_class" / "loose.png")
    (tmp_path / "by_class" / "cat" / "._p0.png").write_text("what a Mac leaves behind")
    data = read(tmp_path / "by_class", "single_label")
    assert data.outputs == ["bird", "cat", "dog"]
    assert np.bincount(data.y).tolist() == [13, 14, 13]
    assert noted(data, "the class of an image is its subfolder: bird, cat, dog")
    assert noted(data, "1 image outside of the subfolders, left out")


def test_numbers_are_regressed_on(tmp_path: Path) -> None:
    table: dict[str, list[Any]] = {
        "Id": ids(),
        "note": [f"text {i}" for i in range(COUNT)],
        "price": [i * 1.5 for i in range(COUNT)],
    }
    data = read(folder(tmp_path, table), "regression")
    assert (data.outputs, str(data.y.dtype), data.y.shape) == (["price"], "float32", (COUNT, 1))
    for name, price in zip(data.titles or [], data.y[:, 0], strict=True):
        assert price == 1.5 * int(Path(name).stem[1:])
    table["more"] = list(range(COUNT))
    table["price"][3] = "N/A"
    root = folder(tmp_path, table)
    with pytest.raises(Refused, match=r"several columns \(price, more\) .*: type data.target=price, or another"):
        read(root, "regression")
    two = read(root, "regression", target=["price", "more"], none=["N/A"])
    assert two.y.shape == (COUNT - 1, 2)
    assert noted(two, "N/A is no label: 1 row")


def test_labels_that_are_none_or_rare_are_taken_out(tmp_path: Path) -> None:
    cells = genres("|")
    cells[3], cells[8], cells[0] = "N/A", "Sport|Chess", "Comedy|Drama|Chess"
    root = folder(tmp_path, {"Id": ids(), "Genre": cells})
    data = read(root, none=["N/A"], min_count=3)
    assert labels(data) == EXPECTED | {"p8": set()}
    assert noted(data, "N/A is no label: 1 row")
    assert noted(data, "2 labels of fewer than 3 images left out: Chess 2, Sport 1")
    assert noted(data, "8 images with no label at all")
    data = read(root, none=["N/A"], min_count=3, rare="merge")
    assert labels(data) == EXPECTED | {"p8": {"other"}, "p0": {"Comedy", "Drama", "other"}}
    assert noted(data, "2 labels of fewer than 3 images merged into other")
    with pytest.raises(Refused, match=r"no label has data.min_count=500 images: type a smaller number"):
        read(root, min_count=500)


def test_images_of_a_rare_class_are_left_out_or_merged(tmp_path: Path) -> None:
    kinds = ["a", "b"] * (COUNT // 2)
    kinds[:4] = ["c", "c", "d", "N/A"]
    root = folder(tmp_path, {"Id": ids(), "kind": kinds})
    data = read(root, "single_label", none=["N/A"], min_count=3)
    assert data.outputs == ["a", "b"]
    used = np.concatenate(list(data.split.values()))
    assert {Path((data.titles or [])[row]).stem for row in used} == set(ids()[4:])
    for row in used:
        assert data.outputs[data.y[row]] == kinds[int(Path((data.titles or [])[row]).stem[1:])]
    assert noted(data, "3 images of those classes left out")
    merged = read(root, "single_label", none=["N/A"], min_count=3, rare="merge")
    assert (merged.outputs, len(merged.y)) == (["a", "b", "other"], COUNT - 1)


def test_a_class_that_no_test_image_has_is_named(tmp_path: Path) -> None:
    table = pd.DataFrame({"Id": ids(), "Kind": ["owl"] * (COUNT // 2) + ["cat"] * (COUNT - COUNT // 2 - 1) + ["lynx"]})
    data = read(folder(tmp_path, table), "single_label")
    assert noted(data, "no test row has class lynx: test metrics say nothing of it")


def test_what_is_left_out_is_counted_and_listed(tmp_path: Path) -> None:
    table = pd.DataFrame({"Id": ids(), "Genre": genres("|")})
    extra = pd.DataFrame({"Id": ["p0", "gone", "lost"], "Genre": ["War", "War", "War"]})
    root = folder(tmp_path, pd.concat([table, extra]))
    (root / "images" / "p5.png").write_bytes(b"broken")
    picture(1).save(root / "images" / "p6.png")
    (root / "more").mkdir()
    shutil.copy(root / "images" / "p7.png", root / "more")
    picture(77).save(root / "more" / "unknown.png")
    data = read(root)
    expected = {name: row for name, row in EXPECTED.items() if name not in ("p5", "p6", "p7")}
    assert labels(data) == expected | {"p0": {"Comedy", "Drama", "War"}, "p1": EXPECTED["p1"] | EXPECTED["p6"]}
    for note in (
        "1 image cannot be read, left out: images/p5.png",
        "1 image with the pixels of another (their labels are added to the first), left out: images/p6.png",
        "2 rows of the table have no image, left out: gone, lost",
        "1 row of the table name several images, left out: p7",
        "1 row of the table name an image again (their labels are added to the first), left out: p0",
        "3 images in no row of labels.csv, left out",
    ):
        assert note in data.notes
    listed = next(note for note in data.notes if "problems.csv" in note).split()[-1]
    with Path(listed).open() as lines:
        problems = {row["file"]: row["problem"] for row in csv.DictReader(lines)}
    assert set(problems) == {"images/p5.png", "images/p6.png", "gone", "lost", "p7", "p0"}
    assert problems["images/p6.png"] == "has the pixels of images/p1.png"
    assert problems["p0"] == f"stands in row {COUNT + 1} again"


def test_broken_images_are_counted_by_class(tmp_path: Path) -> None:
    kinds = [["cat", "dog", "owl"][number % 3] for number in range(COUNT)]
    root = folder(tmp_path, {"Id": ids(), "Kind": kinds})
    for number in (0, 3, 1):
        (root / "images" / f"p{number}.png").write_bytes(b"broken")
    (note,) = (note for note in read(root, "single_label").notes if "cannot be read" in note)
    assert note.startswith(
        f"3 images cannot be read, left out (cat 2 of {kinds.count('cat')}, dog 1 of {kinds.count('dog')}): "
    )


def test_a_second_copy_of_another_class_is_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path, {"Id": ids(), "kind": ["a", "b"] * (COUNT // 2)})
    picture(1).save(root / "images" / "p2.png")
    data = read(root, "single_label")
    assert noted(data, "1 image with the pixels of another (1 with another target than the first), left out")
    assert len(data.y) == COUNT - 1


def test_groups_are_never_split(tmp_path: Path) -> None:
    patients = [f"patient {i % 13}" if i % 13 else "" for i in range(COUNT)]  # the empty cells are no group
    root = folder(tmp_path, {"Id": ids(), "Genre": genres("|"), "patient": patients})
    splits: list[dict[str, Any]] = [{"seed": seed} for seed in range(5)]
    splits += [{"folds": 3, "fold": fold} for fold in range(3)]
    tested: list[int] = []
    for split in splits:
        data = read(root, group="patient", **split)
        tested += data.split["test"].tolist() if "fold" in split else []
        parts = [{patients[int(Path((data.titles or [])[r]).stem[1:])] for r in rows} for rows in data.split.values()]
        assert not set.intersection(*parts) - {""}
        for one, other in ((0, 1), (0, 2), (1, 2)):
            assert not parts[one] & parts[other] - {""}
        assert sorted(np.concatenate(list(data.split.values()))) == list(range(COUNT))
    assert sorted(tested) == list(range(COUNT))


def test_a_split_of_groups_keeps_classes_in_proportion() -> None:
    groups = np.repeat(np.arange(300), 3)
    strata = np.where(groups < 60, 1, 0)
    rows = split_rows(900, val=0.2, test=0.2, seed=0, strata=strata, groups=groups)
    for part in ("val", "test"):
        assert len(rows[part]) == 180
        assert strata[rows[part]].sum() == pytest.approx(36, abs=3)
    mixed = np.where(np.arange(900) % 3 == 2, strata, 0)  # only the last row of 20 groups in a hundred is of class 1
    for seed in range(5):
        rows = split_rows(900, val=0.2, test=0.2, seed=seed, strata=mixed, groups=groups)
        assert [mixed[rows[part]].sum() for part in ("val", "test")] == pytest.approx([12, 12], abs=1)
    alone = split_rows(900, val=0.2, test=0.2, seed=3, strata=strata, groups=np.arange(900))
    without = split_rows(900, val=0.2, test=0.2, seed=3, strata=strata)
    assert all(np.array_equal(alone[part], without[part]) for part in without)


def test_of_several_tables_one_is_named(tmp_path: Path) -> None:
    root = folder(tmp_path, {"Id": ids(), "Genre": genres("|")})
    (root / "labels.csv").rename(root / "mine.csv")
    pd.DataFrame({"other": ["table"]}).to_csv(root / "other.csv")
    assert labels(read(root, labels="mine.csv")) == labels(read(root, labels=str(root / "mine.csv"))) == EXPECTED


@pytest.mark.parametrize(
    ("task", "more", "sentence"),
    [
        ("multi_label", {"labels": "nowhere.csv"}, "data.labels=nowhere.csv is not there"),
        ("multi_label", {"file": "id"}, "data.file=id is not a column of labels.csv; nearest: Id"),
        ("multi_label", {"file": "year"}, r"data.file=year holds '1980', and the images are called images/p0.png, .*: "
         "type data.file=COLUMN"),
        ("multi_label", {"target": "Genres"}, "data.target=Genres is not a column of labels.csv; nearest: Genre"),
        ("multi_label", {"target": ["Genre", "year"]}, "label column Genre holds"),
        ("multi_label", {"group": "yer"}, "data.group=yer is not a column of labels.csv; nearest: year"),
        ("multi_label", {"none": ["Comedy", "Drama"]}, r"data.target=Genre has one label only \(War\)"),
        ("multi_label", {"target": "Id"}, "data.target=Id has 40 labels in 40 rows"),
        ("single_label", {"target": "year"}, "40 different numbers, which are no classes"),
        ("single_label", {"target": ["a", "b"]}, "rows with no 1 or several: task=single_label needs one in each"),
        ("single_label", {"target": "half"}, "column half holds no value in 20 of 40 rows"),
        ("regression", {"target": "Id"}, "data.target=Id holds text"),
        ("regression", {"target": "half"}, "column half holds no value in 20 of 40 rows"),
        ("multi_label", {"val": 0.5, "test": 0.5}, "too few to split"),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_is_refused_in_a_sentence(
    tmp_path: Path, task: str, more: dict[str, Any], sentence: str
) -> None:
    flags = {"a": [0, 1] * 20, "b": [0, 1] * 20}
    table = {"Id": ids(), "Genre": genres("|"), "year": range(1980, 2020), "half": ["", "1"] * 20, **flags}
    with pytest.raises(Refused, match=sentence):
        read(folder(tmp_path, table), task, **more)


@pytest.mark.parametrize(
    ("task", "held"), [("regression", "numbers"), ("single_label", "the class"), ("multi_label", "labels")]
)
def test_a_table_in_which_nothing_is_found_is_refused(tmp_path: Path, task: str, held: str) -> None:
    root = folder(tmp_path, {"Id": ids(), "note": [f"text {i}" for i in range(COUNT)]})
    sentence = rf"labels.csv has no column that could hold {held} .it has note.: type data.target=COLUMN"
    with pytest.raises(Refused, match=sentence):
        read(root, task)


def test_a_folder_that_does_not_fit_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"data.path=.*nowhere is not there: type a folder"):
        read(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match=r"data.path=.*file is a file: type the folder that holds the images"):
        read(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(Refused, match="empty holds no images"):
        read(tmp_path / "empty")
    root = folder(tmp_path, None)
    with pytest.raises(Refused, match=r"no CSV or TSV, which task=multi_label needs: type data.labels=FILE"):
        read(root)
    with pytest.raises(Refused, match="neither a CSV or TSV of labels nor a subfolder for each class"):
        read(root, "single_label")
    pd.DataFrame({"Id": ["x", "y"], "Genre": ["a", "b"]}).to_csv(root / "a.csv", index=False)
    with pytest.raises(Refused, match=r"columns of a.csv \(Id, Genre\) hold none of the names, and the images are"):
        read(root)
    shutil.copy(root / "a.csv", root / "b.csv")
    with pytest.raises(Refused, match=r"holds 2 tables \(a.csv, b.csv\): type data.labels=.*a.csv"):
        read(root)


def test_mistakes_are_told_without_torch(command: Command, tmp_path: Path) -> None:
    done = command("task=multi_label", "data=images", "model=cnn", f"data.path={tmp_path / 'nowhere'}")
    assert done.returncode == 1
    assert done.stderr == f"losslab: data.path={tmp_path / 'nowhere'} is not there: type a folder\n"
    done = command("task=multi_label", "data=images", "model=cnn", "data.path=.", "data.size=[0,1]")
    assert (
        "data.size=[0, 1] does not fit: it must be a list of 2 whole numbers of at least 1, height and width"
        in done.stderr
    )


@pytest.mark.skipif(not POSTERS.is_file(), reason="the posters do not lie beside the project")
def test_three_hundred_real_posters(tmp_path: Path) -> None:
    shutil.unpack_archive(POSTERS, tmp_path / "all")
    frame = pd.read_csv(tmp_path / "all" / "labels.csv", dtype=str, keep_default_na=False)[:300]
    root = tmp_path / "some"
    root.mkdir()
    frame.to_csv(root / "labels.csv", index=False)
    for name in frame["Id"]:
        (tmp_path / "all" / "images" / f"{name}.jpg").rename(root / f"{name}.jpg")
    data = read(root, size=[144, 96], none=["N/A"], min_count=20)
    assert data.x.shape == (300, 3, 144, 96)
    assert noted(data, "labels.csv: images by Id, labels from Genre")
    assert noted(data, "25 columns of 0 and 1 are not used")
    hot = frame.set_index("Id")[data.outputs].astype(int)
    for row, name in enumerate(data.titles or []):
        assert data.y[row].tolist() == list(hot.loc[Path(name).stem])
    assert set(data.outputs) == {n for n in frame.columns[2:] if n != "N/A" and list(frame[n]).count("1") >= 20}
