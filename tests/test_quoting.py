"""What is to be typed is quoted where a shell would expand it, as zsh does, the default of macOS; quotes do no harm."""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from losslab.cli import COMMANDS
from tests.conftest import ROOT
from tests.pages import find_unquoted

SETTING = re.compile(r"(?<![\w'\"`(\[{=,.@/])[a-z{][\w./@{}]*=(?=[^\s'\"]*[\[*?])\S*")  # one that no quote begins


def find_helps() -> Iterator[str]:
    for name in {"losslab.cli", *COMMANDS.values()}:
        for line in (importlib.import_module(name).__doc__ or "").splitlines():
            if line.startswith("    losslab "):
                yield line


def find_comments() -> Iterator[str]:
    for folder in ("conf", "sweeps", "studies"):
        for file in sorted((ROOT / folder).rglob("*.yaml")):
            for line in file.read_text(encoding="utf-8").splitlines():
                yield from re.findall(r"# +(losslab .*?)(?:, then|$)", line)


def find_messages(file: Path) -> Iterator[str]:
    """The texts of a module that say what to type, with `{}` for what is filled in."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        texts = [str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts]
        text = "".join(texts)
        if isinstance(node, ast.JoinedStr | ast.Constant) and ">>>" not in text and "Args:" not in text:
            yield from re.findall(r"\b(?:type|such as|or|with) .*", text)


def test_a_shell_takes_each_command_of_a_help_text_or_a_comment_as_it_stands() -> None:
    lines = [*find_helps(), *find_comments()]
    assert len(lines) > 50
    assert [line for line in lines if find_unquoted(line)] == []


def test_a_shell_takes_what_a_message_says_to_type() -> None:
    texts = [(file, text) for file in sorted((ROOT / "src").rglob("*.py")) for text in find_messages(file)]
    assert len(texts) > 200
    assert [f"{file.name}: {found[0]}" for file, text in texts if (found := SETTING.search(text))] == []


@pytest.mark.parametrize("command", [("-m", "losslab"), (str(ROOT / "train.py"),)])
def test_quotes_that_windows_leaves_on_are_taken_off(command: tuple[str, ...], tmp_path: Path) -> None:
    words = ["'model.hidden=[4]'", "'output_dir=a", "folder'", "logger=false", "--cfg", "job"]
    done = subprocess.run([sys.executable, *command, *words], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "hidden:\n  - 4\n" in done.stdout
    assert "output_dir: a folder\n" in done.stdout
