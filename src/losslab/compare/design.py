"""What is compared with what: runs sorted into cells, data sets, settings and seeds, with one setting chosen per cell.

A cell is one option of each key in `by`, such as loss=huber and optimizer=adam. Where other settings vary within a
cell, the one with the best mean of the *validation* primary metric over seeds is chosen; test figures choose nothing.
Where seeds or folds split the rows anew, each split chooses by its own validation rows: those of another split are
among the rows that it tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from losslab.compare.population import Population, find_population, find_splits, splits_vary
from losslab.compare.row_noise import read_run_blocks
from losslab.compare.runs import Runs, read_history
from losslab.compare.settings import (
    changes_figures,
    chooses_rows,
    count_values,
    drop_dependent,
    format_value,
    name_datasets,
    name_options,
)
from losslab.config.catalogue import CONF, options
from losslab.errors import Refused, nearest
from losslab.record.blocks import Blocks

REPEATS = ("seed", "data.seed", "data.fold")
FAR = 20  # times the usual deviation: a run so much worse than its cell's median has diverged


@dataclass
class Comparison:
    """Runs sorted into cells."""

    # all runs, with the columns `cell`, `dataset_key`, `repeat` (the seed), `setting`, `used` (whether it is a
    # finished run of the setting chosen for its cell), `value` (the test metric), `validation` (the best validation
    # value of the primary metric), and `score`: the value as it is compared, which over several data sets and where
    # lower is better is a multiple of the data set's mean. `split` names its split of the rows
    frame: pd.DataFrame
    by: list[str]  # the keys whose options are compared
    tuned: list[str]  # the settings that vary within a cell
    metric: str  # the test metric that is compared, such as rmse
    mode: str  # min or max
    primary: str  # the task's primary metric, which chose settings and best epochs on validation
    primary_mode: str  # min or max
    cells: list[str]  # the cells, best mean first
    datasets: list[str]  # the data sets
    points: bool  # whether differences are in hundredths of a metric between 0 and 1, or else in per cent
    alpha: float  # the level
    population: Population  # what the comparison applies to
    blocks: dict[str, Blocks]  # what the runs used recorded of their test rows, by folder

    @property
    def used(self) -> pd.DataFrame:
        """The finished runs of the chosen settings."""
        return self.frame[self.frame.used]

    @property
    def ended(self) -> pd.DataFrame:
        """All runs of the chosen settings of the cells, finished or failed."""
        frame = self.frame[self.frame["chosen"] & self.frame["cell"].isin(self.cells)]
        return frame[frame["status"].isin(["finished", "failed"])]

    @property
    def tested_rows(self) -> int:
        """How many test rows there are, where the runs recorded what they said of them; else 0."""
        return next(iter(self.blocks.values())).rows if self.blocks else 0

    @property
    def unit(self) -> str:
        """The unit of a difference."""
        return f"points of {self.metric}" if self.points else f"% {self.metric}"

    @property
    def own_unit(self) -> str:
        """The unit of how far one cell is behind another: a percentage is of its own mean, the worse one."""
        return self.unit if self.points else f"% of its {self.metric}"

    @property
    def most(self) -> float:
        """The largest difference that is possible: 100 % of the worse one's error, as no error is below 0."""
        return 100.0 if not self.points and self.used["score"].min() >= 0 else float("inf")


def arrange(
    runs: Runs,
    by: Sequence[str] = (),
    metric: str = "",
    only: dict[str, str] | None = None,
    alpha: float = 0.05,
    claim: str = "",
) -> Comparison:
    """Sort runs into cells and choose each cell's setting.

    Args:
        by: the keys to compare; by default loss and optimizer, whichever vary, or the only setting that varies.
        metric: the test metric to compare; by default the task's primary metric.
        only: settings that a run must have to take part, such as `{"task": "regression"}`.
        claim: what to speak of: rows, seeds, splits or data; by default what the records suggest.

    Raises:
        Refused: for runs of several tasks, an unknown key or metric, if no run is finished, or where the runs cannot
            speak of what was asked for.
    """
    frame = select_runs(runs.frame.copy(), only or {})
    finished = frame[frame["status"] == "finished"]
    if finished.empty:
        raise Refused(f"none of the {len(frame)} runs is finished: there is nothing to compare yet")
    primary, primary_mode = (str(finished[f"task.{key}"].dropna().iloc[0]) for key in ("yardstick", "mode"))
    metric = (metric or primary).removeprefix("test/")
    check_metric(frame, metric)
    mode = primary_mode if metric == primary else find_mode(finished, metric)

    settings = [key for key in runs.settings if changes_figures(key)]
    vary = find_varying(frame, settings)
    by = choose_keys(frame, settings, vary, by)

    frame, tuned = sort_into_cells(frame, by, vary)
    frame = drop_repeats(add_metrics(frame, metric, primary, mode))
    frame["used"] = choose_settings(frame, tuned, primary_mode)
    if not frame["used"].any():
        raise Refused(f"no finished run has a number for test/{metric}: there is nothing to compare")
    frame["score"] = scale_values(frame, mode)
    used = frame[frame["used"]]
    datasets = sorted(used["dataset_key"].unique())
    points = mode == "max" and bool(used["value"].abs().max() <= 1)
    blocks = read_run_blocks(used, metric) if len(datasets) == 1 and not splits_vary(used) and claim != "seeds" else {}
    population = find_population(used, claim, len(blocks))
    cells = order_cells(used, mode)
    return Comparison(
        frame, by, tuned, metric, mode, primary, primary_mode, cells, datasets, points, alpha, population, blocks
    )


