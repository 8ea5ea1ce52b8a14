"""What the pictures show, read off the figures."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from sklearn.calibration import calibration_curve

from losslab.data.dataset import Dataset
from losslab.page import figures, image_grids, pictures

COLOURS = {"\u2713": "black", "\u25cb": figures.BLUE, "\u2717": figures.ORANGE}


def labelled(y: Any, names: list[str], shape: tuple[int, ...] = (3, 12, 8)) -> Dataset:
    every = np.arange(len(y))
    x = np.random.default_rng(0).integers(0, 256, (len(y), *shape)).astype(np.uint8)
    return Dataset(x, np.array(y), dict.fromkeys(("train", "val", "test"), every), shape, names)


def places_of_images(drawn: Figure, data: Dataset) -> list[tuple[int, int]]:
    """The upper left corner, in pixels, of each image on the sheet of them, found by what it shows."""
    sheet = np.asarray(drawn.axes[0].images[0].get_array())
    sheet = sheet[..., None] if sheet.ndim == 2 else sheet
    x = np.asarray(data.x).transpose(0, 2, 3, 1)
    windows = np.lib.stride_tricks.sliding_window_view(sheet, x.shape[1:])[:, :, 0]
    return [(int(top), int(left)) for image in x for top, left in np.argwhere((windows == image).all((2, 3, 4)))]


@pytest.mark.parametrize("shape", [(3, 12, 8), (1, 8, 8)])
def test_below_each_image_stand_its_labels_right_missed_and_wrong(shape: tuple[int, ...], tmp_path: Path) -> None:
    data = labelled([[1, 1, 0, 0], [0, 0, 0, 1]], ["Drama", "Comedy", "War", "A long name of a genre"], shape)
    drawn = image_grids.draw_labels(data, np.array([[1, 0, 1, 0], [0, 0, 0, 0]]))
    key, shown = drawn.texts[:3], drawn.texts[3:]
    assert [text.get_text() for text in key] == ["\u2713 right", "\u25cb missed", "\u2717 wrong"]
    said = ["\u2713 Drama", "\u25cb Comedy", "\u2717 War", "\u25cb A long name of a\u2026"]
    assert [text.get_text() for text in shown] == said
    assert all(same_color(text.get_color(), COLOURS[text.get_text()[0]]) for text in drawn.texts)
    drawn.savefig(tmp_path / "labels.png")  # a glyph that the font lacks would warn, which is an error here
    sheet, places = np.asarray(drawn.axes[0].images[0].get_array()), places_of_images(drawn, data)
    assert len(places) == 2
    for (top, left), image in zip(places, np.asarray(data.x), strict=True):
        pixels = sheet[top : top + shape[1], left : left + shape[2]]
        np.testing.assert_array_equal(pixels, image.transpose(1, 2, 0) if shape[0] == 3 else image[0])
        sheet[top : top + shape[1], left : left + shape[2]] = white = sheet[0, 0]
    assert (sheet == white).all(), "nothing but the images"
    box = drawn.axes[0].get_window_extent()
    assert box.height / box.width == pytest.approx(sheet.shape[0] / sheet.shape[1], rel=0.01), "pixels are square"


def test_no_caption_touches_another_or_an_image(tmp_path: Path) -> None:
    names = [f"Documentary number {i}" for i in range(12)]
    y = np.random.default_rng(1).integers(0, 2, (24, 12))
    data = labelled(y, names)
    drawn = image_grids.draw_labels(data, 1 - y)
    drawn.savefig(tmp_path / "labels.png")
    pixel = drawn.bbox.width / np.asarray(drawn.axes[0].images[0].get_array()).shape[1]
    images = [
        Bbox.from_bounds(left * pixel, drawn.bbox.height - (top + 12) * pixel, 8 * pixel, 12 * pixel)
        for top, left in places_of_images(drawn, data)
    ]
    boxes = [text.get_window_extent() for text in drawn.texts] + images
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[i + 1 :])
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= drawn.bbox.x1
        assert box.y1 <= drawn.bbox.y1
    assert sum(text.get_text() == "and 6 more" for text in drawn.texts) == 24


def test_a_class_that_was_said_wrongly_stands_below_the_true_one() -> None:
    data = labelled([0, 1], ["cat", "dog"])
    samples = [{"true": "cat", "predicted": "cat"}, {"true": "dog", "predicted": "cat"}]
    assert [text.get_text() for text in image_grids.draw_classes(data, samples).texts] == ["cat", "dog", "said cat"]


def test_the_reliability_diagram_is_scikit_learns_curve() -> None:
    random = np.random.default_rng(0)
    p = random.random(2000)
    y = (random.random(2000) < p**1.3).astype(int)
    above, below = pictures.draw_reliability(p, y).axes
    share, mean = calibration_curve(y, p, n_bins=15)
    line = next(line for line in above.lines if line.get_label() == "test rows")
    np.testing.assert_allclose(np.asarray(line.get_xydata()), np.c_[mean, share])
    bars: Any = below.patches[0]
    np.testing.assert_array_equal(bars.get_data().values, np.histogram(p, 15, (0, 1))[0])


LONG = ["cat", "A BROADLY NAMED CLASS, 5$ OR 6$", "A name of a class, and so long a name that it is cut"]


def crowded() -> Iterator[Figure]:
    """Pictures with long names, or wide numbers at their axes."""
    random = np.random.default_rng(0)
    y, wide = random.integers(0, 3, 50), random.normal(size=(50, 2)) * 1e5
    keys = [f"{part}/{name}" for part in ("train", "val") for name in ("loss", "rmse")]
    history = [{"epoch": i, **dict.fromkeys(keys, 1234.5 * 10.0**-i)} for i in range(6)]
    every = dict.fromkeys(("train", "val", "test"), np.arange(50))
    for classes in (1, 6, 8):
        yield pictures.draw_confusion_matrix(y, y, LONG * classes)
    yield pictures.draw_average_precisions(random.random(30), random.random(30), LONG * 10)
    yield pictures.draw_predictions(wide, wide, ["price in euros", "rent"])
    yield pictures.draw_fit(Dataset(wide[:, :1], wide[:, 1:], every, (1,), ["rent"], ["size"]), wide[:, 1:])
    yield pictures.draw_curves(history, "rmse", 5)
    yield pictures.draw_reliability(random.random(99), random.integers(0, 2, 99))


def test_nothing_is_cut_off_and_no_label_touches_names_or_numbers(tmp_path: Path) -> None:
    for drawn in crowded():
        drawn.savefig(tmp_path / "picture.png")
        sides = [side for axis in drawn.axes for side in (axis.xaxis, axis.yaxis)]
        labels = [side.label.get_window_extent() for side in sides if side.label.get_text()]
        for side in sides:
            side.label.set_visible(False)
        numbers = [box for side in sides if (box := side.get_tightbbox())]
        names = [text.get_window_extent() for axis in drawn.axes for text in axis.texts]
        assert len(labels) >= len(drawn.axes)
        for box in (*labels, *numbers, *names):
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= drawn.bbox.x1
            assert box.y1 <= drawn.bbox.y1
        assert not any(label.overlaps(box) for label in labels for box in (*numbers, *names))
