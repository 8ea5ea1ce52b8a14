"""What the pictures show, read off the figures; how they look was looked at."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import same_color
from sklearn.calibration import calibration_curve

from losslab import pictures
from losslab.data.dataset import Dataset

COLOURS = {"\u2713": "black", "\u25cb": pictures.BLUE, "\u2717": pictures.ORANGE}


def labelled(y: Any, names: list[str], shape: tuple[int, ...] = (3, 12, 8)) -> Dataset:
    every = np.arange(len(y))
    x = np.random.default_rng(0).integers(0, 256, (len(y), *shape)).astype(np.uint8)
    return Dataset(x, np.array(y), dict.fromkeys(("train", "val", "test"), every), shape, names)


@pytest.mark.parametrize("shape", [(3, 12, 8), (1, 8, 8)])
def test_below_each_image_stand_its_labels_right_missed_and_wrong(shape: tuple[int, ...], tmp_path: Path) -> None:
    data = labelled([[1, 1, 0, 0], [0, 0, 0, 1]], ["Drama", "Comedy", "War", "A long name of a genre"], shape)
    drawn = pictures.label_grid(data, np.array([[1, 0, 1, 0], [0, 0, 0, 0]]))
    key, shown = drawn.texts[:3], drawn.texts[3:]
    assert [text.get_text() for text in key] == ["\u2713 right", "\u25cb missed", "\u2717 wrong"]
    said = ["\u2713 Drama", "\u25cb Comedy", "\u2717 War", "\u25cb A long name of a\u2026"]
    assert [text.get_text() for text in shown] == said
    assert all(same_color(text.get_color(), COLOURS[text.get_text()[0]]) for text in drawn.texts)
    drawn.savefig(tmp_path / "labels.png")  # a glyph that the font lacks would warn, which is an error here
    assert len(drawn.axes) == 2
    for axis, image in zip(drawn.axes, np.asarray(data.x), strict=True):
        pixels = np.asarray(axis.images[0].get_array())
        np.testing.assert_array_equal(pixels, image.transpose(1, 2, 0) if shape[0] == 3 else image[0])
        box = axis.get_window_extent()
        assert box.height / box.width == pytest.approx(shape[1] / shape[2], rel=0.01)


def test_no_caption_touches_another_or_an_image(tmp_path: Path) -> None:
    names = [f"Documentary number {i}" for i in range(12)]
    y = np.random.default_rng(1).integers(0, 2, (24, 12))
    drawn = pictures.label_grid(labelled(y, names), 1 - y)
    drawn.savefig(tmp_path / "labels.png")
    boxes = [text.get_window_extent() for text in drawn.texts] + [axis.get_window_extent() for axis in drawn.axes]
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
    assert [text.get_text() for text in pictures.image_grid(data, samples).texts] == ["cat", "dog", "said cat"]


def test_the_reliability_diagram_is_scikit_learns_curve() -> None:
    random = np.random.default_rng(0)
    p = random.random(2000)
    y = (random.random(2000) < p**1.3).astype(int)
    above, below = pictures.reliability(p, y).axes
    share, mean = calibration_curve(y, p, n_bins=15)
    line = next(line for line in above.lines if line.get_label() == "test rows")
    np.testing.assert_allclose(np.asarray(line.get_xydata()), np.c_[mean, share])
    bars: Any = below.patches
    assert sum(bar.get_height() for bar in bars) == 2000
