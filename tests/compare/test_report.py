"""The same figures for papers and for programs: LaTeX that compiles whatever options are called, and strict JSON."""

import json
import re
import sys
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pandas as pd
import pytest

from losslab.compare import __main__ as command
from losslab.compare.claims import evaluate
from losslab.compare.design import arrange
from losslab.compare.latex import escape_latex, find_leading, format_latex, format_number
from losslab.compare.runs import read_runs
from losslab.compare.table import cut_intervals, format_cells, summarize_cells
from tests.compare.written import grid, run

NASTY = "a_b%c&d#e$f{g}h\\i~j^k<l>[m]|*\n\r\t\u2028n"


def latex_of(folder: Path) -> str:
    comparison = arrange(read_runs([str(folder)]))
    return format_latex(comparison, evaluate(comparison), summarize_cells(comparison))


def check_latex(text: str) -> list[list[str]]:
    """Check the structure of a table; return its rows of cells."""
    assert text.endswith("\\end{tabular}\n")
    lines = [line for line in text.splitlines() if not line.startswith("%")]
    body = "\n".join(lines)
    depth = 0
    for brace in re.findall(r"(?<!\\)[{}]", body):
        depth += 1 if brace == "{" else -1
        assert depth >= 0
    assert depth == 0
    assert len(re.findall(r"(?<!\\)\$", body)) % 2 == 0
    assert not re.search(r"(?<!\\)[%#~]", body)
    text_mode = re.sub(r"(?<!\\)\$.*?(?<!\\)\$", "", body)
    assert not re.search(r"(?<!\\)[_^<>|]", text_mode)
    assert not re.search(r"(?:\\\\|rule)\n[\[*]", body)  # would be an argument of the line before
    columns = re.search(r"begin{tabular}{([lr]+)}", body)
    assert columns
    rows = [re.split(r"(?<!\\)&", line.removesuffix(r" \\")) for line in lines if line.endswith(r" \\")]
    assert {len(row) for row in rows} == {len(columns[1])}
    assert [line for line in lines if line.endswith("rule")] == ["\\toprule", "\\midrule", "\\bottomrule"]
    return [[cell.strip() for cell in row] for row in rows]


def test_a_table_for_papers_has_bold_for_all_that_may_be_best(tmp_path: Path) -> None:
    grid(tmp_path, {"mae": 0.5, "huber": 0.501, "mse": 0.6, "[x,0.5*y]": 0.9}, 6, spread=0.002)
    heading, mae, huber, mse, mixed = check_latex(latex_of(tmp_path))
    assert heading == ["loss", "$n$", r"rmse $\downarrow$", "median"]
    assert mae[:2] == ["mae", "6"]
    assert re.fullmatch(r"\$\\mathbf\{0\.\d+\} \\pm 0\.0\d+\$", mae[2])
    assert r"\mathbf" in huber[2]
    assert r"\mathbf" not in mse[2] + mixed[2]
    assert mixed[0] == "{[}x,0.5{*}y{]}"
    table = summarize_cells(arrange(read_runs([str(tmp_path)]))).set_index("cell")
    mean, half = map(float, re.findall(r"[\d.]+", mse[2]))
    assert mean == pytest.approx(table.at["mse", "mean"], abs=0.0006)
    assert half == pytest.approx((table["high"] - table["low"])["mse"] / 2, abs=0.0006)


@pytest.mark.parametrize(
    ("task", "values", "shown"),
    [
        ("single_label", (0.7, 1.0), (0.0, 1.0)),  # lowest and highest that may be shown
        ("single_label", (0.01, 0.3), (0.0, 1.0)),
        ("regression", (0.1, 9.0), (0.0, np.inf)),
        ("regression", (-9.0, 9.0), (-np.inf, np.inf)),  # a metric of the user's own, which may be below 0
    ],
)
def test_an_interval_of_a_cell_ends_where_its_metric_does(
    task: str, values: tuple[float, float], shown: tuple[float, float], tmp_path: Path
) -> None:
    for loss in ("mse", "mae"):
        for seed, value in enumerate(values):
            run(tmp_path, value, task=task, loss=loss, seed=seed)
    comparison = arrange(read_runs([str(tmp_path)]))
    whole = summarize_cells(comparison)
    cut = cut_intervals(comparison, whole)
    assert np.allclose(cut["low"], np.maximum(whole["low"], shown[0]))
    assert np.allclose(cut["high"], np.minimum(whole["high"], shown[1]))
    assert not whole["low"].equals(cut["low"]) or not whole["high"].equals(cut["high"]) or values[0] < 0
    low, high = map(float, format_cells(comparison, whole)["95 % interval"].iloc[0].split(" to "))
    assert [low, high] == pytest.approx([cut["low"][0], cut["high"][0]], abs=0.51)


