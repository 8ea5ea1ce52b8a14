"""The private parts that are used exist, do what Lightning and torch do, and are used nowhere else."""

import ast
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import Tensor, nn

from losslab.internals.lightning import update_best, update_early_stopping

SRC = Path(__file__).parents[2] / "src"
PUBLIC = {"_exit", "_replace", "_asdict", "_target_", "_partial_"}  # of os, of named tuples, and keys of Hydra's


def private_names(code: str) -> set[str]:
    """Names of others that begin with an underscore."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".")}
    return {name for name in found - PUBLIC if name.startswith("_") and not name.startswith("__")}


def test_private_parts_of_libraries_are_used_in_one_room() -> None:
    files = [file for file in SRC.rglob("*.py") if file.parent.name != "internals"]
    assert not {f"{file.relative_to(SRC)}: {name}" for file in files for name in private_names(file.read_text())}


class Scores(pl.LightningModule):
    """Logs one given score an epoch."""

    def __init__(self, scores: list[float]) -> None:
        super().__init__()
        self.scores, self.layer = scores, nn.Linear(1, 1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.layer(batch).sum()  # type: ignore[no-any-return]

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.log("val/score", self.scores[min(self.current_epoch, len(self.scores) - 1)])


@pytest.mark.filterwarnings("ignore::lightning_fabric.utilities.warnings.PossibleUserWarning")
@pytest.mark.filterwarnings("ignore:.*treespec:FutureWarning")
@pytest.mark.parametrize("mode", ["min", "max"])
def test_a_stack_leaves_the_callbacks_of_a_run_as_lightning_would(
    mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a folder is usually given from here, as outputs
    scores = [1.0, 3.0, 2.0, 2.5, 2.25, 2.125]
    best = ModelCheckpoint("run", "best", "val/score", mode=mode, enable_version_counter=False)
    early = EarlyStopping("val/score", mode=mode, patience=3)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=len(scores),
        callbacks=[best, early],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    rows: torch.utils.data.DataLoader[Tensor] = torch.utils.data.DataLoader([torch.ones(1)])  # type: ignore[arg-type]
    trainer.fit(Scores(scores), rows, rows)

    best_too = ModelCheckpoint("run", "best", "val/score", mode=mode, enable_version_counter=False)
    early_too = EarlyStopping("val/score", mode=mode, patience=3)
    for epoch, score in enumerate(scores):
        update_best(best_too, torch.tensor(score))
        if update_early_stopping(early_too, torch.tensor(score), epoch):
            break
    assert best.state_dict() == best_too.state_dict()
    assert early.state_dict() == early_too.state_dict()
    assert early.stopped_epoch == {"min": 3, "max": 4}[mode]
