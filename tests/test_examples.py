"""The notebooks in examples/ run from their first cell to their last, in a kernel of their own, on small settings."""

from pathlib import Path

import pytest

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
SMALL = {"EPOCHS": 2, "SEEDS": 2, "TRIALS": 2}


def test_notebooks_are_committed_without_outputs() -> None:
    import json

    assert NOTEBOOKS
    for file in NOTEBOOKS:
        cells = [cell for cell in json.loads(file.read_text())["cells"] if cell["cell_type"] == "code"]
        assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]], file.name
        assert [cell for cell in cells if "parameters" in cell["metadata"].get("tags", ())], file.name


@pytest.mark.system
@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_notebook_runs_and_shows_its_page(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("WANDB_MODE", "offline")
    notebook = nbformat.read(file, as_version=4)
    (first,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ())]
    first.source += "".join(f"\n{name} = {value}" for name, value in SMALL.items())
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    shown = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    pages = [output.data["text/html"] for output in shown if "text/html" in output.get("data", {})]
    assert any("<iframe srcdoc=" in page for page in pages)
    errors = [output for output in shown if output.output_type == "error"]
    assert not errors
