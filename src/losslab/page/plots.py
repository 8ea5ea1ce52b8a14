"""The plots of a comparison: each a figure and the numbers that it shows, legible in print and by the colour-blind."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from losslab.compare.design import Comparison, direction, label, leading, short
from losslab.compare.runs import history
from losslab.compare.statistics import cliques, expected_best
from losslab.compare.verdict import over_sets, p_value
from losslab.errors import Refused
from losslab.page.pictures import GREY, figure, stroke

LEFT, RIGHT = "\N{LEFTWARDS ARROW}", "\N{RIGHTWARDS ARROW}"  # to what lies beyond the axis
LINES = 5  # so many cells are legible in one panel
FOREST = 2000  # so many runs tell a setting's importance
PLATEAU = 0.02  # a learning rate is on the plateau where it loses at most 2 % of the best, or 2 points


class Plot(NamedTuple):
    """A figure, what it shows in a sentence, and its numbers."""

    name: str
    says: str
    figure: Figure
    data: pd.DataFrame


def plots(comparison: Comparison, numbers: pd.DataFrame) -> Iterator[Plot]:
    """Every plot for which there is something to show; `numbers` is the table."""
    drawers: list[Callable[[Comparison, pd.DataFrame], Plot | None]] = [
        means,
        heatmap,
        curves,
        learning_rates,
        budget,
        critical_difference,
        metrics,
        coordinates,
        importance,
    ]
    for draw in drawers:
        drawn = draw(comparison, numbers)
        if drawn is not None:
            yield drawn


def tidy(axis: Any) -> None:
    """No frame at the top and the right, and a light grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(color=GREY, alpha=0.2)


def legend(drawn: Figure, axis: Any) -> None:
    """The axis's lines named below all panels, in as many columns as the width holds."""
    handles, labels = axis.get_legend_handles_labels()
    fit = int(13 * drawn.get_figwidth()) // (12 + max(map(len, labels), default=0))  # letters; 12 for the stroke
    columns = max(1, min(len(labels), fit))
    drawn.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, handlelength=3.5)


def focus(values: np.ndarray, better: str) -> tuple[float, float]:
    """The range that is worth its room: from the best to four times as far as the middle one, or to the worst.

    >>> focus(np.array([0.9, 0.8, 0.7, 0.6, -50.0]), "max")
    (0.1, 0.9)
    """
    low, high, middle = (float(f(values)) for f in (np.nanmin, np.nanmax, np.nanmedian))
    if better == "max":
        return max(low, round(high - 4 * (high - middle), 12)), high
    return low, min(high, round(low + 4 * (middle - low), 12))


def means(comparison: Comparison, numbers: pd.DataFrame) -> Plot:
    """Mean, interval and single runs of each cell, best at the top."""
    cells, used = comparison.cells, comparison.used
    drawn, axes = figure(8.0, 1.2 + 0.3 * len(cells))
    axis = axes[0, 0]
    for line, cell in enumerate(cells):
        values = used["score"][used["cell"] == cell]
        axis.scatter(values, np.full(len(values), line + 0.24), s=12, color=GREY, alpha=0.8, linewidths=0)
    bounds = numbers[["low", "high"]].to_numpy()
    lines = np.arange(len(cells))
    axis.hlines(lines, bounds[:, 0], bounds[:, 1], color=stroke(0)["color"], linewidth=2.2)
    axis.plot(numbers["mean"], lines, "o", color=stroke(1)["color"], markersize=5)
    axis.set_yticks(lines, cells)
    axis.set_ylim(len(cells) - 0.4, -0.6)
    relative = comparison.better == "min" and len(comparison.sets) > 1
    low, high = focus(numbers["mean"].to_numpy(), comparison.better)
    inside = numbers[numbers["mean"].between(low, high)]["cell"]
    shown = used["score"][used["cell"].isin(inside)]
    low, high = min(low, shown.min()), max(high, shown.max())
    edge = 0.04 * (high - low) or 0.01
    axis.set_xlim(low - edge, high + edge)
    for line, value in enumerate(numbers["mean"]):
        if not low <= value <= high:
            below = value < low
            axis.annotate(
                f"{LEFT} {value:.4g}" if below else f"{value:.4g} {RIGHT}",
                (0.01 if below else 0.99, line),
                xycoords=("axes fraction", "data"),
                ha="left" if below else "right",
                va="center",
                fontsize=9,
            )
    axis.set_xlabel(f"test {comparison.metric}{', as a multiple of the mean of its data set' if relative else ''}")
    tidy(axis)
    level = f"{100 * (1 - comparison.alpha):g} %"
    says = f"Test {comparison.metric} of each cell: mean (dot), {level} bootstrap interval (line), single runs (grey)."
    return Plot("means", says, drawn, used[[*comparison.by, "rows", "repeat", "value", "score"]])


