"""What all figures share: colours, line styles and layout, drawn without a window and legible without colour vision."""

import struct
import textwrap
import warnings
import zlib
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from matplotlib.ticker import NullLocator

if TYPE_CHECKING:
    import pandas as pd

INK = "#000000"  # follows the page's ink in light and in dark
BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#7F7F7F"  # blue and orange are from the palette of Okabe and Ito
COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")  # the same palette
RUNS = 2000  # the page lists so many
STYLES = ("solid", (0, (5, 2)), (0, (1, 1.3)), (0, (6, 2, 1.2, 2)))


class Tip(NamedTuple):
    """What a mark of a plot is, in lines, and where on the page it leads: to a row, such as cell-3 or run-17."""

    text: str
    target: str = ""


class Plot(NamedTuple):
    """A plot of a comparison: its name, a sentence on what it shows, the figure, and the numbers in it.

    Artists of the figure whose gid is `mark:NAME` have the tips of that name, one for each of their marks.
    """

    name: str
    caption: str
    figure: Figure
    data: "pd.DataFrame"
    tips: Mapping[str, Sequence[Tip]] = MappingProxyType({})


def make_figure(
    width: float = 6.0, height: float = 4.5, rows: int = 1, columns: int = 1, **more: Any
) -> tuple[Figure, Any]:
    """Make an empty figure; its axes come as an array `(rows, columns)`. `more` goes to matplotlib's `subplots`."""
    drawn = Figure(figsize=(width, height), layout="constrained")
    return drawn, drawn.subplots(rows, columns, squeeze=False, **more)


