"""README and docs tell the truth: their trees, tables, links and numbers, and every block of code in them."""

import importlib
import inspect
import pkgutil
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from subprocess import CompletedProcess
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import losslab
from losslab.cli import COMMANDS
from losslab.config.catalogue import CONF, fits, options
from losslab.config.check import configure
from losslab.errors import Refused
from tests.conftest import ROOT
from tests.pages import BLOCKS, DOCS, PAGES, TEXT, find_unquoted
from tests.processes import ran

GENERATED = ("losses", "optimizers", "schedules", "tasks", "settings", "studies")  # pages of the gallery
KINDS = ("bash", "console", "python", "yaml", "")  # of blocks; one without a name is a tree of files
TOLERANCE, OF_INTERVALS = 0.05, 0.3  # by how much numbers may differ on another machine; ends of intervals more
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")


PLACEHOLDERS = {  # what a command between backticks leaves open, and what is typed for it here
    "outputs/…/last.ckpt": "outputs/RUN/best.ckpt", "sweep FILE": "sweep sweeps/loss_x_optimizer.yaml",
    "OUTPUT/multirun": "outputs",
    "sweeps/NAME": "sweeps/loss_x_optimizer", "setting:KEY": "setting:data.cache", "COLUMN": "carat",
    "PACKAGE": "mine", "=FILE": "=new.csv", "NAME": "mae",
}  # fmt: skip
CONTEXTS = (  # a setting between backticks fits one of these
    "losslab",
    "losslab -m",
    "losslab task=single_label",
    "losslab task=multi_label",
    "losslab data=csv data.path=my.csv data.target=price",
    "losslab data=images data.path=FOLDER data.target=kind model=resnet18",
    "losslab sweep sweeps/loss_x_optimizer.yaml",
    "losslab sweep sweeps/loss_x_optimizer.yaml engine=ray",
    "losslab race loss=mse,mae",
    "losslab compare outputs",
    "losslab predict ckpt=outputs/RUN/best.ckpt input=new.csv",
)


def find_inline() -> Iterator[str]:
    """Find what stands between backticks and can be typed: commands of losslab, and settings."""
    for text in (*TEXT.values(), (DOCS / "questions.md").read_text(encoding="utf-8")):
        for code in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)):
            line = " ".join(code.split())
            for left_open, typed in PLACEHOLDERS.items():
                line = line.replace(left_open, typed)
            known = re.match(r"losslab(-train)? |(-m )?'?[a-z][\w./@]*=", line)
            if known and not re.search(r"…|=$|==|__|s=\{\"|: type", line):
                yield line


INLINE = sorted(set(find_inline()))


def table() -> str:
    """The loss x task table, as the catalogue has it."""
    tasks = {name: file["task"] for name, file in options([str(CONF)], "task").items()}
    lines = [f"| loss | wants | {' | '.join(tasks)} |", f"|---|---|{'---|' * len(tasks)}"]
    for name, loss in options([str(CONF)], "loss").items():
        marks = " | ".join("yes" if fits(task, loss) else "no" for task in tasks.values())
        lines.append(f"| `{name}` | {loss['input']}, {loss['target']} | {marks} |")
    return "\n".join(lines)


def test_the_table_of_losses_and_tasks_is_the_catalogues() -> None:
    assert table() in TEXT["losses.md"], f"put this into docs/losses.md:\n{table()}"


def test_the_tree_names_every_file_of_the_package() -> None:
    tree = re.search(r"```\nREADME.md.*?```", TEXT["contributing.md"], re.DOTALL)
    assert tree
    for file in (ROOT / "src").rglob("*.py"):
        assert file.name == "__init__.py" or file.name in tree[0], file.name
    for folder in CONF.iterdir():
        assert folder.name in tree[0], folder.name
    for path in ROOT.iterdir():
        if path.is_dir() and not path.name.startswith(".") and path.name not in ("outputs", "site", "dist", "shared"):
            assert re.search(rf"^{path.name}/", tree[0], re.MULTILINE), path.name


def test_every_picture_and_file_that_a_page_shows_is_there() -> None:
    for page in PAGES:
        for path in re.findall(r"\]\((?!http)([^)#\s]+)[^)]*\)", TEXT[page.name]):
            made = path.startswith("gallery/") and Path(path).stem in GENERATED
            assert made or (page.parent / path).exists(), f"{page.name}: {path}"
            assert page.parent == ROOT or not path.startswith(".."), f"{page.name}: {path} is not on the site"


def test_every_page_is_on_the_site_and_every_page_of_the_site_is_there() -> None:
    listed = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE))
    assert listed == {page.name for page in PAGES[1:]} | {f"gallery/{name}.md" for name in GENERATED}


