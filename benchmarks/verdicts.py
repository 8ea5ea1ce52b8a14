"""How often a verdict is wrong, how well its intervals cover, and what it finds: simulated on the whole path.

    python benchmarks/verdicts.py                              # every design, 300 experiments each: about an hour
    python benchmarks/verdicts.py experiments=100 designs=cells,grid
    python benchmarks/verdicts.py rivals=holm,tukey find="6 cells"
    python benchmarks/verdicts.py experiments=150 designs=cells rivals=holm,tukey,bootstrap out=verdicts-cells.csv
    python benchmarks/verdicts.py experiments=150 designs=grid,rows rivals=none out=FILE    # of verdicts-others.csv
    python benchmarks/verdicts.py experiments=300 designs=accuracy,data,splits,folds,tuned rivals=none out=FILE

`out` stores the table as results/ has it. The random numbers of an experiment follow from the name of its design.

Each experiment writes run folders with made-up figures, and has them read, arranged, tested and put into sentences by
`losslab.compare`'s own functions. Nothing differs but noise, so each "beats" is false; for the power one cell is then
better. Rivals see the same figures, where they are installed: Holm's correction of paired t tests (statsmodels),
autorank, baycomp and rliable. The table says for each design, in per cent of experiments:

    false      at least one sentence says "beats" where nothing differs
    covers     all intervals of differences hold the truth at once; `mean`: the interval of a cell's mean does
    power      the better cell "beats" another, per pair, at the difference that is stated
"""

import contextlib
import io
import json
import os
import re
import shlex
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import date
from functools import lru_cache, partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.runs import read_runs
from losslab.compare.table import summarize_cells
from losslab.compare.verdict import write_verdict
from losslab.record.blocks import BLOCKS, digest_rows

sys.path.append(str(Path(__file__).parent))
from tables import to_markdown, write_table

Array = NDArray[Any]
MEAN = 100.0  # of an RMSE; its noise has a standard deviation of 1
ACCURACY = 0.9


@dataclass(frozen=True)
class Design:
    """A kind of experiment.

    Args:
        group: the name under which it is asked for.
        name: in the table.
        draw: returns the runs of one experiment: a list of settings, each with `test` and `val`.
        gap: the difference of the first cell for the power, in the unit of the values; 0 where power is not asked.
        claim: what is asked of the comparison.
        truth: the mean that the interval of a cell should hold; `None` where it is not asked.
        rivals: whether rivals see the same figures.
    """

    group: str
    name: str
    draw: Callable[[np.random.Generator], list[dict[str, Any]]]
    gap: float = 0.0
    claim: str = ""
    truth: float | None = None
    rivals: bool = False


