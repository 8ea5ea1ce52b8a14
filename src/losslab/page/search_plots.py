"""Plots of what a search tried: learning rates, the budget of trials, and which settings mattered."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.patheffects import withStroke

from losslab.compare.design import Comparison
from losslab.compare.settings import drop_dependent, format_value, name_options
from losslab.compare.statistics import expected_best
from losslab.page.figures import (
    INK,
    Plot,
    add_legend,
    find_limits,
    line_style,
    make_figure,
    shorten,
    use_light_frame,
    use_log_scale,
)
from losslab.page.training_plots import LINES

FOREST = 2000  # runs that are enough to estimate how much a setting matters
PLATEAU = 0.02  # a learning rate is on the plateau where it loses at most 2 % of the best, or 2 points


def draw_learning_rates(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the validation metric by learning rate, and measure how wide the plateau around the best is."""
    finished = comparison.frame[comparison.frame["status"] == "finished"]
    key = "optimizer.lr"
    if key not in finished or key not in (*comparison.tuned, *comparison.by) or finished[key].nunique() < 3:
        return None
    rates = finished.assign(lr=pd.to_numeric(finished[key], errors="coerce"))
    rest = [name for name in comparison.by if name != key]
    rates["line"] = name_options(rates, rest) if rest else "all runs"
    rates = rates[rates["dataset_key"] == comparison.datasets[0]]
    data = rates.groupby(["line", "lr"])["validation"].agg(["mean", "std", "size"]).reset_index()
    order = [line for line in dict.fromkeys(comparison.cells if rest == comparison.by else data["line"])
             if line in set(data["line"])]  # fmt: skip
    drawn, axes = make_figure(8.0, 5.4)
    axis = axes[0, 0]
    widths = {}
    for index, line in enumerate(order):
        part = data[data["line"] == line].sort_values("lr")
        widths[line] = plateau_width(part["lr"].to_numpy(), part["mean"].to_numpy(), comparison.primary_mode)
        if index < LINES:
            name = f"{shorten(line)}: plateau {widths[line]:.1f} decades"
            axis.plot(part["lr"], part["mean"], **line_style(index), marker="o", markersize=4, label=name)
            if (part["size"] > 1).all():
                axis.fill_between(part["lr"], part["mean"] - part["std"], part["mean"] + part["std"],
                                  color=line_style(index)["color"], alpha=0.12, linewidth=0)  # fmt: skip
    low, high = find_limits(data["mean"].to_numpy(), comparison.primary_mode)
    edge = 0.1 * (high - low) or 0.01
    axis.set(xlabel=key, ylabel=f"val/{comparison.primary}, best epoch")
    use_log_scale(axis, "x")
    axis.set_ylim(low - edge, high + edge)
    use_light_frame(axis)
    add_legend(drawn, axis)
    within = f"{100 * PLATEAU:g} {'points' if comparison.primary_mode == 'max' else '%'}"
    caption = (
        f"Sensitivity to the learning rate: mean and standard deviation over seeds; the plateau is where at most "
        f"{within} of the best are lost. What lies far behind is cut off."
    )
    return Plot("learning_rate", caption, drawn, data.assign(plateau=data["line"].map(widths)))


def plateau_width(rates: np.ndarray, values: np.ndarray, aim: str) -> float:
    """Measure the plateau in decades: the learning rates around the best that lose at most 2 points, or 2 % for `min`.

    >>> plateau_width(np.array([0.01, 0.1, 1.0, 10.0]), np.array([0.5, 0.95, 0.96, 0.2]), "max")
    1.0
    """
    best = int(np.argmax(values) if aim == "max" else np.argmin(values))
    good = values >= values[best] - PLATEAU if aim == "max" else values <= values[best] * (1 + PLATEAU)
    low = high = best
    while low > 0 and good[low - 1]:
        low -= 1
    while high < len(good) - 1 and good[high + 1]:
        high += 1
    return float(np.log10(rates[high] / rates[low]))


