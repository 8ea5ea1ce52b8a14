"""The picture of a loss's card: its curve and its gradient."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from losslab.card import name_of, read_header
from losslab.config import compose
from losslab.data.dataset import Array
from losslab.page.figures import GREY, line_style, make_figure

if TYPE_CHECKING:
    from losslab.card import Card, Curve

Jump = tuple[float, tuple[float, float]]  # where it is, and from where to where it goes


def draw(card: "Card") -> Figure:
    """Draw the loss above its gradient, a column for each side; of one side, the two side by side."""
    several = len(card.sides) > 1
    drawn, grid = (
        make_figure(4.5 * len(card.sides), 6.6, 2, len(card.sides)) if several else make_figure(9.0, 4.4, 1, 2)
    )
    names = list(dict.fromkeys(curve.name for curve in card.curves))
    ends = [(curve.x[0], curve.x[-1]) for curve in card.curves]
    for row, what in enumerate(("loss", "gradient")):
        panels = grid[row] if several else grid[0, row : row + 1]
        for side, (panel, title) in enumerate(zip(panels, card.sides, strict=True)):
            for zero in (panel.axhline, panel.axvline):
                zero(0, color=GREY, linewidth=0.8, zorder=0)
            for curve in card.curves:
                if curve.side == side:
                    index, width = names.index(curve.name), 3.0 if curve.own else 1.8
                    x, y, jumps = split_jumps(curve.x, getattr(curve, what))
                    panel.plot(x, y, **line_style(index), linewidth=width, label=curve.name)
                    for at, both in jumps:
                        panel.plot([at, at], both, ":", color=line_style(index)["color"], linewidth=0.4 * width)
            for said, level in {"perfect": card.perfect, "chance": card.chance}.items() if what == "loss" else ():
                if level is not None:
                    panel.axhline(level, color="black", linewidth=0.8, linestyle=(0, (1, 3)), zorder=1)
                    up = {"chance": 2, "perfect": -3}[said]  # beside the thickest curve
                    panel.annotate(said, (1, level), (-2, up), xycoords=("axes fraction", "data"), ha="right",
                                   va="bottom" if up > 0 else "top", textcoords="offset points", fontsize=7,
                                   annotation_clip=True)  # fmt: skip
            low, high = choose_limits(card.curves, what)
            low -= (what == "loss") * 0.05 * (high - low)  # there `perfect` is written, above the frame
            panel.set(ylim=(low, high), xlim=(min(ends)[0], max(end for _, end in ends)))
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(color=GREY, alpha=0.2)
            if row == 0:
                panel.set_title(title)
        panels[0].set_ylabel("loss" if what == "loss" else "gradient: d loss / d score")
    for panel in grid[-1]:
        panel.set_xlabel(card.axis)
    handles, labels = grid[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, handlelength=3.5)
    paths = list(compose.loss_paths(card.cfg))
    formula = (
        read_header(paths[0], card.cfg.run.catalogue).description.split(". ")[0].rstrip(".") if len(paths) == 1 else ""
    )
    drawn.suptitle(f"{name_of(card.cfg)}\n{formula}" if 0 < len(formula) <= 118 else name_of(card.cfg), fontsize=10.5)
    return drawn


def split_jumps(x: Array, y: Array) -> tuple[Array, Array, list[Jump]]:
    """Split a curve where it jumps: return it with a gap there, and where each jump is and from where to where it goes.

    A jump is a step of at least a twentieth of the curve's range, ten times as large as those two points away.

    >>> import numpy as np
    >>> split_jumps(np.arange(-2.0, 3), np.sign(np.arange(-2.0, 3)))[2]
    [(0.0, (-1.0, 1.0))]
    """
    steps = np.abs(np.diff(y))
    padded = np.pad(steps, 2)
    large = (steps > 0.05 * np.ptp(y[np.isfinite(y)])) & (steps > 10 * np.maximum(padded[:-4], padded[4:]))
    jumps, gaps = [], np.flatnonzero(large)
    groups = np.split(gaps, np.flatnonzero(np.diff(gaps) > 1) + 1) if len(gaps) else []
    inner = [index for group in groups for index in range(group[0] + 1, group[-1] + 1)]  # a point between two halves
    for group in groups:
        first, last = group[0], group[-1] + 1
        jumps.append((float(x[first] + x[last]) / 2, (float(y[first]), float(y[last]))))
    kept = y.astype(float).copy()
    kept[inner] = np.nan
    cuts = [group[0] + 1 for group in groups if len(group) == 1]
    return np.insert(x.astype(float), cuts, [x[cut - 1] for cut in cuts]), np.insert(kept, cuts, np.nan), jumps


def choose_limits(curves: Sequence["Curve"], what: str) -> tuple[float, float]:
    """Choose the vertical range: all of the card's loss and of the flattest beside it, and half as much for others."""

    def ends(name: str | None) -> tuple[float, float]:
        lines = [getattr(curve, what) for curve in curves if (curve.own if name is None else curve.name == name)]
        numbers = np.concatenate(lines)
        return float(numbers[np.isfinite(numbers)].min()), float(numbers[np.isfinite(numbers)].max())

    low, high = ends(None)
    others = [ends(name) for name in {curve.name for curve in curves if not curve.own}]
    if others:
        flattest = min(others, key=lambda end: end[1] - end[0])
        low, high = min(low, flattest[0]), max(high, flattest[1])
        beyond = (high - low) / 2
        low = min(low, max(min(end[0] for end in others), low - beyond))
        high = max(high, min(max(end[1] for end in others), high + beyond))
    edge = 0.05 * (high - low) or 1.0
    return low - edge, high + edge
