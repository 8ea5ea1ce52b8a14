"""Make run folders as `losslab.record.record` writes them, with given figures: nothing is trained."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from losslab.record.blocks import Blocks, assign_blocks, digest_rows
from losslab.record.row_scores import RowScores, write_row_scores

TASKS = {
    "regression": ("rmse", "min"),
    "single_label": ("accuracy", "max"),
}


def run(
    folder: Path,
    test: float,
    val: float | None = None,
    task: str = "regression",
    status: str = "finished",
    facts: dict[str, Any] | None = None,
    environment: dict[str, Any] | None = None,
    gradient: float = 1.0,
    history: Sequence[float] = (),
    others: dict[str, float] | None = None,
    rows: NDArray[np.float64] | None = None,
    **settings: Any,
) -> Path:
    """Write a run.

    Args:
        folder: in which its own is made.
        test, val: its primary metric at the best epoch.
        task, status, facts, environment: as in its record.
        gradient: the gradient norm of each epoch.
        history: the primary metric of each epoch.
        others: more values of its summary.
        rows: the primary metric of each test row, whose mean `test` is, for `rows.npz`.
        settings: such as `optimizer__lr`; `data.seed` is the seed if it is not among them.
    """
    yardstick, mode = TASKS[task]
    val = test if val is None else val
    usual = {"loss": "mse", "optimizer": "adam", "optimizer.lr": 0.001, "data": "diamonds", "model": "mlp", "seed": 0,
             "data.batch_size": 64, "scheduler": "constant", "optimizer.betas": [0.9, 0.999]}  # fmt: skip
    config = {**usual, **{key.replace("__", "."): value for key, value in settings.items()}}
    config = {"data.seed": config["seed"], **config, "task": task, "task.yardstick": yardstick, "task.mode": mode}
    config |= {"output_dir": str(folder), "loss._target_": f"of.{config['loss']}"}
    folder = folder / "-".join(f"{value}" for key, value in config.items() if key in {*usual, *settings, "seed"})
    folder = folder.with_name(folder.name.replace("/", "_") + f"-{len(list(folder.parent.glob('*')))}")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=True))
    record: dict[str, Any] = {"status": status, "reason": "it broke" if status == "failed" else None, "seconds": 2.5}
    record |= {"started": "2026-01-01T00:00:00+0000", "id": "0"}
    tested = {} if rows is None else {"test_rows": len(rows), "test_split": digest_rows(np.arange(len(rows)))}
    record |= {"facts": {"train_rows": 100, "updates": 20, **tested, **(facts or {})}}
    record |= {"environment": {"git_commit": "abc", "git_changes": "no", "machine": "here", **(environment or {})}}
    (folder / "status.json").write_text(json.dumps(record))
    worse = 1.2 if mode == "min" else 0.8
    values = list(history) or [val * worse, val, val]
    with (folder / "history.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["epoch", "step", f"val/{yardstick}", "gradient_norm", "lr", "examples_per_second"])
        table.writerows([epoch, 10 * (epoch + 1), x, gradient, 0.001, 1000.0] for epoch, x in enumerate(values))
    if status == "finished":
        summary = {f"test/{yardstick}": test, f"val/{yardstick}_best": val, f"val/{yardstick}": values[-1]}
        summary |= {"best_epoch": 1, "epochs": len(values), "updates": 20, "peak_memory_mb": 50.0}
        summary |= {"examples_per_second": 1000.0, "test/loss": test, **(others or {})}
        (folder / "summary.json").write_text(json.dumps(summary))
    if rows is not None:
        write_rows(folder, rows, yardstick)
    return folder


def write_rows(folder: Path, values: NDArray[np.float64], metric: str) -> None:
    """Write `rows.npz` for a metric that is the mean of a value per test row."""
    numbers = np.arange(len(values))
    block = assign_blocks(numbers)
    without = np.array([[values[block != each].mean()] for each in range(block.max() + 1)])
    blocks = Blocks([metric], np.array([values.mean()]), without, len(values), digest_rows(numbers))
    part = RowScores(numbers.astype(np.int32), np.zeros(len(values), np.int32), values[:, None].astype(np.float32))
    write_row_scores(folder, {"test": part}, {}, blocks)


def grid(folder: Path, means: dict[str, float], seeds: int, spread: float = 0.01, **settings: Any) -> Path:
    """Write a run of each loss and seed: its mean, plus a shift shared by all losses and a smaller one of its own."""
    for number, (loss, mean) in enumerate(means.items()):
        for seed in range(seeds):
            own = spread * (((seed * 7 + number * 3) % 5) - 2)
            run(folder, mean + 0.05 * (seed % 3) + own, loss=loss, seed=seed, **settings)
    return folder
