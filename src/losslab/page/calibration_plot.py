"""The plot of how often the best cells are right where they say that they are sure."""

from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, softmax

from losslab.compare.design import Comparison
from losslab.compare.table import name_chosen, pick_drawn
from losslab.files import Unreadable
from losslab.page.figures import GREY, Plot, Tip, add_legend, label_cell, line_style, make_figure, use_light_frame
from losslab.record.row_scores import RowScores, read_row_scores

LINES = 5  # cells that are legible in one panel
RUNS = 10  # of each cell that are read
BINS = 10

Array = NDArray[Any]


def draw_calibration(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the share of right predictions against their probability: of the predicted class, or of every label."""
    used, rows = comparison.used, []
    cells, which = pick_drawn(numbers, LINES)
    for cell in cells:
        runs = used["folder"][(used["cell"] == cell) & (used["dataset_key"] == comparison.datasets[0])]
        known = [pair for pair in map(read_probabilities, runs.head(RUNS).map(str)) if pair is not None]
        if known:
            said, right = (np.concatenate(each) for each in zip(*known, strict=True))
            place = comparison.cells.index(cell)
            rows += [{"cell": cell, "place": place, **each} for each in bin_probabilities(said, right)]
    if not rows:
        return None
    data = pd.DataFrame(rows)
    drawn, axes = make_figure(6.5, 5.4)
    axis, tips = axes[0, 0], {}
    axis.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (2, 2)))
    for index, (name, part) in enumerate(data.groupby("cell", sort=False)):
        style = line_style(index)
        label = label_cell(str(name), name_chosen(numbers))
        axis.plot(part["said"], part["right"], **style, linewidth=1.6, label=label)
        axis.scatter(part["said"], part["right"], color=style["color"], s=18, gid=f"mark:{index}")
        tips[str(index)] = [
            Tip(f"{name}\nsaid {said:.3f}, right {right:.3f} of {count:,} predictions", f"cell-{place}")
            for place, said, right, count in part[["place", "said", "right", "rows"]].itertuples(index=False)
        ]
    axis.set(xlabel="probability that the model gives", ylabel="share that is right")
    use_light_frame(axis)
    add_legend(drawn, axis)
    caption = (
        f"Calibration{which} on test, all seeds together, in {BINS} bins of equally many predictions. Below the dotted "
        "line a model is too sure, above it too careful."
    )
    return Plot("calibration", caption, drawn, data.drop(columns="place"), tips)


def read_probabilities(folder: str) -> tuple[Array, Array] | None:
    """Read a run's probabilities and whether each was right; `None` where it has none, as for numbers."""
    with suppress(Unreadable):
        test = read_row_scores(folder).get("test")
        return None if test is None else to_probabilities(test)
    return None


def to_probabilities(rows: RowScores) -> tuple[Array, Array] | None:
    """Turn scores of classes or labels into probabilities, and say whether each was right; of numbers there are none.

    >>> scores, row = np.array([[0.0, 0.0], [9.0, 0.0]]), np.arange(2)
    >>> said, right = to_probabilities(RowScores(row, np.array([0, 1]), scores))
    >>> said.round(2).tolist(), right.tolist()
    ([0.5, 1.0], [True, False])
    """
    scores = rows.scores.astype(np.float64)
    if rows.target.dtype.kind == "f" or scores.ndim != 2 or not np.isfinite(scores).all():
        return None
    if rows.target.ndim == 2:
        return (expit(scores).ravel(), rows.target.ravel() > 0) if rows.target.shape == scores.shape else None
    return softmax(scores, axis=1).max(axis=1), scores.argmax(axis=1) == rows.target


def bin_probabilities(said: Array, right: Array) -> list[dict[str, float]]:
    """Average probabilities and what was right over bins of equally many."""
    parts = np.array_split(np.argsort(said, kind="stable"), min(BINS, len(said)))
    return [{"said": float(said[part].mean()), "right": float(right[part].mean()), "rows": len(part)} for part in parts]
