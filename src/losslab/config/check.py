"""From what the user typed to a configuration that is known to be right.

Nothing here imports torch, so a mistake is answered in under a second and before anything is written.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from losslab.config import allowlist
from losslab.config.arguments import (
    add_search,
    as_typed,
    expand_sum,
    key_of,
    open_keys,
    quote_names,
    quote_option,
    show_sum,
)
from losslab.config.catalogue import fits, options
from losslab.config.command_line import check_typed
from losslab.config.compose import FileFacts, compose_run, hydra_ready, loss_paths, own_folders, stat_options
from losslab.config.explain import explain
from losslab.config.flat import flatten
from losslab.config.ranges import Range, find_ranges, number, whole
from losslab.config.recorded import recall_overrides
from losslab.errors import Refused, nearest
from losslab.files import check_writable

TYPES = {bool: "true or false", int: "a whole number", float: "a number", str: "text", list: "a list, such as [a,b]"}


def configure(overrides: Sequence[str] = ()) -> DictConfig:
    """Compose what was typed, let the task follow the data, and refuse what does not fit.

    Args:
        overrides: what would stand on the command line, such as `["loss=mae", "seed=1"]`.

    Returns:
        The configuration that `losslab.train.train` takes.

    Raises:
        Refused: for anything that a user could have mistyped.

    >>> configure(["data=digits", "model=linear"]).run.choices["task"]
    'single_label'
    """
    words = open_keys([add_search(quote_option(quote_names(typed))) for typed in overrides])
    overrides = [text for word in words for text in expand_sum(word)]
    check_typed(overrides)
    allowing = any(key_of(text) == "allow" for text in overrides)  # by the user and now, not by a record
    with hydra_ready():
        try:
            overrides, dropped = recall_overrides(overrides)
            files = stat_options(own_folders(overrides))
            overrides, cfg, ranges = compose_for_data(overrides, files)
            allowlist.check_composed(cfg, allowing)
            cfg.run.dropped = dropped
            check(cfg, usual_values(cfg, overrides, files), ranges)
            OmegaConf.set_readonly(cfg, True)
        except (HydraException, OmegaConfBaseException) as error:
            raise Refused(explain(error, overrides)) from error
        except RecursionError as error:
            raise Refused("an option names itself in its defaults or in a reference: remove that") from error
        except OSError as error:  # such as a name that is too long
            raise Refused(f"{str(error.filename)[:200]} cannot be read: {error.strerror}") from error
    return cfg


def check_jobs(jobs: Sequence[Sequence[str]]) -> None:
    """Refuse the first mistake in the jobs of a multirun, before any of them is trained.

    Each value is checked once, and each combination of options; of many seeds, the smallest and the largest.
    """
    if not jobs:
        raise Refused("the values that are typed name no run: type at least one, such as seed=0")
    known: set[object] = set()
    for key in ("seed", "data.seed"):
        typed = {text.partition("=")[2] for job in jobs for text in job if key_of(text) == key}
        seeds = sorted(int(text) for text in typed if text.isdecimal() and len(text) < 20)  # no longer number is a seed
        known |= {f"{key}={seed}" for seed in seeds[1:-1]}
    for job in jobs:
        options = frozenset(text for text in job if "." not in key_of(text) and key_of(text) != "seed")
        if {options, *job} - known:
            known |= {options, *job}
            configure([show_sum(text) for text in job])


def compose_for_data(
    overrides: list[str], files: tuple[FileFacts, ...]
) -> tuple[list[str], DictConfig, dict[str, Range]]:
    """Compose what was typed, with the task that the data are for and a model that takes them, unless they are typed.

    Args:
        files: what `stat_options` says.

    Returns:
        The overrides with these, the configuration, and what fits its keys.
    """
    cfg, ranges = compose_run(overrides, files)
    wanted = cfg.data.get("task")
    if wanted and wanted != cfg.task.name and not any(key_of(text) == "task" for text in overrides):
        overrides = [f"task={wanted}", *overrides]
        cfg, ranges = compose_run(overrides, files)
    if wants_vectors(cfg, overrides):
        overrides = ["model=tabular", *overrides]
        cfg, ranges = compose_run(overrides, files)
    return overrides, cfg, ranges


def wants_vectors(cfg: DictConfig, overrides: Sequence[str]) -> bool:
    """Return whether data without text would get a model of words, only because that is the task's usual one."""
    typed = {key_of(text).partition(".")[0] for text in overrides}
    if "tokens" not in cfg.model.get("takes", []) or {"model", "experiment"} & typed:
        return False
    gives = cfg.data.get("gives", ["tokens"])
    if "tokens" not in gives and "vector" in gives:
        return True
    if cfg.data.get("_target_") != "losslab.data.tables.csv" or not Path(str(cfg.data.path)).expanduser().is_file():
        return False
    from losslab.data.lines import Format
    from losslab.data.tables import has_text  # pandas takes half a second

    without = [cfg.data.get(key) for key in ("target", "drop", "split", "group", "time", "weight")]
    form = Format(cfg.data.encoding, cfg.data.delimiter, cfg.data.header, cfg.data.sheet)
    names = [str(name) for value in without for name in (value if OmegaConf.is_list(value) else [value])]
    try:
        return not has_text(str(cfg.data.path), names, form)
    except Refused:  # said when the whole table is read
        return False