def noise(kind: str, rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw noise of mean 0 and, where it has one, standard deviation 1; the last axis is the cell."""
    cell = np.arange(shape[-1])
    if kind == "normal":
        return rng.standard_normal(shape)
    if kind == "t2":
        return rng.standard_t(2, shape)
    if kind == "outliers":
        return rng.standard_normal(shape) + 10.0 * (rng.random(shape) < 0.05) - 0.5
    if kind == "spreads":
        return rng.standard_normal(shape) * np.where(cell % 2, 3.0, 1.0)
    scale = 0.5 if kind == "lognormal.5" else 1.0
    mean, sd = np.exp(scale**2 / 2), np.sqrt(np.expm1(scale**2) * np.exp(scale**2))
    skewed: Array = (np.exp(scale * rng.standard_normal(shape)) - mean) / sd
    if kind == "skews":
        return skewed * np.where(cell % 2, -1.0, 1.0)
    if kind == "spreads and skew":
        return skewed * np.where(cell % 2, 3.0, 1.0)
    return skewed


def write_run(folder: Path, number: int, run: dict[str, Any]) -> None:
    """Write a run's folder as losslab does, with what a comparison reads."""
    place = folder / str(number)
    place.mkdir()
    accuracy = run.get("task") == "single_label"
    metric, mode = ("accuracy", "max") if accuracy else ("rmse", "min")
    usual = {"task": "regression", "task.yardstick": metric, "task.mode": mode, "data": "made", "model": "mlp"}
    config: dict[str, Any] = usual | {"loss": "a", "optimizer": "adam", "seed": 0, "data.seed": run.get("seed", 0)}
    config |= {key: value for key, value in run.items() if key not in ("test", "val", "rows", "facts", "status")}
    (place / "config.yaml").write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in config.items()))
    status = {"status": run.get("status", "finished"), "reason": None, "seconds": 1.0, "facts": run.get("facts", {})}
    (place / "status.json").write_text(json.dumps(status))
    test, val = float(run["test"]), float(run.get("val", run["test"]))
    if status["status"] == "finished":
        summary = {f"test/{metric}": test, f"val/{metric}": val, f"val/{metric}_best": val}
        (place / "summary.json").write_text(json.dumps(summary))
    if "rows" in run:  # what the run got right of each test row
        right = run["rows"].astype(float)
        size = -(-len(right) // BLOCKS)
        count = len(right) // size
        size = len(right) // count
        total, parts = right.sum(), right[: count * size].reshape(count, size).sum(1)
        without = (total - parts) / (len(right) - size)
        np.savez(
            place / "rows.npz",
            **{
                "metrics": np.array([metric]),
                "test.values": np.array([right.mean()]),
                "test.without": without[:, None],
                "test.count": np.array(len(right)),
                "test.split": np.array(digest_rows(np.arange(len(right)))),
            },
        )


def draw_cells(rng: np.random.Generator, n: int, k: int, kind: str) -> list[dict[str, Any]]:
    """Return runs of k losses with n seeds, whose RMSE is noise."""
    values = MEAN + noise(kind, rng, (n, k))
    return [{"loss": f"l{cell}", "seed": seed, "test": values[seed, cell]} for seed in range(n) for cell in range(k)]


def draw_accuracies(rng: np.random.Generator, n: int, k: int, rows: int) -> list[dict[str, Any]]:
    """Return runs whose accuracies are of so many test rows, each drawn anew."""
    hits = rng.binomial(rows, ACCURACY, (n, k)) / rows
    return [
        {"loss": f"l{cell}", "seed": seed, "test": hits[seed, cell], "task": "single_label"}
        for seed in range(n)
        for cell in range(k)
    ]


def draw_grid(
    rng: np.random.Generator, losses: int, optimizers: int, n: int, kind: str, rho: float
) -> list[dict[str, Any]]:
    """Return a grid of losses and optimizers, whose validation and test noise correlate by `rho`."""
    test = noise(kind, rng, (n, losses * optimizers))
    val = rho * test + np.sqrt(1 - rho**2) * noise(kind, rng, test.shape)
    return [
        {"loss": f"l{cell // optimizers}", "optimizer": f"o{cell % optimizers}", "seed": seed}
        | {"test": MEAN + test[seed, cell], "val": MEAN + val[seed, cell]}
        for seed in range(n)
        for cell in range(losses * optimizers)
    ]


def draw_data_sets(rng: np.random.Generator, count: int, n: int, k: int, tau: float = 1.0) -> list[dict[str, Any]]:
    """Return runs on several data sets, on each of which the methods differ, but not on average."""
    own = tau * rng.standard_normal((count, k))
    return [
        {"loss": f"l{cell}", "seed": seed, "data": f"d{data}", "test": MEAN + own[data, cell] + rng.standard_normal()}
        for data in range(count)
        for seed in range(n)
        for cell in range(k)
    ]


def draw_splits(rng: np.random.Generator, count: int, n: int, k: int, ratio: float = 1.0) -> list[dict[str, Any]]:
    """Return several trainings on each of several splits; a split's own difference is `ratio` of a training's."""
    own = ratio * rng.standard_normal((count, k))
    return [
        {"loss": f"l{cell}", "seed": seed, "data.seed": split}
        | {"test": MEAN + own[split, cell] + rng.standard_normal()}
        for split in range(count)
        for seed in range(n)
        for cell in range(k)
    ]


def draw_one_split(rng: np.random.Generator, rows: int, n: int, k: int) -> list[dict[str, Any]]:
    """Return models of equal accuracy on the population, tested on the same rows, and trained on one split.

    Each row has a difficulty that all share and one for each cell; each training adds its own, and where there are
    several, each is a little better or worse as a whole.
    """
    whole = 0.05 if n > 1 else 0.0
    shared, own = rng.standard_normal(rows), 0.7 * rng.standard_normal((k, rows))
    runs = []
    for seed in range(n):
        for cell in range(k):
            right = shared + own[cell] + 0.7 * rng.standard_normal(rows) + whole * rng.standard_normal() < 1.8
            run = {"loss": f"l{cell}", "seed": seed, "data.seed": 0, "test": right.mean(), "task": "single_label"}
            runs.append(run | {"rows": right})
    return runs


def draw_folds(rng: np.random.Generator, rows: int, count: int, repeats: int) -> list[dict[str, Any]]:
    """Return two learners by repeated k-fold cross-validation of one sample: nearest class means of other features.

    The features are alike, so the learners are equally good on the population.
    """
    y = np.arange(rows) % 2
    x = rng.standard_normal((rows, 2, 5)) + 0.35 * (2 * y - 1)[:, None, None]
    runs = []
    for repeat in range(repeats):
        order = rng.permutation(rows)
        for fold in range(count):
            test = order[fold::count]
            train = np.setdiff1d(order, test)
            for cell in range(2):
                centre = [x[train][y[train] == label][:, cell].mean(0) for label in (0, 1)]
                score = x[test][:, cell] @ (centre[1] - centre[0]) - (centre[1] @ centre[1] - centre[0] @ centre[0]) / 2
                run = {"loss": f"l{cell}", "seed": repeat, "data.seed": repeat, "data.folds": count, "data.fold": fold}
                facts = {"train_rows": len(train), "test_rows": len(test)}
                right = ((score > 0) == y[test]).mean()
                runs.append(run | {"test": right, "task": "single_label", "facts": facts})
    return runs


def draw_tuned(rng: np.random.Generator, settings: int, n: int, rho: float) -> list[dict[str, Any]]:
    """Return a cell tuned among many settings that are all alike, and one with its default, with the same seeds."""
    test = rng.standard_normal((n, settings + 1))
    val = rho * test + np.sqrt(1 - rho**2) * rng.standard_normal(test.shape)
    return [
        {"loss": "l0" if number else "l1", "optimizer.lr": 0.001 * (1 + number), "seed": seed, "data.seed": 0}
        | {"test": MEAN + test[seed, number], "val": MEAN + val[seed, number]}
        for number in range(settings + 1)
        for seed in range(n)
    ]


def designs() -> Iterator[Design]:
    """List all designs, with a difference for the power that a paired t test finds about three times in four."""
    gaps = {3: 3.4, 5: 2.2, 10: 1.25, 20: 0.85}
    for k in (2, 6):
        for kind in ("normal", "lognormal.5", "lognormal", "t2", "outliers", "spreads", "skews", "spreads and skew"):
            for n, gap in gaps.items():
                draw = partial(draw_cells, n=n, k=k, kind=kind)
                yield Design("cells", f"{k} cells, {kind}, n={n}", draw, gap, truth=MEAN, rivals=True)
        for rows in (20, 100, 359):
            for n in (3, 5, 10):
                draw = partial(draw_accuracies, n=n, k=k, rows=rows)
                yield Design(
                    "accuracy", f"{k} cells, accuracy of {rows} rows, n={n}", draw, truth=ACCURACY, rivals=True
                )
    for losses, optimizers in ((2, 3), (2, 4), (6, 8)):
        for kind in ("normal", "spreads", "skews"):
            for n in (3, 5, 10):
                for rho in (0.0, 0.6, 0.9) if losses == 6 and kind == "normal" else (0.6,):
                    draw = partial(draw_grid, losses=losses, optimizers=optimizers, n=n, kind=kind, rho=rho)
                    yield Design("grid", f"{losses} x {optimizers}, {kind}, rho={rho}, n={n}", draw)
    for count in (2, 3, 6, 12):
        yield Design("data", f"{count} data sets x 10 seeds, 3 cells", partial(draw_data_sets, count=count, n=10, k=3))
    for count, n in ((3, 10), (5, 5), (10, 3)):
        yield Design("splits", f"{count} splits x {n} seeds, 2 cells", partial(draw_splits, count=count, n=n, k=2))
    for rows in (100, 359, 1000, 10_000):
        for n in (1, 2, 3, 5, 20):
            draw = partial(draw_one_split, rows=rows, n=n, k=2)
            yield Design("rows", f"{rows} test rows, {n} seeds of one split, 2 cells", draw, 4.5 / rows**0.5 / 5)
    draw = partial(draw_one_split, rows=359, n=3, k=6)
    yield Design("rows", "359 test rows, 3 seeds of one split, 6 cells", draw)
    for count, repeats in ((5, 1), (5, 3), (10, 1), (10, 3)):
        draw = partial(draw_folds, rows=200, count=count, repeats=repeats)
        yield Design("folds", f"{repeats} x {count} folds of 200 rows", draw)
    for n in (3, 5):
        for rho in (0.6, 0.9):
            yield Design(
                "tuned", f"48 settings against 1, rho={rho}, n={n}", partial(draw_tuned, settings=48, n=n, rho=rho)
            )


def experiment(design: Design, seed: int, shifted: bool, place: Path) -> dict[str, float]:
    """Run one experiment; return what was false, covered or found, and what the rivals said."""
    rng = np.random.default_rng([seed, sum(map(ord, design.name))])
    runs = design.draw(rng)
    if shifted:
        runs = [shift(run, design.gap) if run["loss"] == "l0" else run for run in runs]
    folder = Path(tempfile.mkdtemp(dir=place))
    for number, run in enumerate(runs):
        write_run(folder, number, run)
    comparison = arrange(read_runs([str(folder)]), claim=design.claim)
    findings = evaluate(comparison)
    said = "\n".join(write_verdict(comparison, findings))
    shutil.rmtree(folder)
    found: dict[str, float] = {}
    pairs = findings.every
    if shifted:
        against = [pair for pair in findings.pairs if "l0" in (pair.first, pair.second)]
        found["power"] = float(np.mean([pair.p <= 0.05 and pair.first == "l0" for pair in against]))
    else:
        found["false"] = bool(re.search(r"\bbeats?\b", said))
        known = [pair for pair in pairs if np.isfinite(pair.low)]
        found["covers"] = all(pair.low <= 0 <= pair.high for pair in known) if known else np.nan
        if design.truth is not None:
            cells = summarize_cells(comparison)
            found["mean"] = float(((cells["low"] <= design.truth) & (design.truth <= cells["high"])).mean())
        found["disagree"] = any((pair.p <= 0.05) != (pair.low > 0 or pair.high < 0) for pair in known)
    if design.rivals:
        table = {
            loss: [run["test"] for run in runs if run["loss"] == loss] for loss in sorted({run["loss"] for run in runs})
        }
        for name, values in rivals(np.array(list(table.values())).T, shifted, seed).items():
            found |= {f"{name} {key}": value for key, value in values.items()}
    return found


def shift(run: dict[str, Any], gap: float) -> dict[str, Any]:
    """Make a run better: an RMSE smaller, or an accuracy larger by getting more of its test rows right."""
    if "rows" not in run:
        return run | {"test": run["test"] - gap}
    rows = run["rows"].copy()
    wrong = np.flatnonzero(~rows)
    rows[wrong[: round(gap * len(rows))]] = True
    return run | {"rows": rows, "test": rows.mean()}


def rivals(table: Array, shifted: bool, seed: int) -> dict[str, dict[str, float]]:
    """Return what other tests say of a table `(n, k)`: whether any pair differs, or the first does from the others.

    autorank integrates numerically, which takes long: it sees the first 60 experiments only.
    """
    found = {}
    pairs = list(combinations(range(table.shape[1]), 2))
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # autorank prints
        warnings.simplefilter("ignore")
        for name, test in RIVALS.items():
            if name == "autorank" and seed >= 60:
                continue
            try:
                differ = test(table, pairs)
            except ImportError:
                continue
            if shifted:
                found[name] = {"power": float(np.mean([d for d, pair in zip(differ, pairs, strict=True) if 0 in pair]))}
            else:
                found[name] = {"false": float(any(differ))}
    return found


def holm(table: Array, pairs: list[tuple[int, int]]) -> list[bool]:
    """Paired t tests, corrected by Holm's procedure."""
    from scipy import stats
    from statsmodels.stats.multitest import multipletests

    p = [np.nan_to_num(stats.ttest_rel(table[:, a], table[:, b]).pvalue, nan=1.0) for a, b in pairs]
    return [bool(each) for each in multipletests(p, 0.05, "holm")[0]]


def tukey(table: Array, pairs: list[tuple[int, int]]) -> list[bool]:
    """Tukey's range test in a randomised block design: what is best where noise is normal and alike everywhere."""
    n, k = table.shape
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    df = (n - 1) * (k - 1)
    step = range_quantile(k, df) * np.sqrt((rest**2).sum() / df / n)
    means = table.mean(0)
    return [bool(abs(means[a] - means[b]) > step) for a, b in pairs]


@lru_cache
def range_quantile(k: int, df: int) -> float:
    """Return the 95 % quantile of the studentized range of k means, which takes long to compute."""
    from scipy import stats

    return float(stats.studentized_range.ppf(0.95, k, df))


def autorank_(table: Array, pairs: list[tuple[int, int]]) -> list[bool]:
    """Say what autorank says, which chooses its test itself."""
    import pandas as pd
    from autorank import autorank

    if len(table) < 5:
        raise ImportError
    found = autorank(pd.DataFrame(table, columns=[f"c{i}" for i in range(table.shape[1])]), alpha=0.05, verbose=False)
    ranks, critical = found.rankdf, found.cd
    if found.pvalue >= 0.05:
        return [False] * len(pairs)
    if table.shape[1] == 2:
        return [True]
    centre = ranks["meanrank"] if critical is not None else None
    if centre is not None:
        return [bool(abs(centre[f"c{a}"] - centre[f"c{b}"]) > critical) for a, b in pairs]
    low, high = ranks["ci_lower"], ranks["ci_upper"]
    return [bool(low[f"c{a}"] > high[f"c{b}"] or low[f"c{b}"] > high[f"c{a}"]) for a, b in pairs]


def baycomp_(table: Array, pairs: list[tuple[int, int]]) -> list[bool]:
    """Say where baycomp's correlated t test, without correlation, is sure at 97.5 % on one side."""
    import baycomp

    found = []
    for a, b in pairs:
        left, right = baycomp.CorrelatedTTest.probs(table[:, a], table[:, b], 0, runs=1)
        found.append(bool(max(left, right) > 0.975))
    return found


def bootstrap(table: Array, pairs: list[tuple[int, int]]) -> list[bool]:
    """Say where the percentile bootstrap interval of the difference of means, which rliable draws, excludes 0."""
    rng = np.random.default_rng(0)
    drawn = table[rng.integers(0, len(table), (999, len(table)))].mean(1)
    low, high = np.quantile([drawn[:, a] - drawn[:, b] for a, b in pairs], [0.025, 0.975], axis=1)
    return [bool(each) for each in (low > 0) | (high < 0)]


RIVALS: dict[str, Callable[[Array, list[tuple[int, int]]], list[bool]]] = {
    "holm": holm, "tukey": tukey, "autorank": autorank_, "baycomp": baycomp_, "bootstrap": bootstrap,
}  # fmt: skip

LABELS = {"holm": "Holm's t", "tukey": "Tukey"}


def simulate(design: Design, seeds: range, place: str) -> dict[str, list[float]]:
    """Run the experiments of a design with these seeds; collect each quantity."""
    found: dict[str, list[float]] = {}
    for seed in seeds:
        for shifted in (False, True) if design.gap else (False,):
            for key, value in experiment(design, seed, shifted, Path(place)).items():
                found.setdefault(key, []).append(value)
    return found


def describe(design: Design) -> str:
    """Name a design as docs do."""
    return design.name.replace(" 1 seeds", " 1 seed").replace("of one split", "on one split")


def write_share(values: Sequence[float]) -> str:
    """Write the mean of some zeros and ones in per cent; nothing if none is known."""
    return "" if np.isnan(values).all() else f"{100 * np.nanmean(values):.1f}"


def main() -> None:
    """Run the designs that were asked for and print the table, a line as soon as it is known."""
    typed = dict(word.split("=", 1) for word in sys.argv[1:])
    count, asked = int(typed.get("experiments", 300)), typed.get("designs", "")
    chosen = [design for design in designs() if not asked or design.group in asked.split(",")]
    if "rivals" in typed:
        for name in set(RIVALS) - set(typed["rivals"].split(",")):
            del RIVALS[name]
    if "find" in typed:
        chosen = [design for design in chosen if re.search(typed["find"], design.name)]
    columns = {key: key for key in ("false", "covers", *(["mean"] if RIVALS else []), "power")}
    columns |= {f"{name} {key}": f"{LABELS.get(name, name)}: {key}" for key in ("false", "power") for name in RIVALS}
    columns.pop("bootstrap power", None)  # it calls more different than differ
    heading, rows = ["design", *columns.values()], []
    print(to_markdown([heading]), flush=True)
    workers = min(int(typed.get("n", 2)), os.cpu_count() or 1)
    place = tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None)
    disagreed = 0.0
    with ProcessPoolExecutor(workers) as pool:
        for design in chosen:
            shares = [range(start, count, workers) for start in range(workers)]
            parts = list(pool.map(simulate, *zip(*((design, share, place) for share in shares), strict=True)))
            found = {
                key: [value for part in parts for value in part.get(key, [])]
                for key in {key for part in parts for key in part}
            }
            disagreed += sum(found.get("disagree", []))
            rows.append([describe(design), *(write_share(found.get(key, [])) for key in columns)])
            print(f"| {' | '.join(rows[-1])} |", flush=True)
    shutil.rmtree(place)
    print(f"interval and p disagreed in {disagreed:.0f} experiments")
    if "out" in typed:
        made_by = f"python benchmarks/verdicts.py {shlex.join(sys.argv[1:])}, {date.today()}"
        write_table(Path(typed["out"]), made_by, heading, rows)


if __name__ == "__main__":
    main()
