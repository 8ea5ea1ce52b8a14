"""Write the pages of tasks, metrics, settings and studies, from the comments in `conf/` and the pages in `studies/`."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from losslab.config.catalogue import CONF, DESCRIPTIONS, OWN_KEYS, fits, options

LOSSES, TASKS = (options([str(CONF)], group) for group in ("loss", "task"))
STUDIES = Path(__file__).parents[1] / "studies"
DETAILED = ("data", "model", "trainer", "callbacks")  # groups whose settings the page of settings lists


class Setting(NamedTuple):
    """A line of a YAML: what is typed, its default and the comment behind it."""

    name: str
    default: str
    comment: str


def read_comment(group: str, name: str) -> str:
    """Return the comment at the top of an option's file, as one text."""
    lines = (CONF / group / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("# @package")]
    top = lines[: next((place for place, line in enumerate(lines) if not line.startswith("#")), len(lines))]
    return " ".join(line.removeprefix("#").strip() for line in top)


def read_settings(text: str) -> Iterator[Setting]:
    """Yield the settings of a YAML, line by line, each by its dotted name.

    >>> [setting.name for setting in read_settings("gamma: 2.0   # of the focus\\nhead:  # the last layer\\n  lr: 0.1")]
    ['gamma', 'head', 'head.lr']
    """
    above: list[str] = []
    for line in text.splitlines():
        if found := re.fullmatch(r"( *)([\w/]+):(?: +([^#\s].*?))?(?: +# ?(.*))?", line):
            above = [*above[: len(found[1]) // 2], found[2]]
            yield Setting(".".join(above), found[3] or "", found[4] or "")


def read_metrics(task: str) -> dict[str, Setting]:
    """Return the metrics of a task by name: the default is `min` or `max`, the comment says what it is."""
    text = (CONF / "task" / f"{task}.yaml").read_text(encoding="utf-8")
    names = TASKS[task]["task"]["metrics"]
    lines = {line.name.removeprefix("task.metrics."): line for line in read_settings(text)}
    return {name: lines[name] for name in names}


def write_table(header: str, rows: list[list[str]]) -> str:
    """Return a Markdown table. A `|` in a cell would end it.

    >>> print(write_table("a, b", [["1", "x | y"]]))
    | a | b |
    |---|---|
    | 1 | x \\| y |
    """
    names = header.split(", ")
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    return "\n".join([*lines, *(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)])


def code(words: list[str]) -> str:
    """Return words set as code, with commas between them."""
    return ", ".join(f"`{word}`" for word in words)


def shown_settings(group: str, keys: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of an option's file that its class takes, and `reduction` of a loss."""
    own = {"_target_", "_partial_", "defaults", *OWN_KEYS.get(group, ()), *DESCRIPTIONS} - {"reduction", "warmup"}
    return {key: value for key, value in keys.items() if key not in own}


def tidy(text: str) -> str:
    """Return a paragraph without the indent of the code around it."""
    return textwrap.dedent(text).strip()


def write_tasks() -> str:
    """Return the page of tasks and metrics."""
    parts = ["# Tasks and metrics", tidy("""
        A task says what the targets are, which losses fit, and by which metrics a run is evaluated, whatever its
        loss. Every run records all metrics of its task. The primary metric chooses the best epoch and is what
        comparisons look at; `yardstick=NAME` makes another one the primary metric.

        `train/loss`, `val/loss` and `test/loss` are values of the loss that was trained with. Their unit is that
        loss's: mse in regression is in squared standard deviations of the training targets, cross_entropy in nats.
        So losses of runs that trained with different losses cannot be compared, and metrics can.
    """)]  # fmt: skip
    for name, file in TASKS.items():
        task = file["task"]
        rows = [
            [f"`{metric}`" + (" (primary)" if metric == task["yardstick"] else ""), line.comment, line.default]
            for metric, line in read_metrics(name).items()
        ]
        losses = code([loss for loss, keys in LOSSES.items() if fits(task, keys)])
        views = f"Offers {code(task['inputs'])}; targets as {code(task['targets'])}. Losses that fit: {losses}."
        parts += [
            f"## `{name}` {{#{name}}}",
            read_comment("task", name),
            write_table("metric, what it is, better", rows),
        ]
        parts.append(views)
    return "\n\n".join([*parts, ""])


def write_settings() -> str:
    """Return the page of settings: those that belong to no option, then the options of each group."""
    text = (CONF / "config.yaml").read_text(encoding="utf-8").split("\nrun:")[0]
    own = [line for line in read_settings(text) if line.comment and not line.name.startswith("defaults")]
    parts = ["# Settings", tidy("""
        `losslab --help` lists the options, `losslab --cfg job` prints every setting with its value, and any of them
        can be typed: `losslab loss=huber loss.delta=0.5`. A value that does not fit is refused in one sentence. The
        settings of [losses](losses.md), [optimizers](optimizers.md) and [schedules](schedules.md) are on their own
        pages.
    """), write_lines(own), "## What fits",
    write_table("setting, values", [[f"`{line.name}`", f"`{line.default}`"] for line in read_ranges()])]  # fmt: skip
    for folder in sorted(path for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"):
        rows = [[f"`{file.stem}`", first_sentence(folder.name, file.stem)] for file in sorted(folder.glob("*.yaml"))]
        parts += [f"## `{folder.name}=`", write_table("option, what it is", rows)]
        for file in sorted(folder.glob("*.yaml")) if folder.name in DETAILED else ():
            lines = [line for line in read_settings(file.read_text(encoding="utf-8")) if is_setting(line)]
            lines = [Setting(f"{folder.name}.{line.name}", line.default, line.comment) for line in lines]
            if any(line.comment for line in lines):
                parts += [f"### `{folder.name}={file.stem}`", write_lines(lines)]
    return "\n\n".join([*parts, ""])


def is_setting(line: Setting) -> bool:
    """Tell whether a line of an option's file is something to type: it has a comment or a value of its own."""
    parts = set(line.name.split("."))
    told = bool(line.comment) or (bool(line.default) and not line.default.startswith("${"))
    return told and not parts & {"_target_", "_partial_", "defaults", "task", "truth", *DESCRIPTIONS}


def first_sentence(group: str, option: str) -> str:
    """Return the first sentence of an option's file."""
    text = read_comment(group, option).split(f" losslab {group}={option}")[0]
    return re.split(r"\. (?=[A-Z`])", text)[0].rstrip(".") or "see its file"


def write_lines(lines: list[Setting]) -> str:
    """Return a table of settings."""
    rows = [[f"`{line.name}`", f"`{line.default}`" if line.default else "", line.comment] for line in lines]
    return write_table("setting, default, what it does", rows)


def read_ranges() -> list[Setting]:
    """Return the settings that losslab reads itself, each with the values that fit it."""
    found = re.findall(r"^([\w.*]+): \"?(.*?)\"?$", (CONF / "ranges.yaml").read_text(encoding="utf-8"), re.MULTILINE)
    return [Setting(name, fits, "") for name, fits in found]


def write_studies(pictures: Path) -> str:
    """Return the page of studies: the list of all, then the page of each that has answers; copy their pictures."""
    parts = [(STUDIES / "README.md").read_text(encoding="utf-8").strip()]
    for file in sorted(STUDIES.glob("*/README.md")):
        name = file.parent.name
        text = move_links(sink_headings(file.read_text(encoding="utf-8").strip(), name), name)
        for picture in set(re.findall(rf"\(pictures/study-{name}-([^)]+)\)", text)):
            shutil.copy(file.parent / picture, pictures / f"study-{name}-{picture}")
        parts.append(text)
    answered = {file.parent.name for file in STUDIES.glob("*/README.md")}
    listed = re.sub(
        r"\[(\w+)\]\((\w+)/[\w.]+\)",
        lambda found: f"[{found[1]}](#{found[2]})" if found[2] in answered else f"`{found[1]}`",
        parts[0],
    )
    return "\n\n".join([re.sub(r"\[([\w.]+)\]\((?!#)[^)]*\)", r"`studies/\1`", listed), *parts[1:], ""])


def sink_headings(text: str, anchor: str) -> str:
    """Return a page whose headings are one level deeper, the first with an anchor; what stands in code stays.

    >>> sink_headings("# A\\n```\\n# b\\n```\\n## C", "a").splitlines()
    ['## A {#a}', '```', '# b', '```', '### C']
    """
    pieces = re.split(r"(^```.*?^```)", text, flags=re.MULTILINE | re.DOTALL)
    pieces[::2] = [re.sub(r"^(#+ )", r"#\1", piece, flags=re.MULTILINE) for piece in pieces[::2]]
    return re.sub(r"^(## .*)$", rf"\1 {{#{anchor}}}", "".join(pieces), count=1, flags=re.MULTILINE)


def move_links(text: str, name: str) -> str:
    """Return a study's page whose pictures are among those of the gallery, and whose links to files are their names.

    >>> move_links("![It](circuit.png) [runs](results.csv.gz) [x](https://x.org)", "own")
    '![It](pictures/study-own-circuit.png) `studies/own/results.csv.gz` [x](https://x.org)'
    """
    text = re.sub(r"(!\[[^\]]*\]\()([\w.-]+\))", rf"\1pictures/study-{name}-\2", text)
    return re.sub(r"(?<!!)\[[^\]]*\]\((?!http|#)([^)]+)\)", rf"`studies/{name}/\1`", text)
