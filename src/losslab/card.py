"""Draw a loss and its gradient without training, and explain it.

    losslab card loss=focal                      # writes card-focal.png
    losslab card loss=focal loss.gamma=5 'vs=[focal]'  # with a setting of a run
    losslab card 'loss=[bce,0.5*dice]' task=multi_label  # a sum and its parts
    losslab card loss=huber 'vs=[]' out=huber.png  # alone, into another file

The picture shows the loss of one row as its score moves, and the gradient that
the score receives. In regression that row's target is 3, in data whose targets
have mean 3 and standard deviation 1. For your own options, type --config-dir
FOLDER and allow=PACKAGE.
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig, OmegaConf

from losslab.config import arguments, catalogue, check, compose
from losslab.config.flat import flatten
from losslab.config.words import command_words, parse_list, parse_settings
from losslab.errors import Refused
from losslab.files import check_out, replacing

if TYPE_CHECKING:
    from torch import Tensor

    from losslab.data.dataset import Array, Dataset
    from losslab.losses import Loss, Sum
    from losslab.tasks import Task

KEYS = ("loss", "loss.*", "task", "vs", "out", "allow")
POINTS = 401  # of a curve; an odd number, so that the middle is one of them
NO_SETTINGS = {"_target_", *catalogue.OWN_KEYS["loss"]} - {"reduction"}  # keys of a loss's file that say what it is


class Header(NamedTuple):
    """What the comment at the top of a loss's file says."""

    description: str
    use: str
    avoid: str
    range: str
    source: str


@dataclass
class Curve:
    """One line of the picture: the loss and its gradient where the score is at `x`.

    It is the card's `own` loss or another. `side` is the number of the target that it is drawn for; see `Task.sides`.
    `x` is what the axis shows, and `scores` what the gradient is taken by.
    """

    name: str
    own: bool
    side: int
    x: "Array"
    scores: "Array"
    loss: "Array"
    gradient: "Array"


@dataclass
class Card:
    """What is drawn and printed of a loss."""

    cfg: DictConfig  # what was typed, composed
    curves: list[Curve]  # the lines of the picture
    perfect: float | None  # its value where all is predicted right, if that is known
    chance: float  # its value where all scores are 0
    guess: str  # what these predict
    outputs: int  # how many the examples have
    scores_per_target: int  # how many scores each of them has
    sides: list[str]  # the titles of the picture's columns
    axis: str  # what the horizontal axis shows


def parse_request(words: Sequence[str]) -> tuple[DictConfig, dict[str, DictConfig], Path]:
    """Compose the card's loss and the others by name, and check the picture's file, all without torch.

    >>> cfg, others, out = parse_request(["loss=focal"])
    >>> cfg.task.name, list(others), str(out)
    ('single_label', ['cross_entropy', 'square'], 'card-focal.png')
    """
    words, folders = arguments.take_folders(words)
    typed = parse_settings(words, KEYS)
    if not typed.get("loss"):
        raise Refused("a card needs a loss: type loss=NAME, such as loss=focal")
    if "," in typed["loss"] and not typed["loss"].startswith("["):
        first, _, rest = typed["loss"].partition(",")
        raise Refused(
            f"a card is of one loss: type loss={first} 'vs=[{rest}]', or, for their sum, 'loss=[{typed['loss']}]'"
        )
    file = re.sub(r"[^\w.]+", "-", typed["loss"]).strip("-")
    out = check_out(typed.get("out", f"card-{file}.png"), ".png")
    losses = catalogue.options([str(catalogue.CONF), *folders], "loss")
    task = typed.get("task") or choose_task(
        [part.rpartition("*")[2].strip() for part in parse_list(typed["loss"])], folders
    )
    writable = f"output_dir={arguments.quote_value(str(out.parent))}"  # the current folder may not be
    mine = [*arguments.search_path(folders), writable, *([f"allow={typed['allow']}"] if "allow" in typed else [])]
    own = [f"{key}={value}" for key, value in typed.items() if key.split(".")[0] == "loss"]
    cfg = check.configure([*mine, f"task={task}", *own])

    tasks = catalogue.options(cfg.run.catalogue, "task")
    name = str(cfg.run.choices.loss)
    usual = losses.get(name, {}).get("beside", tasks[cfg.run.choices.task]["task"].get("beside", []))
    others = [other for other in ([] if "parts" in cfg.loss else usual) if other != name][:2]
    if "vs" in typed:
        others = parse_list(typed["vs"])
    for other in others:
        fitting = [name for name, loss in losses.items() if catalogue.fits(cfg.task, loss)]
        if other not in fitting:
            why = f"does not fit task={task}" if other in losses else "is not an option"
            raise Refused(f"vs={other} {why}: type vs= any of {', '.join(fitting)}")
    drawn = [other for other in others if other != name_of(cfg)]
    return cfg, {other: check.configure([*mine, f"task={task}", f"loss={other}"]) for other in drawn}, out