def heatmap(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """The means of two keys' options, crossed; the best is framed."""
    if len(comparison.by) != 2:
        return None
    shown = numbers.assign(**{key: numbers[key].map(short) for key in comparison.by})
    grid = shown.pivot(index=comparison.by[0], columns=comparison.by[1], values="mean")
    order = [shown.groupby(key)["mean"].mean().sort_values(ascending=comparison.better == "min", kind="stable").index
             for key in comparison.by]  # fmt: skip
    grid = grid.loc[order[0], order[1]]
    values = grid.to_numpy(float)
    drawn, axes = figure(2.2 + 0.85 * grid.shape[1], 1.7 + 0.5 * grid.shape[0])
    axis = axes[0, 0]
    limits = focus(values, comparison.better)
    colours = "cividis" if comparison.better == "max" else "cividis_r"
    image = axis.imshow(values, cmap=colours, vmin=limits[0], vmax=limits[1], aspect="auto")
    best = (np.nanargmax if comparison.better == "max" else np.nanargmin)(values)
    for (row, column), value in np.ndenumerate(values):
        if np.isfinite(value):
            dark = (np.clip(value, *limits) - limits[0]) / ((limits[1] - limits[0]) or 1) < 0.5
            light = dark if comparison.better == "max" else not dark
            mark = {"fontweight": "bold"} if row * values.shape[1] + column == best else {}
            axis.text(column, row, f"{value:.4g}", ha="center", va="center", fontsize=9,
                      color="white" if light else "black", **mark)  # fmt: skip
        else:
            axis.text(column, row, "none", ha="center", va="center", fontsize=8, color=GREY)
    axis.set_xticks(range(grid.shape[1]), grid.columns, rotation=30, ha="right")
    axis.set_yticks(range(grid.shape[0]), grid.index)
    axis.set(xlabel=comparison.by[1], ylabel=comparison.by[0])
    drawn.colorbar(image, label=f"mean test {comparison.metric}", extend="min" if comparison.better == "max" else "max")
    says = f"Mean test {comparison.metric}, {' by '.join(comparison.by)}; brighter is better, the best is bold."
    return Plot("heatmap", says, drawn, grid.reset_index())


def curves(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """The validation yardstick against epochs, samples, updates and seconds, of the cells that lead."""
    column = f"val/{comparison.yardstick}"
    rows = []
    data = comparison.sets[0]
    for cell in comparison.cells[:LINES]:
        used = comparison.used
        runs = used[(used["cell"] == cell) & (used["rows"] == data)]
        for folder, size in zip(
            runs["folder"], runs.get("facts.train_rows", pd.Series(np.nan, runs.index)), strict=True
        ):
            past = history(folder)
            if {"epoch", "step", column} <= set(past) and len(past):
                speed = past.get("examples_per_second", pd.Series(np.nan, past.index))
                kept = past[["epoch", "step"]].assign(value=past[column], cell=cell, run=folder)
                kept["samples"] = (past["epoch"] + 1) * (size or np.nan)
                kept["seconds"] = ((size or np.nan) / speed).cumsum()
                rows.append(kept.rename(columns={"step": "updates"}))
    if not rows:
        return None
    every = pd.concat(rows)
    each = every.groupby(["cell", "epoch"])
    shown = each[["samples", "updates", "seconds"]].mean()
    shown["mean"], shown["runs"] = each["value"].mean(), each["value"].size()
    error = each["value"].sem() * stats.t.ppf(1 - comparison.alpha / 2, np.maximum(shown["runs"] - 1, 1))
    shown["low"], shown["high"] = shown["mean"] - error, shown["mean"] + error
    shown = shown.reset_index()
    drawn, axes = figure(10.0, 7.6, 2, 2)
    low, high = focus(shown["mean"].to_numpy(), comparison.aim)
    edge = 0.08 * (high - low) or 0.01
    for axis, over in zip(axes.flat, ("epoch", "samples", "updates", "seconds"), strict=True):
        for index, cell in enumerate(comparison.cells[:LINES]):
            part = shown[shown["cell"] == cell]
            colour = stroke(index)
            axis.plot(part[over], part["mean"], **colour, linewidth=1.6, label=cell)
            if (part["runs"] > 1).any():
                axis.fill_between(part[over], part["low"], part["high"], color=colour["color"], alpha=0.12, linewidth=0)
        axis.set_ylim(low - edge, high + edge)
        axis.xaxis.get_major_locator().set_params(integer=over != "seconds", nbins=6)
        axis.set_xlabel("seconds of training" if over == "seconds" else over)
        tidy(axis)
    for axis in axes[:, 0]:
        axis.set_ylabel(column)
    legend(drawn, axes[0, 0])
    which = f" of the {LINES} best cells of {len(comparison.cells)}" if len(comparison.cells) > LINES else ""
    on = f" on {data}" if len(comparison.sets) > 1 else ""
    level = f"{100 * (1 - comparison.alpha):g} %"
    says = f"{column}{which}{on}: mean over seeds and {level} interval (Student's t); what lies far behind is cut off."
    return Plot("curves", says, drawn, shown)


def on_validation(comparison: Comparison) -> pd.DataFrame:
    """The mean validation yardstick of each setting of each cell, over seeds."""
    finished = comparison.frame[comparison.frame["status"] == "finished"]
    keys = ["cell", "rows", "setting", *comparison.tuned]
    text = finished.assign(**{key: finished[key].map(short) for key in comparison.tuned})
    return text.groupby(keys, as_index=False).agg(
        validation=("validation", "mean"), test=("value", "mean"), seeds=("value", "size")
    )


def learning_rates(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """The validation yardstick against the learning rate, and how wide the plateau about the best is."""
    finished = comparison.frame[comparison.frame["status"] == "finished"]
    key = "optimizer.lr"
    if key not in finished or key not in (*comparison.tuned, *comparison.by) or finished[key].nunique() < 3:
        return None
    rates = finished.assign(lr=pd.to_numeric(finished[key], errors="coerce"))
    rest = [name for name in comparison.by if name != key]
    rates["line"] = label(rates, rest) if rest else "all runs"
    rates = rates[rates["rows"] == comparison.sets[0]]
    data = rates.groupby(["line", "lr"])["validation"].agg(["mean", "std", "size"]).reset_index()
    order = [cell for cell in dict.fromkeys(comparison.cells if rest == comparison.by else data["line"])
             if cell in set(data["line"])]  # fmt: skip
    drawn, axes = figure(8.0, 5.4)
    axis = axes[0, 0]
    widths = {}
    for index, line in enumerate(order):
        part = data[data["line"] == line].sort_values("lr")
        widths[line] = plateau(part["lr"].to_numpy(), part["mean"].to_numpy(), comparison.aim)
        if index < LINES:
            name = f"{line}: plateau {widths[line]:.1f} decades"
            axis.plot(part["lr"], part["mean"], **stroke(index), marker="o", markersize=4, label=name)
            if (part["size"] > 1).all():
                axis.fill_between(part["lr"], part["mean"] - part["std"], part["mean"] + part["std"],
                                  color=stroke(index)["color"], alpha=0.12, linewidth=0)  # fmt: skip
    low, high = focus(data["mean"].to_numpy(), comparison.aim)
    edge = 0.1 * (high - low) or 0.01
    axis.set(xscale="log", xlabel=key, ylabel=f"val/{comparison.yardstick}, best epoch")
    axis.set_ylim(low - edge, high + edge)
    tidy(axis)
    legend(drawn, axis)
    within = f"{100 * PLATEAU:g} {'points' if comparison.aim == 'max' else '%'}"
    says = (
        f"Sensitivity to the learning rate: mean and standard deviation over seeds; the plateau is where at most "
        f"{within} of the best are lost. What lies far behind is cut off."
    )
    return Plot("learning_rate", says, drawn, data.assign(plateau=data["line"].map(widths)))


def plateau(rates: np.ndarray, values: np.ndarray, aim: str) -> float:
    """How many decades of learning rates about the best lose at most 2 points of it, or 2 % where lower is better.

    >>> plateau(np.array([0.01, 0.1, 1.0, 10.0]), np.array([0.5, 0.95, 0.96, 0.2]), "max")
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


def budget(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """The best validation yardstick to expect after k trials of settings."""
    tried = on_validation(comparison) if comparison.tuned else pd.DataFrame()
    if tried.empty or tried.groupby(["cell", "rows"]).size().max() < 3:
        return None
    tried = tried[tried["rows"] == comparison.sets[0]]
    drawn, axes = figure(8.0, 5.2)
    sign = 1 if comparison.aim == "max" else -1
    rows = []
    for index, cell in enumerate(comparison.cells):
        values = tried["validation"][tried["cell"] == cell].to_numpy()
        values = values[np.isfinite(values)]
        if not len(values):
            continue
        best = sign * expected_best(sign * values)
        rows += [{"cell": cell, "trials": k + 1, "best": value} for k, value in enumerate(best)]
        if index < LINES:
            axes[0, 0].plot(range(1, len(best) + 1), best, **stroke(index), label=cell, linewidth=1.8)
    axes[0, 0].set(xlabel="settings tried", ylabel=f"expected best val/{comparison.yardstick}")
    axes[0, 0].xaxis.get_major_locator().set_params(integer=True)
    tidy(axes[0, 0])
    legend(drawn, axes[0, 0])
    says = "What a search reaches on average after k settings drawn at random from those tried (Dodge et al. 2019)."
    return Plot("budget", says, drawn, pd.DataFrame(rows))


def critical_difference(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Average ranks over data sets; a bar joins those within Nemenyi's critical difference."""
    ranked = over_sets(comparison)
    if ranked is None:
        return None
    names, found = ranked
    order = np.argsort(found.ranks, kind="stable")
    half = (len(order) + 1) // 2
    bars = cliques(found.ranks, found.critical)
    drawn, axes = figure(9.0, 1.6 + 0.28 * half + 0.16 * len(bars))
    axis, count = axes[0, 0], len(names)
    for place, method in enumerate(order):
        left, rank = place < half, found.ranks[method]
        depth = -0.16 * len(bars) - 0.35 - 0.3 * (place if left else len(order) - 1 - place)
        edge = 1 - 0.05 * count if left else count + 0.05 * count
        axis.plot([rank, rank, edge], [0, depth, depth], color="black", linewidth=0.9)
        told = f"{names[method]}  {rank:.2f}" if left else f"{rank:.2f}  {names[method]}"
        axis.text(
            edge, depth, f"{told} " if left else f" {told}", ha="right" if left else "left", va="center", fontsize=9
        )
    for number, (low, high) in enumerate(bars):
        axis.plot([low - 0.03, high + 0.03], [-0.16 * (number + 1)] * 2, color=stroke(0)["color"], linewidth=4)
    axis.plot([1, count], [0, 0], color="black")
    for rank in range(1, count + 1):
        axis.plot([rank, rank], [0, 0.08], color="black")
        axis.text(rank, 0.14, str(rank), ha="center", fontsize=9)
    axis.plot([1, 1 + found.critical], [0.55, 0.55], color=stroke(1)["color"], linewidth=2)
    axis.text(1 + found.critical / 2, 0.62, f"critical difference {found.critical:.2f}", ha="center", fontsize=9)
    axis.set_xlim(1 - 0.55 * count, count + 0.55 * count)
    axis.axis("off")
    says = (
        f"Average ranks over {len(comparison.sets)} data sets, 1 is best; a bar joins what Nemenyi's test cannot tell "
        f"apart (Friedman {p_value(found.p)})."
    )
    data = pd.DataFrame({"cell": names, "rank": found.ranks, "critical difference": found.critical})
    return Plot("critical_difference", says, drawn, data.sort_values("rank", kind="stable"))


def metrics(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Every cell under every metric of the task: who leads under one may not under another."""
    used = comparison.used[comparison.used["rows"] == comparison.sets[0]]
    found = {}
    for key in [
        key for key in map(str, used) if key.startswith("test/") and key != "test/loss" and used[key].notna().any()
    ]:
        name = key.removeprefix("test/")
        try:
            better = comparison.aim if name == comparison.yardstick else direction(used, name)
        except Refused:
            continue
        found[name] = (used.groupby("cell")[key].mean(), better)
    if len(found) < 2 or len(comparison.cells) < 2:
        return None
    cells = [cell for cell in comparison.cells if cell in set(used["cell"])]
    table = pd.DataFrame({name: values for name, (values, _) in found.items()}).loc[cells]
    says = "Each cell under every metric of its task, on test, with its rank; brighter is better."
    return Plot(
        "metrics", says, ranked(table, {name: better for name, (_, better) in found.items()}), table.reset_index()
    )


def cross(table: pd.DataFrame) -> Plot:
    """Every cell's models under every loss that fits the task, whatever they were trained with."""
    says = (
        "Each cell's best models under every loss, each with its defaults, on test, with the rank; brighter is better. "
        "A model need not lead under the loss that it was trained with."
    )
    return Plot("cross", says, ranked(table, dict.fromkeys(map(str, table), "min")), table.reset_index())


def ranked(table: pd.DataFrame, better: Mapping[str, str]) -> Figure:
    """A table in which each column is coloured by its ranks; `better` tells for each which end is the first."""
    ranks = pd.DataFrame({name: table[name].rank(ascending=way == "min", method="min") for name, way in better.items()})
    cells = list(table.index)
    drawn, axes = figure(3.0 + 1.0 * len(better), 1.5 + 0.32 * len(cells))
    axis = axes[0, 0]
    axis.imshow(-ranks.to_numpy(), cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(table.to_numpy(float)):
        rank = ranks.to_numpy(float)[row, column]
        colour = "white" if rank > (len(cells) + 1) / 2 else "black"
        axis.text(column, row, f"{value:.3g}  ({rank:.0f})", ha="center", va="center", fontsize=8.5, color=colour)
    told = "" if len(set(better.values())) == 1 else "\n{} is better"
    names = [name + told.format("lower" if way == "min" else "higher") for name, way in better.items()]
    turned = max(map(len, better)) > 18  # names of losses are long
    axis.set_xticks(
        range(len(better)), names, fontsize=8.5, rotation=30 if turned else 0, ha="left" if turned else "center"
    )
    axis.set_yticks(range(len(cells)), cells)
    axis.xaxis.tick_top()
    return drawn


def settings_table(comparison: Comparison) -> tuple[list[str], pd.DataFrame]:
    """The settings that vary, and what each of them reached on validation."""
    finished = comparison.frame[(comparison.frame["status"] == "finished")]
    finished = finished[(finished["rows"] == comparison.sets[0]) & np.isfinite(finished["validation"])]
    keys = [key for key in (*comparison.by, *comparison.tuned) if finished[key].map(str).nunique() > 1]
    return leading(finished, keys), finished


def coordinates(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """Parallel coordinates: a line for each run through its settings to its validation yardstick."""
    keys, runs = settings_table(comparison)
    if len(keys) < 2 or not comparison.tuned:
        return None
    runs = runs.sort_values("validation", ascending=comparison.aim == "max", kind="stable")
    drawn, axes = figure(1.9 * (len(keys) + 1) + 1.5, 5.0)
    axis = axes[0, 0]
    heights, ticks = [], []
    for key in [*keys, "validation"]:
        column = runs[key]
        numeric = pd.to_numeric(column, errors="coerce")
        if numeric.notna().all() and numeric.nunique() > 1 and not column.map(lambda v: isinstance(v, bool)).any():
            wide = numeric.min() > 0 and numeric.max() > 30 * numeric.min() and key != "validation"
            level = np.log10(numeric) if wide else numeric
            marks = np.linspace(level.min(), level.max(), 5) if level.nunique() > 5 else np.sort(level.unique())
            texts = [f"{10**mark if wide else mark:.3g}" for mark in marks]
        else:
            texts = sorted(column.map(short).unique())
            level, marks = column.map(short).map(texts.index), np.arange(len(texts))
        low, reach = float(level.min()), float(level.max() - level.min()) or 1.0
        heights.append((level - low) / reach)
        ticks.append([((mark - low) / reach, text) for mark, text in zip(marks, texts, strict=True)])
    places = np.stack([height.to_numpy(float) for height in heights], axis=1)
    quality = np.linspace(0, 1, len(runs))
    shown = np.unique(np.linspace(0, len(runs) - 1, 300).astype(int))  # evenly, from the worst to the best
    from matplotlib import colormaps

    for place, share in zip(places[shown], quality[shown], strict=True):
        axis.plot(range(len(place)), place, color=colormaps["cividis_r"](share), alpha=0.35 + 0.5 * share,
                  linewidth=0.6 + 1.2 * share)  # fmt: skip
    for number, places_ in enumerate(ticks):
        axis.axvline(number, color="black", linewidth=0.8)
        for height, text in places_:
            axis.text(number + 0.03, height, text, fontsize=8, va="center",
                      bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})  # fmt: skip
    axis.set_xticks(range(len(ticks)), [*keys, f"val/{comparison.yardstick}"])
    axis.set_yticks([])
    axis.set_xlim(-0.1, len(ticks) - 0.6)
    axis.spines[["top", "right", "left", "bottom"]].set_visible(False)
    says = f"A line for each run through its settings to val/{comparison.yardstick}; darker is better."
    return Plot("parallel_coordinates", says, drawn, runs[[*keys, "seed", "validation"]])


def importance(comparison: Comparison, numbers: pd.DataFrame) -> Plot | None:
    """How much worse a forest predicts the validation yardstick when a setting is shuffled."""
    keys, runs = settings_table(comparison)
    if len(keys) < 2 or len(runs) < 20 or not comparison.tuned:
        return None
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.inspection import permutation_importance

    seeds = [key for key in ("seed",) if key in runs and runs[key].nunique() > 1]
    x = np.stack(
        [
            numeric.to_numpy(float)
            if (numeric := pd.to_numeric(runs[key], errors="coerce")).notna().all()
            else pd.factorize(runs[key].map(short), sort=True)[0].astype(float)
            for key in (*keys, *seeds)
        ],
        axis=1,
    )
    y = runs["validation"].rank().to_numpy()  # ranks: one run that diverged would be all that there is to predict
    order = np.random.default_rng(0).permutation(len(y))[:FOREST]
    x, y = x[order], y[order]
    half = np.arange(len(y)) % 2 == 0
    found = np.zeros((2, len(keys) + len(seeds)))
    fit = []
    for fold in (0, 1):
        train, test = (half, ~half) if fold == 0 else (~half, half)
        forest = RandomForestRegressor(50, random_state=0, n_jobs=1).fit(x[train], y[train])
        fit.append(forest.score(x[test], y[test]))
        found[fold] = permutation_importance(forest, x[test], y[test], n_repeats=5, random_state=0).importances_mean
    data = pd.DataFrame({"setting": [*keys, *seeds], "importance": found.mean(0)}).sort_values("importance")
    drawn, axes = figure(7.0, 1.2 + 0.35 * len(data))
    axes[0, 0].barh(data["setting"], data["importance"], color=stroke(0)["color"])
    axes[0, 0].set_xlabel("loss of R² when the setting is shuffled")
    tidy(axes[0, 0])
    says = (
        f"Importance of the settings for the rank in val/{comparison.yardstick}: permutation importance of a random "
        f"forest on the half that it did not see, where its R² is {np.mean(fit):.2f} (Breiman 2001)."
    )
    return Plot("importance", says, drawn, data)
