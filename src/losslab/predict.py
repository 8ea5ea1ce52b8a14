"""Predict for new rows with a trained model: labels, classes or numbers.

    losslab predict ckpt=outputs/…/best.ckpt input=poster.jpg  # to the terminal
    losslab predict ckpt=outputs/…/best.ckpt input=posters/    # all images
    losslab predict ckpt=outputs/…/best.ckpt input=new.csv out=predictions.csv
    losslab predict ckpt=outputs/…/best.ckpt input=new.csv threshold=tuned

Leave the checkpoint in its run's folder, whose record says how the model was
made. It holds names, medians, categories and scales, so the training data is
not needed. Columns are matched by name. For options of your own,
type --config-dir FOLDER and allow=PACKAGE.

The file `out=` has a line for each row: its id (the column that `id=` names,
the column `id`, or the row's number) and its prediction: a number for each
target, or the class or labels and all probabilities. In the terminal, a * marks
the prediction: the most probable class, and each label whose probability is
above one half, or above what you type:

    threshold=0.3       that number; for two classes the second is predicted
                        above it
    threshold=tuned     for each label, the threshold with the best F1 on the
                        validation rows; it predicts more labels
    threshold=prior     the share of the label, or of the class, in the training
                        rows
"""

if __name__ == "__main__":
    import losslab.safe_path  # noqa: F401  # before all else is imported

import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from omegaconf import DictConfig

from losslab.config import arguments, check
from losslab.config.words import command_words, parse_settings
from losslab.data.notes import count
from losslab.errors import Refused, why_missing
from losslab.files import check_out
from losslab.pipes import clean
from losslab.spreadsheet import write_csv

if TYPE_CHECKING:
    from torch import Tensor

    from losslab.data.encoder import New
    from losslab.restore import Predictor

KEYS = ("ckpt", "input", "out", "allow", "threshold", "id")
LINES = 20  # rows that are shown in the terminal
SHOWN = 3  # labels or classes that are shown of each row, and all that are marked
TOGETHER = 1024  # rows that go through the model at once


class Request(NamedTuple):
    """What was typed: the checkpoint's run, composed, and what to predict on."""

    cfg: DictConfig
    source: Path
    out: Path | None  # the table to write
    threshold: str | float | None
    id: str | None  # the column that names a row


def compose_checkpoint(words: Sequence[str], keys: Sequence[str], what: str) -> tuple[DictConfig, dict[str, str]]:
    """Compose the run that a checkpoint is of; return it with what else was typed.

    Raises:
        Refused: for an unknown setting, and for a checkpoint that is not there or stands alone.
    """
    words, folders = arguments.take_folders(words)
    typed = parse_settings(words, keys)
    for key, example in (("ckpt", "outputs/…/best.ckpt"), ("input", "new.csv")):
        if key in keys and not typed.get(key):
            raise Refused(f"{what} needs {key}: type {key}=FILE, such as {key}={example}")
    ckpt = Path(typed.pop("ckpt"))
    if (ckpt / "best.ckpt").is_file():
        ckpt = ckpt / "best.ckpt"
    if not ckpt.is_file():
        raise Refused(f"ckpt={ckpt} is not there: type the path of a best.ckpt in a run's folder")
    if not (ckpt.parent / "status.json").is_file():
        raise Refused(f"ckpt={ckpt} is not beside its run's status.json, which says what it is: move it back there")
    cfg = check.configure(
        [
            *arguments.search_path(folders),
            f"ckpt={arguments.quote_value(str(ckpt))}",
            f"output_dir={arguments.quote_value(tempfile.gettempdir())}",
            *([f"allow={typed.pop('allow')}"] if "allow" in typed else []),
        ]
    )
    return cfg, typed


def parse_request(words: Sequence[str]) -> Request:
    """Compose the checkpoint's run and read what else was typed, all without torch."""
    cfg, typed = compose_checkpoint(words, KEYS, "a prediction")
    source = Path(typed["input"]).expanduser()
    if not source.exists():
        raise Refused(f"input={source} {why_missing(source)}")
    out = check_out(typed["out"], ".csv") if "out" in typed else None
    if out is not None and out.exists() and out.samefile(source):
        raise Refused(f"out={out} is the input, which would be overwritten: type another file")
    return Request(cfg, source, out, parse_threshold(typed.get("threshold")), typed.get("id"))


def parse_threshold(typed: str | None) -> str | float | None:
    """Return `tuned`, `prior`, a number between 0 and 1, or `None` where nothing was typed.

    Raises:
        Refused: for anything else.

    >>> parse_threshold("tuned"), parse_threshold("0.3")
    ('tuned', 0.3)
    """
    if typed in (None, "tuned", "prior"):
        return typed
    with suppress(ValueError):
        if 0 < (number := float(typed)) < 1:
            return number
    raise Refused(f"threshold={typed} does not fit: type threshold=0.5, another number between 0 and 1, tuned or prior")


class Predictions(NamedTuple):
    """What a trained model says of new rows."""

    named: str  # what the titles are; see `New`
    titles: list[str]  # of the rows
    words: list[str]  # what is predicted for each
    columns: dict[str, "Tensor"]  # numbers of each row by their names: predictions, or probabilities
    marked: "Tensor | None"  # which classes or labels are predicted (N, L); `None` for numbers
    notes: list[str]


