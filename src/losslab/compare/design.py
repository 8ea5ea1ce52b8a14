"""What is compared with what: runs sorted into cells, data sets, settings and seeds, with one setting chosen per cell.

A cell is one option of each key in `by`, such as loss=huber and optimizer=adam. Where other settings vary within a
cell, the one with the best mean of the *validation* primary metric over seeds is chosen; test figures choose nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

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
from losslab.errors import Refused, nearest


@dataclass
class Comparison:
    """Runs sorted into cells.

    Args:
        frame: all runs, with the columns `cell`, `dataset_key`, `repeat` (the seed), `setting`, `used` (whether it is a
            finished run of the setting chosen for its cell), `value` (the test metric), `validation` (the best
            validation value of the primary metric), and `score`: the value as it is compared, which over several data
            sets and where lower is better is a multiple of the data set's mean.
        by: the keys whose options are compared.
        tuned: the settings that vary within a cell.
        metric: the test metric that is compared, such as rmse, and `mode`, min or max.
        primary: the task's primary metric, which chose settings and best epochs on validation, and `primary_mode`.
        cells: the cells, best mean first.
        datasets: the data sets.
        points: whether differences are in hundredths of a metric between 0 and 1, or else in per cent.
        alpha: the level.
        test: permutation, wilcoxon or t; or auto: permutation if the seeds suffice for it to establish anything, else
            t from three seeds on.
    """

    frame: pd.DataFrame
    by: list[str]
    tuned: list[str]
    metric: str
    mode: str
    primary: str
    primary_mode: str
    cells: list[str]
    datasets: list[str]
    points: bool
    alpha: float
    test: str

    @property
    def used(self) -> pd.DataFrame:
        """The finished runs of the chosen settings."""
        return self.frame[self.frame.used]

    @property
    def unit(self) -> str:
        """The unit of a difference."""
        return f"points {self.metric}" if self.points else f"% {self.metric}"


def arrange(
    runs: Runs,
    by: Sequence[str] = (),
    metric: str = "",
    only: dict[str, str] | None = None,
    alpha: float = 0.05,
    test: str = "auto",
) -> Comparison:
    """Sort runs into cells and choose each cell's setting.

    Args:
        runs: the runs that were read.
        by: the keys to compare; by default loss and optimizer, whichever vary, or the only setting that varies.
        metric: the test metric to compare; by default the task's primary metric.
        only: settings that a run must have to take part, such as `{"task": "regression"}`.
        alpha, test: the level, and which test.

    Raises:
        Refused: for runs of several tasks, an unknown key or metric, or if no run is finished.
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
    frame = drop_repeats(add_metrics(frame, metric, primary))
    frame["used"] = choose_settings(frame, primary_mode)
    if not frame["used"].any():
        raise Refused(f"no finished run has a number for test/{metric}: there is nothing to compare")
    frame["score"] = scale_values(frame, mode)
    used = frame[frame["used"]]
    means = used.groupby(["cell", "dataset_key"])["score"].mean().groupby("cell").mean()
    cells = list(means.sort_values(ascending=mode == "min", kind="stable").index)
    datasets = sorted(used["dataset_key"].unique())
    points = mode == "max" and bool(used["value"].abs().max() <= 1)
    return Comparison(frame, by, tuned, metric, mode, primary, primary_mode, cells, datasets, points, alpha, test)


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
    """Check that runs recorded this test metric.

    Raises:
        Refused: if none did.
    """
    tests = [key for key in map(str, frame) if key.startswith("test/") and frame[key].notna().any()]
    logged = [key.removeprefix("test/") for key in tests]
    if metric not in logged:
        raise Refused(f"metric={metric} is logged by no run; {nearest(metric, logged)}")


