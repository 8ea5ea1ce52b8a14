"""A model card in Markdown: what a model was trained on and how, how good it is and how sure that is, and its limits.

Source: Mitchell et al., Model Cards for Model Reporting, FAccT 2019.
"""

from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from omegaconf import DictConfig

from losslab.data.encoder import ImageEncoder, TableEncoder
from losslab.files import Unreadable, known_json
from losslab.record.blocks import pseudo_values
from losslab.record.row_scores import read_blocks

if TYPE_CHECKING:
    from losslab.data.columns import ColumnEncoder
    from losslab.restore import Predictor

COLUMNS = 40  # that are listed
SCARCE = 50  # training rows of a class or label

USE = """\
```python
import json, onnxruntime
from pathlib import Path
from losslab.data.encoder import make_encoder

encoder = make_encoder(json.loads(Path("{sidecar}").read_text())["encoder"])
new = encoder.read(Path("{source}"))
session = onnxruntime.InferenceSession("{model}")
(y,) = session.run(None, {{"x": new.x}})   # (rows, columns): {columns}
```
"""
BY_HAND = {
    "vectors": "Without losslab: go through `encoder.columns` of `{sidecar}` in order. A number, or a date as days "
    "since 1970, becomes `(value - mean) / std`, with `median` for an empty cell; where `marks_empty` holds, one more "
    "feature says 1 for an empty cell and 0 otherwise. One with `std` 0 is left out. A category becomes one 0 or 1 for "
    "each of `categories`; one with a single category is left out.",
    "tokens": "Without losslab: `TableEncoder.hash_tokens` in losslab's `data/encoder.py` is the rule, in ten lines.",
    "images": "Without losslab: bytes from 0 to 255 of shape {shape}, channels first. {resized}",
}


def write_card(cfg: DictConfig, run: "Predictor", folder: Path, model: str) -> str:
    """Return the card of a trained run.

    Args:
        run: made again from its checkpoint.
        folder: its record, of which status, summary and test rows are read where they are there.
        model: the name of the ONNX file.
    """
    status, summary = (known_json(folder / name) for name in ("status.json", "summary.json"))
    choice, facts = cfg.run.choices, known_part(status, "facts")
    sections = {
        f"{choice.model} for {choice.data}": describe(cfg, run),
        "Use": use(run, model),
        "Data": data(cfg, run, facts),
        "Training": training(cfg, status, summary),
        "Test metrics": metrics(cfg, folder, summary),
        "Limits": limits(cfg, run, facts),
    }
    return "\n".join(
        f"{'##' if place else '#'} {title}\n\n{text}\n" for place, (title, text) in enumerate(sections.items())
    )


def known_part(record: dict[str, Any], key: str) -> dict[str, Any]:
    """Return the object that a record holds under a key; an empty one where there is none."""
    found = record.get(key)
    return found if isinstance(found, dict) else {}


def describe(cfg: DictConfig, run: "Predictor") -> str:
    """Say in a sentence what the model predicts."""
    names = run.data.outputs
    some = ", ".join(names[:12]) + (", …" if len(names) > 12 else "")
    what = {"numbers": f"the number{'s' * (len(names) > 1)} {some}", "class": f"one class of {some}"}
    return f"It predicts {what.get(run.task.truth, f'any of the labels {some}')}. The task is {cfg.run.choices.task}."


def use(run: "Predictor", model: str) -> str:
    """Say how predictions are made from the exported files."""
    sidecar, encoder = Path(model).with_suffix(".json").name, run.encoder
    kind = "images"
    if isinstance(encoder, TableEncoder):
        kind = "vectors" if encoder.buckets is None else "tokens"
    if encoder is None:
        return f"`{sidecar}` says what goes in and comes out."
    resized = (
        "Training images were resized to it by Pillow's bilinear filter."
        if isinstance(encoder, ImageEncoder) and encoder.resize
        else ""
    )
    source = "posters/" if kind == "images" else "new.csv"
    columns = "one probability for each output" if run.task.truth != "numbers" else "numbers in the data's units"
    text = USE.format(sidecar=sidecar, source=source, model=model, columns=columns)
    return text + "\n" + BY_HAND[kind].format(sidecar=sidecar, shape=tuple(run.data.shape), resized=resized).strip()


