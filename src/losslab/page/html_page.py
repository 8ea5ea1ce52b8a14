"""The page of a comparison: one self-contained HTML file that opens without a network, also on a phone and in print."""

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

from losslab.compare.lead import Line

MARKS = {"clear": "\u2713 clear", "same": "= same", "undecided": "? undecided"}  # told apart without colours, too
LONG = 80  # letters of a word: of longer ones the beginning is shown
HIDDEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
TALL = 15  # rows: a longer table scrolls by itself


class DrawnPlot(NamedTuple):
    """A plot as files: its name, a sentence on what it shows, the PNG, the SVG, and its numbers as CSV."""

    name: str
    caption: str
    png: bytes
    svg: str
    csv: str


class Link(NamedTuple):
    """A cell of a table that leads elsewhere: to another place of the page, a folder, or W&B."""

    text: str
    target: str


class Command(str):
    """A cell of a table that can be typed into a shell."""


class Section(NamedTuple):
    """A table with its heading, and a paragraph below it."""

    heading: str  # its name
    table: pd.DataFrame  # of texts, links and commands
    note: str = ""  # the paragraph
    closed: bool = False  # whether one click opens it
    ids: Sequence[str] = ()  # of the rows, which links lead to


@dataclass(frozen=True)
class Page:
    """What a page shows, in its order."""

    title: str  # what is compared
    date: str  # the only part that differs between two pages of the same runs
    lead: Sequence[Line]  # what to use, and how sure that is
    verdict: Sequence[str]  # sentences, the first of which is the headline
    cautions: Sequence[str]  # sentences
    cells: Section  # the table of the cells
    latex: str  # the same for a paper
    plots: Sequence[DrawnPlot]
    more: Sequence[DrawnPlot]  # those that one click opens
    sections: Sequence[Section]  # further tables
    method: Sequence[str]  # how the figures were computed, point by point
    refresh: int = 0  # after how many seconds a browser reads it again; 0 for never


