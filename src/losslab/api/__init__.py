"""losslab in Python, for notebooks: the commands of these names, with objects in the place of words.

    result = losslab.run(data=frame, target="price", loss="mae", optimizer="adam", seed=0, trainer__max_epochs=20)
    result.summary, result.history, result.curves, result.predict(new)
    found = losslab.sweep(data=frame, target="price", loss=["mae", "mse"], optimizer=["adam", "sgd"], seed=range(5))
    losslab.compare(found)
    losslab.race(data=frame, target="price", loss=["mae", "mse", "huber"], difference=1)

Each call is what the command of its name does: the same checks, folders and records. What may be given:

    data        an option such as "digits"; the path of a table, of a folder of images, or of an .npz of x and y; a
                table of pandas, polars or Hugging Face, with target; arrays (x, y); torch's Dataset of pairs (x, y).
                What is no path is written once into OUTPUT/python/data, under a name that follows from its content
    model       an option; a torch.nn.Module, of which each run trains a copy, from the same weights whatever the seed;
                a class or function that makes one, called after seeding with nothing, or, if it has two arguments,
                with the shape of one input and the number of outputs
    loss        an option; a list, as a weighted sum: ["bce", "0.5*dice"]; any callable of two tensors, the model's raw
                scores and what torch's own losses take: numbers (B, D), class indices (B,), or 0 and 1 for each label
                (B, L). It returns a value for each row or one number. loss__input="prediction" and
                loss__target="one_hot" hand it probabilities
    optimizer   an option; a class such as torch.optim.Adagrad; functools.partial of one; a function of parameters
    all else    a setting: trainer__max_epochs=20, or settings={"trainer.max_epochs": 20}; config_dir="my_conf" and
                allow="mine" for options of your own

A table's target is a class if it is text, a category or a truth value, and so are integers in arrays; task= says
otherwise. Any process can make a class or function again that a module holds. What a notebook defines it cannot: such
runs are trained in this process, and their records hold the source, which nobody can rerun from there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from losslab.api.results import Comparison, Picture, Result, Sweep, parse_comparison
from losslab.api.words import like_a_command
from losslab.errors import Refused
from losslab.files import read_json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Picture", "Result", "Sweep", "compare", "predict", "race", "run", "sweep"]

OUTPUT = "outputs"


def merge(settings: Mapping[str, Any] | None, more: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a dictionary and those of keywords as one."""
    if not isinstance(settings, Mapping | None):
        raise Refused(f"settings is {type(settings).__name__}: give a dictionary such as {{'trainer.max_epochs': 20}}")
    return {**(settings or {}), **more}


