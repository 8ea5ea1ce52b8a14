"""All plots of a comparison, in the order of its page."""

import io
import warnings
from collections.abc import Callable, Iterator
from functools import partial

import matplotlib as mpl
import pandas as pd

from losslab.compare.claims import Findings
from losslab.compare.design import Comparison
from losslab.page.calibration_plot import draw_calibration
from losslab.page.claim_plots import draw_differences, draw_pairs, draw_ranks, draw_win_rates
from losslab.page.cost_plots import draw_pareto
from losslab.page.dataset_plots import draw_critical_difference, draw_profile
from losslab.page.figures import Plot, lay_out
from losslab.page.result_plots import draw_heatmap, draw_means, draw_metrics
from losslab.page.search_plots import draw_budget, draw_coordinates, draw_importance, draw_learning_rates
from losslab.page.svg import render_svg
from losslab.page.training_plots import draw_training

DPI = 150  # of the PNG
LATER = ("win_rates", "metrics", "parallel_coordinates", "importance", "budget", "cross")  # one click opens them
CLAIMS: tuple[Callable[[Comparison, pd.DataFrame, Findings, float], Plot | None], ...] = (draw_differences, draw_pairs)
DRAW: tuple[Callable[[Comparison, pd.DataFrame], Plot | None], ...] = (
    draw_ranks,
    draw_pareto,
    draw_training,
    draw_heatmap,
    draw_calibration,
    draw_win_rates,
    draw_learning_rates,
    draw_budget,
    draw_critical_difference,
    draw_profile,
    draw_metrics,
    draw_coordinates,
    draw_importance,
)


def draw_plots(
    comparison: Comparison, numbers: pd.DataFrame, findings: Findings | None = None, wanted: float = 1.0
) -> Iterator[Plot]:
    """Draw every plot that has something to show."""
    draws: list[Callable[[], Plot | None]] = [partial(draw_means, comparison, numbers)]
    if findings is not None:
        draws += [partial(draw, comparison, numbers, findings, wanted) for draw in CLAIMS]
    draws += [partial(draw, comparison, numbers) for draw in DRAW]
    for each in draws:
        with mpl.rc_context({"text.parse_math": False}):  # names are no mathematics
            plot = each()
        if plot is not None:
            yield plot


def save_plot(plot: Plot) -> tuple[bytes, str]:
    """Save a plot as PNG, for papers and slides, and as SVG, for the page.

    The letters of a name that matplotlib's font lacks, such as emoji, are boxes in the PNG and letters in the SVG.
    """
    picture = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)
        lay_out(plot.figure, DPI).savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
        return picture.getvalue(), render_svg(plot)