def make_axes(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """Make a figure without margins whose axes have this size in inches; call `fit_margins` once they are drawn."""
    drawn = Figure(figsize=(columns * width, rows * height))
    axes = drawn.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.locator_params(nbins=5)
        for side in (axis.xaxis, axis.yaxis):
            side.set_major_formatter("{x:g}")
    return drawn, axes


def fit_margins(drawn: Figure, names: Iterable[str] = (), below: float = 0.5) -> Figure:
    """Add margins for the ticks and labels of the axes. Constrained layout is slower: it draws every text twice.

    Args:
        drawn: a figure from `make_axes`.
        names: texts to the left of the axes that stand there instead of ticks.
        below: inches for the ticks and the label below each of the axes.
    """
    grid = drawn.axes[0].get_gridspec()
    assert grid is not None

    def tick_labels(name: str) -> list[str]:
        return [text for axis in drawn.axes for text in format_ticks(getattr(axis, name))[1]]

    left, above = 0.4 + text_width([*names, *tick_labels("yaxis")]), 0.2
    right = max(above, text_width(tick_labels("xaxis")) / 2)  # the last number may extend beyond its axes
    wide, high = drawn.get_size_inches()
    width, height = wide + grid.ncols * (left + right), high + grid.nrows * (below + above)
    drawn.set_size_inches(width, height)
    drawn.subplots_adjust(
        *(left / width, below / height, 1 - right / width, 1 - above / height),
        *((left + right) * grid.ncols / wide, (below + above) * grid.nrows / high),
    )
    for axis in drawn.axes:  # place its labels at the outer edge of the margin
        box = axis.get_position()
        axis.yaxis.set_label_coords(-(left - 0.22) / (box.width * width), 0.5)
        axis.xaxis.set_label_coords(0.5, -(below - 0.22) / (box.height * height))
        write_ticks(axis)
    return drawn


def format_ticks(side: Any) -> tuple[list[float], list[str]]:
    """Return where the ticks of one side of a plot are, and their numbers, all with as many decimals as one needs."""
    low, high = sorted(side.get_view_interval())
    places = [float(place) for place in side.get_majorticklocs() if low <= place <= high]
    texts = side.get_major_formatter().format_ticks(places)
    if side.get_scale() == "linear" and not any("e" in text for text in texts):
        decimals = max((len(text.partition(".")[2]) for text in texts), default=0)
        texts = [f"{place:.{decimals}f}" for place in places]
    return places, texts


def write_ticks(axes: Any) -> None:
    """Replace the ticks of both axes by texts and marks that look the same: ticks take half the time of a picture."""
    wide, high = axes.get_position().size * axes.get_figure().get_size_inches()
    for side in (axes.xaxis, axes.yaxis):
        places, texts = format_ticks(side)
        side.set_major_locator(NullLocator())
        side.set_minor_locator(NullLocator())
        if not places:
            continue
        if side.axis_name == "x":
            along, marker, (x, y) = axes.get_xaxis_transform(), "|", (places, [-0.025 / high] * len(places))
            placed = {"ha": "center", "va": "top"}
        else:
            along, marker, (x, y) = axes.get_yaxis_transform(), "_", ([-0.025 / wide] * len(places), places)
            placed = {"ha": "right", "va": "center_baseline"}
        axes.add_line(Line2D(x, y, linestyle="", marker=marker, markersize=3.5, color="black", markeredgewidth=0.8,
                             transform=along, clip_on=False))  # fmt: skip
        for place, text in zip(places, texts, strict=True):
            at = (place, -0.09 / high) if side.axis_name == "x" else (-0.09 / wide, place)
            axes.text(*at, text, transform=along, parse_math=False, **placed)


def add_title(drawn: Figure, lines: Sequence[str]) -> Figure:
    """Write lines above all that a figure from `make_axes` shows: the first one bold, all wrapped to its width."""
    wide, high = drawn.get_size_inches()
    letters = int((wide - 0.2) / 0.065)  # of 8 points
    wrapped = [(part, n == 0) for n, line in enumerate(lines) for part in textwrap.wrap(line, letters - 8 * (n == 0))]
    taller = high + 0.17 * len(wrapped) + 0.08
    for text in drawn.texts:
        text.set_y(text.get_position()[1] * high / taller)
    for axis in drawn.axes:
        left, bottom, width, height = axis.get_position().bounds
        axis.set_position((left, bottom * high / taller, width, height * high / taller))
    drawn.set_size_inches(wide, taller)
    for place, (words, bold) in enumerate(wrapped):
        drawn.text(0.1 / wide, 1 - (0.08 + 0.17 * place) / taller, words, fontsize=8, va="top", parse_math=False,
                   fontweight="bold" if bold else "normal")  # fmt: skip
    return drawn


def lay_out(drawn: Figure, dpi: int) -> Figure:
    """Lay a figure out that is complete. Matplotlib would lay it out twice, and draw it twice, for each format."""
    drawn.set_dpi(dpi)
    if (engine := drawn.get_layout_engine()) is not None:
        engine.execute(drawn)
        drawn.set_layout_engine(None)
    return drawn


def save_png(drawn: Figure, out: BinaryIO, dpi: int = 150) -> None:
    """Write a figure as a PNG, as Matplotlib would, but in less time: letters are not hinted, and lines not filtered.

    Source: PNG Specification, third edition, W3C 2025.
    """
    drawn.set_dpi(dpi)
    canvas: Any = FigureCanvasAgg(drawn)
    hinting = rcParams["text.hinting"]
    rcParams["text.hinting"] = "no_hinting"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Glyph .* missing from font")  # a box stands for it, such as an emoji
            canvas.draw()
    finally:
        rcParams["text.hinting"] = hinting
    pixels = np.asarray(canvas.buffer_rgba())
    high, wide = pixels.shape[:2]
    lines = np.zeros((high, 1 + 4 * wide), np.uint8)  # each begins with its filter: 0, none
    lines[:, 1:] = pixels.reshape(high, -1)
    metre = round(dpi / 0.0254)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", wide, high, 8, 6, 0, 0, 0),  # 8 bits a channel, red green blue alpha
        b"pHYs": struct.pack(">IIB", metre, metre, 1),
        b"IDAT": zlib.compress(lines.tobytes(), 1),
        b"IEND": b"",
    }
    out.write(b"\x89PNG\r\n\x1a\n")
    for name, data in chunks.items():
        out.write(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)))


def text_width(texts: Iterable[str]) -> float:
    """Measure the widest of these texts as matplotlib draws them, in inches."""
    font = FontProperties()
    return max(float(text_to_path.get_text_width_height_descent(text, font, False)[0]) for text in ["", *texts]) / 72


