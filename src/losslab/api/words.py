"""From Python's values to the words of a command, and from a command's end to Python's exceptions."""

import re
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from losslab.config.arguments import PLAIN, as_typed, quote_value, split_names
from losslab.config.catalogue import CONF
from losslab.errors import Refused, machine_errors

P = ParamSpec("P")
T = TypeVar("T")
NAMED = {"true": "True", "false": "False", "null": "None"}
GROUPS = "task|data|model|loss|optimizer|scheduler|augment|trainer|logger|callbacks|search|param_groups"
KEY = rf"(?:{GROUPS})(?:\.[a-z_]\w*)*|seed|monitor|yardstick|threads|resume|stage|ckpt|output_dir|allow|config_dir"
QUOTED_SETTING = re.compile(rf"'({KEY})=([^']*)'")
WORD = r"[^\s,;:()'\[{]++"
BARE_SETTING = re.compile(rf"\b({KEY})=(\[[^\]]*\]|{{[^}}]*}}|'[^']*'|{WORD}(?:,{WORD})*+)(?!\()")
FILES = "csv|tsv|txt|json|jsonl|npz|parquet|feather|xlsx|yaml|png|zip|gz|ckpt|pt|pth|onnx|py"
DOTTED = re.compile(rf"(?<![\w./'])(?:{GROUPS})(?:\.(?!(?:{FILES})\b)[a-z_]\w*)+")
WRITTEN_HERE = re.compile(r"(?:data\.path|input)=\S*/(?:table|arrays)-[0-9a-f]{12}\.(?:csv|npz)")
SWEEP_HERE = re.compile(r"\S*python/sweeps/[^:]+\.yaml: ")
SIGNALLED = 128  # a command that a signal ends has an exit code above it


def write_value(key: str, value: Any) -> str:
    """Write a value as it is typed after `key=`.

    >>> write_value("optimizer.betas", (0.9, 0.99)), write_value("data.target", "price (USD)")
    ('[0.9,0.99]', "'price (USD)'")
    >>> write_value("loss", ["bce", "0.5*dice"]), write_value("resume", "never"), write_value("data.folds", None)
    ('[bce,0.5*dice]', 'never', 'null')
    """
    if hasattr(value, "item") and not getattr(value, "ndim", 0):
        value = value.item()  # a number of NumPy's or torch's
    if hasattr(value, "tolist"):
        value = value.tolist()
    if key == "data.types" and isinstance(value, Mapping):
        value = [f"{name}: {kind}" for name, kind in value.items()]
    if isinstance(value, Mapping):
        inner = [f"{name}:{write_value(f'{key}.{name}', each)}" for name, each in value.items()]
        return f"{{{','.join(inner)}}}"
    if isinstance(value, list | tuple | range):
        return f"[{','.join(write_value(key, each) for each in value)}]"
    if isinstance(value, Path):
        value = str(value)
    if not isinstance(value, str):
        if value is not None and not isinstance(value, bool | int | float):
            raise Refused(f"{key} got {type(value).__name__}, which cannot be typed: give a text, a number or a list")
        return as_typed(value)
    option = "." not in key and (CONF / key).is_dir()
    plain = PLAIN.fullmatch(value) and value not in ("", "null")
    return value if option or plain else quote_value(value)


def to_words(settings: Mapping[str, Any]) -> list[str]:
    """Write settings as they are typed. In the name of a keyword `__` stands for a dot, as in scikit-learn.

    >>> to_words({"seed": 0, "trainer__max_epochs": 5, "optimizer.lr": 1e-5})
    ['seed=0', 'trainer.max_epochs=5', 'optimizer.lr=1e-05']
    """
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    return [f"{key}={write_value(key, value)}" for key, value in dotted.items()]


