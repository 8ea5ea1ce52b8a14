"""A card for a loss: its curve and its gradient, drawn without training, and what its file says of it.

    losslab card loss=focal                               # beside two others; writes card-focal.png
    losslab card loss=focal loss.gamma=5 vs=[focal]       # its settings are typed as for train.py
    losslab card loss=[bce,0.5*dice] task=multi_label     # a weighted sum, beside its parts
    losslab card loss=huber vs=[] out=huber.png           # alone, into a file of your choice

What is drawn is `Loss.compute`, through the task's own views: the loss of one row as its score moves, and what the
score receives as gradient. In regression the targets are 2 and 4, of mean 3 and standard deviation 1, and 3 is drawn.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, OmegaConf

from losslab.config import arguments, catalogue, check, compose
from losslab.errors import Refused, command, keyed, listed
from losslab.files import replacing, writable_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from losslab.data.dataset import Array, Dataset
    from losslab.losses import Loss, Sum
    from losslab.tasks import Task

KEYS = ("loss", "loss.*", "task", "vs", "out")
SPAN, POINTS = 4.0, 401  # scores from -SPAN to SPAN; an odd number, so that 0 is one of them
OURS = ("_target_", "input", "target", "per", "domain")  # keys of a loss's file that are no settings of the loss
USUAL = {
    "regression": ["mse", "mae", "huber"],
    "single_label": ["cross_entropy", "square", "multi_margin"],
    "multi_label": ["bce", "hinge", "squared_hinge"],
    "mape": ["smape"],  # percents dwarf all others
    "smape": ["mape"],
    "quantile": [],  # it has several curves of its own
}


@dataclass
class Curve:
    """One line of the picture: the loss and its gradient where the score is at `x`.

    It is the card's `own` loss or one beside it. `case` is 0 for the label that is there and 1 for the one that is not.
    `x` is what the axis shows and `scores` what the gradient is taken by, which differ in regression.
    """

    name: str
    own: bool
    case: int
    x: "Array"
    scores: "Array"
    loss: "Array"
    gradient: "Array"


@dataclass
class Card:
    """What is drawn and printed of a loss: curves, and its value where all is right and where all scores are 0."""

    cfg: DictConfig
    curves: list[Curve]
    perfect: float
    chance: float
    outputs: int
    heads: int


def asked(words: Sequence[str]) -> tuple[DictConfig, dict[str, DictConfig], Path]:
    """The configuration of the card's loss, those of the others by name, and the file, all without torch.

    Raises:
        Refused: for anything that could have been mistyped.

    >>> cfg, others, out = asked(["loss=focal"])
    >>> cfg.task.name, list(others), str(out)
    ('single_label', ['cross_entropy', 'square'], 'card-focal.png')
    """
    typed = keyed(words, KEYS)
    if not typed.get("loss"):
        raise Refused("a card needs a loss: type loss=NAME, such as loss=focal")
    if "," in typed["loss"] and not typed["loss"].startswith("["):
        first, _, rest = typed["loss"].partition(",")
        raise Refused(
            f"a card is of one loss: type loss={first} vs=[{rest}], or, for their sum, loss=[{typed['loss']}]"
        )
    file = re.sub(r"[^\w.]+", "-", typed["loss"]).strip("-")
    out = writable_file(typed.get("out", f"card-{file}.png"), ".png")
    losses, tasks = (catalogue.options([str(catalogue.CONF)], group) for group in ("loss", "task"))
    parts = [part.rpartition("*")[2].strip() for part in listed(typed["loss"])]
    by_forms = sorted(tasks, key=lambda name: len(tasks[name]["task"]["targets"]))
    fitting = [n for n in by_forms if all(p in losses and catalogue.fits(tasks[n]["task"], losses[p]) for p in parts)]
    task = typed.get("task") or (fitting[0] if fitting else "regression")
    own = [f"{key}={value}" for key, value in typed.items() if key.split(".")[0] == "loss"]
    cfg = check.configure([f"task={task}", *own])

    usual = [] if "parts" in cfg.loss else USUAL.get(cfg.run.choices.loss, USUAL.get(task, []))
    others = listed(typed["vs"]) if "vs" in typed else [name for name in usual if name != typed["loss"]][:2]
    for name in others:
        fitting = [other for other, loss in losses.items() if catalogue.fits(cfg.task, loss)]
        if name not in fitting:
            why = f"does not fit task={task}" if name in losses else "is not an option"
            raise Refused(f"vs={name} {why}: type vs= any of {', '.join(fitting)}")
    beside = {name: check.configure([f"task={task}", f"loss={name}"]) for name in others if name != called(cfg)}
    return cfg, beside, out


def example(task: str, outputs: int) -> "Dataset":
    """The two rows that give a task its facts: mean 3 and standard deviation 1, or each class or label once."""
    import numpy as np

    from losslab.data.dataset import Dataset

    y: dict[str, Array] = {
        "regression": np.array([[2.0] * outputs, [4.0] * outputs], np.float32),
        "single_label": np.arange(2),
        "multi_label": np.eye(2, dtype=np.int64)[:, :outputs],
    }
    rows = dict.fromkeys(("train", "val", "test"), np.arange(2))
    return Dataset(np.zeros((2, 1), np.float32), y[task], rows, (1,), ["A", "B"][:outputs])


def prepared(cfg: DictConfig, data: "Dataset") -> "tuple[Task, Loss | Sum]":
    """Task and loss as `losslab.train` makes them, in double precision."""
    from losslab.train import build, objective

    task = build(cfg, "task")
    cfg.run.choices.data = "card"
    loss = objective(cfg, task, data)
    return task.double(), loss.double()


def right(loss: "Loss | Sum", y: "Tensor") -> "Tensor":
    """The scores that predict regression targets `(N, D)`: all of a target's where they are levels, else just one."""
    import torch

    score = (y / 3).log() if loss.input == "rate" else y - 3
    predicts = torch.arange(loss.scores_per_target) == loss.prediction_index
    return (score[..., None] * (predicts | (levels(loss) is not None))).flatten(1)


