"""The tables of numbers in docs are the stored ones, and those that follow from a seed come out again."""

import re
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.pages import TEXT

sys.path.append(str(ROOT / "benchmarks"))
import tables
import verdicts

STORED = {file.stem: tables.to_markdown(tables.read_table(file)) for file in tables.RESULTS.glob("*.csv")}
MEASURED = ("speed.md", "parallel.md", "scale.md", "verdicts.md")  # what each page measures stands in results/


@pytest.mark.parametrize("name", STORED)
def test_a_stored_table_is_the_one_on_its_page(name: str) -> None:
    page = f"{name.partition('-')[0]}.md"
    assert f"{STORED[name]}\n" in TEXT[page], f"put this into docs/{page}:\n{STORED[name]}"
    made_by = (tables.RESULTS / f"{name}.csv").read_text(encoding="utf-8").splitlines()[0]
    assert re.fullmatch(r"# .+(, |transcribed )20\d\d-\d\d-\d\d.*", made_by), "which command made it, and when"


@pytest.mark.parametrize("page", MEASURED)
def test_every_table_of_numbers_is_a_stored_one(page: str) -> None:
    for table in re.findall(r"^\|.*\n\|(?:---\|)+\n(?:\|.*\n)+", TEXT[page], re.M):
        cells = [cell for line in table.splitlines()[2:] for cell in line[2:-2].split(" | ")[1:]]
        numbers = [cell for cell in cells if re.match(r"[\d.]", cell)]
        assert 2 * len(numbers) < len(cells) or table.rstrip("\n") in STORED.values(), table


@pytest.mark.system
def test_simulated_verdicts_come_out_again(tmp_path: Path) -> None:
    """The first 100 experiments of one row, of which one was false; all rows take hours."""
    (design,) = (each for each in verdicts.designs() if each.name == "2 cells, accuracy of 20 rows, n=3")
    found = verdicts.simulate(design, range(100), str(tmp_path))
    assert [verdicts.write_share(found[key]) for key in ("false", "covers")] == ["1.0", "99.0"]
    ((_, false, _),) = (row for row in tables.read_table(tables.RESULTS / "verdicts-300.csv") if row[0] == design.name)
    assert 1 <= round(3 * float(false)) <= 1 + 200


def test_a_table_is_stored_as_it_is_read(tmp_path: Path) -> None:
    rows = [["design", "false"], ["2 cells, normal, n=3", "2.0"]]
    tables.write_table(tmp_path / "table.csv", "by hand, 2026-11-27", rows[0], rows[1:])
    assert tables.read_table(tmp_path / "table.csv") == rows
