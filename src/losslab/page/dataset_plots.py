"""Plots of a comparison over several data sets: ranks, and how close to the best each cell comes."""

import numpy as np
import pandas as pd

from losslab.compare.design import Comparison
from losslab.compare.population import FEW_DATASETS
from losslab.compare.statistics import cliques
from losslab.compare.verdict import rank_over_datasets
from losslab.compare.wording import format_p
from losslab.page.figures import Plot, add_legend, line_style, make_figure, shorten, use_light_frame

PROFILED = 3  # data sets from which on a profile says something
LINES = 7  # cells that are legible in one panel


def draw_critical_difference(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw a critical-difference diagram: average ranks over data sets, bars where Nemenyi's test finds no difference.

    Source: Demšar 2006.
    """
    ranked = rank_over_datasets(comparison) if len(comparison.datasets) >= FEW_DATASETS else None
    if ranked is None:
        return None
    names, found = ranked
    order = np.argsort(found.ranks, kind="stable")
    half = (len(order) + 1) // 2
    bars = cliques(found.ranks, found.critical)
    drawn, axes = make_figure(9.0, 1.6 + 0.28 * half + 0.16 * len(bars))
    axis, count = axes[0, 0], len(names)
    for place, method in enumerate(order):
        left, rank = place < half, found.ranks[method]
        depth = -0.16 * len(bars) - 0.35 - 0.3 * (place if left else len(order) - 1 - place)
        edge = 1 - 0.05 * count if left else count + 0.05 * count
        axis.plot([rank, rank, edge], [0, depth, depth], color="black", linewidth=0.9)
        name = shorten(names[method])
        text = f"{name}  {rank:.2f} " if left else f" {rank:.2f}  {name}"
        axis.text(edge, depth, text, ha="right" if left else "left", va="center", fontsize=9)
    for number, (low, high) in enumerate(bars):
        axis.plot([low - 0.03, high + 0.03], [-0.16 * (number + 1)] * 2, color=line_style(0)["color"], linewidth=4)
    axis.plot([1, count], [0, 0], color="black")
    for rank in range(1, count + 1):
        axis.plot([rank, rank], [0, 0.08], color="black")
        axis.text(rank, 0.14, str(rank), ha="center", fontsize=9)
    axis.plot([1, 1 + found.critical], [0.55, 0.55], color=line_style(1)["color"], linewidth=2)
    axis.text(1 + found.critical / 2, 0.62, f"critical difference {found.critical:.2f}", ha="center", fontsize=9)
    axis.set_xlim(1 - 0.55 * count, count + 0.55 * count)
    axis.axis("off")
    caption = (
        f"Average ranks over {len(comparison.datasets)} data sets, 1 is best; a bar joins what Nemenyi's test "
        f"cannot tell apart (Friedman {format_p(found.p)})."
    )
    data = pd.DataFrame({"cell": names, "rank": found.ranks, "critical difference": found.critical})
    return Plot("critical_difference", caption, drawn, data.sort_values("rank", kind="stable"))


def draw_profile(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the performance profile: the share of data sets on which a cell comes this close to the best one.

    Source: Dolan & Moré 2002; where higher is better, by differences instead of ratios.
    """
    table = comparison.used.groupby(["dataset_key", "cell"])["value"].mean().unstack().reindex(columns=comparison.cells)
    if len(table) < PROFILED or len(comparison.cells) < 2:
        return None
    ratios = comparison.mode == "min" and bool((table.min(axis=1) > 0).all())
    best = table.max(axis=1) if comparison.mode == "max" else table.min(axis=1)
    behind = table.div(best, axis=0) if ratios else table.sub(best, axis=0).abs()
    drawn, axes = make_figure(8.0, 4.6)
    axis, start = axes[0, 0], 1.0 if ratios else 0.0
    end = float(np.nanquantile(behind.to_numpy(), 0.9)) or 1.0
    for index, cell in enumerate(comparison.cells[:LINES]):
        steps = np.sort(behind[cell].fillna(np.inf).to_numpy())
        shares = np.arange(1, len(steps) + 1) / len(steps)
        x, y = np.array([start, *steps, np.inf]), np.array([0.0, *shares, shares[-1]])
        known = np.isfinite(x)
        axis.step([*x[known], max(end, start) * 1.02], [*y[known], y[known][-1]], where="post", label=shorten(cell),
                  linewidth=1.8, **line_style(index))  # fmt: skip
    axis.set_xlim(start - 0.01 * (end - start or 1), start + 1.02 * (end - start or 1))
    how = "as a multiple of" if ratios else "this far from"
    axis.set(xlabel=f"{comparison.metric}, {how} the best of the data set",
             ylabel="share of data sets", ylim=(-0.02, 1.02))  # fmt: skip
    use_light_frame(axis)
    add_legend(drawn, axis)
    caption = (
        f"Performance profile over {len(table)} data sets: the share of them on which a cell comes this close to the "
        "best one. Higher is better; the left edge shows how often it is the best (Dolan & Mor\u00e9 2002)."
    )
    return Plot("profile", caption, drawn, behind.reset_index())
