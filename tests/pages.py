"""README and the pages of docs, and the blocks of code in them."""

import re
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from tests.conftest import ROOT

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(file for file in DOCS.glob("*.md") if file.name not in ("log.md", "questions.md"))]
TEXT = {page.name: page.read_text(encoding="utf-8") for page in PAGES}


class Block(NamedTuple):
    """A block of code on a page."""

    page: str
    kind: str
    text: str


def find_blocks() -> Iterator[Block]:
    for page, text in TEXT.items():
        yield from (Block(page, kind, body) for kind, body in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S))


BLOCKS = list(find_blocks())


def find_unquoted(line: str) -> list[str]:
    """The words of a command that a shell would expand; zsh, the default of macOS, refuses those that match no file."""
    return [word for word in shlex.split(line, comments=True, posix=False) if re.match(r"[^'\"]*=[^'\"]*[\[(*?]", word)]