def levels(loss: "Loss | Sum") -> "Tensor | None":
    """The level of each score of a target, where the loss has levels."""
    known = (getattr(getattr(part, "function", None), "levels", None) for part in (loss, *loss.parts.values()))
    return next((each for each in known if each is not None), None)


def curve(
    task: "Task", read: "Loss | Sum", shown: "Loss | Sum", data: "Dataset", column: int, case: int
) -> "tuple[Array, ...]":
    """What the axis shows, the score in `column`, the loss of one row and its gradient as that score moves.

    The other scores are held: right in regression, 0 elsewhere. `read` is the loss by which the task reads scores,
    `shown` is that or a part of it.
    """
    import torch

    start = -2.7 if read.input == "rate" else -SPAN  # a rate is above 0, where its logarithm has no end
    x = torch.linspace(start, SPAN, POINTS, dtype=torch.float64)
    outputs = len(data.outputs)
    if task.name == "regression":
        y = torch.full((1, outputs), 2.0 + outputs).double()  # two are to have a direction, which at the mean is none
        held = right(read, y)
        scores = ((y[0, 0] + x) / 3).log() if read.input == "rate" else held[0, column] + x
    else:
        y, held, scores = torch.from_numpy(data.y[[case]]), torch.zeros(1, outputs).double(), x

    def of(score: "Tensor") -> "Tensor":
        return shown.compute(task, torch.where(torch.arange(held.shape[1]) == column, score, held), y)

    gradient, loss = torch.func.vmap(torch.func.grad_and_value(of))(scores)
    return tuple(numbers.detach().numpy() for numbers in (x, scores, loss, gradient))


def columns(loss: "Loss | Sum", name: str) -> dict[int, str]:
    """The scores of one target, by column, and what their curves are called: the outermost and the prediction's."""
    if loss.scores_per_target == 1:
        return {0: name}
    said = {
        head: f"score {head + 1} of {loss.scores_per_target}"
        for head in sorted({0, loss.prediction_index, loss.scores_per_target - 1})
    }
    if (known := levels(loss)) is not None:
        said = {head: f"level {float(known[head]):g}" for head in said}
    return {head: f"{name}, {what}" for head, what in said.items()}


def perfect(task: "Task", loss: "Loss | Sum", data: "Dataset") -> float:
    """The loss of both rows where they are predicted right: of labels, the least up to scores of 50."""
    import torch

    y = torch.from_numpy(data.y)
    if task.name == "regression":
        return float(loss.compute(task, right(loss, y.double()), y.double()))
    marks = torch.eye(2, dtype=torch.float64)[:, : len(data.outputs)]
    sure = torch.linspace(0, 50, 1001, dtype=torch.float64)
    each = [torch.func.vmap(lambda s, m=m: loss.compute(task, s * m, y))(sure) for m in (marks, 2 * marks - 1)]
    return float(torch.cat(each).min())


