"""What is compared with what: runs sorted into cells, data sets, settings and seeds, one setting chosen for each cell.

A cell is one option of each key in `by`, such as loss=huber and optimizer=adam. Where other settings were tried within
it, the best by the mean of the *validation* yardstick over seeds is chosen; test figures choose nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from losslab.compare.runs import Runs, history
from losslab.compare.statistics import Difference, difference, holm, least_seeds
from losslab.config.flat import excluded_from_name
from losslab.errors import Refused, nearest

TOLD_ELSEWHERE = (
    *("stage", "experiment", "search.*"),  # told by the settings that they lead to
    *("callbacks.*.dirpath", "*._*_"),
)
NOT_THE_ROWS = ("data.batch_size", "data.seed", "data.drop_last", "data.gives", "data.task", "data.root")
CROSS = " \N{MULTIPLICATION SIGN} "  # between the options that make a cell
MANY = 8  # up to so many cells each is compared with each other; of more, the best on validation with the others


@dataclass
class Comparison:
    """Runs in their cells.

    Args:
        frame: every run, with `cell`, `rows` (the data set), `repeat` (the seed), `setting`, and `used`: whether it is
            a finished run of the setting chosen for its cell. `value` is the test metric and `score` that as it is
            compared: over several data sets, where lower is better, as a multiple of the data set's mean.
        by: the keys whose options are compared.
        tuned: the settings that vary within a cell.
        metric: what is compared, such as rmse, and `better`, min or max.
        yardstick: what chose the settings and the best epochs, on validation, and `aim`, min or max.
        cells: best mean first.
        sets: the data sets.
        points: whether differences are in hundredths of a metric between 0 and 1, or else in per cent.
        alpha, test: the level, and which test: permutation, wilcoxon or t, or auto for the first of them where there
            are seeds enough for it to establish anything, else, from three seeds on, the last.
    """

    frame: pd.DataFrame
    by: list[str]
    tuned: list[str]
    metric: str
    better: str
    yardstick: str
    aim: str
    cells: list[str]
    sets: list[str]
    points: bool
    alpha: float
    test: str

    @property
    def used(self) -> pd.DataFrame:
        """The finished runs of the settings chosen."""
        return self.frame[self.frame.used]

    @property
    def unit(self) -> str:
        """What a difference is in."""
        return f"points {self.metric}" if self.points else f"% {self.metric}"


def arrange(
    runs: Runs,
    by: Sequence[str] = (),
    metric: str = "",
    only: dict[str, str] | None = None,
    alpha: float = 0.05,
    test: str = "auto",
) -> Comparison:
    """Sort what was read.

    Args:
        runs: what was read.
        by: the keys to compare; where none is given, loss and optimizer, whichever vary, or the one setting that does.
        metric: what to compare; where none is given, the task's yardstick.
        only: settings that a run must have to take part, such as `{"task": "regression"}`.
        alpha, test: the level, and which test.

    Raises:
        Refused: for runs of several tasks, an unknown key or metric, or where nothing was finished.
    """
    frame = runs.frame.copy()
    settings = [key for key in runs.settings if speaks(key)]
    for key, value in (only or {}).items():
        have = frame[key].map(str) if key in frame else pd.Series("", frame.index)
        frame = frame[(have == value) | (frame["status"].eq("failed") & frame[key].isna() if key in frame else False)]
        if not (have == value).any():
            raise Refused(f"no run has {key}={value}; {nearest(value, set(have) - {'nan', 'None'})}")
    tasks = sorted(frame["task"].dropna().unique()) if "task" in frame else []
    if len(tasks) > 1:
        raise Refused(f"these runs are of {len(tasks)} tasks: type task= one of {', '.join(tasks)}")
    finished = frame[frame["status"] == "finished"]
    if finished.empty:
        raise Refused(f"none of the {len(frame)} runs is finished: there is nothing to compare yet")
    yardstick, aim = (str(finished[f"task.{key}"].dropna().iloc[0]) for key in ("yardstick", "mode"))
    metric = (metric or yardstick).removeprefix("test/")
    logged = [
        key.removeprefix("test/") for key in map(str, frame) if key.startswith("test/") and frame[key].notna().any()
    ]
    if metric not in logged:
        raise Refused(f"metric={metric} is logged by no run; {nearest(metric, logged)}")
    better = aim if metric == yardstick else direction(finished, metric)

    begun = frame[frame["status"] != "failed"]  # with a job that failed before it began, its defaults are not told
    vary = [key for key in settings if begun[key].map(str).nunique() > 1]
    vary = [key for key in vary if key == "seed" or not (begun[key] == begun.get("seed")).all()]
    for key in by:
        if key not in settings:
            raise Refused(f"by={key} is no setting of these runs; {nearest(key, settings)}")
    by = list(by) or [key for key in ("loss", "optimizer") if key in vary]
    if not by:
        others = leading(begun, [key for key in vary if key != "seed" and not rows_of(key)])
        if len(others) > 1:
            raise Refused(f"loss and optimizer are the same in all runs, which differ in {', '.join(others)}: type by=")
        by = others or [key for key in ("loss", "optimizer") if key in settings]

    for key in {*by, "data"} & set(frame):  # a job that failed before it began may not say what all others share
        if finished[key].map(str).nunique() == 1:
            frame[key] = frame[key].where(frame[key].notna(), finished[key].iloc[0])
    frame["cell"] = label(frame, by)
    frame["rows"] = data_set(frame, begun, [key for key in vary if rows_of(key) and key not in by])
    frame["repeat"] = label(frame, [key for key in ("seed", "data.seed") if key in vary] or ["seed"])
    groups = begun.assign(cell=frame["cell"], rows=frame["rows"]).groupby(["cell", "rows"])
    rest = [key for key in vary if key not in (*by, "seed", "data.seed") and not rows_of(key)]
    varies = {key: groups[key].agg(lambda column: column.map(str).nunique()).groupby("cell").max() > 1 for key in rest}
    tuned = leading(begun, [key for key in rest if varies[key].any()])
    frame["setting"] = [
        ", ".join(
            f"{key}={short(value)}" for key, value in zip(tuned, row, strict=True) if varies[key].get(cell, False)
        )
        for cell, row in zip(frame["cell"], frame[tuned].itertuples(index=False), strict=True)
    ]
    frame["value"] = pd.to_numeric(frame[f"test/{metric}"])
    frame["validation"] = pd.to_numeric(frame[f"val/{yardstick}_best"])
    mute = (frame["status"] == "finished") & ~np.isfinite(frame["value"])
    frame.loc[mute, "status"], frame.loc[mute, "reason"] = "failed", f"its test/{metric} is no number"
    frame = once(frame)
    frame["used"] = chosen(frame, aim)
    used = frame[frame["used"]]
    if used.empty:
        raise Refused(f"no finished run has a number for test/{metric}: there is nothing to compare")
    sets = sorted(used["rows"].unique())
    frame["score"] = frame["value"]
    if len(sets) > 1 and better == "min":
        each = used.groupby(["rows", "cell"])["value"].mean().groupby("rows").mean()
        frame["score"] = frame["value"] / frame["rows"].map(each)
    means = frame[frame["used"]].groupby(["cell", "rows"])["score"].mean().groupby("cell").mean()
    cells = list(means.sort_values(ascending=better == "min", kind="stable").index)
    points = better == "max" and bool(used["value"].abs().max() <= 1)
    return Comparison(frame, by, tuned, metric, better, yardstick, aim, cells, sets, points, alpha, test)


def speaks(key: str) -> bool:
    """Whether a setting can change a run's figures, and no other setting tells so already."""
    return not excluded_from_name(key) and not any(fnmatch(key, pattern) for pattern in TOLD_ELSEWHERE)