def test_any_option_fits_into_a_table(tmp_path: Path) -> None:
    for number, loss in enumerate((NASTY, "mse")):
        for seed in range(3):
            run(tmp_path, 1e7 * (1 + number) + seed, loss=loss, seed=seed, optimizer=f"adam{seed // 9}")
    rows = check_latex(latex_of(tmp_path))
    assert rows[1][0] == escape_latex(NASTY)
    assert "10^{7}" in rows[1][2]
    assert "\n" not in escape_latex(NASTY)


def test_failures_are_counted_in_the_table_and_the_failing_cell_cannot_outdo_others(tmp_path: Path) -> None:
    grid(tmp_path, {"mae": 0.5, "mse": 0.9}, 6)  # a split for each seed
    for seed in range(6, 9):
        run(tmp_path, 0.9, loss="mse", seed=seed)
        run(tmp_path, 0.1, loss="mae", seed=seed, status="failed")
    heading, mae, mse = check_latex(latex_of(tmp_path))
    assert [row[-1] for row in (heading, mae, mse)] == ["failed", "3 of 9", "0 of 9"]
    comparison = arrange(read_runs([str(tmp_path)]))
    findings = evaluate(comparison)
    assert findings.pairs[0].p < 0.05
    assert find_leading(comparison, findings) == {"mae", "mse"}


@pytest.mark.parametrize(
    ("value", "decimals", "written"),
    [(0.5, 2, "0.50"), (0, 3, "0.000"), (-0.25, 1, "-0.2"), (1391.4, 0, "1391"), (2e6, 0, r"2 \times 10^{6}"),
     (1e-9, 3, r"1 \times 10^{-9}"), (0.97654, None, "0.9765")],
)  # fmt: skip
def test_numbers_have_the_decimals_of_their_error(value: float, decimals: int | None, written: str) -> None:
    assert format_number(value, decimals) == written


def refuse(constant: str) -> NoReturn:
    raise AssertionError(f"{constant} is no JSON")


@pytest.mark.parametrize("flag", ["--json", "json=true"])
def test_json_is_all_that_is_printed_and_has_the_numbers_of_the_files(
    tmp_path: Path, flag: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    grid(tmp_path, {"mae": 0.5, "huber": 0.51, "mse": 0.6}, 1)  # one seed: p and intervals are not known
    monkeypatch.setattr(sys, "argv", ["losslab compare", str(tmp_path), flag])
    monkeypatch.setattr(command, "save_plots", lambda *_: [])
    command.main()
    printed, said = capsys.readouterr()
    assert said == ""
    found: dict[str, Any] = json.loads(printed, parse_constant=refuse)
    assert (found["metric"], found["mode"], found["unit"], found["alpha"]) == ("rmse", "min", "% rmse", 0.05)
    assert found["verdict"][0].startswith("Nothing is decided yet: mae leads, and 2 others cannot be told apart")
    assert found["verdict"][1].startswith("huber and mse cannot be told apart from mae at 1 seed")
    assert {line["question"]: line["badge"] for line in found["lead"]} == {
        "Use": "undecided", "Cannot be told apart yet": "undecided", "Avoid": "", "How sure": "", "To know more": ""
    }  # fmt: skip
    assert found["population"]["unit"] == "seed"
    assert found["verdict"][-1].startswith(found["population"]["sentence"])
    folder = Path(found["page"]).parent
    assert {"table.tex", "cells.csv", "pairs.csv"} <= {file.name for file in folder.iterdir()}
    for name in ("cells", "pairs"):
        table = pd.read_csv(folder / f"{name}.csv").replace(np.inf, np.nan)  # never
        listed = pd.DataFrame(found[name], columns=table.columns)
        numbers = table.select_dtypes("number").columns
        pd.testing.assert_frame_equal(
            listed[numbers].apply(pd.to_numeric), table[numbers], check_dtype=False, rtol=1e-12
        )
    assert found["pairs"][0]["p"] is None
    assert found["cells"][0]["low"] is None


def test_a_mistake_prints_no_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, 0.5, loss="mae")
    monkeypatch.setattr(sys, "argv", ["losslab compare", str(tmp_path), "--json"])
    with pytest.raises(SystemExit, match="losslab: one run is no comparison") as ended:
        command.main()
    assert isinstance(ended.value.code, str)  # printed to standard error, with exit code 1
    assert capsys.readouterr().out == ""