def chance(task: "Task", loss: "Loss | Sum", data: "Dataset") -> float:
    """The loss of both rows where all scores are 0: the mean is predicted, or every class and label is as likely."""
    import torch

    scores = torch.zeros(2, len(data.outputs) * loss.scores_per_target, dtype=torch.float64)
    return float(loss.compute(task, scores, torch.from_numpy(data.y)))


def make(cfg: DictConfig, others: dict[str, DictConfig]) -> Card:
    """All that is drawn and printed; with one output, or two where the losses compare outputs.

    Raises:
        Refused: where a loss cannot be made with its settings.
    """
    for outputs in (2,) if cfg.task.name == "single_label" else (1, 2):
        data = example(cfg.task.name, outputs)
        try:
            task, loss = prepared(cfg, data)
            lines = [(name, True, task, loss, loss, column) for column, name in columns(loss, called(cfg)).items()]
            for name, other in others.items():
                its, beside = prepared(other, data)
                lines.append((name, False, its, beside, beside, beside.prediction_index))
        except Refused:
            if outputs == 2:
                raise
            continue
        if not others:
            lines += [(name, False, task, loss, part, loss.prediction_index) for name, part in loss.parts.items()]
        cases = range(1 if cfg.task.name == "regression" else 2)
        drawn = [
            Curve(name, own, case, *curve(its, read, shown, data, column, case))
            for name, own, its, read, shown, column in lines
            for case in cases
        ]
        if all(any(c.gradient.any() for c in drawn if c.name == line[0]) for line in lines):
            break
    return Card(cfg, drawn, perfect(task, loss, data), chance(task, loss, data), outputs, loss.scores_per_target)


def called(cfg: DictConfig) -> str:
    """The loss's name, with the settings that were typed."""
    typed = [text.removeprefix("loss.") for text in cfg.run.overrides if text.startswith("loss.")]
    return f"{cfg.run.choices.loss} ({', '.join(typed)})" if typed else str(cfg.run.choices.loss)


def header(name: str) -> tuple[str, str, str]:
    """What a loss's file says of it at its top: description with formula, range, source."""
    lines = (catalogue.CONF / "loss" / f"{name}.yaml").read_text().splitlines()
    head = " ".join(line.removeprefix("#").strip() for line in lines if line.startswith("#"))
    found = re.fullmatch(r"(.*) Range: (.*?)\. Source: (.*?)\.?", head)
    assert found, name
    return found[1], found[2], found[3]


def axis(card: Card) -> str:
    """What the horizontal axis of the picture is."""
    two = card.outputs == 2
    if card.cfg.task.name == "single_label":
        return "score of class A (class B has 0)"
    if card.cfg.task.name == "multi_label":
        return f"score of the label{' (its opposite has 0)' if two else ''}"
    if two:
        return "error in standard deviations (the other output has none)"
    views = {OmegaConf.select(card.cfg, path).input for path in compose.loss_paths(card.cfg).values()}
    unit = "the data's units (target 3)" if views & {"values", "rate"} else "standard deviations"
    return f"{'score' if 'heads' in views else 'prediction'} - target, in {unit}"


def text(card: Card) -> str:
    """What is printed: what the file of each loss says, its settings, and what was computed."""
    cfg, flat = card.cfg, check.flatten(card.cfg)
    losses, tasks = (catalogue.options([str(catalogue.CONF)], group) for group in ("loss", "task"))
    paths = {name: (path, OmegaConf.select(cfg, path)) for name, path in compose.loss_paths(cfg).items()}
    lines: list[str] = []

    def say(what: str, value: str) -> None:
        lines.extend(textwrap.wrap(value, 110, initial_indent=f"  {what:10}", subsequent_indent=" " * 12))

    for name, (path, keys) in paths.items():
        says, bounds, source = header(name)
        heads = f", {card.heads} scores for each target" if keys.input == "heads" else ""
        domain = f" {keys.domain}" if "domain" in keys else ""
        settings = [key for key in flat if key.startswith(f"{path}.") and key.split(".")[-1] not in OURS]
        lines.append(name)
        say("is", says)
        say("wants", f"{keys.input}; targets as {keys.target}{domain}{heads}")
        say("range", bounds)
        say("settings", " ".join(f"{key}={arguments.shown(flat[key])}" for key in settings) or "none")
        say("source", source)
        say("also", ", ".join(losses[name].get("also", [])) or "no other name")
    if len(paths) > 1:
        lines.append(f"{cfg.run.choices.loss}, their weighted sum")
    every = [n for n, file in tasks.items() if all(catalogue.fits(file["task"], keys) for _, keys in paths.values())]
    say("fits", f"task={', '.join(every)}")
    guess = {
        "regression": "3 is predicted for the targets 2 and 4",
        "single_label": "both classes are as likely",
        "multi_label": "each label is as likely as not",
    }
    say("perfect", f"{short(card.perfect)}, where every row is predicted right")
    say("chance", f"{short(card.chance)}, where all scores are 0: {guess[cfg.task.name]}")
    beside = list(dict.fromkeys(curve.name for curve in card.curves if not curve.own))
    say("drawn", f"a batch of one row of task={cfg.task.name} over the {axis(card)}")
    say("beside", ", ".join(beside) or "nothing")
    return "\n".join(lines)