def test_the_readme_is_short_and_its_numbers_are_the_catalogues() -> None:
    readme = TEXT["README.md"]
    assert len(readme.splitlines()) < 200
    counts = {group: len(options([str(CONF)], group)) for group in ("loss", "scheduler", "experiment")}
    named = options([str(CONF)], "optimizer")["any"]["rates"]
    optimizers = len(options([str(CONF)], "optimizer")) - 1  # without `any`
    for text in (
        f"| losses | {counts['loss']}, ",
        f"| optimizers | {optimizers}, plus {len(named)} from pytorch_optimizer",
        f"| schedules | {counts['scheduler']}, ",
        f"| questions that one command answers | {counts['experiment']} |",
        f"| studies: published claims, repeated by `losslab study` | {len(list(ROOT.glob('studies/*/study.yaml')))} |",
    ):
        assert text in readme
    assert f"any of {counts['loss']} losses and {optimizers} optimizers" in (ROOT / "CHANGELOG.md").read_text()


def test_the_version_is_in_one_place_and_the_others_follow() -> None:
    assert f"\n## {losslab.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["version"] == losslab.__version__


def find_undocumented(module: ModuleType) -> Iterator[str]:
    """The public names that `help()` has no words for; a method may have those of the one that it overrides."""
    if not module.__doc__:
        yield module.__name__
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if (inspect.isclass(thing) or inspect.isfunction(thing)) and not thing.__doc__:
            yield f"{module.__name__}.{name}"
        for part, own in vars(thing).items() if inspect.isclass(thing) else ():
            called = inspect.isfunction(own) or isinstance(own, (property, staticmethod, classmethod))
            if called and not part.startswith("_") and not inspect.getdoc(getattr(thing, part)):
                yield f"{module.__name__}.{name}.{part}"


def test_every_public_name_is_documented() -> None:
    found = [file.name for file in pkgutil.walk_packages(losslab.__path__, "losslab.") if "__main__" not in file.name]
    assert len(found) > 100
    assert not [name for module in found for name in find_undocumented(importlib.import_module(module))]


def test_every_block_is_of_a_kind_that_is_checked_here() -> None:
    for block in BLOCKS:
        assert block.kind in KINDS, block
        if block.kind in ("python", "yaml") and block.page == "extending.md":
            assert re.match(r"# [\w./]+\.(py|yaml)\n", block.text), f"say which file it is:\n{block.text}"
    first = [block.text.splitlines() for block in BLOCKS if block.kind == "bash"][:2]
    assert [len(lines) for lines in first] == [1, 1]
    assert ("pip install" in first[0][0], first[1][0]) == (True, "pytest")  # what .ci/run types


# what is printed, and by how much it may differ


def numbers_agree(shown: str, printed: str) -> bool:
    """Whether two lines have the same words, and the same numbers within the tolerance that the pages state.

    >>> numbers_agree("mae  629.1", "mae 640"), numbers_agree("mae 629.1", "mae 790"), numbers_agree("a 1", "b 1")
    (True, False, False)
    >>> numbers_agree("59 % [22, 89]", "59 % [27, 80]")
    True
    """
    if NUMBER.sub("#", " ".join(shown.split())) != NUMBER.sub("#", " ".join(printed.split())):
        return False
    for left, right in zip(NUMBER.finditer(shown), NUMBER.finditer(printed), strict=True):
        inside = shown.rfind("[", 0, left.start()) > shown.rfind("]", 0, left.start())
        a, b = (float(match[0].rstrip(",").replace(",", "")) for match in (left, right))
        if a != pytest.approx(b, rel=OF_INTERVALS if inside else TOLERANCE):
            return False
    return True


def find_missing(shown: Sequence[str], printed: Sequence[str]) -> str | None:
    """Return the first line that is shown and was not printed where it should be; `…` stands for any lines.

    >>> find_missing(["a", "…", "c 10"], ["a", "b", "b", "c 10.1"]), find_missing(["a", "c"], ["a", "b", "c"])
    (None, 'c')
    """
    place, skipping = 0, False
    for line in shown:
        if line.strip() == "…":
            skipping = True
            continue
        rest = list(printed[place:]) if skipping else list(printed[place : place + 1])
        found = next((n for n, each in enumerate(rest) if numbers_agree(line, each)), None)
        if found is None:
            return line
        place, skipping = place + found + 1, False
    return None


def read_transcripts() -> dict[str, list[str]]:
    """Every command that is shown with what it prints."""
    found: dict[str, list[str]] = {}
    for block in BLOCKS:
        if block.kind == "console":
            for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
                command, *lines = part.rstrip().splitlines()
                assert found.setdefault(command, lines) == lines, f"{command} is shown in two ways"
    return found


def run_losslab(command: str, folder: Path) -> "CompletedProcess[str]":
    """Run a command in a process that has imported everything; tests/config/test_safe_path.py looks at fresh ones."""
    words = shlex.split(command, comments=True)
    return ran("-m", {"losslab": "losslab", "losslab-train": "losslab.app"}[words[0]], *words[1:], folder=folder)


@pytest.mark.system
@pytest.mark.parametrize("command", read_transcripts())
def test_what_is_shown_is_what_is_printed(command: str, tmp_path: Path) -> None:
    done = run_losslab(command, tmp_path)
    missing = find_missing(read_transcripts()[command], (done.stdout + done.stderr).splitlines())
    assert missing is None, f"not printed: {missing}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"


