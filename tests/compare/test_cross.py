"""Trained models under every loss: what the runs themselves recorded is the answer."""

from pathlib import Path

import pytest

from losslab.compare.__main__ import compare
from losslab.compare.cross import under_every_loss
from losslab.compare.request import parse_request
from losslab.compare.runs import read_runs
from losslab.errors import Refused
from losslab.train import train
from tests.conftest import Typed, folder_of

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.mark.parametrize(
    ("typed_now", "metrics"),
    [
        ("data=diabetes loss=huber", {"msle": "msle"}),
        ("data=diabetes loss=poisson", {"msle": "msle"}),
        ("data=diabetes loss=quantile", {"msle": "msle"}),
        ("task=single_label loss=focal", {"cross_entropy": "log_loss", "categorical_cross_entropy": "log_loss"}),
        ("task=multi_label model.hidden=0 data.buckets=512 loss=dice", {"bce": "log_loss", "soft_margin": "log_loss"}),
    ],
)
def test_a_model_costs_what_its_run_recorded(typed: Typed, typed_now: str, metrics: dict[str, str]) -> None:
    cfg = typed(*typed_now.split(), "trainer.max_epochs=2")
    summary = train(cfg)
    found = under_every_loss(folder_of(cfg))
    assert found[cfg.run.choices.loss] == pytest.approx(summary["test/loss"], rel=1e-5)
    for loss, metric in metrics.items():
        assert found[loss] == pytest.approx(summary[f"test/{metric}"], rel=1e-4)
    assert len(found) > 5


@pytest.mark.system
def test_a_comparison_shows_every_cell_under_every_loss(typed: Typed, tmp_path: Path) -> None:
    for loss in ("mse", "mae"):
        for seed in (0, 1):
            train(typed("data=diabetes", f"loss={loss}", f"seed={seed}", "trainer.max_epochs=2"))
    runs = tmp_path / "outputs"
    written = compare(parse_request([str(runs), "cross=true"]), read_runs([str(runs)]))
    assert written.endswith("index.html")
    heading, *rows = (runs / "comparison" / "cross.csv").read_text().splitlines()
    assert {"mse", "mae", "huber", "msle"} <= set(heading.split(","))
    assert sorted(row.split(",")[0] for row in rows) == ["mae", "mse"]
    assert "under every loss" in (runs / "comparison" / "index.html").read_text()


def test_a_run_without_its_checkpoint_is_refused(typed: Typed) -> None:
    cfg = typed("data=diabetes", "trainer.max_epochs=1")
    train(cfg)
    (folder_of(cfg) / "best.ckpt").unlink()
    with pytest.raises(Refused, match=r"has no best.ckpt: cross=true needs"):
        under_every_loss(folder_of(cfg))