def short(value: float) -> str:
    """A number in four digits; what rounding leaves of 0 is 0."""
    return f"{value if abs(value) > 1e-9 else 0:.4g}"


def draw(card: Card) -> "Figure":
    """Loss above gradient, a column for each side of a label; side by side in regression."""
    from losslab.page.figures import GREY, line_style, make_figure

    sides = {
        "single_label": ("A is the true class", "B is the true class"),
        "multi_label": ("the label is there", "the label is not there"),
    }.get(card.cfg.task.name)
    drawn, grid = make_figure(9.0, 6.6, 2, 2) if sides else make_figure(9.0, 4.4, 1, 2)
    names = list(dict.fromkeys(curve.name for curve in card.curves))
    for row, what in enumerate(("loss", "gradient")):
        panels = grid[row] if sides else grid[0, row : row + 1]
        for case, panel in enumerate(panels):
            for zero in (panel.axhline, panel.axvline):
                zero(0, color=GREY, linewidth=0.8, zorder=0)
            for curve in card.curves:
                if curve.case == case:
                    index, width = names.index(curve.name), 3.0 if curve.own else 1.8
                    panel.plot(curve.x, getattr(curve, what), **line_style(index), linewidth=width, label=curve.name)
            panel.set(ylim=limits(card.curves, what), xlim=(-SPAN, SPAN))
            panel.spines[["top", "right"]].set_visible(False)
            panel.grid(color=GREY, alpha=0.2)
            if sides and row == 0:
                panel.set_title(sides[case])
        panels[0].set_ylabel("loss" if what == "loss" else "gradient: d loss / d score")
    for panel in grid[-1]:
        panel.set_xlabel(axis(card))
    handles, labels = grid[0, 0].get_legend_handles_labels()
    drawn.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, handlelength=3.5)
    paths = list(compose.loss_paths(card.cfg))
    formula = header(paths[0])[0].split(". ")[0].rstrip(".") if len(paths) == 1 else ""
    drawn.suptitle(f"{called(card.cfg)}\n{formula}" if 0 < len(formula) <= 118 else called(card.cfg), fontsize=10.5)
    return drawn


def limits(curves: Sequence[Curve], what: str) -> tuple[float, float]:
    """What is shown: all of the card's loss and of the tamest beside it, and half as much again where others go on."""
    import numpy as np

    def ends(name: str | None) -> tuple[float, float]:
        lines = [getattr(curve, what) for curve in curves if (curve.own if name is None else curve.name == name)]
        numbers = np.concatenate(lines)
        return float(numbers[np.isfinite(numbers)].min()), float(numbers[np.isfinite(numbers)].max())

    low, high = ends(None)
    others = [ends(name) for name in {curve.name for curve in curves if not curve.own}]
    if others:
        tamest = min(others, key=lambda end: end[1] - end[0])
        low, high = min(low, tamest[0]), max(high, tamest[1])
        beyond = (high - low) / 2
        low = min(low, max(min(end[0] for end in others), low - beyond))
        high = max(high, min(max(end[1] for end in others), high + beyond))
    edge = 0.05 * (high - low) or 1.0
    return low - edge, high + edge


def main() -> None:
    """The command: a card as a picture and in words."""
    with command(__doc__) as words:
        cfg, others, out = asked(words)
        card = make(cfg, others)
        drawn = draw(card)
        with replacing(out) as picture:
            drawn.savefig(picture, format="png", dpi=130)
        print(f"{text(card)}\n{out}")


if __name__ == "__main__":
    main()