def choose_task(parts: Sequence[str], folders: Sequence[str]) -> str:
    """Return the task that these losses are made for: of those that fit, the one that offers the fewest targets.

    Tasks that are shipped come first for losses that are shipped, the user's own for the user's own.
    """
    losses, tasks = (catalogue.options([str(catalogue.CONF), *folders], group) for group in ("loss", "task"))
    ours, theirs = (catalogue.options([str(catalogue.CONF)], group) for group in ("loss", "task"))
    fitting = [
        name
        for name, file in tasks.items()
        if all(part in losses and catalogue.fits(file["task"], losses[part]) for part in parts)
    ]
    shipped = all(part in ours for part in parts)
    fitting.sort(key=lambda name: ((name in theirs) != shipped, len(tasks[name]["task"]["targets"])))
    return fitting[0] if fitting else "regression"


def prepare(cfg: DictConfig, y: "Array") -> "tuple[Task, Loss | Sum, Dataset]":
    """Make task and loss as a run makes them, in double precision, for the targets of a card's examples."""
    import numpy as np

    from losslab.config.make import fill_in, make
    from losslab.data.dataset import Dataset
    from losslab.training.objective import build_loss

    task: Task = make(cfg, "task")
    names = [chr(ord("A") + place) for place in range(y.shape[1] if y.ndim > 1 else len(y))]
    split = dict.fromkeys(("train", "val", "test"), np.arange(len(y)))
    data = Dataset(np.zeros((len(y), 1), np.float32), y, split, (1,), names)
    cfg = fill_in(cfg, choices={**cfg.run.choices, "data": "card"})
    loss = build_loss(cfg, task, data)
    return task.double(), loss.double(), data


def compute_curve(
    task: "Task", read: "Loss | Sum", shown: "Loss | Sum", y: "Tensor", column: int
) -> "tuple[Array, ...]":
    """Return what the axis shows, the score in `column`, the loss of one row and its gradient as that score moves.

    Args:
        task: fitted to the examples.
        read: the loss by which the task reads scores.
        shown: that, or a part of it.
    """
    import torch

    x = torch.linspace(*task.span(read), POINTS, dtype=torch.float64)
    held, values = task.trace(read, y, column, x)

    def of(score: "Tensor") -> "Tensor":
        return shown.compute(task, torch.where(torch.arange(held.shape[1]) == column, score, held), y)

    gradient, loss = torch.func.vmap(torch.func.grad_and_value(of))(values)
    return tuple(numbers.detach().numpy() for numbers in (x, values, loss, gradient))


def compute_perfect(task: "Task", loss: "Loss | Sum", data: "Dataset") -> float | None:
    """Compute the loss of the examples where they are predicted right, if the task knows how."""
    import torch

    scores = task.perfect(loss, data)
    if scores is None:
        return None
    y = torch.from_numpy(data.y)
    y = y.double() if y.is_floating_point() else y
    return float(torch.func.vmap(lambda each: loss.compute(task, each, y))(scores).min())


def compute_chance(task: "Task", loss: "Loss | Sum", data: "Dataset") -> float:
    """Compute the loss of the examples where all scores are 0."""
    import torch

    count = task.count_scores(len(data.outputs), loss)
    return float(loss.compute(task, torch.zeros(len(data.y), count, dtype=torch.float64), torch.from_numpy(data.y)))


def compute(cfg: DictConfig, others: dict[str, DictConfig]) -> Card:
    """Compute all that is drawn and printed, for the first examples of the task that the losses make something of.

    Raises:
        Refused: where a loss cannot be made with its settings.
    """
    from losslab.config.make import make

    task: Task = make(cfg, "task")
    examples = task.examples()
    for number, y in enumerate(examples):
        try:
            task, loss, data = prepare(cfg, y)
            own = {f"{name_of(cfg)}, {what}" if what else name_of(cfg): c for c, what in task.curves(loss).items()}
            lines = [(name, True, task, loss, loss, column) for name, column in own.items()]
            for name, other in others.items():
                its, beside, _ = prepare(other, y)
                lines.append((name, False, its, beside, beside, beside.prediction_index))
        except Refused:
            if number + 1 == len(examples):
                raise
            continue
        if not others:
            lines += [(name, False, task, loss, part, loss.prediction_index) for name, part in loss.parts.items()]
        sides = task.sides(data)
        drawn = [
            Curve(name, own, side, *compute_curve(its, read, shown, target, column))
            for name, own, its, read, shown, column in lines
            for side, target in enumerate(sides.values())
        ]
        if all(any(c.gradient.any() for c in drawn if c.name == line[0]) for line in lines):
            break
    views = {OmegaConf.select(cfg, path).input for path in compose.loss_paths(cfg).values()}
    sure, unsure = compute_perfect(task, loss, data), compute_chance(task, loss, data)
    outputs, scores = len(data.outputs), loss.scores_per_target
    return Card(cfg, drawn, sure, unsure, task.chance, outputs, scores, list(sides), task.axis(data, views))


