"""Draw and write the gallery: every loss, optimizer, schedule, task, metric and setting, from the catalogue itself.

    python -m docs.gallery          # writes docs/gallery/
    zensical build --strict         # makes the site of docs/

The words come from the comments in `conf/`, the pictures from the code that trains. Nothing is written here twice.
"""

import sys
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from docs.reference import (
    code,
    read_comment,
    shown_settings,
    tidy,
    write_settings,
    write_studies,
    write_table,
    write_tasks,
)
from losslab import card, paths
from losslab.config import check
from losslab.config.arguments import as_typed
from losslab.config.catalogue import CONF, DESCRIPTIONS, find_by_alias, fits, options
from losslab.config.make import call, make
from losslab.errors import Refused
from losslab.optim.groups import group_parameters
from losslab.optim.schedules import read_rates, warm_up
from losslab.page.card_picture import draw
from losslab.page.figures import BLUE, lay_out, make_figure

CATALOGUE = [str(CONF)]
LOSSES, OPTIMIZERS, SCHEDULERS, TASKS = (
    options(CATALOGUE, group) for group in ("loss", "optimizer", "scheduler", "task")
)
KERAS = {  # the classes of keras.losses and keras.optimizers, release 3.14
    "loss": "BinaryCrossentropy BinaryFocalCrossentropy CategoricalCrossentropy CategoricalFocalCrossentropy "
    "CategoricalGeneralizedCrossEntropy CategoricalHinge CosineSimilarity Dice Hinge Huber KLDivergence LogCosh "
    "MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError MeanSquaredLogarithmicError Poisson "
    "SparseCategoricalCrossentropy SquaredHinge Tversky",
    "optimizer": "Adadelta Adafactor Adagrad Adam AdamW Adamax Lion Muon Nadam RMSprop SGD ScheduleFreeAdamW",
}
DPI = 80
WIDTH = 64  # of the layers by which an optimizer's memory is measured
EPOCHS, STEPS = 60, 10  # of the run whose learning rate is drawn, and in each of its epochs