def draw_budget(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the best validation metric to expect after k trials, for each cell."""
    settings = average_settings(comparison) if comparison.tuned else pd.DataFrame()
    if settings.empty or settings.groupby(["cell", "dataset_key"]).size().max() < 3:
        return None
    settings = settings[settings["dataset_key"] == comparison.datasets[0]]
    drawn, axes = make_figure(8.0, 5.2)
    sign = 1 if comparison.primary_mode == "max" else -1
    rows = []
    for index, cell in enumerate(comparison.cells):
        values = settings["validation"][settings["cell"] == cell].to_numpy()
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        best = sign * expected_best(sign * values)
        rows += [{"cell": cell, "trials": k + 1, "best": value} for k, value in enumerate(best)]
        if index < LINES:
            axes[0, 0].plot(range(1, len(best) + 1), best, **line_style(index), label=shorten(cell), linewidth=1.8)
    axes[0, 0].set(xlabel="settings tried", ylabel=f"expected best val/{comparison.primary}")
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    use_light_frame(axes[0, 0])
    add_legend(drawn, axes[0, 0])
    caption = "What a search reaches on average after k settings drawn at random from those tried (Dodge et al. 2019)."
    return Plot("budget", caption, drawn, pd.DataFrame(rows))


def average_settings(comparison: Comparison) -> pd.DataFrame:
    """Average the validation metric of each setting of each cell over its seeds."""
    finished = comparison.frame[comparison.frame["status"] == "finished"]
    keys = ["cell", "dataset_key", "setting", *comparison.tuned]
    text = finished.assign(**{key: finished[key].map(format_value) for key in comparison.tuned})
    return text.groupby(keys, as_index=False).agg(
        validation=("validation", "mean"), test=("value", "mean"), seeds=("value", "size")
    )


def select_settings(comparison: Comparison) -> tuple[list[str], pd.DataFrame]:
    """Return the keys that vary, and the finished runs of the first data set with a finite validation metric."""
    finished = comparison.frame[(comparison.frame["status"] == "finished")]
    finished = finished[(finished["dataset_key"] == comparison.datasets[0]) & np.isfinite(finished["validation"])]
    keys = [key for key in (*comparison.by, *comparison.tuned) if finished[key].map(str).nunique() > 1]
    return drop_dependent(finished, keys), finished


class Scale(NamedTuple):
    """A vertical axis of the parallel coordinates: the height of each run in 0..1, and its ticks."""

    heights: "pd.Series[float]"
    ticks: list[tuple[float, str]]


def scale_setting(column: "pd.Series[Any]", may_be_log: bool) -> Scale:
    """Map a setting to heights: numbers linearly, or by their logarithm over a wide range; words in their order."""
    numeric = pd.to_numeric(column, errors="coerce")
    if numeric.notna().all() and numeric.nunique() > 1 and not column.map(lambda v: isinstance(v, bool)).any():
        wide = may_be_log and numeric.min() > 0 and numeric.max() > 30 * numeric.min()
        level = np.log10(numeric) if wide else numeric
        marks = np.linspace(level.min(), level.max(), 5) if level.nunique() > 5 else np.sort(level.unique())
        texts = [f"{10**mark if wide else mark:.3g}" for mark in marks]
    else:
        texts = sorted(column.map(format_value).unique())
        level, marks = column.map(format_value).map(texts.index), np.arange(len(texts))
    low, reach = float(level.min()), float(level.max() - level.min()) or 1.0
    return Scale((level - low) / reach, [((mark - low) / reach, text) for mark, text in zip(marks, texts, strict=True)])


def draw_coordinates(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw parallel coordinates: a line for each run through its settings to its validation metric."""
    keys, runs = select_settings(comparison)
    if len(keys) < 2 or not comparison.tuned:
        return None
    runs = runs.sort_values("validation", ascending=comparison.primary_mode == "max", kind="stable")
    drawn, axes = make_figure(1.9 * (len(keys) + 1) + 1.5, 5.0)
    axis = axes[0, 0]
    scales = [scale_setting(runs[key], may_be_log=key != "validation") for key in (*keys, "validation")]
    lines = np.stack([scale.heights.to_numpy(float) for scale in scales], axis=1)
    quality = np.linspace(0, 1, len(runs))
    shown = np.unique(np.linspace(0, len(runs) - 1, 300).astype(int))  # evenly spaced, from the worst to the best
    for line, share in zip(lines[shown], quality[shown], strict=True):
        axis.plot(range(len(line)), line, color=colormaps["cividis_r"](0.25 + 0.75 * share), alpha=0.35 + 0.5 * share,
                  linewidth=0.6 + 1.2 * share)  # fmt: skip
    for number, scale in enumerate(scales):
        axis.axvline(number, color=INK, linewidth=0.8)
        for height, text in scale.ticks:
            axis.text(number + 0.03, height, shorten(text), fontsize=8.5, va="center",
                      path_effects=[withStroke(linewidth=2.5, foreground="white")])  # fmt: skip
    axis.set_xticks(range(len(scales)), [*map(shorten, keys), f"val/{comparison.primary}"])
    axis.set_yticks([])
    axis.set_xlim(-0.1, len(scales) - 0.6)
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    caption = f"A line for each run through its settings to val/{comparison.primary}; darker is better."
    return Plot("parallel_coordinates", caption, drawn, runs[[*keys, "seed", "validation"]])


def draw_importance(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Draw the permutation importance of each setting for the rank of a run on validation.

    A random forest learns the ranks from one half of the runs and is tested on the other, both ways; ranks, so that
    one run that diverged isn't all there is to predict. Source: Breiman 2001.
    """
    keys, runs = select_settings(comparison)
    if len(keys) < 2 or len(runs) < 20 or not comparison.tuned:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    names = [*keys, *(key for key in ("seed",) if key in runs and runs[key].nunique() > 1)]
    x = np.stack([to_numbers(runs[key]) for key in names], axis=1)
    y = runs["validation"].rank().to_numpy()
    order = np.random.default_rng(0).permutation(len(y))[:FOREST]
    x, y = x[order], y[order]
    half = np.arange(len(y)) % 2 == 0
    found, fit = np.zeros((2, len(names))), []
    for fold, train in enumerate((half, ~half)):
        forest = RandomForestRegressor(50, random_state=0, n_jobs=1).fit(x[train], y[train])
        fit.append(forest.score(x[~train], y[~train]))
        found[fold] = permutation_importance(forest, x[~train], y[~train], n_repeats=5, random_state=0).importances_mean
    data = pd.DataFrame({"setting": names, "importance": found.mean(0)}).sort_values("importance")
    drawn, axes = make_figure(7.0, 1.2 + 0.35 * len(data))
    axes[0, 0].barh(data["setting"].map(shorten), data["importance"], color=line_style(0)["color"])
    axes[0, 0].set_xlabel("loss of R² when the setting is shuffled")
    use_light_frame(axes[0, 0])
    caption = (
        f"Importance of the settings for the rank in val/{comparison.primary}: permutation importance of a random "
        f"forest on the half of the runs that it did not see, where its R² is {np.mean(fit):.2f} (Breiman 2001)."
    )
    return Plot("importance", caption, drawn, data)


def to_numbers(column: "pd.Series[Any]") -> np.ndarray:
    """Return a setting as numbers; words become their place in the alphabet."""
    numeric = pd.to_numeric(column, errors="coerce")
    if numeric.notna().all():
        return numeric.to_numpy(float)
    return pd.factorize(column.map(format_value), sort=True)[0].astype(float)
