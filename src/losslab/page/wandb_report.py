"""Logging a comparison to W&B, as a run of type `report`; offline unless `WANDB_MODE` says otherwise."""

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from losslab.record.client import client, is_fault, reason


def log_report(title: str, sentences: Sequence[str], tables: Mapping[str, pd.DataFrame], out: Path) -> str:
    """Log verdict, tables, plots and the page itself; `WANDB_MODE` and `WANDB_PROJECT` are respected.

    Args:
        title: the name of the run.
        sentences: verdict and cautions, which become its notes.
        out: the folder that holds the page and its plots; W&B's own folder is created in it.

    Returns:
        A sentence: where the run is, or why W&B did not take it.
    """
    for key, value in {
        "SILENT": "true",
        "INIT_TIMEOUT": "30",
        "FINISH_TIMEOUT": "60",
        "FINISH_TIMEOUT_RAISES": "true",
    }.items():
        os.environ.setdefault(f"WANDB_{key}", value)
    os.environ.setdefault("WANDB_DATA_DIR", str(out.resolve() / "wandb" / "data"))
    mode = os.environ.setdefault("WANDB_MODE", "offline")
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    wandb = client()
    try:
        with wandb.init(
            project=os.environ.get("WANDB_PROJECT", "losslab"), name=title, job_type="report",
            notes="\n".join(sentences), dir=out, settings=wandb.Settings(console="off"),
        ) as run:  # fmt: skip
            run.log({name: wandb.Table(dataframe=table) for name, table in tables.items()})
            run.log({f"plots/{file.stem}": wandb.Image(str(file)) for file in sorted(out.glob("*.png"))})
            if (page := out / "index.html").is_file():
                run.log({"page": wandb.Html(page.read_text(encoding="utf-8"), inject=False)})
            command = shlex.join(["wandb", "sync", str(Path(run.dir).parent)])
            sentence = f"W&B: {run.url or f'offline; `{command}` uploads it'}"
    except Exception as error:
        if not is_fault(error):
            raise
        return f"W&B did not take the comparison ({reason(error)}); it is complete in {out}"
    return sentence
