"""One HTML page that holds all: it opens without a network, without scripts, and on a phone."""

import base64
from collections.abc import Sequence
from html import escape

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


def page(
    title: str,
    date: str,
    verdict: Sequence[str],
    cautions: Sequence[str],
    table: Sequence[Sequence[str]],
    contrasts: Sequence[Sequence[str]],
    plots: Sequence[tuple[str, str, bytes, str]],
    method: str,
) -> str:
    """The page: verdict, cautions, table, plots, pairs, how it was made.

    Args:
        title: what is compared.
        date: when; the only thing that differs between two pages of the same runs.
        verdict, cautions: sentences.
        table, contrasts: lines of cells, the first of them the heading.
        plots: name, sentence, PNG and CSV of each.
        method: how the figures came about.
    """
    drawn = "".join(
        f'<figure id="{name}"><div><img alt="{escape(says)}" width="{width(png)}" '
        f'src="data:image/png;base64,{base64.b64encode(png).decode()}"></div>'
        f"<figcaption>{escape(says)} {download(name, data)}</figcaption></figure>\n"
        for name, says, png, data in plots
    )
    pairs = f"<h2>Pairs</h2>\n{html(contrasts)}" if len(contrasts) > 1 else ""
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
<div class="verdict">{paragraphs(verdict)}</div>
<div class="cautions"><h2>Read with caution</h2>
<ul>{"".join(f"<li>{escape(each)}</li>" for each in cautions)}</ul></div>
<h2>Cells</h2>
{html(table)}
<h2>Plots</h2>
{drawn}{pairs}
<h2>How</h2>
{paragraphs([method])}
<footer>Made by losslab on <time>{date}</time>.</footer>
</body>
</html>
"""


def width(png: bytes) -> int:
    """How many CSS pixels wide a PNG is shown: it has 1.5 for each, to be sharp on screens and in print."""
    return round(int.from_bytes(png[16:20]) / 1.5)


def paragraphs(sentences: Sequence[str]) -> str:
    """Each in a paragraph of its own."""
    return "".join(f"<p>{escape(sentence)}</p>" for sentence in sentences)


def download(name: str, data: str) -> str:
    """A link to a plot's numbers that holds them."""
    return f'<a download="{name}.csv" href="data:text/csv;base64,{base64.b64encode(data.encode()).decode()}">data</a>'


def html(lines: Sequence[Sequence[str]]) -> str:
    """A table that scrolls by itself where the screen is narrow."""
    heading, *rows = lines
    columns = list(zip(*rows, strict=True))
    kinds = [
        "" if all(not cell or cell[0] in "-0123456789" for cell in column) else ' class="text"' for column in columns
    ]

    def line(cells: Sequence[str], tag: str) -> str:
        filled = zip(cells, kinds, strict=True)
        return f"<tr>{''.join(f'<{tag}{kind}>{escape(cell)}</{tag}>' for cell, kind in filled)}</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>\n<thead>{line(heading, "th")}</thead>\n<tbody>\n{body}\n</tbody></table></div>'
