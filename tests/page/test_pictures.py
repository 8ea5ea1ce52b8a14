"""What the pictures show, read off the figures."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LinearRegression

from losslab.data.dataset import Dataset
from losslab.page import figures, image_grids, pictures
from losslab.tasks import Regression
from tests.losses.examples import dataset, loss_named, prepared

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


@pytest.mark.parametrize("name", ["Documentary number", "Drama no", "Film"])
def test_no_caption_touches_another_or_an_image(name: str, tmp_path: Path) -> None:
    names = [f"{name} {i}" for i in range(12)]
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
    assert [text.get_text() for text in image_grids.draw_classes(data, samples).texts] == ["cat", "dog", "\u2717 cat"]


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
    interval = pictures.Interval(wide - 1e5, wide + 1e5, 0.8)
    yield pictures.draw_predictions(wide, wide, ["price in euros", "rent"], interval)
    yield pictures.draw_predictions(np.exp(wide / 1e5) * 1000, np.exp(wide / 1e5) * 900, ["price in euros", "rent"])
    yield pictures.draw_one_row(wide[0], wide[1], ["price in euros", "rent"])
    data = Dataset(wide[:, :1], wide[:, 1:], every, (1,), ["rent"], ["size"])
    yield pictures.draw_fit(data, wide[:, 1:], interval)
    for labels in ({}, {"loss": "loss of " + "a name " * 9, "rmse": "rmse in units of " + "a name " * 9}):
        yield pictures.draw_curves(history, "rmse", 5, labels)
    yield pictures.draw_reliability(random.random(99), random.integers(0, 2, 99))


def test_nothing_is_cut_off_and_no_label_touches_names_or_numbers(tmp_path: Path) -> None:
    for drawn in crowded():
        figures.add_title(drawn, ["test rmse 1.234, epoch 5 of 6", "regression" + " \N{MIDDLE DOT} a name" * 13])
        with (tmp_path / "picture.png").open("wb") as out:
            figures.save_png(drawn, out)
        titles = [text.get_window_extent() for text in drawn.texts]
        sides = [side for axis in drawn.axes for side in (axis.xaxis, axis.yaxis)]
        labels = [side.label.get_window_extent() for side in sides if side.label.get_text()]
        for side in sides:
            side.label.set_visible(False)
        numbers = [box for side in sides if (box := side.get_tightbbox())]
        names = [text.get_window_extent() for axis in drawn.axes for text in axis.texts]
        plots = [axis.get_window_extent() for axis in drawn.axes]
        assert len(labels) >= len(drawn.axes)
        assert not any(title.overlaps(box) for title in titles for box in (*labels, *numbers, *names, *plots))
        for box in (*labels, *numbers, *names, *titles):
            assert box.x0 >= 0
            assert box.y0 >= 0
            assert box.x1 <= drawn.bbox.x1
            assert box.y1 <= drawn.bbox.y1
        assert not any(label.overlaps(box) for label in labels for box in (*numbers, *names))


def histories(kind: str, epochs: int) -> list[dict[str, float]]:
    """The rows of a run whose loss falls, spreads over orders of magnitude, or is steep and then jitters."""
    at = np.arange(epochs)
    values = {
        "falls": 2 - at / epochs,
        "orders": 10.0 ** (-4 * at / epochs),
        "jitters": 1 + 0.1 * (at % 2) + 99 * (at == 0),
    }
    return [
        {
            "epoch": float(epoch),
            **{f"{part}/{name}": float(value) for part in ("train", "val") for name in ("loss", "rmse")},
        }
        for epoch, value in enumerate(values[kind])
    ]


@pytest.mark.parametrize(
    ("kind", "epochs", "dots", "across", "up"),
    [
        ("falls", 1, True, "epoch", "rmse"),
        ("falls", 25, True, "epoch", "rmse"),
        ("falls", 26, False, "epoch", "rmse"),
        ("orders", 30, False, "epoch", "rmse (log axis)"),
        ("orders", 10_000, False, "epoch (log axis)", "rmse (log axis)"),
        ("jitters", 99, False, "epoch", "rmse (log axis)"),
        ("jitters", 200, False, "epoch (the first ones lie outside)", "rmse"),
        ("jitters", 2000, False, "epoch (log axis)", "rmse (log axis)"),
    ],
)
def test_curves_count_epochs_from_1_and_tell_their_axes(
    kind: str, epochs: int, dots: bool, across: str, up: str
) -> None:
    history = histories(kind, epochs)
    best = epochs - 1
    drawn = pictures.draw_curves(history, "rmse", best, {"loss": "loss mae"})
    loss, axis = drawn.axes
    assert (axis.get_xlabel(), axis.get_ylabel()) == (across, up)
    assert loss.get_ylabel().startswith("loss mae")
    assert axis.get_xscale() == ("log" if epochs >= 1000 else "linear")
    assert axis.get_yscale() == ("log" if "log axis" in up else "linear")
    train, val, line = axis.lines[:3]
    np.testing.assert_allclose(np.asarray(val.get_xdata()), np.arange(1, epochs + 1))
    np.testing.assert_allclose(np.asarray(train.get_xdata()), np.arange(1, epochs + 1) - 0.5)
    assert (train.get_marker() == val.get_marker() == "o") == dots
    assert str(line.get_label()) == f"best epoch ({best + 1})"
    (low, high), (left, right) = axis.get_ylim(), axis.get_xlim()
    shown = [row["val/rmse"] for row in history[epochs // 20 if "outside" in across else 0 :]]
    assert low <= min(shown) <= max(shown) <= high
    assert left <= 0.5 <= epochs <= right
    if "outside" in across:
        assert high < 2, "the jitter is what is seen"


def test_a_letter_that_the_font_lacks_is_a_box_and_no_warning() -> None:
    drawn, axes = figures.make_axes(1.0, 1.0)
    axes[0, 0].set(xlabel="\N{RED APPLE} price")
    figures.save_png(figures.fit_margins(drawn), io.BytesIO())


@pytest.mark.parametrize("kind", ["falls", "orders", "jitters"])
def test_the_legend_of_the_curves_covers_no_panel_and_no_title(kind: str) -> None:
    drawn = figures.add_title(pictures.draw_curves(histories(kind, 30), "rmse", 29), ["test rmse 1", "a run"])
    figures.save_png(drawn, io.BytesIO())
    legend = drawn.axes[0].get_legend()
    assert legend is not None
    box = legend.get_window_extent()
    others = [*(axis.get_window_extent() for axis in drawn.axes), *(text.get_window_extent() for text in drawn.texts)]
    assert not any(box.overlaps(other) for other in others)
    assert 0 <= box.x0 < box.x1 <= drawn.bbox.x1


@pytest.mark.parametrize(
    ("predicted", "said"),
    [
        ([], None),
        ([-5.0, 0.0], "2 predictions are 0 or less"),
        ([-5.0], "1 prediction is 0 or less"),
        ([0.01, -5.0], "2 predictions are below 3.33, 1 of them 0 or less"),
    ],
)
def test_predictions_that_a_log_axis_cannot_show_have_another_mark(predicted: list[float], said: str | None) -> None:
    true = np.geomspace(100, 10_000, 50 + len(predicted))[:, None]
    values = true * 0.9
    values[: len(predicted), 0] = predicted
    above, below = pictures.draw_predictions(true, values, ["price"]).axes
    assert above.get_yscale() == "log"
    legend = above.get_legend()
    assert (legend and [text.get_text() for text in legend.get_texts()]) == (said and [said])
    dots, *others = above.collections
    np.testing.assert_allclose(np.asarray(dots.get_offsets()), np.c_[true, values][len(predicted) :])
    assert sum(len(np.asarray(each.get_offsets())) for each in others) == len(predicted)
    assert len(np.asarray(below.collections[0].get_offsets())) == len(true), "all have their residual"


@pytest.mark.parametrize("seed", range(20))
def test_thin_bins_are_merged_with_their_neighbours_alone(seed: int) -> None:
    random = np.random.default_rng(seed)
    counts = random.poisson(random.choice([0, 5, 30, 200], 15))
    merged = pictures.merge_thin(counts)
    assert merged[0] == 0
    assert set(np.diff(merged)) <= {0, 1}
    totals = np.bincount(merged, weights=counts)
    assert (totals >= 30).all() or len(totals) == 1
    for new in set(merged):
        inside = counts[merged == new]
        assert new == merged[-1] or inside[:-1].sum() < 30, "no more than it takes"


@pytest.mark.parametrize("loss", ["quantile", "gaussian_nll"])
def test_intervals_are_the_levels_or_a_normals_and_say_what_they_hold(loss: str) -> None:
    task, scores, y = prepared("regression", rows=50, loss=loss)
    assert isinstance(task, Regression)
    interval = task.interval(scores.detach())
    assert interval is not None
    data = dataset(y.numpy())
    columns = task.columns(data, loss_named(loss), scores.detach())
    for number, name in enumerate(data.outputs):
        if loss == "quantile":
            ends = [columns[f"{name}, quantile {level}"].numpy() for level in (0.1, 0.9)]
        else:
            spread = columns[f"{name}, standard deviation"].numpy()
            ends = list(norm.interval(0.8, loc=columns[name].numpy(), scale=spread))
        np.testing.assert_allclose([interval.low[:, number], interval.high[:, number]], ends, rtol=1e-5, atol=1e-6)
        held = np.mean(
            [low <= value <= high for low, value, high in zip(ends[0], y[:, number].numpy(), ends[1], strict=True)]
        )
        assert interval.describe(number, y[:, number].numpy()) == f"80 % interval, holds {100 * held:.0f} %"
    shown = pictures.draw_predictions(y.numpy(), task.estimate(scores.detach()).numpy(), data.outputs, interval)
    assert sum(len(axis.collections[0].get_segments()) == 50 for axis in shown.axes[:3]) == 3  # type: ignore[attr-defined]
    plain, scores, y = prepared("regression")
    assert isinstance(plain, Regression)
    assert plain.interval(scores.detach()) is None


@pytest.mark.parametrize("weighted", [False, True])
def test_the_line_beside_the_fitted_one_is_least_squares_of_the_training_rows(weighted: bool) -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(150, 20, (40, 1)), random.normal(70, 9, (40, 1))
    split = {"train": np.arange(30), "val": np.arange(30, 35), "test": np.arange(35, 40)}
    weight = random.random(40).astype(np.float32) if weighted else None
    data = Dataset(x.astype(np.float32), y.astype(np.float32), split, (1,), ["kg"], ["cm"], weight=weight)
    drawn = pictures.draw_fit(data, y[35:].astype(np.float32))
    line = next(line for line in drawn.axes[0].lines if line.get_label() == "least squares")
    fitted = LinearRegression().fit(x[:30], y[:30, 0], None if weight is None else weight[:30])
    at = np.asarray(line.get_xydata())
    np.testing.assert_allclose(at[:, 1], fitted.predict(at[:, :1]), rtol=1e-5)


def test_one_row_of_several_targets_is_one_picture_and_short_class_names_are_not_turned() -> None:
    drawn = pictures.draw_predictions(np.array([[50.0, 29, 340, 67]]), np.array([[50.0, 40, 350, 66]]), list("abcd"))
    (axis,) = drawn.axes
    assert np.asarray(axis.lines[1].get_ydata()).tolist() == [50, 40, 350, 66]
    for names, turned in (([str(i) for i in range(10)], {0.0}), (["cat", "dog"], {0.0, 90.0})):
        drawn = pictures.draw_confusion_matrix(np.array([0, 1]), np.array([0, 1]), names)
        assert {text.get_rotation() for text in drawn.axes[0].texts} == turned


@pytest.mark.parametrize("weighted", [False, True])
def test_the_title_says_what_the_run_is_what_it_reached_and_that_rows_count_once(weighted: bool) -> None:
    task, scores, y = prepared("regression")
    data = dataset(y.numpy())
    data.weight = np.ones(len(y), np.float32) if weighted else None
    config: dict[str, Any] = {
        "task": "regression",
        "task.yardstick": "rmse",
        "data": "diamonds",
        "model": "mlp",
        "loss": "mae",
    }
    config |= {"loss.input": "prediction", "optimizer": "adam", "optimizer.lr": 0.001, "seed": 3}
    summary = {"best_epoch": 1.0, "epochs": 3.0, "test/rmse": 645.43}
    drawn = pictures.draw_run(task, data, scores.detach(), histories("falls", 3), config, summary)
    assert set(drawn) == {"curves", "predicted"}
    for name, figure in drawn.items():
        title = " ".join(text.get_text() for text in figure.texts).replace("\N{NO-BREAK SPACE}", " ")
        said = "test rmse 645.4, epoch 2 of 3 regression \N{MIDDLE DOT} diamonds \N{MIDDLE DOT} mlp \N{MIDDLE DOT} mae"
        assert title.startswith(said)
        assert "adam, lr 0.001 \N{MIDDLE DOT} seed 3" in title
        assert ("counts once here" in title) == (weighted and name != "curves")
    assert drawn["curves"].axes[0].get_ylabel() == "loss mae of standardised targets"
    assert drawn["curves"].axes[1].get_ylabel() == "rmse in units of the targets"


def test_a_saved_picture_is_the_one_that_is_drawn() -> None:
    drawn, out = pictures.draw_curves(histories("orders", 30), "rmse", 5), io.BytesIO()
    figures.save_png(drawn, out)
    read = Image.open(out)
    canvas: Any = FigureCanvasAgg(drawn)
    with rc_context({"text.hinting": "no_hinting"}):
        canvas.draw()
    np.testing.assert_array_equal(np.asarray(read), np.asarray(canvas.buffer_rgba()))
    assert read.info["dpi"] == pytest.approx((150, 150), abs=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_curves_of_any_fall_are_drawn_with_all_that_is_shown_inside(seed: int) -> None:
    """A steep start, then values over up to four powers of ten, with and without noise or zeros."""
    draw = np.random.default_rng(seed)
    epochs, powers = int(draw.integers(30, 200)), draw.uniform(0.5, 4)
    level = 10.0 ** -np.linspace(0, powers, epochs) * np.exp(draw.normal(0, draw.choice([0.0, 0.3]), (4, epochs)))
    level[:, : epochs // 30] *= 10.0 ** draw.uniform(0, 5)
    level[:, -1] *= draw.choice([0, 1])
    names = ("train/loss", "val/loss", "train/rmse", "val/rmse")
    history = [{"epoch": float(epoch), **dict(zip(names, level[:, epoch], strict=True))} for epoch in range(epochs)]
    for axis, rows in zip(pictures.draw_curves(history, "rmse", epochs - 1).axes, (level[:2], level[2:]), strict=False):
        low, high = axis.get_ylim()
        assert 0 < low < high if axis.get_yscale() == "log" else low < high
        assert low <= rows[:, epochs // 2 :].min()
        assert rows[:, epochs // 2 :].max() <= high