def order_cells(used: pd.DataFrame, mode: str) -> list[str]:
    """Order the cells, best mean first; those that lack a data set come last, as others may be harder."""
    means = used.groupby(["cell", "dataset_key"])["score"].mean().groupby("cell").agg(["mean", "size"])
    means["mean"] *= 1 if mode == "min" else -1
    return list(means.sort_values(["size", "mean"], ascending=[False, True], kind="stable").index)


def select_runs(frame: pd.DataFrame, only: dict[str, str]) -> pd.DataFrame:
    """Keep the runs with these settings; a failed job that did not record one of them may have had it.

    Raises:
        Refused: if no run has such a setting, or runs of several tasks are left.
    """
    for key, value in only.items():
        have = frame[key].map(str) if key in frame else pd.Series("", frame.index)
        frame = frame[(have == value) | (frame["status"].eq("failed") & frame[key].isna() if key in frame else False)]
        if not (have == value).any():
            raise Refused(f"no run has {key}={value}; {nearest(value, set(have) - {'nan', 'None'})}")
    tasks = sorted(frame["task"].dropna().unique()) if "task" in frame else []
    if len(tasks) > 1:
        raise Refused(f"these runs are of {len(tasks)} tasks: type {' or '.join(f'task={task}' for task in tasks)}")
    return frame


def check_metric(frame: pd.DataFrame, metric: str) -> None:
    """Check that runs recorded this test metric."""
    tests = [key for key in map(str, frame) if key.startswith("test/") and frame[key].notna().any()]
    logged = [key.removeprefix("test/") for key in tests]
    if metric not in logged:
        raise Refused(f"metric={metric} is logged by no run; {nearest(metric, logged)}")


def find_mode(finished: pd.DataFrame, metric: str) -> str:
    """Find whether `min` or `max` of a metric is better: from the best and last values recorded, or the task's file.

    Raises:
        Refused: if no run recorded two different values.
    """
    if {f"val/{metric}_best", f"val/{metric}"} <= {*finished}:
        gain = finished[f"val/{metric}_best"] - finished[f"val/{metric}"]
        for folder in finished["folder"] if not gain.any() else ():
            values = read_history(folder).get(f"val/{metric}", pd.Series(dtype=float))
            if len(values) and values.iloc[0] != finished.set_index("folder").at[folder, f"val/{metric}_best"]:
                return "max" if values.iloc[0] < values.iloc[-1] else "min"
        if gain.any():
            return "max" if gain[gain != 0].iloc[0] > 0 else "min"
    tasks = options([str(CONF)], "task")
    known = [tasks[name]["task"].get("metrics", {}) for name in finished["task"].dropna().unique() if name in tasks]
    if known and metric in known[0]:
        return str(known[0][metric])
    raise Refused(f"the records do not say whether a high or a low {metric} is better: leave metric= out")


def find_varying(frame: pd.DataFrame, settings: Sequence[str]) -> list[str]:
    """Find the settings that vary, without those that always equal the seed, such as `data.seed`.

    Failed runs do not count: a job that failed before it began recorded no defaults.
    """
    begun = frame[frame["status"] != "failed"]
    vary = [key for key in settings if count_values(begun[key]) > 1]
    return [key for key in vary if key == "seed" or not (begun[key] == begun.get("seed")).all()]


