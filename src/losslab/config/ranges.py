"""What fits a setting: the ranges that the front door refuses values outside of, in words that a user can act on."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Rule = tuple[Callable[[Any], bool], str]


SILENT = (  # settings that change nothing that is measured: where a run writes, what it says, how it is kept and read
    *("output_dir", "ckpt", "resume", "allow", "logger", "trainer.enable_progress_bar", "callbacks.last"),
    *("hydra.searchpath", "data.cache", "data.cache_gb", "data.workers"),
    "loss.per",  # it says what the loss is
    *("task.truth", "data.truth"),  # they follow from the task
)


def silent(key: str) -> bool:
    """Whether a setting changes nothing that is measured.

    >>> silent("logger.mode"), silent("optimizer.lr")
    (True, False)
    """
    key = re.sub(r"^loss\.parts\.\w+", "loss", key)
    return any(key == name or key.startswith((f"{name}=", f"{name}.")) for name in SILENT)


def number(value: object) -> bool:
    """Whether `value` is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def whole(value: object, least: int) -> bool:
    """Whether `value` is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


POSITIVE: Rule = (lambda v: number(v) and v > 0, "a number above 0")
NOT_NEGATIVE: Rule = (lambda v: number(v) and v >= 0, "a number of at least 0")
PART: Rule = (lambda v: number(v) and 0 <= v < 1, "a number from 0 up to, but not including, 1")
COUNT: Rule = (lambda v: whole(v, 1), "a whole number of at least 1")
WEIGHTS: Rule = (
    lambda v: v in (None, "balanced") or (isinstance(v, list) and all(number(w) and w > 0 for w in v)),
    "balanced, null, or a list of numbers above 0, one for each class or label",
)
WIDTHS: Rule = (
    lambda v: whole(v, 0) or (isinstance(v, list) and all(whole(n, 1) for n in v)),
    "a width, or a list of widths such as [256,256]",
)

# What fits a key, wherever a value of the right type could still be wrong. For every other key the type decides.
RULES: dict[str, Rule] = {
    "seed": (lambda v: whole(v, 0) and v < 2**32, "a whole number from 0 to 4294967295"),
    "ckpt": (lambda v: v is None or (isinstance(v, str) and bool(v)), "the path of a checkpoint, or null"),
    "output_dir": (lambda v: isinstance(v, str) and bool(v), "a folder"),
    "data.batch_size": (lambda v: v == "all" or whole(v, 1), "a whole number of at least 1, or all"),
    "data.val": (lambda v: number(v) and 0 < v < 1, "a part of the rows, such as 0.1"),
    "data.test": (lambda v: number(v) and 0 < v < 1, "a part of the rows, such as 0.2"),
    "data.buckets": (lambda v: whole(v, 2), "a whole number of at least 2"),
    "data.target": (
        lambda v: v is None or (bool(v) and isinstance(v, str | list)),
        "a column, or a list of columns such as [a,b]",
    ),
    "data.size": (
        lambda v: isinstance(v, list) and len(v) == 2 and all(whole(n, 1) for n in v),
        "height and width, such as [144,96]",
    ),
    "data.min_count": (lambda v: whole(v, 0), "a whole number of at least 0"),
    "data.rare": (lambda v: v in ("drop", "merge"), "drop or merge"),
    "data.cache_gb": NOT_NEGATIVE,
    "data.workers": (lambda v: whole(v, 0), "a whole number of at least 0"),
    "model.start": (
        lambda v: number(v) or (isinstance(v, list) and v != [] and all(number(n) for n in v)),
        "a number, or a list of numbers, one for each target",
    ),
    "model.hidden": WIDTHS,
    "model.channels": WIDTHS,
    "model.dropout": PART,
    "model.weights": (
        lambda v: v is None or (isinstance(v, str) and (v.isupper() or Path(v).expanduser().is_file())),
        "DEFAULT (ImageNet's, downloaded once), a file that is there, or null",
    ),
    "data.outliers": PART,
    "loss.weights.*": POSITIVE,
    "loss.per": (lambda v: v in ("row", "batch"), "row or batch"),
    "loss.reduction": (lambda v: v in ("mean", "sum"), "mean or sum, over outputs"),
    "loss.weight": WEIGHTS,
    "loss.pos_weight": WEIGHTS,
    "loss.levels": (
        lambda v: isinstance(v, list) and v != [] and all(number(q) and 0 < q < 1 for q in v),
        "a list of numbers above 0 and below 1, such as [0.1,0.5,0.9]",
    ),
    "loss.delta": POSITIVE,
    "loss.beta": POSITIVE,
    "loss.margin": POSITIVE,
    "loss.k": POSITIVE,
    "loss.m": POSITIVE,
    "loss.eps": POSITIVE,
    "loss.q": (lambda v: number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "loss.p": (lambda v: v in (1, 2), "1 or 2"),
    "loss.power": (lambda v: number(v) and 1 < v < 2, "a number above 1 and below 2"),
    "loss.epsilon": (lambda v: number(v) and v >= -1, "a number of at least -1"),
    "loss.gamma*": NOT_NEGATIVE,
    "loss.alpha": (lambda v: v is None or (number(v) and 0 <= v <= 1), "a number from 0 to 1, or null"),
    "loss.clip": PART,
    "loss.label_smoothing": PART,
    "optimizer.*lr": POSITIVE,
    "optimizer.*momentum": PART,
    "optimizer.alpha": PART,
    "optimizer.rho": PART,
    "optimizer.eps": POSITIVE,
    "optimizer.lambd": NOT_NEGATIVE,
    "optimizer.momentum_decay": NOT_NEGATIVE,
    "optimizer.*weight_decay": NOT_NEGATIVE,
    "optimizer.beta2_decay": (lambda v: number(v) and v <= 0, "a number of at most 0, such as -0.8"),
    "optimizer.etas": (
        lambda v: isinstance(v, list) and len(v) == 2 and all(number(eta) for eta in v) and 0 < v[0] < 1 < v[1],
        "a number below 1 and a number above 1, such as [0.5,1.2]",
    ),
    "optimizer.step_sizes": (
        lambda v: isinstance(v, list) and len(v) == 2 and all(number(end) for end in v) and 0 < v[0] < v[1],
        "the smallest and the largest step, such as [1e-6,50]",
    ),
    "optimizer.max_iter": COUNT,
    "optimizer.history_size": COUNT,
    "optimizer.line_search_fn": (lambda v: v in (None, "strong_wolfe"), "strong_wolfe, or null for steps of lr"),
    "optimizer.betas": (
        lambda v: isinstance(v, list) and len(v) == 2 and all(number(b) and 0 <= b < 1 for b in v),
        "two numbers from 0 up to, but not including, 1, such as [0.9,0.999]",
    ),
    "search.*": (lambda v: v is None or (number(v) and 0 <= v <= 1), "a number from 0 to 1, or null"),
    "allow": (
        lambda v: all(isinstance(name, str) and name for name in (v if isinstance(v, list) else [v])),
        "a package, or a list of packages such as [my_losses]",
    ),
    "resume": (lambda v: v in ("auto", "never"), "auto or never"),
    "stage": (lambda v: v in (None, "test"), "test, or null"),
    "param_groups.decay": (lambda v: v in ("all", "weights"), "all or weights"),
    "param_groups.backbone_lr": NOT_NEGATIVE,
    "scheduler.gamma": POSITIVE,
    "scheduler.factor": (lambda v: number(v) and 0 < v <= 1, "a number above 0 and at most 1"),
    "scheduler.step_size": COUNT,
    "scheduler.milestones": (
        lambda v: isinstance(v, list) and v != [] and all(whole(n, 1) for n in v) and v == sorted(set(v)),
        "a rising list of epochs, such as [10,20]",
    ),
    "scheduler.T_0": COUNT,
    "scheduler.T_mult": COUNT,
    "scheduler.cycles": COUNT,
    "scheduler.power": POSITIVE,
    "scheduler.pct_start": (lambda v: number(v) and 0 < v < 1, "a part of the run, such as 0.3"),
    "scheduler.*div_factor": (lambda v: number(v) and v >= 1, "a number of at least 1"),
    "scheduler.patience": (lambda v: whole(v, 0), "a whole number of at least 0"),
    "scheduler.warmup": PART,
    "scheduler.eta_min": NOT_NEGATIVE,
    "trainer.max_epochs": COUNT,
    "trainer.updates": (lambda v: v is None or whole(v, 1), "a whole number of at least 1, or null"),
    "trainer.accumulate_grad_batches": COUNT,
    "trainer.check_val_every_n_epoch": (lambda v: v == 1, "1: best, last and the record are kept every epoch"),
    "trainer.devices": (
        lambda v: v in (-1, "auto") or whole(v, 1) or (isinstance(v, list) and v != [] and all(whole(n, 0) for n in v)),
        "how many devices, a list of their numbers such as [0,2], or auto",
    ),
    "trainer.num_nodes": COUNT,
    "trainer.gradient_clip_algorithm": (lambda v: v in ("norm", "value"), "norm or value"),
    "trainer.gradient_clip_val": (lambda v: v is None or (number(v) and v > 0), "a number above 0, or null"),
    "callbacks.*.patience": COUNT,
    "callbacks.*.epochs": COUNT,
    "callbacks.*.decay": PART,
    "callbacks.*.seconds": NOT_NEGATIVE,
    "callbacks.*.within": NOT_NEGATIVE,
    "logger.mode": (lambda v: v in ("online", "offline", "disabled", "dryrun"), "online, offline or disabled"),
}
