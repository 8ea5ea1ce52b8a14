"""What a file may set: an allow-list, checked for each file that takes part in a configuration.

A configuration is text, but `_target_` names code that is imported and called, and other keys say where a run writes,
what leaves the machine and what Hydra does. The user's command line may set all of them. A file may set only what is
listed here, whoever wrote it: an option below `--config-dir`, a sweep file, the record beside a checkpoint. The user
extends the list by `allow=PACKAGE` and `allow=setting:KEY`. docs/security.md says who is trusted with what.

Nothing here imports torch.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, Override
from hydra.errors import OverrideParseException
from omegaconf import DictConfig, OmegaConf

from losslab.config.catalogue import OPTION
from losslab.config.credentials import INSTEAD, SECRET, find_secrets
from losslab.config.flat import resolve
from losslab.config.targets import SETTING, allowed_packages, check_target_name, find_targets, find_values, is_within
from losslab.errors import Refused

# Groups whose keys are arguments of the code that `_target_` names, or places in their ranges: a file may set them all.
# Nor does what an experiment's file expects set anything.
ARGUMENTS = ("task", "model", "loss", "optimizer", "scheduler", "augment", "search", "expect")
# The other settings that a file may make. A new setting is refused in files until it is listed here.
LISTED = {
    "data": "_target_ task truth gives takes val test fixed_test seed folds fold batch_size drop_last workers path "
    "labels file target separator none drop min_count rare group size cache_gb buckets outliers dataset values read "
    "label_noise outputs types missing drop_rows max_categories rows test_path split time "
    "encoding delimiter header decimal dates sheet weight reshuffle",
    "trainer": "accelerator devices num_nodes strategy precision max_epochs updates accumulate_grad_batches "
    "gradient_clip_val gradient_clip_algorithm channels_last cuda_graphs check_val_every_n_epoch enable_progress_bar "
    "deterministic sync_batchnorm benchmark",
    "logger": "tags notes group job_type",
    "callbacks.*": "monitor mode patience min_delta strict check_finite stopping_threshold divergence_threshold epochs "
    "decay seconds within verbose interval duration swa_lrs swa_epoch_start annealing_epochs annealing_strategy "
    "save_top_k every_n_epochs save_weights_only save_on_train_epoch_end check_on_train_epoch_end "
    "enable_version_counter auto_insert_metric_name logging_interval",
    "param_groups": "decay backbone_lr",
}
SETTINGS = {
    *("seed", "resume", "stage", "monitor", "threads"),
    *(f"{group}.{key}" for group, keys in LISTED.items() for key in keys.split()),
}


def holds_data(value: Any) -> bool:
    """Tell whether a folder holds a data set of torchvision already, so that nothing is downloaded into it."""
    names = ("MNIST", "FashionMNIST", "cifar-10-batches-py")
    return isinstance(value, str) and any((Path(value).expanduser() / name).is_dir() for name in names)


CALLBACKS = (  # they write only to `dirpath`
    "losslab.optim.averaging.EMA",
    "losslab.training.callbacks.SameBatch",
    "losslab.training.checkpoints.LastCheckpoint",
    "losslab.training.finetune.Finetune",
    "pytorch_lightning.callbacks.EarlyStopping",
    "pytorch_lightning.callbacks.LearningRateMonitor",
    "pytorch_lightning.callbacks.ModelCheckpoint",
    "pytorch_lightning.callbacks.StochasticWeightAveraging",
    "pytorch_lightning.callbacks.Timer",
)
# Settings that a file may make if the value is harmless.
HARMLESS: dict[str, Callable[[Any], bool]] = {
    "data.root": holds_data,
    "callbacks.*.dirpath": lambda value: value == "${run.dir}",
    "callbacks.*.filename": lambda value: isinstance(value, str) and re.fullmatch(r"[\w{}=.:-]+", value) is not None,
    "callbacks.*._target_": lambda value: value in CALLBACKS,
}
NEVER = ("allow", "run")  # no file may set these, whatever the user allows
ENVIRONMENT = ("HOME", "LOSSLAB_DATA", "SCRATCH", "SLURM_ARRAY_TASK_ID", "SLURM_JOB_ID", "TMPDIR", "WANDB_MODE")
REFERENCE = re.compile(rf"\$\{{(?:\.*\w[\w.\[\]]*|oc\.env:(?:{'|'.join(ENVIRONMENT)})(?:,[^${{}}]*)?)\}}")
RANGES = re.compile(r"(data|trainer|logger|callbacks\.[^.]+)\.ranges\b")  # what fits the option's own keys
PART = re.compile(r"loss\.parts\.\w[\w-]*")  # one loss of a weighted sum
SERVER = re.compile(r"logger\.(?:.*\.)?(?:base_url|host)")
STEERS = (
    "sets more of Hydra than hydra.mode and hydra.sweeper.params, which could run any code: "
    "if you trust it, type allow=hydra"
)

MALFORMED = "has no sweep that can be read: write hydra: {mode: MULTIRUN, sweeper: {params: {seed: '0,1'}}}"


def check_composed(cfg: DictConfig, typed: bool) -> None:
    """Refuse a configuration that names other code than listed, or a secret. `allow` counts if the user `typed` it."""
    given = cfg.get("allow")
    if (
        typed
        and not isinstance(given, str)
        and not (OmegaConf.is_list(given) and all(isinstance(n, str) for n in given))
    ):
        raise Refused(f"allow={given} does not fit: it must be a package, or a list of packages such as [my_losses]")
    cfg.allow = ([given] if isinstance(given, str) else list(given)) if typed else []
    plain = resolve(cfg, whole=True)
    for key, target in find_targets(plain, ""):
        check_target_name(key, target, cfg.allow)
    secrets = find_secrets()
    for key, value in find_values(plain, ""):
        if SERVER.fullmatch(key) and value is not None:
            raise Refused(f"{key} would send your key to another server: set WANDB_BASE_URL, or leave it out")
        if SECRET.fullmatch(key) and isinstance(value, str):
            raise Refused(f"{key} would be written into the run's record: {INSTEAD}")
        for name, secret in secrets.items():
            if secret in str(value):
                raise Refused(f"{key} holds what {name} holds, which would be written into the run's record: leave it")


def may_set(key: str, value: Any) -> bool:
    """Tell whether a file may make a setting.

    >>> may_set("loss.delta", 2), may_set("logger.mode", "online"), may_set("data.path", "${oc.env:AWS_KEY}")
    (True, False, False)
    """
    if any("${" in REFERENCE.sub("", text) for _, text in find_values(value, "") if isinstance(text, str)):
        return False
    if key.partition(".")[0] in ARGUMENTS or RANGES.match(key):
        return True
    listed = re.sub(r"^callbacks\.[^.]+", "callbacks.*", key)
    if listed in HARMLESS:
        return HARMLESS[listed](value)
    return is_within(listed, SETTINGS) if key.startswith("data.") else listed in SETTINGS


def check_setting(where: str, key: str, value: Any, allow: Sequence[str]) -> None:
    """Refuse a setting that a file may not make, unless the user allows it by `allow=setting:KEY`."""
    settings = [name.removeprefix(SETTING) for name in allow if name.startswith(SETTING)]
    top = key.partition(".")[0]
    if may_set(key, value) or (top not in NEVER and (is_within(key, settings) or (top == "hydra" and top in allow))):
        return
    if any("${" in text for _, text in find_values(value, "") if isinstance(text, str)) and may_set(key, None):
        known = ", ".join(ENVIRONMENT)
        raise Refused(
            f"{where} sets {key} to a computed value: a file may refer only to other settings, or to one of {known}"
        )
    plain = isinstance(value, str | int | float) and re.fullmatch(r"[\w./:-]+", str(value))
    shown = str(value).lower() if isinstance(value, bool) else str(value) if plain else "VALUE"
    trusted = "" if top in NEVER else f", or allow={'hydra' if top == 'hydra' else SETTING + key} if you trust the file"
    typed = "" if top == "run" else f" and type {key}={shown}"
    raise Refused(f"{where} sets {key}, which only you may: leave it out there{typed}{trusted}")


def find_settings(node: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yield every setting at or below a node, and its key. The items of a list have the key of the list."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield from find_settings(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list) and node:
        for number, value in enumerate(node):
            yield from find_settings(value, f"{path}.{number}" if isinstance(value, dict | list) else path)
    else:
        yield path, node


def belongs_to_allowed_code(key: str, allow: Sequence[str], content: Mapping[str, Any], cfg: DictConfig | None) -> bool:
    """Tell whether a setting is an argument of data or of a callback that the user allows.

    Args:
        allow: what the user typed.
        cfg: the whole configuration, in which another file may have put other code in that place; `None` if it is not
            composed yet.
    """
    found = re.match(r"(data|callbacks\.[^.]+)\.", key)
    if not found:
        return False
    named = [
        OmegaConf.select(OmegaConf.create(dict(content)), f"{found[1]}._target_", throw_on_resolution_failure=False)
    ]
    named += [] if cfg is None else [OmegaConf.select(cfg, f"{found[1]}._target_", throw_on_resolution_failure=False)]
    return all(is_within(str(name), allowed_packages(allow)) for name in named)


def check_file(
    where: str,
    content: Mapping[str, Any],
    allow: Sequence[str],
    groups: Callable[[str], bool],
    cfg: DictConfig | None = None,
) -> None:
    """Refuse a file of options that makes settings that a file may not make.

    Args:
        content: what it sets, under its keys in the whole configuration.
        allow: what the user typed.
        groups: tells whether a key is a group of options.
        cfg: the whole configuration, if it is composed.
    """
    for key, value in find_settings({key: content[key] for key in content if key != "hydra"}, ""):
        if not belongs_to_allowed_code(key, allow, content, cfg):
            check_setting(where, key, value, allow)
    hydra = content.get("hydra", {})
    if "hydra" in allow:
        return
    if why := find_hydra_fault(hydra):
        raise Refused(f"{where} {why}")
    words = [f"{key}={value}" for key, value in hydra.get("sweeper", {}).get("params", {}).items()]
    try:
        parsed = OverridesParser.create().parse_overrides(words)
    except OverrideParseException as error:
        raise Refused(f"{where}: '{error.override}' in hydra.sweeper.params cannot be read: type key: a,b") from None
    check_overrides(where, parsed, allow, groups)


def check_overrides(
    where: str, overrides: Sequence[Override], allow: Sequence[str], groups: Callable[[str], bool]
) -> None:
    """Refuse overrides in a sweep file, an experiment or a record that do what a file may not."""
    for override in overrides:
        key = override.key_or_group
        if override.is_sweep_override() and not isinstance(override.value(), Glob):
            values: list[Any] = list(override.sweep_iterator())
        else:
            values = [override.value()]
        for value in values:
            check_override(where, override, key, value, allow, groups)


def check_override(
    where: str, override: Override, key: str, value: Any, allow: Sequence[str], groups: Callable[[str], bool]
) -> None:
    """Refuse one override in a file, with one of the values that it sweeps over."""
    if not groups(key) or isinstance(value, dict):
        if isinstance(value, Glob):
            raise Refused(f"{where}: {override.input_line} names no group: type key=a,b")
        for below, leaf in find_settings(value, key):
            check_setting(where, below, leaf, allow)
        return
    if key.partition("/")[0] == "hydra" or (override.package and not PART.fullmatch(override.package)):
        check_setting(where, override.get_key_element().replace("/", "."), value, allow)
    for name in [] if isinstance(value, Glob) or value is None else value if isinstance(value, list) else [value]:
        check_option(f"{where}: {key}", str(name).lower() if isinstance(name, bool) else str(name))


def check_option(where: str, name: str) -> None:
    """Refuse a text that is no option's name, such as a path out of the group."""
    if not OPTION.fullmatch(name):
        alone = name.rpartition("/")[2]
        hint = f"type the name alone, {where}={alone}" if OPTION.fullmatch(alone) else "it has letters, digits, - and _"
        raise Refused(f"{where}={name[:100]} is no option's name: {hint}")


def find_hydra_fault(hydra: Any) -> str | None:
    """Say why a file's settings of Hydra are refused, unless they are a sweep and its parameters alone."""
    if not isinstance(hydra, dict):
        return MALFORMED if hydra is None else STEERS
    sweeper = hydra.get("sweeper", {})
    if not set(hydra) <= {"mode", "sweeper"} or (isinstance(sweeper, dict) and not set(sweeper) <= {"params"}):
        return STEERS
    return None if isinstance(sweeper, dict) and isinstance(sweeper.get("params", {}), dict) else MALFORMED


def check_option_file(root: Path, option: str) -> None:
    """Refuse an option such as `loss/mine` if its name is a path, or its file a link that leaves the group."""
    group = option.rpartition("/")[0]
    for part in option.split("/"):
        check_option(group or "option", part)
    file = root / f"{option}.yaml"
    if not file.resolve().is_relative_to((root / group).resolve()):
        raise Refused(f"{file} is a link to a file elsewhere: put the option itself there")
