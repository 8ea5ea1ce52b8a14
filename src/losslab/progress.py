"""How far a long task is: a bar on a terminal and in a notebook, and a line every so often in a file or a log."""

import sys
import time
import warnings
from typing import Any

from tqdm import tqdm

FORMAT = "|{bar}| {elapsed}<{remaining}{postfix}"  # short, as what counts comes last
SHORTEST, LONGEST = 30.0, 600.0  # seconds between two lines in a log; a twentieth of the time elapsed lies between


def progress_bar(total: int, what: str, unit: str = "", initial: int = 0, leave: bool = True) -> Any:
    """Return a bar of tqdm's for a terminal or a notebook, and lines of text for anything else.

    Args:
        what: is done, such as `tuning`.
        unit: the name of a step, such as `run`; empty where a person does not count them.
        initial: how many of them are done already.
        leave: whether the bar stays when it is over.
    """
    if "ipykernel" in sys.modules:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # without ipywidgets it is drawn as text
            from tqdm.auto import tqdm as notebook_bar

        return notebook_bar(total=total, desc=what, initial=initial, unit=unit or "step", leave=leave)
    if sys.stderr is not None and sys.stderr.isatty():
        form = "{desc} " + ("{n_fmt}/{total_fmt} {unit}s " if unit else "") + FORMAT
        return tqdm(
            total=total, desc=what, unit=unit, initial=initial, leave=leave, bar_format=form, dynamic_ncols=True
        )
    return Lines(total, what, unit, initial)


class Lines:
    """Progress as lines of text on stderr: after half a minute, then ever more seldom, and at the end of a long task.

    It has the methods of tqdm's bar that are used here. A task of less than half a minute prints nothing.

    >>> lines = Lines(240, "testing", "run", initial=60)
    >>> lines.update(30)
    >>> lines.set_postfix({"accuracy": "0.97"})
    >>> lines.describe(now=lines.began + 600.01)
    'testing 90/240 runs, 38 %, 10:00 elapsed, 50:00 left, accuracy 0.97'
    """

    disable = False

    def __init__(self, total: int, what: str, unit: str = "", initial: int = 0) -> None:
        self.total, self.what, self.unit, self.n, self.initial = total, what, unit, initial, initial
        self.postfix: dict[str, Any] = {}
        self.began = time.monotonic()
        self.due, self.written = self.began + SHORTEST, False

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def update(self, n: int = 1) -> None:
        """Count steps, and write a line if it is time."""
        self.n += n
        if time.monotonic() >= self.due:
            self.write()

    def set_postfix(self, values: dict[str, Any], refresh: bool = False) -> None:
        """Set what follows in a line."""
        self.postfix = values

    def set_description_str(self, text: str, refresh: bool = False) -> None:
        """Set what a line begins with."""
        self.what = text

    def describe(self, now: float) -> str:
        """Write how far it is."""
        share, elapsed = self.n / max(1, self.total), now - self.began
        left = elapsed * (self.total - self.n) / (self.n - self.initial) if self.n > self.initial else None
        return ", ".join(
            [
                f"{self.what} {self.n}/{self.total} {self.unit}s" if self.unit else self.what,
                f"{100 * share:.0f} %",
                f"{tqdm.format_interval(elapsed)} elapsed",
                *([f"{tqdm.format_interval(left)} left"] if left else []),
                *(f"{name} {value}" for name, value in self.postfix.items()),
            ]
        )

    def write(self) -> None:
        """Write a line."""
        now = time.monotonic()
        print(self.describe(now), file=sys.stderr, flush=True)
        self.written = True
        self.due = now + min(max(SHORTEST, (now - self.began) / 20), LONGEST)

    def close(self) -> None:
        """Write the last line of a task that has written others."""
        if self.written:
            self.write()
        self.written = False