def predict(
    cfg: DictConfig, source: Path, threshold: str | float | None = None, id: str | None = None
) -> tuple[list[list[str]], list[str], list[str]]:
    """Predict: return the table with its header, a line for each row, and notes.

    Args:
        source: the file or folder to predict on.
        threshold: above which a label is predicted: a number, `tuned` or `prior`; see `decide`.
        id: the column that names a row; found by itself if `None`.

    Raises:
        Refused: where the input is not what the model takes, or the run cannot be made again.
    """
    from losslab.restore import load_predictor
    from losslab.tasks.base import write_number

    run = load_predictor(cfg)
    if run.encoder is None:
        raise Refused(f"data={cfg.run.choices.data} is neither a table nor images: there is nothing to read")
    found = predict_rows(run, run.encoder.read(source, id), threshold)
    outputs, numbers = run.data.outputs, list(zip(*(column.tolist() for column in found.columns.values()), strict=True))
    words = [[]] * len(numbers) if found.marked is None else [[word] for word in found.words]  # numbers say it already
    rows = [[found.named, *([] if found.marked is None else ["predicted"]), *found.columns]]
    rows += [
        [title, *word, *map(write_number, row)] for title, word, row in zip(found.titles, words, numbers, strict=True)
    ]
    if found.marked is None:
        lines = [
            ", ".join(f"{name} {write_number(number)}" for name, number in zip(found.columns, row, strict=True))
            for row in numbers
        ]
    else:
        p = [row[: len(outputs)] for row in numbers]
        lines = [format_top(outputs, *pair) for pair in zip(p, found.marked.tolist(), strict=True)]
    return rows, lines, found.notes


def predict_rows(run: "Predictor", new: "New", threshold: str | float | None = None) -> Predictions:
    """Predict for rows that are encoded like the training rows; see `decide` for `threshold`."""
    import torch

    data, task = run.data, run.task
    with torch.inference_mode():
        x = torch.from_numpy(new.x)
        scores = torch.cat([run.model(part).float() for part in torch.split(x, TOGETHER)])
        columns = task.columns(data, run.loss, scores)
        decided, note = decide(run, scores, threshold)
        words, marked = task.describe(data, decided), task.mark(decided, len(data.outputs))
    notes = [*run.notes, *new.notes, *([note] if note else [])]
    return Predictions(new.named, list(new.titles), list(words), dict(columns), marked, notes)


def decide(run: "Predictor", scores: "Tensor", threshold: str | float | None) -> "tuple[Tensor, str]":
    """Return what is predicted, in canonical form, and by which threshold, in a sentence that is empty if by none.

    Args:
        scores: raw, `(N, S)`.
        threshold: a number; `tuned`, a label's own, with the best F1 on the validation rows; `prior`, its share in the
            training rows; or `None`, by which the task decides. Of two classes the second is predicted above it, and by
            `prior` the class whose probability exceeds its share by the largest factor.

    Raises:
        Refused: where the task predicts numbers, or has no such threshold.
    """
    import torch

    task, typed = run.task, f"threshold={threshold}"
    if task.truth == "numbers" and threshold is not None:
        raise Refused(f"{typed} is for classes and labels, and task={task.name} predicts numbers: leave it out")
    if threshold is None:
        labels = "a label is predicted above 0.5; threshold=tuned predicts more, threshold=0.3 as you like"
        return task.decide(scores), labels if task.truth == "labels" else ""
    p = task.estimate(scores)
    if threshold == "prior" and len(run.priors) < p.shape[1]:
        raise Refused(f"{typed} needs the shares of the training rows, which this checkpoint lacks: type threshold=0.5")
    if task.truth == "class":
        if threshold == "prior":
            return (p / torch.tensor(run.priors)).argmax(1), "a class is predicted by its probability over its share"
        if isinstance(threshold, str) or p.shape[1] != 2:
            raise Refused(
                f"{typed} is for labels, and task={task.name} has classes: type threshold=prior, or leave it out"
            )
        return (p[:, 1] > threshold).long(), f"{run.data.outputs[1]} is predicted above {threshold:g}"
    if threshold == "prior":
        return p > torch.tensor(run.priors), "a label is predicted above its share in the training rows"
    if isinstance(threshold, float):
        return p > threshold, f"a label is predicted above {threshold:g}"
    tuned = getattr(task, "thresholds", None)
    if "thresholds" not in task.learned or tuned is None:
        raise Refused(f"{typed} is not learned by task={task.name}: type threshold=0.5")
    return p > tuned, "a label is predicted above its own threshold, tuned for F1 on the validation rows"


def format_top(names: Sequence[str], p: Sequence[float], marked: Sequence[bool]) -> str:
    """Write the most probable classes or labels and all that are predicted, which are marked `*`.

    >>> format_top(["a", "b", "c", "d", "e"], [0.1, 0.5, 0.3, 0.2, 0.05], [False, True, False, False, True])
    '* b 0.5, * e 0.05, c 0.3, d 0.2'
    """
    order = sorted(range(len(p)), key=lambda place: (not marked[place], -p[place]))
    shown = set(sorted(order, key=lambda place: -p[place])[:SHOWN])
    return ", ".join(
        f"{'* ' * marked[place]}{names[place]} {p[place]:.3g}" for place in order if place in shown or marked[place]
    )


def main() -> None:
    """Run the command: a mistake ends in one sentence and exit code 1."""
    with command_words(__doc__) as words:
        cfg, source, out, threshold, id = parse_request(words)
        rows, lines, notes = predict(cfg, source, threshold, id)
        for note in notes:
            print(f"note  {clean(' '.join(note.split()))}", file=sys.stderr)
        if out is not None:
            write_csv(out, rows)
            print(f"{count(len(lines), 'prediction')}\n{out}")
            return
        width = max(len(row[0]) for row in rows[1 : LINES + 1])
        for row, line in zip(rows[1 : LINES + 1], lines, strict=False):
            print(clean(f"{row[0]:<{width}}  {line}"))
        if len(lines) > LINES:
            print(f"and {len(lines) - LINES:,} more: type out=predictions.csv for all")


if __name__ == "__main__":
    main()