def usual_values(cfg: DictConfig, overrides: Sequence[str], files: tuple[FileFacts, ...]) -> dict[str, Any]:
    """List the values of the chosen options as their files have them, by key."""
    groups = (*cfg.run.choices, "hydra.searchpath", "allow")
    choosing = [text for text in overrides if key_of(text) in groups or "@" in key_of(text)]
    return compose_usual(tuple(choosing), files) if choosing != overrides else flatten(cfg)


@lru_cache(maxsize=256)
def compose_usual(choosing: tuple[str, ...], files: tuple[FileFacts, ...]) -> dict[str, Any]:
    """List the values of options as their files have them, once as long as `files` stay the same."""
    return flatten(compose_run(choosing, files)[0])


def check(cfg: DictConfig, usual: Mapping[str, Any], ranges: Mapping[str, Range]) -> None:
    """Refuse what can be known to be wrong before data is read.

    Args:
        usual: the values of the same options as their files have them, by key.
        ranges: what fits a key, as the options' files state it.
    """
    values = flatten(cfg)
    check_values(cfg, values, usual, ranges)
    check_added(cfg, usual)
    check_split(cfg)
    check_task(cfg)
    check_metric(cfg)
    check_monitors(cfg, values)
    for name, path in loss_paths(cfg).items():
        check_loss(cfg, name, OmegaConf.select(cfg, path))
    check_inputs(cfg)
    check_schedule(cfg)
    check_groups(cfg)
    if cfg.ckpt is not None and not Path(cfg.ckpt).is_file():
        raise Refused(f"ckpt={cfg.ckpt} is not there: type the path of a last.ckpt in a run's folder")
    check_writable(Path(cfg.output_dir), "output_dir")


def check_values(
    cfg: DictConfig, values: Mapping[str, Any], usual: Mapping[str, Any], ranges: Mapping[str, Range]
) -> None:
    """Refuse a value that is missing, out of its range, or, for a key without a range, of another type than usual."""
    for key in usual:
        if key not in values and OmegaConf.is_dict(OmegaConf.select(cfg, key)) and usual[key] is not None:
            stated = find_ranges(key, ranges)
            fitting = stated[0].words if stated else TYPES.get(type(usual[key]), "one value")
            raise Refused(f"{key} takes one value and not several by name: it must be {fitting}")
    for key in sorted(key for key, value in values.items() if value == "???"):
        group = key.split(".")[0]
        raise Refused(f"{group}={cfg.run.choices.get(group)} needs {key}: type {key}=VALUE")
    for key, value in values.items():
        stated = find_ranges(key, ranges)
        if wrong := next((one for one in stated if not one.fits(value)), None):
            example = usual.get(key)
            some = ",".join(map(as_typed, example or [value])) if isinstance(example, list) else ""
            such = f", such as [{some}]" if some else ""
            raise Refused(f"{key}={as_typed(value)} does not fit: it must be {wrong.words}{such}")
        if not stated and key in usual and not same_type(value, usual[key]):
            raise Refused(f"{key}={as_typed(value)} does not fit: it must be {TYPES[type(usual[key])]}")


def check_added(cfg: DictConfig, usual: Mapping[str, Any]) -> None:
    """Refuse a setting that was added by `+` where nothing reads it: under no group, and referred to by no value."""
    known = {key.partition(".")[0] for key in usual} | set(cfg.run.choices)
    for text in cfg.run.overrides:
        name = key_of(text).partition("@")[2] or key_of(text)
        top = name.partition(".")[0].partition("/")[0]
        if text.startswith("+") and top not in known and f"${{{top}" not in str(OmegaConf.to_container(cfg)):
            raise Refused(f"{text} adds a setting that nothing reads; {nearest(top, known)}")