def name_of(cfg: DictConfig) -> str:
    """Return the loss's name, with the settings that were typed."""
    typed = [text.removeprefix("loss.") for text in cfg.run.overrides if text.startswith("loss.")]
    return f"{cfg.run.choices.loss} ({', '.join(typed)})" if typed else str(cfg.run.choices.loss)


def read_header(name: str, catalogue: Sequence[str]) -> Header:
    """Read the comment at the top of a loss's file: formula, when to use it and when not, range, source.

    >>> read_header("mae", [str(catalogue.CONF)]).use
    'targets have outliers, or the median is wanted'
    """
    file = next(file for folder in catalogue if (file := Path(folder, "loss", f"{name}.yaml")).is_file())
    comments: list[str] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        comments.append(line.removeprefix("#").strip())
    parts = re.fullmatch(
        r"(.*?)(?: Use: (.*?)\.)?(?: Avoid: (.*?)\.)?(?: Range: (.*?)\.)?(?: Source: (.*?)\.?)?", " ".join(comments)
    )
    assert parts
    return Header(parts[1] or "not described in its file", *(part or "not stated" for part in parts.groups()[1:]))


def describe(card: Card) -> str:
    """Write what the file of each loss says, its settings, and what was computed."""
    cfg, flat = card.cfg, flatten(card.cfg)
    losses, tasks = (catalogue.options(cfg.run.catalogue, group) for group in ("loss", "task"))
    paths = {name: (path, OmegaConf.select(cfg, path)) for name, path in compose.loss_paths(cfg).items()}
    lines: list[str] = []

    def say(what: str, value: str) -> None:
        lines.extend(textwrap.wrap(value, 80, initial_indent=f"  {what:10}", subsequent_indent=" " * 12))

    for name, (path, keys) in paths.items():
        header = read_header(name, cfg.run.catalogue)
        several = f", {card.scores_per_target} scores for each target" if keys.input == "heads" else ""
        domain = f" {keys.domain}" if "domain" in keys else ""
        settings = [key for key in flat if key.startswith(f"{path}.") and key.split(".")[-1] not in NO_SETTINGS]
        lines.append(name)
        say("is", header.description)
        say("use when", header.use)
        say("not when", header.avoid)
        say("wants", f"{keys.input}; targets as {keys.target}{domain}{several}")
        say("range", header.range)
        say("settings", " ".join(f"{key}={arguments.as_typed(flat[key])}" for key in settings) or "none")
        say("source", header.source)
        say("differs", str(losses[name].get("differs", "no difference from other libraries is known")))
        say("also", ", ".join(losses[name].get("also", [])) or "no other name")
    if len(paths) > 1:
        lines.append(f"{cfg.run.choices.loss}, their weighted sum")
    every = [n for n, file in tasks.items() if all(catalogue.fits(file["task"], keys) for _, keys in paths.values())]
    say("fits", f"task={', '.join(every)}")
    if card.perfect is not None:
        say("perfect", f"{format_number(card.perfect)}, where every row is predicted right")
    say("chance", f"{format_number(card.chance)}, where all scores are 0{': ' if card.guess else ''}{card.guess}")
    beside = list(dict.fromkeys(curve.name for curve in card.curves if not curve.own))
    say("drawn", f"a batch of one row of task={cfg.task.name} over the {card.axis}")
    say("beside", ", ".join(beside) or "nothing")
    return "\n".join(lines)


def format_number(value: float) -> str:
    """Write a number in four digits; what rounding leaves of 0 is 0."""
    return f"{value if abs(value) > 1e-9 else 0:.4g}"


def main() -> None:
    """Run the command: write a card as a picture, print it in words."""
    with command_words(__doc__) as words:
        cfg, others, out = parse_request(words)
        card = compute(cfg, others)
        from losslab.page.card_picture import draw
        from losslab.page.figures import lay_out

        drawn = draw(card)
        with replacing(out) as picture:
            lay_out(drawn, 150).savefig(picture, format="png", dpi=150)
        print(f"{describe(card)}\n{out}")


if __name__ == "__main__":
    main()
