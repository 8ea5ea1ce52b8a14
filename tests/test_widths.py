"""What a terminal of 80 columns shows: no help, table or sentence is wider, and what is to be pasted stays whole."""

import ast
import io
import random
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import pytest

from losslab.cli import COMMANDS
from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.report import format_text, write_report
from losslab.compare.runs import read_runs
from losslab.data.schema import HEADING, write_columns
from losslab.pipes import Terminal, fit
from losslab.spreadsheet import text_table
from tests.compare.written import grid

WIDTH = 80


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", str(WIDTH))
    monkeypatch.setattr("losslab.spreadsheet.find_columns", lambda: WIDTH)


def show(text: str) -> str:
    """What a terminal was sent of a text that was printed."""
    sent = io.BytesIO()
    print(text, file=(terminal := Terminal(sent, "utf-8", newline="\n", write_through=True)))
    found = sent.getvalue().decode()
    terminal.detach()
    return found


def widths(text: str) -> list[str]:
    """The lines that are too wide."""
    return [line for line in text.split("\n") if len(line) > WIDTH]


@pytest.mark.parametrize("module", ["losslab.cli", *COMMANDS.values()])
def test_the_help_of_each_command_fits(module: str) -> None:
    spec = find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    assert not widths(ast.get_docstring(ast.parse(Path(spec.origin).read_text("utf-8"))) or "")


def test_the_list_of_options_fits(narrow: None) -> None:
    losses = sorted(path.stem for path in Path("conf/loss").glob("*.yaml"))
    shown = show(f"loss: {', '.join(losses)}")
    assert not widths(shown)
    assert shown.removeprefix("loss: ").replace("\n", " ").split() == ", ".join(losses).split()


def test_a_comparison_fits_with_long_names_and_many_settings(narrow: None, tmp_path: Path) -> None:
    means = {f"my_own_loss_with_a_very_long_name_{number}": 0.5 + 0.1 * number for number in range(4)}
    for lr in (0.001, 0.01):
        grid(tmp_path, means, 3, optimizer__lr=lr, optimizer__weight_decay=1e-5 / lr, data__seed=0)
    found = arrange(read_runs([str(tmp_path)]))
    shown = show("\n".join(format_text(write_report(found, evaluate(found), 1.0, tmp_path))))
    assert not widths(shown)
    assert "\n  " in shown, "sentences are wrapped"
    cut = {line.split("  ")[0] for line in shown.split("\n") if line.startswith("my_own…")}
    assert len(cut) == len(means), "names in the table are cut, and still tell their rows apart"


def test_the_table_of_columns_fits_beside_its_heading(narrow: None) -> None:
    rows = [
        ("a name of a column that is long", "category", "12,345", "-2.325031 to 2.0023912", "standardised, and so on")
    ]
    shown = write_columns(rows, 9)
    assert max(map(len, shown.split("\n"))) <= WIDTH - 9
    assert shown.split("\n")[0].split() == " ".join(HEADING).split(), "no column is left out"


def test_a_table_of_any_size_fits_and_cuts_no_number(narrow: None) -> None:
    chance = random.Random(0)
    for _ in range(300):
        kinds = [
            chance.choice(["x" * chance.randint(1, 60), f"{10 ** chance.randint(0, 12)}"])
            for _ in range(chance.randint(1, 9))
        ]
        table = text_table(pd.DataFrame({f"c{place}": [cell] for place, cell in enumerate(kinds)}))
        wide = widths(table)
        assert not wide or len(table.split("\n")[0].split()) == 1
        assert set(table.split("\n")[1].split()) <= {*kinds, *(cell for cell in table.split() if "…" in cell)}
        assert not any(cell[0].isdigit() and "…" in cell for cell in table.split("\n")[1].split())


def test_what_is_wrapped_is_the_same_text() -> None:
    chance = random.Random(0)
    for _ in range(300):
        words = ["".join(chance.choices("ab-é`", k=chance.randint(1, 30))) for _ in range(chance.randint(1, 40))]
        line = " ".join(word.replace("`", "") or "a" for word in words)
        shown = fit(line, 40)
        assert shown.split() == line.split()
        assert max(map(len, shown.split("\n"))) <= 40


@pytest.mark.parametrize(
    "text",
    [
        "  losslab race loss=mse,mae,huber data=csv data.path=a.csv data.target=price trainer.max_epochs=1",
        "`wandb sync outputs/wandb/offline-run-20261127_023347-b6671c71 with --a-flag and --another-flag of its own`",
        "\rtesting 90/240 runs, 38 %, 10:00 elapsed, 50:00 left, accuracy 0.97 and more than what fits into a line",
    ],
)
def test_commands_and_bars_stay_whole(text: str) -> None:
    assert text in fit(text, WIDTH)
    if "`" in text:
        assert text in fit(f"offline; to upload all of it type {text} and then look at it", WIDTH)
