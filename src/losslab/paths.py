"""Draw how optimizers move down a valley with a local and a global minimum.

    losslab paths  # sgd, momentum, adagrad, rmsprop, adam; writes paths.png
    losslab paths 'optimizers=[adam,lion,lbfgs]' steps=400 out=three.png

Each optimizer starts at the same point, with the settings of its file and the
highest learning rate of its range, because the defaults are made for many more
steps than a picture has. The picture shows paths. It does not compare
optimizers: with another start, valley or learning rate, their order would
differ. To compare, type losslab race optimizer=sgd,adam.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from omegaconf import OmegaConf

from losslab.config import catalogue
from losslab.config.catalogue import DESCRIPTIONS
from losslab.config.words import command_words, parse_list, parse_settings
from losslab.errors import Refused, nearest
from losslab.files import check_out, replacing
from losslab.spreadsheet import text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

KEYS = ("optimizers", "steps", "out")
USUAL = ("sgd", "momentum", "adagrad", "rmsprop", "adam")
START = (-0.8, 1.0)
MINIMA = {"local": (-0.4, 0.16), "global": (0.6, 0.36)}
SADDLE = (-0.1, 0.01)
NOTE = "note  these are paths down one valley and say nothing of your task: type losslab race optimizer=sgd,adam"
EVERY = 10  # steps: each has a dot
LEAST = 1e-4  # above the value of the global minimum: the axis ends there
NEAR = 0.05  # a path that ends within this distance of a minimum has found it

T = TypeVar("T", float, "Tensor", Any)


def valley(x: T, y: T) -> T:
    """Compute `(y - x^2)^2 / 4 + x^4 / 4 - x^3 / 30 - 13 x^2 / 100 - 3 x / 125`.

    The floor of the valley is the parabola `y = x^2`. Along it the slope is `(x + 2/5) (x + 1/10) (x - 3/5)`, so there
    is a local minimum at `(-0.4, 0.16)`, of value -0.002667; a saddle at `(-0.1, 0.01)`, of value 0.001158; and the
    global minimum at `(0.6, 0.36)`, of value -0.036.

    >>> round(valley(-0.4, 0.16), 6), round(valley(-0.1, 0.01), 6), round(valley(0.6, 0.36), 6)
    (-0.002667, 0.001158, -0.036)
    """
    return (y - x**2) ** 2 / 4 + x**4 / 4 - x**3 / 30 - 13 * x**2 / 100 - 3 * x / 125


@dataclass
class Path2D:
    """The path of an optimizer: the start and the point after each step, `(steps + 1, 2)`, while finite."""

    optimizer: str
    lr: float
    points: list[tuple[float, float]]
    diverged: bool = False

    @property
    def found(self) -> str:
        """The minimum that it ended at: `local`, `global` or `none`."""
        x, y = self.points[-1]
        near = [name for name, (a, b) in MINIMA.items() if (x - a) ** 2 + (y - b) ** 2 <= NEAR**2]
        return near[0] if near and not self.diverged else "none"


def parse_words(words: Sequence[str]) -> tuple[list[str], int, Path]:
    """Parse what was typed into optimizers, a number of steps and a file, without torch.

    Raises:
        Refused: for anything that could have been mistyped.

    >>> parse_words(["optimizers=[sgd,adam]", "steps=50"])
    (['sgd', 'adam'], 50, PosixPath('paths.png'))
    """
    typed = parse_settings(words, KEYS)
    names = parse_list(typed["optimizers"]) if "optimizers" in typed else list(USUAL)
    every = catalogue.options([str(catalogue.CONF)], "optimizer").items()
    known = {name: file for name, file in every if "rates" not in file}
    for name in names:
        if name not in known:
            called = catalogue.find_by_alias(name, known)
            hint = f"is called {called[0]} here" if called else f"is not an option; {nearest(name, known)}"
            raise Refused(f"optimizers={name} {hint}")
        if known[name].get("hidden"):
            raise Refused(
                f"optimizers={name} is for hidden matrices, which a point of two numbers is not: leave it out"
            )
    if not names:
        raise Refused("optimizers=[] draws nothing: type 'optimizers=[sgd,adam]'")
    steps = typed.get("steps", "200")
    if not (steps.isdecimal() and int(steps) > 0):
        raise Refused(f"steps={steps} does not fit: it must be a whole number of at least 1")
    return list(dict.fromkeys(names)), int(steps), check_out(typed.get("out", "paths.png"), ".png")


def descend(name: str, steps: int) -> Path2D:
    """Let an optimizer descend from the start. It may call its closure several times a step, as in training.

    Raises:
        Refused: if the optimizer cannot be made from the settings of its file.
    """
    import torch

    from losslab.config.make import call, make

    file = catalogue.options([str(catalogue.CONF)], "optimizer")[name]
    lr = float(file["search"]["lr"][1])
    settings = {key: value for key, value in file.items() if key not in DESCRIPTIONS}
    cfg = OmegaConf.create({"optimizer": {**settings, "lr": lr}, "run": {"choices": {"optimizer": name}}})
    point = torch.nn.Parameter(torch.tensor(START, dtype=torch.float64))
    optimizer = call(cfg, "optimizer", make(cfg, "optimizer"), [point])

    def closure() -> "Tensor":
        optimizer.zero_grad()
        value: Tensor = valley(point[0], point[1])
        torch.autograd.backward(value)
        return value.detach()

    path = Path2D(name, lr, [START])
    for _ in range(steps):
        getattr(optimizer, "train", lambda: None)()  # schedule-free optimizers train and evaluate different weights
        optimizer.step(closure)
        getattr(optimizer, "eval", lambda: None)()
        if not (point.isfinite().all() and point.abs().max() < 1e6):
            path.diverged = True
            break
        path.points.append((point[0].item(), point[1].item()))
    return path


def format_table(paths: Sequence[Path2D]) -> str:
    """Format a table: learning rate, steps, end point, value there and minimum found, per optimizer."""
    import pandas as pd

    rows = [
        {
            "optimizer": path.optimizer,
            "lr": f"{path.lr:g}",
            "steps": str(len(path.points) - 1),
            "ended at": "diverged" if path.diverged else "({:.4f}, {:.4f})".format(*path.points[-1]),
            "value": "" if path.diverged else f"{valley(*path.points[-1]):.6f}",
            "minimum": path.found,
        }
        for path in paths
    ]
    return text_table(pd.DataFrame(rows))


def draw(paths: Sequence[Path2D]) -> "Figure":
    """Draw the paths over the contours of the valley, with a dot every ten steps, and the value against the step."""
    from losslab.page.figures import line_style, make_figure

    drawn, grid = make_figure(11.0, 6.2, columns=2)
    above, beside = grid[0]
    above.get_gridspec().set_width_ratios([3, 2])
    draw_valley(above)
    floor = valley(*MINIMA["global"])
    for index, path in enumerate(paths):
        xs, ys = zip(*path.points, strict=True)
        colour = line_style(index)["color"]
        label = f"{path.optimizer}, lr {path.lr:g}: {'diverged' if path.diverged else path.found}"
        above.plot(xs, ys, **line_style(index), linewidth=2, label=label)
        above.plot(xs[::EVERY], ys[::EVERY], "o", color=colour, markersize=3.5)
        above.plot(xs[-1], ys[-1], "o", color=colour, markeredgecolor="white", markersize=7, zorder=5)
        values = [max(valley(*point) - floor, 1e-3 * LEAST) for point in path.points]
        beside.plot(values, **line_style(index), linewidth=2)
        beside.plot(range(0, len(values), EVERY), values[::EVERY], "o", color=colour, markersize=3.5)
    above.plot(*START, "s", color="black", markersize=7, label="start")
    steps = max(len(path.points) for path in paths) - 1
    above.set(xlabel="x", ylabel="y", title=f"{steps} steps, a dot every {EVERY}")
    beside.set(xlabel="step", ylabel="value above the global minimum (log axis)", yscale="log", xlim=(0, steps))
    beside.set_ylim(bottom=LEAST)
    if any(valley(*point) - floor < LEAST for path in paths for point in path.points):
        beside.set_title(f"a curve below the axis is within {LEAST:g} of the global minimum", fontsize=9)
    hollow = valley(*MINIMA["local"]) - floor
    beside.axhline(hollow, color="black", linewidth=0.8, linestyle=(0, (1, 3)))
    beside.annotate("local minimum", (1, hollow), (-2, 3), xycoords=("axes fraction", "data"), ha="right",
                    textcoords="offset points", fontsize=8)  # fmt: skip
    drawn.legend(
        *above.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, handlelength=3.5
    )
    return drawn


def draw_valley(axis: Any) -> None:
    """Draw the contours of the valley and its minima."""
    import numpy as np

    from losslab.page.figures import GREY

    across, up = (-1.05, 1.05), (-0.4, 1.15)
    x, y = np.meshgrid(np.linspace(*across, 400), np.linspace(*up, 400))
    height = valley(x, y) - valley(*MINIMA["global"])
    saddle, hollow = (valley(*at) - valley(*MINIMA["global"]) for at in (SADDLE, MINIMA["local"]))
    levels = np.union1d(np.geomspace(0.0005, height.max(), 22), [(hollow + saddle) / 2, saddle])
    axis.contourf(x, y, height, [0, *levels], cmap="Greys", alpha=0.45)
    axis.contour(x, y, height, levels, colors=GREY, linewidths=0.5)
    for name, marker, aside, ha in (("local", "^", -14, "right"), ("global", "*", -14, "right")):
        axis.plot(*MINIMA[name], marker, color="white", markeredgecolor="black", markersize=18, zorder=4)
        axis.annotate(f"{name} minimum", MINIMA[name], (aside, -10), textcoords="offset points", ha=ha)
    axis.set(xlim=across, ylim=up)


def main() -> None:
    """Run the command: write the picture and print the table."""
    with command_words(__doc__) as words:
        names, steps, out = parse_words(words)
        paths = [descend(name, steps) for name in names]
        from losslab.page.figures import lay_out

        drawn = lay_out(draw(paths), 150)
        with replacing(out) as picture:
            drawn.savefig(picture, format="png", dpi=150)
        print(f"{format_table(paths)}\n{NOTE}\n{out}")


if __name__ == "__main__":
    main()
