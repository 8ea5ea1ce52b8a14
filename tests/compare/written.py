"""Make run folders as `losslab.record.record` writes them, with given figures: nothing is trained."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

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
    **settings: Any,
) -> Path:
    """Write a run; `test` and `val` are its primary metric at the best epoch, `others` more values of its summary."""
    yardstick, mode = TASKS[task]
    val = test if val is None else val
    usual = {"loss": "mse", "optimizer": "adam", "optimizer.lr": 0.001, "data": "diamonds", "model": "mlp", "seed": 0,
             "data.batch_size": 64, "scheduler": "constant", "optimizer.betas": [0.9, 0.999]}  # fmt: skip
    config = {**usual, **{key.replace("__", "."): value for key, value in settings.items()}}
    config |= {"data.seed": config["seed"], "task": task, "task.yardstick": yardstick, "task.mode": mode}
    config |= {"output_dir": str(folder), "loss._target_": f"of.{config['loss']}"}
    folder = folder / "-".join(f"{value}" for key, value in config.items() if key in {*usual, *settings, "seed"})
    folder = folder.with_name(folder.name.replace("/", "_") + f"-{len(list(folder.parent.glob('*')))}")
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=True))
    record: dict[str, Any] = {"status": status, "reason": "it broke" if status == "failed" else None, "seconds": 2.5}
    record |= {"started": "2026-01-01T00:00:00+0000", "id": "0"}
    record |= {"facts": {"train_rows": 100, "updates": 20, **(facts or {})}}
    record |= {"environment": {"git_commit": "abc", "git_changes": "no", "machine": "here", **(environment or {})}}
    (folder / "status.json").write_text(json.dumps(record))
    worse = 1.2 if mode == "min" else 0.8
    values = list(history) or [val * worse, val, val]
    with (folder / "history.csv").open("w", newline="") as lines:
        rows = csv.writer(lines)
        rows.writerow(["epoch", "step", f"val/{yardstick}", "gradient_norm", "lr", "examples_per_second"])
        rows.writerows([epoch, 10 * (epoch + 1), x, gradient, 0.001, 1000.0] for epoch, x in enumerate(values))
    if status == "finished":
        summary = {f"test/{yardstick}": test, f"val/{yardstick}_best": val, f"val/{yardstick}": values[-1]}
        summary |= {"best_epoch": 1, "epochs": len(values), "updates": 20, "peak_memory_mb": 50.0}
        summary |= {"examples_per_second": 1000.0, "test/loss": test, **(others or {})}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def grid(folder: Path, means: dict[str, float], seeds: int, spread: float = 0.01, **settings: Any) -> Path:
    """Write a run of each loss and seed: its mean, plus a shift shared by all losses and a smaller one of its own."""
    for number, (loss, mean) in enumerate(means.items()):
        for seed in range(seeds):
            own = spread * (((seed * 7 + number * 3) % 5) - 2)
            run(folder, mean + 0.05 * (seed % 3) + own, loss=loss, seed=seed, **settings)
    return folder
