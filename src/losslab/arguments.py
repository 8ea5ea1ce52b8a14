"""The words of a command line as Hydra reads them: settings as `key=value`, and Hydra's own flags."""

import os
import re
from collections.abc import Sequence

from losslab.errors import Refused

SETTING = re.compile(r"--([+~]{0,2}[\w@/.]+)=(.*)", re.DOTALL)


def as_overrides(words: Sequence[str]) -> list[str]:
    """Settings as W&B's agents type them, `--key=value`, become `key=value`; Hydra's flags stay what they are.

    An agent types Python's values: its None is null.

    Raises:
        Refused: for a word that begins with `--` and is neither.

    >>> as_overrides(["--loss=mae", "--model.hidden=[64, 32]", "--data.seed=None", "seed=1", "--cfg=job", "-m"])
    ['loss=mae', 'model.hidden=[64, 32]', 'data.seed=null', 'seed=1', '--cfg=job', '-m']
    """
    flags = [flag for flag in hydra_flags() if flag.startswith("--")]
    by_agent = "WANDB_SWEEP_ID" in os.environ
    found = []
    for word in words:
        name = word.partition("=")[0]
        if not word.startswith("--") or word == "--" or name in flags:
            key, equals, value = word.partition("=")
            found.append(f"{key}=null" if by_agent and equals and value == "None" else word)
        elif setting := SETTING.fullmatch(word):
            found.append(f"{setting[1]}={'null' if setting[2] == 'None' else setting[2]}")
        elif name == "--" or not any(flag.startswith(name) for flag in flags):  # argparse takes a flag's beginning
            raise Refused(f"{word} is no flag, and no setting without a value: type {name[2:]}=VALUE; --help says more")
        else:
            found.append(word)
    return found


def hydra_flags() -> list[str]:
    """The flags that Hydra knows, such as `--multirun` and `-m`."""
    from hydra._internal.utils import get_args_parser

    return [*get_args_parser()._option_string_actions]
