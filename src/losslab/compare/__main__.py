"""Which loss and which optimizer were better, by how much, and how sure that is: from runs to a verdict and a page.

    losslab compare outputs                          # every run below a folder, or below several
    losslab compare outputs by=[loss,model]          # what is compared: else loss and optimizer, as they vary
    losslab compare outputs metric=mae alpha=0.01    # judged by another metric of the task, at another level
    losslab compare outputs task=regression data=diamonds    # some of the runs
    losslab compare wandb:ENTITY/PROJECT             # online; a folder of offline W&B runs works, too

The verdict comes first, then the table, then what to be cautious about; the last line is the page. Settings and best
epochs are chosen by the task's yardstick on the validation rows, and test figures are only reported. Beside the page
lie each plot as PNG with its numbers as CSV, and the table, the pairs and the runs as CSV.

    out=FOLDER          where to: else the folder `comparison` in the folder given, or in outputs
    test=auto           what decides whether a difference is real: permutation, wilcoxon or t; auto is the exact
                        permutation of signs where there are seeds enough for it, else Student's t
    difference=1        the difference worth finding, in per cent or points, for which the seeds needed are told
    cross=true          load the best models again and judge each under every loss that fits its task; takes longer
    log=true            log table and plots to W&B, as a run of the type report, offline until you say otherwise
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import io
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from losslab.compare.design import CROSS, Comparison, Pair, arrange, factors, pairs
from losslab.compare.runs import Runs, read
from losslab.errors import Refused, command, keyed, listed
from losslab.files import writable_folder, write_together
from losslab.spreadsheet import frame_csv

KEYS = ("by", "metric", "task", "data", "out", "alpha", "test", "difference", "log", "cross")
TESTS = ("auto", "permutation", "wilcoxon", "t")


@dataclass
class Asked:
    """What was typed, known to be right as far as that can be said without the runs."""

    folders: list[str]
    out: Path
    by: list[str] = field(default_factory=list)
    metric: str = ""
    only: dict[str, str] = field(default_factory=dict)
    alpha: float = 0.05
    test: str = "auto"
    difference: float = 1.0
    log: bool = False
    cross: bool = False


def asked(words: Sequence[str]) -> Asked:
    """Folders and settings apart, the settings read.

    Raises:
        Refused: for anything that could have been mistyped.

    >>> asked(["outputs", "by=[loss]", "alpha=0.01"]).by
    ['loss']
    """
    folders = [word for word in words if "=" not in word or Path(word).is_dir()]
    typed = keyed([word for word in words if word not in folders], KEYS)
    if not folders:
        raise Refused("a comparison needs runs: type a folder that holds them, such as outputs")
    if typed.get("test", "t") not in TESTS:
        raise Refused(f"test={typed['test']} is not an option: type one of {', '.join(TESTS)}")
    for key in ("log", "cross"):
        if typed.get(key, "true") not in ("true", "false"):
            raise Refused(f"{key}={typed[key]} does not fit: it must be true or false")
    numbers = {}
    for key, usual, top in (("alpha", 0.05, 0.5), ("difference", 1.0, 1000.0)):
        try:
            numbers[key] = float(typed.get(key, usual))
        except ValueError:
            numbers[key] = 0.0
        if not 0 < numbers[key] <= top:
            raise Refused(f"{key}={typed[key]} does not fit: it must be a number above 0, up to {top:g}")
    beside = Path(folders[0] if len(folders) == 1 and Path(folders[0]).is_dir() else "outputs")
    return Asked(
        folders,
        writable_folder(Path(typed.get("out") or beside / "comparison"), "out"),
        listed(typed.get("by", "")),
        typed.get("metric", ""),
        {key: typed[key] for key in ("task", "data") if key in typed},
        **numbers,
        test=typed.get("test", "auto"),
        log=typed.get("log") == "true",
        cross=typed.get("cross") == "true",
    )


def overview(runs: Runs) -> str:
    """What could be read, where there is no verdict: how many runs of what, and their figures."""
    from losslab.compare.table import lined_up

    frame = runs.frame
    if frame.empty:
        return "no run could be read"
    keys = [key for key in ("task", "data", "model", "loss", "optimizer", "status") if key in frame]
    counts = frame[keys].fillna("").astype(str).groupby(keys, sort=True).size()
    rows = [[*map(str, index if isinstance(index, tuple) else [index]), str(n)] for index, n in counts.items()]
    more = [[f"and {len(rows) - 30} more", *[""] * len(keys)]] if len(rows) > 30 else []
    return lined_up([[*keys, "runs"], *rows[:30], *more])


def compare(wanted: Asked, runs: Runs) -> str:
    """Write the page and all that lies beside it; what is printed is returned, the page's path last.

    Raises:
        Refused: where the runs cannot be compared as asked.
    """
    finished = int(runs.frame["status"].eq("finished").sum()) if len(runs.frame) else 0
    if finished < 2:
        some = "no run is" if finished == 0 else "one run is no comparison: only one is"
        unread = f" ({half(runs)})" if runs.broken else ""
        raise Refused(f"{some} finished{unread}: run it with another loss, optimizer or seed, then compare again")
    comparison = arrange(runs, wanted.by, wanted.metric, wanted.only, wanted.alpha, wanted.test)

    from losslab.compare.cautions import cautions
    from losslab.compare.table import contrasts, figures, lined_up, words
    from losslab.compare.verdict import verdict
    from losslab.page.html_page import DrawnPlot, render_page
    from losslab.page.plots import draw_plots
    from losslab.page.result_plots import draw_cross

    found = pairs(comparison)
    numbers = figures(comparison)
    said, warned = verdict(comparison, found, wanted.difference), cautions(comparison, found)
    every = {"cells": found, **{f"options of {key}": some for key, some in factors(comparison).items()}}
    against = pd.concat([contrasts(some).assign(of=key) for key, some in every.items()])

    files: dict[str, str | bytes] = {}
    shown = []
    drawn = list(draw_plots(comparison, numbers))
    if wanted.cross:
        from losslab.compare.cross import table

        drawn.append(draw_cross(table(comparison)))
    for plot in drawn:
        picture = io.BytesIO()
        plot.figure.savefig(picture, format="png", dpi=150, metadata={"Software": None})
        shown.append(DrawnPlot(plot.name, plot.caption, picture.getvalue(), frame_csv(plot.data)))
        files |= {f"{plot.name}.png": shown[-1].png, f"{plot.name}.csv": shown[-1].csv}
    files |= {"cells.csv": frame_csv(numbers), "pairs.csv": frame_csv(against)}
    files["runs.csv"] = frame_csv(comparison.frame.drop(columns=["first/gradient_norm"]))

    title = f"{CROSS.join(comparison.by)}: test {comparison.metric} of {len(comparison.used):,} runs"
    lines = in_words(against, comparison)
    files["index.html"] = render_page(
        title, time.strftime("%Y-%m-%d"), said, warned, words(comparison, numbers), lines, shown, how(comparison, found)
    )
    write_together(wanted.out, files)
    logged = []
    if wanted.log:
        from losslab.page.wandb_report import log_report

        logged = [log_report(title, said + warned, {"cells": numbers, "pairs": against}, wanted.out)]
    text = ["\n".join(said), "", lined_up(words(comparison, numbers, whole=False)), ""]
    return "\n".join([*text, *(f"caution: {each}" for each in warned), "", *logged, str(wanted.out / "index.html")])


def in_words(against: pd.DataFrame, comparison: Comparison) -> list[list[str]]:
    """The pairs as they are read, those that are surest first: 100 of them."""
    if against.empty:
        return []
    heading = [
        "of",
        "better",
        "than",
        "n",
        f"by, {comparison.unit}",
        "interval",
        "p",
        "p after Holm",
        "Cohen's d",
        "P(better)",
    ]
    rows = []
    for pair in against.sort_values("p after Holm", kind="stable").head(100).to_dict("records"):
        low, high, n = pair["low"], pair["high"], pair["n"]
        numbers = [f"{pair[key]:.2g}" if pair[key] == pair[key] else "" for key in ("p", "p after Holm", "Cohen's d")]
        rows.append([
            str(pair["of"]), str(pair["better"]), str(pair["than"]), f"{n}{'' if pair['paired'] else ' unpaired'}",
            f"{pair['difference']:.3g}", "" if low != low else f"{low:.3g} to {high:.3g}", *numbers,
            f"{pair['probability of improvement']:.2f}",
        ])  # fmt: skip
    return [heading, *rows]


def how(comparison: Comparison, found: Sequence[Pair]) -> str:
    """What the figures are, in a few sentences."""
    test = next(iter({pair.gap.test for pair in found}), comparison.test)
    tests = {
        "permutation": "permutation of the signs of the paired differences",
        "wilcoxon": "Wilcoxon's signed-rank test",
        "t": "Student's paired t test",
    }
    level = f"{100 * (1 - comparison.alpha):g} %"
    return (
        f"Each run was tested at its best epoch on validation. Intervals of means are {level} percentile bootstrap "
        f"intervals, those of differences are Student's t. Tests: {tests.get(test, test)} where at least two seeds "
        "match, else its unpaired kin; p after Holm's correction over the pairs of one family. IQM is the mean of the "
        "middle half; P(better) the probability that a run of the one beats a run of the other. Seeds needed are for a "
        "power of 80 % at the corrected level."
    )


def main() -> None:
    """The command: a comparison, or one sentence and exit code 1 after what could be read."""
    with command(__doc__, "out=FOLDER") as words:
        wanted = asked(words)
        runs = read(wanted.folders)
        try:
            print(compare(wanted, runs), flush=True)
        except Refused:
            print(overview(runs), flush=True)
            raise
        if runs.broken:
            sys.exit(f"losslab: {half(runs)}; all else was compared")


def half(runs: Runs) -> str:
    """Which records could not be read."""
    more = f" and {len(runs.broken) - 3} more" if len(runs.broken) > 3 else ""
    count = len(runs.broken)
    return f"{count} record{'s' if count > 1 else ''} could not be read: {', '.join(runs.broken[:3])}{more}"


if __name__ == "__main__":
    main()