def find_mode(finished: pd.DataFrame, metric: str) -> str:
    """Find whether `min` or `max` of a metric is better, from the best and last values that the runs recorded.

    Raises:
        Refused: if no run recorded two different values.
    """
    if f"val/{metric}_best" in finished:
        gain = finished[f"val/{metric}_best"] - finished[f"val/{metric}"]
        for folder in finished["folder"] if not gain.any() else ():
            values = read_history(folder).get(f"val/{metric}", pd.Series(dtype=float))
            if len(values) and values.iloc[0] != finished.set_index("folder").at[folder, f"val/{metric}_best"]:
                return "max" if values.iloc[0] < values.iloc[-1] else "min"
        if gain.any():
            return "max" if gain[gain != 0].iloc[0] > 0 else "min"
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

    Args:
        frame: the runs.
        settings: all settings.
        vary: the settings that vary.
        by: the keys asked for.

    Raises:
        Refused: for an unknown key, and where several other settings vary.
    """
    for key in by:
        if key not in settings:
            raise Refused(f"by={key} is no setting of these runs; {nearest(key, settings)}")
    chosen = list(by) or [key for key in ("loss", "optimizer") if key in vary]
    if chosen:
        return chosen
    begun = frame[frame["status"] != "failed"]
    others = drop_dependent(begun, [key for key in vary if key != "seed" and not chooses_rows(key)])
    if len(others) > 1:
        keys = ", ".join(others)
        raise Refused(
            f"loss and optimizer are the same in all runs, which differ in {keys}: type by=[{others[0]}], or others"
        )
    return others or [key for key in ("loss", "optimizer") if key in settings]


def sort_into_cells(frame: pd.DataFrame, by: Sequence[str], vary: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """Add the columns `cell`, `dataset_key`, `repeat` and `setting`.

    Returns:
        The frame, and the settings that vary within cells.
    """
    finished, begun = frame[frame["status"] == "finished"], frame[frame["status"] != "failed"]
    for key in {*by, "data"} & set(frame):  # a failed job may not have recorded an option that all runs share
        if count_values(finished[key]) == 1:
            frame[key] = frame[key].where(frame[key].notna(), finished[key].iloc[0])
    frame["cell"] = name_options(frame, by)
    frame["dataset_key"] = name_datasets(frame, begun, [key for key in vary if chooses_rows(key) and key not in by])
    frame["repeat"] = name_options(frame, [key for key in ("seed", "data.seed") if key in vary] or ["seed"])
    groups = begun.assign(cell=frame["cell"], dataset_key=frame["dataset_key"]).groupby(["cell", "dataset_key"])
    rest = [key for key in vary if key not in (*by, "seed", "data.seed") and not chooses_rows(key)]
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


def add_metrics(frame: pd.DataFrame, metric: str, primary: str) -> pd.DataFrame:
    """Add the columns `value` and `validation`; a finished run without a finite value counts as failed."""
    frame["value"] = pd.to_numeric(frame[f"test/{metric}"])
    frame["validation"] = pd.to_numeric(frame[f"val/{primary}_best"])
    mute = (frame["status"] == "finished") & ~np.isfinite(frame["value"])
    frame.loc[mute, "status"], frame.loc[mute, "reason"] = "failed", f"its test/{metric} is no number"
    return frame


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


def choose_settings(frame: pd.DataFrame, mode: str) -> "pd.Series[bool]":
    """Mark the finished runs of each cell's best setting on validation, among the settings that most seeds finished.

    If a sweep tuned a cell and then ran its best setting with fresh seeds, only the fresh seeds count.
    """
    where = ["cell", "dataset_key", "setting"]
    finished = frame[frame["status"] == "finished"]
    if "stage" in frame:
        fresh = finished["stage"].eq("test")
        retested = fresh.groupby([finished["cell"], finished["dataset_key"]]).transform("any")
        finished = finished[fresh | ~retested]
    tried = finished.groupby(where, as_index=False).agg(mean=("validation", "mean"), seeds=("validation", "size"))
    tried = tried[tried["seeds"] == tried.groupby(where[:2])["seeds"].transform("max")]
    best = tried.sort_values(["mean", "setting"], ascending=[mode == "min", True], kind="stable").groupby(where[:2])
    picked = best.first().set_index("setting", append=True).index
    return pd.Series(frame.set_index(where).index.isin(picked) & frame.index.isin(finished.index), frame.index)


def scale_values(frame: pd.DataFrame, mode: str) -> "pd.Series[float]":
    """Return the values as they are compared: over several data sets, where lower is better, relative to their mean."""
    used = frame[frame["used"]]
    if used["dataset_key"].nunique() == 1 or mode == "max":
        return frame["value"]
    scale = used.groupby(["dataset_key", "cell"])["value"].mean().groupby("dataset_key").mean()
    return frame["value"] / frame["dataset_key"].map(scale)


def count_settings(comparison: Comparison) -> "pd.Series[int]":
    """Count the settings tried in each cell, without jobs that failed before they recorded theirs."""
    frame = comparison.frame
    unknown = frame["status"].eq("failed") & frame[comparison.tuned].isna().any(axis=1)
    return frame[~unknown & frame["cell"].isin(comparison.cells)].groupby("cell")["setting"].nunique()
