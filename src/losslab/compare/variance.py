"""Where the noise of a comparison comes from: data sets, splits, the rows tested or training again; what to repeat."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from losslab.compare.claims import Findings
from losslab.compare.design import Comparison
from losslab.compare.row_noise import estimate_row_noise, read_run_blocks

Array = NDArray[Any]
TRAINING, ROWS = "training again", "rows tested"
TELL_APART = {
    TRAINING: ": these runs did not record what they said of each row",
    f"split and {TRAINING}": "; several seeds on each split, such as data.seed=0,1,2 seed=0,1,2, tell its parts apart",
}
REMEDIES = {
    "data set": "More data sets help",
    "split": "More splits, such as data.seed=0,1,2,3,4, help",
    ROWS: "More test rows help",
    TRAINING: "More seeds help",
}


@dataclass(frozen=True)
class Components:
    """The standard deviation of a metric, and of a difference between two cells, by source."""

    # the columns `source`, `repeats` (how many of it there are), `metric` and `difference` (standard deviations,
    # NaN where unknown), and `share`: of the variance of the difference's mean
    table: pd.DataFrame
    sentence: str  # what they are of, and which kind of repeat is worth buying


def nested_variances(values: Array, levels: Sequence[Array]) -> Array:
    """Estimate the variance of each level of a nested design, outermost first, and last that within the last level.

    The model is `y = mean + a_g + b_gh + ... + rest`. With `m_l` the means of the groups of level l, the sums of
    squares `sum m_l^2 - sum m_(l-1)^2` over all values have expectations that are linear in the variances; these
    equations are solved. Negative solutions are 0. For equal numbers that is the analysis of variance.
    Source: Henderson 1953, method 1; Searle, Casella & McCulloch 1992, chapter 5.

    Args:
        levels: of each level the group of each value (n,); more groups than in the level before, fewer than values.

    >>> nested_variances(np.array([1.0, 3.0, 11.0, 13.0]), [np.array([0, 0, 1, 1])]).tolist()
    [49.0, 2.0]
    """
    y = values - values.mean()
    codes = [np.zeros(len(y), int), *(pd.factorize(level)[0] for level in levels), np.arange(len(y))]
    sizes = np.stack([np.bincount(code)[code] for code in codes])
    squares = np.array([((np.bincount(code, y) / np.bincount(code))[code] ** 2).sum() for code in codes])
    expected = (np.minimum(sizes[:, None], sizes[None]) / sizes[:, None]).sum(2)
    solved = np.linalg.solve(np.diff(expected, axis=0)[:, 1:], np.diff(squares))
    return np.asarray(np.maximum(solved, 0.0))


def find_levels(frame: pd.DataFrame) -> tuple[list[str], list[Array], str]:
    """Find which levels vary above single trainings, by the columns `dataset_key` and `split` of these.

    Returns:
        The names of the levels, the group of each training in them, and a name for what is left: it has the level with
        it that has one training in each group.
    """
    names, codes, last, count = [], [], TRAINING, 1
    for name, keys in (("data set", ["dataset_key"]), ("split", ["dataset_key", "split"])):
        groups = frame.groupby(keys, sort=False).ngroup().to_numpy()
        found = len(set(groups))
        if found == len(frame) > count:
            last = f"{name} and {TRAINING}"
        elif found > count:
            names.append(name)
            codes.append(groups)
        count = found
    return names, codes, last


def estimate_components(comparison: Comparison, findings: Findings) -> Components | None:
    """Estimate the components of the two leading cells; `None` where they share fewer than two trainings."""
    first = findings.leader
    second = next((cell for cell in comparison.cells if cell != first), None)
    used = comparison.used[comparison.used["cell"].isin([first, second])]
    keys = ["dataset_key", "split", "repeat"]
    shared = used.groupby([*keys, "cell"])["score"].mean().unstack().dropna()
    if second is None or shared.shape[1] < 2 or len(shared) < 2:
        return None
    scale = 100 / (1 if comparison.points else abs(float(shared[second].mean())) or 1)
    names, codes, last = find_levels(shared.reset_index())
    a, b = shared[first].to_numpy() * scale, shared[second].to_numpy() * scale
    metric = (nested_variances(a, codes) + nested_variances(b, codes)) / 2
    difference = nested_variances(a - b, codes)
    rows = estimate_rows(comparison, used, [first, second]) * scale**2
    if last != TRAINING or names:  # splits tested different rows
        holder = -1 if last != TRAINING else -2
        for variances, part in ((metric, rows[0]), (difference, rows[1])):
            variances[holder] = max(0.0, variances[holder] - np.nan_to_num(part))
    errors = [float(np.sum(np.bincount(code) ** 2)) / len(a) ** 2 for code in (*codes, np.arange(len(a)))]
    splits = shared.reset_index()[["dataset_key", "split"]].drop_duplicates()
    table = pd.DataFrame(
        {
            "source": [*names, last],
            "repeats": [*(len(set(code)) for code in codes), len(a)],
            "metric": np.sqrt(metric),
            "difference": np.sqrt(difference),
            "error": difference * errors,
        }
    )
    counted = rows[1] / len(splits) * (comparison.population.claim != "seeds")
    tested = used["facts.test_rows"].median() if "facts.test_rows" in used else float("nan")
    more = [(ROWS, tested, np.sqrt(rows[0]), np.sqrt(rows[1]), counted)]
    if "split" not in " ".join(table["source"]):
        more.insert(0, ("split", len(splits), np.nan, np.nan, np.nan))
    above, below = table[: len(names)], table[len(names) :]
    table = pd.concat([above, pd.DataFrame(more, columns=list(table)), below], ignore_index=True)
    table["share"] = table["error"] / (table["error"].sum() or np.nan)
    return Components(table.drop(columns="error"), describe_components(comparison, table, first, second))


def estimate_rows(comparison: Comparison, used: pd.DataFrame, cells: list[str]) -> Array:
    """Estimate the variances that come from the rows tested: of the metric and of the difference `(2,)`.

    Where splits tested different rows, these are means over the splits. NaN where runs did not record what they said of
    each row, and over several data sets.
    """
    found = []
    for _, part in used.groupby("split") if len(comparison.datasets) == 1 else ():
        blocks = comparison.blocks or read_run_blocks(part, comparison.metric)
        if len(set(part["folder"].map(str)) & set(blocks)) == len(part) and part["cell"].nunique() == 2:
            noise = estimate_row_noise(part, cells, blocks, comparison.metric)
            pure = noise.covariance - noise.mixed
            found.append([pure.trace() / 2, pure[0, 0] + pure[1, 1] - 2 * pure[0, 1]])
    return np.maximum(np.mean(found, 0), 0.0) if found else np.full(2, np.nan)


def describe_components(comparison: Comparison, table: pd.DataFrame, first: str, second: str) -> str:
    """Say what the components are of, which source decides the error of the difference, and what to buy."""
    about = (
        f"Standard deviations in {comparison.unit}: of one test result (the mean over {first} and {second}), and of "
        "the difference between the two with the same data and seed. A seed sets both the initial weights and the "
        "order of the rows, so training again changes both."
    )
    if table["share"].isna().all():
        return about
    most = int(np.nanargmax(table["share"]))
    source, share = table["source"].iloc[most], 100 * table["share"].iloc[most]
    kinds = [kind for kind in REMEDIES if kind in source]
    several = kinds == ["split", TRAINING]
    remedy = "More seeds, each with its own split, help" if several else REMEDIES[kinds[0]]
    how = ": data.folds=5 tests every row" if kinds == [ROWS] else ""
    known = ", as far as it is known" if table["difference"][table["source"] == ROWS].isna().any() else ""
    if table["share"].notna().sum() == 1:
        return f"{about} Only one source is known{TELL_APART.get(source, '')}."
    much = "nearly all" if share > 99.5 else f"{share:.0f} %"
    return (
        f"{about} What makes their mean difference uncertain{known}: {much} of its variance comes from "
        f"{'' if source == TRAINING else 'the '}{source}. {remedy} most{how}."
    )


def format_components(components: Components, unit: str) -> pd.DataFrame:
    """Write the table of components as texts; what did not vary or was not recorded is blank."""

    def write(values: "pd.Series[float]", form: str) -> list[str]:
        return [form.format(value) if value == value else "" for value in values]

    table = components.table
    return pd.DataFrame(
        {
            "source": table["source"],
            "repeats": write(table["repeats"], "{:,.0f}"),
            f"sd, {unit}": write(table["metric"], "{:.2g}"),
            f"sd of the difference, {unit}": write(table["difference"], "{:.2g}"),
            "share of its error": [
                "< 1 %" if share < 0.005 else text
                for share, text in zip(table["share"], write(100 * table["share"], "{:.0f} %"), strict=True)
            ],
        }
    )
