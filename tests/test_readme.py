"""The README tells the truth: its tree, its table and its commands."""

import re

from losslab.config.catalogue import CONF, fits, options
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()


def table() -> str:
    """The loss x task table, as the catalogue has it."""
    tasks = {name: file["task"] for name, file in options([str(CONF)], "task").items()}
    lines = [f"| loss | wants | {' | '.join(tasks)} |", f"|---|---|{'---|' * len(tasks)}"]
    for name, loss in options([str(CONF)], "loss").items():
        marks = " | ".join("yes" if fits(task, loss) else "no" for task in tasks.values())
        lines.append(f"| `{name}` | {loss['input']}, {loss['target']} | {marks} |")
    return "\n".join(lines)


def test_the_table_of_losses_and_tasks_is_the_catalogues() -> None:
    assert table() in README, f"put this into the README:\n{table()}"


def test_the_tree_names_every_file_of_the_package() -> None:
    tree = re.search(r"```\nREADME.md.*?```", README, re.DOTALL)
    assert tree
    for file in (ROOT / "src").rglob("*.py"):
        assert file.name == "__init__.py" or file.name in tree[0], file.name
    for folder in CONF.iterdir():
        assert folder.name in tree[0], folder.name


def test_every_picture_and_file_that_it_shows_is_there() -> None:
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path
