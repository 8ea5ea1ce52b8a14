"""The page of a comparison: one self-contained HTML file that opens without a network or scripts, also on a phone."""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

import pandas as pd

from losslab.compare.lead import Line

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --faint: #4d4d4d; --line: #d0d0d0; --paper: #fff; --box: #f3f6f9;
  --blue: #0063a0; --orange: #b34700; }
@media (prefers-color-scheme: dark) { :root { --ink: #ececec; --faint: #b8b8b8; --line: #4a4a4a; --paper: #16181b;
  --box: #22262b; --blue: #6db7ee; --orange: #ff9d5c; } }
@media print { :root { color-scheme: light; --ink: #000; --faint: #333; --line: #bbb; --paper: #fff; --box: #fff;
  --blue: #00568a; --orange: #8a3600; } figure, .line, tr { break-inside: avoid; } .scroll { overflow: visible; }
  details::details-content { content-visibility: visible; block-size: auto; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 70rem;
  margin: 0 auto; padding: 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: 0.5rem 0; font-weight: 500; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.5rem; }
.lead { background: var(--box); border: 1px solid var(--line); border-radius: 0.4rem; padding: 1rem; margin: 1rem 0; }
.lead h2 { font-size: 1.25rem; margin: 0 0 0.8rem; }
.lead dl { margin: 0; }
.line { display: grid; grid-template-columns: 11rem 1fr; gap: 0.1rem 1rem; padding: 0.45rem 0;
  border-top: 1px solid var(--line); }
.line dt { font-weight: 600; }
.line dd { margin: 0; }
@media (max-width: 40rem) { .line { grid-template-columns: 1fr; } }
.badge { font-size: 0.8rem; font-weight: 600; border: 1.5px solid; border-radius: 1rem; padding: 0 0.55rem;
  margin-right: 0.4rem; white-space: nowrap; }
.badge.clear, .badge.same { color: var(--blue); } .badge.same { border-style: double; border-width: 3px; }
.badge.undecided { color: var(--orange); border-style: dashed; }
details { margin: 0.2rem 0; }
summary { cursor: pointer; color: var(--blue); font-size: 0.9rem; }
.cautions { border-left: 0.35rem solid var(--orange); padding-left: 1rem; }
ul { padding-left: 1.1rem; margin: 0.3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th { border-bottom: 2px solid var(--ink); vertical-align: bottom; }
th.text, td.text { text-align: left; }
figure { margin: 1.5rem 0; }
img { max-width: max(100%, 36rem); height: auto; background: #fff; }
figcaption, footer { font-size: 0.9rem; color: var(--faint); }
a { color: var(--blue); }
"""
MARKS = {"clear": "\u2713 clear", "same": "= same", "undecided": "? undecided"}  # told apart without colours, too


class DrawnPlot(NamedTuple):
    """A plot as files: its name, a sentence on what it shows, the PNG, and its numbers as CSV."""

    name: str
    caption: str
    png: bytes
    csv: str


class Section(NamedTuple):
    """A table of texts with its heading, and a paragraph below it."""

    heading: str
    table: pd.DataFrame
    note: str = ""


@dataclass(frozen=True)
class Page:
    """What a page shows, in its order.

    Args:
        title: what is compared.
        date: the only part that differs between two pages of the same runs.
        lead: what to use, and how sure that is.
        verdict, cautions: sentences; the first of the verdict is the headline.
        table: of the cells, in texts.
        latex: the same for a paper.
        plots, sections: the plots and further tables.
        method: how the figures were computed, point by point.
    """

    title: str
    date: str
    lead: Sequence[Line]
    verdict: Sequence[str]
    cautions: Sequence[str]
    table: pd.DataFrame
    latex: str
    plots: Sequence[DrawnPlot]
    sections: Sequence[Section]
    method: Sequence[str]


def render_page(page: Page) -> str:
    """Render the page: the lead, cautions, cells, plots, further tables, and how the figures were computed."""
    drawn = "".join(map(render_plot, page.plots))
    further = "\n".join(map(render_section, page.sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>{escape(page.title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<main>
<h1>{escape(page.title)}</h1>
{render_lead(page.lead, page.verdict)}
<div class="cautions"><h2>Read with caution</h2>
{render_list(page.cautions)}</div>
<h2>Cells</h2>
{render_table(page.table)}
<p>{render_download("table.tex", page.latex, "this table in LaTeX")}</p>
<h2>Plots</h2>
{drawn}{further}
<h2 id="how">How</h2>
{render_list(page.method)}
</main>
<footer>Made by losslab on <time>{page.date}</time>.</footer>
</body>
</html>
"""


def render_lead(lead: Sequence[Line], verdict: Sequence[str]) -> str:
    """Render the box that answers what to use, the evidence of each line one click below it, and the whole verdict."""
    lines = "\n".join(
        f'<div class="line"><dt>{escape(line.question)}</dt><dd>{render_badge(line.badge)}{escape(line.answer)}'
        f"{render_details('Evidence', line.evidence) if line.evidence else ''}</dd></div>"
        for line in lead
    )
    whole = render_details("The whole verdict in sentences", verdict[1:]) if lead else render_paragraphs(verdict[1:])
    return f"""<section class="lead" aria-label="What to use">
<h2>{escape(verdict[0])}</h2>
{f"<dl>{lines}</dl>" if lead else ""}
{whole}
<p><a href="#how">Model, test and assumptions</a></p>
</section>"""


def render_badge(badge: str) -> str:
    """Render how sure a line is; nothing where it is no claim."""
    return f'<span class="badge {badge}">{MARKS[badge]}</span> ' if badge else ""


def render_details(summary: str, sentences: Sequence[str]) -> str:
    """Render sentences that one click shows."""
    return f"<details><summary>{summary}</summary>{render_list(sentences)}</details>"


def render_plot(plot: DrawnPlot) -> str:
    """Render a plot with its caption and a link to its numbers."""
    data = render_download(f"{plot.name}.csv", plot.csv, "data")
    return (
        f'<figure id="{plot.name}"><div><img alt="{escape(plot.caption)}" width="{css_width(plot.png)}" '
        f'src="data:image/png;base64,{base64.b64encode(plot.png).decode()}"></div>'
        f"<figcaption>{escape(plot.caption)} {data}</figcaption></figure>\n"
    )


def css_width(png: bytes) -> int:
    """Read a PNG's width in CSS pixels: 1.5 of its own pixels each, so that it is sharp on screens and in print."""
    return round(int.from_bytes(png[16:20]) / 1.5)


def render_paragraphs(sentences: Sequence[str]) -> str:
    """Render each sentence as a paragraph."""
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def render_list(sentences: Sequence[str]) -> str:
    """Render sentences as the points of a list."""
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def render_section(section: Section) -> str:
    """Render a heading, its table and the paragraph below it."""
    note = render_paragraphs([section.note] if section.note else [])
    return f"<h2>{escape(section.heading)}</h2>\n{render_table(section.table)}\n{note}"


def render_download(name: str, content: str, text: str) -> str:
    """Render a link that contains a file."""
    kind = "text/csv" if name.endswith(".csv") else "text/plain"
    packed = base64.b64encode(content.encode()).decode()
    return f'<a download="{name}" href="data:{kind};base64,{packed}">{text}</a>'


def render_table(table: pd.DataFrame) -> str:
    """Render a table of texts; on a narrow screen it scrolls inside the page."""
    numbers = [table[name].str.match(r"[-0-9]|$").all() for name in table]
    kinds = ["" if number else ' class="text"' for number in numbers]

    def render_row(cells: Iterable[str], tag: str) -> str:
        filled = zip(cells, kinds, strict=True)
        return f"<tr>{''.join(f'<{tag}{kind}>{escape(cell)}</{tag}>' for cell, kind in filled)}</tr>"

    heading, body = render_row(map(str, table), "th"), "\n".join(render_row(cells, "td") for cells in table.to_numpy())
    return f'<div class="scroll"><table>\n<thead>{heading}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
