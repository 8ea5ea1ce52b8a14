"""Reasons to doubt a comparison, found in the records themselves."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from losslab.compare.claims import Findings
from losslab.compare.design import Comparison, count_settings
from losslab.compare.settings import changes_figures, chooses_rows, count_values, drop_dependent, format_value
from losslab.compare.wording import join_phrases
from losslab.record.rows import FIRST_NORM

SPOILT = ("data.outliers", "data.label_noise")  # they change training rows alone
SAME = {
    "environment.git_commit": "versions of the code",
    "environment.torch": "versions of torch",
    "environment.losslab": "versions of losslab",
    "environment.machine": "machines",
    "environment.gpu": "GPUs",
}


def find_cautions(comparison: Comparison, findings: Findings) -> list[str]:
    """Find all cautions, in sentences."""
    return [
        *doubt_test(findings),
        *doubt_seeds(comparison),
        *doubt_tuned_seeds(comparison),
        *doubt_unfinished(comparison),
        *doubt_budgets(comparison),
        *doubt_edges(comparison),
        *doubt_versions(comparison),
        *doubt_data(comparison),
        *doubt_other_settings(comparison),
        *doubt_stacks(comparison),
        *doubt_gradients(comparison),
    ]


def name_some(values: Iterable[object]) -> str:
    """Name up to four values; of more, three and their number.

    >>> name_some("abcdef")
    'a, b, c and 3 more'
    """
    names = [str(value) for value in values]
    return join_phrases(names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"])


def doubt_test(findings: Findings) -> Iterator[str]:
    """Say where the runs look as if a test of means could not hold its level."""
    what = [
        text
        for text, seen in (
            ("Some cells vary much more than others", findings.spreads_differ),
            ("Differences between cells are skewed", findings.skewed),
        )
        if seen
    ]
    for text in what:
        yield f"{text}. With few units p can then be too small: look at the medians and win rates, too."


def doubt_seeds(comparison: Comparison) -> Iterator[str]:
    """Find cells with one seed, few seeds, other seeds than the rest, or seeds that change nothing."""
    by_cell = comparison.used.groupby(["cell", "dataset_key"])
    counts = by_cell["repeat"].nunique()
    single = counts[counts == 1].index.get_level_values("cell").unique()
    if len(single):
        yield f"One seed only in {name_some(single)}: a second might reverse the order."
    ended = comparison.ended.groupby(["cell", "dataset_key"])["repeat"]
    sets = [(name[0], frozenset(repeats)) for name, repeats in ended]
    every = [each for _, each in sets]
    usual = max(every, key=lambda each: (every.count(each), len(each)))  # of as many, those of the complete cells
    if other := dict.fromkeys(cell for cell, each in sets if each != usual):
        shared = any(usual & each for _, each in sets if each != usual)
        then = "pairs use those that both have" if shared else "no seed is in both, so they are compared unpaired"
        yield f"Unequal seeds: {name_some(other)} ran with other seeds than the rest; {then}."
    tested = ["value", *(key for key in comparison.used if str(key).startswith("test/"))]
    values = by_cell[tested].nunique().max(axis=1)  # few rows may well give two seeds the same accuracy
    same = values[(values == 1) & (counts > 1)].index.get_level_values("cell").unique()
    if len(same):
        yield f"All seeds of {name_some(same)} give the very same {comparison.metric}: does the seed change anything?"


def doubt_unfinished(comparison: Comparison) -> Iterator[str]:
    """Count the runs that were not finished, and say why they do not count."""
    frame = comparison.frame
    for status, consequence in (
        ("failed", "failed"),
        ("running", "still say running, which a killed run does, too: start the sweep again, or wait"),
        ("interrupted", "were interrupted and do not count: go on with them by ckpt="),
        ("pruned", "were pruned (stopped early, on validation) and are no candidates"),
    ):
        runs = frame[frame["status"] == status]
        if len(runs):
            where = name_some([f"{cell} ({count})" for cell, count in runs["cell"].value_counts().items()])
            reasons = runs["reason"].dropna().map(str).value_counts()
            why = f"; most often: {reasons.index[0][:120]}" if status == "failed" and len(reasons) else ""
            yield f"{len(runs)} of {len(frame)} runs {consequence}: {where}{why}."
    lost = set(frame["cell"][~frame["status"].eq("failed")]) - set(comparison.cells)
    if lost:
        yield f"No run was finished in {name_some(sorted(lost))}: missing from the table."


def doubt_race(comparison: Comparison) -> Iterator[str]:
    """Find runs of a race: it stops training what loses, so that a comparison of all of them says less than it did."""
    folders = [os.path.abspath(folder) for folder in comparison.frame["folder"].map(str) if ":" not in folder[2:]]  # noqa: PTH100
    near = {above for folder in map(Path, {*map(os.path.dirname, folders)}) for above in (folder, folder.parent)}
    for place in sorted(folder for folder in near if (folder / "race.json").is_file()):
        page = place / "comparison" / "index.html"
        own = str(page) if page.is_file() else "which the race's command writes when it is typed again"
        yield f"These runs are of a race, which stopped training losers: its own verdict counts, {own}."


def doubt_budgets(comparison: Comparison) -> Iterator[str]:
    """Find cells in which more settings were tried, or which were trained longer."""
    counts = count_settings(comparison)
    least, most = int(counts.min()), int(counts.max())
    if least < most:
        few, many = (name_some(counts[counts == number].index) for number in (least, most))
        yield (
            f"Unequal budgets: from {least} setting{'s' if least > 1 else ''} tried in {few} to {most} in {many}; "
            "more tries find better settings."
        )
    for key in ("updates", "epochs"):
        if key in comparison.used:
            trained = comparison.used.groupby(["dataset_key", "cell"])[key].mean()
            low, high = trained.groupby("dataset_key").min(), trained.groupby("dataset_key").max()
            if (high > 1.05 * low).any():
                yield f"Unequal training: the cells' runs had {low.min():,.0f} to {high.max():,.0f} {key}."
                break


def doubt_edges(comparison: Comparison) -> Iterator[str]:
    """Find cells whose best learning rate, or number of a loss, is the largest or smallest tried."""
    for key in comparison.tuned:
        values = pd.to_numeric(comparison.frame[key], errors="coerce")
        if not ("lr" in key.split(".")[-1] or key.startswith("loss.")) or values.nunique() < 3:
            continue
        ends = values.groupby(comparison.frame["cell"]).agg(["min", "max"])
        best = {cell: set(values[runs.index]) for cell, runs in comparison.used.groupby("cell")}
        for edge, beyond in (("min", "smaller"), ("max", "larger")):
            at = [
                f"{cell} ({format_value(float(ends[edge][cell]))})"
                for cell in comparison.cells
                if ends[edge][cell] in best[cell] and ends["min"][cell] < ends["max"][cell]
            ]
            if at:
                yield (
                    f"The best {key} is the {beyond[:-1]}st tried in {name_some(at)}: a {beyond} one may be better "
                    "still."
                )


def doubt_versions(comparison: Comparison) -> Iterator[str]:
    """Find runs of different code, libraries or machines."""
    used = comparison.used
    for key, what in SAME.items():
        values: list[str] = sorted(used[key].dropna().map(str).unique()) if key in used else []
        if len(values) > 1:
            some = name_some([value[: 10 if "commit" in key else 40] for value in values])
            yield f"Runs of {len(values)} {what} are mixed: {some}."
    changed = used["environment.git_changes"].eq("yes").sum() if "environment.git_changes" in used else 0
    if changed:
        yield f"{changed} of {len(used)} runs used code with uncommitted changes: it may differ from run to run."


def doubt_data(comparison: Comparison) -> Iterator[str]:
    """Find runs on different rows, data sets or splits."""
    used, datasets = comparison.used, comparison.datasets
    if "facts.train_rows" in used:
        grouped = "data.group" in used and used["data.group"].notna().any()  # groups of any size: splits differ, too
        same = ["dataset_key", *(key for key in ("data.seed", "data.fold") if grouped and key in used)]
        sizes = used.groupby(same, dropna=False)["facts.train_rows"].agg(lambda counts: sorted(set(counts.dropna())))
        for dataset, counts in zip(sizes.index.get_level_values(0), sizes, strict=True):
            if len(counts) > 1 and counts[-1] > 1.01 * counts[0]:  # folds differ by a row
                ends = f"{counts[0]:,.0f} to {counts[-1]:,.0f}"
                yield f"Runs on {dataset} were trained on {ends} rows: these are not the same data."
    if len(datasets) > 1:
        covered = used.groupby("cell")["dataset_key"].nunique()
        few = covered[covered < len(datasets)].index
        yield (
            f"{len(datasets)} data sets are mixed ({name_some(datasets)})"
            + (f", and {name_some(few)} did not run on all of them" if len(few) else "")
            + ": means are over them; type data=NAME for one."
        )
    if "data.seed" in used and "seed" in used and (used["data.seed"] != used["seed"]).any():
        splits = used.groupby(["dataset_key", "seed"])["data.seed"].nunique()
        if (splits > 1).any():
            yield "The same seed stands for several splits (data.seed differs): runs are paired by both."
    if any(chooses_rows(key) and key not in SPOILT for key in comparison.by):
        yield "What is compared also decides which rows are tested: a difference may be due to the data alone."


def doubt_other_settings(comparison: Comparison) -> Iterator[str]:
    """Find settings besides those compared that differ from cell to cell."""
    used = comparison.used
    expected = ("environment.", "facts.", "data.", "task.", *(f"{key}." for key in comparison.by))
    others = [key for key in map(str, used) if "." in key and not key.startswith(expected) and changes_figures(key)]
    others += [key for key in ("model", "scheduler", "trainer", "loss", "optimizer") if key in used]
    others = [key for key in others if key not in comparison.by and count_values(used[key]) > 1]
    by_cell, by_data = used.groupby(["cell", "dataset_key"]), used.groupby("dataset_key")
    differ = [key for key in drop_dependent(used, others) if by_cell[key].agg(count_values).max() == 1]
    differ = [key for key in differ if by_data[key].agg(count_values).max() > 1]
    differ = [key for key in differ if key not in comparison.tuned]
    if differ and len(comparison.cells) > 1:
        yield f"The cells differ in {name_some(differ)}, too, which may be what makes the difference."


def doubt_stacks(comparison: Comparison) -> Iterator[str]:
    """Find runs that trained in a stack, whose time and memory are those of the whole stack."""
    used = comparison.used
    if "facts.stacked" in used and (some := used["facts.stacked"].notna()).any():
        yield (
            f"{some.sum()} of {len(used)} runs trained in stacks of up to {used['facts.stacked'].max():.0f}: their "
            "seconds, samples/s and MB are the stack's, and say nothing of what one run takes by itself."
        )


def doubt_gradients(comparison: Comparison) -> Iterator[str]:
    """Find the loss whose initial gradient is most above another's: at least 100 times, same optimizer and rate."""
    keys = ["optimizer", "optimizer.lr", "dataset_key"]
    frame = comparison.frame
    if not {"loss", "optimizer", "optimizer.lr", FIRST_NORM} <= set(frame):
        return
    started = frame[frame[FIRST_NORM] > 0]
    norms = started.groupby(["loss", *keys])[FIRST_NORM].median().reset_index()
    worst, sentence = 0.0, ""
    for (optimizer, rate, _), group in norms.groupby(keys):
        ordered = group.sort_values(FIRST_NORM)
        ratio = float(ordered[FIRST_NORM].iloc[-1] / ordered[FIRST_NORM].iloc[0])
        low, high = ordered["loss"].iloc[0], ordered["loss"].iloc[-1]
        if ratio >= 100 and ratio > worst and np.isfinite(ratio):
            worst = ratio
            sentence = (
                f"At the start the gradient of {high} is {ratio:,.0f} times that of {low} (optimizer={optimizer}, "
                f"lr {format_value(rate)}): the same learning rate makes other steps; tune it for each loss."
            )
    if sentence:
        yield sentence


def doubt_tuned_seeds(comparison: Comparison) -> Iterator[str]:
    """Find cells whose figures are of the seeds that they were tuned with, where others were trained anew."""
    if "stage" not in comparison.used or not (fresh := comparison.used["stage"].eq("test")).any():
        return
    if len(others := comparison.used["cell"][~fresh].unique()):
        yield (
            f"The figures of {name_some(others)} come from the seeds of the tuning, and those of the others from fresh "
            "seeds: compare them again when all have been tested."
        )
