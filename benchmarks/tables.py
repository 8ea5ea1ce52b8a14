"""The tables of numbers in docs, each stored in results/ as a CSV file.

    python benchmarks/tables.py          # print all as Markdown, as they stand in docs
    python benchmarks/tables.py speed    # those of one page

A file is named after its page and its table. Its first line says which command made it and when, or that it was
transcribed: then the measurement took hours or another machine, and the numbers were copied from the page.
A script that can write its file again does so when `out=FILE` is typed.
"""

import csv
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write_table(file: Path, made_by: str, heading: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Store a table."""
    with file.open("w", newline="", encoding="utf-8") as out:
        out.write(f"# {made_by}\n")
        csv.writer(out, lineterminator="\n").writerows([heading, *rows])


def read_table(file: Path) -> list[list[str]]:
    """Return the heading and the rows of a stored table."""
    with file.open(newline="", encoding="utf-8") as lines:
        next(lines)
        return list(csv.reader(lines))


def to_markdown(rows: Sequence[Sequence[str]]) -> str:
    r"""Write a table as Markdown.

    >>> to_markdown([["runs", "seconds"], ["1,000", "9"]])
    '| runs | seconds |\n|---|---|\n| 1,000 | 9 |'
    """
    heading, *lines = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([heading, "|" + "---|" * len(rows[0]), *lines])


def main(page: str = "") -> None:
    """Print the tables, each with the line that says where it comes from."""
    for file in sorted(RESULTS.glob(f"{page}*.csv")):
        print(f"{file.name} {file.read_text(encoding='utf-8').splitlines()[0]}\n{to_markdown(read_table(file))}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