def to_python(sentence: str) -> str:
    """Write the settings in a sentence as keywords, as a notebook gives them.

    >>> print(to_python("lr is not a setting; nearest: optimizer.lr, search.lr"))
    lr is not a setting; nearest: optimizer__lr, search__lr
    >>> print(to_python("type optimizer=adamw, data.weight=null or 'data.drop=[Unnamed: 0,a]'"))
    type optimizer='adamw', data__weight=None or data__drop=['Unnamed: 0', 'a']
    >>> print(to_python("type several, such as loss=mse,mae, or seed=range(3)"))
    type several, such as loss=['mse', 'mae'], or seed=range(3)
    >>> print(to_python("data.path=data.csv is no text: type data.types={age:number}, or data.target=COLUMN"))
    data__path='data.csv' is no text: type data__types={'age': 'number'}, or data__target=COLUMN
    """
    sentence = WRITTEN_HERE.sub("data", SWEEP_HERE.sub("", sentence))
    sentence = re.sub(r"--config-dir (\S+)", r"config_dir='\1'", sentence)
    sentence = sentence.replace("`--cfg job` prints", "`.config` of a result holds")
    for pattern in (QUOTED_SETTING, BARE_SETTING):
        sentence = pattern.sub(lambda found: f"{found[1].replace('.', '__')}={to_literal(found[2])}", sentence)
    return DOTTED.sub(lambda found: found[0].replace(".", "__"), sentence)


def to_literal(text: str) -> str:
    """Write a value as Python does.

    >>> print(to_literal("[64,a]"), to_literal("1e-3"), to_literal("true"), to_literal("{cat: 1, dog: 2}"))
    [64, 'a'] 1e-3 True {'cat': 1, 'dog': 2}
    """
    if text[:1] in ("[", "{") and text[-1:] in ("]", "}"):
        items = split_names(text[1:-1])
        if text[0] == "[":
            return f"[{', '.join(map(to_literal, items))}]"
        pairs = [item.rpartition(":") for item in items]
        inner = (
            f"{to_literal(name.strip())}: {to_literal(value.strip())}" if name else value for name, _, value in pairs
        )
        return f"{{{', '.join(inner)}}}"
    if text[:1] in ("'", '"'):
        return text
    if "," in text:
        return to_literal(f"[{text}]")
    if text in NAMED:
        return NAMED[text]
    if re.fullmatch(r"[A-Z]+|\.\.\.|[-+]?[\d.]+(?:e[-+]?\d+)?", text):
        return text
    return repr(text)


def check_call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Refuse a call that lacks an argument, or has too many without a name."""
    called = signature(function)
    try:
        called.bind(*args, **kwargs)
    except TypeError as error:
        name = function.__name__
        first = ", ".join(key for key, given in called.parameters.items() if given.kind is given.POSITIONAL_OR_KEYWORD)
        raise Refused(f"losslab.{name}: {error}; call {name}({first}), and give all else by name") from None


def like_a_command(function: Callable[P, T]) -> Callable[P, T]:
    """Let a function end as a command does, but by exceptions: `Refused` with its sentence, or `KeyboardInterrupt`.

    Messages name `losslab` as the program. Lightning leaves Ctrl-C ignored after it, so its handler is set again.
    """

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        argv, main = sys.argv, threading.current_thread() is threading.main_thread()
        handler = signal.getsignal(signal.SIGINT)
        sys.argv = ["losslab"]
        refused: BaseException
        try:
            with machine_errors():
                check_call(function, args, kwargs)
                return function(*args, **kwargs)
        except Refused as error:
            refused = error.with_traceback(None)  # the sentence says it all
            refused.args = (to_python(str(error)),)
        except SystemExit as ended:
            by_signal = isinstance(ended.code, int) and ended.code > SIGNALLED
            refused = (
                KeyboardInterrupt() if by_signal else Refused(to_python(str(ended.code).removeprefix("losslab: ")))
            )
        finally:
            sys.argv = argv
            if main and handler is not None:
                signal.signal(signal.SIGINT, handler)
        raise refused from None

    return wrapped