# what is typed


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the commands of the pages work: the tables, images and the run that they name."""
    from PIL import Image

    home = tmp_path_factory.mktemp("home")
    for name in ("sweeps", "cluster", "docker", "benchmarks"):
        (home / name).symlink_to(ROOT / name)
    chance = np.random.default_rng(0)
    carat = chance.uniform(0.3, 2, 200)
    frame = pd.DataFrame({"price": 4000 * carat + 100, "carat": carat, "kind": chance.choice(["a", "b"], 200)})
    for name in ("my.csv", "new.csv"):
        frame.to_csv(home / name, index=False)
    for name in ("mine", "yours", "my_losses"):
        (home / f"{name}.py").write_text("")
    (home / "FOLDER").mkdir()
    for place in range(12):
        Image.fromarray(chance.integers(0, 255, (8, 8, 3), np.uint8)).save(home / "FOLDER" / f"{place}.png")
    train = "losslab data=csv data.path=my.csv data.target=price trainer.max_epochs=1 logger=false"
    done = run_losslab(train, home)
    assert done.returncode == 0, done.stderr
    (home / "outputs" / "RUN").symlink_to(home / done.stdout.splitlines()[-1])
    (home / "outputs" / "sweeps" / "loss_x_optimizer").mkdir(parents=True)
    return home


def check_run(words: list[str]) -> None:
    """Compose what is typed; of several values, with -m, the first and the last."""
    if {"--help", "--version", "--cfg"} & set(words):
        return  # tests/test_main.py has them
    several, words = "-m" in words, [word for word in words if word != "-m" and not word.startswith("hydra")]
    for place in (0, -1) if several else (None,):
        one = [word if place is None else choose_value(word, place) for word in words]
        configure([*one, "logger=false"] if not any("logger" in word for word in one) else one)


def choose_value(word: str, place: int) -> str:
    key, _, value = word.partition("=")
    return f"{key}={0 if value.startswith('range') else value.split(',')[place]}"


@pytest.fixture
def nothing_runs(at_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type in that folder, where sweeps and races are planned, not run."""
    from losslab.race import driver as races
    from losslab.sweep import driver as sweeps

    monkeypatch.chdir(at_home)
    for module in (races, sweeps):
        monkeypatch.setattr(module, "run", lambda *_: 0)


def test_a_shell_takes_each_command_as_it_stands() -> None:
    lines = [*INLINE, *(line for block in BLOCKS if block.kind == "bash" for line in block.text.splitlines())]
    assert [line for line in lines if find_unquoted(line)] == []


@pytest.mark.system
@pytest.mark.usefixtures("nothing_runs")
@pytest.mark.parametrize("line", INLINE)
def test_what_stands_between_backticks_can_be_typed(line: str) -> None:
    why = []
    for context in ("",) if line.startswith("losslab") else CONTEXTS:
        try:
            check_typed(f"{context} {line}")
            break
        except Refused as error:
            why.append(str(error))
    else:
        assert f"`{line}` answers `{why[0].split(' (')[0]}`" in " ".join(TEXT["faq.md"].split()), why


def check_typed(line: str) -> None:
    """Parse a command, and compose the runs that it asks for."""
    from losslab import card, export, paths, predict, watch
    from losslab.compare import request
    from losslab.race import driver as races
    from losslab.sweep import driver as sweeps

    words = shlex.split(line)
    if words[1:] in [[command] for command in COMMANDS]:
        return  # the name of a command
    if words[1:2] == ["race"]:
        assert races.race(words[2:]) == 0
    elif words[1:2] == ["sweep"]:
        assert sweeps.sweep(words[2], words[3:]) == 0
    elif words[1:2] == ["paths"]:
        paths.parse_words(words[2:])
    elif words[1:2] and words[1] in COMMANDS:
        check: Any = {"compare": request, "predict": predict, "export": export, "card": card, "watch": watch}
        check[words[1]].parse_request(words[2:])
    else:
        check_run(words[1:])


@pytest.mark.system
def test_what_is_shown_in_python_runs(at_home: Path, undrawn: None, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = pd.read_csv(at_home / "my.csv")
    space: dict[str, Any] = {"frame": frame, "new": frame[["carat", "kind"]]}
    blocks = [block for block in BLOCKS if block.kind == "python" and block.page != "extending.md"]
    for block in sorted(blocks, key=lambda block: "class Net" not in block.text):  # others use it
        small = re.sub(r"range\(\d+\)", "range(2)", block.text.replace(", trainer__max_epochs=20", ""))
        quick = ", trainer__max_epochs=1, logger=False"
        small = re.sub(r"losslab\.run\((.*)\)", rf"losslab.run(\1{quick})", small)
        small = re.sub(r"losslab\.sweep\((.*)\)", rf"losslab.sweep(\1{quick}, n=0)", small)
        small = re.sub(r"losslab\.race\((.*)\)", rf"losslab.race(\1{quick}, n=0, tune=0, budget=9)", small)
        place = at_home if "outputs/RUN" in small else at_home / block.page  # a race by the same name is another one
        place.mkdir(exist_ok=True)
        monkeypatch.chdir(place)
        exec(compile(small, block.page, "exec"), space)
