"""All plots of a comparison, in the order of its page."""

from collections.abc import Callable, Iterator

import pandas as pd

from losslab.compare.design import Comparison
from losslab.page.cost_plots import draw_pareto, draw_win_rates
from losslab.page.figures import Plot
from losslab.page.result_plots import draw_critical_difference, draw_heatmap, draw_means, draw_metrics
from losslab.page.search_plots import draw_budget, draw_coordinates, draw_importance, draw_learning_rates
from losslab.page.training_plots import draw_training

DRAW: tuple[Callable[[Comparison, pd.DataFrame], Plot | None], ...] = (
    draw_means,
    draw_heatmap,
    draw_win_rates,
    draw_training,
    draw_pareto,
    draw_learning_rates,
    draw_budget,
    draw_critical_difference,
    draw_metrics,
    draw_coordinates,
    draw_importance,
)


def draw_plots(comparison: Comparison, numbers: pd.DataFrame) -> Iterator[Plot]:
    """Draw every plot that has something to show; `numbers` is the table of the cells."""
    for draw in DRAW:
        plot = draw(comparison, numbers)
        if plot is not None:
            yield plot