def same_type(value: object, usual: object) -> bool:
    """Tell whether `value` may stand where `usual` stood; anything may stand where there was nothing."""
    if usual is None or value is None or type(usual) not in TYPES:
        return True
    if isinstance(usual, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(usual, bool)
    return number(value) if isinstance(usual, float) else isinstance(value, type(usual))


def check_split(cfg: DictConfig) -> None:
    """Refuse parts for validation and test that leave no rows to train on."""
    folds = check_folds(cfg)
    val, test = cfg.data.get("val"), 1 / folds if folds else cfg.data.get("test")
    tested = f"data.folds={folds}" if folds else f"data.test={test or 0}"
    if sum(part for part in (val, test) if number(part) and 0 < part < 1) >= 1:
        raise Refused(f"data.val={val} and {tested} leave no rows to train on: type a smaller data.val")


def check_folds(cfg: DictConfig) -> int | None:
    """Refuse a fold that there is not; return how many there are, or `None` for one split."""
    folds, fold = cfg.data.get("folds"), cfg.data.get("fold")
    if "folds" not in cfg.data or not whole(fold, 0) or not (folds is None or whole(folds, 2)):
        return None  # these data have no folds, or give the keys another meaning
    if folds is None and fold:
        raise Refused(f"data.fold={fold} needs data.folds: type data.folds={max(5, fold + 1)} data.fold={fold}")
    if folds is not None and fold >= folds:
        raise Refused(
            f"data.fold={fold} does not fit data.folds={folds}: it must be a whole number from 0 to {folds - 1}"
        )
    if folds is not None and any(key_of(text) == "data.test" for text in cfg.run.overrides):
        raise Refused(
            f"data.test={cfg.data.test} and data.folds={folds} both say which rows are tested: leave data.test out, as "
            f"each fold is {1 / folds:.2g} of the rows, or leave data.folds out"
        )
    return None if folds is None else int(folds)


def check_metric(cfg: DictConfig) -> None:
    """Refuse a primary metric that losslab's own task lacks; what a task of the user's has is known when it is made."""
    metric, known = cfg.task.get("yardstick"), cfg.run.metrics
    if metric not in known and str(cfg.task.get("_target_")).startswith("losslab.tasks."):
        raise Refused(
            f"yardstick={as_typed(metric)} is no metric of task={cfg.task.name}; {nearest(str(metric), known)}"
        )


def check_monitors(cfg: DictConfig, values: Mapping[str, Any]) -> None:
    """Refuse to look at a metric that is not recorded of the validation rows.

    Callbacks of the user's own may log others, and so may tasks, whose metrics are known when they are made.
    """
    keys = ["monitor", "scheduler.monitor", *(f"callbacks.{name}.monitor" for name in cfg.callbacks)]
    for callback in cfg.callbacks.values():
        if OmegaConf.is_dict(callback) and callback.get("_target_") not in allowlist.CALLBACKS:
            return
    if not str(cfg.task.get("_target_")).startswith("losslab.tasks."):
        return
    parts = loss_paths(cfg)
    losses = ["loss", *(f"loss_{name}" for name in (parts if len(parts) > 1 else ()))]
    known = [f"val/{metric}" for metric in (*cfg.run.metrics, *losses)]
    for key, metric in ((key, values.get(key)) for key in keys):
        if metric is not None and metric not in known:
            hint = f"val/{metric}"
            near = f"type {key}={hint}" if hint in known else nearest(str(metric), known)
            raise Refused(f"{key}={metric} is no metric that is recorded of the validation rows; {near}")


def check_task(cfg: DictConfig) -> None:
    """Refuse data that are for another task, unless both tasks have targets of the same form."""
    wanted = cfg.data.get("task", cfg.task.name)
    if wanted == cfg.task.name:
        return
    stated = [option.get("task", {}) for option in options(cfg.run.catalogue, "task").values()]
    known = {task.get("name") for task in stated if task.get("truth") == cfg.task.truth} | {cfg.task.name}
    if wanted in known:
        return
    datasets = options(cfg.run.catalogue, "data")
    fitting = [name for name, data in datasets.items() if data.get("task") in (*known, "${task.name}")]
    raise Refused(
        f"data={cfg.run.choices.data} is for task={cfg.data.task}, not task={cfg.run.choices.task}: "
        f"type task={cfg.data.task}, or data= one of {', '.join(fitting)}"
    )


def check_loss(cfg: DictConfig, name: str, loss: DictConfig) -> None:
    """Refuse a loss, or one of a sum, that asks for scores or targets in a form that the task does not offer."""
    if fits(cfg.task, loss):
        return
    if not loss.get("input") or not loss.get("target"):
        raise Refused(f"loss={name} does not say what it wants: its file needs input: prediction and target: dense")
    losses, tasks = options(cfg.run.catalogue, "loss"), options(cfg.run.catalogue, "task")
    for key in ("input", "target"):
        known = {form for task in (cfg, *tasks.values()) for form in task.get("task", {}).get(f"{key}s", ())}
        if loss[key] not in known:
            raise Refused(f"loss={name} wants {key}: {loss[key]}, which no task offers; {nearest(loss[key], known)}")
    fitting = [other for other, keys in losses.items() if fits(cfg.task, keys)]
    others = [task for task, keys in tasks.items() if fits(keys["task"], loss)]
    raise Refused(
        f"loss={name} wants {loss.get('input')} and {loss.get('target')} targets, which "
        f"task={cfg.run.choices.task} does not offer: type loss= one of {', '.join(fitting)}"
        + (f", or task= one of {', '.join(others)}" if others else "")
    )


def check_inputs(cfg: DictConfig) -> None:
    """Refuse a model or an augmentation that does not take what the data give."""
    choices = cfg.run.choices
    takes, gives = list(cfg.model.takes), list(cfg.data.get("gives", cfg.model.takes))
    if not set(takes) & set(gives):
        models = options(cfg.run.catalogue, "model").items()
        fitting = [name for name, model in models if set(model.get("takes", [])) & set(gives)]
        raise Refused(
            f"model={choices.model} takes {' or '.join(takes)}, but data={choices.data} gives {' or '.join(gives)}: "
            f"type model= one of {', '.join(fitting)}"
        )
    if cfg.get("augment") and "image" not in gives:
        raise Refused(
            f"augment={choices.augment} is for images, but data={choices.data} gives {' or '.join(gives)}: "
            "type augment=none"
        )


def check_schedule(cfg: DictConfig) -> None:
    """Refuse a schedule by epochs whose first change comes after the run has ended."""
    epochs = cfg.trainer.max_epochs
    known = cfg.scheduler.get("interval") == "epoch" and not cfg.trainer.get("updates")
    for key in ("step_size", "milestones", "T_0") if known else ():
        value = cfg.scheduler.get(key)
        first = value[0] if OmegaConf.is_list(value) else value
        if number(first) and first >= epochs:
            half = f"scheduler.{key}={epochs // 2}" if value is first else f"'scheduler.{key}=[{epochs // 2}]'"
            raise Refused(
                f"scheduler.{key}={as_typed(value)} epochs is not reached in trainer.max_epochs={epochs}: "
                f"type {f'{half}, or ' if epochs > 1 else ''}trainer.max_epochs={first + 1} or more"
            )


def check_groups(cfg: DictConfig) -> None:
    """Refuse groups of parameters that differ in a setting that the optimizer lacks or shares between groups."""
    optimizer, groups = f"optimizer={cfg.run.choices.optimizer}", cfg.get("param_groups", {})
    if groups.get("decay", "all") != "all" and not any(key.endswith("weight_decay") for key in flatten(cfg.optimizer)):
        raise Refused(
            f"param_groups.decay={groups.decay} chooses what decays, but {optimizer} has no weight_decay: "
            "type optimizer=adamw, or param_groups.decay=all"
        )
    target = str(cfg.model.get("_target_"))  # of a model of one's own, `hidden` may mean anything
    hidden = cfg.model.get("hidden", [] if target == "losslab.models.Linear" else None)
    one_layer = isinstance(hidden, int) or (hidden is not None and len(hidden) < 2)
    if cfg.optimizer.get("hidden") and target.startswith("losslab.models.") and one_layer:
        raise Refused(
            f"{optimizer} is for hidden matrices, and model={cfg.run.choices.model} has none between its first and "
            "last layer with these settings: type model=mlp 'model.hidden=[256,256]', or optimizer=adamw"
        )
    if groups.get("backbone_lr", 1) != 1 and ("lr" not in cfg.optimizer or cfg.optimizer._target_.endswith("LBFGS")):
        has = "one learning rate for all parameters" if "lr" in cfg.optimizer else "no lr"
        raise Refused(
            f"param_groups.backbone_lr={groups.backbone_lr:g} needs a learning rate for each group, but {optimizer} "
            f"has {has}: type optimizer=adamw, or param_groups.backbone_lr=1.0"
        )