def find_names(group: str, option: str, known: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return what an option is called in torch and in Keras: names by library, only those that there are."""
    torchs = [name for name in dir(nn) if name.endswith("Loss")] if group == "loss" else torch.optim.__all__
    where = "torch.nn" if group == "loss" else "torch.optim"
    found = {
        "torch": [f"{where}.{name}" for name in torchs if option in find_by_alias(name, known)[:1]],
        "Keras": [name for name in KERAS[group].split() if option in find_by_alias(name, known)[:1]],
    }
    return {library: names for library, names in found.items() if names}


def write_differs(group: str, keys: Mapping[str, Any], names: Mapping[str, list[str]]) -> str:
    """Say what an option does otherwise than the classes of its names.

    >>> write_differs("loss", {}, {"torch": ["torch.nn.L1Loss"]})
    'No difference from the class above is known.'
    >>> write_differs("optimizer", {"differs": "Keras' is lr 0.1"}, {})
    "Keras' is lr 0.1."
    """
    if "differs" in keys:
        return f"{keys['differs'].rstrip('.')}."
    if not names:
        return "Neither torch nor Keras has a class of this name."
    if group == "optimizer":
        more = " Keras has defaults of its own: in Adam, epsilon is 1e-7." if "Keras" in names else ""
        return f"The defaults are torch's.{more}"
    several = sum(map(len, names.values())) > 1
    return f"No difference from the class{'es' if several else ''} above is known."


def compose_loss(name: str, task: str, composed: dict[str, DictConfig]) -> DictConfig:
    """Return a configuration with a loss, from that of its task: each task is composed once."""
    if task not in composed:
        composed[task] = check.configure([f"task={task}"])
    cfg = composed[task].copy()
    OmegaConf.set_readonly(cfg, False)
    cfg.loss = {key: value for key, value in LOSSES[name].items() if key not in DESCRIPTIONS}
    cfg.run.choices.loss = name
    return cfg


def describe_gradient(curves: list[card.Curve]) -> str:
    """Say in words how a loss's gradient runs from the target to the worst prediction that its card shows.

    The gradient is followed from the minimum to the farther end of the axis: a sentence for what it does near the
    target, and one for what it does far from it.
    """
    own = [each for each in curves if each.own]
    curve = max((each for each in own if each.name == own[0].name), key=lambda each: float(np.ptp(each.loss)))
    size, middle = np.abs(curve.gradient), int(curve.loss.argmin())
    branch = size[middle:] if middle < len(size) / 2 else size[: middle + 1][::-1]
    near, late, end, most = branch[len(branch) // 20], branch[3 * len(branch) // 4], branch[-1], branch.max()
    if end < 0.1 * most:
        far = "fades to almost nothing where the prediction is far off, so such rows are hardly learned from"
    elif end < 0.97 * most:
        far = "is largest at a middling error and smaller beyond"
    elif end > 1.2 * late:
        far = "grows with the error"
    elif end > 1.01 * late:
        far = "grows with the error and levels off"
    else:
        far = "is the same for medium and large errors"
    close = "shrinks to 0 at the target" if near < 0.2 * most else "keeps its size close to the target"
    return f"It {close}, and {far}."


def write_losses(pictures: Path) -> str:
    """Draw each loss's card and return the page of losses."""
    composed: dict[str, DictConfig] = {}
    tasks = {name: file["task"] for name, file in TASKS.items()}
    rows, sections = [], []
    for name, keys in LOSSES.items():
        header = card.read_header(name, CATALOGUE)
        fitting = [task for task, file in tasks.items() if fits(file, keys)]
        task = min(fitting, key=lambda task: len(tasks[task]["targets"]))  # as a card chooses it
        beside = [other for other in keys.get("beside", TASKS[task]["task"]["beside"]) if other != name][:2]
        cfg, *others = (compose_loss(each, task, composed) for each in (name, *beside))
        shown = card.compute(cfg, dict(zip(beside, others, strict=True)))
        lay_out(draw(shown), DPI).savefig(pictures / f"loss-{name}.png", dpi=DPI)
        names = find_names("loss", name, LOSSES)
        facts = {
            "Use it when": header.use,
            "Not when": header.avoid,
            "Gradient": describe_gradient(shown.curves),
            "Range": header.range + ("" if shown.perfect is None else f"; perfect: {card.format_number(shown.perfect)}")
            + f"; {card.format_number(shown.chance)} where all scores are 0{': ' if shown.guess else ''}{shown.guess}",
            "Fits": code([f"task={each}" for each in fitting]),
            "Wants": f"`{keys['input']}`, targets as `{keys['target']}` {keys.get('domain', '')}".rstrip(),
            "Settings": write_typed("loss", keys),
            "Worth searching": write_ranges(keys),
            **{library: code(each) for library, each in names.items()},
            "Differs": write_differs("loss", keys, names),
            "Also": code(keys.get("also", [])) or "no other name",
            "Source": header.source,
        }  # fmt: skip
        rows.append([f"[`{name}`](#{name})", header.use, ", ".join(fitting)])
        table = write_table("what, it says", [[what, text] for what, text in facts.items()])
        picture = f"![The loss `{name}` and its gradient](pictures/loss-{name}.png)"
        sections.append(f"## `{name}` {{#{name}}}\n\n{header.description.rstrip('.')}.\n\n{picture}\n\n{table}")
    intro = """
        Each picture is what `losslab card loss=NAME` draws: the loss of one row, and the gradient that the model's
        score receives, as that score moves. In regression that row's target is 3, in
        data whose targets have mean 3 and standard deviation 1.
        [Which loss fits which task](../losses.md) explains the words in "Wants".
    """
    return "\n\n".join(["# Losses", tidy(intro), write_table("loss, use it when, tasks", rows), *sections, ""])


def write_ranges(keys: Mapping[str, Any]) -> str:
    """Return the ranges that are worth searching, each on a log scale unless it says linear."""
    found = []
    for key, (low, high, *scale) in keys.get("search", {}).items():
        found.append(f"`{key}` {low:g} to {high:g}{', linear' if scale else ', log'}")
    return "; ".join(found) or "nothing"


def write_typed(group: str, keys: Mapping[str, Any]) -> str:
    """Return the settings of an option as they are typed, with their defaults.

    >>> write_typed("loss", {"_target_": "torch.nn.HuberLoss", "delta": 1.0, "weight": None})
    '`loss.delta=1.0`, `loss.weight=null`'
    """
    return code([f"{group}.{key}={as_typed(value)}" for key, value in shown_settings(group, keys).items()]) or "none"


def make_optimizer(name: str, keys: Mapping[str, Any], module: nn.Module, lr: float) -> Any:
    """Make an optimizer for all parameters of a module."""
    settings = {key: value for key, value in keys.items() if key not in DESCRIPTIONS}
    cfg = OmegaConf.create({"optimizer": {**settings, "lr": lr}, "run": {"choices": {"optimizer": name}}})
    groups = group_parameters(module, lr, hidden=bool(keys.get("hidden")))
    return call(cfg, "optimizer", make(cfg, "optimizer"), groups)


def count_numbers(state: Any) -> int:
    """Count the numbers in an optimizer's tensors, single ones apart: they are counters."""
    if isinstance(state, torch.Tensor):
        return state.numel() if state.numel() > 1 else 0
    inner = state.values() if isinstance(state, Mapping) else state if isinstance(state, (list, tuple)) else ()
    return sum(map(count_numbers, inner))


def measure_memory(name: str, keys: Mapping[str, Any]) -> float:
    """Measure how many numbers an optimizer keeps for each weight of three layers, after four steps."""
    torch.manual_seed(0)
    model = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Linear(WIDTH, WIDTH), nn.Tanh())))[:-1]
    module = nn.ModuleDict({"model": model, "loss": nn.MSELoss()})
    optimizer = make_optimizer(name, keys, module, keys["lr"])
    x, y = torch.randn(WIDTH, WIDTH), torch.randn(WIDTH, WIDTH)

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss: torch.Tensor = nn.functional.mse_loss(model(x), y)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    getattr(optimizer, "train", lambda: None)()
    for _ in range(4):
        optimizer.step(closure)
    return count_numbers(optimizer.state_dict()["state"]) / sum(p.numel() for p in model.parameters())