def render_page(page: Page) -> str:
    """Render the page: the lead, cautions, cells, plots, further tables, and how the figures were computed."""
    style, script = (files("losslab.page").joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{allowed}'"
    further = "\n".join(map(render_section, page.sections))
    more = "".join(map(render_plot, page.more))
    plots = "\n".join(["<h2>Plots</h2>", *map(render_plot, page.plots)]) if page.plots else ""
    latex = f"<p>{render_download('table.tex', page.latex, 'this table in LaTeX')}</p>" if page.latex else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{policy}">
{f'<meta http-equiv="refresh" content="{page.refresh}">' if page.refresh else ""}
<title>{show(page.title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main>
<h1>{show(page.title)}</h1>
{render_lead(page.lead, page.verdict)}
{render_cautions(page.cautions)}
{render_section(page.cells)}
{latex}
{plots}
{f'<details class="more"><summary>More plots</summary>{more}</details>' if more else ""}
{further}
<h2 id="how">How: model, test and assumptions</h2>
{render_list(page.method)}
</main>
<footer>Made by losslab on <time>{page.date}</time>.</footer>
<script>{script}</script>
</body>
</html>
"""


def render_cautions(cautions: Sequence[str]) -> str:
    """Render the cautions, if there are any."""
    return f'<div class="cautions"><h2>Read with caution</h2>\n{render_list(cautions)}</div>' if cautions else ""


def make_readable(text: str) -> str:
    """Put a mark for each invisible character, such as one that turns the text after it around, and cut long words.

    >>> make_readable("\\u202eabc"), len(make_readable("x" * 20_000))
    ('\\ufffdabc', 81)
    """
    return re.sub(rf"(\S{{{LONG}}})\S+", "\\1\u2026", HIDDEN.sub("\ufffd", text))


def show(text: str) -> str:
    """Write a text into HTML so that it is read as it is.

    >>> show("a<b>")
    'a&lt;b&gt;'
    """
    return escape(make_readable(text))


def render_lead(lead: Sequence[Line], verdict: Sequence[str]) -> str:
    """Render the box that answers what to use, the evidence of each line one click below it, and the whole verdict."""
    lines = "\n".join(map(render_line, lead))
    whole = (
        render_details("The whole verdict in sentences", verdict[1:])
        if lead and verdict[1:]
        else render_list(verdict[1:])
    )
    return f"""<section class="lead" aria-label="What to use">
<h2>{show(verdict[0])}</h2>
{f"<dl>{lines}</dl>" if lead else ""}
{whole}
<p><a href="#how">How: model, test and assumptions</a></p>
</section>"""


def render_line(line: Line) -> str:
    """Render a line of the lead, with what one click shows."""
    summary = {"Use": "Its command", "Failed": "Why"}.get(line.question, "Evidence")
    more = render_details(summary, line.evidence) if line.evidence else ""
    link = f' <a href="#{line.target}">See these runs</a>' if line.target else ""
    badge = f'<span class="badge {line.badge}">{MARKS[line.badge]}</span> ' if line.badge else ""
    answer = f"{badge}{show(line.answer)}{link}{more}"
    return f'<div class="line"><dt>{show(line.question)}</dt><dd>{answer}</dd></div>'


def render_details(summary: str, sentences: Sequence[str]) -> str:
    """Render sentences that one click shows."""
    return f"<details><summary>{summary}</summary>{render_list(sentences)}</details>"


def render_list(sentences: Sequence[str]) -> str:
    """Render sentences as the points of a list."""
    return f"<ul>{''.join(f'<li>{show(sentence)}</li>' for sentence in sentences)}</ul>" if sentences else ""


def render_plot(plot: DrawnPlot) -> str:
    """Render a plot with its caption and links to its numbers and to the picture for slides."""
    data = render_download(f"{plot.name}.csv", plot.csv, "data")
    return f"""<figure id="{plot.name}">
<div class="scroll" tabindex="0" role="group" aria-label="plot: {plot.name}">{plot.svg}</div>
<figcaption>{show(plot.caption)} {data}</figcaption>
</figure>
"""


def render_section(section: Section) -> str:
    """Render a heading, its table and the paragraph below it."""
    note = f'<p class="note">{show(section.note)}</p>' if section.note else ""
    table = render_table(section.table, section.heading, section.ids)
    if section.closed:
        return f'<details class="more"><summary>{show(section.heading)}</summary>{note}{table}</details>'
    return f"<h2>{show(section.heading)}</h2>\n{table}\n{note}"


def render_download(name: str, content: str, text: str) -> str:
    """Render a link that contains a file."""
    kind = "text/csv" if name.endswith(".csv") else "text/plain"
    packed = base64.b64encode(content.encode(errors="replace")).decode()
    return f'<a download="{name}" href="data:{kind};base64,{packed}">{text}</a>'


def render_table(table: pd.DataFrame, name: str, ids: Sequence[str] = ()) -> str:
    """Render a table; on a narrow screen it scrolls inside the page.

    Args:
        table: of texts, links and commands.
        ids: of the rows, which links lead to; empty for a row without.
    """
    numbers = [all(re.match(r"[-0-9]|never$|$", cell.text if isinstance(cell, Link) else cell) for cell in table[name])
               for name in table]  # fmt: skip
    kinds = ["" if number else ' class="text"' for number in numbers]

    def render_row(cells: Iterable[str | Link], tag: str, own: str = "") -> str:
        filled = zip(cells, kinds, strict=True)
        name = f' id="{own}"' if own else ""
        return f"<tr{name}>{''.join(f'<{tag}{kind}>{render_cell(cell)}</{tag}>' for cell, kind in filled)}</tr>"

    heading = render_row(map(str, table), 'th scope="col"').replace('</th scope="col">', "</th>")
    rows = [render_row(cells, "td", own) for cells, own in
            zip(table.itertuples(index=False, name=None), ids or [""] * len(table), strict=True)]  # fmt: skip
    tall = " tall" if len(rows) > TALL else ""
    body = "\n".join(rows)
    return (
        f'<div class="scroll{tall}" tabindex="0" role="group" aria-label="table: {show(name)}"><table>\n'
        f"<thead>{heading}</thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def render_cell(cell: str | Link) -> str:
    """Render what a cell of a table holds."""
    if isinstance(cell, Link):
        return f'<a href="{escape(cell.target)}">{show(cell.text)}</a>' if cell.target else show(cell.text)
    return f'<code class="command">{escape(cell)}</code>' if isinstance(cell, Command) and cell else show(cell)