def data(cfg: DictConfig, run: "Predictor", facts: dict[str, Any]) -> str:
    """Describe the rows, their split and their columns."""
    place = f", `{Path(str(cfg.data.path)).name}`" if cfg.data.get("path") else ""
    rows = [f"{facts[f'{part}_rows']:,} {part}" for part in ("train", "val", "test") if f"{part}_rows" in facts]
    folds = f", fold {cfg.data.fold} of {cfg.data.folds} tested" if cfg.data.get("folds") else ""
    lines = [f"{cfg.run.choices.data}{place}: {', '.join(rows)} rows, split by seed {cfg.data.get('seed')}{folds}."]
    if isinstance(run.encoder, TableEncoder):
        columns = run.encoder.columns
        lines += ["", "| column | type | of the training rows |", "|---|---|---|"]
        lines += [f"| {cell(c.name)} | {'date' if c.dates else c.kind} | {learned(c)} |" for c in columns[:COLUMNS]]
        lines += [f"| and {len(columns) - COLUMNS} more | | |"] if len(columns) > COLUMNS else []
    elif len(run.data.shape) == 3:
        lines.append(f"Images of {run.data.shape[1]}x{run.data.shape[2]} pixels, {run.data.shape[0]} channels.")
    return "\n".join(lines)


def learned(column: "ColumnEncoder") -> str:
    """Say what was learned of a column."""
    if column.kind == "category":
        known = [name or "(empty)" for name in column.categories]
        return cell(f"{len(known)} categories: {', '.join(known[:8])}{', …' if len(known) > 8 else ''}")
    if column.kind == "text":
        return "its words"
    if not column.std:
        return "one value only: not used"
    unit = " days since 1970" if column.dates else ""
    return f"median {column.median:.6g}, mean {column.mean:.6g}, standard deviation {column.std:.6g}{unit}"


def cell(text: str) -> str:
    """Return a text that stays in its cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|")


def training(cfg: DictConfig, status: dict[str, Any], summary: dict[str, Any]) -> str:
    """Describe how it was trained."""
    choice, here, facts = cfg.run.choices, known_part(status, "environment"), known_part(status, "facts")
    rows = {
        "loss": choice.loss,
        "optimizer": f"{choice.optimizer}, learning rate {cfg.optimizer.get('lr')}, {choice.scheduler} schedule",
        "batch": f"{cfg.data.batch_size} rows",
        "epochs": f"{summary['epochs']:g}; epoch {summary['best_epoch'] + 1:g} is kept, the best by {cfg.monitor}"
        if "best_epoch" in summary
        else "not finished",
        "seed": str(cfg.seed),
        "parameters": f"{facts.get('parameters', 0):,}",
        "made with": ", ".join(f"{name} {here[name]}" for name in ("losslab", "torch", "python") if here.get(name)),
    }
    return "\n".join(f"- {name}: {text}" for name, text in rows.items())


def metrics(cfg: DictConfig, folder: Path, summary: dict[str, Any]) -> str:
    """Tabulate the test metrics with 95 % intervals, by the jackknife over blocks of test rows."""
    found = {key.removeprefix("test/"): value for key, value in summary.items() if key.startswith("test/")}
    if not found:
        return "The run was not tested."
    widths = half_widths(folder)
    lines = ["| metric | value | 95 % interval |", "|---|---|---|"]
    for name, value in found.items():
        bounds = f"{value - widths[name]:.4g} to {value + widths[name]:.4g}" if name in widths else ""
        lines.append(f"| {name}{' (primary)' if name == cfg.task.yardstick else ''} | {value:.4g} | {bounds} |")
    return "\n".join([*lines, "", "Intervals speak of other test rows like these, not of another training."])


def half_widths(folder: Path) -> dict[str, float]:
    """Return half the width of each metric's 95 % interval, from the run's record of its test rows."""
    from scipy import stats

    try:
        blocks = read_blocks(folder)
    except Unreadable:
        return {}
    if blocks is None:
        return {}
    count = len(blocks.without)
    factor = float(stats.t.ppf(0.975, count - 1)) / sqrt(count)
    spread = {name: float(np.std(pseudo_values(blocks, name), ddof=1)) for name in blocks.metrics}
    return {name: factor * each for name, each in spread.items() if np.isfinite(each)}


def limits(cfg: DictConfig, run: "Predictor", facts: dict[str, Any]) -> str:
    """List what the model must not be trusted with."""
    lines = [
        "It knows rows like those that it was trained on. For others, such as later ones, its metrics are unknown.",
        f"One training, of seed {cfg.seed}. Another would differ: `losslab compare` says by how much.",
    ]
    if isinstance(run.encoder, TableEncoder):
        lines.append("A category that no training row has is encoded as none, an empty number as the training median.")
    rows = facts.get("train_rows", 0)
    scarce = [
        f"{n} ({round(p * rows)})" for n, p in zip(run.data.outputs, run.priors, strict=False) if p * rows < SCARCE
    ]
    if scarce:
        more = ", …" if len(scarce) > 12 else ""
        lines.append(f"Few training rows have: {', '.join(scarce[:12])}{more}.")
    if run.task.truth == "labels":
        lines.append("Probabilities above one half are predicted. Rare labels hardly ever are: see `tuned_thresholds`.")
    return "\n".join(f"- {line}" for line in lines)