def write_optimizers(pictures: Path) -> str:
    """Draw each optimizer's path and return the page of optimizers."""
    rows, sections = [], []
    usual = paths.descend("sgd", 200)
    for name, keys in OPTIMIZERS.items():
        if "rates" in keys:
            continue  # pytorch_optimizer's, by name
        memory, names = f"{measure_memory(name, keys):.2g}", find_names("optimizer", name, OPTIMIZERS)
        if keys.get("hidden"):
            picture = "It has no path: it is for hidden matrices, and a point of two numbers is none."
        else:
            walked = [usual] if name == "sgd" else [usual, paths.descend(name, 200)]
            lay_out(paths.draw(walked), DPI).savefig(pictures / f"optimizer-{name}.png", dpi=DPI)
            picture = f"![The path of {name}](pictures/optimizer-{name}.png)"
        facts = {
            "Memory": f"{memory} numbers for each weight, beside the weight and its gradient",
            "Worth searching": write_ranges(keys),
            "Settings": write_typed("optimizer", keys),
            "Stacks": "yes, many runs as one" if keys.get("stacks") else "no, it looks at several weights at a time",
            **{library: code(each) for library, each in names.items()},
            "Differs": write_differs("optimizer", keys, names),
        }  # fmt: skip
        rows.append([f"[`{name}`](#{name})", f"{keys['lr']:g}", write_ranges(keys), memory])
        table = write_table("what, it says", [[what, text] for what, text in facts.items()])
        sections.append(f"## `{name}` {{#{name}}}\n\n{read_comment('optimizer', name)}\n\n{picture}\n\n{table}")
    refused, offered = OPTIMIZERS["any"]["refused"], sorted(OPTIMIZERS["any"]["rates"])
    intro = f"""
        Each picture is what `losslab paths 'optimizers=[sgd,NAME]'` draws: 200 steps down a valley with two minima,
        each optimizer at the high end of its own search range. So a picture shows how an optimizer moves, not which
        one is faster: their step sizes differ. Memory is measured: how many numbers the optimizer keeps for each
        weight.

        `optimizer=any-NAME` takes {len(offered)} more from pytorch_optimizer: {code(offered)}. {len(refused)} of
        its names cannot train here, and typing one prints the reason.
    """
    header = "optimizer, learning rate, worth searching, numbers for each weight"
    return "\n\n".join(["# Optimizers", tidy(intro), write_table(header, rows), *sections, ""])


