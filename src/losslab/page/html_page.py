"""The page of a comparison: one self-contained HTML file that opens without a network or scripts, also on a phone."""

import base64
from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple

import pandas as pd

STYLE = """
:root { color-scheme: light; }
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; max-width: 70rem; margin: 0 auto;
  padding: 1rem; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0.5rem 0; }
h2 { font-size: 1.15rem; margin: 2rem 0 0.5rem; }
.verdict p:first-child { font-size: 1.25rem; font-weight: 600; margin-top: 0; }
.verdict { border-left: 0.35rem solid #0072b2; padding-left: 1rem; margin: 1rem 0; }
.cautions { border-left: 0.35rem solid #d55e00; padding-left: 1rem; }
.cautions ul { padding-left: 1.1rem; margin: 0.3rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.25rem 0.6rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #ddd; }
th { border-bottom: 2px solid #1a1a1a; vertical-align: bottom; }
th.text, td.text { text-align: left; }
figure { margin: 1.5rem 0; }
figure div { overflow-x: auto; }
img { max-width: max(100%, 36rem); height: auto; }
figcaption, footer { font-size: 0.9rem; color: #444; }
a { color: #00568a; }
"""


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


def render_page(
    title: str,
    date: str,
    verdict: Sequence[str],
    cautions: Sequence[str],
    table: pd.DataFrame,
    latex: str,
    plots: Sequence[DrawnPlot],
    sections: Sequence[Section],
    method: Sequence[str],
) -> str:
    """Render the page: verdict, cautions, cells, plots, further tables, and how the figures were computed.

    Args:
        title: what is compared.
        date: the only part that differs between two pages of the same runs.
        verdict, cautions: sentences.
        table: of the cells, in texts.
        latex: the same for a paper.
        plots: the plots, in order.
        sections: further tables, in order.
        method: how the figures were computed, point by point.
    """
    drawn = "".join(map(render_plot, plots))
    further = "\n".join(map(render_section, sections))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(title)}</h1>
<div class="verdict">{render_paragraphs(verdict)}</div>
<div class="cautions"><h2>Read with caution</h2>
{render_list(cautions)}</div>
<h2>Cells</h2>
{render_table(table)}
<p>{render_download("table.tex", latex, "this table in LaTeX")}</p>
<h2>Plots</h2>
{drawn}{further}
<h2>How</h2>
{render_list(method)}
<footer>Made by losslab on <time>{date}</time>.</footer>
</body>
</html>
"""


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
