"""From Python's values to the words of a command, and from a command's end to Python's exceptions."""

import signal
import sys
import threading
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from losslab.config.arguments import PLAIN, as_typed, quote_value
from losslab.config.catalogue import CONF
from losslab.errors import Refused, machine_errors

P = ParamSpec("P")
T = TypeVar("T")
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
                return function(*args, **kwargs)
        except Refused as error:
            refused = error.with_traceback(None)  # the sentence says it all
        except SystemExit as ended:
            by_signal = isinstance(ended.code, int) and ended.code > SIGNALLED
            refused = KeyboardInterrupt() if by_signal else Refused(str(ended.code).removeprefix("losslab: "))
        finally:
            sys.argv = argv
            if main and handler is not None:
                signal.signal(signal.SIGINT, handler)
        raise refused from None

    return wrapped