def choose_keys(frame: pd.DataFrame, settings: Sequence[str], vary: Sequence[str], by: Sequence[str]) -> list[str]:
    """Return the keys to compare: those asked for, else loss and optimizer if they vary, else the one that does.

    Raises:
        Refused: for an unknown key, and where several other settings vary.
    """
    for key in by:
        if key not in settings:
            raise Refused(f"by={key} is no setting of these runs; {nearest(key, settings)}")
    if "data" in by:
        raise Refused("by=data would compare data sets, not methods: leave it out, or type data=NAME for one of them")
    chosen = list(by) or [key for key in ("loss", "optimizer") if key in vary]
    if chosen:
        return chosen
    begun = frame[frame["status"] != "failed"]
    others = drop_dependent(begun, [key for key in vary if key != "seed" and not chooses_rows(key)])
    if len(others) > 1:
        keys = ", ".join(others)
        raise Refused(
            f"loss and optimizer are the same in all runs, which differ in {keys}: type 'by=[{others[0]}]', or others"
        )
    return others or [key for key in ("loss", "optimizer") if key in settings]


def sort_into_cells(frame: pd.DataFrame, by: Sequence[str], vary: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns `cell`, `dataset_key`, `repeat` and `setting`; return the frame, and what varies within cells."""
    finished, begun = frame[frame["status"] == "finished"], frame[frame["status"] != "failed"]
    for key in {*by, "data"} & set(frame):  # a failed job may not have recorded an option that all runs share
        if count_values(finished[key]) == 1:
            frame[key] = frame[key].where(frame[key].notna(), finished[key].iloc[0])
    frame["cell"] = name_options(frame, by)
    frame["dataset_key"] = name_datasets(frame, begun, [key for key in vary if chooses_rows(key) and key not in by])
    frame["repeat"] = name_options(frame, [key for key in REPEATS if key in vary] or ["seed"])
    frame["split"] = find_splits(frame)
    groups = begun.assign(cell=frame["cell"], dataset_key=frame["dataset_key"]).groupby(["cell", "dataset_key"])
    rest = [key for key in vary if key not in (*by, *REPEATS) and not chooses_rows(key)]
    varies = {key: groups[key].agg(count_values).groupby("cell").max() > 1 for key in rest}
    tuned = drop_dependent(begun, [key for key in rest if varies[key].any()])
    frame["setting"] = [
        ", ".join(
            f"{key}={format_value(value)}"
            for key, value in zip(tuned, values, strict=True)
            if varies[key].get(cell, False)
        )
        for cell, values in zip(frame["cell"], frame[tuned].itertuples(index=False), strict=True)
    ]
    return frame, tuned


def add_metrics(frame: pd.DataFrame, metric: str, primary: str, mode: str) -> pd.DataFrame:
    """Add the columns `value` and `validation`; a finished run without a finite value, or a diverged one, has failed.

    Values are rounded to what single precision holds, so that equal accuracies are equal.
    """
    frame["value"] = pd.to_numeric(frame[f"test/{metric}"]).map(lambda value: float(f"{value:.6g}"))
    frame["validation"] = pd.to_numeric(frame[f"val/{primary}_best"])
    finished = frame["status"] == "finished"
    mute = finished & ~np.isfinite(frame["value"])
    frame.loc[mute, "status"], frame.loc[mute, "reason"] = "failed", f"its test/{metric} is no number"
    diverged = finished & ~mute & find_diverged(frame[finished & ~mute], mode).reindex(frame.index, fill_value=False)
    reasons = frame["value"].map(
        lambda value: f"diverged: its test/{metric} of {value:.4g} is far off the other seeds'"
    )
    frame.loc[diverged, "reason"] = reasons[diverged]
    frame.loc[diverged, "status"] = "failed"
    return frame


def find_diverged(finished: pd.DataFrame, mode: str) -> "pd.Series[bool]":
    """Mark the runs that are worse than the median of their setting by half of it and 20 times the usual deviation.

    The usual deviation is the median one, of all settings with at least three runs, as a normal standard deviation.
    """
    groups = finished.groupby(["dataset_key", "cell", "setting"])["value"]
    median, size = groups.transform("median"), groups.transform("size")
    worse = (finished["value"] - median) * (1 if mode == "min" else -1)
    usual = 1.4826 * worse.abs().where(size >= 3).groupby(finished["dataset_key"]).transform("median")
    return (size >= 3) & (worse > FAR * usual) & (worse > 0.5 * median.abs())


def drop_repeats(frame: pd.DataFrame) -> pd.DataFrame:
    """Keep one of runs that are the same: a finished one if there is one, and of those the last begun."""
    same = ["cell", "dataset_key", "setting", "repeat"]
    ranked = frame.assign(done=frame["status"].eq("finished"), begun=frame["started"].fillna(""))
    ranked = ranked.sort_values(["done", "begun", "folder"], kind="stable")
    again = ranked.duplicated(same, keep="last") & ~ranked["status"].eq("failed")
    repaired = ranked["status"].eq("failed") & ranked.set_index(same).index.isin(
        ranked[ranked["done"]].set_index(same).index
    )
    return frame[~(again | repaired).reindex(frame.index)].copy()


def choose_settings(frame: pd.DataFrame, tuned: Sequence[str], mode: str) -> "pd.Series[bool]":
    """Mark the finished runs of each cell's best setting on validation, among those that were tried with most seeds.

    A training that failed counts as the worst of its cell. If a sweep tuned a cell and then ran its best setting with
    fresh seeds, only the fresh seeds count. Where splits vary, each chooses for itself.
    """
    ended = frame[frame["status"].isin(["finished", "failed"]) & ~is_unknown(frame, tuned)]
    finished = ended["status"] == "finished"
    if "stage" in frame:
        fresh = ended["stage"].eq("test")
        retested = (fresh & finished).groupby([ended["cell"], ended["dataset_key"]]).transform("any")
        ended = ended[fresh | ~retested]
    where = ["cell", "dataset_key"]
    if splits_vary(frame[frame["status"] == "finished"]):
        where = [*where, "split"]
    ended = ended.assign(validation=ended["validation"].where(ended["status"] == "finished"))
    worst = ended.groupby(where)["validation"].transform("max" if mode == "min" else "min")
    ended["counted"] = ended["validation"].fillna(worst)
    groups = ended.groupby([*where, "setting"], as_index=False)
    tried = groups.agg(mean=("counted", "mean"), seeds=("counted", "size"), finished=("validation", "count"))
    some = tried.groupby(where)["finished"].transform("max") > 0  # where all failed, the failure is the result
    tried = tried[(tried["finished"] > 0) | ~some]
    tried = tried[tried["seeds"] == tried.groupby(where)["seeds"].transform("max")]
    best = tried.sort_values(["mean", "setting"], ascending=[mode == "min", True], kind="stable").groupby(where)
    picked = best.first().set_index("setting", append=True).index
    chosen = frame.set_index([*where, "setting"]).index.isin(picked) & frame.index.isin(ended.index)
    frame["chosen"] = chosen
    return pd.Series(chosen & frame["status"].eq("finished"), frame.index)


def is_unknown(frame: pd.DataFrame, tuned: Sequence[str]) -> "pd.Series[bool]":
    """Mark the jobs that failed before they recorded all settings: which of them they had is not known."""
    return frame["status"].eq("failed") & frame[list(tuned)].isna().any(axis=1)


def scale_values(frame: pd.DataFrame, mode: str) -> "pd.Series[float]":
    """Return the values as they are compared: over several data sets, where lower is better, relative to their mean."""
    used = frame[frame["used"]]
    if used["dataset_key"].nunique() == 1 or mode == "max":
        return frame["value"]
    table = used.groupby(["dataset_key", "cell"])["value"].mean().unstack()
    complete = table.dropna(axis="columns")  # cells that lack a data set must not change what the others are worth
    scale = (table if complete.empty else complete).mean(axis="columns")
    scales = frame["dataset_key"].map(scale)
    return (frame["value"] / scales).mask((scales == 0) & (frame["value"] == 0), 1.0)  # all cells are perfect there


def count_settings(comparison: Comparison) -> "pd.Series[int]":
    """Count the settings tried in each cell, without jobs that failed before they recorded theirs."""
    frame = comparison.frame
    known = frame[~is_unknown(frame, comparison.tuned) & frame["cell"].isin(comparison.cells)]
    return known.groupby("cell")["setting"].nunique()


def count_tries(comparison: Comparison) -> "pd.Series[int]":
    """Count the settings among which each cell's was chosen with the very seeds that it is tested with.

    Where fresh seeds are tested, there is nothing to make up for.
    """
    used, counts = comparison.used, count_settings(comparison)
    fresh = used["stage"].eq("test").groupby(used["cell"]).all() if "stage" in used else None
    if fresh is not None:
        counts = counts.where(~fresh.reindex(counts.index, fill_value=False), 1)
    return counts


def count_failures(comparison: Comparison) -> "pd.DataFrame":
    """Count each cell's trainings of its chosen settings: the columns `failed` and `all`, by cell."""
    ended = comparison.ended
    failed = ended["status"].eq("failed").groupby(ended["cell"])
    return pd.DataFrame({"failed": failed.sum(), "all": failed.size()}).reindex(comparison.cells, fill_value=0)