def follow_schedule(name: str) -> list[float]:
    """Return the learning rate of each step of a run, as a multiple of the one that was set."""
    keys = SCHEDULERS[name]
    for base in keys.get("defaults", []):
        keys = {**SCHEDULERS[base], **keys}
    settings = {key: value for key, value in keys.items() if key not in (*DESCRIPTIONS, "defaults")}
    facts = {"run": {"steps": EPOCHS * STEPS, "choices": {"scheduler": name}}, "monitor": "m", "task": {"mode": "max"}}
    cfg = OmegaConf.create({"scheduler": settings, **facts})
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    optimizer.param_groups[0]["momentum"] = 0.9  # one_cycle and cyclic look for it
    schedule = call(cfg, "scheduler", make(cfg, "scheduler"), optimizer)
    warm_up(optimizer, round(keys["warmup"] * EPOCHS * STEPS))
    rates = []
    for step in range(EPOCHS * STEPS):
        optimizer.step()
        rates.append(read_rates(optimizer)[0])
        metric = [min(step // STEPS, 15)] if keys.get("monitor") else []  # it stops improving after 15 epochs
        if keys["interval"] == "step" or step % STEPS == STEPS - 1:
            schedule.step(*metric)
    return rates


def write_schedules(pictures: Path) -> str:
    """Draw each schedule and return the page of schedules."""
    sections = []
    for name, keys in SCHEDULERS.items():
        drawn, axes = make_figure(5.0, 2.2)
        axes[0, 0].plot(np.arange(EPOCHS * STEPS) / STEPS, follow_schedule(name), color=BLUE, linewidth=2)
        axes[0, 0].set(xlabel="epoch", ylabel="share of optimizer.lr", xlim=(0, EPOCHS), ylim=(0, 1.05))
        lay_out(drawn, DPI).savefig(pictures / f"scheduler-{name}.png", dpi=DPI)
        settings = write_typed("scheduler", keys)
        picture = f"![The learning rate under `{name}`](pictures/scheduler-{name}.png)"
        about = read_comment("scheduler", name)
        sections.append(f"## `{name}` {{#{name}}}\n\n{about}\n\n{picture}\n\nSettings: {settings}.")
    intro = f"""
        The learning rate of a run of {EPOCHS} epochs with {STEPS} steps each, at each schedule's own settings. For
        `plateau` the metric stops improving after epoch 15. `scheduler.warmup=0.1` lets any of them rise from 0
        first.
    """
    return "\n\n".join(["# Schedules", tidy(intro), *sections, ""])


def main(folder: Path) -> None:
    """Write all pages and pictures below a folder."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(2) as pool:
        drawn = {write.__name__: pool.submit(write, pictures) for write in (write_losses, write_optimizers)}
        pages = {
            "write_schedules": write_schedules(pictures),
            "write_tasks": write_tasks(),
            "write_settings": write_settings(),
            "write_studies": write_studies(pictures),
        }
        pages |= {name: page.result() for name, page in drawn.items()}
    for name, text in pages.items():
        (folder / f"{name.removeprefix('write_')}.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        main(Path(__file__).with_name("gallery"))
    except Refused as refused:
        sys.exit(f"losslab: {refused}")
