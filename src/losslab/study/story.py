"""A study as a page of text: README.md of its folder, made from its file and its kept runs."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml

from losslab.compare.digits import count_decimals, format_decimals, round_figures
from losslab.compare.wording import join_phrases
from losslab.config.catalogue import CONF
from losslab.study.data import pick
from losslab.study.file import Study, load_sources, simplify
from losslab.study.findings import CODE, CONFIRMED, REFUTED, UNDECIDED, Results
from losslab.study.published import Values

if TYPE_CHECKING:
    import pandas as pd

LEVELS = "Each look gets half of the 5 %, so what both say holds together at 5 %."
SHARES = "Per cent are of the worse one's error; a minus sign says that the worse one is the one that is named first."
RANKS = "Ranks with their 95 % intervals, and how often each is the best where the runs are drawn again (bootstrap)"
INSTALLED = ("scikit-learn",)  # with losslab
PLANNED = "Not answered yet: the protocol is written, and the runs are to come."


def write_readme(study: Study, results: Results) -> str:
    """Write README.md of a study: every number in it follows from the runs."""
    answers = results.answers
    several = len(study.parts) > 1
    rows = [[*([str(a.claim["in"])] if several else []), a.says, a.size, a.unit, f"**{a.found}**"] for a in answers]
    heading = [*(["where"] if several else []), "claim", "difference [interval]", "unit", "here"]
    parts = [
        f"# {study.question}",
        f"**Claim.** {study.claim} ({study.source})",
        f"**Here: {summarize(results)}.** {fill(study.answer, list_sizes(results))}".strip(),
        write_table(heading, rows),
        *([SHARES] if any(a.unit.startswith("%") and "published" not in a.claim for a in answers) else []),
        *(f"Means of {name}:\n\n{write_table(['', *table.columns], tabulate(table))}" for name, table in
          results.means().items()),
        *(f"{RANKS}, {part}:\n\n![Ranks, {part}]({name_picture(part)})" for part in study.ranks if part in study.parts),
        *([write_published(results)] if study.published else []),
        f"**Tomorrow.** {study.advice}",
        f"**Protocol**, written before the first run. {study.protocol}",
        *([f"**A second look.** {study.earlier} {LEVELS}"] if study.earlier else []),
        *([f"**Published runs.** {study.published}"] if study.published else []),
        f"**Data.**\n\n{describe_data(study)}",
        f"**Cost.** {len(results.frame):,} runs, {math.ceil(results.minutes)} minutes of training on one core. All "
        f"runs are in `results.csv.gz`{name_code(results.frame)}.",
        *([f"**Read with caution.** `losslab compare` says of these runs:\n\n{list_cautions(results)}"]
          if results.cautions else []),
        f"**Not tried.** {study.not_tried}",
        f"**Repeat it:** `losslab study {study.name}{' data.path=FOLDER' if study.folders else ''}`. "
        f"`losslab study {study.name} kept=true` prints the answers again from the kept runs.",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def name_code(frame: "pd.DataFrame") -> str:
    """Name the releases and commits that trained the runs; older runs that were kept do not say it.

    >>> import pandas as pd
    >>> name_code(pd.DataFrame({"environment.losslab": ["0.1.0"], "environment.git_commit": ["1234567890abcd"]}))
    ', trained with losslab 0.1.0 at commit 1234567890'
    >>> name_code(pd.DataFrame({"environment.losslab": ["0.1.0", None], "environment.git_commit": [None, None]}))
    ', 1 of them trained with losslab 0.1.0'
    """
    if CODE[0] not in frame:
        return ""
    known = frame[frame[CODE[0]].notna()]
    code = known[[key for key in CODE if key in known]].fillna("").drop_duplicates()
    names = [f"losslab {version}" + "".join(f" at commit {commit[:10]}" for commit in rest if commit)
             for version, *rest in code.itertuples(index=False)]  # fmt: skip
    some = "" if len(known) == len(frame) else f"{len(known):,} of them "
    return f", {some}trained with {join_phrases(sorted(names))}"


def list_cautions(results: Results) -> str:
    """List what makes the answers less sure, and in which parts."""
    several = len(results.study.parts) > 1
    return "\n".join(
        f"- {sentence}{f' ({join_phrases(parts)})' if several else ''}" for sentence, parts in results.cautions.items()
    )


def summarize(results: Results) -> str:
    """Count the claims by what was found: `confirmed`, or `2 of 3 claims confirmed, 1 undecided`."""
    found = [answer.found for answer in results.answers]
    if len(set(found)) == 1:
        return found[0]
    counts = [(kind, found.count(kind)) for kind in (CONFIRMED, REFUTED, UNDECIDED) if kind in found]
    first, *others = counts
    return ", ".join([f"{first[1]} of {len(found)} claims {first[0]}", *(f"{count} {kind}" for kind, count in others)])


def name_picture(part: str) -> str:
    """Name the picture of a part's ranks.

    >>> name_picture("5 %")
    'ranks-5.png'
    """
    return f"ranks-{simplify(part)}.png"


def draw_pictures(results: Results, folder: Path) -> None:
    """Draw the ranks of the parts of a study that ask for it, beside its README.md."""
    from losslab.compare.ranks import rank_cells
    from losslab.compare.table import summarize_cells
    from losslab.page.claim_plots import draw_ranks
    from losslab.page.figures import lay_out

    for part in (each for each in results.study.ranks if each in results.study.parts):
        comparison = results.compare(part)[0]
        if plot := draw_ranks(comparison, summarize_cells(comparison).join(rank_cells(comparison))):
            drawn = lay_out(plot.figure, 110)
            drawn.savefig(folder / name_picture(part), format="png", dpi=110, metadata={"Software": None})


def write_published(results: Results) -> str:
    """Write the means and standard deviations of published runs beside those of ours."""
    rows = []
    for claim in results.claims:
        if "published" in claim and "steps" not in claim:
            ours, theirs = results.figures(claim)
            decimals = count_decimals([theirs.std(ddof=1)])
            rows.append([claim["published"], claim["metric"], *(write_mean(side, decimals) for side in (theirs, ours))])
    return f"Mean ± standard deviation:\n\n{write_table(['', 'metric', 'published', 'here'], rows)}"


def write_mean(values: Values, decimals: int | None) -> str:
    """Write the mean and the standard deviation of the runs that came to their end.

    >>> write_mean(np.array([1.0, 2.0, 3.0, np.inf]), 1)
    '2.0 ± 1.0, 3 of 4 runs'
    """
    ended = values[np.isfinite(values)]
    if len(ended) < 2:
        return f"{len(ended)} of {len(values)} runs came to their end"
    mean, spread = (format_decimals(float(value), decimals) for value in (ended.mean(), ended.std(ddof=1)))
    return f"{mean} ± {spread}, {f'{len(ended)} of ' if len(ended) < len(values) else ''}{len(values)} runs"


def list_sizes(results: Results) -> dict[str, str]:
    """List the difference that each claim is about, by the claim's number."""
    found = {results.study.claims.index(answer.claim): answer.size for answer in results.answers}
    return {str(number + 1): found.get(number, "(not run)") for number in range(len(results.study.claims))}


