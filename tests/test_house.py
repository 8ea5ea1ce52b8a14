"""The house itself: one subject a file, short functions, arrows that point down, and private parts in one room."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

SOURCE = ROOT / "src" / "losslab"
FILES = sorted(SOURCE.rglob("*.py"))
STORY = ("app.py", "build.py", "train.py", "training/module.py")
LONGEST, LINES, BRANCHES = 400, 50, 15
PUBLIC = ("_exit", "_asdict", "_replace", "_fields", "_make")  # documented by Python, whatever they are called
REASON = "# long: "  # beside the first line of a function that is longer, and why it is

# what each room may not import: what stands above it
ABOVE: dict[str, tuple[str, ...]] = {
    "errors": ("config", "tasks", "losses", "training", "stacking", "record", "data", "sweep", "compare", "page"),
    "files": ("config", "tasks", "losses", "training", "stacking", "record", "data", "sweep", "compare", "page"),
    "metrics": ("config", "tasks", "losses", "training", "stacking", "record", "data", "sweep", "compare", "page"),
    "config": ("build", "train", "training", "stacking", "sweep", "compare", "page"),
    "data": ("build", "train", "training", "stacking", "sweep", "compare", "page"),
    "losses": ("build", "train", "training", "stacking", "record", "data", "sweep", "compare"),
    "tasks": ("build", "train", "training", "stacking", "record", "sweep", "compare"),
    "optim": ("build", "train", "training", "stacking", "record", "data", "sweep", "compare", "page"),
    "training": ("train", "app", "stacking", "sweep", "compare"),
    "record": ("build", "train", "app", "stacking", "sweep"),
    "stacking": ("app", "sweep", "compare"),
    "compare": ("app", "stacking", "sweep"),
}


def name_of(file: Path) -> str:
    """A file's module, without `losslab.`; the package itself is the empty name."""
    parts = file.relative_to(SOURCE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {name_of(file): file for file in FILES}


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What is executed when a module is imported; not what stands under TYPE_CHECKING or in a function."""
    for node in body:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        yield node
        for part in ("body", "orelse", "finalbody"):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from statements(getattr(node, part, []))


def imported(file: Path, *, everywhere: bool = False) -> set[str]:
    """The modules of losslab that a file imports: as it is imported itself, or `everywhere` in it."""
    package = file.relative_to(SOURCE.parent).parts[:-1]
    found: set[str] = set()
    for node in ast.walk(tree(file)) if everywhere else statements(tree(file).body):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) + 1 - node.level], *([node.module] if node.module else [])])
            start = base if node.level else str(node.module)
            names = {f"{start}.{alias.name}" for alias in node.names}
            inner = {name for name in names if name.removeprefix("losslab.") in MODULES}
            found |= inner
            if len(inner) < len(names):
                found.add(start)
    return {name.partition(".")[2] for name in found if name.split(".")[0] == "losslab"} & MODULES.keys() - {""}


def functions(file: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def branches(function: ast.AST) -> int:
    """McCabe's number as ruff counts it: one, and one more for each decision, those of inner functions included."""
    count = 1
    for node in ast.walk(function):
        match node:
            case ast.If() | ast.For() | ast.AsyncFor() | ast.While() | ast.ExceptHandler():
                count += 1
            case ast.match_case():
                count += not (isinstance(node.pattern, ast.MatchAs) and node.pattern.pattern is None)
            case ast.FunctionDef() | ast.AsyncFunctionDef() if node is not function:
                count += 1
    return count


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    first = function.body[0]
    text = first if ast.get_docstring(function) is not None else None
    documented = 0 if text is None else (text.end_lineno or 0) - text.lineno + 1
    return (function.end_lineno or 0) - function.lineno + 1 - documented


def excused(file: Path, function: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether a reason stands beside the signature of a function, or above it."""
    lines = file.read_text().splitlines()
    return any(REASON in line for line in lines[max(0, function.lineno - 2) : function.body[0].lineno])


def test_the_files_of_the_story_are_there_and_read_in_one_sitting() -> None:
    lines = {file: len((SOURCE / file).read_text().splitlines()) for file in STORY}
    assert sum(lines.values()) < 700, lines


def test_no_file_is_long() -> None:
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in FILES}
    assert not {file: count for file, count in lines.items() if count > LONGEST}


def test_no_function_is_long_or_winding_without_a_reason() -> None:
    found = [
        f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {length(node)} lines, complexity {branches(node)}"
        for file in FILES
        for node in functions(file)
        if length(node) > LINES or branches(node) > BRANCHES
        if not excused(file, node)
    ]
    assert not found, "\n".join(found)


def test_no_name_says_nothing() -> None:
    assert not [name for name in MODULES if {"utils", "util", "helpers", "common", "misc"} & set(name.split("."))]


def test_no_import_goes_round_in_a_circle() -> None:
    left = {name: imported(file) - {name} for name, file in MODULES.items()}
    while ends := {name for name, needs in left.items() if not needs & left.keys()}:
        for name in ends:
            del left[name]
    circle = {name: sorted(needs & left.keys()) for name, needs in left.items()}
    assert not circle


@pytest.mark.parametrize("room", ABOVE)
def test_arrows_point_down(room: str) -> None:
    found = []
    for name, file in MODULES.items():
        if name.split(".")[0] == room:
            needs = {need.split(".")[0] for need in imported(file)} - {room}
            found += [f"{name} imports {need}" for need in needs if need in ABOVE[room]]
    assert not found


def private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("_") and name not in PUBLIC


def touched(file: Path) -> Iterator[str]:
    """The private parts of others that a file imports or touches: `library._part`, or `x._part` of what is not ours."""
    ours = {
        getattr(node, "attr", getattr(node, "name", None))
        for node in ast.walk(tree(file))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        or (isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("self", "cls"))
    }
    for node in ast.walk(tree(file)):
        where = f"{file.relative_to(ROOT)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            module = getattr(node, "module", None) or ""
            if not f"{module}.{names[0]}".startswith("losslab") and any(
                private(part) for name in [*names, module] for part in name.split(".")
            ):
                yield f"{where} {ast.unparse(node)}"
        elif isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in ours:
            yield f"{where} {ast.unparse(node)}"


def test_private_parts_of_libraries_are_used_in_one_room() -> None:
    assert (SOURCE / "internals").is_dir()
    outside = [file for file in FILES if (SOURCE / "internals") not in file.parents]
    found = [where for file in outside for where in touched(file)]
    assert not found, "\n".join(found)


def test_tests_import_no_test() -> None:
    """What tests share stands in modules of its own."""
    found = [
        f"{file.relative_to(ROOT)}: {node.module}"
        for file in sorted((ROOT / "tests").rglob("*.py"))
        for node in ast.walk(tree(file))
        if isinstance(node, ast.ImportFrom) and any(p.startswith("test_") for p in str(node.module).split("."))
    ]
    assert not found


def test_tests_reset_no_private_state() -> None:
    files = sorted((ROOT / "tests").rglob("*.py"))
    for module in ("atexit", "threading", "multiprocessing.util", "multiprocessing.process"):
        assert not [file for file in files if f"{module}._" in file.read_text() and file != Path(__file__)]
