"""The gallery says what the code does, every option and metric is in it, and the site builds without a warning."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from docs import gallery, reference

from losslab.config.catalogue import CONF, options
from tests.conftest import ROOT


def test_every_option_and_every_metric_has_its_words() -> None:
    settings, tasks = reference.write_settings(), reference.write_tasks()
    for group in sorted(path.name for path in CONF.iterdir() if path.is_dir() and path.name != "hydra"):
        for name in options([str(CONF)], group):
            assert re.search(rf"\| `{name}` \| \w.{{10,}} \|", settings), f"conf/{group}/{name}.yaml"
    for task, file in options([str(CONF)], "task").items():
        for metric, line in reference.read_metrics(task).items():
            assert len(line.comment) > 20, f"{task}: {metric}: say in conf/task/{task}.yaml what it is"
            assert (line.default, f"| `{metric}`" in tasks) == (file["task"]["metrics"][metric], True)


def test_the_gallerys_examples_are_right() -> None:
    import doctest

    for module in (gallery, reference):
        assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("mse", "shrinks to 0 at the target, and grows with the error"),
        ("mae", "keeps its size close to the target, and is the same for medium and large errors"),
        ("huber", "shrinks to 0 at the target, and is the same for medium and large errors"),
        ("cross_entropy", "shrinks to 0 at the target, and grows with the error and levels off"),
        ("tversky", "fades to almost nothing where the prediction is far off"),
    ],
)
def test_the_gallery_describes_a_gradient_as_the_textbooks_do(name: str, words: str) -> None:
    from losslab import card

    cfg = gallery.compose_loss(name, card.choose_task([name], []), {})
    assert words in gallery.describe_gradient(card.compute(cfg, {}).curves)


@pytest.mark.parametrize(("name", "numbers"), [("sgd", 0), ("momentum", 1), ("adam", 2), ("amsgrad", 3), ("lion", 1)])
def test_the_gallery_measures_the_memory_that_the_papers_state(name: str, numbers: float) -> None:
    assert gallery.measure_memory(name, gallery.OPTIMIZERS[name]) == numbers


def test_the_gallery_draws_a_schedule_as_its_formula_has_it() -> None:
    rates = gallery.follow_schedule("polynomial")
    np.testing.assert_allclose(rates, 1 - np.arange(len(rates)) / len(rates), atol=1e-6)
    assert gallery.follow_schedule("step")[:: 10 * gallery.STEPS] == pytest.approx([10.0**-n for n in range(6)])


@pytest.mark.system
def test_the_site_builds_without_a_warning_and_shows_every_option(tmp_path: Path) -> None:
    pytest.importorskip("zensical")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)  # not a link: the site would be made beside what it leads to
    (tmp_path / "src").symlink_to(ROOT / "src")
    shutil.copytree(ROOT / "docs", tmp_path / "docs", ignore=shutil.ignore_patterns("gallery", "__pycache__"))
    (tmp_path / "docs" / "__pycache__").mkdir()
    (tmp_path / "docs" / "__pycache__" / "gallery.cpython-311.pyc").write_bytes(b"as the first command leaves it")
    pages = tmp_path / "docs" / "gallery"
    gallery.main(pages)
    for group, page in {"loss": "losses", "optimizer": "optimizers", "scheduler": "schedules", "task": "tasks"}.items():
        text = (pages / f"{page}.md").read_text(encoding="utf-8")
        for name, file in options([str(CONF)], group).items():
            assert f"\n## `{name}` {{#{name}}}\n" in text or "rates" in file, f"{group}={name}"
        for picture in re.findall(r"\]\((pictures/[^)]+)\)", text):
            assert (pages / picture).stat().st_size > 5000, picture
    build = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(build, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "Warning" in done.stdout + done.stderr) == (0, False), done.stdout + done.stderr
    assert (tmp_path / "site" / "gallery" / "losses" / "index.html").is_file()
    assert not list((tmp_path / "site").rglob("*.py*")), "programs are no pages"
    reference = (tmp_path / "site" / "api" / "index.html").read_text(encoding="utf-8")
    for name in ("api.run", "errors.Refused", "tasks.Task.encode", "data.dataset.Dataset", "data.dataset.arrays"):
        assert f'id="losslab.{name}"' in reference, "what docs/extending.md and docs/tutorial-pytorch.md build on"
