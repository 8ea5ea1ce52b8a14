"""losslab: which loss and optimizer are better, and is the difference real?

    losslab loss=mae optimizer=adam   train one run, or with -m several
    losslab race loss=mse,mae,huber   find out which to use, with few runs
    losslab sweep FILE                train the runs of a W&B sweep file here
    losslab compare FOLDER            say what was better, and how sure it is
    losslab study                     repeat a published claim with one command
    losslab watch FOLDER              follow runs on a live page
    losslab predict ckpt=FILE input=FILE    predict for new rows
    losslab export ckpt=FILE out=model.onnx write a trained model as ONNX
    losslab card loss=focal           draw and explain a loss and its gradient
    losslab paths                     draw how optimizers move down a valley

`losslab race --help` says more about a race, and so on.
"""

import losslab.safe_path  # noqa: F401  # before all else is imported

# isort: split
import re
import sys
from collections.abc import Sequence

from losslab.machine import collect_seldom
from losslab.training.preemption import exit_on_signals

COMMANDS = {
    "train": "losslab.app",
    "sweep": "losslab.sweep.__main__",
    "race": "losslab.race.__main__",
    "compare": "losslab.compare.__main__",
    "study": "losslab.study.__main__",
    "watch": "losslab.watch",
    "predict": "losslab.predict",
    "export": "losslab.export",
    "card": "losslab.card",
    "paths": "losslab.paths",
}


def unquote(words: Sequence[str]) -> list[str]:
    """Remove single quotes around a setting. Windows' command prompt keeps them, and splits the setting at spaces.

    >>> unquote(["-m", "'seed=range(3)'", "loss=mae", "'data.target=price", "(USD)'"])
    ['-m', 'seed=range(3)', 'loss=mae', 'data.target=price (USD)']
    """
    setting = r"(?<![^\0])'([\w+~@./-]+=[^']*)'(?![^\0])"  # no word holds the character 0
    return re.sub(setting, lambda found: found[1].replace("\0", " "), "\0".join(words)).split("\0") if words else []


def main() -> None:
    """Run the command that the first word names; a setting or a flag means a run.

    Signal handlers come first: the imports take seconds, and the kernel does not end a container's first process by a
    signal without a handler, so `docker stop` would wait.
    """
    exit_on_signals()
    collect_seldom()
    from importlib import import_module

    from losslab.errors import nearest, one_sentence

    sys.argv[1:] = unquote(sys.argv[1:])
    with one_sentence():
        if sys.argv[1:2] == ["help"]:  # help race means race --help
            sys.argv[1:] = [*sys.argv[2:3], "--help"]
        if len(sys.argv) > 2:
            from losslab.config.arguments import check_spaces

            check_spaces(sys.argv[1:])
        first = sys.argv[1] if len(sys.argv) > 1 else ""
        if first.startswith("--config-dir"):  # it may stand before the command, too
            from losslab.config.arguments import take_folders

            words, folders = take_folders(sys.argv[1:])
            if words and words[0] in COMMANDS:
                first, sys.argv[1:] = words[0], [*words, *(f"--config-dir={folder}" for folder in folders)]
        if first in COMMANDS:
            del sys.argv[1]
        elif first and "=" not in first and not first.startswith(("-", "~")):
            close = "type losslab --version" if first == "version" else nearest(first, COMMANDS)
            sys.exit(f"losslab: {first} is neither a command nor a setting such as loss=mae; {close}")
        elif first in ("", "-h", "--help"):
            print(__doc__)
        if not first:
            sys.exit(print("`losslab train` trains the usual one, and `losslab --help` lists the options."))
        import_module(COMMANDS.get(first, COMMANDS["train"])).main()


def train() -> None:
    """Run `losslab-train`, which is also `python train.py`."""
    exit_on_signals()
    collect_seldom()
    from importlib import import_module

    sys.argv[1:] = unquote(sys.argv[1:])
    import_module(COMMANDS["train"]).main()


if __name__ == "__main__":
    main()