@like_a_command
def run(
    data: Any = None,
    target: Any = None,
    *,
    task: str | None = None,
    model: Any = None,
    loss: Any = None,
    optimizer: Any = None,
    seed: int | None = None,
    output_dir: str | Path = OUTPUT,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Result:
    """Train one run, as `losslab loss=mae optimizer=adam` does; see `losslab.api` for what may be given.

    Returns:
        The run: its summary, history, pictures and predictions.

    Raises:
        Refused: for any mistake, in one sentence.
    """
    from losslab.api.asked import ask
    from losslab.config import check
    from losslab.config.recorded import check_dropped
    from losslab.train import train

    chosen = {"task": task, "model": model, "loss": loss, "optimizer": optimizer, "seed": seed}
    asked = ask(data, target, chosen, merge(settings, more), Path(output_dir))
    asked.tell()
    cfg = check.configure(asked.words())
    check_dropped(cfg)
    asked.check_processes(cfg)
    summary = train(cfg)
    return Result(summary.folder, asked.own_words())


@like_a_command
def sweep(
    data: Any = None,
    target: Any = None,
    *,
    task: str | None = None,
    model: Any = None,
    loss: Any = None,
    optimizer: Any = None,
    seed: Any = None,
    name: str | None = None,
    output_dir: str | Path = OUTPUT,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Sweep:
    """Train a run for each combination of what is listed, as `losslab sweep` does; the same call goes on with it.

    A list, tuple or range is several values, so a list that is one value stands in another: `[[64, 32]]`. A dictionary
    `{"min": 0.01, "max": 1}` is a range, for `method="random"` and `run_cap=`.

    Args:
        data, target, task, model, loss, optimizer, seed, settings, more: see `losslab.api`; and the command's own: `n`
            runs at a time, `stack`, `retry`, `test_seeds`.
        name: of the sweep; follows from what is asked for if `None`.
        output_dir: the folder that it lies in, below `sweeps`.

    Raises:
        Refused: for any mistake, before anything is trained.
    """
    from losslab.api.asked import ask, write_file
    from losslab.sweep.driver import sweep

    chosen = {"task": task, "model": model, "loss": loss, "optimizer": optimizer, "seed": seed}
    asked = ask(data, target, chosen, merge(settings, more), Path(output_dir), several=True)
    file, called, words = write_file(asked, name, Path(output_dir))
    asked.tell()
    sweep(str(file), words)
    return Sweep(Path(output_dir) / "sweeps" / called, asked.own_words())


@like_a_command
def race(
    data: Any = None,
    target: Any = None,
    *,
    loss: Any = None,
    optimizer: Any = None,
    model: Any = None,
    task: str | None = None,
    name: str = "race",
    budget: str | int | None = None,
    difference: float | None = None,
    output_dir: str | Path = OUTPUT,
    settings: Mapping[str, Any] | None = None,
    **more: Any,
) -> Comparison:
    """Find out which of these to use, with as few runs as possible, as `losslab race` does.

    Args:
        data, target, loss, optimizer, model, task, settings, more: see `losslab.api`; losses, optimizers and models may
            be lists of candidates; and the command's own: `tune`, `claim`, `n`, `stack`, `retry`.
        name: of the race, whose folder is OUTPUT/races/NAME.
        budget: the most that it may use: 500 runs, or `"30m"`, `"2h"`, `"8gpuh"`.
        difference: gaps below it count as none, in per cent or points.

    Raises:
        Refused: for any mistake, before anything is trained.
    """
    from losslab.api.asked import ask, write_candidates
    from losslab.race.driver import race

    chosen = {"task": task, "model": model, "loss": loss, "optimizer": optimizer}
    limits = {"budget": budget, "difference": difference, "name": name}
    given = {key: value for key, value in limits.items() if value is not None}
    asked = ask(data, target, chosen, {**given, **merge(settings, more)}, Path(output_dir), several=True)
    asked.tell()
    if race(write_candidates(asked)):
        raise Refused(f"no candidate of race {name} finished: the lines above say why")
    folder = Path(output_dir) / "races" / name
    return Comparison(folder / "comparison", sentences=read_json(folder / "race.json")["said"])


@like_a_command
def compare(*runs: Any, **settings: Any) -> Comparison:
    """Compare runs, as `losslab compare` does, and show its page.

    Args:
        runs: results, sweeps, races, folders, or lists of them.
        settings: the command's own: `by`, `metric`, `alpha`, `claim`, `difference`, `out`, `task`, `data`, `cross`.

    Raises:
        Refused: if they cannot be compared.
    """
    from losslab.api.asked import list_folders
    from losslab.api.words import to_words
    from losslab.compare.__main__ import compare
    from losslab.compare.request import parse_request
    from losslab.compare.runs import read_runs

    folders = list_folders(runs)
    if "out" not in settings and len(folders) > 1:
        settings["out"] = Path(folders[0]).parent / "comparison"
    words = [word.replace("'", "") for word in to_words(settings)]
    request = parse_request([*map(str, folders), *words, "json=true"])
    return parse_comparison(compare(request, read_runs(request.folders)))


@like_a_command
def predict(
    run: Result | str | Path,
    data: Any,
    *,
    threshold: float | str | None = None,
    id: str | None = None,
    model: Any = None,
    loss: Any = None,
    allow: str | list[str] | None = None,
) -> "pd.DataFrame":
    """Predict for new rows, as `losslab predict` does.

    Args:
        run: a result, a run's folder, or its checkpoint.
        data: a table with the columns that were trained on; an array of rows; or the path of a table, of an image, or
            of a folder of images.
        threshold, id: see `losslab predict --help`.
        model, loss: the objects that the run was made of, if this process has not been given them yet.
        allow: packages of your own that the run's options name.

    Returns:
        A row for each of `data`: what is predicted, and the numbers or the probability of each class or label.

    Raises:
        Refused: where the rows are not what the model takes.
    """
    from losslab.api.new_rows import predict_given

    return predict_given(run, data, threshold, id, [each for each in (model, loss) if each is not None], allow)
