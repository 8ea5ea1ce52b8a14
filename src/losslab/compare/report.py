"""A comparison in W&B: a run of the type `report`, with its tables and plots, offline until the user says otherwise."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd


def log(title: str, sentences: Sequence[str], tables: Mapping[str, pd.DataFrame], out: Path) -> str:
    """Log verdict, tables and plots; `WANDB_MODE` and `WANDB_PROJECT` are respected.

    Args:
        title: the run's name.
        sentences: verdict and cautions.
        tables: by name.
        out: the folder with the plots, where W&B's own folder goes, too.

    Returns:
        Where the run is.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_DATA_DIR", str(out.resolve() / "wandb" / "data"))
    mode = os.environ.setdefault("WANDB_MODE", "offline")
    if mode == "offline":
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    import wandb

    with wandb.init(
        project=os.environ.get("WANDB_PROJECT", "losslab"), name=title, job_type="report", notes="\n".join(sentences),
        dir=out, settings=wandb.Settings(console="off"),
    ) as run:  # fmt: skip
        run.log({name: wandb.Table(dataframe=table) for name, table in tables.items()})
        run.log({f"plots/{file.stem}": wandb.Image(str(file)) for file in sorted(out.glob("*.png"))})
        folder = Path(run.dir).parent
        return f"W&B: {run.url or f'offline; `wandb sync {folder}` uploads it'}"
