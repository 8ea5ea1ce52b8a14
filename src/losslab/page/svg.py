"""A figure as SVG inside a page: its marks say what they are, its text is text, and it follows light and dark."""

import io
import re
from collections.abc import Iterator, Sequence
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import matplotlib as mpl

from losslab.page.figures import Plot, Tip
from losslab.page.html_page import make_readable

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
MARK = "mark:"  # so begins the gid of an artist whose marks have tips
PIXELS = 4 / 3  # CSS pixels of a point
INVALID = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")  # no XML may hold them
SHORTER = (  # of the values of attributes
    (re.compile(r"(\.\d\d)\d+"), r"\1"),
    (re.compile(r"\s*font-family: [^;]*;?"), ""),  # the page's own
    (re.compile(r"rotate\(-?0 [^)]*\)"), ""),
    (re.compile(r"((?:fill|stroke): )#000000"), r"\1currentColor"),
    (re.compile(r"(stroke: )#ffffff"), r"\1var(--paper)"),  # the halo of a text
    (re.compile(r"\s*\n"), ""),
)


def render_svg(plot: Plot) -> str:
    """Render a plot as an SVG element for a page; the same plot gives the same text.

    Text stays text, and black follows the page's ink. Marks get their tips as titles, those of cells as links.
    """
    text = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": plot.name}):
        plot.figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    drawn = INVALID.sub("\ufffd", text.getvalue())
    root = ElementTree.fromstring(drawn[drawn.index("<svg") :])
    for group in list(root.iter(f"{SVG}g")):
        name = group.get("id", "")
        if name.startswith(MARK):
            add_tips(group, plot.tips[name.removeprefix(MARK)])
    links = any(True for _ in root.iter("a"))
    root.attrib = {
        "width": f"{float(root.attrib['width'].removesuffix('pt')) * PIXELS:.0f}",
        "height": f"{float(root.attrib['height'].removesuffix('pt')) * PIXELS:.0f}",
        "viewBox": root.attrib["viewBox"],
        "role": "group" if links else "img",
        "aria-label": plot.caption,
    }
    shorten_drawing(root, plot.name)
    return ElementTree.tostring(root, encoding="unicode")


def add_tips(group: Element, tips: Sequence[Tip]) -> None:
    """Give each mark of a group its tip; a tip with a target makes the mark a link.

    The links to runs are too many to step through by keyboard, which finds the runs in their list.
    """
    marks = list(find_marks(group))
    assert len(marks) == len(tips), f"{len(marks)} marks have {len(tips)} tips"
    for (parent, mark), tip in zip(marks, tips, strict=True):
        title = Element("title")
        title.text = make_readable(tip.text)
        if not tip.target:
            mark.insert(0, title)
        else:
            link = Element("a", {"href": f"#{tip.target}", "aria-label": title.text})
            if tip.target.startswith("run-"):
                link.set("tabindex", "-1")
            link.extend([title, mark])
            parent[list(parent).index(mark)] = link


def find_marks(group: Element) -> Iterator[tuple[Element, Element]]:
    """Yield each mark of a group, in order, and the element that it is in."""
    for child in group:
        if child.tag == f"{SVG}g":
            yield from find_marks(child)
        elif child.tag in (f"{SVG}use", f"{SVG}path"):
            yield group, child


def shorten_drawing(root: Element, prefix: str) -> None:
    """Remove namespaces, metadata, styles, idle digits and idle ids; ids that are used begin with the prefix."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{SVG}metadata", f"{SVG}style"):
                parent.remove(child)
    used = set(re.findall(r"#([\w-]+)", " ".join(value for node in root.iter() for value in node.attrib.values())))
    for node in root.iter():
        node.tag, name = node.tag.removeprefix(SVG), node.attrib.pop("id", "")
        node.tail = node.tail if (node.tail or "").strip() else None
        node.text = node.text if (node.text or "").strip() else None
        for key in ("d", "x", "y", "style", "transform"):
            if key in node.attrib:
                for pattern, shorter in SHORTER:
                    node.attrib[key] = pattern.sub(shorter, node.attrib[key])
                if not node.attrib[key]:
                    del node.attrib[key]
        if LINK in node.attrib:
            node.set("href", node.attrib.pop(LINK).replace("#", f"#{prefix}-"))
        if "clip-path" in node.attrib:
            node.set("clip-path", node.attrib["clip-path"].replace("#", f"#{prefix}-"))
        if name in used:
            node.set("id", f"{prefix}-{name}")