def fill(answer: str, sizes: Mapping[str, str]) -> str:
    """Put the differences in the place of their numbers: `{1}` is the first claim's.

    >>> fill("MAE is {1} better.", {"1": "12 % [8, 16]"})
    'MAE is 12 % [8, 16] better.'
    """
    for number, size in sizes.items():
        answer = answer.replace(f"{{{number}}}", size)
    return " ".join(answer.split())


def tabulate(table: "pd.DataFrame") -> list[list[str]]:
    """Write the means of cells, one column a part."""
    columns = [round_figures(table[name].tolist()) for name in table]
    return [[str(cell), *row] for cell, row in zip(table.index, zip(*columns, strict=True), strict=True)]


def describe_data(study: Study) -> str:
    """Write a table of the data sets: what they hold, where they come from, their licence."""
    sources = load_sources()
    rows = []
    for name in study.data:
        if known := sources.get(name):
            rows.append([f"`{name}`", known["about"], f"{known['package']} {known['version']}", known["licence"]])
        else:
            text = (CONF / "data" / f"{name}.yaml").read_text(encoding="utf-8")
            option = yaml.safe_load(text)
            where = ["losslab reads it itself", "named in its file"]
            if "root" in option:
                where[0] = "downloaded to `data.root=FOLDER`, unless it is there"
            elif option["gives"] == ["point"]:
                where = ["losslab makes it", "MIT"]
            rows.append([f"`{name}`", text.splitlines()[0].lstrip("# ").rstrip("."), *where])
    rows += [[f"`{part}`", about, "FOLDER of `data.path=FOLDER`", "your own"] for part, about in study.folders.items()]
    table = write_table(["data", "what", "package", "licence"], rows)
    return "\n\n".join([table, *(f"Install them: `{line}`" for line in write_install(pick(study.data, sources)))])


def write_install(sources: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Write the line that installs the packages of data sets, if any is missing where losslab is installed."""
    needed = sorted({f"'{known['package']}=={known['version']}'" for known in sources.values()
                     if known["package"] not in INSTALLED})  # fmt: skip
    return [f"pip install --no-deps {' '.join(needed)}"] if needed else []


def write_table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_index(studies: Sequence[Study]) -> str:
    """Write studies/README.md: one line of advice for each study."""
    rows = [
        [
            f"[{study.name}]({study.name}/{'README.md' if study.advice else 'study.yaml'})",
            study.question,
            study.advice or PLANNED,
        ]
        for study in studies
    ]
    return (
        "# Studies\n\nEach asks whether a published claim holds on data that comes with packages. The protocol was "
        "written before the runs, and all runs are kept. `losslab study NAME` repeats one, `losslab study NAME "
        "tiny=true` shows it in seconds, and `losslab study NAME kept=true` prints its answers from the kept runs.\n\n"
        + write_table(["study", "question", "what to do tomorrow"], rows)
        + "\n\nThe data sets and their licences are in [data.yaml](data.yaml). To install the packages that hold them: "
        + f"`{''.join(write_install(load_sources()))}`\n"
    )