def rows_of(key: str) -> bool:
    """Whether a setting decides which rows are trained on and tested."""
    return (key == "data" or key.startswith("data.")) and key not in NOT_THE_ROWS


def short(value: object) -> str:
    """A setting's value as it is typed.

    >>> short(0.0031622776), short(3.0), short(None)
    ('0.003162', '3', 'null')
    """
    if value is None or value != value:
        return "null"
    return f"{value:.4g}" if isinstance(value, float) else str(value).lower() if value in (True, False) else str(value)


def label(frame: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[str]":
    """The options of the keys as one name."""
    parts = [frame[key].map(short) if key in frame else pd.Series("", frame.index) for key in keys]
    name = parts[0]
    for part in parts[1:]:
        name = name + CROSS + part
    return name


def data_set(frame: pd.DataFrame, begun: pd.DataFrame, keys: Sequence[str]) -> "pd.Series[str]":
    """Each run's data set: its name, and what differs between data of that name."""
    name = frame["data"].map(short) if "data" in frame else pd.Series("data", frame.index)
    for key in leading(begun, ["data", *keys] if "data" not in keys else keys):
        if key != "data":
            name = name + " " + key.removeprefix("data.") + "=" + frame[key].map(short)
    return name


def leading(frame: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Of settings that vary together, the one that says it: not `scheduler.gamma` where `scheduler` decides it."""
    codes = {key: pd.factorize(frame[key].map(str))[0] for key in sorted(keys, key=lambda key: (key.count("."), key))}
    kept: list[str] = []
    for key, code in codes.items():
        group = key.split(".")[0]
        follows = [other for other in kept if other == group or len(set(codes[other])) == len(set(code))]
        if not any(len({*zip(codes[other], code, strict=True)}) == len(set(codes[other])) for other in follows):
            kept.append(key)
    return kept


def direction(finished: pd.DataFrame, metric: str) -> str:
    """Whether `min` or `max` of a metric is better, by what the runs recorded as its best value.

    Raises:
        Refused: where no run had a second value to choose from.
    """
    if f"val/{metric}_best" in finished:
        gain = finished[f"val/{metric}_best"] - finished[f"val/{metric}"]
        for folder in finished["folder"] if not gain.any() else ():
            values = history(folder).get(f"val/{metric}", pd.Series(dtype=float))
            if len(values) and values.iloc[0] != finished.set_index("folder").at[folder, f"val/{metric}_best"]:
                return "max" if values.iloc[0] < values.iloc[-1] else "min"
        if gain.any():
            return "max" if gain[gain != 0].iloc[0] > 0 else "min"
    raise Refused(f"the records do not say whether a high or a low {metric} is better: leave metric= out")


def once(frame: pd.DataFrame) -> pd.DataFrame:
    """Of runs that are the same, the one that was finished, and of those the last begun."""
    same = ["cell", "rows", "setting", "repeat"]
    ranked = frame.assign(done=frame["status"].eq("finished"), begun=frame["started"].fillna(""))
    ranked = ranked.sort_values(["done", "begun", "folder"], kind="stable")
    again = ranked.duplicated(same, keep="last") & ~ranked["status"].eq("failed")
    beaten = ranked["status"].eq("failed") & ranked.set_index(same).index.isin(
        ranked[ranked["done"]].set_index(same).index
    )
    return frame[~(again | beaten).reindex(frame.index)].copy()


def chosen(frame: pd.DataFrame, aim: str) -> "pd.Series[bool]":
    """The finished runs of each cell's best setting on validation, of those that most seeds finished.

    Where a sweep tuned a cell first and then ran its best setting again with fresh seeds, only the latter count.
    """
    where = ["cell", "rows", "setting"]
    finished = frame[frame["status"] == "finished"]
    if "stage" in frame:
        fresh = finished["stage"].eq("test")
        anew = fresh.groupby([finished["cell"], finished["rows"]]).transform("any")
        finished = finished[fresh | ~anew]
    tried = finished.groupby(where, as_index=False).agg(mean=("validation", "mean"), seeds=("validation", "size"))
    tried = tried[tried["seeds"] == tried.groupby(where[:2])["seeds"].transform("max")]
    best = tried.sort_values(["mean", "setting"], ascending=[aim == "min", True], kind="stable").groupby(where[:2])
    picked = best.first().set_index("setting", append=True).index
    return pd.Series(frame.set_index(where).index.isin(picked) & frame.index.isin(finished.index), frame.index)


def tried(comparison: Comparison) -> "pd.Series[int]":
    """How many settings were tried in each cell; a job that failed before it began may not say which was its."""
    frame = comparison.frame
    untold = frame["status"].eq("failed") & frame[comparison.tuned].isna().any(axis=1)
    return frame[~untold & frame["cell"].isin(comparison.cells)].groupby("cell")["setting"].nunique()


@dataclass
class Pair:
    """Two cells, and by how much the first is better, in the comparison's unit; `p` after Holm."""

    first: str
    second: str
    gap: Difference
    p: float


def scores(comparison: Comparison) -> dict[str, "pd.Series[float]"]:
    """Each cell's scores by data set and seed, turned so that higher is better."""
    sign = 1 if comparison.better == "max" else -1
    used = comparison.used.set_index(["rows", "repeat"])
    return {cell: sign * used["score"][used["cell"] == cell] for cell in comparison.cells}


def pairs(comparison: Comparison) -> list[Pair]:
    """Each cell against each that is behind it; where they are many, the best on validation against the others."""
    found = scores(comparison)
    if len(found) <= MANY:
        return tested(comparison, found, list(combinations(found, 2)))
    used = comparison.used
    means = used.assign(v=used["validation"] / used.groupby("rows")["validation"].transform("mean"))
    best = means.groupby("cell")["v"].mean().sort_values(ascending=comparison.aim == "min", kind="stable").index[0]
    return tested(comparison, found, [(best, cell) for cell in found if cell != best])


def factors(comparison: Comparison) -> dict[str, list[Pair]]:
    """Each key's options against each other, averaged over the options of the other key, by seed.

    Only for two keys, over the seeds that every cell has: a mean over fewer cells would compare other things.
    """
    if len(comparison.by) != 2:
        return {}
    used, sign = comparison.used, 1 if comparison.better == "max" else -1
    options = [used[key].map(short) for key in comparison.by]
    counts = used.groupby(["rows", "repeat"])["cell"].nunique()
    whole = counts[counts == options[0].nunique() * options[1].nunique()].index
    if len(whole) < 2:
        return {}
    kept = used[used.set_index(["rows", "repeat"]).index.isin(whole)]
    found = {}
    for key, option in zip(comparison.by, options, strict=True):
        means = kept.groupby([option, "rows", "repeat"])["score"].mean() * sign
        sides = {str(name): side.droplevel(0) for name, side in means.groupby(level=0)}
        sides = dict(sorted(sides.items(), key=lambda side: -side[1].mean()))
        found[key] = tested(comparison, sides, list(combinations(sides, 2)))
    return found


def tested(
    comparison: Comparison, found: dict[str, "pd.Series[float]"], asked: Sequence[tuple[str, str]]
) -> list[Pair]:
    """The pairs asked for, by seed where at least two seeds match, corrected together by Holm."""
    sides = []
    for first, second in asked:
        a, b = found[first], found[second]
        common = a.index.intersection(b.index).sort_values()
        paired = len(common) >= 2
        x, y = (side.loc[common].to_numpy() if paired else side.to_numpy() for side in (a, b))
        scale: Any = 100 / (1 if comparison.points else abs(y.mean()) or 1)
        sides.append((x * scale, y * scale, paired))
    test = comparison.test
    if test == "auto":
        least = min((min(len(x), len(y)) for x, y, _ in sides), default=0)
        test = "t" if 3 <= least < least_seeds(len(asked), comparison.alpha) else "permutation"
    gaps = [difference(*side, test, 1 - comparison.alpha) for side in sides]
    corrected = holm([gap.p for gap in gaps])
    return [Pair(*names, gap, p) for names, gap, p in zip(asked, gaps, corrected, strict=True)]