def shorten(text: str, letters: int = 40) -> str:
    """Cut a text that does not fit, and write it on one line.

    >>> shorten("Documentary", 9), shorten("a\\nb")
    ('Document\u2026', 'a b')
    """
    text = " ".join(text[: 4 * letters].split())
    return text if len(text) <= letters else text[: letters - 1] + "\u2026"


def label_cell(cell: str, chosen: str) -> str:
    """Write the name of a cell at its mark, and whether it leads.

    >>> label_cell("mae", "mae"), label_cell("mse", "mae")
    ('mae (leads)', 'mse')
    """
    return f"{shorten(cell)} (leads)" if cell == chosen else shorten(cell)


def write_names(axis: Any, names: Sequence[str]) -> list[str]:
    """Write names at 0, 1, ... along an axis of `make_axes`, as ticks take longer; return them as they are shown."""
    axis.set_ticks([])
    texts, (wide, high) = [shorten(name) for name in names], axis.get_figure().get_size_inches()
    turned = 90 * any(len(text) > 2 for text in texts)
    for place, text in enumerate(texts):
        if axis.axis_name == "x":
            axis.axes.text(place, -0.08 / high, text, rotation=turned, ha="center", va="top",
                           transform=axis.axes.get_xaxis_transform(), parse_math=False)  # fmt: skip
        else:
            axis.axes.text(-0.08 / wide, place, text, ha="right", va="center_baseline",
                           transform=axis.axes.get_yaxis_transform(), parse_math=False)  # fmt: skip
    return texts


def line_style(index: int) -> dict[str, Any]:
    """Return the colour and dashes of line number `index`; 28 lines can be told apart, also in grey."""
    return {"color": COLOURS[index % len(COLOURS)], "linestyle": STYLES[index % len(STYLES)]}


def use_log_scale(axis: Any, side: str = "y") -> None:
    """Make an axis logarithmic, with plain numbers at the decades: powers and minor ticks are slow to draw."""
    axis.set(**{f"{side}scale": "log"})
    (axis.yaxis if side == "y" else axis.xaxis).set_major_formatter("{x:g}")
    axis.minorticks_off()


def use_light_frame(axis: Any) -> None:
    """Remove the frame at the top and the right, and draw a light grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=GREY, alpha=0.2)


def add_legend(drawn: Figure, axis: Any) -> None:
    """Name the lines of one axes below all panels, in as many columns as the width holds."""
    handles, labels = axis.get_legend_handles_labels()
    fit = int(13 * drawn.get_figwidth()) // (12 + max(map(len, labels), default=0))  # in letters; 12 for the line
    columns = max(1, min(len(labels), fit))
    drawn.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.5)


def draw_tiles(axis: Any, shares: np.ndarray, texts: np.ndarray, bold: int = -1) -> None:
    """Draw a table as tiles with texts in them.

    Args:
        shares: how good each is, from 0 to 1; darker is better, and NaN stays empty.
        bold: the place of the text that is bold.
    """
    axis.pcolormesh(shares, cmap="cividis_r", vmin=0, vmax=1, edgecolors="#fefefe", linewidth=1.0)
    for place, ((row, column), share) in enumerate(np.ndenumerate(shares)):
        if np.isfinite(share):
            axis.text(column + 0.5, row + 0.5, texts[row, column], ha="center", va="center", fontsize=8.5,
                      color="#fefefe" if share > 0.5 else "#111111",
                      fontweight="bold" if place == bold else "normal")  # fmt: skip
    axis.set_ylim(len(shares), 0)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def find_limits(values: np.ndarray, better: str) -> tuple[float, float]:
    """Choose the range of an axis: from the best value to four times the distance of the median, or to the worst.

    One run that diverged would otherwise squeeze all others into a line.

    >>> find_limits(np.array([0.9, 0.8, 0.7, 0.6, -50.0]), "max")
    (0.1, 0.9)
    >>> find_limits(np.array([0.0947661666666666, 0.0947661666666666, 0.09]), "max")
    (0.0947661666666666, 0.0947661666666666)
    """
    low, high, middle = (float(f(values)) for f in (np.nanmin, np.nanmax, np.nanmedian))
    if better == "max":
        return min(high, max(low, round(high - 4 * (high - middle), 12))), high  # rounding may go beyond
    return low, max(low, min(high, round(low + 4 * (middle - low), 12)))
