"""What fools people: reasons to doubt a comparison, found in the records themselves."""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pandas as pd

from losslab.compare.design import Comparison, Pair, leading, short, speaks, tried
from losslab.compare.statistics import least_seeds
from losslab.compare.verdict import listing

SAME = {
    "environment.git_commit": "versions of the code",
    "environment.torch": "versions of torch",
    "environment.losslab": "versions of losslab",
    "environment.machine": "machines",
    "environment.gpu": "GPUs",
}


def cautions(comparison: Comparison, found: Sequence[Pair]) -> list[str]:
    """All of them, in sentences; that selection was on validation rows closes the list. `found` are the pairs."""
    every = (seeds, unfinished, budgets, edges, mixed, stacked, gradients)
    return [*test(comparison, found), *(each for look in every for each in look(comparison)), selection(comparison)]


def named(values: Iterable[object]) -> str:
    """Some of them by name."""
    names = [str(value) for value in values]
    return listing(names if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"])


def seeds(comparison: Comparison) -> Iterator[str]:
    """One seed, few seeds, other seeds in other cells, seeds that differ in nothing."""
    used = comparison.used
    counts = used.groupby(["cell", "rows"])["repeat"].nunique()
    single = counts[counts == 1].index.get_level_values("cell").unique()
    if len(single):
        yield f"One seed only in {named(single)}: a second might turn the order round."
    if 1 < counts.min() < 5:
        yield f"With {counts.min()} seeds the bootstrap intervals are too narrow; from 5 on they begin to hold."
    sets = used.groupby(["cell", "rows"])["repeat"].agg(lambda repeats: ",".join(sorted(set(repeats))))
    if sets.nunique() > 1:
        usual = sets.mode().iloc[0]
        other = sets[sets != usual].index.get_level_values("cell").unique()
        yield f"Unequal seeds: {named(other)} ran with others than the rest; pairs use the seeds that both have."
    share = used.groupby(["cell", "rows"])["value"].nunique()
    same = share[(share == 1) & (counts > 1)].index.get_level_values("cell").unique()
    if len(same):
        yield f"All seeds of {named(same)} give the very same {comparison.metric}: does the seed change anything?"


def test(comparison: Comparison, found: Sequence[Pair]) -> Iterator[str]:
    """A test that assumes what few seeds cannot show."""
    if comparison.test == "auto" and any(pair.gap.test == "t" and pair.gap.n > 1 for pair in found):
        n, least = min(pair.gap.n for pair in found), least_seeds(len(found), comparison.alpha)
        of = f"{len(found)} pair{'s' if len(found) > 1 else ''}"
        yield (
            f"p is of Student's t, which takes differences to be normal: an exact test cannot establish anything at "
            f"{n} seeds over {of}; it can from {least} on."
        )


def unfinished(comparison: Comparison) -> Iterator[str]:
    """Runs that do not count, and why."""
    frame = comparison.frame
    for status, saying in (
        ("failed", "failed and do not count: means are over those that survived"),
        ("running", "still say running, which a killed run does, too: start the sweep again, or wait"),
        ("interrupted", "were interrupted and do not count: go on with them by ckpt="),
        ("pruned", "were pruned (stopped early, on validation) and are no candidates"),
    ):
        runs = frame[frame["status"] == status]
        if len(runs):
            per = runs["cell"].value_counts()
            where = named([f"{cell} ({count})" for cell, count in per.items()])
            reasons = runs["reason"].dropna().map(str).value_counts()
            why = f"; most often: {reasons.index[0][:120]}" if status == "failed" and len(reasons) else ""
            yield f"{len(runs)} of {len(frame)} runs {saying}: {where}{why}."
    lost = set(frame["cell"]) - set(comparison.cells)
    if lost:
        yield f"No run was finished in {named(sorted(lost))}: missing from the table."


def budgets(comparison: Comparison) -> Iterator[str]:
    """Cells for which more was tried, or which were trained longer."""
    counts = tried(comparison)
    least, most = int(counts.min()), int(counts.max())
    if least < most:
        few, many = (named(counts[counts == number].index) for number in (least, most))
        yield (
            f"Unequal budgets: from {least} setting{'s' if least > 1 else ''} tried in {few} to {most} in {many}; "
            "more tries find better settings."
        )
    for key, what in (("updates", "updates"), ("epochs", "epochs")):
        if key in comparison.used:
            trained = comparison.used.groupby(["rows", "cell"])[key].mean()
            low, high = trained.groupby("rows").min(), trained.groupby("rows").max()
            if (high > 1.05 * low).any():
                yield f"Unequal training: the cells' runs had {low.min():,.0f} to {high.max():,.0f} {what}."
                break


def edges(comparison: Comparison) -> Iterator[str]:
    """A best value that is the largest or smallest tried: a better one may lie beyond."""
    for key in comparison.tuned:
        if "lr" not in key.split(".")[-1]:
            continue
        values = pd.to_numeric(comparison.frame[key], errors="coerce")
        ends = values.groupby(comparison.frame["cell"]).agg(["min", "max"])
        best = {cell: set(values[runs.index]) for cell, runs in comparison.used.groupby("cell")}
        for edge, beyond in (("min", "smaller"), ("max", "larger")):
            at = [
                f"{cell} ({short(float(ends[edge][cell]))})"
                for cell in comparison.cells
                if ends[edge][cell] in best[cell] and ends["min"][cell] < ends["max"][cell]
            ]
            if at:
                yield f"The best {key} is the {beyond[:-1]}st tried in {named(at)}: a {beyond} one may be better still."


def mixed(comparison: Comparison) -> Iterator[str]:
    """Runs that differ in what should be the same: data, split, code, machine, other settings."""
    used = comparison.used
    for key, what in SAME.items():
        values: list[str] = sorted(used[key].dropna().map(str).unique()) if key in used else []
        if len(values) > 1:
            some = named([value[: 10 if "commit" in key else 40] for value in values])
            yield f"Runs of {len(values)} {what} are mixed: {some}."
    changed = used["environment.git_changes"].eq("yes").sum() if "environment.git_changes" in used else 0
    if changed:
        yield f"{changed} of {len(used)} runs had changes that were not committed: their code cannot be told apart."
    if "facts.train_rows" in used:
        rows = used.groupby("rows")["facts.train_rows"].agg(lambda counts: sorted(set(counts.dropna())))
        for data, counts in rows.items():
            if len(counts) > 1:
                ends_ = f"{counts[0]:,.0f} to {counts[-1]:,.0f}"
                yield f"Runs on {data} were trained on {ends_} rows: these are not the same data."
    if len(comparison.sets) > 1:
        missing = used.groupby("cell")["rows"].nunique()
        few = missing[missing < len(comparison.sets)].index
        yield (
            f"{len(comparison.sets)} data sets are mixed ({named(comparison.sets)})"
            + (f", and {named(few)} did not run on all of them" if len(few) else "")
            + ": means are over them, and p speaks of these, not of others; type data=NAME for one."
        )
    if "data.seed" in used and "seed" in used and (used["data.seed"] != used["seed"]).any():
        splits = used.groupby(["rows", "seed"])["data.seed"].nunique()
        if (splits > 1).any():
            yield "The same seed stands for several splits (data.seed differs): runs are paired by both."
    if any(key.startswith("data") for key in comparison.by):
        yield "What is compared decides the rows that are tested: a difference may be the data's, not the method's."
    own = ("environment.", "facts.", "data.", "task.", *(f"{key}." for key in comparison.by))
    others = [key for key in map(str, used) if "." in key and not key.startswith(own) and speaks(key)]
    others += [key for key in ("model", "scheduler", "trainer", "loss", "optimizer") if key in used]
    others = [key for key in others if key not in comparison.by and used[key].map(str).nunique() > 1]
    differ = [key for key in leading(used, others) if used.groupby(["cell", "rows"])[key].agg(distinct).max() == 1]
    differ = [key for key in differ if key not in comparison.tuned]
    if differ and len(comparison.cells) > 1:
        yield f"The cells differ in {named(differ)}, too, which may be what makes the difference."


def stacked(comparison: Comparison) -> Iterator[str]:
    """Runs of which many trained as one, so that time and memory are those of all of them."""
    used = comparison.used
    if "facts.stacked" in used and (some := used["facts.stacked"].notna()).any():
        yield (
            f"{some.sum()} of {len(used)} runs trained in stacks of up to {used['facts.stacked'].max():.0f}: their "
            "seconds, samples/s and MB are the stack's, and say nothing of what one run takes by itself."
        )


def distinct(values: "pd.Series[str]") -> int:
    """How many different values there are."""
    return int(values.map(str).nunique())


def gradients(comparison: Comparison) -> Iterator[str]:
    """A loss whose gradient at the start is 100 times another's, with the same optimizer and learning rate."""
    keys = ["loss", "optimizer", "optimizer.lr", "rows"]
    frame = comparison.frame
    if not {"loss", "optimizer", "optimizer.lr"} <= set(frame):
        return
    norms = frame[frame["first/gradient_norm"] > 0].groupby(keys)["first/gradient_norm"].median().reset_index()
    worst: tuple[float, str] = (0.0, "")
    for (optimizer, rate, _), group in norms.groupby(keys[1:]):
        ordered = group.sort_values("first/gradient_norm")
        ratio = float(ordered["first/gradient_norm"].iloc[-1] / ordered["first/gradient_norm"].iloc[0])
        low, high = ordered["loss"].iloc[0], ordered["loss"].iloc[-1]
        if ratio >= 100 and ratio > worst[0] and np.isfinite(ratio):
            worst = (
                ratio,
                (
                    f"At the start the gradient of {high} is {ratio:,.0f} times that of {low} (optimizer={optimizer}, "
                    f"lr {short(rate)}): the same learning rate is another step for each; tune it for each loss."
                ),
            )
    if worst[1]:
        yield worst[1]


def selection(comparison: Comparison) -> str:
    """What chose, and on which rows."""
    what = "Best epochs" + (" and settings" if comparison.tuned else "")
    chosen = f"{what} were chosen by val/{comparison.yardstick}; test figures chose nothing."
    if "stage" not in comparison.used or not (fresh := comparison.used["stage"].eq("test")).any():
        return chosen
    other = comparison.used["cell"][~fresh].unique()
    but = f", but those of {named(other)} are of the seeds that they were tuned with" if len(other) else ""
    return f"{chosen[:-1]}, and the figures are of fresh seeds{but}."
