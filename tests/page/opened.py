"""Make the page of a comparison, and parse it as a browser would."""

from html.parser import HTMLParser
from importlib.resources import files
from pathlib import Path

from losslab.compare.__main__ import compare
from losslab.compare.request import parse_request
from losslab.compare.runs import read_runs


class Seen(HTMLParser):
    """Parse what a page loads, links to and says."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.ids: list[str] = []
        self.scripts: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.said: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert not any(key.startswith("on") for key, _ in attrs)
        found = [value or "" for key, value in attrs if key in ("src", "href")]
        (self.linked if tag == "a" else self.loaded).extend(found)
        self.ids += [value or "" for key, value in attrs if key == "id"]
        if tag not in ("meta", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif self.open and self.open[-1] != "style":
            self.said.append(data)

    def check(self) -> None:
        """Check that all is closed, nothing is loaded, one script may run, and links lead somewhere."""
        assert self.open == []
        assert all(link.startswith(("data:", "#")) for link in self.loaded)
        assert self.scripts == [files("losslab.page").joinpath("page.js").read_text("utf-8")]
        assert sorted(set(self.ids)) == sorted(self.ids)
        inner = {link[1:] for link in [*self.linked, *self.loaded] if link.startswith("#")}
        assert inner <= set(self.ids)
        assert all(link.startswith(("data:text/", "#", "./", "https://")) for link in self.linked)


def made(folder: Path, *words: str) -> tuple[str, str]:
    wanted = parse_request([str(folder), *words])
    printed = compare(wanted, read_runs(wanted.folders))
    return printed, (wanted.out / "index.html").read_text()
